//! What a read and a write hand back. Plain data.

use bytes::Bytes;

use crate::{CommitSeq, DocumentTtl, Etag};

/// One version of a document, as a read returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The version's name, for preconditions.
    pub etag: Etag,
    /// The commit that wrote this version.
    pub seq: CommitSeq,
    /// The commit that made the document come into being: the same for all its versions, and another one when it is
    /// made again after a delete.
    pub created: CommitSeq,
    /// When this version was committed, in milliseconds since the Unix epoch. Later commits never have earlier times.
    pub time_ms: u64,
    /// The time to live that it was put with.
    pub ttl: DocumentTtl,
    /// The bytes that were put. Cloning shares them.
    pub body: Bytes,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The new version's name. After a delete: the name of the tombstone, which no precondition matches.
    pub etag: Etag,
    /// The write's place in the commit order.
    pub seq: CommitSeq,
    /// The commit that made the document come into being; `seq` itself when this write did.
    pub created: CommitSeq,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The version that was current before, `None` when there was no document. [`Etag::NEVER`] never appears here: a
    /// version of the same batch has its etag by now.
    pub replaced: Option<Etag>,
}
