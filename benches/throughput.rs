//! Closed-loop throughput: threads that each wait for their write before they make the next, raw RocksDB beside
//! etagdb in one run, with the same durability and the same documents. Prints a table of medians and ratios.
//!
//! `cargo bench --bench throughput -- [--seconds S] [--rounds R] [--bytes B] [--documents N]
//! [--only TEXT]`

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use etagdb::{Collection, Durability, Error, Etag, Options, Precondition, Store};

struct Settings {
    seconds: f64,
    rounds: usize,
    bytes: usize,
    documents: u64,
    /// Rows whose name and number of threads, as printed, contain this.
    only: String,
}

impl Settings {
    fn from_arguments() -> Settings {
        let mut settings = Settings { seconds: 2.0, rounds: 3, bytes: 1024, documents: 50_000, only: String::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            // Cargo passes this to every benchmark.
            if flag == "--bench" {
                continue;
            }
            let value = arguments.next().unwrap_or_else(|| panic!("{flag} needs a value"));
            if flag == "--only" {
                settings.only = value;
                continue;
            }
            let number: f64 = value.parse().unwrap_or_else(|_| panic!("{flag} needs a number, not {value:?}"));
            match flag.as_str() {
                "--seconds" => settings.seconds = number,
                "--rounds" => settings.rounds = number as usize,
                "--bytes" => settings.bytes = number as usize,
                "--documents" => settings.documents = number as u64,
                _ => panic!("unknown flag {flag}; known are --seconds, --rounds, --bytes, --documents and --only"),
            }
        }
        settings
    }
}

/// A store as a benchmark sees it: a key is `doc` and a number.
trait Backend: Sync {
    /// One operation of the row's kind on document `id`.
    fn operate(&self, id: u64, body: &[u8]);
}

fn key(id: u64) -> [u8; 16] {
    let mut key = *b"doc-000000000000";
    let mut rest = id;
    for digit in key.iter_mut().rev().take(12) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

struct RawGet<'a>(&'a rocksdb::DB);
struct RawPut<'a>(&'a rocksdb::DB, bool);
struct Get<'a>(&'a Collection);
struct Cas<'a>(&'a Collection, Vec<Mutex<Option<Etag>>>);
struct Update<'a>(&'a Collection);

impl Backend for RawGet<'_> {
    fn operate(&self, id: u64, _: &[u8]) {
        black_box(self.0.get(key(id)).expect("get").expect("loaded"));
    }
}

impl Backend for RawPut<'_> {
    fn operate(&self, id: u64, body: &[u8]) {
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(self.1);
        self.0.put_opt(key(id), body, &options).expect("put");
    }
}

impl Backend for Get<'_> {
    fn operate(&self, id: u64, _: &[u8]) {
        black_box(self.0.get(key(id)).expect("get").expect("loaded"));
    }
}

impl<'a> Cas<'a> {
    fn new(collection: &'a Collection, documents: u64) -> Cas<'a> {
        Cas(collection, (0..documents).map(|_| Mutex::default()).collect())
    }
}

impl Backend for Cas<'_> {
    /// A compare-and-swap by somebody who knows the etag from the write before; a lost race reads it and tries again,
    /// and counts once.
    fn operate(&self, id: u64, body: &[u8]) {
        let known = &self.1[id as usize];
        let remembered = *known.lock().expect("nobody panics");
        let mut guard = remembered.unwrap_or_else(|| self.0.get(key(id)).expect("get").expect("loaded").etag);
        loop {
            match self.0.put(key(id), body, guard) {
                Ok(written) => {
                    *known.lock().expect("nobody panics") = Some(written.etag);
                    return;
                }
                Err(Error::Conflict(conflict)) => guard = conflict.current.expect("present"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Backend for Update<'_> {
    fn operate(&self, id: u64, body: &[u8]) {
        self.0.update(key(id), |_| Ok(etagdb::Change::Put(body.to_vec()))).expect("update");
    }
}

/// Operations a second of `threads` threads over the first `documents` documents.
fn run(backend: &dyn Backend, threads: u64, documents: u64, settings: &Settings) -> f64 {
    let stop = AtomicBool::new(false);
    let total = AtomicU64::new(0);
    let start = Barrier::new(threads as usize + 1);
    let mut elapsed = Duration::ZERO;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, total, start) = (&stop, &total, &start);
            scope.spawn(move || {
                // Random bytes that compress about as badly as real documents: half of them.
                let mut random = 0x9e37_79b9_7f4a_7c15 ^ (thread + 1);
                let mut next = move || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                };
                let body: Vec<u8> = (0..settings.bytes).map(|n| if n % 2 == 0 { b'a' } else { next() as u8 }).collect();
                start.wait();
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    backend.operate(next() % documents, &body);
                    done += 1;
                }
                total.fetch_add(done, Ordering::Relaxed);
            });
        }
        start.wait();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(settings.seconds));
        stop.store(true, Ordering::Relaxed);
        elapsed = began.elapsed();
    });
    total.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both in turn, round by round, so that a machine that slows down slows both.
fn row(name: &str, threads: u64, documents: u64, raw: &dyn Backend, ours: &dyn Backend, settings: &Settings) {
    let label = format!("| {name} | {threads} |");
    if !label.contains(&settings.only) {
        return;
    }
    let (mut raws, mut ourses, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let raw = run(raw, threads, documents, settings);
        let ours = run(ours, threads, documents, settings);
        raws.push(raw);
        ourses.push(ours);
        ratios.push(ours / raw);
    }
    println!("{label} {:.0} | {:.0} | {:.2} |", median(raws), median(ourses), median(ratios));
}

fn open_raw(path: &Path) -> rocksdb::DB {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    rocksdb::DB::open(&options, path).expect("open RocksDB")
}

fn open_ours(path: &Path, durability: Durability) -> Store {
    Options::default().durability(durability).open(path).expect("open etagdb")
}

fn load(raw: &rocksdb::DB, store: &Store, docs: &Collection, settings: &Settings) {
    let body = vec![b'x'; settings.bytes];
    for start in (0..settings.documents).step_by(1000) {
        let ids = start..(start + 1000).min(settings.documents);
        let mut rows = rocksdb::WriteBatch::default();
        let mut batch = store.batch();
        for id in ids {
            rows.put(key(id), &body);
            batch.put(docs, key(id), &body, Precondition::Any);
        }
        raw.write(rows).expect("load RocksDB");
        batch.commit().expect("load etagdb");
    }
}

fn main() {
    let settings = Settings::from_arguments();
    println!(
        "documents of {} bytes, {} of them; {} rounds of {} s a row; medians, operations a second\n",
        settings.bytes, settings.documents, settings.rounds, settings.seconds
    );
    println!("| workload | threads | raw RocksDB | etagdb | ratio |\n|---|---|---|---|---|");
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let raw = open_raw(&dir.path().join("raw"));
        let store = open_ours(&dir.path().join("ours"), durability);
        let docs = store.collection("docs").expect("collection");
        load(&raw, &store, &docs, &settings);
        let sync = durability == Durability::Sync;
        if sync {
            for threads in [1, 4] {
                row("get", threads, settings.documents, &RawGet(&raw), &Get(&docs), &settings);
            }
        }
        let name = if sync { "compare-and-swap, Sync" } else { "compare-and-swap, Buffered" };
        for threads in [1, 4, 16, 64] {
            let cas = Cas::new(&docs, settings.documents);
            row(name, threads, settings.documents, &RawPut(&raw, sync), &cas, &settings);
        }
        if sync {
            row("one hot key, update, Sync", 16, 1, &RawPut(&raw, sync), &Update(&docs), &settings);
        }
        let stats = store.stats();
        eprintln!(
            "{durability:?}: {:.1} writes a group, {:?} to write it",
            stats.commits as f64 / stats.groups as f64,
            stats.group_time / stats.groups.max(1) as u32
        );
    }
}
