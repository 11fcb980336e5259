//! A process whose threads are clients of a store and say on standard output what they ask and what they are told (see
//! `durability/histories/said.rs`), until it is killed or each has asked so often.
//!
//! `history-child DIR SEED LIFE OPERATIONS LIVES [hungry]`: opens the store `LIVES` times in this process, as life
//! `LIFE` and the following; a life ends early when a write or sync has failed. Half of the lives are `Buffered`. The
//! store's clock jumps to and fro by up to a year. A `hungry` process takes all the memory that it is allowed to have.
//!
//! The documents of a time are `TIME.doc N`, which are created, replaced and deleted, and `TIME.list N`, which are only
//! added to; what a transaction saw of those shows the order in which they were.

#[path = "durability/random.rs"]
mod random;
#[path = "durability/histories/said.rs"]
mod said;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{
    Abort, Change, Clock, Collection, CommitSeq, Document, Durability, Error, Etag, FeedMode, Options, Precondition,
    Retention, ScanRange, Store, Written,
};
use random::Random;
use said::{Answer, Expected, Intent, Said, Seen, Version, values};

const CLIENTS: u64 = 6;
const READERS: u64 = 2;
/// How many documents and how many lists a time has.
const DOCUMENTS: u64 = 5;
/// After so many questions of all clients there are new documents, so that lists and searches stay short.
const TIME: u64 = 300;

/// Somewhere within a year, and elsewhere each time that somebody looks: what is promised holds whatever the time is.
struct JumpingClock(AtomicU64);

impl Clock for JumpingClock {
    fn now(&self) -> SystemTime {
        let look = self.0.fetch_add(1, Ordering::Relaxed);
        // Mostly it goes on; now and then it is set.
        let day = Random::new(look / 50).below(365);
        UNIX_EPOCH + Duration::from_secs((20_000 + day) * 86_400) + Duration::from_millis(look)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(dir), Some(seed), Some(life), Some(operations), Some(lives)) =
        (arguments.first(), number(1), number(2), number(3), number(4))
    else {
        eprintln!("usage: history-child DIR SEED LIFE OPERATIONS LIVES [hungry]");
        std::process::exit(2);
    };
    let hungry = arguments.get(5).is_some_and(|word| word == "hungry");
    for life in life..life + lives {
        if let Err(error) = live(dir, seed, life, operations, hungry) {
            eprintln!("life {life}: {error}");
        }
    }
}

/// Takes memory until there is none, in ever smaller pieces, so that the next who needs some gets none. It is not used:
/// what is limited is how much a process may have.
fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::with_capacity(1 << 20);
    let mut piece = 1 << 20;
    while piece > 0 {
        let mut more = Vec::new();
        if eaten.len() < eaten.capacity() && more.try_reserve_exact(piece).is_ok() {
            eaten.push(more);
        } else {
            piece /= 2;
        }
    }
    loop {
        std::thread::park();
    }
}

fn live(dir: &str, seed: u64, life: u64, operations: u64, hungry: bool) -> Result<(), Error> {
    let durability = if life.is_multiple_of(2) { Durability::Sync } else { Durability::Buffered };
    let options = Options::default().write_buffer_bytes(1 << 20).cache_bytes(8 << 20).document_cache_bytes(64 << 10);
    let options = options.durability(durability).flush_interval(Duration::from_millis(5));
    let store = options.clock(JumpingClock(AtomicU64::new(seed ^ (life << 20)))).open(dir)?;
    let docs = store.collection("docs")?;
    docs.set_retention(Retention::FOREVER)?;
    let (asked, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Shared { store: &store, docs: &docs, asked, over, life, hungry };
    std::thread::scope(|scope| {
        for place in 0..CLIENTS + READERS {
            let shared = &shared;
            scope.spawn(move || {
                let number = life * (CLIENTS + READERS) + place;
                let random = Random::new(seed ^ (number << 32));
                let mut client = Client { shared, number, random, written: 0, last: BTreeMap::new() };
                let result = if place < CLIENTS { client.work(operations) } else { client.follow(place == CLIENTS) };
                if let Err(error) = result {
                    eprintln!("client {number}: {error}");
                }
                shared.over.store(true, Ordering::SeqCst);
            });
        }
    });
    Ok(())
}

/// What the clients of a life have in common.
struct Shared<'a> {
    store: &'a Store,
    docs: &'a Collection,
    asked: AtomicU64,
    /// A client has stopped, and the others are to.
    over: AtomicBool,
    life: u64,
    hungry: bool,
}

impl Shared<'_> {
    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// What the ids of this time begin with.
    fn time(&self) -> String {
        format!("{:02}{:04}.", self.life, self.asked.load(Ordering::Relaxed) / TIME)
    }
}

struct Client<'a> {
    shared: &'a Shared<'a>,
    number: u64,
    random: Random,
    written: u64,
    /// The versions that he last heard of.
    last: BTreeMap<String, Etag>,
}

impl Client<'_> {
    fn asks(&self) {
        say(&Said::Asks { client: self.number });
    }

    fn intends(&self, writes: Vec<Intent>) {
        say(&Said::Intends { client: self.number, writes });
    }

    fn told(&self, answer: Answer) {
        say(&Said::Told { client: self.number, answer });
    }

    /// Says what an error means for what was asked; gives it back when the client cannot go on.
    fn failed(&self, error: Error) -> Result<(), Error> {
        match error {
            Error::Conflict(_) | Error::Aborted { .. } => {
                self.told(Answer::Nothing);
                Ok(())
            }
            // After it the disk may bring it back, so this is not nothing.
            Error::OutcomeUnknown(_) | Error::DiskFull(_) => {
                self.told(Answer::Unknown);
                Err(error)
            }
            error => {
                self.told(Answer::Nothing);
                Err(error)
            }
        }
    }

    fn value(&mut self) -> u64 {
        self.written += 1;
        (self.number << 32) | self.written
    }

    fn id(&mut self, kind: &str) -> String {
        format!("{}{kind} {}", self.shared.time(), self.random.below(DOCUMENTS))
    }

    fn work(&mut self, operations: u64) -> Result<(), Error> {
        for _ in 0..operations {
            if self.shared.over() {
                break;
            }
            if self.shared.asked.fetch_add(1, Ordering::Relaxed) == TIME && self.shared.hungry {
                std::thread::spawn(eat);
            }
            match self.random.below(16) {
                0..=1 => self.get()?,
                2..=6 => self.write_one()?,
                7..=8 => self.update()?,
                9..=12 => self.transact()?,
                13 => self.batch()?,
                14 => self.look()?,
                _ => self.page()?,
            }
        }
        Ok(())
    }

    fn get(&mut self) -> Result<(), Error> {
        let id = self.id("doc");
        self.asks();
        let found = match self.shared.docs.get(&id) {
            Ok(found) => found,
            Err(error) => return self.failed(error),
        };
        self.last.remove(&id);
        self.last.extend(found.as_ref().map(|found| (id.clone(), found.etag)));
        self.told(Answer::Saw { seen: vec![seen(&id, found.as_ref())], all_of: None });
        Ok(())
    }

    /// Creates, replaces or deletes a document, mostly building on what this client last heard of it.
    fn write_one(&mut self) -> Result<(), Error> {
        let id = self.id("doc");
        let (precondition, expected) = match (self.last.get(&id), self.random.below(6)) {
            (_, 0) => (Precondition::Any, Expected::Anything),
            (Some(&etag), _) => (Precondition::Match(etag), Expected::Exactly(etag.to_string())),
            (None, _) => (Precondition::Absent, Expected::Nothing),
        };
        let deletes = matches!(precondition, Precondition::Match(_)) && self.random.below(4) == 0;
        let value = (!deletes).then(|| self.value());
        self.asks();
        self.intends(vec![Intent { id: id.clone(), value, expected: expected.clone() }]);
        let docs = self.shared.docs;
        let result = match value {
            Some(value) => docs.put(&id, value.to_string(), precondition),
            None => docs.delete(&id, precondition).map(|written| written.expect("a match is there")),
        };
        self.last.remove(&id);
        match result {
            Ok(written) => {
                self.last.extend((!deletes).then(|| (id.clone(), written.etag)));
                self.told(Answer::Wrote {
                    seen: vec![replaced(&id, &written)],
                    etags: vec![Some(written.etag.to_string())],
                });
                Ok(())
            }
            Err(Error::Conflict(conflict)) => {
                self.last.extend(conflict.current.map(|etag| (id.clone(), etag)));
                let version = conflict.current.map(|etag| Version { etag: etag.to_string(), body: None });
                self.told(Answer::Refused { current: Seen { id, version }, expected });
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Adds to a list in one step.
    fn update(&mut self) -> Result<(), Error> {
        let (id, value) = (self.id("list"), self.value());
        self.asks();
        self.intends(vec![Intent { id: id.clone(), value: Some(value), expected: Expected::Anything }]);
        let mut before = None;
        let change = |current: Option<&Document>| -> Result<Change, Abort> {
            before = Some(seen(&id, current));
            Ok(Change::Put(added(current, value).into_bytes()))
        };
        match self.shared.docs.update(&id, change) {
            Ok(written) => {
                let etags = written.iter().map(|written| Some(written.etag.to_string())).collect();
                self.told(Answer::Wrote { seen: before.into_iter().collect(), etags });
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Reads some lists and documents, adds to some of those lists, and perhaps replaces a document.
    fn transact(&mut self) -> Result<(), Error> {
        let lists: Vec<String> = (0..1 + self.random.below(3)).map(|_| self.id("list")).collect();
        let document = self.id("doc");
        let writes_to = self.random.below(lists.len() as u64 + 1) as usize;
        let docs = self.shared.docs;
        self.asks();
        let mut txn = self.shared.store.begin();
        let mut observed: Vec<Seen> = Vec::new();
        let mut writes: Vec<Intent> = Vec::new();
        for (at, id) in lists.iter().enumerate() {
            if observed.iter().any(|known| known.id == *id) {
                continue;
            }
            let found = match txn.get(docs, id) {
                Ok(found) => found,
                Err(error) => return self.failed(error),
            };
            observed.push(seen(id, found.as_ref()));
            if at < writes_to {
                let value = self.value();
                writes.push(Intent { id: id.clone(), value: Some(value), expected: Expected::Anything });
                if let Err(error) = txn.put(docs, id, added(found.as_ref(), value), Precondition::Any) {
                    return self.failed(error);
                }
            }
        }
        if self.random.below(3) == 0 {
            let found = match txn.get(docs, &document) {
                Ok(found) => found,
                Err(error) => return self.failed(error),
            };
            observed.push(seen(&document, found.as_ref()));
            if writes_to > 0 {
                let value = self.value();
                writes.push(Intent { id: document.clone(), value: Some(value), expected: Expected::Anything });
                if let Err(error) = txn.put(docs, &document, value.to_string(), Precondition::Any) {
                    return self.failed(error);
                }
            }
        }
        if writes.is_empty() {
            drop(txn);
            self.told(Answer::Saw { seen: observed, all_of: None });
            return Ok(());
        }
        self.intends(writes.clone());
        match txn.commit() {
            Ok(committed) => {
                let etag = |write: &Intent| committed.written(docs, &write.id).map(|written| written.etag.to_string());
                self.told(Answer::Wrote { seen: observed, etags: writes.iter().map(etag).collect() });
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Adds to two lists, each guarded by the etag that was read of it.
    fn batch(&mut self) -> Result<(), Error> {
        let ids = [self.id("list"), self.id("list")];
        if ids[0] == ids[1] {
            return Ok(());
        }
        let docs = self.shared.docs;
        self.asks();
        let (mut batch, mut writes, mut observed) = (self.shared.store.batch(), Vec::new(), Vec::new());
        for id in &ids {
            let found = match docs.get(id) {
                Ok(found) => found,
                Err(error) => return self.failed(error),
            };
            let (precondition, expected) = match &found {
                Some(found) => (Precondition::Match(found.etag), Expected::Exactly(found.etag.to_string())),
                None => (Precondition::Absent, Expected::Nothing),
            };
            let value = self.value();
            batch.put(docs, id, added(found.as_ref(), value), precondition);
            writes.push(Intent { id: id.clone(), value: Some(value), expected });
            observed.push(seen(id, found.as_ref()));
        }
        self.intends(writes);
        match batch.commit() {
            Ok(written) => {
                let etags = written.iter().flatten().map(|written| Some(written.etag.to_string())).collect();
                self.told(Answer::Wrote { seen: observed, etags });
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Reads some documents of a snapshot.
    fn look(&mut self) -> Result<(), Error> {
        let ids = [self.id("doc"), self.id("list"), self.id("list")];
        self.asks();
        let snapshot = self.shared.store.snapshot();
        let mut observed = Vec::new();
        for id in &ids {
            match snapshot.get(self.shared.docs, id) {
                Ok(found) => observed.push(seen(id, found.as_ref())),
                Err(error) => return self.failed(error),
            }
        }
        self.told(Answer::Saw { seen: observed, all_of: None });
        Ok(())
    }

    /// Reads all documents of this time, page by page from one snapshot, forwards or backwards.
    fn page(&mut self) -> Result<(), Error> {
        let (time, backwards) = (self.shared.time(), self.random.below(2) == 0);
        let page = 1 + self.random.below(5) as usize;
        self.asks();
        let snapshot = self.shared.store.snapshot();
        let mut observed: Vec<Seen> = Vec::new();
        loop {
            let range = ScanRange::prefix(&time);
            let range = match (observed.last(), backwards) {
                (Some(last), false) => range.after(&last.id),
                (Some(last), true) => range.before(&last.id).reverse(),
                (None, false) => range,
                (None, true) => range.reverse(),
            };
            let before = observed.len();
            let scan = match snapshot.scan(self.shared.docs, &range) {
                Ok(scan) => scan,
                Err(error) => return self.failed(error),
            };
            for entry in scan.take(page) {
                match entry {
                    Ok((id, document)) => observed.push(seen(&String::from_utf8_lossy(&id), Some(&document))),
                    Err(error) => return self.failed(error),
                }
            }
            if observed.len() == before {
                break;
            }
        }
        self.told(Answer::Saw { seen: observed, all_of: Some(time) });
        Ok(())
    }

    /// Follows the feed from the beginning, and each time that there is nothing more says what it adds up to.
    fn follow(&mut self, every_version: bool) -> Result<(), Error> {
        let mode = if every_version { FeedMode::All } else { FeedMode::Latest };
        let mut known: BTreeMap<String, Document> = BTreeMap::new();
        let (mut position, mut drained) = (CommitSeq::new(0), false);
        while !self.shared.over() {
            // A new feed at the old place now and then, as after a lost connection.
            let feed = self.shared.docs.changes(mode, position)?;
            let mut feed = feed.page_entries(1 + self.random.below(20) as usize);
            for _ in 0..1 + self.random.below(30) {
                self.asks();
                // Having seen all, he lets himself be woken.
                let page = if drained { feed.wait(Duration::from_millis(20)) } else { feed.read() };
                let page = match page {
                    Ok(page) => page,
                    Err(error) => return self.failed(error),
                };
                let mut entries = Vec::new();
                for entry in &page.entries {
                    let id = String::from_utf8_lossy(&entry.id).into_owned();
                    entries.push((entry.seq.get(), id.clone(), entry.etag.to_string()));
                    match &entry.document {
                        Some(document) => known.insert(id, document.clone()),
                        None => known.remove(&id),
                    };
                }
                let answer =
                    Answer::Fed { every_version, after: position.get(), position: page.position.get(), entries };
                position = page.position;
                self.told(answer);
                drained = page.is_empty();
                if drained {
                    // That there is nothing more was true at some moment of the last question; ask it once more, so
                    // that question and state are one. The feed of newest versions says nothing of deletions.
                    let time = self.shared.time();
                    self.asks();
                    let more = match feed.read() {
                        Ok(more) => more,
                        Err(error) => return self.failed(error),
                    };
                    if more.is_empty() {
                        let of_now = known.iter().filter(|(id, _)| id.starts_with(&time));
                        let of_now = of_now.filter(|(id, _)| every_version || id.contains("list"));
                        let state = of_now.map(|(id, document)| seen(id, Some(document))).collect();
                        let all_of = if every_version { time } else { format!("{time}list") };
                        self.told(Answer::Saw { seen: state, all_of: Some(all_of) });
                    } else {
                        self.told(Answer::Nothing);
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn seen(id: &str, document: Option<&Document>) -> Seen {
    let version = |document: &Document| Version { etag: document.etag.to_string(), body: Some(values(&document.body)) };
    Seen { id: id.to_owned(), version: document.map(version) }
}

fn replaced(id: &str, written: &Written) -> Seen {
    let version = written.replaced.map(|etag| Version { etag: etag.to_string(), body: None });
    Seen { id: id.to_owned(), version }
}

/// The text of a list with one more value.
fn added(list: Option<&Document>, value: u64) -> String {
    let mut body = list.map_or_else(Vec::new, |list| values(&list.body));
    body.push(value);
    body.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Prints a line in one write. A closed pipe means that the parent is gone.
fn say(said: &Said) {
    if std::io::stdout().lock().write_all(said.line().as_bytes()).is_err() {
        std::process::exit(0);
    }
}
