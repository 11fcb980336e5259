//! Where imported documents go: what the workers ask of a store in a directory or behind HTTP.

use super::document::Document;

/// A container that takes documents; many threads use it at once.
pub(super) trait Destination: Send + Sync {
    /// Stores a document, in place of one with the same id and partition key if there is one. On return it is
    /// acknowledged: as durable as the destination's writes are.
    fn upsert(&self, document: &Document) -> Result<Stored, UpsertError>;
}

/// An acknowledged document.
#[derive(Debug)]
pub(super) struct Stored {
    /// Whether nothing was there before.
    pub(super) created: bool,
    /// Its etag, quotes included, as its `_etag` property says it.
    pub(super) etag: String,
}

/// Why a document is not acknowledged.
#[derive(Debug)]
pub(super) enum UpsertError {
    /// This document cannot be stored; others can.
    Refused(String),
    /// Nothing can be stored at present; the import ends.
    Failed(String),
    /// The import was ended meanwhile.
    Stopped,
}
