//! How the key space of a container is divided into partition key ranges.
//!
//! Owns how many ranges a container has, where each begins, and which of them a storage key lies in. It knows nothing of
//! headers and stores nothing.
//!
//! Nothing here is divided in fact: all items of a container are one collection, in the order of their effective partition
//! keys, and a range is an interval of it. Clients see the ranges, read them in parallel and keep a session for each, as
//! they would at the service. A container keeps the ranges it was made with; none is ever split or merged.

use crate::item_key;
use crate::partition_key::PartitionKeyDefinition;

/// One range gives at most this much throughput.
const THROUGHPUT_OF_ONE: u64 = 10_000;
/// With more than that, the service makes a range for each part of this size, so that none is at its limit.
const THROUGHPUT_PER_RANGE: u64 = 6_000;
/// Most ranges of one container.
const RANGES_MAX: u64 = 128;

/// The ranges of one container.
#[derive(Debug)]
pub(crate) struct KeyRanges {
    /// The storage key at which each range begins; the first one is the first of all.
    starts: Vec<Vec<u8>>,
}

/// How many ranges a container with this much throughput has.
pub(crate) fn count_for(throughput: u64) -> u32 {
    if throughput <= THROUGHPUT_OF_ONE {
        return 1;
    }
    let count = throughput.div_ceil(THROUGHPUT_PER_RANGE).min(RANGES_MAX);
    u32::try_from(count).unwrap_or(1)
}

impl KeyRanges {
    /// Divides a key space into `count` ranges of one size.
    pub(crate) fn new(definition: &PartitionKeyDefinition, count: u32) -> KeyRanges {
        let later = (1..count).map(|index| item_key::epk_start(&definition.share_of_key_space(index, count)));
        KeyRanges { starts: std::iter::once(item_key::epk_start(&[])).chain(later).collect() }
    }

    /// How many there are: at least one.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The number of the range that has this id.
    pub(crate) fn numbered(&self, id: &str) -> Option<usize> {
        // Digits and nothing else, so that every range has one id.
        let number: usize = id.parse().ok()?;
        (number < self.len() && number.to_string() == id).then_some(number)
    }

    /// Where a range begins and ends, in the hex of the wire.
    pub(crate) fn hex(&self, number: usize) -> (String, String) {
        // The first byte is the storage key's own.
        let hex = |key: &Vec<u8>| key.iter().skip(1).map(|byte| format!("{byte:02X}")).collect::<String>();
        (self.starts.get(number).map(hex).unwrap_or_default(), self.starts.get(number + 1).map_or("FF".into(), hex))
    }

    /// The storage keys of a range: from the first on and up to the second, if there is an end.
    pub(crate) fn bounds(&self, number: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        (self.starts.get(number).cloned().unwrap_or_default(), self.starts.get(number + 1).cloned())
    }

    /// The number of the range that a storage key, or the beginning of one, lies in.
    pub(crate) fn number_of(&self, key: &[u8]) -> usize {
        self.starts.partition_point(|start| start.as_slice() <= key).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition_key::tests::{definition, hierarchical, v2};
    use serde_json::json;

    #[test]
    fn throughput_decides_how_many() {
        for (throughput, count) in
            [(0, 1), (400, 1), (10_000, 1), (10_001, 2), (11_000, 2), (30_000, 5), (u64::MAX, 128)]
        {
            assert_eq!(count_for(throughput), count, "{throughput}");
        }
    }

    #[test]
    fn ranges_begin_where_the_service_begins_them() {
        let starts = |definition: &PartitionKeyDefinition, count| {
            let ranges = KeyRanges::new(definition, count);
            (0..ranges.len()).map(|number| ranges.hex(number).0).collect::<Vec<_>>()
        };
        let half = "1FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
        assert_eq!(starts(&v2(), 1), [""]);
        assert_eq!(starts(&v2(), 2), ["", half]);
        assert_eq!(starts(&hierarchical(2), 2), ["", half]);
        assert_eq!(starts(&v2(), 5)[1..3], ["0CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC", "19999999999999999999999999999998"]);
        assert_eq!(starts(&definition(json!({"paths": ["/pk"]})), 2), ["", "05C1DFFFFFFFFC"]);
    }

    #[test]
    fn ranges_lie_end_to_end_and_every_key_in_one_of_them() {
        for definition in [v2(), hierarchical(3), definition(json!({"paths": ["/pk"]}))] {
            let ranges = KeyRanges::new(&definition, 7);
            assert_eq!((ranges.hex(0).0.as_str(), ranges.hex(6).1.as_str()), ("", "FF"));
            let mut met = [false; 7];
            for index in 0..1000 {
                let key = crate::partition_key::parse_header(&format!("[\"{index}\"]")).unwrap();
                let key = item_key::item_key(&definition, &key, "id");
                let number = ranges.number_of(&key);
                met[number] = true;
                let (start, end) = ranges.bounds(number);
                assert!(start <= key && end.is_none_or(|end| key < end), "{index}");
            }
            assert_eq!(met, [true; 7], "hashes are spread over all ranges");
            for number in 1..7 {
                assert_eq!(ranges.hex(number - 1).1, ranges.hex(number).0);
                assert_eq!(ranges.bounds(number - 1).1, Some(ranges.bounds(number).0));
            }
            // The key without components comes before all others.
            assert_eq!(ranges.number_of(&[0]), 0);
        }
    }

    #[test]
    fn ids_are_plain_numbers() {
        let ranges = KeyRanges::new(&v2(), 3);
        assert_eq!(ranges.numbered("2"), Some(2));
        for id in ["3", "-1", "02", "+1", "", "x", "0,1"] {
            assert_eq!(ranges.numbered(id), None, "{id}");
        }
    }
}
