//! Instructions that a read and a write take, counted by valgrind: the same on a busy machine as on a quiet one, so
//! that a regression shows however much the clock wavers.
//!
//! Started without arguments it runs itself under `valgrind --tool=callgrind`, which counts what happens in one function
//! and what that calls, on the calling thread; prints instructions per operation, and compares them with
//! `benches/instructions.txt`. More than the tolerance above is a failure. `--update` writes the file anew.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use bench_support::{Bodies, Random, Sizes, key, load_ours, load_raw, ours_options, raw_options};
use etagdb::{Durability, Etag};
use rocksdb::DB;

/// So much may come from another compiler or C library; a lost optimisation is usually more.
const TOLERANCE: f64 = 0.05;
/// Operations that are counted.
const OPERATIONS: u64 = 2_000;
const SIZES: Sizes = Sizes { documents: 500, bytes: 1024, document_cache_bytes: 64 << 20, cache_bytes: 16 << 20 };
/// RocksDB's own `Put` is there as the part of a write that is not ours to save.
const MODES: [(&str, &str); 3] =
    [("get", "gets"), ("compare-and-swap, Buffered", "swaps"), ("raw RocksDB put, no sync", "raw-puts")];

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        None => compare(false),
        Some("--update") => compare(true),
        Some(mode) => {
            count(mode);
            ExitCode::SUCCESS
        }
    }
}

fn compare(update: bool) -> ExitCode {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: instructions were not counted, because valgrind is missing; apt-get install valgrind");
        return ExitCode::SUCCESS;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    let baseline = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut counted, mut worse) = (String::new(), false);
    for (name, mode) in MODES {
        let now = under_valgrind(mode);
        let _ = writeln!(counted, "{now:>8.0} {name}");
        let before = baseline.lines().find_map(|line| line.trim_start().strip_suffix(name)?.trim().parse::<f64>().ok());
        let Some(before) = before else {
            println!("{name}: {now:.0} instructions; {} has no figure to compare with", path.display());
            worse |= !update;
            continue;
        };
        let change = now / before - 1.0;
        let verdict = match change {
            change if change > TOLERANCE => "WORSE",
            change if change < -TOLERANCE => "better: make instructions UPDATE=--update keeps that",
            _ => "as before",
        };
        worse |= change > TOLERANCE;
        println!("{name}: {now:.0} instructions, {:+.1} % from {before:.0}: {verdict}", 100.0 * change);
    }
    if update {
        std::fs::write(&path, counted).expect("write the figures");
        return ExitCode::SUCCESS;
    }
    if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Instructions per operation.
fn under_valgrind(mode: &str) -> f64 {
    let dir = tempfile::tempdir().expect("temporary directory");
    let out = dir.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_operations*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .arg(mode)
        .output()
        .expect("start valgrind");
    assert!(output.status.success(), "valgrind failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(out).expect("callgrind's figures");
    // One sum for each thread and dump; only the thread that is counted has any.
    let sums = text.lines().filter_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")));
    let total = sums.filter_map(|sum| sum.trim().parse::<u64>().ok()).max().unwrap_or(0);
    assert!(total > 0, "callgrind counted nothing:\n{}", String::from_utf8_lossy(&output.stderr));
    total as f64 / OPERATIONS as f64
}

fn count(mode: &str) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = ours_options(&SIZES, Durability::Buffered).background_maintenance(false);
    let store = store.open(dir.path().join("ours")).expect("open etagdb");
    let docs = store.collection("docs").expect("collection");
    load_ours(&docs, &SIZES);
    let mut etags: Vec<Etag> =
        (0..SIZES.documents).map(|id| docs.get(key(id)).expect("get").expect("loaded").etag).collect();
    let raw = DB::open(&raw_options(&SIZES, false), dir.path().join("raw")).expect("open RocksDB");
    load_raw(&raw, &SIZES);
    let mut operate = |id: u64, body: &[u8]| match mode {
        "gets" => drop(black_box(docs.get(key(id)).expect("get").expect("loaded"))),
        "swaps" => {
            let etag = &mut etags[id as usize];
            *etag = docs.put(key(id), body, *etag).expect("nobody else writes").etag;
        }
        "raw-puts" => raw.put(key(id), body).expect("put"),
        _ => panic!("unknown mode {mode}"),
    };
    let (mut random, mut bodies) = (Random::new(0), Bodies::new(1, SIZES.bytes));
    let mut some = |count: u64| -> Vec<(u64, Vec<u8>)> {
        (0..count).map(|_| (random.below(SIZES.documents), bodies.make().to_vec())).collect()
    };
    // Some uncounted: what is made at first use is not what an operation takes.
    some(100).iter().for_each(|(id, body)| operate(*id, body));
    counted_operations(&some(OPERATIONS), &mut operate);
}

/// Known to callgrind by its name.
#[inline(never)]
fn counted_operations(operations: &[(u64, Vec<u8>)], operate: &mut dyn FnMut(u64, &[u8])) {
    for (id, body) in operations {
        operate(*id, body);
    }
}
