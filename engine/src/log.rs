//! The log: what makes a write durable long before RocksDB has it in a file. Owns the segments that are being written,
//! their syncs, and when they go; what their bytes mean is `segment`'s, what is written `rows`'s.
//!
//! # Why a log of our own
//!
//! RocksDB has one, and it is not used: all its writes are done without. Three things made us write this.
//!
//! * *A sync is cheaper.* RocksDB appends to a file that grows, so each sync has the file system also write down how long
//!   the file is now, and where. Writing over what is there already needs two thirds of that time. RocksDB can write over
//!   old logs (`recycle_log_file_num`), but only when it has old ones, and its own tests of crashes leave that out.
//! * *A torn end is told from damage.* What is a record here is certain (`segment`), and how far the log was on disk is
//!   known from elsewhere (`durable`). RocksDB takes a damaged record for the end of its log, without a word, and goes
//!   round for ever at a certain flipped bit.
//! * *What a crash leaves is a prefix.* Where a log ends, it ends: nothing behind a record that is not whole is replayed.
//!
//! # What RocksDB has, and what not
//!
//! Each batch is written to the log first, and comes to RocksDB's memory tables later, in the same order (`backlog`). With
//! it goes one more row, which says where in the log the batch ends ([`APPLIED_KEY`]). RocksDB writes the
//! memory tables of all families to files as one (`atomic_flush`), so what it has after a crash is everything up to some
//! batch, and nothing after it; the row says which. From there on the log is replayed, exactly once (`Rocks::open`), also
//! when RocksDB was ahead of what was synced of the log.
//!
//! Segments that hold only what RocksDB has in files are written over, or removed at rest.
//!
//! # When a write fails
//!
//! A record that cannot be written leaves the position where it was: the next one is written over it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::directory::describe;
use crate::encoding::APPLIED_KEY;
use crate::error::{Error, Result};
use crate::rows::{RowTypes, Rows};
use crate::segment::{self, HEAD_BYTES, Head, record_bytes, segment_path};

/// The directory of the log, beside the database's.
pub(crate) const LOG_DIR: &str = "log";

/// A segment has at least this much room; a batch that needs more gets one of its own size.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// A new file is filled with zeros in steps of this size, shortly before they are written over.
const FILL_BYTES: u64 = 1 << 20;
/// And by writes of this size: the operating system keeps in one piece what is written in one, and counts all of that as
/// written again with each record.
const PAGE_BYTES: u64 = 4096;

/// The log of a store that is open for writing.
pub(crate) struct Log {
    directory: PathBuf,
    segment_bytes: u64,
    writer: Mutex<Writer>,
    /// What a sync is to sync, by where it begins: the segment that is being written, and before it those that were left
    /// unsynced. A file that is written over is another segment, also to a sync that has begun with the old one.
    unsynced: Mutex<Unsynced>,
    /// Held during a sync.
    syncing: Mutex<Syncing>,
    /// Segments that were begun. The name of one is synced with what is in it: to sync it at once would have all writers
    /// wait for it.
    begun: AtomicU64,
    end: AtomicU64,
}

#[derive(Default)]
struct Syncing {
    /// So many of the segments that were begun have their names on disk.
    named: u64,
    /// Why a sync failed, if one did: nothing is called synced after that. The operating system tells of what it has lost
    /// once, to whoever syncs first, and whoever comes next finds nothing wrong.
    failed: Option<String>,
}

/// Segments, by where they begin.
type Unsynced = SmallVec<[(u64, Arc<File>); 2]>;

struct Writer {
    /// Oldest first; the last is being written.
    segments: VecDeque<Segment>,
    /// Where the next record goes.
    end: u64,
    /// The next record begins a segment: one was begun at this very position, and given up. A crash may leave it, and
    /// whoever reads the log looks for what comes here in it.
    must_begin: bool,
    /// The directory is there, and on disk.
    has_directory: bool,
}

struct Segment {
    head: Head,
    file: Arc<File>,
    /// So much of the file has been written before.
    filled: u64,
    /// How far it may be filled.
    capacity: u64,
}

/// The right to write: what is written is in the backlog before it is given up.
pub(crate) struct LogWriter<'a> {
    log: &'a Log,
    writer: MutexGuard<'a, Writer>,
}

impl Log {
    /// An empty log in `directory` that goes on at position `end`. Whatever was there before is not looked at any more
    /// and must be gone.
    pub(crate) fn new(directory: PathBuf, write_buffer_bytes: usize, end: u64) -> Log {
        // A few for each flush, so that space comes back in steps.
        let segment_bytes = (write_buffer_bytes as u64 / 4).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        Log {
            directory,
            segment_bytes,
            writer: Mutex::new(Writer { segments: VecDeque::new(), end, must_begin: false, has_directory: false }),
            unsynced: Mutex::default(),
            syncing: Mutex::default(),
            begun: AtomicU64::new(0),
            end: AtomicU64::new(end),
        }
    }

    /// Where the newest record ends.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::SeqCst)
    }

    /// Waits for the right to write.
    pub(crate) fn writer(&self) -> LogWriter<'_> {
        LogWriter { log: self, writer: self.writer.lock() }
    }

    /// Everything that was written before this call is on disk on return.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut syncing = self.syncing.lock();
        let files = self.unsynced.lock().clone();
        // Asked afterwards: the names of all these files are among them.
        let begun = self.begun.load(Ordering::SeqCst);
        if begun > syncing.named {
            syncing.run(|| sync_directory(&self.directory))?;
            syncing.named = begun;
        }
        for (_, file) in &files {
            syncing.run(|| file.sync_data().map_err(Error::io))?;
        }
        self.note_synced(&files);
        Ok(())
    }

    /// Takes those that need no other sync out of what is to be synced: all but the newest are complete.
    fn note_synced(&self, files: &[(u64, Arc<File>)]) {
        if let [complete @ .., _] = files
            && !complete.is_empty()
        {
            self.unsynced.lock().retain(|(start, _)| complete.iter().all(|(synced, _)| synced != start));
        }
    }

    /// Removes the segments that hold nothing behind `persisted`: with `all` also the one that is being written, if
    /// nothing behind it was written.
    pub(crate) fn drop_before(&self, persisted: u64, all: bool) -> Result<()> {
        let mut writer = self.writer.lock();
        let mut any = false;
        while let Some(first) = writer.segments.front() {
            let end = match writer.segments.get(1) {
                Some(next) => next.head.start,
                None if all => writer.end,
                None => break,
            };
            if end > persisted {
                break;
            }
            let path = segment_path(&self.directory, first.head.start);
            fs::remove_file(&path).map_err(|error| describe(&path, error))?;
            if let Some(gone) = writer.segments.pop_front() {
                self.unsynced.lock().retain(|(start, _)| *start != gone.head.start);
            }
            any = true;
        }
        if any { sync_directory(&self.directory) } else { Ok(()) }
    }
}

/// Removes all segments of a log that is needed no more, durably.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    let segments = segment::segments(directory)?;
    for (_, path) in &segments {
        fs::remove_file(path).map_err(|error| describe(path, error))?;
    }
    if segments.is_empty() { Ok(()) } else { sync_directory(directory) }
}

impl LogWriter<'_> {
    /// Writes rows as one record, not synced, together with the row that says where it ends. `persisted` says up to where
    /// RocksDB has everything in files; it is asked now and then.
    pub(crate) fn append(
        &mut self,
        rows: &mut Rows,
        meta: &RowTypes,
        persisted: impl FnOnce() -> Result<u64>,
    ) -> Result<()> {
        let position = self.writer.end;
        rows.put(meta, APPLIED_KEY, &position.to_le_bytes());
        let needed = record_bytes(rows.payload().len()) as u64;
        let end = position + needed;
        rows.set_last_value(&end.to_le_bytes());
        let has_room = |segment: &Segment| segment.offset(position) + needed <= segment.capacity;
        if self.writer.must_begin || !self.writer.segments.back().is_some_and(has_room) {
            let persisted = persisted()?;
            self.writer.must_begin = true;
            self.begin_segment(needed, persisted)?;
            self.writer.must_begin = false;
        }
        let Some(segment) = self.writer.segments.back_mut() else {
            return Err(Error::io("a log without a segment"));
        };
        let offset = segment.offset(position);
        segment.fill(offset + needed)?;
        let head = segment.head.record_head(position, rows.payload());
        segment.file.write_all_at(rows.record(head), offset).map_err(failure)?;
        self.writer.end = end;
        self.log.end.store(end, Ordering::SeqCst);
        Ok(())
    }

    /// Begins the next segment: in the file of the oldest one, if that is needed no more, else in a new file.
    fn begin_segment(&mut self, needed: u64, persisted: u64) -> Result<()> {
        let (log, start) = (self.log, self.writer.end);
        let head = Head { salt: Uuid::new_v4().as_u64_pair().1, start };
        let capacity = log.segment_bytes.max(HEAD_BYTES + needed);
        let path = segment_path(&log.directory, start);
        let segment = match self.take_needless(persisted, capacity)? {
            Some(old) => {
                let old_path = segment_path(&log.directory, old.head.start);
                if let Err(error) = fs::rename(&old_path, &path) {
                    self.writer.segments.push_front(old);
                    return Err(describe(&old_path, error));
                }
                log.unsynced.lock().retain(|(start, _)| *start != old.head.start);
                Segment { head, ..old }
            }
            None => {
                if !self.writer.has_directory {
                    self.make_directory()?;
                }
                let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
                let file = Arc::new(file.map_err(|error| describe(&path, error))?);
                Segment { head, file, filled: 0, capacity }
            }
        };
        let begin = |mut segment: Segment| {
            segment.fill(HEAD_BYTES)?;
            segment.file.write_all_at(&head.encode(), 0).map_err(failure)?;
            Ok(segment)
        };
        match begin(segment) {
            Ok(segment) => {
                log.begun.fetch_add(1, Ordering::SeqCst);
                log.unsynced.lock().push((start, Arc::clone(&segment.file)));
                self.writer.segments.push_back(segment);
                self.writer.has_directory = true;
                Ok(())
            }
            Err(error) => {
                // It was not used, and will be before anything else is written (`must_begin`).
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Takes the oldest segment that is needed no more and has this much room. Those before it, which are too small, are
    /// removed: nobody would write over them, nor over what comes after them.
    fn take_needless(&mut self, persisted: u64, capacity: u64) -> Result<Option<Segment>> {
        loop {
            let is_over = self.writer.segments.get(1).is_some_and(|next| next.head.start <= persisted);
            let first = if is_over { self.writer.segments.pop_front() } else { None };
            let Some(first) = first else { return Ok(None) };
            if first.capacity >= capacity {
                return Ok(Some(first));
            }
            let (start, path) = (first.head.start, segment_path(&self.log.directory, first.head.start));
            if let Err(error) = fs::remove_file(&path) {
                self.writer.segments.push_front(first);
                return Err(describe(&path, error));
            }
            self.log.unsynced.lock().retain(|(unsynced, _)| *unsynced != start);
        }
    }

    /// Sees to it that the directory is there. One that is there may be of somebody who did not live to sync it.
    fn make_directory(&self) -> Result<()> {
        let directory = &self.log.directory;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(describe(directory, error)),
            _ => sync_directory(directory.parent().unwrap_or(Path::new("."))),
        }
    }
}

impl Segment {
    fn offset(&self, position: u64) -> u64 {
        HEAD_BYTES + (position - self.head.start)
    }

    /// Sees to it that the file has bytes up to `end`, which are not those of records.
    fn fill(&mut self, end: u64) -> Result<()> {
        if end > self.filled {
            let to = end.next_multiple_of(FILL_BYTES).min(self.capacity.max(end));
            let zeros = [0; PAGE_BYTES as usize];
            while self.filled < to {
                let page = &zeros[..(to - self.filled).min(PAGE_BYTES) as usize];
                self.file.write_all_at(page, self.filled).map_err(failure)?;
                self.filled += page.len() as u64;
            }
        }
        Ok(())
    }
}

impl Syncing {
    /// Runs a sync, unless one failed before.
    fn run(&mut self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(because) = &self.failed {
            return Err(Error::io(format!("an earlier sync failed: {because}")));
        }
        sync().inspect_err(|error| self.failed = Some(error.to_string()))
    }
}

/// No failure of a sync is taken for a full disk: of a full disk it is known what is on it.
fn sync_directory(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Error::io(format!("{}: {error}", directory.display())))
}

fn failure(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(error.into()),
        _ => Error::io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocksdb::{DB, Options};

    struct Fixture {
        dir: tempfile::TempDir,
        meta: RowTypes,
    }

    impl Fixture {
        fn new() -> Fixture {
            let dir = tempfile::tempdir().expect("temporary directory");
            let mut options = Options::default();
            options.create_if_missing(true);
            let name = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
            let db = DB::open_cf(&options, dir.path().join("rocksdb"), [name]).expect("open");
            let meta = RowTypes::learn(db.cf_handle(name).expect("family"));
            Fixture { dir, meta }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("log")
        }

        fn log(&self, end: u64) -> Log {
            Log::new(self.path(), 0, end)
        }

        /// Writes a row of so many bytes; returns the batch.
        fn write(&self, log: &Log, bytes: usize, persisted: u64) -> Vec<u8> {
            self.try_write(log, bytes, persisted).expect("append")
        }

        fn try_write(&self, log: &Log, bytes: usize, persisted: u64) -> Result<Vec<u8>> {
            let mut rows = Rows::default();
            rows.put(&self.meta, b"key", &vec![7; bytes]);
            log.writer().append(&mut rows, &self.meta, || Ok(persisted))?;
            Ok(rows.payload().to_vec())
        }

        fn read(&self, from: u64) -> (Vec<Vec<u8>>, u64) {
            let mut records = Vec::new();
            let end = segment::read(&self.path(), from, |payload| {
                records.push(payload.to_vec());
                Ok(())
            });
            (records, end.expect("read").position)
        }

        fn files(&self) -> usize {
            segment::segments(&self.path()).expect("list").len()
        }
    }

    #[test]
    fn what_is_written_is_read_also_when_it_is_larger_than_a_segment() {
        let fixture = Fixture::new();
        let log = fixture.log(4000);
        let sizes = [1, 100, 60_000, 60_000, 3_000_000, 5, 70_000];
        let written: Vec<_> = sizes.iter().map(|&bytes| fixture.write(&log, bytes, 0)).collect();
        log.sync().expect("sync");
        assert_eq!(fixture.read(4000), (written, log.end()));
        assert_eq!(log.unsynced.lock().len(), 1, "what is complete and synced is not synced again");
    }

    #[test]
    fn segments_are_written_over_when_they_are_needed_no_more_and_never_before() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        let mut written: Vec<_> = (0..40).map(|_| fixture.write(&log, 9_000, 0)).collect();
        let files = fixture.files();
        assert!(files > 4, "{files}");
        let middle = log.end();
        written.extend((0..40).map(|_| fixture.write(&log, 9_000, middle)));
        assert!(fixture.files() <= files + 1, "{} files after {files}", fixture.files());
        let (left, end) = fixture.read(middle);
        assert_eq!((&left[..], end), (&written[40..], log.end()));
        log.drop_before(log.end(), false).expect("drop");
        assert_eq!(fixture.files(), 1);
        let last = fixture.write(&log, 10, 0);
        assert_eq!(fixture.read(end), (vec![last], log.end()));
        log.drop_before(log.end() - 8, true).expect("drop");
        assert_eq!(fixture.files(), 1, "it has a record that is needed");
        log.drop_before(log.end(), true).expect("drop");
        assert_eq!(fixture.files(), 0);
        let from = log.end();
        let last = fixture.write(&log, 10, 0);
        assert_eq!(fixture.read(from), (vec![last], log.end()));
    }

    /// What was too small for a larger batch was written over no more, nor was anything after it: the log grew with each.
    #[test]
    fn segments_that_are_too_small_for_what_comes_do_not_pile_up() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        for bytes in [9_000, 100_000, 9_000, 200_000, 9_000] {
            let mut last = Vec::new();
            for _ in 0..40 {
                let persisted = log.end();
                last = vec![fixture.write(&log, bytes, persisted)];
            }
            assert!(fixture.files() <= 3, "{} files at {bytes} bytes", fixture.files());
            let from = log.end() - segment::record_bytes(last[0].len()) as u64;
            assert_eq!(fixture.read(from), (last, log.end()));
        }
        log.sync().expect("sync");
        assert!(log.unsynced.lock().len() <= 1);
    }

    /// It was taken out of what is to be synced with the segment that its file had been before: what was written to it was
    /// acknowledged unsynced.
    #[test]
    fn a_segment_that_is_written_over_during_a_sync_is_synced_all_the_same() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        while fixture.files() < 2 {
            fixture.write(&log, 9_000, 0);
        }
        let syncing = log.unsynced.lock().clone();
        let newest = || log.writer().writer.segments.back().map_or(0, |segment| segment.head.start);
        while newest() == syncing[1].0 {
            fixture.write(&log, 9_000, log.end());
        }
        assert!(Arc::ptr_eq(&log.unsynced.lock()[1].1, &syncing[0].1), "the file of the first is written over");
        log.note_synced(&syncing);
        assert!(log.unsynced.lock().iter().any(|(start, _)| *start == newest()), "nobody syncs it any more");
    }

    /// The operating system tells of it once; whoever synced next was told that all was well.
    #[test]
    fn after_a_failed_sync_nothing_is_called_synced() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        fixture.write(&log, 10, 0);
        log.sync().expect("sync");
        let (unsyncable, _other_end) = io::pipe().expect("a pipe");
        log.unsynced.lock().insert(0, (7, File::from(std::os::fd::OwnedFd::from(unsyncable)).into()));
        let first = log.sync().expect_err("no file").to_string();
        log.unsynced.lock().remove(0);
        let error = log.sync().expect_err("nobody knows what is on disk").to_string();
        assert!(error.contains("an earlier sync failed") && error.contains(&first[first.len() - 10..]), "{error}");
    }

    /// A segment could not be begun, for want of space; what was small enough went on in the one before. A crash that left
    /// the file that had been given up hid it.
    #[test]
    fn what_a_crash_leaves_of_a_segment_that_was_given_up_hides_nothing() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        let first = fixture.write(&log, 10, 0);
        let given_up = segment_path(&fixture.path(), log.end());
        fs::create_dir(&given_up).expect("create");
        fixture.try_write(&log, 1 << 20, 0).expect_err("something is in the way");
        fs::remove_dir(&given_up).expect("remove");
        let last = fixture.write(&log, 10, 0);
        drop(OpenOptions::new().append(true).create(true).open(&given_up).expect("as a crash may leave it"));
        assert_eq!(fixture.read(0), (vec![first, last], log.end()));
    }

    /// It was forgotten, and left there when the store was closed.
    #[test]
    fn a_segment_that_cannot_be_written_over_is_not_forgotten() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        while fixture.files() < 2 {
            fixture.write(&log, 9_000, 0);
        }
        let persisted = log.end();
        let in_the_way = segment_path(&fixture.path(), persisted);
        fs::create_dir(&in_the_way).expect("create");
        fixture.try_write(&log, 60_000, persisted).expect_err("it cannot be renamed");
        fs::remove_dir(&in_the_way).expect("remove");
        let last = fixture.write(&log, 60_000, persisted);
        assert_eq!(fixture.read(persisted), (vec![last], log.end()));
        assert_eq!(fixture.files(), 2);
        log.drop_before(log.end(), true).expect("drop");
        assert_eq!(fixture.files(), 0);
    }

    /// A segment that cannot be begun is tried again with the next write.
    #[test]
    fn a_log_without_room_for_its_directory_says_so_and_goes_on_later() {
        let fixture = Fixture::new();
        fs::write(fixture.path(), "in the way").expect("write");
        let log = fixture.log(0);
        let error = fixture.try_write(&log, 10, 0).expect_err("no directory");
        assert!(error.to_string().contains("log"), "{error}");
        fs::remove_file(fixture.path()).expect("remove");
        let written = fixture.write(&log, 10, 0);
        assert_eq!(fixture.read(0), (vec![written], log.end()));
    }
}
