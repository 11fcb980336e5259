//! Effective partition keys: the order in which a container's items lie, as the service and its SDKs compute it.
//!
//! Owns the three hash encodings and the hash functions below them (MurmurHash3, by Austin Appleby, public domain). It
//! knows nothing of paths, headers or documents. An effective partition key is bytes here; on the wire it is their
//! upper-case hex.
//!
//! * V1: the 32-bit hash as an order-preserving number, then the value itself, its strings cut short.
//! * V2: the 128-bit hash, most significant byte first, with the two highest bits cleared so that `FF` lies beyond all.
//! * Hierarchical: V2 of each component, one after the other, so that a shorter key is a prefix of the longer ones.

use crate::partition_key::Component;

/// Type bytes of the service's encodings.
const UNDEFINED: u8 = 0x00;
const NULL: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const NUMBER: u8 = 0x05;
const STRING: u8 = 0x08;

/// The greatest V2 hash.
const V2_MAX: u128 = u128::MAX >> 2;
/// V1 looks at this many UTF-16 units of a string.
const V1_UNITS: usize = 100;
/// V1 ends strings of up to this many bytes with a zero; of longer ones it writes one byte more, and no zero.
const V1_BYTES: usize = 100;

/// Appends the effective partition key of a container hashed by V1.
pub(crate) fn write_v1(components: &[Component], out: &mut Vec<u8>) {
    let mut hashed = Vec::new();
    for component in components {
        match component {
            Component::String(text) => write_string(&v1_cut(text), 0x00, &mut hashed),
            other => write_for_hash(other, &mut hashed),
        }
    }
    write_v1_number(f64::from(murmur3_32(&hashed)), out);
    for component in components {
        match component {
            Component::Undefined => out.push(UNDEFINED),
            Component::Null => out.push(NULL),
            Component::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
            Component::Number(number) => write_v1_number(*number, out),
            Component::String(text) => {
                out.push(STRING);
                let cut = v1_cut(text);
                // UTF-8 has no byte above F4, so nothing wraps, and a zero can only be the end.
                out.extend(cut.bytes().take(V1_BYTES + 1).map(|byte| byte + 1));
                if cut.len() <= V1_BYTES {
                    out.push(0);
                }
            }
        }
    }
}

/// Appends the effective partition key of a container hashed by V2: 16 bytes.
pub(crate) fn write_v2(components: &[Component], out: &mut Vec<u8>) {
    let mut hashed = Vec::new();
    for component in components {
        write_for_hash(component, &mut hashed);
    }
    let [first, rest @ ..] = murmur3_128(&hashed).to_be_bytes();
    out.push(first & 0x3F);
    out.extend_from_slice(&rest);
}

/// Appends the effective partition key of a container with hierarchical keys: 16 bytes for each component.
pub(crate) fn write_hierarchical(components: &[Component], out: &mut Vec<u8>) {
    for component in components {
        write_v2(std::slice::from_ref(component), out);
    }
}

/// Appends the effective partition key that lies at `index` of `count` equal parts of what V1 hashes to; `index` is below
/// `count`.
pub(crate) fn write_v1_share(index: u32, count: u32, out: &mut Vec<u8>) {
    let share = u32::MAX / count.max(1) * index;
    write_v1_number(f64::from(share), out);
}

/// Appends the effective partition key that lies at `index` of `count` equal parts of what V2 hashes to, and of what the
/// first component of a hierarchical key does.
pub(crate) fn write_v2_share(index: u32, count: u32, out: &mut Vec<u8>) {
    let share = V2_MAX / u128::from(count.max(1)) * u128::from(index);
    out.extend_from_slice(&share.to_be_bytes());
}

fn write_for_hash(component: &Component, out: &mut Vec<u8>) {
    match component {
        Component::Undefined => out.push(UNDEFINED),
        Component::Null => out.push(NULL),
        Component::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Component::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Component::String(text) => write_string(text, 0xFF, out),
    }
}

fn write_string(text: &str, end: u8, out: &mut Vec<u8>) {
    out.push(STRING);
    out.extend_from_slice(text.as_bytes());
    out.push(end);
}

/// Cuts a string to what V1 looks at. Where the cut falls inside a surrogate pair the half left over becomes U+FFFD.
fn v1_cut(text: &str) -> std::borrow::Cow<'_, str> {
    let mut units = 0;
    for (offset, c) in text.char_indices() {
        units += c.len_utf16();
        if units > V1_UNITS {
            let kept = &text[..offset];
            let half_kept = units - c.len_utf16() < V1_UNITS;
            return if half_kept { format!("{kept}\u{FFFD}").into() } else { kept.into() };
        }
    }
    text.into()
}

/// Writes a number so that the bytes sort as the numbers do: the first byte whole, then seven bits to a byte, the lowest
/// bit saying whether more follows.
fn write_v1_number(number: f64, out: &mut Vec<u8>) {
    const SIGN: u64 = 1 << 63;
    let bits = number.to_bits();
    let mut payload = if bits < SIGN { bits ^ SIGN } else { bits.wrapping_neg() };

    out.push(NUMBER);
    out.push((payload >> 56) as u8);
    payload <<= 8;
    loop {
        let chunk = (payload >> 56) as u8 & 0xFE;
        payload <<= 7;
        if payload == 0 {
            out.push(chunk);
            return;
        }
        out.push(chunk | 1);
    }
}

fn murmur3_32(data: &[u8]) -> u32 {
    const C1: u32 = 0xCC9E_2D51;
    const C2: u32 = 0x1B87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);

    let mut hash = 0_u32;
    let (blocks, tail) = data.as_chunks::<4>();
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    // A tail of zeros scrambles to zero, as no tail does.
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    hash ^= scramble(u32::from_le_bytes(last));

    // The length counts modulo 2^32; keys are far shorter.
    hash ^= data.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

/// MurmurHash3 x64 128 with seed zero; the second half of the hash is the upper half of the result.
fn murmur3_128(data: &[u8]) -> u128 {
    const C1: u64 = 0x87C3_7B91_1142_53D5;
    const C2: u64 = 0x4CF5_AD43_2745_937F;
    let scramble_1 = |half: u64| half.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let scramble_2 = |half: u64| half.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let halves = |block: [u8; 16]| {
        let block = u128::from_le_bytes(block);
        (block as u64, (block >> 64) as u64)
    };
    let finish = |mut half: u64| {
        half = (half ^ (half >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        half = (half ^ (half >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        half ^ (half >> 33)
    };

    let (mut h1, mut h2) = (0_u64, 0_u64);
    let (blocks, tail) = data.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(*block);
        h1 ^= scramble_1(k1);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52DC_E729);
        h2 ^= scramble_2(k2);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5AB5);
    }
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let (k1, k2) = halves(last);
    h1 ^= scramble_1(k1);
    h2 ^= scramble_2(k2);

    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    u128::from(h2) << 64 | u128::from(h1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(write: fn(&[Component], &mut Vec<u8>), components: &[Component]) -> String {
        let mut out = Vec::new();
        write(components, &mut out);
        out.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn string(text: &str) -> Component {
        Component::String(text.to_owned())
    }

    fn number(value: f64) -> Component {
        Component::Number(value)
    }

    // The expected values come from the published Python SDK, except where a comment names another source.

    #[test]
    fn v2_strings() {
        let cases = [
            ("", "32E9366E637A71B4E710384B2F4970A0"),
            ("a", "3A5381E1114EB8D3FCC90795045B49B7"),
            ("partitionKey", "013AEFCF77FA271571CF665A58C933F1"),
            // With the type and the end these make 15 to 19 bytes, around the length of a block.
            ("0123456789abc", "3B20FC7FB45AD69CF85FFEA0EE21BB55"),
            ("0123456789abcd", "0AC96D7B9195A09E9C02A4551CBB39ED"),
            ("0123456789abcde", "33B036E0CA3C82ED9D82B976C140D5D7"),
            ("0123456789abcdef", "12B43BD0296E717C4AD0C391C6F495F4"),
            ("0123456789abcdefg", "0B1F2D4728557590F9BC5F838EF0E31A"),
            ("café 東京 🚀", "389ED563F219577470F42691A5234A68"),
            ("a\0b", "1B3FD025E76645CED4D34BF084ED3B74"),
            (&"x".repeat(100), "3F35F33CA8F8DA98DB46E18CDC66A245"),
            (&"x".repeat(101), "300C91B3A88EBBFFE4DB4541EA0875FC"),
            (&"y".repeat(2048), "0F8F35215B2F0C5E0EBDE2EB0EEA8AB7"),
        ];
        for (text, expected) in cases {
            assert_eq!(hex(write_v2, &[string(text)]), expected, "{text:?}");
        }
    }

    #[test]
    fn v2_other_values() {
        let cases = [
            (Component::Undefined, "11622DAA78F835834610ABE56EFF5CB5"),
            (Component::Null, "378867E4430E67857ACE5C908374FE16"),
            (Component::Bool(true), "0E711127C5B5A8E4726AC6DD306A3E59"),
            (Component::Bool(false), "2FE1BE91E90A3439635E0E9E37361EF2"),
            (number(0.0), "155B95BEDAC4B1E9EC1CDC9BB0DDDE58"),
            (number(1.0), "20CD98B339BA78A5D0CF6953B87070B0"),
            (number(-1.0), "19938E7A936C1C5B9E3AE842BBC16839"),
            (number(1.5), "35C5DDEB6C795D16A9963C73C54E97BC"),
            (number(42.0), "08E6D561F6FD951DCC25E7E4EA2884B5"),
            (number(9_007_199_254_740_992.0), "15335910D01122E3D99DA5DE569B065D"),
            (number(5e-324), "0E6CBA63A280927DE485DEF865800139"),
            (number(f64::MAX), "31424D996457102634591FF245DBCC4D"),
        ];
        for (component, expected) in cases {
            assert_eq!(hex(write_v2, std::slice::from_ref(&component)), expected, "{component:?}");
        }
    }

    #[test]
    fn hierarchical_keys_begin_with_their_prefixes() {
        let full = [string("WA"), string("Redmond"), string("98052")];
        let expected =
            "0845FB119899DE50766A2C4CEFC2FA7301620B162169497AFD85FA66E99F737636C8BBEC5EEB4676558994E4D8DF79A7";
        for count in 0..=full.len() {
            assert_eq!(hex(write_hierarchical, &full[..count]), expected[..32 * count]);
        }
        assert_eq!(
            hex(write_hierarchical, &[number(1.0), Component::Null, Component::Undefined]),
            "20CD98B339BA78A5D0CF6953B87070B0378867E4430E67857ACE5C908374FE1611622DAA78F835834610ABE56EFF5CB5"
        );
    }

    #[test]
    fn v1_strings() {
        let cases = [
            ("", "05C1CF33970FF80800".to_owned()),
            ("a", "05C1D78593652C086200".to_owned()),
            ("partitionKey", "05C1E1B3D9CD2608716273756A756A706F4C667A00".to_owned()),
            ("0123456789abcdefg", "05C1B1E7451980083132333435363738393A6263646566676800".to_owned()),
            ("café 東京 🚀", "05C1DF0501C73008646267C4AA21E79EB2E5BBAD21F1A09B8100".to_owned()),
            ("a\0b", "05C1E3353F57460862016300".to_owned()),
            (&"x".repeat(99), format!("05C1D58F89476408{}00", "79".repeat(99))),
            (&"x".repeat(100), format!("05C1DD45A3938C08{}00", "79".repeat(100))),
            // Only the first hundred characters count.
            (&"x".repeat(101), format!("05C1DD45A3938C08{}00", "79".repeat(100))),
            // Within a hundred characters but beyond a hundred bytes: one byte more, and no end.
            (&"é".repeat(60), format!("05C1A329C995C008{}C4", "C4AA".repeat(50))),
            (&"東".repeat(100), format!("05C1E5FFD7B55A08{}E79E", "E79EB2".repeat(33))),
        ];
        for (text, expected) in cases {
            assert_eq!(hex(write_v1, &[string(text)]), expected, "{text:?}");
        }
    }

    #[test]
    fn v1_cuts_inside_a_surrogate_pair_as_utf_16_does() {
        let split = format!("{}🚀", "a".repeat(99));
        assert_eq!(v1_cut(&split), format!("{}\u{FFFD}", "a".repeat(99)));
        let whole = format!("{}🚀b", "a".repeat(98));
        assert_eq!(v1_cut(&whole), format!("{}🚀", "a".repeat(98)));
    }

    #[test]
    fn v1_other_values() {
        let cases = [
            (Component::Undefined, "05C1D529E345DC00"),
            (Component::Bool(true), "05C1D7C5A903D803"),
            (Component::Bool(false), "05C1DB857D857C02"),
            (number(0.0), "05C1BF6DA11560058000"),
            (number(-1.0), "05C1D1A5BDDF9C054010"),
            (number(1.5), "05C1E9694167A805BFF8"),
            // From the Java SDK's tests: Python's hash of whole numbers and of null differs from every other SDK's.
            (Component::Null, "05C1ED45D7475601"),
            (number(127.0), "05C1DD539DDFCC05C05FE0"),
            (number(-128.0), "05C1D73349F54C053FA0"),
            (number(2_147_483_647.0), "05C1E1F503DFB205C1DFFFFFFFFC"),
            (number(9_223_372_036_854_775_807.0), "05C1B799AB2DD005C3E0"),
            (number(5e-324), "05C1E5C91F4D3005800101010101010102"),
            (number(f64::MAX), "05C1CBE367C53005FFEFFFFFFFFFFFFFFE"),
        ];
        for (component, expected) in cases {
            assert_eq!(hex(write_v1, std::slice::from_ref(&component)), expected, "{component:?}");
        }
    }

    #[test]
    fn v1_numbers_sort_as_numbers() {
        let sorted = [f64::MIN, -1e9, -2.5, -1.0, -5e-324, 0.0, 5e-324, 1.0, 1.0 + f64::EPSILON, 2.5, 1e9, f64::MAX];
        let written = sorted.map(|number| {
            let mut out = Vec::new();
            write_v1_number(number, &mut out);
            out
        });
        assert!(written.is_sorted_by(|a, b| a < b));
    }
}
