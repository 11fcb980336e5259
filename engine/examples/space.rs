//! Shows that disk space stays bounded while updates never stop, and that scans are fast again once retention has
//! caught up.
//!
//! Documents are updated at a steady rate under a short retention, and the size of the directory is printed as time
//! goes by. At the end the updates stop, what was superseded comes of age, and a scan of all documents is timed
//! beside one of a plain RocksDB database that holds each document once.
//!
//! `cargo run --release --example space -- [--documents N] [--bytes B] [--rate PER_SECOND] [--retention S]
//! [--seconds S] [--every S]`

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etagdb::{Collection, Durability, Options, Precondition, Retention, ScanRange};

/// For both, and enough for every document, so that the scans compare rows passed over and not disks.
const CACHE_BYTES: usize = 256 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Settings {
    documents: u64,
    bytes: usize,
    rate: u64,
    retention: u64,
    seconds: u64,
    every: u64,
}

impl Settings {
    fn from_arguments() -> Result<Settings, Failure> {
        let mut settings =
            Settings { documents: 100_000, bytes: 1024, rate: 20_000, retention: 20, seconds: 180, every: 5 };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number: u64 = value.parse().map_err(|_| format!("{flag} needs a whole number, not {value:?}"))?;
            match flag.as_str() {
                "--documents" => settings.documents = number.max(1),
                "--bytes" => settings.bytes = number as usize,
                "--rate" => settings.rate = number.max(1),
                "--retention" => settings.retention = number,
                "--seconds" => settings.seconds = number,
                "--every" => settings.every = number.max(1),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(settings)
    }
}

fn main() -> Result<(), Failure> {
    let settings = Settings::from_arguments()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let store = Options::default().durability(Durability::Buffered).cache_bytes(CACHE_BYTES).open(&path)?;
    let docs = store.collection("docs")?;
    docs.set_retention(Retention::age(Duration::from_secs(settings.retention)))?;
    println!(
        "{} documents of {} bytes, {} updates a second, superseded versions kept for {} s",
        settings.documents, settings.bytes, settings.rate, settings.retention
    );
    for id in 0..settings.documents {
        docs.put(key(id), body(id, settings.bytes), Precondition::Absent)?;
    }
    println!("{:>6} {:>10} {:>12} {:>12} {:>12}", "s", "updates", "on disk MB", "of it log", "horizon");
    let begun = Instant::now();
    let (stop, updates) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<(), Failure> {
        let writer = scope.spawn(|| update_for_ever(&docs, &settings, &stop, &updates));
        for second in (0..=settings.seconds).step_by(settings.every as usize) {
            std::thread::sleep((begun + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            let done = updates.load(Ordering::Relaxed);
            print_row(&format!("{second}"), &format!("{done}"), &path, &docs)?;
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")?
    })?;
    println!("updates end");
    println!("{:<34} {:>8.0} documents/s", "scan, with what is kept", scan_rate(&docs)?);
    // The thread of the store has dropped the rest a little after it came of age.
    for second in (5..=settings.retention + 15).step_by(5) {
        std::thread::sleep(Duration::from_secs(5));
        print_row(&format!("+{second}"), "", &path, &docs)?;
    }
    let ours = scan_rate(&docs)?;
    let (raw, raw_megabytes) = raw_rocksdb(&settings, &dir.path().join("raw"))?;
    println!("{:<34} {:>8.0} documents/s", "scan, retention has caught up", ours);
    println!("{:<34} {:>8.0} documents/s, {raw_megabytes:.1} MB", "scan of raw RocksDB, one version", raw);
    println!("ratio of scans {:.2}, of space {:.2}", ours / raw, megabytes(&path, "")? / raw_megabytes);
    Ok(())
}

fn print_row(second: &str, updates: &str, path: &Path, docs: &Collection) -> Result<(), Failure> {
    let (all, log) = (megabytes(path, "")?, megabytes(path, ".log")?);
    println!("{second:>6} {updates:>10} {all:>12.1} {log:>12.1} {:>12}", docs.horizon().get());
    Ok(())
}

fn update_for_ever(
    docs: &Collection,
    settings: &Settings,
    stop: &AtomicBool,
    updates: &AtomicU64,
) -> Result<(), Failure> {
    let begun = Instant::now();
    // A generator of ids that needs no crate: xorshift64.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * settings.rate as f64) as u64;
        let mut done = updates.load(Ordering::Relaxed);
        while done < due && !stop.load(Ordering::Relaxed) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            docs.put(key(random % settings.documents), body(random, settings.bytes), Precondition::Present)?;
            done += 1;
            updates.store(done, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn key(id: u64) -> String {
    format!("doc-{id:012}")
}

/// Half of it compresses away, as in most documents.
fn body(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes / 2 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        body.extend_from_slice(&random.to_le_bytes());
    }
    body.resize(bytes, b' ');
    body
}

/// The median of five scans.
fn scan_rate(docs: &Collection) -> Result<f64, Failure> {
    median(|| {
        let mut bytes = 0;
        let mut count = 0u64;
        for entry in docs.scan(&ScanRange::all())? {
            let (id, document) = entry?;
            bytes += id.len() + document.body.len();
            count += 1;
        }
        std::hint::black_box(bytes);
        Ok(count)
    })
}

fn raw_rocksdb(settings: &Settings, path: &Path) -> Result<(f64, f64), Failure> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_block_cache(&rocksdb::Cache::new_hyper_clock_cache(CACHE_BYTES, 0));
    options.set_block_based_table_factory(&table);
    let db = rocksdb::DB::open(&options, path)?;
    for id in 0..settings.documents {
        db.put(key(id), body(id, settings.bytes))?;
    }
    db.flush()?;
    db.compact_range(None::<&[u8]>, None::<&[u8]>);
    let rate = median(|| {
        let mut bytes = 0;
        let mut count = 0u64;
        for entry in db.iterator(rocksdb::IteratorMode::Start) {
            let (id, body) = entry?;
            bytes += id.len() + body.len();
            count += 1;
        }
        std::hint::black_box(bytes);
        Ok(count)
    })?;
    Ok((rate, megabytes(path, ".sst")?))
}

fn median(scan: impl Fn() -> Result<u64, Failure>) -> Result<f64, Failure> {
    let mut rates = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let count = scan()?;
        rates.push(count as f64 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[2])
}

/// The files of a directory, and of those in it, whose name ends in `ending`. A file may go while it is looked for.
fn megabytes(path: &Path, ending: &str) -> Result<f64, Failure> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += megabytes(&entry.path(), ending)? * 1e6,
            Ok(metadata) if entry.file_name().to_string_lossy().ends_with(ending) => bytes += metadata.len() as f64,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(bytes / 1e6)
}
