//! Threads that do everything at once to the same few documents, while time goes on and back, documents expire, versions
//! are dropped and feeds are read. What they were told is written down, and must fit the order of the feed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use etagdb::{
    Abort, Change, Collection, CollectionTtl, CommitSeq, Document, Durability, Error, Etag, FeedEntry, FeedMode,
    FeedStart, Options, Precondition, PutOptions, Retention, ScanRange, Snapshot, Store, Transaction,
};

use crate::random::Random;
use crate::record::{Deed, Event, Key, Replay, What};
use crate::subject::{TestClock, directory};

const NAMES: [&str; 2] = ["own", "default"];
const IDS: u64 = 8;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ttls() -> Vec<CollectionTtl> {
    vec![CollectionTtl::Documents, CollectionTtl::After(ms(15))]
}

/// The store, and what was done to it.
struct Recorder {
    store: Store,
    docs: Vec<Collection>,
    clock: TestClock,
    /// The latest time that the clock ever showed.
    latest_ms: AtomicU64,
    /// The last commit that somebody was told of, and its time.
    acknowledged: AtomicU64,
    acknowledged_ms: AtomicU64,
    next_value: AtomicU64,
    events: Mutex<Vec<Event>>,
}

/// When an event began.
#[derive(Clone, Copy)]
struct Begun {
    after: u64,
    from_ms: u64,
}

impl Recorder {
    fn begin(&self) -> Begun {
        let after = self.acknowledged.load(Ordering::SeqCst);
        Begun { after, from_ms: self.acknowledged_ms.load(Ordering::SeqCst) }
    }

    fn record(&self, begun: Begun, what: What) {
        if let What::Happened(deeds) = &what {
            for deed in deeds {
                if let Deed::Wrote { written, .. } = deed {
                    // In this order: whoever takes both takes a commit's time with the commit, or a later one's.
                    self.acknowledged_ms.fetch_max(written.time_ms, Ordering::SeqCst);
                    self.acknowledged.fetch_max(written.seq.get(), Ordering::SeqCst);
                }
            }
        }
        let until = self.store.last_commit().get();
        let to_ms = self.latest_ms.load(Ordering::SeqCst);
        let event = Event { after: begun.after, until, from_ms: begun.from_ms, to_ms, what };
        self.events.lock().expect("not poisoned").push(event);
    }

    fn tick(&self, random: &mut Random) {
        let now = self.clock.get();
        let next = if random.one_in(8) { now.saturating_sub(random.below(8)) } else { now + random.below(4) };
        // Before anybody can see it.
        self.latest_ms.fetch_max(next, Ordering::SeqCst);
        self.clock.set(next);
    }

    fn key(&self, random: &mut Random) -> Key {
        (random.index(NAMES.len()), format!("{}", random.below(IDS)))
    }

    fn body(&self) -> String {
        self.next_value.fetch_add(1, Ordering::SeqCst).to_string()
    }

    fn options(&self, random: &mut Random) -> PutOptions {
        if random.one_in(3) { PutOptions::default().ttl(ms(1 + random.below(20))) } else { PutOptions::default() }
    }

    fn act(&self, random: &mut Random) {
        match random.below(20) {
            0..=2 => self.tick(random),
            3..=5 => self.single(random),
            6..=8 => self.update(random),
            9..=11 => self.batch(random),
            12..=14 => self.transaction(random),
            15 | 16 => self.look(random),
            17 => self.look_back(random),
            _ => self.get(random),
        }
    }

    fn get(&self, random: &mut Random) {
        let (begun, key) = (self.begin(), self.key(random));
        let found = self.docs[key.0].get(&key.1).expect("get");
        self.record(begun, What::Was(key, found.map(|document| document.etag)));
    }

    /// A compare-and-swap, or a creation.
    fn single(&self, random: &mut Random) {
        let (begun, key, body) = (self.begin(), self.key(random), self.body());
        let docs = &self.docs[key.0];
        let etag = docs.get(&key.1).expect("get").map(|document| document.etag);
        self.record(begun, What::Was(key.clone(), etag));
        let precondition = etag.map_or(Precondition::Absent, Precondition::Match);
        let delete = etag.is_some() && random.one_in(3);
        let result = match delete {
            true => docs.delete(&key.1, precondition).map(|written| written.expect("there")),
            false => docs.put_with(&key.1, &body, precondition, self.options(random)),
        };
        match result {
            Ok(written) => {
                let body = (!delete).then_some(body);
                let deeds = vec![Deed::Held(key.clone(), precondition), Deed::Wrote { key, written, body }];
                self.record(begun, What::Happened(deeds));
            }
            Err(Error::Conflict(conflict)) => self.record(begun, What::Was(key, conflict.current)),
            Err(error) => panic!("{error}"),
        }
    }

    fn update(&self, random: &mut Random) {
        let (begun, key, body) = (self.begin(), self.key(random), self.body());
        let (mut seen, options, delete) = (None, self.options(random), random.one_in(4));
        let change = |current: Option<&Document>| -> Result<Change, Abort> {
            seen = current.map(|document| document.etag);
            Ok(if delete { Change::Delete } else { Change::PutWith(body.clone().into_bytes(), options) })
        };
        match self.docs[key.0].update(&key.1, change).expect("update") {
            Some(written) => {
                let body = (!delete).then_some(body);
                let deeds = vec![Deed::Read(key.clone(), seen), Deed::Wrote { key, written, body }];
                self.record(begun, What::Happened(deeds));
            }
            None => self.record(begun, What::Was(key, seen)),
        }
    }

    /// Over both collections, with checks; waited for by blocking or as a handle.
    fn batch(&self, random: &mut Random) {
        let begun = self.begin();
        let mut batch = self.store.batch();
        let mut deeds = Vec::new();
        let mut operations: Vec<(Key, Option<Option<String>>)> = Vec::new();
        for _ in 0..1 + random.below(4) {
            let key = self.key(random);
            let precondition =
                random.pick(&[Precondition::Any, Precondition::Any, Precondition::Absent, Precondition::Present]);
            match random.below(4) {
                0 => {
                    batch.check(&self.docs[key.0], &key.1, precondition);
                    operations.push((key.clone(), None));
                }
                1 => {
                    batch.delete(&self.docs[key.0], &key.1, precondition);
                    operations.push((key.clone(), Some(None)));
                }
                _ => {
                    let body = self.body();
                    batch.put_with(&self.docs[key.0], &key.1, &body, precondition, self.options(random));
                    operations.push((key.clone(), Some(Some(body))));
                }
            }
            deeds.push((key, precondition));
        }
        // It has a place in the order whatever comes of the rest.
        let place = (0, format!("place {}", self.body()));
        batch.put(&self.docs[0], &place.1, "", Precondition::Any);
        operations.push((place.clone(), Some(Some(String::new()))));
        deeds.push((place, Precondition::Any));
        let result = if random.one_in(2) { batch.submit().wait() } else { batch.commit() };
        match result {
            Ok(results) => {
                let mut happened = Vec::new();
                for (((key, precondition), (_, write)), written) in deeds.into_iter().zip(operations).zip(results) {
                    happened.push(Deed::Held(key.clone(), precondition));
                    match (write, written) {
                        (Some(body), Some(written)) => happened.push(Deed::Wrote { key, written, body }),
                        (Some(None), None) => happened.push(Deed::FoundNothing(key)),
                        (None, None) => {}
                        (write, written) => panic!("{write:?} came to {written:?}"),
                    }
                }
                self.record(begun, What::Happened(happened));
            }
            Err(Error::Conflict(conflict)) => {
                // What the batch itself did before is known to nobody else.
                let (key, _) = deeds[conflict.position].clone();
                if deeds[..conflict.position].iter().all(|(earlier, _)| *earlier != key) {
                    self.record(begun, What::Was(key, conflict.current));
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn transaction(&self, random: &mut Random) {
        let begun = self.begin();
        let mut txn = self.store.begin();
        let mut deeds = Vec::new();
        let mut writes: Vec<(Key, Option<String>)> = Vec::new();
        for _ in 0..1 + random.below(4) {
            let key = self.key(random);
            match random.below(4) {
                0 => deeds.extend(self.scan_within(&txn, key.0, &writes)),
                1 | 2 if writes.iter().all(|(written, _)| *written != key) => {
                    let seen = txn.get(&self.docs[key.0], &key.1).expect("get");
                    deeds.push(Deed::Read(key, seen.map(|document| document.etag)));
                }
                _ => {
                    let body = (!random.one_in(4)).then(|| self.body());
                    let docs = &self.docs[key.0];
                    match &body {
                        Some(body) => txn.put_with(docs, &key.1, body, Precondition::Any, self.options(random)),
                        None => txn.delete(docs, &key.1, Precondition::Any),
                    }
                    .expect("within limits");
                    writes.retain(|(written, _)| *written != key);
                    writes.push((key, body));
                }
            }
        }
        let place = (0, format!("place {}", self.body()));
        txn.put(&self.docs[0], &place.1, "", Precondition::Any).expect("within limits");
        writes.push((place, Some(String::new())));
        match txn.commit() {
            Ok(committed) => {
                for (key, body) in writes {
                    match committed.written(&self.docs[key.0], &key.1) {
                        Some(&written) => deeds.push(Deed::Wrote { key, written, body }),
                        None => deeds.push(Deed::FoundNothing(key)),
                    }
                }
                self.record(begun, What::Happened(deeds));
            }
            Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// What the transaction has written itself is no news.
    fn scan_within(&self, txn: &Transaction, collection: usize, writes: &[(Key, Option<String>)]) -> Vec<Deed> {
        let scan = txn.scan(&self.docs[collection], &ScanRange::all().to("p")).expect("scan");
        let seen: BTreeMap<String, Etag> = scan
            .map(|entry| entry.expect("entry"))
            .map(|(id, document)| (String::from_utf8_lossy(&id).into_owned(), document.etag))
            .collect();
        let keys = (0..IDS).map(|id| (collection, id.to_string()));
        let foreign = keys.filter(|key| writes.iter().all(|(written, _)| written != key));
        foreign.map(|key| Deed::Read(key.clone(), seen.get(&key.1).copied())).collect()
    }

    fn look(&self, random: &mut Random) {
        let begun = self.begin();
        let snapshot = self.store.snapshot();
        self.tick(random);
        self.see(begun, &snapshot);
    }

    /// At a state of the past, as far as it is kept.
    fn look_back(&self, random: &mut Random) {
        let back = self.store.last_commit().get().saturating_sub(random.below(60));
        match self.store.snapshot_at(CommitSeq::new(back)) {
            // By what time it is judged is not known where that commit was dropped.
            Ok(snapshot) => self.see(Begun { after: 0, from_ms: 0 }, &snapshot),
            Err(Error::NotRetained { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn see(&self, begun: Begun, snapshot: &Snapshot) {
        let (mut collections, mut found) = (Vec::new(), BTreeMap::new());
        for (collection, docs) in self.docs.iter().enumerate() {
            match snapshot.scan(docs, &ScanRange::all().to("p")) {
                Ok(scan) => {
                    collections.push(collection);
                    for entry in scan {
                        let (id, document) = entry.expect("entry");
                        found.insert((collection, String::from_utf8_lossy(&id).into_owned()), document.etag);
                    }
                }
                Err(Error::NotRetained { .. }) => assert_eq!(begun.from_ms, 0, "a snapshot of now is whole"),
                Err(error) => panic!("{error}"),
            }
        }
        self.record(begun, What::Saw { seq: snapshot.seq().get(), collections, found });
    }
}

/// Follows a feed for as long as it is told to, and to the end then.
fn follow(recorder: &Recorder, mode: FeedMode, done: &AtomicBool, mut read: impl FnMut(&[FeedEntry], CommitSeq)) {
    let mut feed = recorder.store.changes(mode, FeedStart::Beginning).expect("feed").page_entries(40);
    loop {
        let was_done = done.load(Ordering::SeqCst);
        let page = feed.read().expect("kept by the cursor");
        read(&page.entries, page.position);
        if was_done && page.is_empty() {
            return;
        }
    }
}

/// What the threads were told, and what the feed told.
struct Told {
    events: Vec<Event>,
    entries: Vec<FeedEntry>,
    /// By document, the newest that a reader of [`FeedMode::Latest`] was told, and the documents in the end.
    latest: BTreeMap<Key, Etag>,
    end: BTreeMap<Key, Etag>,
    now_ms: u64,
    dropped: u64,
}

fn run(durability: Durability, threads: u64, rounds: usize) -> Told {
    let dir = directory();
    let clock = TestClock::default();
    clock.set(1_000);
    let options = Options::default()
        .durability(durability)
        .clock(clock.clone())
        .document_cache_bytes(2 << 10)
        .background_maintenance(false);
    let store = options.open(dir.path().join("store")).expect("open");
    let docs: Vec<Collection> = NAMES.iter().map(|name| store.collection(name).expect("collection")).collect();
    for (docs, ttl) in docs.iter().zip(ttls()) {
        docs.set_ttl(ttl).expect("set");
        docs.set_retention(Retention::age(ms(5))).expect("set");
    }
    // What has been read is let go, and nothing before that.
    store.register_cursor("follower", CommitSeq::new(0)).expect("cursor");
    let recorder = Recorder {
        store,
        docs,
        clock,
        latest_ms: AtomicU64::new(1_000),
        acknowledged: AtomicU64::new(0),
        acknowledged_ms: AtomicU64::new(0),
        next_value: AtomicU64::new(1),
        events: Mutex::default(),
    };
    let done = AtomicBool::new(false);
    let (sender, entries) = mpsc::channel();
    let (mut latest, mut dropped) = (BTreeMap::new(), 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let recorder = &recorder;
                scope.spawn(move || {
                    let mut random = Random::new(thread);
                    (0..rounds).for_each(|_| recorder.act(&mut random));
                })
            })
            .collect();
        let (recorder, done) = (&recorder, &done);
        scope.spawn(move || {
            follow(recorder, FeedMode::All, done, |entries, position| {
                for entry in entries {
                    sender.send(entry.clone()).expect("somebody listens");
                }
                recorder.store.advance_cursor("follower", position).expect("forwards");
            });
        });
        let reader = scope.spawn(move || {
            let mut latest = BTreeMap::new();
            follow(recorder, FeedMode::Latest, done, |entries, _| {
                for entry in entries {
                    let collection = usize::from(entry.collection() == NAMES[1]);
                    latest.insert((collection, String::from_utf8_lossy(&entry.id).into_owned()), entry.etag);
                }
            });
            latest
        });
        let keeper = scope.spawn(move || {
            let mut dropped = 0;
            while !done.load(Ordering::SeqCst) {
                dropped += recorder.store.run_maintenance().expect("maintenance").dropped;
            }
            dropped
        });
        let worked: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        assert!(worked.iter().all(Result::is_ok), "a thread failed");
        latest = reader.join().expect("reader");
        dropped = keeper.join().expect("maintenance");
    });
    let mut entries: Vec<FeedEntry> = entries.iter().collect();
    // Expiries that were committed while the last readers left.
    let position = recorder.store.cursor("follower").expect("registered").position;
    entries.extend(recorder.store.changes(FeedMode::All, position).expect("feed").read().expect("page").entries);
    let events = recorder.events.into_inner().expect("not poisoned");
    let last = recorder.store.snapshot();
    let mut end = BTreeMap::new();
    for (collection, docs) in recorder.docs.iter().enumerate() {
        for entry in last.scan(docs, &ScanRange::all()).expect("scan") {
            let (id, document) = entry.expect("entry");
            end.insert((collection, String::from_utf8_lossy(&id).into_owned()), document.etag);
        }
    }
    let pins = recorder.store.stats().pins;
    let since = pins.iter().rfind(|pin| pin.seq == last.seq()).expect("a snapshot is alive").since;
    let now_ms = since.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let report = recorder.store.verify(|_| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.problems);
    Told { events, entries, latest, end, now_ms, dropped }
}

fn check(told: &Told) {
    let replay = Replay::new(told.entries.clone(), &NAMES, ttls()).expect("a feed that follows");
    replay.explains(&told.events).expect("everything fits the feed");
    assert_eq!(replay.end(told.now_ms), told.end, "the feed leads to what is there");
    for (key, etag) in &told.end {
        assert_eq!(told.latest.get(key), Some(etag), "{key:?}");
    }
    println!(
        "{} commits, {} of them expiries; {} events; {} versions dropped meanwhile",
        replay.len(),
        replay.expiries(),
        told.events.len(),
        told.dropped
    );
    assert!(replay.expiries() > 0 && told.dropped > 0, "something was to happen meanwhile");
}

#[test]
fn the_feed_explains_what_buffered_threads_were_told() {
    check(&run(Durability::Buffered, 6, 4_000));
}

/// With syncs, groups are large, and most of what meets meets within one group.
#[test]
fn the_feed_explains_what_synced_threads_were_told() {
    check(&run(Durability::Sync, 12, 1_500));
}

/// The tester is tested: whatever is changed in what somebody was told is seen.
#[test]
fn a_wrong_word_is_found_out() {
    let told = run(Durability::Buffered, 3, 300);
    let replay = Replay::new(told.entries.clone(), &NAMES, ttls()).expect("a feed that follows");
    let (mut wrong, mut kinds) = (0, [0; 5]);
    for (index, event) in told.events.iter().enumerate() {
        let mut changed = event.clone();
        let kind = match &mut changed.what {
            What::Saw { found, .. } if !found.is_empty() => {
                // A stale read: a version of another document, in place of the one that was there.
                found.first_entry().expect("not empty").insert(Etag::NEVER);
                0
            }
            What::Was(_, seen) => {
                *seen = Some(Etag::NEVER);
                1
            }
            What::Happened(deeds) => match deeds.first_mut() {
                Some(Deed::Read(_, seen)) => {
                    *seen = Some(Etag::NEVER);
                    2
                }
                Some(Deed::Held(_, precondition)) => {
                    *precondition = Precondition::Match(Etag::NEVER);
                    3
                }
                Some(Deed::Wrote { body, .. }) => {
                    *body = Some("something else".to_owned());
                    4
                }
                _ => continue,
            },
            What::Saw { .. } => continue,
        };
        kinds[kind] += 1;
        let mut events = told.events.clone();
        events[index] = changed;
        if index % 7 == 0 {
            wrong += 1;
            assert!(replay.explains(&events).is_err(), "nobody sees what is wrong in {:?}", events[index]);
        }
    }
    assert!(wrong > 20 && kinds.iter().all(|&count| count > 0), "{wrong} {kinds:?}");
    // A write that nobody knows of, and one that is lost.
    let is_write = |event: &&Event| matches!(event.what, What::Happened(_));
    let write = told.events.iter().position(|event| is_write(&event)).expect("a write");
    let mut events = told.events.clone();
    events.remove(write);
    assert!(replay.explains(&events).is_err(), "a write is missing");
    let mut entries = told.entries.clone();
    entries.remove(entries.len() / 2);
    let without = Replay::new(entries, &NAMES, ttls());
    assert!(without.and_then(|replay| replay.explains(&told.events)).is_err(), "a commit is missing");
}
