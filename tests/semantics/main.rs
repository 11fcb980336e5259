//! What the engine promises, one claim per test. Modules by the promise; everything goes through the public API.

mod anomalies;
mod batches;
mod bulk;
mod changes;
mod checkpoints;
mod collections;
mod concurrency;
mod cursors;
mod derived;
mod etags;
mod handles;
mod history;
mod limits;
mod linearizability;
mod preconditions;
mod read_only;
mod retention;
mod scans;
mod serializability;
mod sizes;
mod snapshots;
mod tailing;
mod transactions;
mod ttl;
mod typed;
mod verification;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{Clock, Collection, Options, Store};

/// A store in a directory that goes away with it.
struct Fixture {
    store: Store,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(Options::default())
    }

    fn with(options: Options) -> Fixture {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = options.open(dir.path().join("store")).expect("open");
        Fixture { store, dir }
    }

    fn collection(&self, name: &str) -> Collection {
        self.store.collection(name).expect("collection")
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Fixture {
        self.reopen_with(Options::default())
    }

    fn reopen_with(self, options: Options) -> Fixture {
        let Fixture { store, dir } = self;
        drop(store);
        let store = options.open(dir.path().join("store")).expect("reopen");
        Fixture { store, dir }
    }
}

/// Nothing happens by itself: maintenance is the test's.
fn quiet() -> Options {
    Options::default().background_maintenance(false)
}

/// A clock that stands still until it is set.
#[derive(Debug, Clone, Default)]
struct TestClock {
    ms: Arc<AtomicU64>,
}

impl TestClock {
    fn set(&self, ms: u64) {
        self.ms.store(ms, Ordering::SeqCst);
    }

    fn advance(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.ms.load(Ordering::SeqCst))
    }
}

/// A store whose time is the test's, and which does nothing by itself.
struct Timed {
    fixture: Fixture,
    clock: TestClock,
}

impl Timed {
    fn new() -> Timed {
        let clock = TestClock::default();
        clock.set(1_000);
        Timed { fixture: Fixture::with(Timed::options(&clock)), clock }
    }

    fn options(clock: &TestClock) -> Options {
        quiet().clock(clock.clone())
    }

    fn reopen(self) -> Timed {
        let Timed { fixture, clock } = self;
        Timed { fixture: fixture.reopen_with(Timed::options(&clock)), clock }
    }
}

/// The body of a document as text; `None` when there is no document.
fn text(collection: &Collection, id: &str) -> Option<String> {
    let document = collection.get(id).expect("get")?;
    Some(String::from_utf8(document.body.to_vec()).expect("UTF-8"))
}

/// Copies a directory of a store that nobody writes to meanwhile: as the death of its process would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("create");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copy")),
        }
    }
}
