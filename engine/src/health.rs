//! Whether the store takes writes. Owns the reason why not: that it was opened so, or the failure that ended writing,
//! which RocksDB itself does not remember.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Set once, at open or by the first failure that leaves the disk's state uncertain; only reopening the store clears
/// it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    no_writes: OnceLock<String>,
}

impl Health {
    /// Of a store that was opened for reading.
    pub(crate) fn read_only() -> Health {
        Health { no_writes: OnceLock::from("it was opened read-only".to_owned()) }
    }

    /// Refuses when the store takes no writes.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] with the reason.
    pub(crate) fn check(&self) -> Result<()> {
        match self.no_writes.get() {
            None => Ok(()),
            Some(because) => Err(Error::ReadOnly { because: because.clone() }),
        }
    }

    /// Draws the consequence of a failed write or sync, and returns what to tell each of its writers.
    pub(crate) fn after_failed_write(&self, error: Error) -> impl Fn() -> Error + use<> {
        let disk_full = matches!(error, Error::DiskFull(_));
        // The cause alone: each writer's error says around it what became of the write.
        let because = match error {
            Error::DiskFull(cause) | Error::Io(cause) => cause.to_string(),
            other => other.to_string(),
        };
        if !disk_full {
            // The record may or may not survive a crash, so no later write may build on it.
            let _ = self.no_writes.set(format!("an earlier one failed, and it must be reopened: {because}"));
        }
        move || {
            let cause = because.clone().into();
            if disk_full { Error::DiskFull(cause) } else { Error::OutcomeUnknown(cause) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_ends_writing_and_keeps_its_first_reason() {
        let health = Health::default();
        assert!(health.check().is_ok());
        let tell = health.after_failed_write(Error::io("sync failed: EIO"));
        assert!(matches!(tell(), Error::OutcomeUnknown(_)));
        let _ = health.after_failed_write(Error::io("and another"));
        assert!(matches!(health.check(), Err(Error::ReadOnly { because }) if because.contains("EIO")));
    }

    #[test]
    fn a_full_disk_does_not_end_writing() {
        let health = Health::default();
        let tell = health.after_failed_write(Error::DiskFull("No space left on device".into()));
        assert_eq!(tell().to_string(), "the disk is full, nothing was written: No space left on device");
        assert!(health.check().is_ok());
    }
}
