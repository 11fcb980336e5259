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
//! Each batch is written to the log first, and then to RocksDB's memory tables, both under one lock: the two orders are
//! the same. With it goes one more row, which says where in the log the batch ends ([`APPLIED_KEY`]). RocksDB writes the
//! memory tables of all families to files as one (`atomic_flush`), so what it has after a crash is everything up to some
//! batch, and nothing after it; the row says which. From there on the log is replayed, exactly once (`Rocks::open`), also
//! when RocksDB was ahead of what was synced of the log.
//!
//! Segments that hold only what RocksDB has in files are written over, or removed at rest.
//!
//! # When a write fails
//!
//! A record that cannot be written leaves the position where it was: the next one is written over it. When RocksDB refuses
//! a batch that is in the log (its own files may be out of space), the record is made void, on disk, before anybody is
//! told.

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
    /// What a sync is to sync: the segment that is being written, and before it those that were left unsynced.
    unsynced: Mutex<SmallVec<[Arc<File>; 2]>>,
    end: AtomicU64,
}

struct Writer {
    /// Oldest first; the last is being written.
    segments: VecDeque<Segment>,
    /// Where the next record goes.
    end: u64,
}

struct Segment {
    head: Head,
    file: Arc<File>,
    /// So much of the file has been written before.
    filled: u64,
    /// How far it may be filled.
    capacity: u64,
}

/// The right to write: what is written is in RocksDB, or void, before it is given up.
pub(crate) struct LogWriter<'a> {
    log: &'a Log,
    writer: MutexGuard<'a, Writer>,
}

/// A record in the log.
pub(crate) struct Written {
    position: u64,
    len: usize,
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
            writer: Mutex::new(Writer { segments: VecDeque::new(), end }),
            unsynced: Mutex::default(),
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
        let files = self.unsynced.lock().clone();
        for file in &files {
            file.sync_data().map_err(failure)?;
        }
        if files.len() > 1 {
            // All but the newest are complete, and need no other sync.
            let synced = &files[..files.len() - 1];
            self.unsynced.lock().retain(|file| !synced.iter().any(|synced| Arc::ptr_eq(synced, file)));
        }
        Ok(())
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
                self.unsynced.lock().retain(|file| !Arc::ptr_eq(file, &gone.file));
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
    ) -> Result<Written> {
        let position = self.writer.end;
        rows.put(meta, APPLIED_KEY, &position.to_le_bytes());
        let len = rows.payload().len();
        let needed = record_bytes(len) as u64;
        let end = position + needed;
        rows.set_last_value(&end.to_le_bytes());
        let has_room = |segment: &Segment| segment.offset(position) + needed <= segment.capacity;
        if !self.writer.segments.back().is_some_and(has_room) {
            self.begin_segment(needed, persisted()?)?;
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
        Ok(Written { position, len })
    }

    /// Makes a record void that was just written, durably.
    pub(crate) fn take_back(&mut self, written: &Written) -> Result<()> {
        let Some(segment) = self.writer.segments.back() else {
            return Err(Error::io("a log without a segment"));
        };
        let head = segment.head.void_head(written.position, written.len);
        segment.file.write_all_at(&head, segment.offset(written.position)).map_err(failure)?;
        segment.file.sync_data().map_err(failure)
    }

    /// Begins the next segment: in the file of the oldest one, if that is needed no more, else in a new file.
    fn begin_segment(&mut self, needed: u64, persisted: u64) -> Result<()> {
        let (log, start) = (self.log, self.writer.end);
        let head = Head { salt: Uuid::new_v4().as_u64_pair().1, start };
        let capacity = log.segment_bytes.max(HEAD_BYTES + needed);
        let path = segment_path(&log.directory, start);
        let is_over = self.writer.segments.get(1).is_some_and(|next| next.head.start <= persisted);
        let fits = self.writer.segments.front().is_some_and(|first| first.capacity >= capacity);
        let old = if is_over && fits { self.writer.segments.pop_front() } else { None };
        let segment = match old {
            Some(old) => {
                let old_path = segment_path(&log.directory, old.head.start);
                fs::rename(&old_path, &path).map_err(|error| describe(&old_path, error))?;
                log.unsynced.lock().retain(|file| !Arc::ptr_eq(file, &old.file));
                Segment { head, ..old }
            }
            None => {
                match fs::create_dir(&log.directory) {
                    Ok(()) => sync_directory(log.directory.parent().unwrap_or(Path::new(".")))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(describe(&log.directory, error)),
                }
                let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
                let file = Arc::new(file.map_err(|error| describe(&path, error))?);
                Segment { head, file, filled: 0, capacity }
            }
        };
        let begin = |mut segment: Segment| {
            segment.fill(HEAD_BYTES)?;
            segment.file.write_all_at(&head.encode(), 0).map_err(failure)?;
            sync_directory(&log.directory)?;
            Ok(segment)
        };
        match begin(segment) {
            Ok(segment) => {
                log.unsynced.lock().push(Arc::clone(&segment.file));
                self.writer.segments.push_back(segment);
                Ok(())
            }
            Err(error) => {
                // It was not used. Where it cannot be removed, it is found to be empty.
                let _ = fs::remove_file(&path);
                Err(error)
            }
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

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| describe(directory, error))
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
            let mut rows = Rows::default();
            rows.put(&self.meta, b"key", &vec![7; bytes]);
            log.writer().append(&mut rows, &self.meta, || Ok(persisted)).expect("append");
            rows.payload().to_vec()
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

    #[test]
    fn what_is_taken_back_does_not_come_back() {
        let fixture = Fixture::new();
        let log = fixture.log(0);
        let first = fixture.write(&log, 10, 0);
        let mut rows = Rows::default();
        rows.put(&fixture.meta, b"key", b"refused");
        let mut writer = log.writer();
        let written = writer.append(&mut rows, &fixture.meta, || Ok(0)).expect("append");
        writer.take_back(&written).expect("take back");
        drop(writer);
        let last = fixture.write(&log, 10, 0);
        assert_eq!(fixture.read(0), (vec![first, last], log.end()));
    }

    /// A segment that cannot be begun is tried again with the next write.
    #[test]
    fn a_log_without_room_for_its_directory_says_so_and_goes_on_later() {
        let fixture = Fixture::new();
        fs::write(fixture.path(), "in the way").expect("write");
        let log = fixture.log(0);
        let mut rows = Rows::default();
        rows.put(&fixture.meta, b"key", b"value");
        let error = log.writer().append(&mut rows, &fixture.meta, || Ok(0)).map(drop).expect_err("no directory");
        assert!(error.to_string().contains("log"), "{error}");
        fs::remove_file(fixture.path()).expect("remove");
        let written = fixture.write(&log, 10, 0);
        assert_eq!(fixture.read(0), (vec![written], log.end()));
    }
}
