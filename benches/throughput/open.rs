//! How long opening takes: after a clean close, and after the process was killed with a full write buffer in its log.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use bench_support::{
    Bodies, Figures, Goal, Line, Random, Sizes, key, load_ours, load_raw, median, ours_options, raw_options, settle,
};
use etagdb::{Durability, Precondition};
use rocksdb::DB;

use crate::settings::Settings;

const BYTES: usize = 1024;
/// Nearly as much as a write buffer takes before it becomes a file: the longest log that there usually is to replay.
const UNFLUSHED: u64 = 50_000;
/// The first argument of the process that is killed.
pub(crate) const CHILD: &str = "write-and-wait-to-be-killed";

fn sizes(documents: u64) -> Sizes {
    Sizes { documents, bytes: BYTES, document_cache_bytes: 64 << 20, cache_bytes: 128 << 20 }
}

/// Opens a store and reads one document, which is when it can be used.
fn open(path: &Path, is_ours: bool) -> f64 {
    let (sizes, began) = (sizes(1), Instant::now());
    if is_ours {
        let store = ours_options(&sizes, Durability::Sync).open(path).expect("open etagdb");
        let docs = store.existing_collection("docs").expect("loaded");
        docs.get(key(0)).expect("get").expect("loaded");
        began.elapsed().as_secs_f64() * 1000.0
    } else {
        let db = DB::open(&raw_options(&sizes, false), path).expect("open RocksDB");
        db.get(key(0)).expect("get").expect("loaded");
        began.elapsed().as_secs_f64() * 1000.0
    }
}

fn names(documents: u64) -> [(String, f64); 2] {
    [
        (format!("open, {documents} documents, after a clean close"), 1000.0),
        (format!("open, {documents} documents, after a kill"), 3000.0),
    ]
}

/// The names of the lines.
pub(crate) fn line_names(settings: &Settings) -> impl Iterator<Item = String> {
    names(settings.documents_to_open).into_iter().map(|(name, _)| name)
}

/// Loads both stores and opens them again and again.
pub(crate) fn measure(settings: &Settings, mut show: impl FnMut(Line)) {
    let documents = settings.documents_to_open;
    let [clean, killed] = names(documents);
    if !settings.wants(&clean.0) && !settings.wants(&killed.0) {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let (raw_path, ours_path) = (dir.path().join("raw"), dir.path().join("ours"));
    let sizes = sizes(documents);
    {
        let raw = DB::open(&raw_options(&sizes, false), &raw_path).expect("open RocksDB");
        load_raw(&raw, &sizes);
        raw.flush().expect("flush RocksDB");
        let store = ours_options(&sizes, Durability::Buffered).open(&ours_path).expect("open etagdb");
        load_ours(&store.collection("docs").expect("collection"), &sizes);
    }
    settle();
    for ((name, most), is_killed) in [(clean, false), (killed, true)] {
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            if is_killed {
                write_and_kill(&raw_path, false, documents);
                write_and_kill(&ours_path, true, documents);
            }
            rounds.push((open(&raw_path, false), open(&ours_path, true)));
        }
        let (raws, ourses) = rounds.iter().copied().unzip();
        show(Line {
            name,
            unit: "ms".to_owned(),
            raw: Some(Figures::of(median(raws))),
            tuned: None,
            ours: Figures::of(median(ourses)),
            ratio: Some(median(rounds.iter().map(|(raw, ours)| ours / raw).collect())),
            goal: Goal::OursBelow(most),
            others: 0.0,
        });
    }
}

/// Has another process write as much as a log usually holds, and kills it.
fn write_and_kill(path: &Path, is_ours: bool, documents: u64) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([CHILD, if is_ours { "etagdb" } else { "rocksdb" }, &documents.to_string()])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the process to be killed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("wait for the writes");
    assert_eq!(line, "written\n", "the process to be killed failed; its message is above");
    child.kill().expect("kill");
    child.wait().expect("end of the killed process");
}

/// The process that is killed.
pub(crate) fn child(mut arguments: impl Iterator<Item = String>) {
    let mut argument = || arguments.next().expect("started by this program");
    let (is_ours, documents, path) = (argument() == "etagdb", argument(), argument());
    let documents = documents.parse().expect("a number");
    let (sizes, path) = (sizes(documents), Path::new(&path));
    let (mut random, mut bodies) = (Random::new(7), Bodies::new(7, BYTES));
    // Kept until the end: what is closed has no log to replay.
    let mut kept: (Option<DB>, Option<etagdb::Store>) = (None, None);
    if is_ours {
        let store = ours_options(&sizes, Durability::Buffered).open(path).expect("open etagdb");
        let docs = store.existing_collection("docs").expect("loaded");
        for _ in 0..UNFLUSHED {
            docs.put(key(random.below(documents)), bodies.make(), Precondition::Present).expect("put");
        }
        store.sync().expect("sync");
        kept.1 = Some(store);
    } else {
        let db = DB::open(&raw_options(&sizes, false), path).expect("open RocksDB");
        for _ in 0..UNFLUSHED {
            db.put(key(random.below(documents)), bodies.make()).expect("put");
        }
        db.flush_wal(true).expect("sync");
        kept.0 = Some(db);
    }
    println!("written");
    std::io::stdout().flush().expect("tell");
    // Until killed; should the parent be gone, until the end of its pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
    loop {
        std::thread::park();
    }
}
