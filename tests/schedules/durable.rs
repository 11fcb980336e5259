//! The engine's `durable.rs` without a file: what of the log is synced the disk knows itself. Keeps the one thing that
//! others ask of it, not to sync what is synced.

use std::path::Path;

use crate::CommitSeq;
use crate::error::Result;
use crate::rocks::{End, Rocks};
use crate::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Durable {
    synced: AtomicU64,
}

impl Durable {
    pub(crate) fn open(_: &Path, _: &Path, _: bool, _: bool) -> Result<Durable> {
        Ok(Durable { synced: AtomicU64::new(0) })
    }

    pub(crate) fn check_log(&self, _: &End) -> Result<()> {
        Ok(())
    }

    pub(crate) fn check(&self, _: u64) -> Result<()> {
        Ok(())
    }

    pub(crate) fn begin(&mut self, _: u64, log: u64) -> Result<()> {
        self.synced = AtomicU64::new(log);
        Ok(())
    }

    pub(crate) fn sync(&self, rocks: &Rocks, visible: CommitSeq) -> Result<()> {
        let end = rocks.log_end();
        if self.synced.load(Ordering::SeqCst) < end {
            rocks.sync()?;
            self.note(visible.get(), end);
        }
        Ok(())
    }

    pub(crate) fn note(&self, _: u64, log: u64) {
        self.synced.fetch_max(log, Ordering::SeqCst);
    }
}

/// A copy has no mark: what is in it is all on disk.
pub(crate) fn mark_copy(_: &Path, _: CommitSeq) -> Result<()> {
    Ok(())
}
