//! How the cost of an operation grows: throughput of etagdb against the number of threads, the size and the number of
//! documents, and the versions that are kept of each. Prints tables, and leaves them with a picture in `results`.
//!
//! `cargo bench --bench scaling -- [--seconds S] [--rounds R] [--documents-max N] [--only SWEEP] [--dir DIR]`

mod picture;

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etagdb::{Collection, Durability, Error, Etag, Options, Precondition, Retention, ScanRange, Store};
use picture::{Line, LinePanel};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What is measured at each point, and by how many threads where their number is not what varies.
const WORKLOADS: [(Work, &str, u64); 4] = [
    (Work::Get, "get", 4),
    (Work::Scan, "scan (documents)", 1),
    (Work::Swap(Durability::Buffered), "CAS, Buffered", 4),
    (Work::Swap(Durability::Sync), "CAS, Sync", 16),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Read any document.
    Get,
    /// Read all documents in order, again and again; each counts.
    Scan,
    /// Compare-and-swap on any document, by somebody who remembers its etag from the write before.
    Swap(Durability),
}

/// A store to be measured.
struct Point {
    /// Where it is on the axis, and what is written there.
    place: f64,
    name: String,
    threads: Option<u64>,
    bytes: usize,
    documents: u64,
    /// How many versions of each document there are and are kept; as many as the defaults keep, if nothing is said.
    versions: Option<u32>,
}

/// Points that differ in one thing.
struct Sweep {
    name: &'static str,
    title: String,
    points: Vec<Point>,
}

/// What does not vary in a sweep.
const THREADS: &str = "Get and Buffered by 4 threads, scan by 1, Sync by 16";
const BYTES: usize = 1024;
const DOCUMENTS: u64 = 20_000;
/// Fewer, so that a hundred versions of each are made in seconds.
const VERSIONED: u64 = 2_000;

fn sweeps(documents_max: u64) -> [Sweep; 4] {
    let point = |place: u64| Point {
        place: place as f64,
        name: picture::short(place as f64),
        threads: None,
        bytes: BYTES,
        documents: DOCUMENTS,
        versions: None,
    };
    let threads = [1, 2, 4, 8, 16, 32, 64].map(|threads| Point { threads: Some(threads), ..point(threads) });
    let bytes = [64, 256, 1024, 4096, 16_384, 65_536].map(|bytes: u64| Point {
        bytes: bytes as usize,
        name: if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) },
        // At most 256 MiB of them.
        documents: DOCUMENTS.min((256 << 20) / bytes),
        ..point(bytes)
    });
    let documents = (4..=9).map(|power| 10u64.pow(power)).filter(|documents| *documents <= documents_max);
    let documents = documents.map(|documents| Point { documents, ..point(documents) });
    let versions = [1, 3, 10, 30, 100].map(|versions| Point {
        versions: Some(versions),
        documents: VERSIONED,
        ..point(u64::from(versions))
    });
    [
        Sweep {
            name: "threads",
            title: format!("Threads ({DOCUMENTS} documents of {BYTES} B)"),
            points: threads.into(),
        },
        Sweep {
            name: "bytes",
            title: format!("Bytes of a document ({DOCUMENTS}, or 256 MiB of them)"),
            points: bytes.into(),
        },
        Sweep { name: "documents", title: format!("Documents of {BYTES} B"), points: documents.collect() },
        Sweep {
            name: "versions",
            title: format!("Versions kept of each document ({VERSIONED} of {BYTES} B)"),
            points: versions.into(),
        },
    ]
}

struct Settings {
    seconds: f64,
    rounds: usize,
    documents_max: u64,
    only: Option<String>,
    dir: PathBuf,
}

impl Settings {
    fn from_arguments() -> Result<Settings> {
        let mut settings =
            Settings { seconds: 0.5, rounds: 3, documents_max: 1_000_000, only: None, dir: std::env::temp_dir() };
        // Cargo passes `--bench` to every benchmark.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let unreadable = || format!("{flag} needs a number, not {value:?}");
            match flag.as_str() {
                "--seconds" => settings.seconds = value.parse().map_err(|_| unreadable())?,
                "--rounds" => settings.rounds = value.parse().map_err(|_| unreadable())?,
                "--documents-max" => settings.documents_max = value.parse().map_err(|_| unreadable())?,
                "--only" => settings.only = Some(value),
                "--dir" => settings.dir = PathBuf::from(value),
                _ => {
                    let known = "--seconds, --rounds, --documents-max, --only and --dir";
                    return Err(format!("unknown flag {flag}; known are {known}").into());
                }
            }
        }
        if settings.rounds == 0 || settings.documents_max < 10_000 || !(0.01..=3600.0).contains(&settings.seconds) {
            return Err("at least 1 round, 10,000 documents and 0.01 seconds (at most an hour) are needed".into());
        }
        Ok(settings)
    }
}

fn main() -> ExitCode {
    match Settings::from_arguments().and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<()> {
    let note = format!(
        "{THREADS}, unless the number of threads is what varies; medians of {} rounds of {} s",
        settings.rounds, settings.seconds
    );
    let mut text = format!("Thousands of operations a second. {note}.\n");
    let mut panels = Vec::new();
    for sweep in sweeps(settings.documents_max) {
        if settings.only.as_ref().is_some_and(|only| only != sweep.name) {
            continue;
        }
        let mut lines = WORKLOADS.map(|(_, name, _)| Line { name: name.to_owned(), points: Vec::new() });
        let mut table = format!("\n{}\n\n|{:>10} |", sweep.title, sweep.name);
        for (_, name, _) in WORKLOADS {
            let _ = write!(table, "{name:>17} |");
        }
        let _ = write!(table, "\n|----------:|{}\n", "-----------------:|".repeat(WORKLOADS.len()));
        for point in &sweep.points {
            eprintln!("{}: {}", sweep.name, point.name);
            let _ = write!(table, "|{:>10} |", point.name);
            for (line, figure) in lines.iter_mut().zip(measure(point, settings)?) {
                line.points.push((point.place, figure));
                let _ = write!(table, "{:>17.1} |", figure / 1000.0);
            }
            table.push('\n');
        }
        print!("{table}");
        text.push_str(&table);
        let ticks = sweep.points.iter().map(|point| (point.place, point.name.clone())).collect();
        panels.push(LinePanel { title: sweep.title, ticks, lines: lines.into() });
    }
    if panels.is_empty() {
        return Err("no sweep has this name; there are threads, bytes, documents and versions".into());
    }
    // A part of the sweeps is for looking, not for keeping.
    if settings.only.is_none() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&results)?;
        fs::write(results.join("scaling.md"), text)?;
        fs::write(
            results.join("scaling.svg"),
            picture::lines("How throughput scales", &format!("Operations a second; {note}"), &panels),
        )?;
    }
    Ok(())
}

/// Operations a second of each workload, in their order.
fn measure(point: &Point, settings: &Settings) -> Result<Vec<f64>> {
    let dir = tempfile::tempdir_in(&settings.dir)?;
    let path = dir.path().join("store");
    // Loaded without waiting for the disk; what is measured waits where it says so.
    load(&Options::default().durability(Durability::Buffered).open(&path)?, point)?;
    let mut figures = Vec::new();
    for (work, _, threads) in WORKLOADS {
        let durability = if let Work::Swap(durability) = work { durability } else { Durability::Buffered };
        let store = Options::default().durability(durability).open(&path)?;
        let documents = store.collection("documents")?;
        let etags = Etags::new(point.documents);
        // A cold cache would be measured instead of the store. It holds fewer than these.
        if work != Work::Scan {
            for id in 0..point.documents.min(100_000) {
                black_box(documents.get(key(id))?);
            }
        }
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            let threads = point.threads.unwrap_or(threads);
            rounds.push(throughput(&documents, work, &etags, threads, point.bytes, settings.seconds)?);
        }
        rounds.sort_by(f64::total_cmp);
        figures.push(rounds[rounds.len() / 2]);
    }
    Ok(figures)
}

/// Every document in as many versions as the point asks for, and no more kept while it is measured: what is written
/// then drops what it pushes out.
fn load(store: &Store, point: &Point) -> Result<()> {
    let documents = store.collection("documents")?;
    if let Some(versions) = point.versions {
        documents.set_retention(Retention::age(Duration::ZERO).versions(versions - 1))?;
    }
    for version in 0..u64::from(point.versions.unwrap_or(1)) {
        let all = (0..point.documents).map(|id| (key(id), body(point.bytes, version * point.documents + id + 1)));
        documents.bulk_load(all, Precondition::Any)?;
    }
    Ok(())
}

/// The etag that somebody remembers of each document, once it was written.
struct Etags(Vec<Mutex<Option<Etag>>>);

impl Etags {
    fn new(documents: u64) -> Etags {
        Etags((0..documents).map(|_| Mutex::default()).collect())
    }

    fn with<T>(&self, id: u64, look: impl FnOnce(&mut Option<Etag>) -> T) -> T {
        look(&mut self.0[id as usize].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Threads that each wait for their answer before they ask again.
fn throughput(
    documents: &Collection,
    work: Work,
    etags: &Etags,
    threads: u64,
    bytes: usize,
    seconds: f64,
) -> Result<f64> {
    let (stop, total, start) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(threads as usize + 1));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=threads)
            .map(|seed| {
                let (stop, total, start) = (&stop, &total, &start);
                scope.spawn(move || -> Result<()> {
                    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let body = body(bytes, seed);
                    let mut done = 0;
                    start.wait();
                    while !stop.load(Ordering::Relaxed) {
                        let id = random.next() % etags.0.len() as u64;
                        done += match work {
                            Work::Get => {
                                black_box(documents.get(key(id))?);
                                1
                            }
                            Work::Scan => scan(documents, stop)?,
                            Work::Swap(_) => swap(documents, etags, id, &body)?,
                        };
                    }
                    total.fetch_add(done, Ordering::Relaxed);
                    Ok(())
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok(total.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
    })
}

/// How many documents were read before the end, or before it was time to stop.
fn scan(documents: &Collection, stop: &AtomicBool) -> Result<u64> {
    let mut read = 0;
    for document in documents.scan(&ScanRange::all())? {
        black_box(document?);
        read += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(read)
}

/// One write, however many races are lost before it.
fn swap(documents: &Collection, etags: &Etags, id: u64, body: &[u8]) -> Result<u64> {
    let mut etag = match etags.with(id, |known| *known) {
        Some(etag) => etag,
        None => documents.get(key(id))?.ok_or("a document is missing")?.etag,
    };
    loop {
        match documents.put(key(id), body, etag) {
            Ok(written) => {
                etags.with(id, |known| *known = Some(written.etag));
                return Ok(1);
            }
            Err(Error::Conflict(conflict)) => etag = conflict.current.ok_or("a document is missing")?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn key(id: u64) -> String {
    format!("doc-{id:012}")
}

/// Bytes of which half are random, as documents compress.
fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0xd1b5_4a32_d192_ed03) | 1);
    (0..bytes).map(|at| if at % 2 == 0 { b'a' } else { random.next() as u8 }).collect()
}

/// Marsaglia's xorshift: cheap, and the same in every run. The seed must not be 0.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
