//! Waiting for changes: nobody polls, nobody misses a commit, nobody waits for ever.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use etagdb::{ChangeFeed, Collection, CommitSeq, Error, FeedEntry, FeedMode, FeedPage, FeedStart, Precondition, Store};

use crate::Fixture;
use crate::changes::drain;

/// The whole of an executor: polls when woken, sleeps otherwise.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

async fn next_page(feed: &mut ChangeFeed) -> etagdb::Result<FeedPage> {
    loop {
        feed.ready().await?;
        let page = feed.read()?;
        if !page.is_empty() {
            return Ok(page);
        }
    }
}

/// A waker that counts its calls.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn poll<F: Future + Unpin>(self: &Arc<Count>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn put(collection: &Collection, id: &str) -> CommitSeq {
    collection.put(id, "", Precondition::Any).expect("put").seq
}

fn until_waiting(store: &Store, count: usize) {
    while store.stats().waiting_feeds != count {
        thread::yield_now();
    }
}

#[test]
fn a_commit_wakes_a_blocked_reader() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut feed = docs.changes(FeedMode::All, FeedStart::Now).expect("feed");
    thread::scope(|scope| {
        let reader = scope.spawn(move || feed.wait(Duration::MAX).expect("wait"));
        until_waiting(&fixture.store, 1);
        let seq = put(&docs, "a");
        let page = reader.join().expect("joined");
        assert_eq!((page.entries[0].seq, page.entries.len()), (seq, 1));
    });
    assert_eq!(fixture.store.stats().waiting_feeds, 0);
}

#[test]
fn a_wait_ends_with_an_empty_page_when_its_time_is_over() {
    let fixture = Fixture::new();
    let (docs, other) = (fixture.collection("docs"), fixture.collection("other"));
    let mut feed = docs.changes(FeedMode::All, FeedStart::Now).expect("feed");
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        let elsewhere = put(&other, "a");
        let page = feed.wait(timeout).expect("wait");
        assert!(page.is_empty());
        assert_eq!(page.position, elsewhere, "what does not concern the feed is passed all the same");
    }
    assert_eq!(fixture.store.stats().waiting_feeds, 0, "nothing is left behind");
    put(&docs, "a");
    assert_eq!(feed.wait(Duration::ZERO).expect("wait").entries.len(), 1, "what is there needs no time");
}

#[test]
fn a_commit_wakes_a_future_and_spurious_polls_do_no_harm() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let feed = docs.changes(FeedMode::All, FeedStart::Now).expect("feed");
    let (count, mut ready) = (Arc::new(Count::default()), feed.ready());
    assert!(count.poll(&mut ready).is_pending());
    assert!(count.poll(&mut ready).is_pending());
    assert_eq!((fixture.store.stats().waiting_feeds, count.get()), (1, 0));
    put(&docs, "a");
    assert_eq!(count.get(), 1);
    put(&docs, "a");
    assert_eq!(count.get(), 1, "woken once, however many commits follow");
    assert!(matches!(count.poll(&mut ready), Poll::Ready(Ok(()))));
}

#[test]
fn the_last_waker_given_is_the_one_that_is_called() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut ready = docs.changes(FeedMode::All, FeedStart::Now).expect("feed").ready();
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    assert!(first.poll(&mut ready).is_pending() && second.poll(&mut ready).is_pending());
    put(&docs, "a");
    assert_eq!((first.get(), second.get()), (0, 1));
}

#[test]
fn a_cancelled_future_is_forgotten() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let feed = docs.changes(FeedMode::All, FeedStart::Now).expect("feed");
    let count = Arc::new(Count::default());
    let mut waits: Vec<_> = (0..100).map(|_| feed.ready()).collect();
    assert!(waits.iter_mut().all(|ready| count.poll(ready).is_pending()));
    waits.truncate(10);
    assert_eq!(fixture.store.stats().waiting_feeds, 10);
    assert_eq!(Arc::strong_count(&count), 11, "their wakers are gone");
    put(&docs, "a");
    assert_eq!(count.get(), 10);
    // A future that was woken and is then dropped without another poll.
    drop(waits);
    assert_eq!((fixture.store.stats().waiting_feeds, Arc::strong_count(&count)), (0, 1));
}

#[test]
fn a_commit_elsewhere_wakes_nobody() {
    let fixture = Fixture::new();
    let (docs, other) = (fixture.collection("docs"), fixture.collection("other"));
    let (of_docs, of_store) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut docs_ready = docs.changes(FeedMode::All, FeedStart::Now).expect("feed").ready();
    let mut store_ready = fixture.store.changes(FeedMode::All, FeedStart::Now).expect("feed").ready();
    assert!(of_docs.poll(&mut docs_ready).is_pending() && of_store.poll(&mut store_ready).is_pending());
    put(&other, "a");
    assert_eq!((of_docs.get(), of_store.get()), (0, 1));
    put(&docs, "a");
    assert_eq!((of_docs.get(), of_store.get()), (1, 1));
}

/// A feed is no handle: it does not keep the store open, or no program that tails one could ever close it.
#[test]
fn closing_the_store_ends_every_wait() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    put(&docs, "a");
    let feed = || docs.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    let readers: [thread::JoinHandle<usize>; 3] = [
        thread::spawn({
            let mut feed = feed();
            move || feed.tail().map(|page| page.expect("page").entries.len()).sum()
        }),
        thread::spawn({
            let mut feed = feed();
            move || {
                let seen = feed.read().expect("read").entries.len();
                assert!(matches!(feed.wait(Duration::MAX), Err(Error::Closed)));
                seen
            }
        }),
        thread::spawn({
            let mut feed = feed();
            move || {
                let seen = block_on(next_page(&mut feed)).expect("page").entries.len();
                assert!(matches!(block_on(next_page(&mut feed)), Err(Error::Closed)));
                seen
            }
        }),
    ];
    let mut outlives = feed();
    until_waiting(&fixture.store, 3);
    drop(docs);
    let fixture = fixture.reopen();
    for reader in readers {
        assert_eq!(reader.join().expect("joined"), 1);
    }
    assert!(matches!(outlives.read(), Err(Error::Closed)));
    assert!(matches!(block_on(next_page(&mut outlives)), Err(Error::Closed)));
    assert!(outlives.tail().next().is_none());
    drop(fixture);
}

#[test]
fn dropping_the_collection_ends_the_wait_for_it() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut feed = docs.changes(FeedMode::Latest, FeedStart::Now).expect("feed");
    thread::scope(|scope| {
        let reader = scope.spawn(move || feed.wait(Duration::MAX));
        until_waiting(&fixture.store, 1);
        fixture.store.drop_collection("docs").expect("drop");
        assert!(matches!(reader.join().expect("joined"), Err(Error::Invalid(message)) if message.contains("dropped")));
    });
}

const WRITERS: usize = 4;
const BATCHES: usize = 60;

/// Batch `n` of a writer: that many writes, alternating between two collections.
fn size(n: usize) -> usize {
    1 + n % 5
}

fn write(store: &Store, collections: &[Collection; 2], writer: usize) {
    for n in 0..BATCHES {
        let mut batch = store.batch();
        for part in 0..size(n) {
            batch.put(&collections[part % 2], format!("{writer} {n} {part}"), "x", Precondition::Absent);
        }
        batch.commit().expect("commit");
    }
}

/// Whether what was told is every commit once, in order, with batches whole; `parts` says which writes of a batch
/// concern the reader.
fn check(entries: &[FeedEntry], parts: impl Fn(usize) -> bool) {
    assert!(entries.is_sorted_by(|one, next| one.seq < next.seq));
    let mut next_batch = [0; WRITERS];
    for batch in entries.chunk_by(|one, next| one.batch_end == next.batch_end) {
        let name = |entry: &FeedEntry| -> Vec<usize> {
            let id = std::str::from_utf8(&entry.id).expect("UTF-8");
            id.split(' ').map(|number| number.parse().expect("a number")).collect()
        };
        let (writer, n) = (name(&batch[0])[0], name(&batch[0])[1]);
        // One writer's batches come in its order; those without a part for the reader do not come.
        while !(0..size(next_batch[writer])).any(&parts) {
            next_batch[writer] += 1;
        }
        assert_eq!(n, next_batch[writer]);
        next_batch[writer] += 1;
        let told: Vec<_> = batch.iter().map(name).collect();
        let whole: Vec<_> = (0..size(n)).filter(|&part| parts(part)).map(|part| vec![writer, n, part]).collect();
        assert_eq!(told, whole);
    }
    let expected: usize = (0..BATCHES).map(|n| (0..size(n)).filter(|&part| parts(part)).count()).sum();
    assert_eq!(entries.len(), WRITERS * expected);
}

fn expected(parts: impl Fn(usize) -> bool) -> usize {
    WRITERS * (0..BATCHES).map(|n| (0..size(n)).filter(|&part| parts(part)).count()).sum::<usize>()
}

#[test]
fn every_reader_sees_every_commit_once_in_order_and_whole() {
    let fixture = Fixture::new();
    let collections = [fixture.collection("even"), fixture.collection("odd")];
    let store = &fixture.store;
    let feed = || store.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    let total = expected(|_| true);
    let slow = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let collections = &collections;
            scope.spawn(move || write(store, collections, writer));
        }
        for reader in 0..3 {
            // Blocking readers of the store, with pages of different sizes.
            let mut feed = feed().page_entries(1 + 7 * reader);
            let collections = &collections;
            scope.spawn(move || {
                let mut seen: Vec<FeedEntry> = Vec::new();
                while seen.len() < total {
                    let page = feed.wait(Duration::MAX).expect("wait");
                    // Nothing is told before everybody can read it.
                    for entry in &page.entries {
                        let collection = &collections[usize::from(entry.collection() == "odd")];
                        assert!(collection.get(&entry.id).expect("get").is_some());
                    }
                    assert!(page.position <= collections[0].last_commit());
                    seen.extend(page.entries);
                }
                check(&seen, |_| true);
            });
            // Asynchronous ones of one collection.
            let mut feed = collections[1].changes(FeedMode::All, FeedStart::Beginning).expect("feed").page_entries(5);
            scope.spawn(move || {
                let total = expected(|part| part % 2 == 1);
                let mut seen = Vec::new();
                block_on(async {
                    while seen.len() < total {
                        seen.extend(next_page(&mut feed).await.expect("page").entries);
                    }
                });
                check(&seen, |part| part % 2 == 1);
            });
            // And one of each document's newest version, which here is its only one.
            let mut feed = collections[0].changes(FeedMode::Latest, FeedStart::Beginning).expect("feed");
            scope.spawn(move || {
                let total = expected(|part| part % 2 == 0);
                let mut seen = Vec::new();
                while seen.len() < total {
                    seen.extend(feed.tail().next().expect("the store is open").expect("page").entries);
                }
                check(&seen, |part| part % 2 == 0);
            });
        }
        // A slow one has seen a few pages when the writers are done.
        let mut feed = feed().page_entries(10);
        let slow = scope.spawn(move || (0..3).flat_map(|_| feed.wait(Duration::MAX).expect("wait").entries).collect());
        slow.join().expect("joined")
    });
    let mut seen: Vec<FeedEntry> = slow;
    assert!(seen.len() < total);
    drop(collections);
    let fixture = fixture.reopen();
    let position = seen.last().expect("some").batch_end;
    let mut feed = fixture.store.changes(FeedMode::All, position).expect("feed");
    seen.extend(drain(&mut feed).into_iter().flat_map(|page| page.entries));
    check(&seen, |_| true);
}

/// A lost wake-up: a commit comes between a reader's look and its sleep, and nobody ever wakes it.
#[test]
fn no_wake_up_is_lost() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    const ROUNDS: u64 = 500;
    // Each answers the other's write, so both stop for ever if either misses one.
    thread::scope(|scope| {
        for player in 0..2 {
            let docs = &docs;
            let mut feed = docs.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
            scope.spawn(move || {
                let mut seen = 0;
                while seen < ROUNDS {
                    if seen % 2 == player {
                        put(docs, "ball");
                    }
                    let page = if player == 0 { feed.wait(Duration::MAX) } else { block_on(next_page(&mut feed)) };
                    seen += page.expect("page").entries.len() as u64;
                }
            });
        }
    });
    assert_eq!(fixture.store.last_commit().get(), ROUNDS);
}

/// A collection that goes while its changes are read goes as a whole: no batch shows a part of what it did there.
#[test]
fn a_drop_in_the_middle_of_a_read_does_no_harm() {
    const ROUNDS: usize = 40;
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let store = &fixture.store;
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for mode in [FeedMode::All, FeedMode::Latest] {
            let is_done = &is_done;
            scope.spawn(move || {
                let mut looks = 0;
                while looks == 0 || !is_done.load(Ordering::SeqCst) {
                    let mut feed = store.changes(mode, FeedStart::Beginning).expect("feed").page_entries(50);
                    for page in drain(&mut feed) {
                        for batch in page.batches() {
                            let of_dropped = batch.iter().filter(|entry| entry.collection() != "docs").count();
                            assert!(of_dropped == 0 || of_dropped == 10, "{of_dropped} of 10");
                            assert!(mode == FeedMode::Latest || batch.len() == of_dropped + 1);
                        }
                    }
                    looks += 1;
                }
            });
        }
        for round in 0..ROUNDS {
            let goes = store.collection(&format!("goes {round}")).expect("collection");
            for n in 0..5 {
                let mut batch = store.batch();
                batch.put(&docs, "a", "", Precondition::Any);
                for part in 0..10 {
                    batch.put(&goes, format!("{n} {part}"), "", Precondition::Any);
                }
                batch.commit().expect("commit");
            }
            store.drop_collection(goes.name()).expect("drop");
        }
        is_done.store(true, Ordering::SeqCst);
    });
    let page = store.changes(FeedMode::All, FeedStart::Beginning).expect("feed").read().expect("read");
    assert!(page.entries.iter().all(|entry| entry.collection() == "docs"));
    assert_eq!(page.entries.len(), ROUNDS * 5);
}
