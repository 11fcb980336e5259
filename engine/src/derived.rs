//! Entries that the documents of one collection give rise to in another, such as the rows of an index.
//!
//! Owns what is derived, and the difference between what a document gave rise to before and after a write. The writing
//! is `commit`'s: the difference goes into the batch of the write itself, whoever makes it (a put, a transaction, a bulk
//! load, an expiry), so a document and its entries never disagree, not for a reader and not after a crash.
//!
//! Nobody locks an entry. It belongs to one document, and is only judged under that document's stripe.

use std::fmt;
use std::sync::Arc;

use crate::collection::{Collection, CollectionState};
use crate::error::{Error, Result};
use crate::judge::refuse_in_update;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Makes the ids of the entries of a document of this id and body.
type Derive = dyn Fn(&[u8], &[u8]) -> Vec<Vec<u8>> + Send + Sync;

/// What one collection derives, and where to.
pub(crate) struct Deriver {
    pub(crate) target: Arc<CollectionState>,
    derive: Box<Derive>,
}

impl fmt::Debug for Deriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deriver").field("target", &self.target.name).finish_non_exhaustive()
    }
}

impl Deriver {
    /// The entries that a write takes away and those that it adds, each once.
    pub(crate) fn changes(&self, id: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Vec<(Vec<u8>, bool)> {
        let entries = |body: Option<&[u8]>| {
            let mut entries = body.map_or_else(Vec::new, |body| (self.derive)(id, body));
            entries.sort_unstable();
            entries.dedup();
            entries
        };
        let (before, after) = (entries(before), entries(after));
        let gone =
            before.iter().filter(|entry| after.binary_search(entry).is_err()).map(|entry| (entry.clone(), false));
        let new = after.iter().filter(|entry| before.binary_search(entry).is_err()).map(|entry| (entry.clone(), true));
        gone.chain(new).collect()
    }
}

/// What a collection derives, if anything.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    /// Whether there is something. Most collections derive nothing, and their writers should not meet on a lock.
    some: AtomicBool,
    deriver: RwLock<Option<Arc<Deriver>>>,
}

impl Derived {
    pub(crate) fn get(&self) -> Option<Arc<Deriver>> {
        if self.some.load(Ordering::SeqCst) { self.deriver.read().clone() } else { None }
    }

    fn set(&self, deriver: Option<Arc<Deriver>>) {
        let mut place = self.deriver.write();
        self.some.store(deriver.is_some(), Ordering::SeqCst);
        *place = deriver;
    }
}

impl Collection {
    /// Keeps in `target`, from now on, a document without a body for each id that `derive` makes of a document of this
    /// collection: each write changes both in one batch.
    ///
    /// `derive` is given a document's id and body. What it returns must depend on these alone, and no two documents may
    /// ever give rise to the same id, so an entry holds the id of its document. Nothing else should write to `target`.
    /// It is called while the document's stripe is locked, once for the version that a write replaces and once for the
    /// new one; keep it short. Entries that differ between the two are written, the others are not touched.
    ///
    /// What the documents that exist already give rise to is not written: when this returns, every write that comes later
    /// has been judged with `derive` in place, and a scan can add the rest with
    /// [`check`](crate::WriteBatch::check)ed batches. Calling it again takes the place of what was said before.
    ///
    /// The store does not remember it: say it again after opening, before writing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when `target` is this collection, one that derives itself, or one of another store, and inside
    /// an [`update`](Collection::update) closure.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Precondition, ScanRange};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let people = store.collection("people")?;
    /// let by_city = store.collection("people by city")?;
    /// people.derive_into(&by_city, |id, city| vec![[city, b"/", id].concat()])?;
    /// people.put("ana", "Rome", Precondition::Any)?;
    /// people.put("bo", "Oslo", Precondition::Any)?;
    /// people.put("ana", "Oslo", Precondition::Any)?;
    /// let found: etagdb::Result<Vec<_>> = by_city.scan(&ScanRange::all())?.map(|entry| Ok(entry?.0)).collect();
    /// assert_eq!(found?, ["Oslo/ana", "Oslo/bo"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn derive_into(
        &self,
        target: &Collection,
        derive: impl Fn(&[u8], &[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<()> {
        if !target.belongs_to(self.store()) {
            return Err(Error::Invalid(format!("collection {:?} is of another store", target.name())));
        }
        if Arc::ptr_eq(self.state(), target.state()) || target.state().derived.get().is_some() {
            return Err(Error::Invalid(format!("collection {:?} cannot be derived into", target.name())));
        }
        let deriver = Deriver { target: Arc::clone(target.state()), derive: Box::new(derive) };
        self.change_deriver(Some(Arc::new(deriver)))
    }

    /// Derives nothing any more. What was derived stays where it is.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] inside an [`update`](Collection::update) closure.
    pub fn derive_nothing(&self) -> Result<()> {
        self.change_deriver(None)
    }

    fn change_deriver(&self, deriver: Option<Arc<Deriver>>) -> Result<()> {
        refuse_in_update("what a collection derives cannot change inside an update closure")?;
        self.state().derived.set(deriver);
        self.store().wait_for_all_writers();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn only_the_difference_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().join("store")).expect("opens");
        let target = store.collection("entries").expect("made");
        let deriver = Deriver {
            target: Arc::clone(target.state()),
            derive: Box::new(|_, body| body.iter().map(|byte| vec![*byte]).collect()),
        };
        let changes = |before: &str, after: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
            let changes = deriver.changes(b"id", some(before).as_deref(), some(after).as_deref());
            let shown =
                changes.into_iter().map(|(id, new)| format!("{}{}", if new { '+' } else { '-' }, id[0] as char));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(changes("", "ba"), ["+a", "+b"]);
        assert_eq!(changes("ab", "bc"), ["-a", "+c"]);
        assert_eq!(changes("aab", "ba"), Vec::<String>::new());
        assert_eq!(changes("ab", ""), ["-a", "-b"]);
    }
}
