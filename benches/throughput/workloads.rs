//! What a thread does in each row: on raw RocksDB, and on etagdb.

use std::hint::black_box;

use bench_support::{Bodies, Workload, key};
use etagdb::{Change, Collection, Error, Etag, Precondition};
use parking_lot::Mutex;
use rocksdb::{DB, WriteOptions};

/// `Get`; pinned, which copies nothing, where RocksDB is tuned.
pub(crate) struct RawGet<'a> {
    pub(crate) db: &'a DB,
    pub(crate) pinned: bool,
}

impl Workload for RawGet<'_> {
    fn operate(&self, id: u64, _: &mut Bodies) -> u64 {
        if self.pinned {
            black_box(self.db.get_pinned(key(id)).expect("get").expect("loaded").len());
        } else {
            black_box(self.db.get(key(id)).expect("get").expect("loaded"));
        }
        0
    }
}

/// `Put`, which compares nothing.
pub(crate) struct RawPut<'a> {
    pub(crate) db: &'a DB,
    pub(crate) sync: bool,
}

impl Workload for RawPut<'_> {
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64 {
        let mut options = WriteOptions::default();
        options.set_sync(self.sync);
        self.db.put_opt(key(id), bodies.make(), &options).expect("put");
        0
    }
}

/// The current version with its etag and body.
pub(crate) struct Get<'a>(pub(crate) &'a Collection);

impl Workload for Get<'_> {
    fn operate(&self, id: u64, _: &mut Bodies) -> u64 {
        black_box(self.0.get(key(id)).expect("get").expect("loaded"));
        0
    }
}

/// A compare-and-swap by somebody who has read the document, or knows the etag from the write before. A lost race tries
/// again with the etag that won, and counts once.
pub(crate) struct CompareAndSwap<'a> {
    docs: &'a Collection,
    etags: Vec<Mutex<Etag>>,
}

impl<'a> CompareAndSwap<'a> {
    pub(crate) fn new(docs: &'a Collection, documents: u64) -> CompareAndSwap<'a> {
        let read = |id| Mutex::new(docs.get(key(id)).expect("get").expect("loaded").etag);
        CompareAndSwap { docs, etags: (0..documents).map(read).collect() }
    }
}

impl Workload for CompareAndSwap<'_> {
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64 {
        let body = bodies.make();
        let known = &self.etags[id as usize];
        let (mut guard, mut conflicts) = (*known.lock(), 0);
        loop {
            match self.docs.put(key(id), body, guard) {
                Ok(written) => {
                    *known.lock() = written.etag;
                    return conflicts;
                }
                Err(Error::Conflict(conflict)) => guard = conflict.current.expect("nobody deletes"),
                Err(error) => panic!("put: {error}"),
            }
            conflicts += 1;
        }
    }
}

/// Reads a document and replaces what it read, until that succeeds.
pub(crate) struct ReadAndSwap<'a>(pub(crate) &'a Collection);

impl Workload for ReadAndSwap<'_> {
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64 {
        let body = bodies.make();
        let mut conflicts = 0;
        loop {
            let current = self.0.get(key(id)).expect("get").expect("loaded");
            match self.0.put(key(id), body, current.etag) {
                Ok(_) => return conflicts,
                Err(Error::Conflict(_)) => conflicts += 1,
                Err(error) => panic!("put: {error}"),
            }
        }
    }
}

/// Reads and replaces in one step.
pub(crate) struct Update<'a>(pub(crate) &'a Collection);

impl Workload for Update<'_> {
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64 {
        let body = bodies.make().to_vec();
        self.0.update(key(id), |_| Ok(Change::Put(body))).expect("update");
        0
    }
}

/// Replaces whatever there is.
pub(crate) struct Upsert<'a>(pub(crate) &'a Collection);

impl Workload for Upsert<'_> {
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64 {
        self.0.put(key(id), bodies.make(), Precondition::Any).expect("put");
        0
    }
}
