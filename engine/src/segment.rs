//! The bytes of the log. Owns how a record is told from what is none, and the reading of a log from some position on;
//! never writes, never decides what the end of a log means for the store.
//!
//! The log is a row of files in the directory `log`, its *segments*. Each is named by the position at which it begins, in
//! sixteen hexadecimal digits:
//!
//! ```text
//! segment  | head, 512 bytes | record | record | ... | whatever was there before |
//! head     | "edblog\x01\0" | salt, u64 LE | position, u64 LE | CRC-32C of these, u32 LE | zeros |
//! record   | CRC-32C, u32 LE | length, u32 LE | payload | anything, up to a multiple of eight |
//! ```
//!
//! The *position* of a record is that of its segment plus its distance from the end of the head. Positions only grow, over
//! all the life of a store, so one names a moment in the order of all writes. A record never crosses into another segment,
//! and begins at a multiple of eight: its head is in one sector and reaches the disk whole or not at all.
//!
//! A segment is written over what was there before: zeros, or an older segment that is needed no more. That saves each
//! sync the writing of the file system's own notes (a third of its time), and is safe because of the *salt*: random, new
//! for each segment, and part of each checksum, together with the record's position and length. What an older segment
//! left there, or what was written to another place, is no record here. So a log has no end mark: it ends where no record
//! is, and whether anything that was there is missing is told by what is known from elsewhere (`durable`).
//!
//! The payload is a write batch as RocksDB encodes one (`rows`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::describe;
use crate::error::{Error, Result};

/// What a segment begins with.
pub(crate) const HEAD_BYTES: u64 = 512;
/// What a record begins with.
pub(crate) const RECORD_HEAD_BYTES: usize = 8;
const ALIGNMENT: usize = 8;
const MAGIC: &[u8; 8] = b"edblog\x02\0";
const FIELDS_BYTES: usize = 8 + 8 + 8;

/// What tells one segment from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) salt: u64,
    /// Where it begins.
    pub(crate) start: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES as usize] {
        let mut head = [0; HEAD_BYTES as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&self.salt.to_le_bytes());
        head[16..FIELDS_BYTES].copy_from_slice(&self.start.to_le_bytes());
        let crc = crc32c::crc32c(&head[..FIELDS_BYTES]);
        head[FIELDS_BYTES..FIELDS_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
        head
    }

    fn decode(bytes: &[u8]) -> Option<Head> {
        let (fields, crc) = bytes.get(..FIELDS_BYTES + 4)?.split_at(FIELDS_BYTES);
        if !fields.starts_with(MAGIC) || crc != crc32c::crc32c(fields).to_le_bytes() {
            return None;
        }
        let (salt, start) = fields[8..].split_first_chunk()?;
        Some(Head { salt: u64::from_le_bytes(*salt), start: u64::from_le_bytes(*start.first_chunk()?) })
    }

    /// What stands before a record's payload at a position.
    pub(crate) fn record_head(&self, position: u64, payload: &[u8]) -> [u8; RECORD_HEAD_BYTES] {
        let crc = crc32c::crc32c_append(self.seed(position, payload.len()), payload);
        let mut head = [0; RECORD_HEAD_BYTES];
        head[..4].copy_from_slice(&crc.to_le_bytes());
        // A group's bodies are bounded far below four gigabytes.
        head[4..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head
    }

    /// The checksum of all that is not in the payload.
    fn seed(&self, position: u64, len: usize) -> u32 {
        let mut fields = [0; 8 + 8 + 8];
        fields[..8].copy_from_slice(&self.salt.to_le_bytes());
        fields[8..16].copy_from_slice(&position.to_le_bytes());
        fields[16..24].copy_from_slice(&(len as u64).to_le_bytes());
        crc32c::crc32c(&fields)
    }
}

/// How much of a segment a record takes up.
pub(crate) fn record_bytes(payload: usize) -> usize {
    RECORD_HEAD_BYTES + payload.next_multiple_of(ALIGNMENT)
}

/// The name of the segment that begins at a position.
pub(crate) fn segment_path(directory: &Path, start: u64) -> PathBuf {
    directory.join(format!("{start:016x}.log"))
}

/// The segments in a directory, by where their names say that they begin. None where there is no directory.
pub(crate) fn segments(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(describe(directory, error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| describe(directory, error))?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 16);
        if let Some(start) = start.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            segments.push((start, entry.path()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Behind the last record.
    pub(crate) position: u64,
    /// The place in a file where the next record would be, if there is a file for it.
    pub(crate) at: Option<(PathBuf, u64)>,
    /// What is there instead of a record.
    pub(crate) what: &'static str,
}

impl End {
    /// Refuses a log that ends before a position up to which it was on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] names the file and the offset, and what can be done.
    pub(crate) fn check(&self, synced: u64, mark_file: &str) -> Result<()> {
        if self.position >= synced {
            return Ok(());
        }
        Err(Error::Corruption(match &self.at {
            Some((path, offset)) => format!(
                "{} at offset {offset}: {}, and acknowledged writes come after it; nothing was changed: put back the \
                 file as it was, restore a checkpoint, or, to go on with what was written before and lose the rest, cut \
                 the file off there (truncate -s {offset}) and delete {mark_file} from the store's directory",
                path.display(),
                self.what
            ),
            None => format!(
                "the log ends at position {}, and acknowledged writes came after it: {}; nothing was changed: put back \
                 the files of the directory log as they were, restore a checkpoint, or, to go on with what was written \
                 before and lose the rest, delete {mark_file} from the store's directory",
                self.position, self.what
            ),
        }))
    }
}

/// Shows `take` the payloads of all records from position `from` on, in order, up to where there is none.
///
/// Takes time in proportion to the size of the files and the memory of one segment, whatever is in them.
pub(crate) fn read(directory: &Path, from: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<End> {
    let segments = segments(directory)?;
    let mut position = from;
    'segments: loop {
        let Some((start, path)) = segments.iter().rfind(|(start, _)| *start <= position) else {
            return Ok(End { position, at: None, what: "there is no segment of it" });
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Err(describe(path, error)),
        };
        let end = |position, offset, what| Ok(End { position, at: Some((path.clone(), offset)), what });
        let Some(head) = Head::decode(&bytes) else {
            return end(position, 0, "the head of the segment is not whole");
        };
        if head.start != *start {
            return end(position, 0, "the head is that of another segment");
        }
        loop {
            // What was begun at this very position replaces whatever an earlier segment has there.
            if position != *start && segments.iter().any(|(other, _)| *other == position) {
                continue 'segments;
            }
            let offset = HEAD_BYTES + (position - start);
            let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            match record(head, position, rest) {
                Ok(payload) => {
                    take(payload)?;
                    position += record_bytes(payload.len()) as u64;
                }
                Err(what) => return end(position, offset, what),
            }
        }
    }
}

/// The payload of the record at the beginning of `bytes`.
fn record(head: Head, position: u64, bytes: &[u8]) -> Result<&[u8], &'static str> {
    let Some((found, rest)) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>() else {
        return Err("the file ends here");
    };
    let len = u32::from_le_bytes([found[4], found[5], found[6], found[7]]) as usize;
    if len == 0 {
        return Err("there is no record here");
    }
    let Some(payload) = rest.get(..len) else {
        return Err("a record's length is beyond the end of the file");
    };
    if *found == head.record_head(position, payload) { Ok(payload) } else { Err("a record's checksum is wrong") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::Rng;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    const MARK: &str = "DURABLE";

    fn seeded(seed: u64) -> TestRng {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
    }

    fn below(rng: &mut TestRng, bound: usize) -> usize {
        (rng.next_u64() % bound.max(1) as u64) as usize
    }

    fn payload(len: usize, seed: u64) -> Vec<u8> {
        (0..len).map(|at| (at as u64 * 7 + seed) as u8 | 1).collect()
    }

    /// A segment of these records, written over `old`, and where each of them ends.
    fn segment(head: Head, records: &[Vec<u8>], old: &[u8]) -> (Vec<u8>, Vec<u64>) {
        let mut bytes = head.encode().to_vec();
        let (mut position, mut ends) = (head.start, Vec::new());
        for record in records {
            bytes.extend_from_slice(&head.record_head(position, record));
            bytes.extend_from_slice(record);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0xee);
            position = head.start + bytes.len() as u64 - HEAD_BYTES;
            ends.push(position);
        }
        if let Some(rest) = old.get(bytes.len()..) {
            bytes.extend_from_slice(rest);
        }
        (bytes, ends)
    }

    fn all(directory: &Path, from: u64) -> (Vec<Vec<u8>>, End) {
        let mut records = Vec::new();
        let end = read(directory, from, |payload| {
            records.push(payload.to_vec());
            Ok(())
        });
        (records, end.expect("readable"))
    }

    /// Whoever changes these bytes makes the logs of existing stores unreadable.
    #[test]
    fn a_segment_is_these_bytes() {
        let head = Head { salt: 1, start: 2 };
        let fields = b"edblog\x02\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(head.encode()[..FIELDS_BYTES], fields[..]);
        assert_eq!(head.encode()[FIELDS_BYTES..FIELDS_BYTES + 4], crc32c::crc32c(fields).to_le_bytes());
        let seed = b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0";
        let record = [&crc32c::crc32c(&[&seed[..], b"abc"].concat()).to_le_bytes()[..], b"\x03\0\0\0"].concat();
        assert_eq!(head.record_head(10, b"abc")[..], record);
        assert_eq!(segment_path(Path::new("log"), 255), Path::new("log/00000000000000ff.log"));
    }

    #[test]
    fn records_are_read_from_any_of_them_on_over_all_segments() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut all_records = Vec::new();
        let mut start = 0;
        let mut begins = vec![0];
        for number in 0..4u64 {
            let records: Vec<_> = (0..5).map(|n| payload(20 + 100 * n, number + n as u64)).collect();
            let (bytes, ends) = segment(Head { salt: number, start }, &records, &[0x55; 5000]);
            fs::write(segment_path(dir.path(), start), bytes).expect("write");
            start = ends[4];
            begins.extend(ends);
            all_records.extend(records);
        }
        for (at, from) in begins.iter().enumerate() {
            let (records, end) = all(dir.path(), *from);
            assert_eq!((records, end.position), (all_records[at..].to_vec(), start));
        }
        assert_eq!(all(dir.path(), start + 800).1.position, start + 800, "what is in files is ahead of the log");
        assert_eq!(
            all(&dir.path().join("none"), 7).1,
            End { position: 7, at: None, what: "there is no segment of it" }
        );
    }

    /// What a power cut leaves of the bytes behind `synced`: old ones and new ones, by sector, or a shorter file.
    fn tear(bytes: &[u8], old: &[u8], synced: usize, rng: &mut TestRng) -> Vec<u8> {
        let mut torn = bytes.to_vec();
        let before = |at: usize| old.get(at).copied().unwrap_or(0);
        match below(rng, 3) {
            0 => (synced..bytes.len()).for_each(|at| torn[at] = before(at)),
            1 => {
                for sector in (0..bytes.len()).step_by(512).filter(|_| below(rng, 2) == 0).collect::<Vec<_>>() {
                    let range = sector.max(synced)..(sector + 512).min(bytes.len()).max(synced);
                    range.for_each(|at| torn[at] = before(at));
                }
            }
            _ => torn.truncate(synced + below(rng, bytes.len() - synced + 1)),
        }
        torn
    }

    /// Tears the tail of a segment that was written over an older one; what is wrong with what is read of it.
    fn tear_a_tail(path: &Path, salt: u64, seed: u64) -> Result<(), String> {
        let mut rng = seeded(seed);
        let large = below(&mut rng, 20) == 0;
        let records = |rng: &mut TestRng| -> Vec<Vec<u8>> {
            (0..1 + below(rng, 30))
                .map(|n| payload(1 + below(rng, if large { 70_000 } else { 900 }), n as u64))
                .collect()
        };
        // Over zeros, or over what looks much the same.
        let old = match below(&mut rng, 2) {
            0 => vec![0; 100_000],
            _ => segment(Head { salt: 1, start: 0 }, &records(&mut rng), &[]).0,
        };
        let written = records(&mut rng);
        let (whole, ends) = segment(Head { salt, start: 0 }, &written, &old);
        let synced = below(&mut rng, written.len());
        let synced_bytes = (HEAD_BYTES + ends[synced]) as usize;
        fs::write(path, tear(&whole, &old, synced_bytes, &mut rng)).expect("write");
        let (left, end) = all(path.parent().expect("in a directory"), 0);
        // The mark may lag behind the sync.
        let mark = ends[below(&mut rng, synced + 1)];
        end.check(mark, MARK).map_err(|error| format!("false alarm: {error}"))?;
        if left.len() <= synced {
            return Err("what was synced is lost".into());
        }
        if written.starts_with(&left) { Ok(()) } else { Err("what is left is no prefix".into()) }
    }

    #[test]
    fn ten_thousand_torn_tails_raise_no_alarm_and_leave_a_prefix() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = segment_path(dir.path(), 0);
        for seed in 0..10_000 {
            tear_a_tail(&path, 2, seed).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        }
    }

    /// That the test above can fail: with a salt that is not renewed, records of the older segment come back.
    #[test]
    fn a_salt_that_is_not_renewed_is_noticed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = segment_path(dir.path(), 0);
        let wrong = (0..10_000).find_map(|seed| tear_a_tail(&path, 1, seed).err());
        assert_eq!(wrong.as_deref(), Some("what is left is no prefix"));
    }

    #[test]
    fn each_flipped_bit_before_the_mark_is_damage() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let records: Vec<_> = (0..20).map(|n| payload(8 + 24 * (n % 5), n as u64)).collect();
        let (whole, ends) = segment(Head { salt: 3, start: 0 }, &records, &[]);
        let path = segment_path(dir.path(), 0);
        let unused = |byte: usize| (FIELDS_BYTES + 4..HEAD_BYTES as usize).contains(&byte);
        for bit in (0..whole.len() * 8).filter(|bit| !unused(bit / 8)) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).expect("write");
            let (left, end) = all(dir.path(), 0);
            assert!(records.starts_with(&left) && left.len() < records.len(), "bit {bit}");
            let error = end.check(ends[19], MARK).expect_err("a flipped bit is no torn tail").to_string();
            assert!(error.contains("0000000000000000.log at offset"), "bit {bit}: {error}");
        }
    }

    #[test]
    fn a_log_cut_off_zeroed_or_put_back_is_damage_also_at_the_end_of_a_record() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let records: Vec<_> = (0..50).map(|n| payload(100, n)).collect();
        let (whole, ends) = segment(Head { salt: 3, start: 0 }, &records, &[]);
        let path = segment_path(dir.path(), 0);
        for (index, end) in ends.iter().enumerate().take(49) {
            for tail in [0, 600] {
                let cut = (HEAD_BYTES + end) as usize;
                fs::write(&path, [&whole[..cut], &vec![0; tail]].concat()).expect("write");
                let found = all(dir.path(), 0).1;
                let error = found.check(ends[49], MARK).expect_err("acknowledged writes are gone").to_string();
                assert!(error.contains(&format!("at offset {cut}")), "{error}");
                assert!(found.check(ends[index], MARK).is_ok(), "what comes after the mark may go");
            }
        }
        fs::remove_file(&path).expect("remove");
        let error = all(dir.path(), 0).1.check(ends[49], MARK).expect_err("all of it is gone").to_string();
        assert!(error.contains("there is no segment of it"), "{error}");
        fs::write(&path, segment(Head { salt: 3, start: 800 }, &records, &[]).0).expect("write");
        let error = all(dir.path(), 0).1.check(ends[49], MARK).expect_err("another file was put there").to_string();
        assert!(error.contains("the head is that of another segment"), "{error}");
    }

    /// A new segment that begins where an older one has a record: a crash tore that one, and it was given up.
    #[test]
    fn what_was_given_up_is_not_read_beside_what_replaced_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (old, ends) = segment(Head { salt: 1, start: 0 }, &[payload(50, 1), payload(50, 2), payload(50, 3)], &[]);
        fs::write(segment_path(dir.path(), 0), old).expect("write");
        let (new, _) = segment(Head { salt: 2, start: ends[0] }, &[payload(50, 9)], &[]);
        fs::write(segment_path(dir.path(), ends[0]), new).expect("write");
        let (records, end) = all(dir.path(), 0);
        assert_eq!((records, end.position), (vec![payload(50, 1), payload(50, 9)], ends[1]));
    }
}
