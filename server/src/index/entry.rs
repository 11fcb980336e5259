//! The bytes of entries: values so that their order as bytes is the order of the query language.
//!
//! ```text
//! 01 undefined   02 null   03 false   04 true   07 array   08 object
//! 05 number      8 bytes: the double, sign and exponent turned so that smaller numbers come first
//! 06 string      UTF-8, a zero byte as 00 FF | 00 01, or 00 02 after a beginning of a longer string
//! ```
//!
//! Of a path that an index has in descending order all bytes are inverted. A value ends itself, so none is the beginning
//! of another one, and the storage key that comes last can be found.
//!
//! *Inexact* are the values that an entry does not say all of: long strings, whole numbers that no double holds, arrays
//! and objects. Such an entry leads to its item as every other does, but two of them compare as equal that are not; so an
//! index that has one gives no order.

use serde_json::{Map, Number, Value};

use super::{INEXACT, Part};

const UNDEFINED: u8 = 1;
const NULL: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const NUMBER: u8 = 5;
const STRING: u8 = 6;
const ARRAY: u8 = 7;
const OBJECT: u8 = 8;

/// More of a string than this is not in its entry: several must fit into an id beside the item's key.
const STRING_BYTES_MAX: usize = 512;
/// Ends a string, or what there is of it.
const END: [u8; 2] = [0, 1];
const CUT: [u8; 2] = [0, 2];

/// Appends a value; says whether it is exact.
pub(super) fn write(value: Option<&Value>, descending: bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let exact = write_ascending(value, out);
    if descending {
        invert(&mut out[start..]);
    }
    exact
}

/// The first byte of every value of this one's type; booleans have two.
pub(super) fn types(value: &Value) -> (u8, u8) {
    match value {
        Value::Null => (NULL, NULL),
        Value::Bool(_) => (FALSE, TRUE),
        Value::Number(_) => (NUMBER, NUMBER),
        Value::String(_) => (STRING, STRING),
        Value::Array(_) => (ARRAY, ARRAY),
        Value::Object(_) => (OBJECT, OBJECT),
    }
}

/// Appends what the bytes of every string with this beginning begin with, in ascending order.
pub(super) fn write_beginning(text: &str, out: &mut Vec<u8>) {
    out.push(STRING);
    write_text(&text[..cut(text)], out);
}

pub(super) fn invert(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

fn write_ascending(value: Option<&Value>, out: &mut Vec<u8>) -> bool {
    match value {
        None => out.push(UNDEFINED),
        Some(Value::Null) => out.push(NULL),
        Some(Value::Bool(value)) => out.push(if *value { TRUE } else { FALSE }),
        Some(Value::Number(number)) => return write_number(number, out),
        Some(Value::String(text)) => return write_string(text, out),
        Some(Value::Array(_)) => {
            out.push(ARRAY);
            return false;
        }
        Some(Value::Object(_)) => {
            out.push(OBJECT);
            return false;
        }
    }
    true
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> bool {
    // Adding zero turns minus zero into zero.
    let double = number.as_f64().unwrap_or_default() + 0.0;
    let bits = double.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(NUMBER);
    out.extend(ordered.to_be_bytes());
    // From 2 to the 53rd on the doubles are further apart than whole numbers are.
    number.is_f64() || double.abs() < 9_007_199_254_740_992.0
}

fn write_string(text: &str, out: &mut Vec<u8>) -> bool {
    let kept = cut(text);
    out.push(STRING);
    write_text(&text[..kept], out);
    out.extend(if kept == text.len() { END } else { CUT });
    kept == text.len()
}

/// How much of a string is in its entry.
fn cut(text: &str) -> usize {
    let mut kept = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(kept) {
        kept -= 1;
    }
    kept
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
}

/// The bytes after the first value.
fn skip(bytes: &[u8], descending: bool) -> Option<&[u8]> {
    let plain = |byte: u8| if descending { !byte } else { byte };
    let (tag, mut rest) = bytes.split_first()?;
    match plain(*tag) {
        NUMBER => rest.get(8..),
        STRING => loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            if plain(*byte) == 0 {
                let (byte, after) = rest.split_first()?;
                rest = after;
                if plain(*byte) != 0xFF {
                    return Some(rest);
                }
            }
        },
        _ => Some(rest),
    }
}

/// The value at a path.
fn at<'v>(item: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(item, |value, name| value.as_object()?.get(name))
}

/// Adds the entries that an item has in an index: one, or for an index of array elements one for each value that an
/// element has.
pub(super) fn entries(number: u16, parts: &[Part], item: &Value, key: &[u8], out: &mut Vec<Vec<u8>>) {
    let mut exact = true;
    if let [Part { path, element: Some(inner), descending }] = parts {
        let elements = at(item, path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for value in elements.iter().filter_map(|element| at(element, inner)) {
            let mut entry = number.to_be_bytes().to_vec();
            exact &= write(Some(value), *descending, &mut entry);
            entry.extend_from_slice(key);
            out.push(entry);
        }
    } else {
        let mut entry = number.to_be_bytes().to_vec();
        for part in parts {
            exact &= write(at(item, &part.path), part.descending, &mut entry);
        }
        entry.extend_from_slice(key);
        out.push(entry);
    }
    if !exact {
        out.push([&INEXACT, &number.to_be_bytes(), key].concat());
    }
}

/// The storage key of the item that an entry leads to.
pub(crate) fn item_key<'e>(parts: &[Part], entry: &'e [u8]) -> Option<&'e [u8]> {
    parts.iter().try_fold(entry.get(2..)?, |rest, part| skip(rest, part.descending))
}

/// The item that an entry of an exact index tells of, with the index's paths and nothing else.
pub(crate) fn item(parts: &[Part], entry: &[u8]) -> Option<Value> {
    let mut item = Map::new();
    let mut rest = entry.get(2..)?;
    for part in parts {
        let after = skip(rest, part.descending)?;
        let mut value = rest.get(..rest.len() - after.len())?.to_vec();
        rest = after;
        if part.descending {
            invert(&mut value);
        }
        if let Some(value) = read(&value)? {
            put(&mut item, &part.path, value)?;
        }
    }
    Some(Value::Object(item))
}

/// Puts a value at a path.
fn put(item: &mut Map<String, Value>, path: &[String], value: Value) -> Option<()> {
    let (name, rest) = path.split_first()?;
    if rest.is_empty() {
        item.insert(name.clone(), value);
        return Some(());
    }
    let inner = item.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
    put(inner.as_object_mut()?, rest, value)
}

/// The value whose bytes these are, not inverted; `Some(None)` is undefined.
fn read(bytes: &[u8]) -> Option<Option<Value>> {
    let (tag, rest) = bytes.split_first()?;
    Some(match *tag {
        UNDEFINED => None,
        NULL => Some(Value::Null),
        FALSE => Some(false.into()),
        TRUE => Some(true.into()),
        NUMBER => Some(read_number(u64::from_be_bytes(rest.try_into().ok()?))),
        STRING => {
            let mut text = Vec::with_capacity(rest.len());
            let mut bytes = rest.strip_suffix(&END)?.iter();
            while let Some(byte) = bytes.next() {
                text.push(*byte);
                if *byte == 0 {
                    bytes.next();
                }
            }
            Some(Value::String(String::from_utf8(text).ok()?))
        }
        // Others are not said whole.
        _ => return None,
    })
}

fn read_number(ordered: u64) -> Value {
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    let double = f64::from_bits(bits);
    // A whole number is written as one, as it nearly always was in the item.
    if double.fract() == 0.0 && double.abs() < 9_007_199_254_740_992.0 {
        Value::from(double as i64)
    } else {
        double.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::super::query::order_of_values;
    use super::*;

    fn values() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            Just(Some(Value::Null)),
            any::<bool>().prop_map(|value| Some(value.into())),
            any::<i32>().prop_map(|value| Some(value.into())),
            prop::num::f64::NORMAL.prop_map(|value| Some(value.into())),
            prop::sample::select(vec![json!(0), json!(-0.0), json!(1), json!(1.0), json!(-1), json!(0.5)])
                .prop_map(Some),
            prop::sample::select(vec!["", "\0", "\0a", "a", "a\0", "a\u{1}", "ab", "é", "\u{ffff}", "😀"])
                .prop_map(|text| Some(text.into())),
            "\\PC{0,6}".prop_map(|text| Some(text.into())),
            Just(Some(json!([1]))),
            Just(Some(json!({}))),
        ]
    }

    fn part(descending: bool) -> Part {
        Part { path: vec!["v".into()], element: None, descending }
    }

    proptest! {
        #[test]
        fn bytes_compare_as_the_values_do(left in values(), right in values(), descending in any::<bool>()) {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            write(left.as_ref(), descending, &mut one);
            write(right.as_ref(), descending, &mut two);
            let expected = order_of_values(left.as_ref(), right.as_ref());
            prop_assert_eq!(one.cmp(&two), if descending { expected.reverse() } else { expected });
        }

        #[test]
        fn the_key_is_found_after_any_values(
            values in prop::collection::vec((values(), any::<bool>()), 1..4),
            key in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut entry = vec![0, 7];
            for (value, descending) in &values {
                write(value.as_ref(), *descending, &mut entry);
            }
            entry.extend(&key);
            let parts: Vec<_> = values.iter().map(|(_, descending)| part(*descending)).collect();
            prop_assert_eq!(item_key(&parts, &entry), Some(&key[..]));
        }
    }

    proptest! {
        #[test]
        fn an_entry_of_an_exact_index_tells_its_values(
            a in values(), b in values(), down in any::<bool>(), key in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
            let parts = [
                Part { path: path(&["a"]), element: None, descending: down },
                Part { path: path(&["n", "b"]), element: None, descending: !down },
            ];
            let mut stored = json!({"n": {}, "more": 1});
            if let Some(a) = &a { stored["a"] = a.clone(); }
            if let Some(b) = &b { stored["n"]["b"] = b.clone(); }
            let mut entries = Vec::new();
            super::entries(7, &parts, &stored, &key, &mut entries);
            prop_assume!(entries.len() == 1);
            let told = item(&parts, &entries[0]).expect("readable");
            prop_assert!(order_of_values(told.get("a"), a.as_ref()).is_eq());
            prop_assert!(order_of_values(told.pointer("/n/b"), b.as_ref()).is_eq());
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_to_be() {
        let long = "x".repeat(STRING_BYTES_MAX + 1);
        for (value, exact) in [
            (json!("x".repeat(STRING_BYTES_MAX)), true),
            (json!(long), false),
            (json!(9_007_199_254_740_993_u64), false),
            (json!(9_007_199_254_740_991_u64), true),
            (json!(1e300), true),
            (json!([]), false),
            (json!({}), false),
        ] {
            let mut entries = Vec::new();
            super::entries(3, &[part(false)], &json!({ "v": value }), b"key", &mut entries);
            assert_eq!(entries.len(), if exact { 1 } else { 2 }, "{value}");
            assert!(entries.iter().all(|entry| entry.ends_with(b"key") && entry.len() < 2048));
        }
        // A long string comes after its beginning and before whatever is greater than that.
        let of = |text: &str| {
            let mut out = Vec::new();
            write(Some(&json!(text)), false, &mut out);
            out
        };
        let short = "x".repeat(STRING_BYTES_MAX);
        assert!(of(&short) < of(&long) && of(&long) < of(&(short[1..].to_owned() + "y")));
    }
}
