//! The durable mark: what the store knows to be on disk, noted outside the log. Owns the file `DURABLE` and the thread
//! that syncs it; never syncs a log.
//!
//! # Why
//!
//! A log that was cut off at the end of a record, overwritten by zeros, or replaced by an older copy of itself is a
//! good log: nothing in it tells that acknowledged commits are gone. So what has been synced is noted in a file of its
//! own, and held against what is found when the store is opened.
//!
//! # What it costs, and what it can do for that
//!
//! A second sync for each group of commits would halve the speed of a lone writer. Instead, after a group's sync its
//! last sequence is written over a fixed place in the file, without a sync: a copy of 64 bytes into a page that the
//! operating system has in memory. A thread syncs the file at most [`LAG`] later, and not at all while nothing is
//! written. From this follows what the mark says:
//!
//! * *It is never ahead.* It is written after the log's sync has succeeded, so whatever of it reaches the disk, and
//!   whenever, is true.
//! * *After a clean close, and after the death of the process alone, it is exact:* the operating system has it.
//! * *After a power cut it may be behind* by what was committed in the last [`LAG`] and one sync. Damage to just that
//!   part of a log, on top of a power cut, can pass for a torn tail.
//!
//! The file is a page of eight slots, each in a sector of its own with a checksum, written in turn. A power cut can
//! tear those that were being written; the newest slot that is whole counts, and each is true. When none is whole the
//! file is damaged and the store is not opened. A store without the file (made by other means, or copied without it)
//! is opened, and gets one.
//!
//! ```text
//! slot n, at byte 512 * n:
//! +----------+------------+--------+--------+----------+----------------+------------------+
//! | "edbmark"| generation | commit | log    | manifest | manifest bytes | CRC-32C of these |
//! | 01       | u64 LE     | u64 LE | u64 LE | u64 LE   | u64 LE         | u32 LE           |
//! +----------+------------+--------+--------+----------+----------------+------------------+
//! ```
//!
//! `commit`: the newest commit that is on disk. `log`: the position up to which the log is, which also covers what is no
//! commit, as the making of a collection; 0 where it is not known, as beside a copy. `manifest`, `manifest bytes`: the
//! number of a `MANIFEST` that was in use, and up to where it was synced.
//!
//! # Rejected
//!
//! * *Each log record naming the end of the one before* tells a damaged middle, not a missing end.
//! * *A mark at the end of the log*, moved with each write, would be a second place to write to before each sync.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::CommitSeq;
use crate::directory::describe;
use crate::error::{Error, Result};
use crate::manifest::{self, manifest_number};
use crate::manifest_format::{LogReader, Step};
use crate::rocks::Rocks;
use crate::segment::End;

/// The name of the file, in the store's directory.
pub(crate) const DURABLE_FILE: &str = "DURABLE";

/// How long after it is written a mark may be off the disk, besides the time of its own sync.
const LAG: Duration = Duration::from_millis(100);

const MAGIC: &[u8; 8] = b"edbmark\x01";
const SLOTS: u64 = 8;
const SECTOR_BYTES: u64 = 512;
const FIELDS_BYTES: usize = 8 + 5 * 8;

/// What is known to be on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The newest commit.
    pub(crate) commit: u64,
    /// The position in the log up to which it is.
    pub(crate) log: u64,
    /// The number of a `MANIFEST` that was in use, and how many bytes of it, all of them in whole records.
    pub(crate) manifest: u64,
    pub(crate) manifest_bytes: u64,
}

impl Mark {
    fn encode(&self, generation: u64) -> [u8; FIELDS_BYTES + 4] {
        let mut slot = [0; FIELDS_BYTES + 4];
        slot[..8].copy_from_slice(MAGIC);
        let fields = [generation, self.commit, self.log, self.manifest, self.manifest_bytes];
        for (bytes, field) in slot[8..FIELDS_BYTES].chunks_exact_mut(8).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&slot[..FIELDS_BYTES]);
        slot[FIELDS_BYTES..].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    /// Generation and mark of a slot that is whole.
    fn decode(slot: &[u8]) -> Option<(u64, Mark)> {
        let (fields, crc) = slot.get(..FIELDS_BYTES + 4)?.split_at(FIELDS_BYTES);
        if !fields.starts_with(MAGIC) || crc != crc32c::crc32c(fields).to_le_bytes() {
            return None;
        }
        let mut fields = fields[8..].chunks_exact(8).map(|field| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(field);
            u64::from_le_bytes(bytes)
        });
        let mut field = || fields.next();
        let generation = field()?;
        let mark = Mark { commit: field()?, log: field()?, manifest: field()?, manifest_bytes: field()? };
        Some((generation, mark))
    }

    /// The newest mark of the store in directory `store`.
    fn read(store: &Path) -> Result<Option<(u64, Mark)>> {
        let path = store.join(DURABLE_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(describe(&path, error)),
        };
        let newest =
            bytes.chunks(SECTOR_BYTES as usize).filter_map(Mark::decode).max_by_key(|(generation, _)| *generation);
        newest.map(Some).ok_or_else(|| {
            Error::Corruption(format!(
                "{} at offset 0: no mark in it is whole; nothing was changed: put back the file as it was, or delete \
                 it to open the store without noticing whether its log has lost acknowledged commits",
                path.display()
            ))
        })
    }

    /// Refuses a store that has fewer commits than were acknowledged from it.
    fn check(&self, last_commit: u64, store: &Path) -> Result<()> {
        if last_commit >= self.commit {
            return Ok(());
        }
        Err(Error::Corruption(format!(
            "{}: commits {} to {} were acknowledged and are not in the log any more, which was cut off, overwritten or \
             replaced by an older one; restore a checkpoint, put back the files as they were, or, to go on without \
             those commits, delete {DURABLE_FILE} from the store's directory",
            store.display(),
            last_commit.saturating_add(1),
            self.commit
        )))
    }
}

/// The durable mark of an open store.
#[derive(Debug)]
pub(crate) struct Durable {
    store: PathBuf,
    database: PathBuf,
    found: Option<(u64, Mark)>,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    database: PathBuf,
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Debug)]
struct State {
    mark: Mark,
    generation: u64,
    unsynced: bool,
    stop: bool,
}

impl Durable {
    /// Reads the mark and checks the database in the directory `database` against it, before RocksDB sees it; with
    /// `write`, cuts off what a crash tore. `is_new`: nothing was ever acknowledged from this store.
    ///
    /// # Errors
    ///
    /// As [`manifest::check`]; [`Error::Invalid`] when a tail must be cut off and may not be.
    pub(crate) fn open(store: &Path, database: &Path, is_new: bool, write: bool) -> Result<Durable> {
        let mut durable = Durable { store: store.to_owned(), database: database.to_owned(), found: None, writer: None };
        if is_new {
            return Ok(durable);
        }
        durable.found = Mark::read(store)?;
        let torn = manifest::check(database, durable.found.as_ref().map(|(_, mark)| mark))?;
        if write {
            torn.cut()?;
        } else {
            torn.must_be_harmless()?;
        }
        Ok(durable)
    }

    /// Checks where the log ends.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] when it was on disk further than that.
    pub(crate) fn check_log(&self, end: &End) -> Result<()> {
        self.found.map_or(Ok(()), |(_, mark)| end.check(mark.log, DURABLE_FILE))
    }

    /// Checks what was recovered: its newest commit.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] when commits are missing that were acknowledged.
    pub(crate) fn check(&self, last_commit: u64) -> Result<()> {
        self.found.map_or(Ok(()), |(_, mark)| mark.check(last_commit, &self.store))
    }

    /// Begins to keep the mark of a store that is open for writing, all of whose state is on disk: its newest commit
    /// and where its log ends.
    pub(crate) fn begin(&mut self, commit: u64, log: u64) -> Result<()> {
        let (generation, mark) = self.found.unwrap_or_default();
        let mark = Mark { commit, log, manifest: 0, manifest_bytes: 0 }.with_manifest(&self.database, &mark);
        let file = match self.found {
            Some(_) => OpenOptions::new().write(true).open(self.store.join(DURABLE_FILE)),
            None => create(&self.store, &mark),
        };
        let file = file.map_err(|error| describe(&self.store.join(DURABLE_FILE), error))?;
        let state = State { mark, generation, unsynced: false, stop: false };
        let shared = Shared { file, database: self.database.clone(), state: Mutex::new(state), called: Condvar::new() };
        let shared = Arc::new(shared);
        shared.write(&mut shared.state.lock());
        shared.file.sync_data().map_err(|error| describe(&self.store.join(DURABLE_FILE), error))?;
        let thread = thread::Builder::new().name("etagdb-durable".into());
        let kept = Arc::clone(&shared);
        let thread = thread.spawn(move || kept.keep_synced()).map_err(Error::io)?;
        self.writer = Some(Writer { shared, thread: Some(thread) });
        Ok(())
    }

    /// Syncs the log, if there is anything to sync, and notes it; `visible` is the newest commit that is visible.
    pub(crate) fn sync(&self, rocks: &Rocks, visible: CommitSeq) -> Result<()> {
        // What was written before the sync began is on disk when it ends.
        let end = rocks.log_end();
        if !self.is_behind(end) {
            return Ok(());
        }
        rocks.sync()?;
        self.note(visible.get(), end);
        Ok(())
    }

    /// Whether something may have been written since the last sync.
    fn is_behind(&self, end: u64) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.shared.state.lock().mark.log < end)
    }

    /// Notes that the log is synced up to a commit and up to a position. Called after each sync.
    pub(crate) fn note(&self, commit: u64, log: u64) {
        let Some(writer) = &self.writer else { return };
        let mut state = writer.shared.state.lock();
        state.mark.commit = state.mark.commit.max(commit);
        state.mark.log = state.mark.log.max(log);
        writer.shared.write(&mut state);
        if !state.unsynced {
            state.unsynced = true;
            writer.shared.called.notify_one();
        }
    }
}

impl Drop for Durable {
    /// Syncs the last mark. RocksDB is closed by now, and its `MANIFEST` has its last length.
    fn drop(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        writer.shared.state.lock().stop = true;
        writer.shared.called.notify_one();
        if let Some(thread) = writer.thread.take() {
            let _ = thread.join();
        }
        writer.shared.sync();
    }
}

impl Shared {
    /// Writes the mark into the next slot. A mark that cannot be written makes the file say less, never something
    /// false, and the log's own sync has succeeded: nothing is to be done about it.
    fn write(&self, state: &mut State) {
        state.generation += 1;
        let slot = state.mark.encode(state.generation);
        let _ = self.file.write_all_at(&slot, state.generation % SLOTS * SECTOR_BYTES);
    }

    fn sync(&self) {
        let before = self.state.lock().mark;
        // Not under the lock, which writers wait for.
        let manifest = before.with_manifest(&self.database, &before);
        let mut state = self.state.lock();
        (state.mark.manifest, state.mark.manifest_bytes) = (manifest.manifest, manifest.manifest_bytes);
        self.write(&mut state);
        drop(state);
        let _ = self.file.sync_data();
    }

    fn keep_synced(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            if !state.unsynced {
                self.called.wait(&mut state);
                continue;
            }
            self.called.wait_for(&mut state, LAG);
            state.unsynced = false;
            drop(state);
            self.sync();
            state = self.state.lock();
        }
    }
}

impl Mark {
    /// This mark, with the `MANIFEST` that is in use now and the length to which it is on disk. `known`: an earlier
    /// one, from where its records need not be read again.
    fn with_manifest(self, database: &Path, known: &Mark) -> Mark {
        let read = || -> std::io::Result<Option<(u64, u64)>> {
            let Some(number) = manifest_number(&fs::read(database.join("CURRENT"))?) else { return Ok(None) };
            let path = database.join(format!("MANIFEST-{number:06}"));
            let from = if known.manifest == number { known.manifest_bytes } else { 0 };
            if fs::metadata(&path)?.len() == from {
                return Ok(Some((number, from)));
            }
            let mut reader = LogReader::open_at(&path, 0, from)?;
            while let Step::Record { .. } = reader.step()? {}
            // RocksDB syncs both, the file and the name that `CURRENT` has given it, but perhaps not yet.
            File::open(&path)?.sync_data()?;
            if known.manifest != number {
                File::open(database)?.sync_all()?;
            }
            Ok(Some((number, reader.whole())))
        };
        let (manifest, manifest_bytes) = read().ok().flatten().unwrap_or((known.manifest, known.manifest_bytes));
        Mark { manifest, manifest_bytes, ..self }
    }
}

/// Leaves a mark beside a copy of a database that is on disk, made by a checkpoint or a restore, so that a copy that has
/// lost commits by the time it is opened is noticed. The directory is synced by whoever makes the copy.
pub(crate) fn mark_copy(database: &Path, newest: CommitSeq) -> Result<()> {
    let store = database.parent().unwrap_or(database);
    let mark = Mark { commit: newest.get(), ..Mark::default() }.with_manifest(database, &Mark::default());
    create(store, &mark).map_err(|error| describe(&store.join(DURABLE_FILE), error)).map(drop)
}

/// Makes the file with a first mark in it, durably: under its own name it always holds one.
fn create(store: &Path, mark: &Mark) -> std::io::Result<File> {
    let (temporary, path) = (store.join("DURABLE.new"), store.join(DURABLE_FILE));
    let mut file = File::create(&temporary)?;
    // The whole page, so that writing to it later needs no space.
    let mut page = vec![0; (SLOTS * SECTOR_BYTES) as usize];
    page[..FIELDS_BYTES + 4].copy_from_slice(&mark.encode(0));
    file.write_all(&page)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(store)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(commit: u64) -> Mark {
        Mark { commit, log: 3 * commit, manifest: 5, manifest_bytes: 100 }
    }

    /// Whoever changes these bytes makes the marks of existing stores unreadable.
    #[test]
    fn a_slot_is_these_bytes() {
        let slot = Mark { commit: 2, log: 3, manifest: 4, manifest_bytes: 5 }.encode(1);
        let fields =
            b"edbmark\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(slot[..FIELDS_BYTES], fields[..]);
        assert_eq!(slot[FIELDS_BYTES..], crc32c::crc32c(fields).to_le_bytes());
    }

    #[test]
    fn the_newest_whole_slot_counts_and_none_is_damage() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(Mark::read(dir.path()).expect("none yet"), None);
        let file = create(dir.path(), &mark(1)).expect("create");
        for generation in 1..=20 {
            file.write_all_at(&mark(generation).encode(generation), generation % SLOTS * SECTOR_BYTES).expect("write");
        }
        assert_eq!(Mark::read(dir.path()).expect("whole"), Some((20, mark(20))));
        // A torn slot: each half of it in turn.
        for (at, len) in [(0, 30), (30, 22)] {
            file.write_all_at(&vec![0; len], 20 % SLOTS * SECTOR_BYTES + at).expect("write");
            assert_eq!(Mark::read(dir.path()).expect("whole"), Some((19, mark(19))));
        }
        file.write_all_at(&[0; (SLOTS * SECTOR_BYTES) as usize], 0).expect("write");
        let error = Mark::read(dir.path()).expect_err("damage").to_string();
        assert!(error.contains(DURABLE_FILE), "{error}");
    }

    #[test]
    fn a_mark_is_kept_over_the_life_of_a_store_and_exact_when_it_is_closed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("store");
        for (life, durability) in [crate::Durability::Sync, crate::Durability::Buffered].into_iter().enumerate() {
            let store = crate::Options::default().durability(durability).open(&path).expect("open");
            let docs = store.collection("docs").expect("collection");
            for n in 0..10 {
                docs.put(format!("{n}"), "x", crate::Precondition::Any).expect("put");
            }
            let last = store.last_commit().get();
            assert_eq!(last, 10 * (life as u64 + 1));
            if durability == crate::Durability::Sync {
                let (_, mark) = Mark::read(&path).expect("whole").expect("there");
                assert_eq!((mark.commit, mark.log), (last, store.inner.rocks.log_end()));
            }
            drop((store, docs));
            let (_, mark) = Mark::read(&path).expect("whole").expect("there");
            assert_eq!(mark.commit, last);
            let manifest = path.join(format!("rocksdb/MANIFEST-{:06}", mark.manifest));
            assert_eq!(fs::metadata(manifest).expect("there").len(), mark.manifest_bytes);
        }
    }

    #[test]
    fn a_store_without_its_last_commits_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("store");
        let docs = crate::Store::open(&path).expect("open").collection("docs").expect("collection");
        docs.put("a", "x", crate::Precondition::Any).expect("put");
        drop(docs);
        let (generation, found) = Mark::read(&path).expect("whole").expect("there");
        let ahead = Mark { commit: 3, ..found };
        let file = OpenOptions::new().write(true).open(path.join(DURABLE_FILE)).expect("open");
        let generation = generation + 1;
        file.write_all_at(&ahead.encode(generation), generation % SLOTS * SECTOR_BYTES).expect("write");
        for read_only in [true, false] {
            let error =
                crate::Options::default().read_only(read_only).open(&path).expect_err("commits 2 and 3 are lost");
            assert!(matches!(&error, Error::Corruption(message) if message.contains("commits 2 to 3")), "{error}");
        }
        fs::remove_file(path.join(DURABLE_FILE)).expect("remove");
        crate::Store::open(&path).expect("as the message says");
    }

    /// A copy whose log has lost its end is not opened, and not restored.
    #[test]
    fn a_copy_that_lost_commits_is_noticed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name);
        let store = crate::Store::open(path("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        for n in 0..5 {
            docs.put(format!("{n}"), "x", crate::Precondition::Any).expect("put");
        }
        // As its death would leave it.
        copy(&path("store"), &path("monday"));
        crate::Store::restore(path("monday"), path("good")).expect("restore");
        assert_eq!(crate::Store::open(path("good")).expect("open").last_commit().get(), 5);
        let segments = crate::segment::segments(&path("monday").join("log")).expect("list");
        let [(_, log)] = &segments[..] else { panic!("{segments:?}") };
        // The end of its next to last record.
        let (mut ends, mut at) = (Vec::new(), crate::segment::HEAD_BYTES);
        crate::segment::read(&path("monday").join("log"), 0, |payload| {
            at += crate::segment::record_bytes(payload.len()) as u64;
            ends.push(at);
            Ok(())
        })
        .expect("read");
        let file = OpenOptions::new().write(true).open(log).expect("open");
        file.set_len(ends[ends.len() - 2]).expect("cut off");
        let refused = crate::Store::restore(path("monday"), path("bad")).expect_err("a commit is missing");
        assert!(matches!(&refused, Error::Corruption(message) if message.contains("the file ends here")), "{refused}");
        assert!(!path("bad").exists());
        for read_only in [true, false] {
            let refused = crate::Options::default().read_only(read_only).open(path("monday"));
            assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
        }
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).expect("create");
        for entry in fs::read_dir(from).expect("list").map(|entry| entry.expect("entry")) {
            let target = to.join(entry.file_name());
            match entry.file_type().expect("type").is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).expect("copy")),
            }
        }
    }
}
