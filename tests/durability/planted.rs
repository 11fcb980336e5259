//! The tester is tested, with mistakes of the log in the engine itself: a copy of its files has them all, each behind a
//! question that only the copy can ask, and is compiled once, over the RocksDB that is there already. The recorded child lives in
//! the copy; what it leaves is judged with the engine as it is. The engine itself has neither hooks nor features for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use crate::disk::POLICIES;
use crate::faults;
use crate::model::Demand;
use crate::power::{Recorded, Work, cut_power, recover};
use crate::random::Random;
use crate::reached::{Reached, is_segment};
use crate::recorder::{Event, Orders};
use crate::summary;

/// A mistake: its name, and where it is.
struct Bug {
    name: &'static str,
    file: &'static str,
    /// Found once in the file; `PLANTED` in what replaces it asks whether the bug is wanted.
    sound: &'static str,
    broken: &'static str,
}

const BUGS: [Bug; 7] = [
    Bug {
        name: "directory-not-synced-after-a-new-segment",
        file: "log.rs",
        sound: "            syncing.run(|| sync_directory(&self.directory))?;",
        broken: "            if !PLANTED { syncing.run(|| sync_directory(&self.directory))?; }",
    },
    Bug {
        name: "written-over-before-it-is-in-files",
        file: "log.rs",
        sound: "next.head.start <= persisted);",
        broken: "next.head.start <= persisted || PLANTED);",
    },
    Bug {
        name: "only-the-newest-segment-synced",
        file: "log.rs",
        sound: "        for (_, file) in &files {",
        broken: "        for (_, file) in files.iter().skip(if PLANTED { files.len().saturating_sub(1) } else { 0 }) {",
    },
    Bug {
        name: "refused-batch-dropped",
        file: "backlog.rs",
        sound: "        write(&oldest)?;\n",
        broken: "        if let Err(error) = write(&oldest) {\n            if PLANTED { self.batches.lock().closed.pop_front(); }\n            return Err(error);\n        }\n",
    },
    Bug {
        name: "replayed-from-the-beginning",
        file: "rocks.rs",
        sound: "        let directory = path.with_file_name(LOG_DIR);\n        let end = segment::read(",
        broken: "        let applied = if PLANTED { 0 } else { applied };\n        let directory = path.with_file_name(LOG_DIR);\n        let end = segment::read(",
    },
    Bug {
        name: "log-removed-before-its-rows-are-in-files",
        file: "rocks.rs",
        sound: "            rocks.flush_tables()?;\n        }\n        log::clear",
        broken: "            if !PLANTED { rocks.flush_tables()?; }\n        }\n        log::clear",
    },
    Bug {
        name: "segments-left-after-recovery",
        file: "rocks.rs",
        sound: "        log::clear(&directory)?;\n",
        broken: "        if !PLANTED { log::clear(&directory)?; }\n",
    },
];

/// What the copy's questions are answered by.
const PLANTED_FN: &str = r#"
/// Whether the process was told to have this bug.
pub(crate) fn planted(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("ETAGDB_PLANTED").unwrap_or_default());
    *BUG == bug
}
"#;

const PACKAGE: &str = r#"[package]
name = "planted"
version = "0.0.0"
edition.workspace = true

[[bin]]
name = "power-child"
path = "power_child.rs"

[dependencies]
etagdb.workspace = true
"#;

/// The recorded child over the copy of the engine, compiled once a run.
pub(crate) fn child() -> &'static str {
    static CHILD: OnceLock<String> = OnceLock::new();
    CHILD.get_or_init(|| {
        let (here, target) = (Path::new(env!("CARGO_MANIFEST_DIR")), Path::new(env!("CARGO_TARGET_TMPDIR")));
        let copy = target.join("planted");
        let source = |name: &str| fs::read_to_string(here.join(name)).expect(name);
        copy_files(&here.join("../engine/src"), &copy.join("engine/src"));
        for bug in &BUGS {
            let path = copy.join("engine/src").join(bug.file);
            let text = fs::read_to_string(&path).expect("copied");
            assert_eq!(text.matches(bug.sound).count(), 1, "{}: its place in {} is not there once", bug.name, bug.file);
            let broken = bug.broken.replace("PLANTED", &format!("crate::planted({:?})", bug.name));
            write(&path, &text.replace(bug.sound, &broken));
        }
        write(&copy.join("engine/src/lib.rs"), &(source("../engine/src/lib.rs") + PLANTED_FN));
        write(&copy.join("engine/Cargo.toml"), &source("../engine/Cargo.toml"));
        for name in ["power_child.rs", "durability/random.rs", "durability/workload.rs"] {
            write(&copy.join("child").join(name), &source(name));
        }
        write(&copy.join("child/Cargo.toml"), PACKAGE);
        // The same dependencies, two members, and a profile that compiles in seconds.
        let workspace = source("../Cargo.toml");
        let (head, _) = workspace.split_once("\n[workspace.lints").expect("lints come after the dependencies");
        let keeps = |line: &&str| !["members", "exclude", "etagdb-server"].iter().any(|name| line.starts_with(name));
        let head: Vec<&str> = head.lines().filter(keeps).collect();
        let members = "members = [\"engine\", \"child\"]\n";
        let head = head.join("\n").replacen("[workspace]\n", &format!("[workspace]\n{members}"), 1);
        write(&copy.join("Cargo.toml"), &format!("{head}\n[workspace.lints]\n\n[profile.release]\nopt-level = 0\n"));
        write(&copy.join("Cargo.lock"), &source("../Cargo.lock"));
        let build = copy.join("target");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--offline", "--quiet", "--bin", "power-child"]).current_dir(&copy);
        cargo.env("CARGO_TARGET_DIR", &build).env("ROCKSDB_STATIC", "1").env("ROCKSDB_LIB_DIR", rocksdb(target));
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        build.join("release/power-child").display().to_string()
    })
}

/// Where the RocksDB is that was compiled for these tests.
fn rocksdb(target: &Path) -> PathBuf {
    let packages = fs::read_dir(target.join("../release/build")).expect("where cargo builds");
    let out = packages.map(|package| package.expect("listed").path().join("out"));
    let compiled = out.filter_map(|out| Some((fs::metadata(out.join("librocksdb.a")).ok()?.modified().ok()?, out)));
    compiled.max().expect("RocksDB").1
}

/// Copies the sources below a folder.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("listed").path();
        let target = to.join(path.file_name().expect("named"));
        match path.is_dir() {
            true => copy_files(&path, &target),
            false => write(&target, &fs::read_to_string(&path).expect("a source")),
        }
    }
}

/// Writes a file unless it says so already: cargo goes by the times of files.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return;
    }
    fs::create_dir_all(path.parent().expect("in a folder")).expect("make");
    fs::write(path, text).expect("write");
}

fn orders(bug: &'static str) -> Orders {
    assert!(BUGS.iter().any(|known| known.name == bug), "{bug}");
    Orders { planted: Some(bug), ..Orders::default() }
}

fn work() -> Work {
    Work { seed: 9, batches: 400, ..Work::SYNC }
}

/// Cuts the power in lives with this bug until something is wrong.
fn is_red(bug: &'static str, lives: impl Iterator<Item = Recorded>, cuts: u64, demand: Demand) {
    let began = Instant::now();
    let mut tried = 0;
    for life in lives.take(40) {
        let said = life.events.iter().find_map(|event| match event {
            Event::Said(said) if said.starts_with("failed life") => Some(said.trim_end().to_owned()),
            _ => None,
        });
        let tally = cut_power(&life, cuts, demand);
        tried += tally.cuts;
        let first = tally.wrong.first().map(|red| format!("{:?}", red.wrong));
        for red in &tally.wrong {
            red.forget();
        }
        if let Some(wrong) = said.or(first) {
            let wrong: String = wrong.chars().take(70).collect();
            return summary::row(format!("planted: {bug}"), format!("{tried} power cuts"), wrong, "found", began);
        }
    }
    panic!("nobody noticed in {tried} power cuts: {bug}");
}

fn lives(bug: &'static str, work: Work) -> impl Iterator<Item = Recorded> {
    (0..).map(move |more| Recorded::fresh(Work { seed: work.seed + more, ..work }, &orders(bug)))
}

#[test]
fn a_directory_that_is_not_synced_after_a_new_segment_is_noticed() {
    let bug = "directory-not-synced-after-a-new-segment";
    is_red(bug, lives(bug, work()), 60, Demand::Everything);
}

#[test]
fn a_segment_that_is_written_over_before_its_rows_are_in_files_is_noticed() {
    let bug = "written-over-before-it-is-in-files";
    is_red(bug, lives(bug, work()), 60, Demand::Everything);
}

#[test]
fn a_segment_that_is_left_unsynced_when_the_next_one_is_begun_is_noticed() {
    let bug = "only-the-newest-segment-synced";
    is_red(bug, lives(bug, Work { durability: "buffered", ..work() }), 200, Demand::Prefix);
}

#[test]
fn a_batch_that_is_dropped_when_rocksdb_refuses_it_is_noticed() {
    let bug = "refused-batch-dropped";
    let lives = (0..).map(|_| faults::with_full_disk("tablewrite", 1, &orders(bug)));
    is_red(bug, lives, 60, Demand::Everything);
}

/// Lives that begin with the recovery from a power cut, which came when a segment had just been begun.
fn recoveries(bug: &'static str, durability: &'static str) -> impl Iterator<Item = Recorded> {
    recoveries_with(orders(bug), durability)
}

fn recoveries_with(orders: Orders, durability: &'static str) -> impl Iterator<Item = Recorded> {
    let first = Recorded::fresh(Work { lives: 1, durability, ..work() }, &Orders::default());
    let begun = |(_, event): &(usize, &Event)| match event {
        Event::Rename { to, .. } => is_segment(to),
        Event::Open { path, create, .. } => *create && is_segment(path),
        _ => false,
    };
    let moments: Vec<usize> = first.events.iter().enumerate().filter(begun).map(|(moment, _)| moment).collect();
    (0u64..).map(move |number| {
        let mut random = Random::new(number);
        let moment = moments[random.below(moments.len() as u64) as usize] + 3 + random.below(40) as usize;
        let policy = POLICIES[number as usize % 3];
        let work = Work { batches: 200, lives: 1, durability, ..work() };
        recover(&first, moment, policy, &mut random, work, &orders)
    })
}

#[test]
fn a_replay_from_the_beginning_is_noticed() {
    let bug = "replayed-from-the-beginning";
    is_red(bug, recoveries(bug, "sync"), 20, Demand::Everything);
}

#[test]
fn a_log_that_is_removed_before_its_rows_are_in_files_is_noticed() {
    let bug = "log-removed-before-its-rows-are-in-files";
    is_red(bug, recoveries(bug, "sync"), 60, Demand::Everything);
}

/// What is left does harm only where a later segment happens to begin before it; so what recoveries remove is counted, here
/// as in `power`.
#[test]
fn segments_that_are_left_after_a_recovery_are_noticed() {
    let bug = "segments-left-after-recovery";
    let removed = |orders| {
        let lives = recoveries_with(orders, "sync").take(3);
        lives.map(|life| Reached::of(&life.events).removed_first).sum::<u64>()
    };
    assert_eq!(removed(orders(bug)), 0, "the bug is not there");
    assert!(removed(Orders::default()) > 0);
}
