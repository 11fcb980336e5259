//! The check before open: what RocksDB would replay is read by us first. Owns the judgement of what a log ends in, a
//! torn tail or damage, and the cutting of torn tails; never opens a database.
//!
//! # Why
//!
//! A power cut leaves logs that end in the middle of a record, in zeros, or in sectors of which some were written
//! and some were not; that is normal, and concerns only what was never acknowledged. A flipped bit, a lost page or an
//! old copy that was put back concerns what was. RocksDB's recovery does not tell the two apart: it stops at the
//! first record that is not whole, or passes over it when it reads as zeros, and opens without a word. One
//! flipped bit makes it read for ever (see `log_format`). And what it passes over may be followed by records it
//! does replay: a hole.
//!
//! # How a torn tail is told from damage
//!
//! The store's [`Mark`] says up to which RocksDB sequence the logs were synced. Each record names the sequences of its
//! rows, without gaps, from record to record and from log to log. So the first record that is not whole, or the first
//! gap, is where certain sequences are lost: if one of them is at or below the mark, something that was on disk is
//! there no more, which is damage; if all are above it, nobody was promised anything. The mark can lag behind after
//! a power cut (`durable` says how much) but is never ahead, so a torn tail is never called damage.
//!
//! Without a mark of sequences, as in a copy, a whole record behind one that is not counts as damage.
//!
//! The `MANIFEST` is held against its own size in the mark: up to there each record is whole.
//!
//! # What is done about a torn tail
//!
//! The first record that is not whole, and everything behind it, in later logs too, is cut off before RocksDB sees the
//! files: what was not synced is lost from its first loss on, so that what is left is a prefix of what was written.
//! (Without that, two or three in a hundred power cuts of a `Buffered` store leave a hole.) Who opens for reading
//! only changes no file, and is refused where RocksDB could not be shown the tail.
//!
//! It takes one pass over logs that RocksDB will replay, which takes it ten times as long, and a part of a second at
//! the most with default options.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::describe;
use crate::durable::{DURABLE_FILE, Mark};
use crate::error::{Error, Result};
use crate::log_format::{LogReader, Step};
use crate::manifest::LogsNeeded;

/// What is to be cut off before RocksDB sees the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TornTail {
    cuts: Vec<Cut>,
}

#[derive(Debug, PartialEq, Eq)]
struct Cut {
    path: PathBuf,
    at: u64,
    /// RocksDB, shown the file as it is, would replay no more than what is before the cut.
    harmless: bool,
}

impl TornTail {
    /// Cuts it off, durably. Done again after a crash in the middle of it, it comes to the same.
    pub(crate) fn cut(&self) -> Result<()> {
        for Cut { path, at, .. } in &self.cuts {
            let cut = || {
                let file = OpenOptions::new().write(true).open(path)?;
                file.set_len(*at)?;
                file.sync_all()
            };
            cut().map_err(|error| describe(path, error))?;
        }
        Ok(())
    }

    /// Refuses what RocksDB cannot be shown.
    pub(crate) fn must_be_harmless(&self) -> Result<()> {
        match self.cuts.iter().find(|cut| !cut.harmless) {
            None => Ok(()),
            Some(Cut { path, at, .. }) => Err(Error::Invalid(format!(
                "{}: a crash left parts of unacknowledged writes from offset {at} on, which opening the store for \
                 writing cuts off; open it so once, or open a copy",
                path.display()
            ))),
        }
    }
}

/// Reads the logs of the database in the directory `database` as RocksDB would, and says what is torn.
///
/// # Errors
///
/// [`Error::Corruption`] names the file and the offset of what is damaged, and what can be done; [`Error::Io`] when a
/// file cannot be read.
pub(crate) fn check(database: &Path, mark: Option<&Mark>) -> Result<TornTail> {
    let mut torn = TornTail::default();
    let Some(manifest) = current_manifest(database)? else {
        // RocksDB refuses to open a database without a good `CURRENT`.
        return Ok(torn);
    };
    let path = database.join(format!("MANIFEST-{manifest:06}"));
    if let Some(mark) = mark
        && manifest < mark.manifest
    {
        return Err(damage(
            &database.join("CURRENT"),
            0,
            &format!("it names {}, but MANIFEST-{:06} was in use: this is an older copy", name(&path), mark.manifest),
            "",
        ));
    }
    let needed = match check_manifest(&path, manifest, mark, &mut torn) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(torn),
        checked => checked.map_err(|error| describe(&path, error))??,
    };
    let mut logs = logs(database)?;
    logs.retain(|(number, _)| *number >= needed.oldest());
    check_logs(&logs, needed.last_sequence(), mark, &mut torn)?;
    Ok(torn)
}

/// The number of the `MANIFEST` that `CURRENT` names.
fn current_manifest(database: &Path) -> Result<Option<u64>> {
    let path = database.join("CURRENT");
    match fs::read(&path) {
        Ok(bytes) => Ok(manifest_number(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(describe(&path, error)),
    }
}

/// What the contents of `CURRENT` name.
pub(crate) fn manifest_number(current: &[u8]) -> Option<u64> {
    let digits = current.strip_prefix(b"MANIFEST-")?.strip_suffix(b"\n")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn check_manifest(
    path: &Path,
    number: u64,
    mark: Option<&Mark>,
    torn: &mut TornTail,
) -> io::Result<Result<LogsNeeded>> {
    // A newer one than the mark's was whole and synced before `CURRENT` named it, but how long it was is not known.
    let synced = mark.filter(|mark| mark.manifest == number).map_or(0, |mark| mark.manifest_bytes);
    let mut reader = LogReader::open(path, usize::MAX)?;
    let mut needed = LogsNeeded::default();
    let fault = loop {
        match reader.step()? {
            Step::Record { head, .. } => needed.apply(head),
            Step::End => break None,
            Step::Bad(fault) => break Some(fault),
        }
    };
    let whole = reader.whole();
    if whole < synced {
        let what = fault.map_or("the file ends here", |fault| fault.what);
        let lost = format!("{what}, and {synced} bytes of it were on disk");
        return Ok(Err(damage(path, whole, &lost, "")));
    }
    if let Some(fault) = fault {
        let followed = reader.record_after(&fault)?.is_some();
        if followed && mark.is_none() {
            return Ok(Err(damage(path, fault.offset, fault.what, "")));
        }
        torn.cuts.push(Cut { path: path.to_owned(), at: fault.offset, harmless: !followed && !fault.endless });
    }
    Ok(Ok(needed))
}

/// All logs, oldest first.
fn logs(database: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(database).map_err(|error| describe(database, error))? {
        let entry = entry.map_err(|error| describe(database, error))?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok()) {
            logs.push((number, entry.path()));
        }
    }
    logs.sort_unstable();
    Ok(logs)
}

/// Sequences that are lost: why, where they begin to be, and the first one behind them that is there.
struct Lost {
    log: usize,
    offset: u64,
    what: &'static str,
    endless: bool,
    next: Option<u64>,
}

/// `floor`: a sequence that was given out when the oldest of the logs began, or later.
fn check_logs(logs: &[(u64, PathBuf)], floor: u64, mark: Option<&Mark>, torn: &mut TornTail) -> Result<()> {
    // The last sequence read so far.
    let mut end: Option<u64> = None;
    // A fault that nothing has followed yet.
    let mut open: Option<Lost> = None;
    let mut longest = None;
    'logs: for (log, (_, path)) in logs.iter().enumerate() {
        let io = |error| describe(path, error);
        let mut reader = match LogReader::open(path, BATCH_HEAD_BYTES) {
            Ok(reader) => reader,
            Err(error) => return Err(io(error)),
        };
        loop {
            let fault = match reader.step().map_err(io)? {
                Step::End => break,
                Step::Bad(fault) => fault,
                Step::Record { offset, head } => {
                    let Some((first, count)) = batch_head(head) else {
                        let what = "a log record is too short for its own head";
                        open = Some(Lost { log, offset, what, endless: false, next: Some(0) });
                        break 'logs;
                    };
                    // RocksDB begins a log with an empty batch after it gave up a tail.
                    if count == 0 {
                        continue;
                    }
                    let follows = first <= end.unwrap_or(floor).saturating_add(1);
                    if let Some(lost) = &mut open {
                        // A write that failed for want of space is followed by others, in another log.
                        if end.is_none() || !follows {
                            lost.next = Some(first);
                            break 'logs;
                        }
                        torn.cuts.push(lost.cut(logs));
                        open = None;
                    } else if !follows {
                        let what = "writes are missing before it";
                        open = Some(Lost { log, offset, what, endless: false, next: Some(first) });
                        break 'logs;
                    }
                    let last = first.saturating_add(u64::from(count) - 1);
                    end = Some(end.map_or(last, |end| end.max(last)));
                    longest = Some(log);
                    continue;
                }
            };
            let after = reader.record_after(&fault).map_err(io)?;
            let next = after.map(|head| batch_head(&head).map_or(0, |(first, _)| first));
            // The fault of an earlier log that nothing followed is the first one.
            if open.is_none() {
                open = Some(Lost { log, offset: fault.offset, what: fault.what, endless: fault.endless, next });
            } else if next.is_some() {
                open = open.map(|lost| Lost { next, ..lost });
            }
            match next {
                Some(_) => break 'logs,
                None => break,
            }
        }
    }
    let synced = mark.map(|mark| mark.rocks).filter(|&synced| synced > 0);
    if let Some(lost) = open {
        let was_on_disk = match (synced, end) {
            (None, _) => lost.next.is_some(),
            (Some(synced), Some(end)) => end < synced,
            (Some(synced), None) => floor < synced || lost.next.is_some_and(|next| next <= synced),
        };
        if was_on_disk {
            return Err(damage(&logs[lost.log].1, lost.offset, lost.what, ", and acknowledged writes come after it"));
        }
        torn.cuts.push(lost.cut(logs));
        for (_, path) in &logs[lost.log + 1..] {
            if fs::metadata(path).map_err(|error| describe(path, error))?.len() > 0 {
                torn.cuts.push(Cut { path: path.clone(), at: 0, harmless: false });
            }
        }
        return Ok(());
    }
    if let Some(synced) = synced
        && end.unwrap_or(floor) < synced
    {
        let (_, path) = longest.and_then(|log| logs.get(log)).or(logs.last()).ok_or_else(|| {
            Error::Corruption(format!("the log is missing, and with it acknowledged writes; {}", advice(None)))
        })?;
        let bytes = fs::metadata(path).map_err(|error| describe(path, error))?.len();
        return Err(damage(path, bytes, "the file ends here", ", and acknowledged writes came after it"));
    }
    Ok(())
}

impl Lost {
    fn cut(&self, logs: &[(u64, PathBuf)]) -> Cut {
        let harmless = self.next.is_none() && !self.endless;
        Cut { path: logs[self.log].1.clone(), at: self.offset, harmless }
    }
}

/// What a log record begins with: the sequence of its first row and how many rows it has, both little-endian.
const BATCH_HEAD_BYTES: usize = 8 + 4;

fn batch_head(head: &[u8]) -> Option<(u64, u32)> {
    let (first, count) = head.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), u32::from_le_bytes(*count.first_chunk()?)))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn damage(path: &Path, offset: u64, what: &str, more: &str) -> Error {
    let log = path.extension().is_some_and(|extension| extension == "log");
    let advice = advice(log.then_some(offset));
    Error::Corruption(format!("{} at offset {offset}: {what}{more}; {advice}", path.display()))
}

fn advice(cut: Option<u64>) -> String {
    let last_resort = cut.map_or(String::new(), |offset| {
        format!(
            ", or, to go on with what was written before and lose the rest, cut the file off there (truncate -s \
             {offset}) and delete {DURABLE_FILE} from the store's directory"
        )
    });
    format!("nothing was changed: put back the file as it was, restore a checkpoint{last_resort}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::encode_log;
    use proptest::prelude::Rng;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    fn seeded(seed: u64) -> TestRng {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
    }

    fn below(rng: &mut TestRng, bound: usize) -> usize {
        (rng.next_u64() % bound.max(1) as u64) as usize
    }

    /// A database of a `MANIFEST` that says "log 4 and later" and of logs, in a directory that goes with it.
    struct Database {
        dir: tempfile::TempDir,
    }

    impl Database {
        fn new() -> Database {
            let dir = tempfile::tempdir().expect("temporary directory");
            std::fs::write(dir.path().join("CURRENT"), "MANIFEST-000003\n").expect("write");
            std::fs::write(dir.path().join("MANIFEST-000003"), encode_log(&[b"\x02\x04\x04\x00".to_vec()]))
                .expect("write");
            Database { dir }
        }

        fn log(&self, number: u64) -> PathBuf {
            self.dir.path().join(format!("{number:06}.log"))
        }

        fn write(&self, number: u64, bytes: &[u8]) {
            std::fs::write(self.log(number), bytes).expect("write");
        }

        fn check(&self, synced: u64) -> Result<TornTail> {
            check(self.dir.path(), Some(&Mark { rocks: synced, ..Mark::default() }))
        }

        fn check_without_mark(&self) -> Result<TornTail> {
            check(self.dir.path(), None)
        }
    }

    /// A log record: a batch of `count` rows from sequence `first` on, with so many bytes of rows.
    fn batch(first: u64, count: u32, bytes: usize) -> Vec<u8> {
        let mut record = first.to_le_bytes().to_vec();
        record.extend_from_slice(&count.to_le_bytes());
        record.extend((0..bytes).map(|at| (at as u64 * 7 + first) as u8));
        record
    }

    /// Where each record of a log ends.
    fn ends(records: &[Vec<u8>]) -> Vec<usize> {
        (1..=records.len()).map(|count| encode_log(&records[..count]).len()).collect()
    }

    /// What a power cut leaves of the bytes behind `synced`: some prefix, or some sectors, or the length alone.
    fn tear(bytes: &[u8], synced: usize, rng: &mut TestRng) -> Vec<u8> {
        let mut torn = bytes.to_vec();
        match below(rng, 4) {
            0 => torn.truncate(synced + below(rng, bytes.len() - synced + 1)),
            1 => {
                for sector in 0..bytes.len().div_ceil(512) {
                    let (start, end) = ((sector * 512).max(synced), ((sector + 1) * 512).min(bytes.len()));
                    if start < end && below(rng, 2) == 0 {
                        torn[start..end].fill(0);
                    }
                }
            }
            2 => torn[synced..].fill(0),
            _ => {
                let cut = synced + below(rng, bytes.len() - synced + 1);
                torn[cut..].fill(0);
                torn.truncate(cut + below(rng, bytes.len() - cut + 1));
            }
        }
        torn
    }

    #[test]
    fn ten_thousand_torn_tails_raise_no_alarm_and_leave_a_prefix() {
        let database = Database::new();
        for seed in 0..10_000u64 {
            let mut rng = seeded(seed);
            let (mut records, mut lasts, mut next) = (Vec::new(), vec![0], 1);
            for _ in 0..2 + below(&mut rng, 30) {
                let count = 1 + below(&mut rng, 4) as u32;
                let large = below(&mut rng, 20) == 0;
                records.push(batch(next, count, below(&mut rng, if large { 70_000 } else { 900 })));
                next += u64::from(count);
                lasts.push(next - 1);
            }
            // Some of the log is synced, up to the end of a record: the making of the store, at the least.
            let synced = 1 + below(&mut rng, records.len());
            let whole = encode_log(&records);
            let synced_bytes = ends(&records)[synced - 1];
            database.write(4, &tear(&whole, synced_bytes, &mut rng));
            // The mark may lag behind the sync.
            let mark = lasts[1 + below(&mut rng, synced)];
            let torn = database.check(mark).unwrap_or_else(|error| panic!("seed {seed}: false alarm: {error}"));
            torn.cut().expect("cut");
            let left = std::fs::read(database.log(4)).expect("read");
            assert!(left.len() >= synced_bytes, "seed {seed}: what was synced is cut off");
            assert!(whole.starts_with(&left), "seed {seed}: what is left is no prefix");
            assert_eq!(database.check(mark).expect("whole"), TornTail::default(), "seed {seed}");
        }
    }

    #[test]
    fn each_flipped_bit_before_the_mark_is_damage() {
        let database = Database::new();
        let records: Vec<_> = (0..20).map(|n| batch(1 + n * 3, 3, 37 * (n as usize % 5))).collect();
        let whole = encode_log(&records);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            database.write(4, &flipped);
            let error = database.check(60).expect_err("a flipped bit is no torn tail").to_string();
            assert!(error.contains("000004.log at offset"), "bit {bit}: {error}");
            assert_eq!(std::fs::read(database.log(4)).expect("read"), flipped, "a damaged log is left as it is");
        }
    }

    #[test]
    fn a_log_cut_off_zeroed_or_put_back_is_damage_also_at_the_end_of_a_record() {
        let database = Database::new();
        let records: Vec<_> = (0..50).map(|n| batch(1 + n, 1, 100)).collect();
        let whole = encode_log(&records);
        database.write(4, &whole);
        assert_eq!(database.check(50).expect("whole"), TornTail::default());
        for (index, end) in ends(&records).into_iter().enumerate().take(49) {
            for tail in [0, 600] {
                database.write(4, &[&whole[..end], &vec![0; tail]].concat());
                let error = database.check(50).expect_err("acknowledged writes are gone").to_string();
                assert!(error.contains(&format!("at offset {end}")), "{error}");
                assert!(database.check(index as u64 + 1).is_ok(), "what comes after the mark may go");
            }
        }
        std::fs::remove_file(database.log(4)).expect("remove");
        assert!(matches!(database.check(50), Err(Error::Corruption(_))));
    }

    #[test]
    fn a_hole_between_logs_is_damage_before_the_mark_and_is_closed_behind_it() {
        let database = Database::new();
        let first: Vec<_> = (0..5).map(|n| batch(1 + n, 1, 40)).collect();
        let second: Vec<_> = (0..5).map(|n| batch(6 + n, 1, 40)).collect();
        database.write(4, &encode_log(&first[..3]));
        database.write(5, &encode_log(&second));
        assert!(matches!(database.check(4), Err(Error::Corruption(_))));
        assert!(matches!(database.check_without_mark(), Err(Error::Corruption(_))));
        let torn = database.check(3).expect("a hole behind the mark");
        assert!(torn.must_be_harmless().is_err());
        torn.cut().expect("cut");
        assert_eq!(std::fs::read(database.log(4)).expect("read"), encode_log(&first[..3]));
        assert_eq!(std::fs::read(database.log(5)).expect("read"), b"");
    }

    /// A write that fails for want of space leaves part of a record; RocksDB goes on in a new log.
    #[test]
    fn a_failed_write_in_an_older_log_hides_nothing_that_follows() {
        let database = Database::new();
        let mut first = encode_log(&(0..3).map(|n| batch(1 + n, 1, 40)).collect::<Vec<_>>());
        let whole = first.len();
        first.extend_from_slice(&encode_log(&[batch(4, 1, 300)])[..100]);
        let second = encode_log(&[batch(4, 2, 40), batch(6, 1, 40)]);
        database.write(4, &first);
        database.write(5, &second);
        database.check(6).expect("nothing is missing").cut().expect("cut");
        assert_eq!(std::fs::read(database.log(4)).expect("read").len(), whole);
        assert_eq!(std::fs::read(database.log(5)).expect("read"), second);
        assert_eq!(database.check(6).expect("whole"), TornTail::default());
    }

    #[test]
    fn logs_that_are_not_needed_any_more_may_hold_anything() {
        let database = Database::new();
        database.write(2, &[0x55; 3000]);
        database.write(4, &encode_log(&[batch(1, 1, 10)]));
        assert_eq!(database.check(1).expect("whole"), TornTail::default());
    }

    #[test]
    fn without_a_mark_a_whole_record_behind_a_bad_one_is_damage() {
        let database = Database::new();
        let mut whole = encode_log(&(0..5).map(|n| batch(1 + n, 1, 40)).collect::<Vec<_>>());
        let len = whole.len();
        whole[len - 1] ^= 1;
        database.write(4, &whole);
        assert!(database.check_without_mark().is_ok(), "the last record is torn");
        whole[20] ^= 1;
        database.write(4, &whole);
        assert!(matches!(database.check_without_mark(), Err(Error::Corruption(_))));
    }

    #[test]
    fn the_manifest_is_whole_up_to_the_mark() {
        let database = Database::new();
        let path = database.dir.path().join("MANIFEST-000003");
        let records: Vec<_> = (0..20u8).map(|n| vec![3, n]).collect();
        let (whole, ends) = (encode_log(&records), ends(&records));
        let check = |bytes: &[u8], synced: usize| {
            std::fs::write(&path, bytes).expect("write");
            check(database.dir.path(), Some(&Mark { manifest: 3, manifest_bytes: synced as u64, ..Mark::default() }))
        };
        for (index, &end) in ends.iter().enumerate() {
            assert!(check(&whole[..end], end).is_ok());
            assert!(check(&whole[..end - 1], end).is_err(), "a byte is missing");
            assert!(index == 0 || check(&whole[..ends[index - 1]], end).is_err(), "a record is missing");
            let mut flipped = whole.clone();
            flipped[end - 3] ^= 4;
            assert!(check(&flipped, end).is_err());
            let torn = check(&flipped, end - 9).expect("behind the mark");
            torn.cut().expect("cut");
            assert_eq!(std::fs::read(&path).expect("read").len(), end - 9);
        }
        let newer = Mark { manifest: 7, ..Mark::default() };
        let error = super::check(database.dir.path(), Some(&newer)).expect_err("an old CURRENT").to_string();
        assert!(error.contains("MANIFEST-000007 was in use"), "{error}");
    }
}
