//! What can happen in a history, and how one is made from a seed.
//!
//! A step names everything by small numbers that are taken modulo what there is when it is carried out. So any step
//! means something at any place, and a history stays one when steps are taken out of it.

use std::fmt;
use std::time::Duration;

use etagdb::{CollectionTtl, DocumentTtl, FeedMode, Retention};

use crate::random::Random;

/// In byte order. Few, so that writes meet; with the bytes that the key encoding treats specially.
pub(crate) const IDS: [&[u8]; 8] = [b"\0", b"\0\xff", b"a", b"a\0", b"a\0\xff", b"ab", b"b", b"\xff"];
/// Collections that can be there at once.
pub(crate) const COLLECTIONS: usize = 3;
pub(crate) const CURSORS: [&str; 2] = ["audit", "mail"];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    Any,
    Absent,
    Present,
    /// The current etag, if there is one.
    Current,
    /// The etag of the n-th newest commit, most often stale.
    Past(usize),
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Put(Body, DocumentTtl),
    Delete,
    Check,
    Update(Updating),
}

/// The bytes of a document.
#[derive(Clone)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() < 8 { self.0.fmt(f) } else { write!(f, "[{} bytes]", self.0.len()) }
    }
}

/// What an update closure answers.
#[derive(Debug, Clone)]
pub(crate) enum Updating {
    Put(Body),
    PutWith(Body, DocumentTtl),
    Delete,
    Keep,
    Abort,
}

#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) collection: usize,
    pub(crate) id: usize,
    pub(crate) guard: Guard,
    pub(crate) act: Act,
}

/// A place in the past.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// The sequence of the n-th newest commit, and so many less.
    Commit(usize, u64),
    /// The etag of the n-th newest commit.
    Etag(usize),
    /// The time of the n-th newest commit, and so many milliseconds more.
    Time(usize, i64),
    Beginning,
    Now,
    /// What is still to come.
    Ahead,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: Option<usize>,
    pub(crate) from_is_excluded: bool,
    pub(crate) to: Option<usize>,
    pub(crate) reverse: bool,
}

/// A retention policy that can be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// `None`: for ever.
    pub(crate) age_ms: Option<u64>,
    pub(crate) versions: u32,
}

impl Keep {
    pub(crate) fn retention(self) -> Retention {
        let base = self.age_ms.map_or(Retention::FOREVER, |age_ms| Retention::age(ms(age_ms)));
        base.versions(self.versions)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// `None`: the whole store.
    pub(crate) scope: Option<usize>,
    pub(crate) mode: FeedMode,
    pub(crate) start: Moment,
    pub(crate) page_entries: usize,
    pub(crate) ids: Option<Range>,
    pub(crate) previous_images: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Through the method for a single write.
    Single(Write),
    Batch(Vec<Write>),
    /// Batches of which each is submitted before the one before it is known to be on disk.
    Pipeline(Vec<Vec<Write>>),
    Bulk {
        collection: usize,
        documents: Vec<(usize, Body)>,
        guard: Guard,
    },
    /// Through the typed view.
    Typed {
        collection: usize,
        id: usize,
        value: u32,
        bincode: bool,
    },
    /// A transaction that is made to run so many times before it fits.
    Transact {
        write: Write,
        interfere: usize,
    },
    Begin,
    TxnGet {
        txn: usize,
        collection: usize,
        id: usize,
    },
    TxnScan {
        txn: usize,
        collection: usize,
        range: Range,
        limit: usize,
    },
    TxnWrite {
        txn: usize,
        write: Write,
    },
    TxnCommit(usize),
    TxnAbort(usize),
    Snapshot,
    SnapshotAt(Moment),
    ReadSnapshot(usize),
    DropSnapshot(usize),
    Get {
        collection: usize,
        id: usize,
    },
    Scan {
        collection: usize,
        range: Range,
        page: usize,
    },
    AsOf {
        collection: usize,
        id: usize,
        moment: Moment,
    },
    Versions {
        collection: usize,
        id: usize,
    },
    Size(usize),
    /// Reads a feed to its end.
    Drain(Reader),
    OpenFeed(Reader),
    ReadFeed(usize),
    CloseFeed(usize),
    RegisterCursor(usize, Moment),
    AdvanceCursor(usize, Moment),
    RemoveCursor(usize),
    Retain(usize, Keep),
    Ttl(usize, CollectionTtl),
    /// Moves the clock, also back.
    Clock(i64),
    Maintain,
    DropCollection(usize),
    MakeCollection(usize),
    BadInput(usize),
    Reopen,
    Crash,
    ReadOnly,
    Checkpoint {
        restore: bool,
    },
    Verify,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Times to live, ages to keep and moves of the clock are of the same order, so that they meet.
const SPAN_MS: u64 = 40;

/// Makes the steps of one history. Each history is about some things and not about others, on more or fewer documents: so
/// that what is rare in all of them together comes often in some (swarm testing: Groce and others, 2012).
struct Generator {
    random: Random,
    collections: usize,
    ids: usize,
    /// By subject, whether the history is about it.
    subjects: [bool; SUBJECTS],
}

/// What histories can be about.
#[derive(Clone, Copy)]
enum Subject {
    Transactions,
    Snapshots,
    Past,
    Feeds,
    Cursors,
    Keeping,
    TimeToLive,
    Clock,
    Drops,
    Pipelines,
    Reads,
    Openings,
}

const SUBJECTS: usize = 12;

impl Subject {
    fn of(step: &Step) -> Option<Subject> {
        Some(match step {
            Step::Transact { .. }
            | Step::Begin
            | Step::TxnGet { .. }
            | Step::TxnScan { .. }
            | Step::TxnWrite { .. }
            | Step::TxnCommit(_)
            | Step::TxnAbort(_) => Subject::Transactions,
            Step::Snapshot => Subject::Snapshots,
            Step::SnapshotAt(_) | Step::AsOf { .. } | Step::Versions { .. } => Subject::Past,
            Step::Drain(_) | Step::OpenFeed(_) | Step::ReadFeed(_) | Step::CloseFeed(_) => Subject::Feeds,
            Step::RegisterCursor(..) | Step::AdvanceCursor(..) | Step::RemoveCursor(_) => Subject::Cursors,
            Step::Retain(..) | Step::Maintain => Subject::Keeping,
            Step::Ttl(..) => Subject::TimeToLive,
            Step::Clock(_) => Subject::Clock,
            Step::DropCollection(_) | Step::MakeCollection(_) => Subject::Drops,
            Step::Pipeline(_) | Step::Bulk { .. } | Step::Typed { .. } => Subject::Pipelines,
            Step::Get { .. } | Step::Scan { .. } | Step::Size(_) | Step::BadInput(_) => Subject::Reads,
            Step::Reopen | Step::Crash | Step::ReadOnly | Step::Checkpoint { .. } | Step::Verify => Subject::Openings,
            Step::Single(_) | Step::Batch(_) | Step::ReadSnapshot(_) | Step::DropSnapshot(_) => return None,
        })
    }
}

impl Generator {
    fn body(&mut self) -> Body {
        // Now and then one that does not fit in a small cache.
        let length = if self.random.one_in(40) { self.random.below(3_000) } else { self.random.below(4) };
        Body((0..length).map(|_| self.random.below(256) as u8).collect())
    }

    fn guard(&mut self) -> Guard {
        match self.random.below(12) {
            0..=4 => Guard::Any,
            5 => Guard::Absent,
            6 => Guard::Present,
            7..=9 => Guard::Current,
            _ => Guard::Past(self.random.index(20)),
        }
    }

    fn document_ttl(&mut self) -> DocumentTtl {
        match self.random.below(8) {
            0 => DocumentTtl::Never,
            1 | 2 => DocumentTtl::After(ms(1 + self.random.below(SPAN_MS))),
            _ => DocumentTtl::Collection,
        }
    }

    fn write(&mut self) -> Write {
        let act = match self.random.below(12) {
            0..=5 => Act::Put(self.body(), self.document_ttl()),
            6 | 7 => Act::Delete,
            8 => Act::Check,
            _ => Act::Update(match self.random.below(8) {
                0..=2 => Updating::Put(self.body()),
                3 | 4 => Updating::PutWith(self.body(), self.document_ttl()),
                5 => Updating::Delete,
                6 => Updating::Keep,
                _ => Updating::Abort,
            }),
        };
        Write { collection: self.collection(), id: self.id(), guard: self.guard(), act }
    }

    fn batch(&mut self) -> Vec<Write> {
        if self.random.one_in(12) {
            // So many versions of one document that readers seek past them.
            let (collection, id) = (self.collection(), self.id());
            let put =
                |n| Write { collection, id, guard: Guard::Any, act: Act::Put(Body(vec![n]), DocumentTtl::Collection) };
            return (0..9 + self.random.below(10) as u8).map(put).collect();
        }
        (0..1 + self.random.below(6)).map(|_| self.write()).collect()
    }

    /// The first more often than the others.
    fn collection(&mut self) -> usize {
        self.random.index(self.collections + 1) % self.collections
    }

    fn id(&mut self) -> usize {
        // Spread over all that there are, so that their special bytes come in.
        self.random.index(self.ids) * (IDS.len() / self.ids)
    }

    fn moment(&mut self) -> Moment {
        match self.random.below(16) {
            0..=4 => Moment::Commit(self.random.index(24), self.random.below(3)),
            5..=8 => Moment::Etag(self.random.index(24)),
            9..=12 => Moment::Time(self.random.index(24), self.random.below(5) as i64 - 2),
            13 => Moment::Beginning,
            14 => Moment::Now,
            _ => Moment::Ahead,
        }
    }

    fn range(&mut self) -> Range {
        let mut bound = || (!self.random.one_in(3)).then(|| self.random.index(IDS.len()));
        let (from, to) = (bound(), bound());
        Range { from, to, from_is_excluded: self.random.one_in(2), reverse: self.random.one_in(2) }
    }

    fn reader(&mut self) -> Reader {
        Reader {
            scope: (!self.random.one_in(3)).then(|| self.collection()),
            mode: if self.random.one_in(3) { FeedMode::Latest } else { FeedMode::All },
            start: self.moment(),
            page_entries: self.random.pick(&[1, 2, 3, 1_000]),
            ids: self.random.one_in(4).then(|| self.range()),
            previous_images: !self.random.one_in(4),
        }
    }

    fn keep(&mut self) -> Keep {
        let age_ms = match self.random.below(6) {
            0 => None,
            1..=3 => Some(0),
            _ => Some(self.random.below(SPAN_MS)),
        };
        Keep { age_ms, versions: if self.random.one_in(3) { 1 + self.random.below(3) as u32 } else { 0 } }
    }

    fn collection_ttl(&mut self) -> CollectionTtl {
        match self.random.below(6) {
            0 => CollectionTtl::Off,
            1..=3 => CollectionTtl::Documents,
            _ => CollectionTtl::After(ms(1 + self.random.below(SPAN_MS))),
        }
    }

    fn clock(&mut self) -> i64 {
        match self.random.below(8) {
            0 | 1 => -(self.random.below(SPAN_MS) as i64),
            2..=4 => 1 + self.random.below(5) as i64,
            _ => self.random.below(SPAN_MS) as i64,
        }
    }

    fn step(&mut self) -> Step {
        match self.random.below(1_000) {
            0..=239 => Step::Single(self.write()),
            240..=359 => Step::Batch(self.batch()),
            360..=379 => Step::Pipeline((0..2 + self.random.below(3)).map(|_| self.batch()).collect()),
            380..=389 => Step::Bulk {
                collection: self.collection(),
                documents: (0..1 + self.random.below(6)).map(|_| (self.id(), self.body())).collect(),
                guard: self.guard(),
            },
            390..=399 => Step::Typed {
                collection: self.collection(),
                id: self.id(),
                value: self.random.next() as u32,
                bincode: self.random.one_in(2),
            },
            400..=409 => Step::Transact { write: self.write(), interfere: self.random.index(3) },
            410..=434 => Step::Begin,
            435..=469 => Step::TxnGet { txn: self.random.index(4), collection: self.collection(), id: self.id() },
            470..=494 => Step::TxnScan {
                txn: self.random.index(4),
                collection: self.collection(),
                range: self.range(),
                limit: 1 + self.random.index(6),
            },
            495..=544 => Step::TxnWrite { txn: self.random.index(4), write: self.write() },
            545..=570 => Step::TxnCommit(self.random.index(4)),
            571..=574 => Step::TxnAbort(self.random.index(4)),
            575..=599 => Step::Snapshot,
            600..=619 => Step::SnapshotAt(self.moment()),
            620..=649 => Step::ReadSnapshot(self.random.index(4)),
            650..=669 => Step::DropSnapshot(self.random.index(4)),
            670..=689 => Step::Get { collection: self.collection(), id: self.id() },
            690..=709 => {
                Step::Scan { collection: self.collection(), range: self.range(), page: 1 + self.random.index(4) }
            }
            710..=739 => Step::AsOf { collection: self.collection(), id: self.id(), moment: self.moment() },
            740..=749 => Step::Versions { collection: self.collection(), id: self.id() },
            750..=754 => Step::Size(self.collection()),
            755..=774 => Step::Drain(self.reader()),
            775..=789 => Step::OpenFeed(self.reader()),
            790..=809 => Step::ReadFeed(self.random.index(4)),
            810..=814 => Step::CloseFeed(self.random.index(4)),
            815..=824 => Step::RegisterCursor(self.random.index(CURSORS.len()), self.moment()),
            825..=834 => Step::AdvanceCursor(self.random.index(CURSORS.len()), self.moment()),
            835..=839 => Step::RemoveCursor(self.random.index(CURSORS.len())),
            840..=859 => Step::Retain(self.collection(), self.keep()),
            860..=879 => Step::Ttl(self.collection(), self.collection_ttl()),
            880..=934 => Step::Clock(self.clock()),
            935..=969 => Step::Maintain,
            970..=973 => Step::DropCollection(self.collection()),
            974..=985 => Step::MakeCollection(self.collection()),
            986..=990 => Step::BadInput(self.random.index(64)),
            991..=994 => Step::ReadSnapshot(self.random.index(4)),
            995..=999 => match self.random.below(36) {
                0..=9 => Step::Reopen,
                10..=17 => Step::Crash,
                18..=21 => Step::ReadOnly,
                22..=25 => Step::Checkpoint { restore: self.random.one_in(2) },
                _ => Step::Verify,
            },
            _ => unreachable!("a number below 1,000"),
        }
    }
}

/// The history that a seed makes.
pub(crate) fn history(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let (collections, ids) = (random.pick(&[1, 1, COLLECTIONS]), random.pick(&[1, 2, 4, IDS.len(), IDS.len()]));
    let subjects = std::array::from_fn(|_| !random.one_in(3));
    let length = 10 + random.below(50) as usize;
    let mut generator = Generator { random, collections, ids, subjects };
    // Settings first, more often than not: otherwise most documents live for ever.
    let mut steps = Vec::new();
    if generator.random.one_in(2) {
        steps.push(Step::Retain(0, generator.keep()));
    }
    if generator.random.one_in(2) {
        steps.push(Step::Ttl(0, generator.collection_ttl()));
    }
    while steps.len() < length {
        let step = generator.step();
        if Subject::of(&step).is_none_or(|subject| generator.subjects[subject as usize]) {
            steps.push(step);
        }
    }
    steps
}
