//! Programs of a few threads that are run under every schedule that is tried. Owns what the threads do; what may come of
//! it is `truth`'s. Everything that is chosen at random is chosen by the scheduler, so a schedule repeats it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schedules::disk::{Disk, Fault};
use schedules::{
    Change, Clock, CommitHandle, Document, Durability, Error, FeedMode, FeedStart, Options, Precondition, Retention,
    WriteBatch, Written,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use crate::truth::{Client, Event, KEYS, Record, Truth, text, view};
use crate::upkeep;

/// One program: its name, the share of all schedules that it gets, and what it does.
pub struct Scenario {
    pub name: &'static str,
    pub share: usize,
    pub run: fn(),
}

pub const ALL: [Scenario; 13] = [
    Scenario { name: "one-key", share: 25, run: one_key },
    Scenario { name: "batches", share: 20, run: batches },
    Scenario { name: "futures", share: 20, run: futures },
    Scenario { name: "failed-sync", share: 20, run: failed_sync },
    Scenario { name: "full-disk", share: 10, run: full_disk },
    Scenario { name: "feed", share: 10, run: feed },
    Scenario { name: "transactions", share: 15, run: transactions },
    Scenario { name: "retention", share: 15, run: retention },
    Scenario { name: "buffered", share: 2, run: buffered },
    Scenario { name: "expiry", share: 10, run: upkeep::expiry },
    Scenario { name: "dropping", share: 4, run: upkeep::dropping },
    Scenario { name: "cursors", share: 10, run: upkeep::cursors },
    Scenario { name: "checkpoint", share: 5, run: upkeep::checkpoint },
];

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }
}

pub fn options() -> Options {
    Options::default().clock(StoppedClock).background_maintenance(false).document_cache_bytes(1 << 20)
}

/// A new store whose clients are noted.
pub fn start(options: Options, syncs: bool) -> Client {
    let disk = Disk::new("before");
    let store = options.open(disk.path()).expect("open");
    let carts = store.collection("carts").expect("make");
    carts.set_retention(Retention::FOREVER).expect("set");
    Client { name: 0, store, carts, disk, record: Record::default(), syncs }
}

impl Client {
    fn numbered(&self, name: usize) -> Client {
        Client { name, ..self.clone() }
    }

    /// A body that nobody else writes.
    pub fn body(&self, step: usize) -> String {
        format!("{}.{step}", self.name)
    }

    pub fn one(&self, step: usize, key: &'static str, what: u32) {
        let body = self.body(step);
        let put = |expected: Precondition| {
            let (at, result) = self.timed(|| self.carts.put(key, &body, expected).map(Some));
            self.wrote(at, key, body.clone(), expected, &result);
        };
        match what {
            0 => put(Precondition::Absent),
            1 => put(Precondition::Any),
            2 => put(Precondition::Present),
            3 => put(self.read(key).map_or(Precondition::Absent, |document| document.etag.into())),
            4 => {
                let expected = self.read(key).map_or(Precondition::Any, |document| document.etag.into());
                let (at, result) = self.timed(|| self.carts.delete(key, expected));
                self.wrote(at, key, body, expected, &result);
            }
            5 => {
                let change = |_: Option<&Document>| Ok(Change::Put(body.clone().into_bytes()));
                let (at, result) = self.timed(|| self.carts.update(key, change));
                self.wrote(at, key, body.clone(), Precondition::Any, &result);
            }
            6 => drop(self.read(key)),
            _ => view(self),
        }
    }

    /// A batch over some documents, in any order, with a condition on each.
    fn some_batch(&self, step: usize) -> (WriteBatch<'static>, Vec<(&'static str, String, Precondition)>) {
        let mut batch = self.store.batch();
        let mut writes = Vec::new();
        let first = thread_rng().gen_range(0..KEYS.len());
        let backwards = thread_rng().gen_bool(0.5);
        for index in 0..2 {
            let key = KEYS[if backwards { first + 3 - index } else { first + index } % 3];
            let body = format!("{}.{step}.{key}", self.name);
            let expected = match thread_rng().gen_range(0..3) {
                0 => Precondition::Any,
                1 => Precondition::Absent,
                _ => self.read(key).map_or(Precondition::Absent, |document| document.etag.into()),
            };
            batch.put(&self.carts, key, &body, expected);
            writes.push((key, body, expected));
        }
        (batch, writes)
    }

    fn batch_ended(
        &self,
        at: crate::truth::Span,
        writes: Vec<(&'static str, String, Precondition)>,
        result: &Result<Vec<Option<Written>>, Error>,
    ) {
        match result {
            Ok(written) => {
                assert_eq!(written.len(), writes.len(), "an answer for each operation");
                for ((key, body, expected), written) in writes.into_iter().zip(written) {
                    self.wrote(at, key, body, expected, &Ok(*written));
                }
            }
            Err(error) => {
                let bodies: Vec<String> = writes.into_iter().map(|(_, body, _)| body).collect();
                self.failed(at, &bodies, error);
            }
        }
    }

    fn batch(&self, step: usize) {
        let (batch, writes) = self.some_batch(step);
        let (at, result) = self.timed(|| batch.commit());
        self.batch_ended(at, writes, &result);
    }

    /// Submits a batch, and waits for it in one way or another, or not.
    fn submit(&self, step: usize) {
        let (batch, writes) = self.some_batch(step);
        let how = thread_rng().gen_range(0..3);
        if how == 2 {
            let handle: CommitHandle = batch.submit();
            writes.into_iter().for_each(|(_, body, _)| self.note(Event::Unknown { body }));
            return drop(handle);
        }
        let (at, result) = self.timed(|| match how {
            0 => batch.submit().wait(),
            _ => shuttle::future::block_on(batch.submit()),
        });
        self.batch_ended(at, writes, &result);
    }
}

/// Runs clients at once, and waits for them.
pub fn all_at_once(client: &Client, count: usize, run: impl Fn(&Client) + Clone + Send + 'static) {
    let threads: Vec<_> = (1..=count)
        .map(|name| {
            let (client, run) = (client.numbered(name), run.clone());
            thread::spawn(move || run(&client))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a panic ends the schedule"));
}

/// Closes the store, cuts the power, opens what is left, and judges by it all that was told.
pub fn judge_after_power_cut(client: Client) -> Truth {
    let Client { store, carts, disk, record, .. } = client;
    // The cut may come before the closing, which syncs.
    let cut_first = thread_rng().gen_bool(0.5);
    let more = thread_rng().gen_range(0..=disk.unsynced());
    let left = cut_first.then(|| disk.after_power_cut("after", more));
    drop((store, carts));
    let left = left.unwrap_or_else(|| disk.after_power_cut("after", more));
    let store = options().open(left.path()).expect("open again");
    let truth = Truth::of(&store);
    truth.judge(&record.lock().expect("nobody else is left"));
    let carts = store.collection("carts").expect("there");
    let written = carts.put("a", "after", Precondition::Any).expect("a store that was opened again takes writes");
    assert!(!truth.has_etag(written.etag), "an etag was given again");
    drop((store, carts));
    disk.remove();
    left.remove();
    truth
}

/// Three writers of one document, with every condition there is.
fn one_key() {
    let client = start(options(), true);
    all_at_once(&client, 3, |client| {
        for step in 0..2 {
            client.one(step, "a", thread_rng().gen_range(0..7));
        }
    });
    let truth = judge_after_power_cut(client);
    let sequences = truth.sequences();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "a gap: {sequences:?}");
}

/// Batches that want the same documents in different orders, and views of all of them.
fn batches() {
    let client = start(options(), true);
    all_at_once(&client, 3, |client| {
        for step in 0..2 {
            match thread_rng().gen_range(0..4) {
                0 => view(client),
                1 => client.one(step, KEYS[thread_rng().gen_range(0..3)], thread_rng().gen_range(0..8)),
                _ => client.batch(step),
            }
        }
    });
    judge_after_power_cut(client);
}

/// Handles that are awaited, waited for and dropped, beside writers that block; the store closes with some of them queued.
fn futures() {
    let client = start(options(), true);
    all_at_once(&client, 3, |client| {
        for step in 0..2 {
            match thread_rng().gen_range(0..4) {
                0 => client.one(step, "a", thread_rng().gen_range(0..8)),
                _ => client.submit(step),
            }
        }
    });
    judge_after_power_cut(client);
}

/// A sync fails, at any time; or a write to the log does.
fn failed_sync() {
    let client = start(options(), true);
    let fault = if thread_rng().gen_ratio(3, 4) { Fault::Sync } else { Fault::Write };
    client.disk.fail(thread_rng().gen_range(1..4), fault);
    all_at_once(&client, 3, mixed);
    judge_after_power_cut(client);
}

pub fn mixed(client: &Client) {
    for step in 0..2 {
        match thread_rng().gen_range(0..4) {
            0 => client.batch(step),
            1 => client.submit(step),
            _ => client.one(step, "a", thread_rng().gen_range(0..8)),
        }
    }
}

/// The disk is full for a while.
fn full_disk() {
    let client = start(options(), true);
    let fault = if thread_rng().r#gen() { Fault::Full } else { Fault::Refused };
    client.disk.fail(thread_rng().gen_range(1..4), fault);
    all_at_once(&client, 3, |client| {
        mixed(client);
        client.disk.make_space();
    });
    // The first comes after whatever failed and was not told yet.
    let put = |body: &str| {
        client.disk.make_space();
        let (at, result) = client.timed(|| client.carts.put("c", body, Precondition::Any).map(Some));
        client.wrote(at, "c", body.into(), Precondition::Any, &result);
        result.is_ok() || client.disk.fails()
    };
    put("first");
    assert!(put("second"), "there is space again");
    judge_after_power_cut(client);
}

/// A reader waits for each commit and must be told all of them in order, and that the store was closed.
fn feed() {
    let client = start(options(), true);
    let told = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let mut feed = client.store.changes(FeedMode::All, FeedStart::Beginning).expect("nothing was dropped");
    let reader = {
        let (told, disk) = (Arc::clone(&told), client.disk.clone());
        thread::spawn(move || {
            loop {
                let page = match feed.wait(Duration::MAX) {
                    Ok(page) => page,
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                };
                let durable = disk.durable_commit();
                for entry in &page.entries {
                    assert!(entry.seq.get() <= durable, "told before it was durable: {entry:?}");
                    told.0.lock().expect("a panic ends the schedule").push(entry.seq.get());
                }
                told.1.notify_one();
                let ends = page.entries.last().map(|entry| entry.batch_end);
                assert!(ends.is_none_or(|end| end <= page.position), "half a batch: {page:?}");
            }
        })
    };
    all_at_once(&client, 2, |client| {
        for step in 0..2 {
            match thread_rng().gen_range(0..3) {
                0 => client.submit(step),
                1 => client.batch(step),
                _ => client.one(step, "a", thread_rng().gen_range(0..6)),
            }
        }
    });
    // Before the store closes, which wakes everybody.
    let newest = client.store.last_commit().get();
    let mut seen = told.0.lock().expect("a panic ends the schedule");
    while seen.last().copied().unwrap_or(0) < newest {
        seen = told.1.wait(seen).expect("a panic ends the schedule");
    }
    drop(seen);
    let truth = judge_after_power_cut(client);
    reader.join().expect("a panic ends the schedule");
    let (told, all) = (told.0.lock().expect("nobody else is left").clone(), truth.sequences());
    // What nobody waited for may have come after the cut.
    assert!(all.starts_with(&told) || told.starts_with(&all), "the feed told {told:?} of {all:?}");
}

/// Transactions that read two documents and write one, beside plain writers.
fn transactions() {
    let client = start(options(), true);
    all_at_once(&client, 3, |client| {
        let key = KEYS[client.name % 2];
        for step in 0..2 {
            if thread_rng().gen_range(0..4) == 0 {
                client.one(step, key, 1);
                continue;
            }
            let body = client.body(step);
            let mut reads = Vec::new();
            let (at, result) = client.timed(|| {
                let mut transaction = client.store.begin();
                for key in ["a", "b"] {
                    let found = transaction.get(&client.carts, key)?;
                    reads.push((key, found.map(|document| document.etag)));
                }
                transaction.put(&client.carts, key, &body, Precondition::Any)?;
                transaction.commit()
            });
            let result = result.map(|committed| committed.written(&client.carts, key).copied());
            if let Ok(Some(written)) = &result {
                client.note(Event::Transacted { first: written.seq.get(), reads });
            }
            match &result {
                // What it lost to may have been queued after it had read; all that is certain is that it is told.
                Err(Error::Conflict(_)) => client.note(Event::NotWritten { body }),
                result => client.wrote(at, key, body, Precondition::Any, result),
            }
        }
    });
    judge_after_power_cut(client);
}

/// History is dropped while it is read: what a snapshot or a cursor holds stays.
fn retention() {
    let client = start(options(), true);
    client.carts.set_retention(Retention::age(Duration::ZERO)).expect("set");
    client.carts.put("a", "0", Precondition::Any).expect("put");
    let start = client.store.last_commit();
    let has_cursor = thread_rng().gen_bool(0.5);
    if has_cursor {
        client.store.register_cursor("reader", start).expect("register");
    }
    all_at_once(&client, 3, |client| match client.name {
        1 => {
            for _ in 0..2 {
                client.store.run_maintenance().expect("maintenance");
            }
        }
        2 => {
            for step in 0..3 {
                client.one(step, "a", thread_rng().gen_range(3..5));
            }
        }
        _ => {
            let snapshot = client.store.snapshot();
            let get = || snapshot.get(&client.carts, "a").expect("held").map(|document| text(&document.body));
            let (before, seq) = (get(), snapshot.seq());
            client.one(0, "a", 1);
            thread::yield_now();
            assert_eq!(get(), before, "a snapshot of {seq} changed");
            let history: Vec<_> = client.carts.history("a").expect("history").collect();
            assert!(history.iter().all(Result::is_ok), "{history:?}");
        }
    });
    client.store.run_maintenance().expect("maintenance");
    if has_cursor {
        // It holds all that came after it, in every version.
        let mut feed = client.store.changes(FeedMode::All, start).expect("the cursor holds it");
        let page = feed.read().expect("held");
        let sequences: Vec<u64> = page.entries.iter().map(|entry| entry.seq.get()).collect();
        assert!(sequences.iter().copied().eq(start.get() + 1..=client.store.last_commit().get()), "{sequences:?}");
        for entry in &page.entries {
            let previous = entry.previous.as_ref().map(|previous| previous.document.is_some());
            assert_ne!(previous, Some(false), "the version before was dropped: {entry:?}");
        }
        client.store.remove_cursor("reader").expect("remove");
    }
    // A document that is gone stays gone, while somebody still reads it as it was and afterwards.
    client.carts.put("a", "last", Precondition::Any).expect("put");
    let snapshot = client.store.snapshot();
    client.carts.delete("a", Precondition::Present).expect("delete");
    client.carts.put("b", "newer", Precondition::Any).expect("put");
    let run = || client.store.run_maintenance().expect("maintenance");
    for _ in 0..2 {
        run();
        let last = snapshot.get(&client.carts, "a").expect("held").map(|document| text(&document.body));
        assert_eq!(last.as_deref(), Some("last"), "what a snapshot holds was dropped");
        assert!(client.carts.get("a").expect("read").is_none(), "it came back beside a snapshot");
    }
    // Nor does one that remembers nothing find it.
    let disk = client.disk.after_power_cut("beside", client.disk.unsynced());
    let carts = options().open(disk.path()).and_then(|store| store.collection("carts")).expect("open");
    assert!(carts.get("a").expect("read").is_none(), "it came back");
    drop((carts, snapshot));
    run();
    run();
    let current = client.carts.get("a").expect("read").map(|document| document.etag);
    assert_eq!(current, None, "it came back");
    let left = client.disk.after_power_cut("after", 0);
    drop(client);
    let store = options().open(left.path()).expect("open again");
    let carts = store.collection("carts").expect("there");
    assert_eq!(carts.get("a").expect("read").map(|document| document.etag), current, "not the same after a power cut");
}

/// Without a sync for each write: a power cut leaves the first commits, whole, and none after the first that is lost.
fn buffered() {
    let client = start(options().durability(Durability::Buffered), false);
    all_at_once(&client, 2, |client| {
        for step in 0..2 {
            client.batch(step);
        }
    });
    let truth = Truth::of(&client.store);
    truth.judge(&client.record.lock().expect("nobody else is left"));
    let more = thread_rng().gen_range(0..=client.disk.unsynced());
    let left = client.disk.after_power_cut("after", more);
    drop(client);
    let store = options().open(left.path()).expect("open again");
    let found = Truth::of(&store).sequences();
    assert!(truth.sequences().starts_with(&found), "{found:?} of {:?}", truth.sequences());
}
