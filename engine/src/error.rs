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
    /// A precondition failed, or what a transaction read has changed. Nothing was written. Read the document again and
    /// decide anew.
    Conflict(Box<Conflict>),
    /// An [`update`](crate::WriteBatch::update) closure refused. Nothing was written. The closure's owner knows why.
    Aborted {
        /// The position of the refusing operation in its batch, from 0.
        position: usize,
    },
    /// The call cannot be carried out as it was made: an id or body beyond its limit, a dropped collection, a bad
    /// option, a handle of another store. Nothing was written. Fix the call.
    Invalid(String),
    /// [Retention](crate::Retention) has dropped what was asked for, or some of it. Nothing was written. Ask for `oldest` or later; what
    /// a change feed misses by that is in a snapshot taken first.
    NotRetained {
        /// The commit sequence asked for.
        asked: CommitSeq,
        /// The oldest one that can still be asked for: of the document where one was asked for, else of all.
        oldest: CommitSeq,
    },
    /// The store was closed: a change feed outlived every other handle. Nothing was written. Stop; or open the store
    /// again and go on from the feed's position.
    Closed,
    /// A document's body is no value of the type that it was read as; the document itself is whole. Nothing was written.
    /// Read it as bytes, or with the type it was written with.
    Undecodable(Box<Undecodable>),
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
    /// The store takes no writes: it was opened [read-only](crate::Options::read_only), or an earlier write failed in a
    /// way that leaves the disk's state uncertain. Nothing was written by this call; reads of durable data go on. After
    /// a failure, close the store, repair the cause, open it again.
    ReadOnly {
        /// That it was opened so, or the failure that ended writing.
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
                    "retention has dropped what was there at commit {asked}: the oldest still readable is {oldest}"
                )
            }
            Error::Closed => f.write_str("the store was closed"),
            Error::Undecodable(undecodable) => undecodable.fmt(f),
            Error::InUse { path, holder } => {
                write!(f, "store {} is in use by {holder}", path.display())
            }
            Error::UnknownFormat { path, found } => write!(
                f,
                "store {} has on-disk format {found:?}, and this build knows only format {}",
                path.display(),
                crate::encoding::FORMAT
            ),
            Error::ReadOnly { because } => write!(f, "the store takes no writes: {because}"),
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
            Error::Undecodable(undecodable) => Some(undecodable.cause.as_ref()),
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

/// A precondition that failed, or a transaction's read that no longer holds: which, and what is there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The position of the operation in its batch, from 0; 0 for a single write and for a transaction.
    pub position: usize,
    /// The collection's name.
    pub collection: String,
    /// The document's id.
    pub id: Bytes,
    /// What the caller asked to be true; for a document that a transaction read, by itself or in a range, what it read.
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

/// A body that is no value of the type that was asked for: which, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct Undecodable {
    /// The collection's name.
    pub collection: String,
    /// The document's id.
    pub id: Bytes,
    /// The version that was read.
    pub etag: Etag,
    /// The [`NAME`](crate::Encoding::NAME) of the encoding.
    pub encoding: &'static str,
    /// The type's name in Rust.
    pub wanted: &'static str,
    /// What the encoding says.
    pub cause: Cause,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undecodable { collection, id, etag, encoding, wanted, cause } = self;
        let id = String::from_utf8_lossy(id);
        write!(f, "document {id:?} in collection {collection:?} with etag {etag} is no {encoding} of {wanted}: {cause}")
    }
}
