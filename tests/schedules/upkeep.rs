//! Programs in which what the store does besides writing races its clients: expiry, the drop of a collection, retention
//! with cursors and views of the past, and checkpoints. Each judges for itself what it knows better than `truth`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schedules::disk::Disk;
use schedules::{
    ChangeKind, Clock, CollectionTtl, Durability, Error, Etag, FeedEntry, FeedMode, FeedStart, Precondition,
    PutOptions, Retention, ScanRange, Store,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::scenarios::{all_at_once, judge_after_power_cut, mixed, options, start};
use crate::truth::{Client, Truth, text};

/// The sequence that an etag ends in.
fn seq_of(etag: Etag) -> u64 {
    let text = etag.to_string().replace('-', "");
    u64::from_str_radix(&text[16..], 16).expect("hexadecimal")
}

fn feed_of(store: &Store) -> Vec<FeedEntry> {
    let mut feed = store.changes(FeedMode::All, FeedStart::Beginning).expect("nothing was dropped");
    let mut entries = Vec::new();
    loop {
        let page = feed.read().expect("reads go on");
        if page.is_empty() {
            return entries;
        }
        entries.extend(page.entries);
    }
}

/// A clock that the clients set. Nobody can come between: it is no step of a schedule.
#[derive(Clone)]
struct SetClock {
    now_ms: Arc<AtomicU64>,
    latest_ms: Arc<AtomicU64>,
}

impl SetClock {
    fn new() -> SetClock {
        let start = || Arc::new(AtomicU64::new(1_000_000));
        SetClock { now_ms: start(), latest_ms: start() }
    }

    /// Forward, or back.
    fn jump(&self, by_ms: i64) {
        let now = self.now_ms.load(Ordering::SeqCst).saturating_add_signed(by_ms);
        self.now_ms.store(now, Ordering::SeqCst);
        self.latest_ms.fetch_max(now, Ordering::SeqCst);
    }

    fn to_latest(&self) {
        self.now_ms.store(self.latest_ms.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms.load(Ordering::SeqCst))
    }
}

const TTL_MS: u64 = 10;

/// What clients know of a document that expires.
#[derive(Default)]
struct Known {
    /// The newest version that was acknowledged or seen.
    newest: u64,
    /// Versions up to this one are gone for ever: somebody was told so.
    gone: u64,
    /// When it was said not to be there: the newest commit before that was asked, and after it was told.
    absences: Vec<(u64, u64)>,
    acknowledged: HashMap<u64, Etag>,
}

/// Writers, readers, the background work and a clock that jumps to and fro race for a document that expires. A version
/// that was gone for somebody is gone for everybody; none goes before its time; and its end has its place in the feed.
pub fn expiry() {
    let clock = SetClock::new();
    let client = start(options().clock(clock.clone()), true);
    let by_default = thread_rng().gen_bool(0.5);
    if by_default {
        client.carts.set_ttl(CollectionTtl::After(Duration::from_millis(TTL_MS))).expect("set");
    }
    let ttl = if by_default { PutOptions::default() } else { PutOptions::default().ttl(Duration::from_millis(TTL_MS)) };
    // Never locked where others can come between.
    let known = Arc::new(std::sync::Mutex::new(Known::default()));
    let read = {
        let known = Arc::clone(&known);
        move |client: &Client| {
            let know = || known.lock().expect("a panic ends the schedule");
            let before = client.store.last_commit().get();
            let Known { gone, newest, .. } = *know();
            let found = client.carts.get("a").expect("reads go on");
            let after = client.store.last_commit().get();
            let mut known = know();
            match &found {
                Some(document) => {
                    let seq = document.seq.get();
                    assert!(seq > gone, "version {seq} came back: up to {gone} they were gone");
                    (known.newest, known.gone) = (known.newest.max(seq), known.gone.max(seq - 1));
                }
                None => {
                    known.gone = known.gone.max(newest);
                    known.absences.push((before, after));
                }
            }
            found
        }
    };
    let write = {
        let (known, read) = (Arc::clone(&known), read.clone());
        move |client: &Client, step: usize| {
            let know = || known.lock().expect("a panic ends the schedule");
            let expected = match thread_rng().gen_range(0..3) {
                0 => Precondition::Any,
                1 => Precondition::Absent,
                _ => read(client).map_or(Precondition::Absent, |document| document.etag.into()),
            };
            let gone = know().gone;
            let replaced = match client.carts.put_with("a", client.body(step), expected, ttl) {
                Ok(written) => {
                    let mut known = know();
                    known.newest = known.newest.max(written.seq.get());
                    known.acknowledged.insert(written.seq.get(), written.etag);
                    written.replaced
                }
                Err(Error::Conflict(conflict)) => conflict.current,
                Err(error) => panic!("{error}"),
            };
            let replaced = replaced.map_or(u64::MAX, seq_of);
            assert!(replaced > gone, "a writer met version {replaced}: up to {gone} they were gone");
        }
    };
    let jumps = clock.clone();
    all_at_once(&client, 3, move |client| match client.name {
        1 => {
            for _ in 0..4 {
                jumps.jump([6, 12, -8][thread_rng().gen_range(0..3)]);
                if thread_rng().gen_bool(0.3) {
                    client.store.run_maintenance().expect("maintenance");
                }
            }
        }
        2 => (0..3).for_each(|step| write(client, step)),
        _ => {
            for step in 0..3 {
                drop(read(client));
                if thread_rng().gen_bool(0.3) {
                    write(client, step);
                }
            }
        }
    });
    let left = client.disk.after_power_cut("after", thread_rng().gen_range(0..=client.disk.unsynced()));
    let Client { disk, store, carts, .. } = client;
    drop((store, carts));
    // A clock that is set back while nobody looks may bring back what was not committed as expired.
    clock.to_latest();
    let store = options().clock(clock).open(left.path()).expect("open again");
    let known = known.lock().expect("nobody else is left");
    let entries = feed_of(&store);
    for (seq, etag) in &known.acknowledged {
        assert!(entries.iter().any(|entry| entry.seq.get() == *seq && entry.etag == *etag), "{seq} is lost");
    }
    for pair in entries.windows(2) {
        let (before, entry) = (&pair[0], &pair[1]);
        let was_there = before.document.is_some();
        assert_eq!(was_there, entry.kind != ChangeKind::Created, "{before:?}, {entry:?}");
        if entry.kind == ChangeKind::Expired {
            assert!(before.time_ms + TTL_MS <= entry.time_ms, "before its time: {before:?}, {entry:?}");
        }
        if entry.kind == ChangeKind::Replaced {
            let built_on = |(asked, told): &(u64, u64)| before.seq.get() <= *asked && entry.seq.get() > *told;
            let absence = known.absences.iter().find(|absence| built_on(absence));
            assert!(absence.is_none(), "said to be gone at {absence:?}, and built upon: {before:?}, {entry:?}");
        }
    }
    let found = store.collection("carts").expect("there").get("a").expect("reads go on");
    assert!(found.is_none_or(|document| document.seq.get() > known.gone), "it came back with the next opening");
    drop(store);
    disk.remove();
    left.remove();
}

/// A collection is dropped while it is written to and read. Nobody finds it empty, nobody is told of the drop before it
/// is on disk, and a power cut leaves all of the collection or nothing, under either durability.
pub fn dropping() {
    let durability = if thread_rng().gen_bool(0.5) { Durability::Sync } else { Durability::Buffered };
    let client = start(options().durability(durability), durability == Durability::Sync);
    client.carts.put("a", "0", Precondition::Any).expect("put");
    client.store.sync().expect("sync");
    let told = Arc::new(AtomicU64::new(0));
    let look = {
        let told = Arc::clone(&told);
        move |client: &Client, found: Result<bool, Error>, was_told: bool| match found {
            Ok(found) => {
                assert!(found, "empty, and nobody was told why");
                assert!(!was_told, "there again after a drop that was told");
            }
            Err(Error::Invalid(message)) => {
                assert!(message.ends_with("was dropped"), "{message}");
                assert_eq!(client.disk.durable_rows().0, 0, "told before it was on disk");
                told.store(1, Ordering::SeqCst);
            }
            Err(error) => panic!("{error}"),
        }
    };
    all_at_once(&client, 3, move |client| {
        let was_told = || told.load(Ordering::SeqCst) > 0;
        let maintain = || {
            client.store.run_maintenance().expect("maintenance");
            let (collections, versions) = client.disk.durable_rows();
            assert!(collections == 0 || versions > 0, "a power cut would bring it back without what it had");
        };
        match client.name {
            1 => {
                assert!(client.store.drop_collection("carts").expect("the disk does its part"));
                look(client, client.carts.get("a").map(|_| true), false);
                assert!(was_told(), "its own handle does not know");
                maintain();
            }
            2 => {
                for step in 0..2 {
                    maintain();
                    let before = was_told();
                    let written = client.carts.put("b", client.body(step), Precondition::Any);
                    look(client, written.map(|_| true), before);
                }
                maintain();
            }
            _ => {
                for _ in 0..3 {
                    let (before, snapshot) = (was_told(), client.store.snapshot());
                    let carts = &client.carts;
                    let found = match thread_rng().gen_range(0..4) {
                        0 => carts.get("a").map(|found| found.is_some()),
                        1 => snapshot.get(carts, "a").map(|found| found.is_some()),
                        2 => carts.history("a").and_then(|mut history| Ok(history.next().transpose()?.is_some())),
                        _ => carts.scan(&ScanRange::all()).and_then(|mut all| Ok(all.next().transpose()?.is_some())),
                    };
                    look(client, found, before);
                }
            }
        }
    });
    // Whatever bears its name next has nothing of it.
    let carts = client.store.collection("carts").expect("make");
    assert!(carts.get("a").expect("read").is_none());
    let written = carts.put("a", "again", Precondition::Absent).expect("a new one");
    client.store.run_maintenance().expect("maintenance");
    client.store.sync().expect("sync");
    let left = client.disk.after_power_cut("after", 0);
    let disk = client.disk.clone();
    drop((client, carts));
    let carts = options().open(left.path()).and_then(|store| store.collection("carts")).expect("open again");
    assert_eq!(carts.get("a").expect("read").map(|document| document.etag), Some(written.etag));
    assert!(carts.get("b").expect("read").is_none(), "something of the old one is left");
    drop(carts);
    disk.remove();
    left.remove();
}

/// History is dropped while somebody registers for what comes after a commit of the past, moves on, and looks at the past:
/// he is told that it is too late, or all of it is there for as long as he needs it.
pub fn cursors() {
    let client = start(options(), true);
    client.carts.set_retention(Retention::age(Duration::ZERO)).expect("set");
    for body in ["0", "1"] {
        client.carts.put("a", body, Precondition::Any).expect("put");
    }
    all_at_once(&client, 3, |client| match client.name {
        1 => {
            for _ in 0..2 {
                client.store.run_maintenance().expect("maintenance");
            }
        }
        2 => {
            for step in 0..3 {
                client.one(step, "a", thread_rng().gen_range(3..6));
            }
        }
        _ if thread_rng().gen_bool(0.5) => follow(client),
        _ => look_back(client),
    });
    client.store.remove_cursor("reader").expect("remove");
    client.store.run_maintenance().expect("maintenance");
    let current = client.carts.get("a").expect("read").map(|document| document.etag);
    let left = client.disk.after_power_cut("after", 0);
    let disk = client.disk.clone();
    drop(client);
    let carts = options().open(left.path()).and_then(|store| store.collection("carts")).expect("open again");
    assert_eq!(carts.get("a").expect("read").map(|document| document.etag), current, "not the same after a power cut");
    drop(carts);
    disk.remove();
    left.remove();
}

/// Some commit of the past, or the newest.
fn some_commit(client: &Client) -> u64 {
    thread_rng().gen_range(1..=client.store.last_commit().get())
}

fn follow(client: &Client) {
    let from = FeedStart::from(schedules::CommitSeq::new(some_commit(client)));
    let FeedStart::After(from) = from else { unreachable!("a sequence") };
    let cursor = match client.store.register_cursor("reader", from) {
        Ok(cursor) => cursor,
        Err(Error::NotRetained { asked, oldest }) => return assert!(asked < oldest, "{asked}, {oldest}"),
        Err(error) => panic!("{error}"),
    };
    let mut position = cursor.position;
    for _ in 0..2 {
        let newest = client.store.last_commit();
        let mut feed = client.store.changes(FeedMode::All, position).expect("the cursor holds it");
        let page = feed.read().expect("held");
        let sequences: Vec<u64> = page.entries.iter().map(|entry| entry.seq.get()).collect();
        let all = position.get() + 1..=page.position.get();
        assert!(page.position >= newest && sequences.iter().copied().eq(all), "after {position}: {sequences:?}");
        for entry in &page.entries {
            // Those up to where it was registered may have gone before.
            let needed = entry.previous.as_ref().filter(|previous| seq_of(previous.etag) > cursor.position.get());
            assert!(needed.is_none_or(|it| it.document.is_some()), "the version before was dropped: {entry:?}");
        }
        client.store.advance_cursor("reader", page.position).expect("forward");
        position = page.position;
    }
}

fn look_back(client: &Client) {
    let seq = schedules::CommitSeq::new(some_commit(client));
    let snapshot = match client.store.snapshot_at(seq) {
        Ok(snapshot) => snapshot,
        Err(Error::NotRetained { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let look = || match snapshot.get(&client.carts, "a") {
        Ok(found) => Some(found.map(|document| (document.etag, text(&document.body)))),
        // Taken for the sake of other collections.
        Err(Error::NotRetained { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    let before = look();
    thread::yield_now();
    assert_eq!(look(), before, "a view of commit {seq} changed");
    // Nothing but this document was ever written, so each commit is a version of it.
    if let Some(found) = before {
        let found = found.map(|(etag, _)| seq_of(etag));
        assert!(found.is_none_or(|found| found == seq.get()), "as of commit {seq} it was version {found:?}");
    }
}

/// A checkpoint is made while others write: it has all that was told before, whole batches, no hole, and says where it
/// ends. The two stores go their own ways afterwards: no etag of one is ever one of the other.
pub fn checkpoint() {
    let client = start(options(), true);
    let made = Arc::new(std::sync::Mutex::new(None));
    let noted = Arc::clone(&made);
    all_at_once(&client, 3, move |client| {
        if client.name > 1 {
            return mixed(client);
        }
        thread::yield_now();
        let before = client.store.last_commit();
        let newest = client.store.checkpoint("copy").expect("a checkpoint");
        assert!(newest >= before, "it ends at {newest}, and {before} was told");
        *noted.lock().expect("a panic ends the schedule") = Some(newest);
    });
    let newest = made.lock().expect("nobody else is left").expect("it was made");
    let copy = options().open("copy").expect("a whole store");
    assert_eq!(copy.last_commit(), newest, "it said that it ends elsewhere");
    let copied: Vec<(u64, Etag)> = feed_of(&copy).iter().map(|entry| (entry.seq.get(), entry.etag)).collect();
    assert!(feed_of(&copy).last().is_none_or(|last| last.seq == last.batch_end), "half a batch: {copied:?}");
    let carts = copy.collection("carts").expect("copied");
    let etags: Vec<Etag> = (0..4).map(|_| carts.put("c", "there", Precondition::Any).expect("put").etag).collect();
    let all: Vec<(u64, Etag)> = feed_of(&client.store).iter().map(|entry| (entry.seq.get(), entry.etag)).collect();
    // What nobody waits for may still be on its way to the original.
    assert!(all.starts_with(&copied) || copied.starts_with(&all), "{copied:?} of {all:?}");
    drop((copy, carts));
    Disk::at_path("copy").remove();
    let truth: Truth = judge_after_power_cut(client);
    assert!(!etags.iter().any(|etag| truth.has_etag(*etag)), "both stores gave the same etag");
}
