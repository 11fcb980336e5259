//! The bytes under which items are stored.
//!
//! Owns the layout of storage keys and of ranges of them; the values come from `partition_key` and the hashes from `epk`.
//! It reads and writes nothing.
//!
//! ```text
//! 00 | FF | item id                              the key with no components, `[]`
//! 01 | EPK | components | FF | item id           every other key
//! ```
//!
//! `EPK` is the effective partition key, so items lie in its order and a range of it is a range of storage keys. Within
//! one container no effective partition key is a prefix of another (V1 ends itself, the others have one length), so the
//! components that follow decide between keys whose hashes collide. The encoding of the components ends itself too, and
//! the id holds no `FF`, because UTF-8 has none: it can be found from the end.

use crate::partition_key::{self, Component, PartitionKey, PartitionKeyDefinition, PartitionKeyError};

/// First byte of the storage keys of items without any partition key component; they come before all others, as their
/// effective partition key, the empty one, does.
const NO_COMPONENTS: u8 = 0x00;
/// First byte of all other storage keys.
const COMPONENTS: u8 = 0x01;
/// Ends strings and comes before the item id. No UTF-8 text holds it.
const SEPARATOR: u8 = 0xFF;

/// Returns what the storage keys of all items with this partition key begin with, and no others of the container.
pub(crate) fn partition_prefix(definition: &PartitionKeyDefinition, key: &PartitionKey) -> Vec<u8> {
    let mut out = epk_prefix(definition, key);
    write_components(key, &mut out);
    out.push(SEPARATOR);
    out
}

/// Returns the key under which an item is stored.
pub(crate) fn item_key(definition: &PartitionKeyDefinition, key: &PartitionKey, id: &str) -> Vec<u8> {
    let mut out = partition_prefix(definition, key);
    out.extend_from_slice(id.as_bytes());
    out
}

/// The beginning of a storage key that all items of its partition key share.
pub(crate) fn partition_of_key(key: &[u8]) -> &[u8] {
    let length = key.iter().rposition(|&byte| byte == SEPARATOR).map_or(0, |separator| separator + 1);
    key.get(..length).unwrap_or_default()
}

/// Reads the item id back out of a storage key: what follows the last separator.
pub(crate) fn id_of_key(key: &[u8]) -> Option<&str> {
    let separator = key.iter().rposition(|&byte| byte == SEPARATOR)?;
    std::str::from_utf8(key.get(separator + 1..)?).ok()
}

/// Returns the storage keys, from the first on and up to the second, of all items whose partition keys begin with `prefix`.
pub(crate) fn epk_range(definition: &PartitionKeyDefinition, prefix: &PartitionKey) -> (Vec<u8>, Vec<u8>) {
    if prefix.0.is_empty() {
        return (vec![NO_COMPONENTS], vec![COMPONENTS + 1]);
    }
    let start = epk_prefix(definition, prefix);
    let mut end = start.clone();
    // The first byte is not FF, so a byte that can be raised is always found.
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    (start, end)
}

/// Returns the storage keys, from the first on and up to the second, of the items with an effective partition key from `min`
/// on and below `max`, as the `x-ms-start-epk` and `x-ms-end-epk` headers give them; `None` is no upper bound.
pub(crate) fn epk_bounds_from_hex(min: &str, max: &str) -> Result<(Vec<u8>, Option<Vec<u8>>), PartitionKeyError> {
    let start = epk_bound(min)?;
    // Hashes leave the two highest bits clear, so nothing lies at `FF` or beyond.
    let end = if max.eq_ignore_ascii_case("FF") { None } else { Some(epk_bound(max)?) };
    match &end {
        Some(end) if *end < start => Err(PartitionKeyError(format!(
            "the effective partition key range ends at `{max}`, before it starts at `{min}`"
        ))),
        _ => Ok((start, end)),
    }
}

/// Returns the first storage key at or after an effective partition key, the empty one included.
pub(crate) fn epk_start(epk: &[u8]) -> Vec<u8> {
    if epk.is_empty() { vec![NO_COMPONENTS] } else { [&[COMPONENTS], epk].concat() }
}

fn epk_prefix(definition: &PartitionKeyDefinition, key: &PartitionKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    if key.0.is_empty() {
        out.push(NO_COMPONENTS);
    } else {
        out.push(COMPONENTS);
        definition.write_epk(&key.0, &mut out);
    }
    out
}

fn epk_bound(hex: &str) -> Result<Vec<u8>, PartitionKeyError> {
    if hex.is_empty() {
        return Ok(vec![NO_COMPONENTS]);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    // Hex sorts as its bytes do, and an odd digit at the end sorts before the same with any other digit behind it.
    let pairs = hex.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        [high] => Some(digit(high)? << 4),
        _ => None,
    });
    let mut bound = vec![COMPONENTS];
    bound.extend(pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| {
        PartitionKeyError(format!("the effective partition key `{}` is not hexadecimal", partition_key::shortened(hex)))
    })?);
    Ok(bound)
}

/// Appends the exact values. Equal keys give equal bytes, and no key's bytes begin another's of as many values.
fn write_components(key: &PartitionKey, out: &mut Vec<u8>) {
    for component in &key.0 {
        match component {
            Component::Undefined => out.push(0),
            Component::Null => out.push(1),
            Component::Bool(value) => out.push(if *value { 3 } else { 2 }),
            Component::Number(number) => {
                out.push(5);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Component::String(text) => {
                out.push(8);
                out.extend_from_slice(text.as_bytes());
                out.push(SEPARATOR);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition_key::parse_header;
    use crate::partition_key::tests::{any_component, definition, hierarchical, v2};
    use proptest::prelude::*;
    use serde_json::json;

    fn epk(definition: &PartitionKeyDefinition, key: &PartitionKey) -> Vec<u8> {
        let mut out = Vec::new();
        if !key.0.is_empty() {
            definition.write_epk(&key.0, &mut out);
        }
        out
    }

    #[test]
    fn storage_keys_are_the_effective_partition_key_first() {
        let key = parse_header("[\"a\"]").unwrap();
        let mut expected =
            vec![1, 0x3A, 0x53, 0x81, 0xE1, 0x11, 0x4E, 0xB8, 0xD3, 0xFC, 0xC9, 0x07, 0x95, 0x04, 0x5B, 0x49, 0xB7];
        expected.extend_from_slice(b"\x08a\xFF\xFFid");
        assert_eq!(item_key(&v2(), &key, "id"), expected);
        assert_eq!(item_key(&v2(), &PartitionKey(Vec::new()), "id"), b"\x00\xFFid");
    }

    #[test]
    fn keys_whose_hashes_collide_stay_apart() {
        // V1 looks at the first hundred characters only.
        let v1 = definition(json!({"paths": ["/pk"]}));
        let [a, b] = ["a", "b"].map(|end| PartitionKey(vec![Component::String("x".repeat(100) + end)]));
        assert_eq!(epk(&v1, &a), epk(&v1, &b));
        assert!(!item_key(&v1, &b, "id").starts_with(&partition_prefix(&v1, &a)));
    }

    #[test]
    fn hex_bounds_are_read() {
        let bounds = |min, max| epk_bounds_from_hex(min, max).unwrap();
        assert_eq!(bounds("", "FF"), (vec![0], None));
        assert_eq!(bounds("05c1", "05C1FF"), (vec![1, 0x05, 0xC1], Some(vec![1, 0x05, 0xC1, 0xFF])));
        assert_eq!(bounds("1", "2"), (vec![1, 0x10], Some(vec![1, 0x20])));
        assert_eq!(bounds("", ""), (vec![0], Some(vec![0])));
        assert!(epk_bounds_from_hex("xy", "FF").unwrap_err().to_string().contains("`xy`"));
        assert!(epk_bounds_from_hex("é", "FF").is_err());
        assert!(epk_bounds_from_hex("+1", "FF").is_err());
        assert!(epk_bounds_from_hex("20", "10").unwrap_err().to_string().contains("before it starts"));
    }

    fn any_definition() -> impl Strategy<Value = PartitionKeyDefinition> {
        prop_oneof![Just(definition(json!({"paths": ["/pk"]}))), Just(v2()), (1_usize..=3).prop_map(hierarchical),]
    }

    /// A container's definition and some full keys of it.
    fn any_keys() -> impl Strategy<Value = (PartitionKeyDefinition, Vec<PartitionKey>)> {
        any_definition().prop_flat_map(|definition| {
            let key = prop::collection::vec(any_component(), definition.paths().len()).prop_map(PartitionKey);
            (Just(definition), prop::collection::vec(key, 2..6))
        })
    }

    proptest! {
        #[test]
        fn storage_keys_lie_in_the_order_of_effective_partition_keys((definition, mut keys) in any_keys(), ids in prop::collection::vec(".{0,4}", 2)) {
            keys.push(PartitionKey(Vec::new()));
            for a in &keys {
                for b in &keys {
                    let (epk_a, epk_b) = (epk(&definition, a), epk(&definition, b));
                    let (key_a, key_b) = (item_key(&definition, a, &ids[0]), item_key(&definition, b, &ids[1]));
                    if epk_a != epk_b {
                        prop_assert_eq!(key_a.cmp(&key_b), epk_a.cmp(&epk_b));
                    }
                    prop_assert_eq!(key_b.starts_with(&partition_prefix(&definition, a)), a == b, "a partition holds its own items and no others");
                    prop_assert_eq!(key_a == key_b, a == b && ids[0] == ids[1]);
                    prop_assert_eq!(id_of_key(&key_a), Some(ids[0].as_str()));
                }
            }
        }

        #[test]
        fn ranges_hold_what_their_bounds_say((definition, keys) in any_keys(), id in ".{0,4}") {
            let hex = |key| epk(&definition, key).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
            let mut bounds: Vec<String> = keys.iter().map(hex).collect();
            bounds.sort();
            let (min, max) = (&bounds[0], &bounds[bounds.len() - 1]);
            let (start, end) = epk_bounds_from_hex(min, max).unwrap();
            let end = end.unwrap();
            for key in &keys {
                let stored = item_key(&definition, key, &id);
                prop_assert_eq!(start <= stored && stored < end, hex(key) < *max);
            }
        }

        #[test]
        fn hierarchical_ranges_hold_what_begins_with_them((definition, keys) in any_keys(), count in 0_usize..=3, id in ".{0,4}") {
            let prefix = PartitionKey(keys[0].0.iter().take(count).cloned().collect());
            let (start, end) = epk_range(&definition, &prefix);
            for key in &keys {
                let stored = item_key(&definition, key, &id);
                let inside = start <= stored && stored < end;
                prop_assert_eq!(inside, epk(&definition, key).starts_with(&epk(&definition, &prefix)));
            }
        }
    }
}
