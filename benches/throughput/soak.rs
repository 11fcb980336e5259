//! A store under load that never stops: memory stays within what the options say, and the disk within a bound.
//!
//! It runs in a process of its own, as the others' memory is not to be seen.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench_support::{
    Bodies, Figures, Goal, Line, Random, Sizes, directory_bytes, key, load_ours, ours_options, resident_bytes,
};
use etagdb::{Change, Collection, Durability, Retention, Store};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

const BYTES: usize = 1024;
const SIZES: Sizes = Sizes { documents: 200_000, bytes: BYTES, document_cache_bytes: 32 << 20, cache_bytes: 32 << 20 };
const WRITE_BUFFER_BYTES: usize = 16 << 20;
const THREADS: u64 = 4;
/// Bodies that wait to be written, at most; see `Stats::queued_bytes`.
const QUEUE_BYTES: usize = 64 << 20;
/// What a process takes besides: code, stacks, the tables of open files, what the allocator keeps for later, and
/// blocks that a compaction has in hand.
const BESIDES_BYTES: usize = 32 << 20;
/// The first argument of the process that is watched.
pub(crate) const CHILD: &str = "soak";

const MEMORY: &str = "under load: memory, most";
const GROWTH: &str = "under load: memory, second half / first half";
const DISK: &str = "under load: disk, second half / first half";

pub(crate) const NAMES: [&str; 3] = [MEMORY, GROWTH, DISK];

/// What the watched process saw: the most in each half of its time.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    resident: [u64; 2],
    disk: [u64; 2],
    operations: u64,
}

/// The options' word for memory: both caches, three write buffers while they are written out, of the versions and of
/// the feed, and the queue.
fn bound_bytes() -> usize {
    SIZES.document_cache_bytes + SIZES.cache_bytes + 2 * 3 * WRITE_BUFFER_BYTES + QUEUE_BYTES + BESIDES_BYTES
}

/// Starts the process and judges what it saw.
pub(crate) fn measure(settings: &Settings, mut show: impl FnMut(Line)) {
    if !NAMES.iter().any(|name| settings.wants(name)) {
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args([CHILD, &settings.soak_seconds.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("start the soak");
    assert!(output.status.success(), "the soak failed; its message is above");
    let seen: Seen = serde_json::from_slice(&output.stdout).expect("the soak's figures");
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let line = |name: &str, unit: &str, ours, goal| Line {
        name: name.to_owned(),
        unit: unit.to_owned(),
        raw: None,
        tuned: None,
        ours: Figures::of(ours),
        ratio: None,
        goal,
        others: 0.0,
    };
    let most = seen.resident[0].max(seen.resident[1]) as f64;
    let growth = |halves: [u64; 2]| halves[1] as f64 / halves[0] as f64;
    show(line(MEMORY, "MiB", mib(most), Goal::OursBelow(mib(bound_bytes() as f64))));
    show(line(GROWTH, "ratio", growth(seen.resident), Goal::OursBelow(1.1)));
    show(line(DISK, "ratio", growth(seen.disk), Goal::OursBelow(1.25)));
}

/// The watched process: four threads read and update documents at random, more of them than fit in memory.
pub(crate) fn child(mut arguments: impl Iterator<Item = String>) {
    let seconds: f64 = arguments.next().and_then(|seconds| seconds.parse().ok()).expect("started by this program");
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = ours_options(&SIZES, Durability::Buffered).write_buffer_bytes(WRITE_BUFFER_BYTES);
    let store = store.open(dir.path().join("ours")).expect("open etagdb");
    let docs = store.collection("docs").expect("collection");
    docs.set_retention(Retention::age(Duration::from_secs(1))).expect("retention");
    load_ours(&docs, &SIZES);
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (docs, stop) = (&docs, &stop);
                scope.spawn(move || work(docs, thread, stop))
            })
            .collect();
        // The caches fill first: they are not growth.
        std::thread::sleep(Duration::from_secs_f64(seconds / 5.0));
        let mut seen = watch(&store, dir.path(), seconds);
        stop.store(true, Ordering::Relaxed);
        seen.operations = threads.into_iter().map(|thread| thread.join().expect("an operation failed")).sum();
        seen
    });
    println!("{}", serde_json::to_string(&seen).expect("numbers"));
}

/// Every other operation an update.
fn work(docs: &Collection, thread: u64, stop: &AtomicBool) -> u64 {
    let (mut random, mut bodies, mut operations) = (Random::new(thread), Bodies::new(thread, BYTES), 0);
    while !stop.load(Ordering::Relaxed) {
        let id = key(random.below(SIZES.documents));
        if operations % 2 == 0 {
            docs.get(id).expect("get").expect("loaded");
        } else {
            let body = bodies.make().to_vec();
            docs.update(id, |_| Ok(Change::Put(body))).expect("update");
        }
        operations += 1;
    }
    operations
}

/// Looks every tenth of a second, and tells what it sees every five.
fn watch(store: &Store, path: &Path, seconds: f64) -> Seen {
    let (began, mut seen, mut told) = (Instant::now(), Seen::default(), Instant::now());
    while began.elapsed().as_secs_f64() < seconds {
        let (resident, disk) = (resident_bytes(), directory_bytes(path));
        let half = usize::from(began.elapsed().as_secs_f64() > seconds / 2.0);
        seen.resident[half] = seen.resident[half].max(resident);
        seen.disk[half] = seen.disk[half].max(disk);
        if told.elapsed() > Duration::from_secs(5) {
            let stats = store.stats();
            eprintln!(
                "{:>4.0} s: {} MiB in memory, {} MiB in the document cache, {} MiB on disk, {} commits",
                began.elapsed().as_secs_f64(),
                resident >> 20,
                stats.cache_bytes >> 20,
                disk >> 20,
                stats.commits
            );
            told = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    seen
}
