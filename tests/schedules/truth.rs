//! What clients saw, and whether the commit order explains it. Owns the record of a schedule and the judgement of it:
//! the commits are read from the change feed of a store that is opened after a power cut, so whatever was told to
//! anybody must be among them.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use schedules::disk::Disk;
use schedules::{
    ChangeKind, Collection, Conflict, Document, Error, Etag, FeedMode, FeedStart, Precondition, Store, StoreHealth,
    Written,
};

/// When something was told: between which newest commits, and what no power cut could take back then.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub before: u64,
    pub after: u64,
    pub durable: u64,
}

/// Something that a client did or was told.
#[derive(Debug, Clone)]
pub enum Event {
    /// A write was acknowledged.
    Wrote { at: Span, key: &'static str, body: String, expected: Precondition, written: Written },
    /// The current version was read.
    Saw { at: Span, key: &'static str, etag: Option<Etag> },
    /// A precondition failed.
    Refused { at: Span, key: &'static str, expected: Precondition, current: Option<Etag> },
    /// It was written or not: the answer was lost, or nobody waited for it.
    Unknown { body: String },
    /// It was not written.
    NotWritten { body: String },
    /// A consistent view was read.
    Viewed { seq: u64, durable: u64, states: Vec<(&'static str, Option<Etag>)> },
    /// A transaction committed what follows from what it read; the sequence of its first write.
    Transacted { first: u64, reads: Vec<(&'static str, Option<Etag>)> },
}

/// Events of all clients, in no order.
pub type Record = Arc<Mutex<Vec<Event>>>;

/// One thread's view of the store, which notes what it is told.
#[derive(Clone)]
pub struct Client {
    pub name: usize,
    pub store: Store,
    pub carts: Collection,
    pub disk: Disk,
    pub record: Record,
    /// Whether what is told must be durable by then.
    pub syncs: bool,
}

impl Client {
    pub fn note(&self, event: Event) {
        self.record.lock().expect("a panic ends the schedule").push(event);
    }

    /// Does something, and says when.
    pub fn timed<T>(&self, act: impl FnOnce() -> T) -> (Span, T) {
        let before = self.store.last_commit().get();
        let told = act();
        // First, since nobody can come between.
        let durable = if self.syncs { self.disk.durable_commit() } else { u64::MAX };
        let after = self.store.last_commit().get();
        (Span { before, after, durable }, told)
    }

    /// Notes how the write of one document ended. An error is possible only once the disk fails.
    pub fn wrote(
        &self,
        at: Span,
        key: &'static str,
        body: String,
        expected: Precondition,
        result: &Result<Option<Written>, Error>,
    ) {
        match result {
            Ok(Some(written)) => self.note(Event::Wrote { at, key, body, expected, written: *written }),
            // A delete found nothing there.
            Ok(None) => self.note(Event::Saw { at, key, etag: None }),
            Err(error) => self.failed(at, std::slice::from_ref(&body), error),
        }
    }

    /// Notes why nothing, or perhaps something, was written.
    pub fn failed(&self, at: Span, bodies: &[String], error: &Error) {
        match error {
            Error::Conflict(conflict) => {
                let Conflict { id, expected, current, .. } = &**conflict;
                // A version of the same batch has no name yet.
                if *current != Some(Etag::NEVER) {
                    self.note(Event::Refused { at, key: key_of(id), expected: *expected, current: *current });
                }
            }
            Error::OutcomeUnknown(_) | Error::ReadOnly { .. } => {
                assert!(self.disk.has_failed(), "the disk did not fail: {error}");
                let health = self.store.health();
                assert!(matches!(health, StoreHealth::ReadOnly { .. }), "{health} after {error}");
            }
            Error::DiskFull(_) => assert!(self.disk.has_failed(), "the disk did not fail: {error}"),
            other => panic!("{other}"),
        }
        for body in bodies {
            let body = body.clone();
            // After a full disk too a crash may bring it back.
            self.note(match error {
                Error::OutcomeUnknown(_) | Error::DiskFull(_) => Event::Unknown { body },
                _ => Event::NotWritten { body },
            });
        }
    }

    pub fn read(&self, key: &'static str) -> Option<Document> {
        let (at, document) = self.timed(|| self.carts.get(key).expect("reads go on"));
        self.note(Event::Saw { at, key, etag: document.as_ref().map(|document| document.etag) });
        document
    }
}

pub const KEYS: [&str; 3] = ["a", "b", "c"];

pub fn key_of(id: &[u8]) -> &'static str {
    KEYS.into_iter().find(|key| key.as_bytes() == id).expect("nobody asked for others")
}

struct Commit {
    seq: u64,
    batch_end: u64,
    key: &'static str,
    etag: Etag,
    body: Option<String>,
}

/// All commits there are.
pub struct Truth {
    commits: Vec<Commit>,
}

impl Truth {
    pub fn of(store: &Store) -> Truth {
        let mut feed = store.changes(FeedMode::All, FeedStart::Beginning).expect("nothing was dropped").page_entries(3);
        let mut commits = Vec::new();
        loop {
            let page = feed.read().expect("reads go on");
            for entry in &page.entries {
                assert_eq!(entry.kind == ChangeKind::Deleted, entry.document.is_none(), "{entry:?}");
                let body = entry.document.as_ref().map(|document| text(&document.body));
                let (seq, batch_end) = (entry.seq.get(), entry.batch_end.get());
                commits.push(Commit { seq, batch_end, key: key_of(&entry.id), etag: entry.etag, body });
            }
            if page.is_empty() {
                assert_eq!(page.position, store.last_commit(), "the feed ends before the newest commit");
                return Truth { commits };
            }
        }
    }

    /// From when to when a document was in which state: of each, the first commit and the one that ended it.
    fn states(&self, key: &str) -> Vec<(u64, u64, Option<Etag>)> {
        let mut states = vec![(0, u64::MAX, None)];
        for commit in self.commits.iter().filter(|commit| commit.key == key) {
            states.last_mut().expect("one").1 = commit.seq;
            states.push((commit.seq, u64::MAX, commit.body.as_ref().map(|_| commit.etag)));
        }
        states
    }

    fn at(&self, key: &str, seq: u64) -> Option<Etag> {
        let states = self.states(key);
        states.iter().rev().find(|(start, ..)| *start <= seq).and_then(|(.., etag)| *etag)
    }

    /// Whether a document was in this state at some moment of a span, and durably so at its end.
    fn explains(&self, at: Span, key: &str, etag: Option<Etag>) -> bool {
        let of_time = |start: u64, end: u64| start <= at.after && start <= at.durable && end > at.before;
        self.states(key).iter().any(|(start, end, state)| *state == etag && of_time(*start, *end))
    }

    /// Whether all that was told is explained; panics with what is not.
    pub fn judge(&self, record: &[Event]) {
        let check = |holds: bool, what: &str, about: &dyn Debug| {
            assert!(holds, "{what}: {about:?}\ncommits: {:?}\nrecord: {record:#?}", self.list());
        };
        for pair in self.commits.windows(2) {
            check(pair[0].seq < pair[1].seq, "out of order", &pair[1].seq);
            let same_batch = pair[0].batch_end == pair[1].batch_end;
            check(same_batch != (pair[0].batch_end < pair[1].seq), "batches overlap", &pair[0].seq);
        }
        let mut acknowledged = 0;
        for event in record {
            match event {
                Event::Wrote { at, key, body, expected, written } => {
                    acknowledged += 1;
                    let seq = written.seq.get();
                    let commit = self.commits.iter().find(|commit| commit.seq == seq && commit.key == *key);
                    let same = |commit: &Commit| {
                        commit.etag == written.etag && commit.body.as_ref().is_none_or(|found| found == body)
                    };
                    check(commit.is_some_and(same), "an acknowledged write is lost", event);
                    let before = self.at(key, seq - 1);
                    check(written.replaced == before, "it was told another predecessor", event);
                    check(holds(*expected, before), "the precondition did not hold", event);
                    check(at.before < seq && seq <= at.after, "not committed while it was called", event);
                    check(seq <= at.durable, "acknowledged before it was durable", event);
                }
                Event::Saw { at, key, etag } => {
                    check(self.explains(*at, key, *etag), "nobody could see this", event);
                }
                Event::Refused { at, key, expected, current } => {
                    check(self.explains(*at, key, *current), "nobody could lose to this", event);
                    check(!holds(*expected, *current), "the precondition held", event);
                }
                Event::Unknown { .. } => {}
                Event::NotWritten { body } => {
                    let found = self.commits.iter().any(|commit| commit.body.as_ref() == Some(body));
                    check(!found, "it was said not to be written", event);
                }
                Event::Viewed { seq, durable, states } => {
                    check(seq <= durable, "a view of what is not durable", event);
                    let inside = |commit: &Commit| commit.seq <= *seq && *seq < commit.batch_end;
                    check(!self.commits.iter().any(inside), "a view of half a batch", event);
                    let same = states.iter().all(|(key, etag)| self.at(key, *seq) == *etag);
                    check(same, "no commit had this view", event);
                }
                Event::Transacted { first, reads } => {
                    let same = reads.iter().all(|(key, etag)| self.at(key, first - 1) == *etag);
                    check(same, "what a transaction read had changed", event);
                }
            }
        }
        let known = |commit: &&Commit| {
            record.iter().any(|event| match event {
                Event::Wrote { written, .. } => written.seq.get() == commit.seq,
                Event::Unknown { body } => commit.body.as_ref().is_none_or(|found| found == body),
                _ => false,
            })
        };
        let known = self.commits.iter().filter(known).count();
        check(known == self.commits.len() && known >= acknowledged, "commits that nobody made", &known);
        let mut etags: Vec<String> = self.commits.iter().map(|commit| commit.etag.to_string()).collect();
        etags.sort_unstable();
        check(etags.windows(2).all(|pair| pair[0] != pair[1]), "an etag twice", &etags);
    }

    pub fn has_etag(&self, etag: Etag) -> bool {
        self.commits.iter().any(|commit| commit.etag == etag)
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.commits.iter().map(|commit| commit.seq).collect()
    }

    fn list(&self) -> Vec<String> {
        let line = |commit: &Commit| {
            format!("{}..{} {} {:?} {}", commit.seq, commit.batch_end, commit.key, commit.body, commit.etag)
        };
        self.commits.iter().map(line).collect()
    }
}

/// As the engine's documentation has it, and not as its code does.
fn holds(precondition: Precondition, current: Option<Etag>) -> bool {
    match precondition {
        Precondition::Any => true,
        Precondition::Absent => current.is_none(),
        Precondition::Present => current.is_some(),
        Precondition::Match(etag) => current == Some(etag),
    }
}

pub fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Reads all documents of a snapshot.
pub fn view(client: &Client) {
    let snapshot = client.store.snapshot();
    let durable = if client.syncs { client.disk.durable_commit() } else { u64::MAX };
    let get = |key| snapshot.get(&client.carts, key).expect("reads go on").map(|document| document.etag);
    let states: Vec<_> = KEYS.into_iter().map(|key| (key, get(key))).collect();
    // Not durable when it was taken is as wrong as later.
    client.note(Event::Viewed { seq: snapshot.seq().get(), durable, states: states.clone() });
    let again: Vec<_> = KEYS.into_iter().map(|key| (key, get(key))).collect();
    assert_eq!(states, again, "a snapshot changed");
    assert!(snapshot.seq() <= client.store.last_commit());
}
