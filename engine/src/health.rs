//! Whether the store takes writes, since when it does not, and why. Owns that state, which is set from the results of
//! writes; RocksDB itself does not tell (`rocksdb.is-write-stopped` is 0 in every failed state, and its count of
//! background errors stays 0 when file descriptors run out).

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::clock::{self, Clock};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether a store takes writes, as [`Store::health`] tells it. Reads of what is durable go on in every state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreHealth {
    /// It takes writes.
    Healthy,
    /// The disk was full at the last write. Writes fail with [`Error::DiskFull`] until there is space, and work again by
    /// themselves some seconds after there is: no reopening, no restart.
    DiskFull {
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// What the operating system said.
        because: String,
    },
    /// It takes no writes any more: a write or a sync failed in a way that leaves the disk's state uncertain, or it was
    /// opened read-only. To write again after a failure, repair the cause, drop every handle of the store, and open it
    /// again, in the same process or another; what was acknowledged is there.
    ReadOnly {
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// What failed.
        because: String,
    },
}

impl fmt::Display for StoreHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreHealth::Healthy => f.write_str("healthy"),
            StoreHealth::DiskFull { since_ms, because } => write!(f, "disk full since {since_ms} because {because}"),
            StoreHealth::ReadOnly { since_ms, because } => write!(f, "read-only since {since_ms} because {because}"),
        }
    }
}

impl Store {
    /// Whether the store takes writes, a full disk aside: [`health`](Store::health) says more.
    pub fn is_writable(&self) -> bool {
        self.inner().health.check().is_ok()
    }

    /// Whether the store takes writes, and if not, since when and why. Set by the writes themselves, and by the thread
    /// that brings them to RocksDB, so a failing disk is noticed at the next write. Costs nothing but after a full disk:
    /// then it tries whether writes work again.
    ///
    /// # Examples
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = etagdb::Store::open(dir.path().join("store"))?;
    /// assert_eq!(store.health(), etagdb::StoreHealth::Healthy);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self) -> StoreHealth {
        let core = self.inner();
        if core.health.is_full() {
            match core.rocks.try_writing() {
                Ok(()) => core.health.after_write(),
                // It is still full, or worse: this write may have synced what others wrote.
                Err(error) => drop(core.health.after_failed_write(error)),
            }
        }
        core.health.state()
    }
}

/// The state behind [`StoreHealth`].
pub(crate) struct Health {
    /// Set once, at open or by the first failure that leaves the disk's state uncertain; only reopening clears it.
    no_writes: OnceLock<(u64, String)>,
    full: Mutex<Option<(u64, String)>>,
    is_full: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Health {
    /// Of a store that takes writes, unless it was opened for reading only.
    pub(crate) fn new(clock: &Arc<dyn Clock>, read_only: bool) -> Health {
        let health = Health {
            no_writes: OnceLock::new(),
            full: Mutex::new(None),
            is_full: AtomicBool::new(false),
            clock: Arc::clone(clock),
        };
        if read_only {
            let _ = health.no_writes.set((clock::now_ms(clock, 0), "it was opened read-only".to_owned()));
        }
        health
    }

    /// Refuses when the store takes no writes.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] with the reason.
    pub(crate) fn check(&self) -> Result<()> {
        match self.no_writes.get() {
            None => Ok(()),
            Some((_, because)) => Err(Error::ReadOnly { because: because.clone() }),
        }
    }

    fn state(&self) -> StoreHealth {
        if let Some((since_ms, because)) = self.no_writes.get().cloned() {
            return StoreHealth::ReadOnly { since_ms, because };
        }
        match self.full.lock().clone() {
            Some((since_ms, because)) => StoreHealth::DiskFull { since_ms, because },
            None => StoreHealth::Healthy,
        }
    }

    /// Whether the disk was full at the last write.
    pub(crate) fn is_full(&self) -> bool {
        // The state itself is under the lock; this only saves taking it for every write. What is missed here by a moment is
        // found by the next write, or by whoever asks for the health.
        self.is_full.load(Ordering::Relaxed)
    }

    /// Notes that a write succeeded: there is space.
    pub(crate) fn after_write(&self) {
        if self.is_full() {
            let mut full = self.full.lock();
            *full = None;
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Draws the consequence of a failed write to the log, and returns what to tell each of its writers. Of one that was
    /// synced in the same call nobody could say which of the two had failed; so none is.
    pub(crate) fn after_failed_write(&self, error: Error) -> impl Fn() -> Error + use<> {
        let disk_full = matches!(error, Error::DiskFull(_));
        let because = cause(error);
        if disk_full {
            let mut full = self.full.lock();
            full.get_or_insert_with(|| (clock::now_ms(&self.clock, 0), because.clone()));
            self.is_full.store(true, Ordering::Relaxed);
        } else {
            self.end_writing(&because);
        }
        move || {
            let cause = because.clone().into();
            if disk_full { Error::DiskFull(cause) } else { Error::OutcomeUnknown(cause) }
        }
    }

    /// As [`after_failed_write`](Health::after_failed_write), of a sync of what was written before. Whatever the reason,
    /// also for a full disk, nobody knows what of that is on disk, and syncing again would not tell.
    pub(crate) fn after_failed_sync(&self, error: Error) -> impl Fn() -> Error + use<> {
        let because = cause(error);
        self.end_writing(&because);
        move || Error::OutcomeUnknown(because.clone().into())
    }

    /// The record may or may not survive a crash, so no later write may build on it.
    fn end_writing(&self, because: &str) {
        let because = format!("an earlier one failed, and it must be reopened: {because}");
        let _ = self.no_writes.set((clock::now_ms(&self.clock, 0), because));
    }
}

/// The cause alone: each writer's error says around it what became of the write.
fn cause(error: Error) -> String {
    match error {
        Error::DiskFull(cause) | Error::Io(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn health() -> Health {
        Health::new(&(Arc::new(SystemClock) as Arc<dyn Clock>), false)
    }

    #[test]
    fn a_failed_sync_ends_writing_and_keeps_its_first_reason() {
        let health = health();
        assert!(health.check().is_ok());
        assert_eq!(health.state(), StoreHealth::Healthy);
        let tell = health.after_failed_write(Error::io("sync failed: EIO"));
        assert!(matches!(tell(), Error::OutcomeUnknown(_)));
        let _ = health.after_failed_write(Error::io("and another"));
        assert!(matches!(health.check(), Err(Error::ReadOnly { because }) if because.contains("EIO")));
        health.after_write();
        let state = health.state();
        assert!(
            matches!(&state, StoreHealth::ReadOnly { since_ms: 1.., because } if because.contains("EIO")),
            "{state}"
        );
    }

    #[test]
    fn a_sync_that_fails_for_want_of_space_ends_writing_too() {
        let health = health();
        let tell = health.after_failed_sync(Error::DiskFull("No space left on device".into()));
        assert!(matches!(tell(), Error::OutcomeUnknown(_)));
        assert!(!health.is_full());
        assert!(matches!(health.check(), Err(Error::ReadOnly { because }) if because.contains("No space")));
    }

    #[test]
    fn a_full_disk_does_not_end_writing_and_is_over_with_the_next_write() {
        let health = health();
        let tell = health.after_failed_write(Error::DiskFull("No space left on device".into()));
        assert_eq!(tell().to_string(), "the disk is full, nothing was written: No space left on device");
        assert!(health.check().is_ok());
        let _ = health.after_failed_write(Error::DiskFull("still".into()));
        let state = health.state();
        assert!(matches!(&state, StoreHealth::DiskFull { because, .. } if because.starts_with("No space")), "{state}");
        health.after_write();
        assert_eq!(health.state(), StoreHealth::Healthy);
    }
}
