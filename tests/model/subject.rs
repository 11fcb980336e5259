//! The store under test, in a directory of its own, with a clock of its own.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{Clock, Durability, Etag, Options, Store};

use crate::oracle::Agreement;
use crate::random::Random;

/// A clock that stands still until it is set.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock {
    ms: Arc<AtomicU64>,
}

impl TestClock {
    pub(crate) fn set(&self, ms: u64) {
        self.ms.store(ms, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> u64 {
        self.ms.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        time(self.get())
    }
}

/// A time of the store as a time.
pub(crate) fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

/// A directory in memory where there is one, and elsewhere else: it goes away with the value.
pub(crate) fn directory() -> tempfile::TempDir {
    let shared_memory = tempfile::Builder::new().prefix("etagdb-model-").tempdir_in("/dev/shm");
    shared_memory.or_else(|_| tempfile::tempdir()).expect("temporary directory")
}

#[derive(Debug)]
pub(crate) struct Subject {
    store: Option<Store>,
    directory: tempfile::TempDir,
    path: PathBuf,
    paths: usize,
    pub(crate) clock: TestClock,
    durability: Durability,
    document_cache_bytes: usize,
    /// Every etag that the store ever gave.
    pub(crate) etags: HashSet<Etag>,
    /// The time of its last commit.
    pub(crate) last_ms: u64,
}

impl Subject {
    pub(crate) fn new(random: &mut Random) -> Subject {
        let directory = directory();
        let clock = TestClock::default();
        clock.set(1_000);
        let mut subject = Subject {
            store: None,
            path: directory.path().join("0"),
            directory,
            paths: 0,
            clock,
            durability: random.pick(&[Durability::Sync, Durability::Buffered]),
            document_cache_bytes: random.pick(&[0, 4 << 10, 1 << 20]),
            etags: HashSet::new(),
            last_ms: 0,
        };
        subject.store = Some(subject.options().open(&subject.path).expect("open"));
        subject
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("open between the steps")
    }

    /// The time by which the store goes, which may be later than the clock. Who holds the past is listed with the time
    /// at which he came.
    pub(crate) fn now_ms(&self) -> Agreement<u64> {
        let snapshot = self.store().snapshot();
        let since = self.store().stats().pins.into_iter().rfind(|pin| pin.seq == snapshot.seq());
        let since = since.ok_or("a snapshot is not among the pins")?.since;
        Ok(since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }

    /// Nothing happens by itself, and nothing is large.
    pub(crate) fn options(&self) -> Options {
        Options::default()
            .durability(self.durability)
            .flush_interval(Duration::from_secs(60))
            .clock(self.clock.clone())
            .background_maintenance(false)
            .cache_bytes(1 << 20)
            .document_cache_bytes(self.document_cache_bytes)
            .write_buffer_bytes(1 << 20)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A place in the same file system where nothing is yet.
    pub(crate) fn fresh_path(&mut self) -> PathBuf {
        self.paths += 1;
        self.directory.path().join(self.paths.to_string())
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn open(&mut self) -> Agreement {
        let opened = self.options().open(&self.path);
        self.store = Some(opened.map_err(|error| format!("the store does not open: {error}"))?);
        Ok(())
    }

    /// Goes on in a copy of the directory that was made while the store was open: what a process leaves that is killed.
    pub(crate) fn crash(&mut self) -> Agreement {
        let copy = self.fresh_path();
        copy_store(&self.path, &copy).map_err(|error| format!("the store cannot be copied: {error}"))?;
        self.close();
        let _ = fs::remove_dir_all(&self.path);
        self.path = copy;
        self.open()
    }
}

/// Copies the directory of an open store to which nobody writes. Sorted files never change, so a link will do.
fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    loop {
        let before = names(from)?;
        let mut whole = true;
        for (name, _) in &before {
            let (source, target) = (from.join(name), to.join(name));
            fs::create_dir_all(target.parent().expect("below the copy"))?;
            let copied = match name.extension().is_some_and(|extension| extension == "sst") {
                true => fs::hard_link(&source, &target),
                false => fs::copy(&source, &target).map(drop),
            };
            whole &= copied.is_ok();
        }
        // A flush or a compaction in the background may have come between, which a kill at one moment does not show.
        if whole && names(from)? == before {
            return Ok(());
        }
        fs::remove_dir_all(to)?;
    }
}

/// The files below a directory and their lengths, but for what the database only writes for people.
fn names(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut names = Vec::new();
    let mut below = vec![PathBuf::new()];
    while let Some(parent) = below.pop() {
        for entry in fs::read_dir(directory.join(&parent))? {
            let entry = entry?;
            let name = parent.join(entry.file_name());
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => below.push(name),
                Ok(_) if entry.file_name().to_string_lossy().starts_with("LOG") => {}
                Ok(metadata) => names.push((name, metadata.len())),
                // Gone meanwhile.
                Err(_) => {}
            }
        }
    }
    names.sort();
    Ok(names)
}
