//! How a store is opened. Owns the settings, their defaults and their limits.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::store::Store;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A write is on disk before it is acknowledged: it survives a crash of the process and a power cut. Writers that
    /// wait at the same time share one sync, and each of them keeps a processor busy, as far as nobody else wants it, for up
    /// to some hundred microseconds before it sleeps; who waits as a future
    /// ([`submit`](crate::WriteBatch::submit)) does not.
    #[default]
    Sync,
    /// A write is acknowledged once the operating system has it: it survives a crash of the process. A power cut or a
    /// crash of the operating system can lose the writes of the last [`Options::flush_interval`], newest first.
    Buffered,
}

/// Settings of a store, and the call that opens it.
///
/// # Examples
///
/// ```
/// use etagdb::{Durability, Options};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let store = Options::default().durability(Durability::Sync).cache_bytes(64 << 20).open(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Options {
    // Behaviour.
    pub(crate) create_if_missing: bool,
    pub(crate) read_only: bool,
    pub(crate) durability: Durability,
    pub(crate) flush_interval: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) background_maintenance: bool,
    // Performance.
    pub(crate) cache_bytes: usize,
    pub(crate) document_cache_bytes: usize,
    pub(crate) write_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            create_if_missing: true,
            read_only: false,
            durability: Durability::Sync,
            flush_interval: Duration::from_millis(100),
            clock: Arc::new(SystemClock),
            background_maintenance: true,
            cache_bytes: 128 << 20,
            document_cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
        }
    }
}

impl Options {
    /// Creates the directory and an empty store in it when there is none. Default: true. When false, opening a
    /// directory without a store is [`Error::Invalid`].
    pub fn create_if_missing(mut self, create: bool) -> Options {
        self.create_if_missing = create;
        self
    }

    /// Opens the store for reading: nothing in its directory is changed, and every write is refused with
    /// [`Error::ReadOnly`]. Default: false. When true, [`create_if_missing`](Options::create_if_missing) and the
    /// [`durability`](Options::durability) have no effect.
    ///
    /// Any number of readers, in any processes, can have a directory open at once, but not beside a writer: readers
    /// share a lock on the file `LOCK`, a writer takes it alone, and whoever comes second gets [`Error::InUse`]. A
    /// reader would not see a live writer's later commits, and would lose its files to the writer's compaction. To
    /// read beside a writer, open a [checkpoint](Store::checkpoint).
    ///
    /// A store on a read-only file system can be opened, also one that was not closed cleanly: its log is replayed
    /// into memory (about twice the [`write_buffer_bytes`](Options::write_buffer_bytes) it was written with, at most), by
    /// way of a new directory in that for temporary files ([`temp_dir`](std::env::temp_dir)), which goes when the store is
    /// closed. It has copies of some small files, and links to the others; who dies leaves it behind. Where
    /// there is no `LOCK` file and none can be made, as on a read-only file system, nothing is locked: nobody may then
    /// write to the same files by another way, or this reader's reads can fail.
    pub fn read_only(mut self, read_only: bool) -> Options {
        self.read_only = read_only;
        self
    }

    /// What an acknowledged write survives. Default: [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// How long a [`Durability::Buffered`] write may stay off the disk. Default: 100 ms; from 1 ms to 60 s. Without
    /// effect under [`Durability::Sync`].
    pub fn flush_interval(mut self, interval: Duration) -> Options {
        self.flush_interval = interval;
        self
    }

    /// Where commit times come from. Default: the system's clock.
    pub fn clock(mut self, clock: impl Clock) -> Options {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether a thread of the store drops what [retention](crate::Retention) no longer keeps, as it comes due.
    /// Default: true. It sleeps while nothing is due and takes at most half of a core otherwise. When false, that
    /// happens only in [`Store::run_maintenance`]: for programs that choose the hour themselves, and for tests.
    pub fn background_maintenance(mut self, on: bool) -> Options {
        self.background_maintenance = on;
        self
    }

    /// Memory for blocks read from disk, in bytes. Default: 128 MiB; at least 1 MiB. The operating system caches
    /// files besides, so more mostly saves decompression.
    pub fn cache_bytes(mut self, bytes: usize) -> Options {
        self.cache_bytes = bytes;
        self
    }

    /// Memory for the current versions of documents that are read or written again and again, in bytes. Default: 128
    /// MiB; 0 turns it off, up to 16 TiB. A read answered from it asks no RocksDB and copies no body, and a write to a
    /// document in it is judged without reading anything: a quarter of it is kept for that, at some 170 bytes a document
    /// whatever its size.
    pub fn document_cache_bytes(mut self, bytes: usize) -> Options {
        self.document_cache_bytes = bytes;
        self
    }

    /// Memory for writes that are in the log but not yet in a sorted file, in bytes. Default: 64 MiB; from 1 MiB to
    /// 4 GiB. More makes larger, fewer files and a longer replay after a crash; at most three times as much is in
    /// memory while buffers are written out. On disk the log takes one and a half times as much while the store is open,
    /// under load or not, at most two and a half times where files are written slowly, and nothing once it is closed.
    pub fn write_buffer_bytes(mut self, bytes: usize) -> Options {
        self.write_buffer_bytes = bytes;
        self
    }

    /// Opens the store in directory `path`, or creates it there.
    ///
    /// On return, everything that a previous process had acknowledged under its durability is readable. Creating
    /// blocks for a handful of syncs; opening after a crash replays at most twice [`write_buffer_bytes`] of log.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when another handle has it open; [`Error::UnknownFormat`] when a newer build wrote it;
    /// [`Error::Invalid`] for a setting out of range, or a directory that holds something else;
    /// [`Error::Corruption`] when files are damaged; [`Error::Io`] when the operating system refuses.
    ///
    /// [`write_buffer_bytes`]: Options::write_buffer_bytes
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.validate()?;
        Store::open_with(&self, path.as_ref())
    }

    /// Whether a write waits for its sync.
    pub(crate) fn syncs(&self) -> bool {
        self.durability == Durability::Sync
    }

    fn validate(&self) -> Result<()> {
        let in_range = |name: &str, value: u128, unit: &str, range: std::ops::RangeInclusive<u128>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = (range.start(), range.end());
            Err(Error::Invalid(format!("{name} is {value} {unit}; it must be from {least} to {most}")))
        };
        in_range("flush_interval", self.flush_interval.as_millis(), "ms", 1..=60_000)?;
        in_range("cache_bytes", self.cache_bytes as u128, "bytes", 1 << 20..=1 << 44)?;
        in_range("document_cache_bytes", self.document_cache_bytes as u128, "bytes", 0..=1 << 44)?;
        in_range("write_buffer_bytes", self.write_buffer_bytes as u128, "bytes", 1 << 20..=4 << 30)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("create_if_missing", &self.create_if_missing)
            .field("read_only", &self.read_only)
            .field("durability", &self.durability)
            .field("flush_interval", &self.flush_interval)
            .field("background_maintenance", &self.background_maintenance)
            .field("cache_bytes", &self.cache_bytes)
            .field("document_cache_bytes", &self.document_cache_bytes)
            .field("write_buffer_bytes", &self.write_buffer_bytes)
            .finish_non_exhaustive()
    }
}
