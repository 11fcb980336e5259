//! Reading at one commit sequence. Owns a hold on the watermark for as long as it lives; never writes.

use std::fmt;
use std::sync::Arc;

use crate::CommitSeq;
use crate::collection::Collection;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::scan::{Scan, ScanRange};
use crate::store::Inner;

/// A consistent view of the whole store at one commit sequence.
///
/// Whatever is written, every read from a snapshot sees the same state: all of each batch at or below its sequence,
/// nothing of any later one. It can be sent to another thread and kept. While it lives it holds the store's
/// watermark, so that no version it can see is dropped.
///
/// # Examples
///
/// ```
/// use etagdb::Precondition;
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let carts = store.collection("carts")?;
/// carts.put("ana", "1 pen", Precondition::Any)?;
/// let before = store.snapshot();
/// carts.put("ana", "2 pens", Precondition::Any)?;
/// assert_eq!(before.get(&carts, "ana")?.expect("still there").body, "1 pen");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Snapshot {
    store: Arc<Inner>,
    seq: CommitSeq,
}

impl Snapshot {
    pub(crate) fn new(store: Arc<Inner>, choose: impl FnOnce() -> CommitSeq) -> Snapshot {
        let seq = store.watermark.hold(choose);
        Snapshot { store, seq }
    }

    pub(crate) fn store(&self) -> &Arc<Inner> {
        &self.store
    }

    /// The commit sequence that this snapshot reads at.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// Reads document `id` as of this snapshot, or `None` when there was none.
    ///
    /// # Errors
    ///
    /// As [`Collection::get`]; [`Error::Invalid`] for a collection of another store.
    pub fn get(&self, collection: &Collection, id: impl AsRef<[u8]>) -> Result<Option<Document>> {
        self.check_store(collection)?;
        self.store.get_at(collection.state(), id.as_ref(), self.seq)
    }

    /// Reads the documents in `range` as of this snapshot, in byte order of their ids or
    /// [backwards](ScanRange::reverse).
    ///
    /// # Errors
    ///
    /// As [`Collection::scan`]; [`Error::Invalid`] for a collection of another store.
    pub fn scan<'a>(&'a self, collection: &'a Collection, range: &ScanRange) -> Result<Scan<'a>> {
        self.check_store(collection)?;
        self.store.scan_at(collection.state(), range, Some(self.seq))
    }

    pub(crate) fn check_store(&self, collection: &Collection) -> Result<()> {
        if collection.belongs_to(&self.store) {
            return Ok(());
        }
        Err(Error::Invalid(format!("collection {:?} is of another store than the snapshot", collection.name())))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.watermark.release(self.seq);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("seq", &self.seq).finish_non_exhaustive()
    }
}
