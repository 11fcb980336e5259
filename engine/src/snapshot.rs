//! Reading at one commit sequence. Owns a hold on the watermark for as long as it lives; never writes.

use std::fmt;
use std::sync::Arc;

use crate::CommitSeq;
use crate::collection::Collection;
use crate::document::Document;
use crate::encoding::CollectionNumber;
use crate::error::{Error, Result};
use crate::scan::{Scan, ScanRange};
use crate::store::Inner;
use crate::ttl::{Lifetime, Lifetimes};
use crate::watermark::{HoldId, PinKind};

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
    hold: HoldId,
    /// By this time, and by what collections said when this was taken, documents have expired or not.
    time_ms: u64,
    lifetimes: Lifetimes,
    /// The collections of which something that belongs to this snapshot was dropped before it was taken.
    incomplete: Vec<CollectionNumber>,
}

impl Snapshot {
    /// Of the newest visible state.
    pub(crate) fn new(store: Arc<Inner>, kind: PinKind) -> Snapshot {
        let since_ms = store.now_ms();
        let hold = store.watermark.hold(kind, since_ms, || store.visible());
        // After the sequence was chosen: no document that it shows was written later than this.
        let (time_ms, lifetimes) = (store.observe_now_ms(), store.lifetimes.read().clone());
        Snapshot { store, hold, time_ms, lifetimes, incomplete: Vec::new() }
    }

    /// Of the state as of `seq`, the last commit of a batch, at the time `time_ms`, as far as it still exists.
    pub(crate) fn past(store: Arc<Inner>, kind: PinKind, seq: CommitSeq, time_ms: u64) -> Result<Snapshot> {
        let since_ms = store.now_ms();
        let hold = store.watermark.hold_past(kind, since_ms, seq);
        let lifetimes = store.lifetimes.read().clone();
        let mut snapshot = Snapshot { store, hold, time_ms, lifetimes, incomplete: Vec::new() };
        // Held first, asked afterwards: see `Watermark::agree`.
        let states = snapshot.store.live_collections();
        let oldest = states.iter().map(|state| state.horizon().complete).min().unwrap_or(0);
        if oldest > seq.get() {
            return Err(dropped(seq, CommitSeq::new(oldest)));
        }
        snapshot.incomplete =
            states.iter().filter(|state| state.incomplete_at(seq)).map(|state| state.number).collect();
        Ok(snapshot)
    }

    pub(crate) fn store(&self) -> &Arc<Inner> {
        &self.store
    }

    /// The commit sequence that this snapshot reads at.
    pub fn seq(&self) -> CommitSeq {
        self.hold.seq()
    }

    /// Reads document `id` as of this snapshot, or `None` when there was none.
    ///
    /// # Errors
    ///
    /// As [`Collection::get`]; [`Error::Invalid`] for a collection of another store; [`Error::NotRetained`] from a snapshot
    /// of the past that was taken when retention had already dropped something of it in this collection.
    pub fn get(&self, collection: &Collection, id: impl AsRef<[u8]>) -> Result<Option<Document>> {
        self.check(collection)?;
        self.store.get_at(collection.state(), id.as_ref(), self.seq(), self.lifetime(collection))
    }

    /// Reads the documents in `range` as of this snapshot, in byte order of their ids or
    /// [backwards](ScanRange::reverse).
    ///
    /// # Errors
    ///
    /// As [`Collection::scan`]; [`Error::Invalid`] for a collection of another store; [`Error::NotRetained`] as
    /// [`get`](Snapshot::get).
    pub fn scan<'a>(&'a self, collection: &'a Collection, range: &ScanRange) -> Result<Scan<'a>> {
        self.check(collection)?;
        self.store.scan_at(collection.state(), range, self.seq(), self.lifetime(collection))
    }

    pub(crate) fn lifetime(&self, collection: &Collection) -> Lifetime {
        Lifetime { ttl: self.lifetimes.of(collection.state().number), now_ms: self.time_ms }
    }

    /// The time and the settings by which it judges what has expired.
    pub(crate) fn judgement(&self) -> (u64, &Lifetimes) {
        (self.time_ms, &self.lifetimes)
    }

    pub(crate) fn check_store(&self, collection: &Collection) -> Result<()> {
        if collection.belongs_to(&self.store) {
            return Ok(());
        }
        Err(Error::Invalid(format!("collection {:?} is of another store than the snapshot", collection.name())))
    }

    fn check(&self, collection: &Collection) -> Result<()> {
        self.check_store(collection)?;
        if self.incomplete.contains(&collection.state().number) {
            return Err(dropped(self.seq(), collection.horizon()));
        }
        Ok(())
    }
}

/// The refusal of a state that is no longer whole.
pub(crate) fn dropped(asked: CommitSeq, oldest: CommitSeq) -> Error {
    Error::NotRetained { asked, oldest }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.watermark.release(self.hold);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("seq", &self.seq()).finish_non_exhaustive()
    }
}
