//! Tests of `binary_json`: known bodies, and round trips through an encoder that knows every form a value can take.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Decodes a body written in hex, without its first byte.
fn text_of(hex: &str) -> Result<String, BinaryJsonError> {
    let body: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    to_text(&[&[PREAMBLE], body.as_slice()].concat()).map(|text| String::from_utf8(text).unwrap())
}

fn refusal(hex: &str) -> String {
    text_of(hex).unwrap_err().to_string()
}

#[test]
fn known_bodies_are_read() {
    let cases = r#"
        D0                                      null
        D1                                      false
        D2                                      true
        00                                      0
        1F                                      31
        C8 C8                                   200
        C9 18 FC                                -1000
        CA 70 11 01 00                          70000
        CB 00 0E FA D5 FE FF FF FF              -5000000000
        C7 FE FF FF FF FF FF FF FF              18446744073709551614
        CC 00 00 00 00 00 00 0C 40              3.5
        CC 00 00 00 00 00 00 08 40              3
        CC 00 00 00 00 00 00 00 80              -0.0
        CC 9C 75 00 88 3C E4 37 7E              1e+300
        CD 00 00 C0 3F                          1.5
        CE 00 00 00 00 00 00 02 C0              -2.25
        D7 C8                                   200
        D8 FB                                   -5
        D9 18 FC                                -1000
        DA 90 EE FE FF                          -70000
        DB 00 0E FA D5 FE FF FF FF              -5000000000
        DC FE FF FF FF                          4294967294
        20                                      "$s"
        2C                                      "id"
        3F                                      "_id"
        80                                      ""
        82 68 69                                "hi"
        82 C3 A9                                "é"
        82 22 0A                                "\"\u000a"
        C0 05 68 65 6C 6C 6F                    "hello"
        C1 05 00 68 65 6C 6C 6F                 "hello"
        C2 05 00 00 00 68 65 6C 6C 6F           "hello"
        71 01 00 66 6F 6F                       "Zm9v"
        71 01 01 66 6F                          "Zm8="
        71 01 02 41                             "QQ=="
        71 01 FD 41                             "QQ"
        71 01 FE 66 6F                          "Zm8"
        71 00 00                                ""
        72 02 00 00 66 6F 6F 62 61 72           "Zm9vYmFy"
        71 01 00 FB FF FE                       "+//+"
        73 01 00 FB FF FE                       "-__-"
        74 01 00 00 FB FF FE                    "-__-"
        75 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F   "00102030-4050-6070-8090-a0b0c0d0e0f0"
        76 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F   "00102030-4050-6070-8090-A0B0C0D0E0F0"
        77 00 00 84 21 00 00 20 00 00 00 A6 F7 9A A8 00 00   "\"00004812-0000-0200-0000-6a7fa98a0000\""
        D3 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F   "03020100-0504-0706-0809-0a0b0c0d0e0f"
        78 04 A1 B2                             "1a2b"
        79 04 A1 B2                             "1A2B"
        78 01 0F                                "f"
        7A 07 13 53 1C 02                       "2024-01"
        7B 04 30 10 32                          "0123"
        7C 03 61 20 08                          "abc"
        7D 04 61 40 20 0C                       "abcd"
        7E 02 C8 34                             "Hi"
        7F 02 00 C8 34                          "Hi"
        DD 04 DE AD BE EF                       "3q2+7w=="
        DE 03 00 01 02 03                       "AQID"
        DF 00 00 00 00                          ""
        E0                                      []
        E1 D2                                   [true]
        E2 03 00 01 D0                          [0,1,null]
        E3 03 00 00 01 D0                       [0,1,null]
        E4 03 00 00 00 00 01 D0                 [0,1,null]
        E5 03 03 00 01 D0                       [0,1,null]
        E6 03 00 03 00 00 01 D0                 [0,1,null]
        E7 03 00 00 00 03 00 00 00 00 01 D0     [0,1,null]
        E8                                      {}
        E9 2C D2                                {"id":true}
        EA 04 2C 00 3B 01                       {"id":0,"type":1}
        EB 04 00 2C 00 3B 01                    {"id":0,"type":1}
        EC 04 00 00 00 2C 00 3B 01              {"id":0,"type":1}
        ED 04 02 2C 00 3B 01                    {"id":0,"type":1}
        EE 04 00 02 00 2C 00 3B 01              {"id":0,"type":1}
        EF 04 00 00 00 02 00 00 00 2C 00 3B 01  {"id":0,"type":1}
        E2 05 E1 00 E9 2C 01                    [[0],{"id":1}]
        E2 05 82 68 69 C3 03                    ["hi","hi"]
        E2 06 82 68 69 C4 03 00                 ["hi","hi"]
        E2 07 82 68 69 C5 03 00 00              ["hi","hi"]
        E2 08 82 68 69 C6 03 00 00 00           ["hi","hi"]
        F0 DA 03 01 00 00 00 02 00 00 00 03 00 00 00         [1,2,3]
        F0 D7 03 0A 14 1E                       [10,20,30]
        F0 DA 00                                []
        F1 D9 03 00 FF FF 00 00 E8 03           [-1,0,1000]
        F0 CD 02 00 00 C0 3F 00 00 80 BE        [1.5,-0.25]
        F2 F0 D8 02 02 01 02 FF FE              [[1,2],[-1,-2]]
        F3 F1 D8 01 00 02 00 01 02              [[1],[2]]
        F2 F0 D8 00 02                          [[],[]]
    "#;
    for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let (hex, expected) = case.split_once("  ").unwrap();
        assert_eq!(text_of(hex).as_deref(), Ok(expected.trim()), "{hex}");
    }
}

#[test]
fn first_byte_tells_binary_from_text() {
    assert!(is_binary(&[0x80, 0xD0]));
    assert!(!is_binary(b"{}"));
    assert!(!is_binary(b""));
    assert!(to_text(b"{}").unwrap_err().to_string().contains("there is no 80"));
    assert!(to_text(b"").is_err());
}

#[test]
fn refusals_name_the_place_and_the_mistake() {
    let cases = "
        ''                          at byte 1, 1 more bytes are needed
        D0 D0                       at byte 2, something follows the value
        CF 00 00                    at byte 1, CF marks no kind of value
        FF                          at byte 1, FF marks no kind of value
        40                          at byte 1, a string is named by a dictionary
        67 00                       at byte 1, a string is named by a dictionary
        6A                          at byte 1, 6A stands where there must be a string
        CA 00 00                    at byte 2, 4 more bytes are needed
        C2 FF FF FF FF 61           at byte 6, 4294967295 more bytes are needed
        83 61 FF 61                 at byte 3, a string is not UTF-8
        CC 00 00 00 00 00 00 F8 7F  at byte 1, there is the number NaN
        CD 00 00 80 FF              at byte 1, there is the number -inf
        E2 05 00                    at byte 1, a container is longer than what surrounds it
        E4 FF FF FF FF              at byte 1, a container is longer than what surrounds it
        E2 03 E2 05 00              at byte 3, a container is longer than what surrounds it
        E2 02 C8 00 00              at byte 5, something follows the value
        E2 01 C8 00                 at byte 4, 1 more bytes are needed
        E5 03 02 00 01 D0           at byte 1, a container holds 3 items
        E9 00 00                    at byte 2, 00 stands where there must be a string
        EA 01 2C                    at byte 4, 1 more bytes are needed
        C3 01                       at byte 1, a string refers to something that is not before it
        E2 05 82 68 69 C3 06        at byte 6, a string refers to something that is not before it
        E2 05 80 C3 03 C3 04        at byte 4, C3 stands where there must be a string
        E2 03 D0 C3 03              at byte 3, D0 stands where there must be a string
        71 01 03 66 6F 6F           at byte 1, base64 has more padding
        71 00 01                    at byte 1, base64 has more padding
        78 01 1F                    at byte 1, a string of halves of bytes
        7B 01 7F 01                 at byte 1, a packed string has a character beyond ASCII
        F0 C8 01 00                 at byte 1, C8 marks no kind of number
        F2 F1 D8 01 01 00           at byte 1, F1 is not what arrays marked F2 are made of
        F1 D7 FF FF 00              at byte 6, 1 more bytes are needed
    ";
    for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let (hex, expected) = case.split_once("  ").unwrap();
        let refusal = refusal(hex.trim_matches('\''));
        assert!(refusal.contains(expected.trim()), "{hex}: {refusal}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| to_text(&[&[PREAMBLE], vec![0xE1; depth].as_slice(), &[0x00]].concat());
    assert!(nested(MAX_DEPTH).is_ok());
    assert!(nested(MAX_DEPTH + 1).unwrap_err().to_string().contains("nested deeper than 127 levels"));
    assert!(nested(1_000_000).is_err());
    let objects = [&[PREAMBLE], [0xE9, 0x2C].repeat(1_000_000).as_slice(), &[0x00]].concat();
    assert!(to_text(&objects).is_err());
}

#[test]
fn text_is_bounded_however_short_the_body() {
    // A string of a megabyte, and a thousand references to it.
    let mut items = vec![0xC2];
    items.extend_from_slice(&(1_u32 << 20).to_le_bytes());
    items.resize(items.len() + (1 << 20), b'a');
    items.extend([0xC3, 6].repeat(1000));
    let mut body = vec![PREAMBLE, 0xE4];
    body.extend_from_slice(&u32::try_from(items.len()).unwrap().to_le_bytes());
    body.extend(items);
    assert!(to_text(&body).unwrap_err().to_string().contains("grows beyond"));

    // Empty arrays take no bytes.
    let empties = [0xF3, 0xF1, 0xD8, 0x00, 0x00, 0xFF, 0xFF].repeat(1000);
    let mut body = vec![PREAMBLE, 0xE4];
    body.extend_from_slice(&u32::try_from(empties.len()).unwrap().to_le_bytes());
    body.extend(empties);
    assert!(to_text(&body).unwrap_err().to_string().contains("grows beyond"));
}

/// Writes values in every form they can take; the choices decide which.
struct Encoder {
    out: Vec<u8>,
    /// Where strings stand that can be referred to.
    strings: Vec<(String, usize)>,
    choices: Vec<u8>,
    next: usize,
}

impl Encoder {
    fn encode(value: &Value, choices: Vec<u8>) -> Vec<u8> {
        let mut encoder = Encoder { out: vec![PREAMBLE], strings: Vec::new(), choices, next: 0 };
        encoder.value(value);
        encoder.out
    }

    fn choose<T>(&mut self, mut among: Vec<T>) -> T {
        let choice = self.choices.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        among.swap_remove(usize::from(choice) % among.len())
    }

    fn length(&mut self, length: usize, width: usize) {
        self.out.extend_from_slice(&length.to_le_bytes()[..width]);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push(0xD0),
            Value::Bool(value) => self.out.push(if *value { 0xD2 } else { 0xD1 }),
            Value::Number(number) => {
                let form = self.choose(number_forms(number));
                self.out.extend(form);
            }
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                let numbers = numbers_of_one_kind(items);
                if !numbers.is_empty() && self.choose(vec![true, false]) {
                    let form = self.choose(numbers);
                    self.out.extend(form);
                } else {
                    self.container(0xE0, items.len(), |encoder| items.iter().for_each(|item| encoder.value(item)));
                }
            }
            Value::Object(members) => self.container(0xE8, members.len(), |encoder| {
                for (name, value) in members {
                    encoder.string(name);
                    encoder.value(value);
                }
            }),
        }
    }

    fn container(&mut self, first: u8, count: usize, write_items: impl Fn(&mut Encoder)) {
        let mut framings = vec![2, 3, 4, 5, 6, 7];
        framings.extend(u8::try_from(count).ok().filter(|count| *count <= 1));
        let framing = self.choose(framings);
        let (start, strings, next) = (self.out.len(), self.strings.len(), self.next);
        // The width is needed before the items, whose length is known after them: too small a one is tried again.
        for framing in [framing, 7] {
            self.out.truncate(start);
            self.strings.truncate(strings);
            self.next = next;
            self.out.push(first + framing);
            let width = 1 << ((framing + 1) % 3);
            let fields = match framing {
                0 | 1 => 0,
                2..=4 => 1,
                _ => 2,
            };
            self.out.resize(self.out.len() + fields * width, 0);
            let items = self.out.len();
            write_items(self);
            let length = self.out.len() - items;
            if fields == 0 {
                return;
            }
            if length < 1 << (8 * width) && count < 1 << (8 * width) {
                self.out[start + 1..][..width].copy_from_slice(&length.to_le_bytes()[..width]);
                if fields == 2 {
                    self.out[start + 1 + width..][..width].copy_from_slice(&count.to_le_bytes()[..width]);
                }
                return;
            }
        }
        panic!("four bytes suffice");
    }

    fn string(&mut self, text: &str) {
        if let Some((_, offset)) = self.strings.iter().find(|(earlier, _)| earlier == text).cloned() {
            let widths = (1..=4).filter(|width| offset < 1 << (8 * width)).map(Some).chain([None]).collect();
            if let Some(width) = self.choose(widths) {
                self.out.push(0xC2 + width as u8);
                self.length(offset, width);
                return;
            }
        }
        self.strings.push((text.to_owned(), self.out.len()));
        let form = self.choose(string_forms(text));
        self.out.extend(form);
    }
}

fn form<const N: usize>(marker: u8, bytes: [u8; N]) -> Vec<u8> {
    [&[marker], bytes.as_slice()].concat()
}

fn number_forms(number: &serde_json::Number) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    if let Some(whole) = whole {
        forms.extend(u8::try_from(whole).ok().filter(|small| *small < 32).map(|small| vec![small]));
        forms.extend(u8::try_from(whole).ok().map(|n| form(0xC8, n.to_le_bytes())));
        forms.extend(i16::try_from(whole).ok().map(|n| form(0xC9, n.to_le_bytes())));
        forms.extend(i32::try_from(whole).ok().map(|n| form(0xCA, n.to_le_bytes())));
        forms.extend(i64::try_from(whole).ok().map(|n| form(0xCB, n.to_le_bytes())));
        forms.extend(u64::try_from(whole).ok().map(|n| form(0xC7, n.to_le_bytes())));
    }
    let float = number.as_f64().unwrap();
    if whole.is_none_or(|whole| whole.abs() < 1 << 53) {
        forms.push(form(0xCC, float.to_le_bytes()));
    }
    let kinds = [0xD7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xCD, 0xCE];
    forms.extend(kinds.into_iter().filter_map(|kind| Some([vec![kind], bare_number(number, kind)?].concat())));
    forms
}

/// Writes a number as an array of one kind holds it, if it is of that kind.
fn bare_number(number: &serde_json::Number, kind: u8) -> Option<Vec<u8>> {
    let float = number.as_f64()?;
    let exact = number.is_f64() || float.abs() < MAX_EXACT_FLOAT;
    match kind {
        0xD7 => Some(u8::try_from(number.as_i64()?).ok()?.to_le_bytes().to_vec()),
        0xD8 => Some(i8::try_from(number.as_i64()?).ok()?.to_le_bytes().to_vec()),
        0xD9 => Some(i16::try_from(number.as_i64()?).ok()?.to_le_bytes().to_vec()),
        0xDA => Some(i32::try_from(number.as_i64()?).ok()?.to_le_bytes().to_vec()),
        0xDB => Some(number.as_i64()?.to_le_bytes().to_vec()),
        0xDC => Some(u32::try_from(number.as_i64()?).ok()?.to_le_bytes().to_vec()),
        0xCD if exact && f64::from(float as f32) == float => Some((float as f32).to_le_bytes().to_vec()),
        0xCE if exact => Some(float.to_le_bytes().to_vec()),
        _ => None,
    }
}

/// Writes an array of numbers, or an array of arrays of numbers of one length, in all ways its kind allows.
fn numbers_of_one_kind(items: &[Value]) -> Vec<Vec<u8>> {
    let bare = |items: &[Value], kind| -> Option<Vec<u8>> {
        let numbers = items.iter().map(|item| bare_number(item.as_number()?, kind));
        Some(numbers.collect::<Option<Vec<_>>>()?.concat())
    };
    let mut forms = Vec::new();
    for kind in [0xD7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xCD, 0xCE] {
        for width in [1_usize, 2] {
            let length = |length: usize| length.to_le_bytes()[..width].to_vec();
            if let Some(numbers) = bare(items, kind) {
                forms.push([vec![0xEF + width as u8, kind], length(items.len()), numbers].concat());
            }
            let arrays: Option<Vec<&Vec<Value>>> = items.iter().map(Value::as_array).collect();
            let Some(arrays) = arrays.filter(|arrays| !arrays.is_empty()) else { continue };
            let count = arrays[0].len();
            let numbers: Option<Vec<_>> = arrays.iter().map(|array| bare(array, kind)).collect();
            if let Some(numbers) = numbers.filter(|_| arrays.iter().all(|array| array.len() == count)) {
                let head = vec![0xF1 + width as u8, 0xEF + width as u8, kind];
                forms.push([head, length(count), length(arrays.len()), numbers.concat()].concat());
            }
        }
    }
    forms
}

fn string_forms(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let length = |width: usize| text.len().to_le_bytes()[..width].to_vec();
    let mut forms = vec![[vec![0xC2], length(4), bytes.to_vec()].concat()];
    if text.len() < 64 {
        forms.push([vec![0x80 + text.len() as u8], bytes.to_vec()].concat());
    }
    if text.len() < 256 {
        forms.push([vec![0xC0], length(1), bytes.to_vec()].concat());
    }
    if text.len() < 65_536 {
        forms.push([vec![0xC1], length(2), bytes.to_vec()].concat());
    }
    forms.extend(KNOWN_STRINGS.iter().position(|known| *known == text).map(|index| vec![0x20 + index as u8]));

    let nibbles = |characters: &str, alphabet: &[u8; 16]| -> Option<Vec<u8>> {
        let digits = characters.bytes().map(|byte| alphabet.iter().position(|digit| *digit == byte));
        let digits: Vec<usize> = digits.collect::<Option<_>>()?;
        Some(digits.chunks(2).map(|pair| (pair[0] | pair.get(1).unwrap_or(&0) << 4) as u8).collect())
    };
    if text.len() < 256 {
        for (marker, alphabet) in [(0x78, LOWER_HEX), (0x79, UPPER_HEX), (0x7A, DATE_TIME)] {
            forms.extend(nibbles(text, alphabet).map(|packed| [vec![marker], length(1), packed].concat()));
        }
    }
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    for (marker, guid, alphabet) in
        [(0x75, Some(text), LOWER_HEX), (0x76, Some(text), UPPER_HEX), (0x77, unquoted, LOWER_HEX)]
    {
        let groups: Vec<&str> = guid.unwrap_or_default().split('-').collect();
        if groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) {
            forms.extend(nibbles(&groups.concat(), alphabet).map(|packed| [vec![marker], packed].concat()));
        }
    }
    if text.is_ascii() {
        let lowest = bytes.iter().copied().min().unwrap_or(0);
        let highest = bytes.iter().copied().max().unwrap_or(0);
        for (marker, bits) in [(0x7B, 4), (0x7C, 5), (0x7D, 6)] {
            if highest - lowest < 1 << bits && text.len() < 256 {
                forms.push([vec![marker], length(1), vec![lowest], pack(bytes, lowest, bits)].concat());
            }
        }
        for (marker, width) in [(0x7E, 1), (0x7F, 2)] {
            if text.len() < 1 << (8 * width) {
                forms.push([vec![marker], length(width), pack(bytes, 0, 7)].concat());
            }
        }
    }
    for (marker, width, alphabet) in
        [(0x71, 1, STANDARD), (0x72, 2, STANDARD), (0x73, 1, URL_SAFE), (0x74, 2, URL_SAFE)]
    {
        let missing = text.len().next_multiple_of(4) - text.len();
        let padded = format!("{text}{}", "=".repeat(missing));
        let groups = padded.len() / 4;
        if let Some(raw) = alphabet.decode(&padded).ok().filter(|_| groups < 1 << (8 * width) && missing <= 2) {
            let padding =
                if missing > 0 { !(missing as u8) } else { text.bytes().filter(|byte| *byte == b'=').count() as u8 };
            forms.push([vec![marker], groups.to_le_bytes()[..width].to_vec(), vec![padding], raw].concat());
        }
    }
    forms
}

fn pack(bytes: &[u8], base: u8, bits: usize) -> Vec<u8> {
    let mut packed = vec![0_u8; (bytes.len() * bits).div_ceil(8)];
    for (index, byte) in bytes.iter().enumerate() {
        for bit in 0..bits {
            let place = index * bits + bit;
            packed[place / 8] |= ((byte - base) >> bit & 1) << (place % 8);
        }
    }
    packed
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        "[a-p]{0,20}",
        "[0-9a-f]{1,9}",
        "[0-9A-F]{1,9}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8}Z",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
        "\"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\"",
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| STANDARD.encode(bytes)),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| URL_SAFE.encode(bytes).replace('=', "")),
        prop::sample::select(KNOWN_STRINGS.to_vec()).prop_map(str::to_owned),
        Just("long ".repeat(60)),
        Just("a".to_owned()),
    ]
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i8>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f32>().prop_map(|number| json!(f64::from(number))),
        any::<f64>().prop_map(|number| json!(number)),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any_number(),
        any_string().prop_map(Value::from),
        prop::collection::vec(any::<i16>(), 0..5).prop_map(|numbers| json!(numbers)),
        prop::collection::vec(prop::array::uniform3(any::<f32>()), 0..4).prop_map(|numbers| json!(numbers)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any_string(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Brings numbers to one form: the format does not keep whether a whole number was a float.
fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let mut text = Vec::new();
            match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => write_float(0, float, &mut text).unwrap(),
                None => write_number(number, &mut text),
            }
            serde_json::from_slice(&text).unwrap()
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, canonical(value))).collect(),
        other => other,
    }
}

fn any_choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..64)
}

proptest! {
    #[test]
    fn every_form_of_a_value_reads_back(value in any_value(), choices in any_choices()) {
        let body = Encoder::encode(&value, choices);
        let text = to_text(&body).map_err(|error| TestCaseError::fail(format!("{error}: {body:02X?}")))?;
        let read: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(canonical(read), canonical(value), "{:02X?}", body);
    }

    #[test]
    fn damaged_bodies_end_in_text_or_a_refusal(
        value in any_value(),
        choices in any_choices(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = Encoder::encode(&value, choices);
        for (place, byte) in damage {
            let place = place.index(body.len());
            body[place] = byte;
        }
        body.truncate(1 + cut.index(body.len()));
        if let Ok(text) = to_text(&body) {
            prop_assert!(text.len() <= MAX_TEXT_BYTES);
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
    }

    #[test]
    fn any_bytes_end_in_text_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let body = [&[PREAMBLE], bytes.as_slice()].concat();
        if let Ok(text) = to_text(&body) {
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
        let _ = to_text(&bytes);
    }
}
