//! The error enum. Owns the answer to the two questions a caller has after a failure: was anything written, and what
//! now. Never exposes a RocksDB type; causes are boxed.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;

use crate::{CommitSeq, Etag, Precondition};

/// The engine's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The boxed cause of an error, for logs.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, by what the caller should do next.
///
/// Messages are for people and may change; match on the variants.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A precondition failed. Nothing was written. Read the document again and decide anew.
    Conflict(Box<Conflict>),
    /// An [`update`](crate::WriteBatch::update) closure refused. Nothing was written. The closure's owner knows why.
    Aborted {
        /// The position of the refusing operation in its batch, from 0.
        position: usize,
    },
    /// The call cannot be carried out as it was made: an id or body beyond its limit, a dropped collection, a bad
    /// option, a handle of another store. Nothing was written. Fix the call.
    Invalid(String),
    /// The past that was asked for has been dropped by [retention](crate::Retention), or some of it. Nothing was
    /// written. Ask for a state from `oldest` on, and keep more next time.
    NotRetained {
        /// The commit as of which, or from which on, something was to be read.
        asked: CommitSeq,
        /// The oldest commit for which that is still possible.
        oldest: CommitSeq,
    },
    /// Another process, or another handle in this one, has the directory open. Nothing was touched. Close the other
    /// one, or talk to it.
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// What the lock file says about the holder, for people.
        holder: String,
    },
    /// The directory was written in a format this build does not know. Nothing was touched. Use a build that knows it.
    UnknownFormat {
        /// The store's directory.
        path: PathBuf,
        /// The format number found, as it was written.
        found: String,
    },
    /// An earlier write failed in a way that leaves the disk's state uncertain, so the store takes no more writes.
    /// Nothing was written by this call; reads of durable data go on. Close the store, repair the cause, open it again.
    ReadOnly {
        /// The failure that ended writing.
        because: String,
    },
    /// The write or its sync failed part-way: after a reopen the write may be there or not, but never half of it.
    /// This process will not show it. Reopen the store, read, and decide anew.
    OutcomeUnknown(Cause),
    /// The disk is full. The write is not visible, and no later one builds on it; only a crash before space returns
    /// may bring it back. Reads go on, and writes work again soon after there is space: make room, then try again.
    DiskFull(Cause),
    /// Stored bytes do not make sense: a checksum is wrong or a record cannot be decoded. Nothing was written.
    /// Restore from a checkpoint.
    Corruption(String),
    /// Reading, opening or creating failed in the operating system or in RocksDB. Nothing was written.
    Io(Cause),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Conflict(conflict) => conflict.fmt(f),
            Error::Aborted { position } => write!(f, "operation {position} of the batch refused; nothing was written"),
            Error::Invalid(message) => f.write_str(message),
            Error::NotRetained { asked, oldest } => {
                write!(
                    f,
                    "retention has dropped versions that commit {asked} needs; the oldest whole state is {oldest}"
                )
            }
            Error::InUse { path, holder } => {
                write!(f, "store {} is in use by {holder}", path.display())
            }
            Error::UnknownFormat { path, found } => write!(
                f,
                "store {} has on-disk format {found:?}, and this build knows only format {}",
                path.display(),
                crate::encoding::FORMAT
            ),
            Error::ReadOnly { because } => {
                write!(
                    f,
                    "the store takes no more writes until it is reopened, because an earlier one failed: {because}"
                )
            }
            Error::OutcomeUnknown(cause) => {
                write!(f, "the write failed and may or may not be there after the store is reopened: {cause}")
            }
            Error::DiskFull(cause) => write!(f, "the disk is full, nothing was written: {cause}"),
            Error::Corruption(message) => write!(f, "stored data is damaged: {message}"),
            Error::Io(cause) => write!(f, "input or output failed: {cause}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::OutcomeUnknown(cause) | Error::DiskFull(cause) | Error::Io(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(message.into())
    }

    pub(crate) fn io(cause: impl Into<Cause>) -> Error {
        Error::Io(cause.into())
    }
}

/// A precondition that failed: which, and what is there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The position of the operation in its batch, from 0; 0 for a single write.
    pub position: usize,
    /// The collection's name.
    pub collection: String,
    /// The document's id.
    pub id: Bytes,
    /// What the caller asked to be true.
    pub expected: Precondition,
    /// The current version's etag, `None` when there is no such document, and [`Etag::NEVER`] when an earlier
    /// operation of the same batch wrote it (its etag does not exist yet).
    pub current: Option<Etag>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = String::from_utf8_lossy(&self.id);
        write!(f, "conflict on {:?} in collection {:?}: expected {}, but ", id, self.collection, self.expected)?;
        match self.current {
            None => f.write_str("there is no such document"),
            Some(Etag::NEVER) => f.write_str("an earlier operation of the same batch wrote it"),
            Some(etag) => write!(f, "its etag is {etag}"),
        }
    }
}
