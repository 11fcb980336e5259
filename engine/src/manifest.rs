//! What RocksDB's `MANIFEST` says about its logs. Owns the reading of the few fields that decide which logs still
//! matter; knows nothing of tables, and never writes.

use std::collections::BTreeMap;

/// The logs that matter, folded from the edits of a `MANIFEST` in their order.
#[derive(Debug, Default)]
pub(crate) struct LogsNeeded {
    /// By column family: the oldest log that has rows of it which no sorted file has.
    families: BTreeMap<u32, u64>,
    least: u64,
    last_sequence: u64,
    /// Edits of a group that takes effect as a whole.
    group: Vec<Edit>,
    unreadable: bool,
}

/// The fields of one edit that are of interest here.
#[derive(Debug, Default, Clone, Copy)]
struct Edit {
    family: u32,
    log: Option<u64>,
    least: Option<u64>,
    last_sequence: Option<u64>,
    added: bool,
    dropped: bool,
    /// In a group: how many edits follow.
    following: Option<u32>,
}

impl LogsNeeded {
    /// Takes the next edit into account.
    pub(crate) fn apply(&mut self, record: &[u8]) {
        let Some(edit) = Edit::decode(record) else {
            self.unreadable = true;
            return;
        };
        if let Some(following) = edit.following {
            self.group.push(edit);
            if following > 0 {
                return;
            }
            for edit in std::mem::take(&mut self.group) {
                self.fold(edit);
            }
        } else {
            self.fold(edit);
        }
    }

    fn fold(&mut self, edit: Edit) {
        if edit.dropped {
            self.families.remove(&edit.family);
            return;
        }
        if edit.added {
            self.families.insert(edit.family, 0);
        }
        if let Some(log) = edit.log {
            let known = self.families.entry(edit.family).or_insert(0);
            *known = log.max(*known);
        }
        self.least = self.least.max(edit.least.unwrap_or(0));
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or(0));
    }

    /// The number of the oldest log whose contents matter; 0 (all do) when that cannot be told.
    pub(crate) fn oldest(&self) -> u64 {
        if self.unreadable {
            return 0;
        }
        self.least.max(self.families.values().copied().min().unwrap_or(0))
    }

    /// A sequence number that RocksDB had given out when the last edit was written.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }
}

/// Tags with this bit may be skipped by who does not know them: a length and that many bytes follow.
const SKIPPABLE: u64 = 1 << 13;

impl Edit {
    /// `None` when there is something in it that this reader does not know.
    fn decode(record: &[u8]) -> Option<Edit> {
        let mut edit = Edit::default();
        let mut rest = Fields(record);
        while !rest.0.is_empty() {
            match rest.number()? {
                // Comparator; then numbers of this and that.
                1 => rest.skip()?,
                2 => edit.log = Some(rest.number()?),
                3 | 9 | 203 => drop(rest.number()?),
                4 => edit.last_sequence = Some(rest.number()?),
                5 => {
                    rest.number()?;
                    rest.skip()?;
                }
                6 => {
                    rest.number()?;
                    rest.number()?;
                }
                10 => edit.least = Some(rest.number()?),
                103 => {
                    if let Some(least) = rest.new_file()? {
                        edit.least = Some(least);
                    }
                }
                200 => edit.family = u32::try_from(rest.number()?).ok()?,
                201 => {
                    rest.skip()?;
                    edit.added = true;
                }
                202 => edit.dropped = true,
                300 => edit.following = Some(u32::try_from(rest.number()?).ok()?),
                tag if tag & SKIPPABLE != 0 => rest.skip()?,
                _ => return None,
            }
        }
        Some(edit)
    }
}

/// The rest of an edit: tags, and what belongs to each.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// A number in groups of seven bits, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn skip(&mut self) -> Option<()> {
        self.bytes().map(drop)
    }

    /// A sorted file: level, number, size, first and last key, first and last sequence, then tagged fields up to tag 1.
    /// One of these says, where another tag should, which logs may go.
    fn new_file(&mut self) -> Option<Option<u64>> {
        for _ in 0..3 {
            self.number()?;
        }
        self.skip()?;
        self.skip()?;
        self.number()?;
        self.number()?;
        let mut least = None;
        loop {
            match self.number()? {
                1 => return Some(least),
                3 => least = Some(u64::from_le_bytes(self.bytes()?.try_into().ok()?)),
                _ => self.skip()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::{LogReader, Step};

    #[test]
    fn the_oldest_log_is_that_of_the_family_that_lags() {
        let mut logs = LogsNeeded::default();
        // "comparator" "c"; log 4; last sequence 300; then a family 1 with log 6, and a later edit of family 0.
        logs.apply(b"\x01\x01c\x02\x04\x04\xac\x02");
        logs.apply(b"\xc8\x01\x01\xc9\x01\x01v");
        logs.apply(b"\x02\x06\xc8\x01\x01");
        assert_eq!((logs.oldest(), logs.last_sequence()), (4, 300));
        // Half of a group has no effect; all of it has.
        logs.apply(b"\x02\x08\xac\x02\x01");
        assert_eq!(logs.oldest(), 4);
        logs.apply(b"\x02\x07\xc8\x01\x01\xac\x02\x00");
        assert_eq!(logs.oldest(), 7);
        // A family that is dropped needs nothing; a tag that may be skipped is.
        logs.apply(b"\xc8\x01\x01\xca\x01");
        logs.apply(b"\x81\x40\x02ab");
        assert_eq!(logs.oldest(), 8);
        logs.apply(b"\x0a\x09");
        assert_eq!(logs.oldest(), 9);
        logs.apply(b"\x63");
        assert_eq!(logs.oldest(), 0, "what cannot be read decides nothing");
    }

    #[test]
    fn a_manifest_that_rocksdb_wrote_is_understood() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("store");
        for life in 0..3 {
            let store = crate::Options::default().write_buffer_bytes(1 << 20).open(&path).expect("open");
            let docs = store.collection("docs").expect("collection");
            for n in 0..400 {
                docs.put(format!("{life} {n}"), vec![n as u8; 10_000], crate::Precondition::Any).expect("put");
            }
        }
        let rocks = path.join("rocksdb");
        let current = std::fs::read_to_string(rocks.join("CURRENT")).expect("read");
        let mut reader = LogReader::open(&rocks.join(current.trim()), usize::MAX).expect("open");
        let mut logs = LogsNeeded::default();
        while let Step::Record { head, .. } = reader.step().expect("read") {
            logs.apply(head);
            assert!(!logs.unreadable, "{head:02x?}");
        }
        // A store that was closed has everything in sorted files: only the newest log counts.
        let newest = std::fs::read_dir(&rocks)
            .expect("list")
            .filter_map(|entry| entry.expect("entry").file_name().to_str()?.strip_suffix(".log")?.parse::<u64>().ok());
        assert!(logs.oldest() > 0 && newest.max().is_none_or(|newest| newest >= logs.oldest()));
        assert!(logs.last_sequence() >= 3 * 400 * 2);
    }
}
