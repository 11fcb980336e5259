//! The rows in which many threads do the same on raw RocksDB and on etagdb, round by round in turn.

use bench_support::{Bodies, Figures, Goal, Line, Load, Measured, Pair, Sizes, Workload, key, median, run};
use etagdb::Durability;

use crate::settings::Settings;
use crate::workloads::{CompareAndSwap, Get, RawGet, RawPut, ReadAndSwap, Update, Upsert};

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    HotGet,
    ColdGet,
    CompareAndSwap,
    Upsert,
    HotUpdate,
    HotCompareAndSwap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::HotGet => "get, hot",
            Kind::ColdGet => "get, data 10x the caches",
            Kind::CompareAndSwap => "compare-and-swap",
            Kind::Upsert => "upsert",
            Kind::HotUpdate => "one hot key, update",
            Kind::HotCompareAndSwap => "one hot key, get + CAS loop",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Kind::HotGet | Kind::ColdGet)
    }

    /// As few documents as the row is about.
    fn documents(self, sizes: &Sizes) -> u64 {
        if matches!(self, Kind::HotUpdate | Kind::HotCompareAndSwap) { 1 } else { sizes.documents }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    kind: Kind,
    durability: Durability,
    threads: u64,
    goal: f64,
}

const fn row(kind: Kind, durability: Durability, threads: u64, goal: f64) -> Row {
    Row { kind, durability, threads, goal }
}

/// All rows, with how much faster than raw RocksDB's `Get` or `Put` they are to be.
///
/// The best other embedded store reaches two thirds of raw RocksDB's `Put` to one hot key by get and CAS; 1.2 times
/// that is the goal of that row.
const ROWS: [Row; 15] = [
    row(Kind::HotGet, Durability::Sync, 1, 5.0),
    row(Kind::HotGet, Durability::Sync, 4, 5.0),
    row(Kind::ColdGet, Durability::Sync, 1, 0.9),
    row(Kind::ColdGet, Durability::Sync, 4, 0.9),
    row(Kind::CompareAndSwap, Durability::Sync, 1, 1.1),
    row(Kind::CompareAndSwap, Durability::Sync, 4, 1.3),
    row(Kind::CompareAndSwap, Durability::Sync, 16, 1.4),
    row(Kind::CompareAndSwap, Durability::Sync, 64, 2.0),
    row(Kind::HotUpdate, Durability::Sync, 16, 2.0),
    row(Kind::HotCompareAndSwap, Durability::Sync, 16, 0.8),
    row(Kind::Upsert, Durability::Sync, 16, 1.0),
    row(Kind::CompareAndSwap, Durability::Buffered, 1, 1.0),
    row(Kind::CompareAndSwap, Durability::Buffered, 4, 1.4),
    row(Kind::CompareAndSwap, Durability::Buffered, 16, 2.0),
    row(Kind::CompareAndSwap, Durability::Buffered, 64, 2.5),
];

impl Row {
    pub(crate) fn name(&self, bytes: usize) -> String {
        let Row { kind, durability, threads, .. } = *self;
        let (size, name) = (size_name(bytes), kind.name());
        let plural = if threads == 1 { "" } else { "s" };
        let durability = if kind.reads() { String::new() } else { format!(", {durability:?}") };
        format!("{name}{durability}, {threads} thread{plural}, {size}")
    }

    /// Whether documents of other sizes are measured in this row, too: there are too many rows for all.
    fn is_for_all_sizes(&self) -> bool {
        matches!((self.kind, self.threads), (Kind::HotGet, 1) | (Kind::CompareAndSwap, 1 | 16))
    }
}

fn size_name(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// The sizes of documents that are measured. The first is the one that all rows have.
const BYTES: [usize; 3] = [1024, 100, 16 * 1024];

/// The rows with documents of one size, all of which one set of stores serves.
pub(crate) struct Set {
    sizes: Sizes,
    pub(crate) rows: Vec<Row>,
}

/// All that is to be measured.
pub(crate) fn sets(settings: &Settings) -> Vec<Set> {
    let mut sets = Vec::new();
    let sizes = if settings.is_quick { &BYTES[..1] } else { &BYTES[..] };
    for &bytes in sizes {
        // So that what is read again and again is in memory: three quarters of the document cache are for whole documents,
        // and none of its shards may be too full.
        let documents = settings.documents.min((40 << 20) / (bytes as u64 + 160)).max(1);
        let hot = Sizes { documents, bytes, document_cache_bytes: 64 << 20, cache_bytes: 128 << 20 };
        // A tenth of the data in both caches together.
        let cache_bytes = 8 << 20;
        let documents = 10 * 2 * cache_bytes as u64 / bytes as u64;
        let cold = Sizes { documents, bytes, document_cache_bytes: cache_bytes, cache_bytes };
        for (sizes, is_cold) in [(hot, false), (cold, true)] {
            let wanted =
                |row: &&Row| (row.kind == Kind::ColdGet) == is_cold && (bytes == BYTES[0] || row.is_for_all_sizes());
            sets.push(Set { sizes, rows: ROWS.iter().filter(wanted).copied().collect() });
        }
    }
    sets
}

impl Set {
    /// The names of its rows.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|row| row.name(self.sizes.bytes))
    }

    /// Measures the rows that are wanted.
    pub(crate) fn measure(mut self, settings: &Settings, mut show: impl FnMut(Line)) {
        let bytes = self.sizes.bytes;
        self.rows.retain(|row| settings.wants(&row.name(bytes)));
        if self.rows.is_empty() {
            return;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut pair = Pair::load(dir.path(), &self.sizes);
        let mut durability = Durability::Sync;
        for row in &self.rows {
            if row.durability != durability {
                durability = row.durability;
                pair = pair.reopen(durability);
            }
            show(measure_row(row, &pair, &self.sizes, settings));
        }
    }
}

fn measure_row(row: &Row, pair: &Pair, sizes: &Sizes, settings: &Settings) -> Line {
    let (docs, sync) = (&pair.docs, row.durability == Durability::Sync);
    let [raw, tuned]: [Box<dyn Workload + '_>; 2] = if row.kind.reads() {
        [Box::new(RawGet { db: &pair.raw, pinned: false }), Box::new(RawGet { db: &pair.tuned, pinned: true })]
    } else {
        [Box::new(RawPut { db: &pair.raw, sync }), Box::new(RawPut { db: &pair.tuned, sync })]
    };
    let ours: Box<dyn Workload + '_> = match row.kind {
        Kind::HotGet | Kind::ColdGet => Box::new(Get(docs)),
        Kind::CompareAndSwap => Box::new(CompareAndSwap::new(docs, sizes.documents)),
        Kind::Upsert => Box::new(Upsert(docs)),
        Kind::HotUpdate => Box::new(Update(docs)),
        Kind::HotCompareAndSwap => Box::new(ReadAndSwap(docs)),
    };
    let load = Load {
        threads: row.threads,
        documents: row.kind.documents(sizes),
        bytes: sizes.bytes,
        time_every: if row.kind == Kind::HotGet { 16 } else { 1 },
    };
    let workloads = [&*raw, &*tuned, &*ours];
    for workload in workloads {
        if row.kind == Kind::HotGet {
            read_all(workload, &load);
        }
        run(workload, &load, settings.seconds / 4.0);
    }
    let commits_before = pair.store.stats().commits;
    let mut rounds: [Vec<Measured>; 3] = Default::default();
    for _ in 0..settings.rounds {
        for (rounds, workload) in rounds.iter_mut().zip(workloads) {
            rounds.push(run(workload, &load, settings.seconds));
        }
    }
    let [raw, tuned, ours] = rounds;
    if !row.kind.reads() {
        let acknowledged: u64 = ours.iter().map(|round| round.operations).sum();
        assert_eq!(pair.store.stats().commits - commits_before, acknowledged, "commits and acknowledgements");
    }
    let user_bytes = (!row.kind.reads()).then(|| (sizes.bytes + key(0).len()) as u64);
    Line {
        name: row.name(sizes.bytes),
        unit: "1/s".to_owned(),
        ratio: Some(median(ours.iter().zip(&raw).map(|(ours, raw)| ours.rate() / raw.rate()).collect())),
        raw: Some(Figures::of_rounds(&raw, user_bytes)),
        tuned: Some(Figures::of_rounds(&tuned, user_bytes)),
        ours: Figures::of_rounds(&ours, user_bytes),
        goal: Goal::RatioAtLeast(row.goal),
        others: 0.0,
    }
}

/// Reads every document once, so that what is hot is in memory.
fn read_all(workload: &dyn Workload, load: &Load) {
    let mut bodies = Bodies::new(0, load.bytes);
    for id in 0..load.documents {
        workload.operate(id, &mut bodies);
    }
}
