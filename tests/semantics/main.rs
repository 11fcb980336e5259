//! What the engine promises, one claim per test. Modules by the promise; everything goes through the public API.

mod anomalies;
mod batches;
mod bulk;
mod changes;
mod checkpoints;
mod collections;
mod concurrency;
mod cursors;
mod etags;
mod feed_histories;
mod history;
mod limits;
mod model;
mod preconditions;
mod read_only;
mod scans;
mod serializability;
mod sizes;
mod snapshots;
mod tailing;
mod transactions;
mod typed;
mod verification;

use etagdb::{Collection, Store};

/// A store in a directory that goes away with it.
struct Fixture {
    store: Store,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path().join("store")).expect("open");
        Fixture { store, dir }
    }

    fn collection(&self, name: &str) -> Collection {
        self.store.collection(name).expect("collection")
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Fixture {
        let Fixture { store, dir } = self;
        drop(store);
        let store = Store::open(dir.path().join("store")).expect("reopen");
        Fixture { store, dir }
    }
}

/// The body of a document as text; `None` when there is no document.
fn text(collection: &Collection, id: &str) -> Option<String> {
    let document = collection.get(id).expect("get")?;
    Some(String::from_utf8(document.body.to_vec()).expect("UTF-8"))
}
