//! The n-th call fails: for every n of a short life of a store, once and from then on, in each way that matters. The
//! child must not crash and must go on reading; nothing acknowledged may be lost; and once the fault is gone the
//! directory opens again in the same process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::again;
use crate::disk::Image;
use crate::model::{Demand, Told, Wrong, check};
use crate::power::{Recorded, Watch, Work, cut_power, seed_of_run, threads};
use crate::recorder::{Event, Orders, POWER_CHILD, memory_dir, run_with};
use crate::summary;
use crate::workload::LARGE;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
/// What a file system says that was remounted read-only.
const EROFS: i32 = 30;

/// Once, or for ever.
const COUNTS: [u64; 2] = [1, u64::MAX >> 2];

/// How long a disk is full, in calls.
const FULL: u64 = 2;

/// Two lives: the first one meets the fault; the second one, in the same process, opens the store again.
const WORK: Work =
    Work { seed: 21 | LARGE, writers: 2, batches: 90, durability: "faulty", lives: 2, checkpoints: false };

/// What the child said, and how it ended.
fn run(work: Work, root: &Path, orders: &Orders) -> Result<(Told, u64), String> {
    let arguments = work.arguments(root);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (output, calls) = run_with(root, orders, &arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the child ended with {}: {errors}", output.status));
    }
    let mut told = Told::default();
    String::from_utf8_lossy(&output.stdout).lines().for_each(|line| told.hear(line));
    Ok((told, calls))
}

fn fail(kind: &'static str, first: u64, count: u64, errno: i32) -> Result<(), String> {
    fail_in(WORK, kind, first, count, errno).map(drop)
}

/// Runs a child in which the calls from number `first` on fail. Returns what it said, or what is wrong with what it did and
/// left.
fn fail_in(work: Work, kind: &'static str, first: u64, count: u64, errno: i32) -> Result<Told, String> {
    let dir = memory_dir();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("create");
    // Removed by the child between its lives, which ends the fault.
    std::fs::write(root.join("heal"), "").expect("write");
    let (told, _) = run(work, &root, &Orders { fault: Some((kind, first, count, errno)), ..Orders::default() })?;
    if let Some(failure) = told.failures.iter().find(|failure| failure.starts_with("failed read")) {
        return Err(format!("reads do not go on: {failure}"));
    }
    if let Some(failure) = told.failures.iter().find(|failure| failure.starts_with("failed life 1")) {
        return Err(format!("it does not open again in the same process: {failure}"));
    }
    if !told.failures.iter().any(|failure| failure.starts_with("failed ")) {
        // The call failed where it does not matter, or was not reached.
        if told.batches.values().any(|&last| last < 2 * work.batches) {
            return Err("writers stopped without an error".into());
        }
    }
    match check(&root.join("store"), work.seed, &told.clone().after_failures(), Demand::Everything, true) {
        Ok(_) => Ok(told),
        Err(Wrong::Lost(what)) => Err(format!("lost: {what}")),
        Err(Wrong::Untrue(what)) => Err(format!("untrue: {what}")),
        Err(Wrong::Unopenable(what)) => Err(format!("unopenable: {what}")),
    }
}

/// One life, whose calls fail as a case says: kind, number of the first, how many, and the error's number.
pub(crate) fn again(case: &str) -> Result<(), String> {
    const KINDS: [&str; 6] = ["write", "sync", "open", "name", "logsync", "tablewrite"];
    let mut words = case.split(':');
    let mut word = || words.next().unwrap_or_else(|| panic!("{case:?} is no fault"));
    let kind = word();
    let kind = KINDS.into_iter().find(|known| *known == kind).expect("a kind of call");
    let mut number = || word().parse::<u64>().expect("a number");
    let (first, count, errno) = (number(), number(), number() as i32);
    if kind == "logsync" { fail_to_sync(first, count, errno).map(drop) } else { fail(kind, first, count, errno) }
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost_and_the_store_opens_again() {
    let began = Instant::now();
    // The first life goes on in a segment that is written over.
    Recorded::that_reached(Work { lives: 1, ..WORK }, |reached| {
        reached.begun > 2 && reached.written_over > 0 && reached.removed > 2 && reached.tables > 3
    });
    // How many calls of each kind such lives make.
    let mut faults = Vec::new();
    for (kind, errors) in [
        ("write", &[EIO, ENOSPC, EROFS][..]),
        ("sync", &[EIO, ENOSPC]),
        ("open", &[EIO, EMFILE, ENOSPC, EROFS]),
        ("name", &[EIO, EROFS]),
    ] {
        let dir = memory_dir();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).expect("create");
        let (told, calls) =
            run(WORK, &root, &Orders { fault: Some((kind, u64::MAX >> 2, 1, EIO)), ..Orders::default() })
                .expect("a life");
        assert!(told.failures.is_empty(), "{:?}", told.failures);
        assert!(calls > 5, "{calls} calls of kind {kind}");
        // The first life, and the first steps of the second; `make powercut` tries each call, others some of them. Most
        // writes only fill segments with zeros.
        let reach = calls * 6 / 10;
        let step: usize = std::env::var("ETAGDB_FAULT_STEP").ok().map_or(12, |step| step.parse().expect("a number"));
        let step = match kind {
            "write" => 6 * step,
            "sync" => step,
            _ => step.div_ceil(6),
        };
        let first = 1 + seed_of_run() % step as u64;
        for &errno in errors {
            for count in COUNTS {
                faults.extend((first..=reach).step_by(step).map(|first| (kind, first, count, errno)));
            }
        }
    }
    let threads = threads();
    let watch = Watch::new(threads, Duration::from_secs(60));
    let results = watch.run(|thread| {
        let mut wrong = Vec::new();
        for &(kind, first, count, errno) in faults.iter().skip(thread).step_by(threads) {
            let place = || format!("fault {kind}:{first}:{count}:{errno}");
            if let Err(what) = watch.time(thread, place, || fail(kind, first, count, errno)) {
                wrong.push((place(), what));
            }
        }
        wrong
    });
    let wrong: Vec<_> = results.into_iter().flatten().collect();
    let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
    faults.iter().for_each(|(kind, ..)| *by_kind.entry(kind).or_default() += 1);
    let kinds: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    summary::row("failing calls", format!("{} lives", faults.len()), kinds.join(", "), wrong.len(), began);
    wrong.iter().take(20).for_each(|(case, what)| again::keep(case, what));
    assert!(wrong.is_empty());
}

/// A sync that fails for want of space, of a collection that is made or dropped, a cursor, a setting, was taken for a full
/// disk: the caller was told that nothing was written, and later writes were built on what may be lost.
#[test]
fn a_failed_sync_of_metadata_is_not_taken_for_a_full_disk() {
    let threads = threads();
    let watch = Watch::new(threads, Duration::from_secs(60));
    let syncs: Vec<u64> = (1..=30).collect();
    let told_of = watch.run(|thread| {
        let mut told_of = 0;
        for &first in syncs.iter().skip(thread).step_by(threads) {
            let place = || format!("fault logsync:{first}:1:{ENOSPC}");
            let found = watch.time(thread, place, || fail_to_sync(first, 1, ENOSPC));
            told_of += u64::from(found.unwrap_or_else(|wrong| {
                again::keep(&place(), &wrong);
                panic!("{}: {wrong}", place());
            }));
        }
        told_of
    });
    // One sync for each batch and each write of metadata; the first ones are those of an opening.
    assert!(told_of.iter().sum::<u64>() >= 20, "{told_of:?}");
}

/// Runs a child that writes metadata of all kinds, and in which syncs of its log fail. Whether a writer was told.
fn fail_to_sync(first: u64, count: u64, errno: i32) -> Result<bool, String> {
    let work = Work { writers: 1, batches: 14, durability: "metadata", ..WORK };
    let told = fail_in(work, "logsync", first, count, errno)?;
    // A store that could not be made at all was not.
    let in_life = || told.failures.iter().filter(|failure| !failure.starts_with("failed life 0"));
    let said = |what: &str| in_life().any(|failure| failure.contains(what));
    if said("disk is full") || said("disk full since") {
        return Err(format!("a failed sync was taken for a full disk: {:?}", told.failures));
    }
    let was_told = said("failed writer");
    if was_told && !(said("may or may not be there") && said("health: read-only")) {
        return Err(format!("a failed sync did not end writing: {:?}", told.failures));
    }
    Ok(was_told)
}

/// A process that may open few files gets as far as it gets: what it acknowledged is there for one that may open more.
#[test]
fn whoever_may_open_few_files_loses_nothing() {
    let (began, watch) = (Instant::now(), Watch::new(threads(), Duration::from_secs(60)));
    let limits: Vec<u64> = (6..40).step_by(3).collect();
    let acknowledged = watch.run(|thread| {
        let mut acknowledged = 0;
        for limit in limits.iter().skip(thread).step_by(threads()) {
            let dir = memory_dir();
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh", &limit.to_string(), POWER_CHILD]);
            command.args(WORK.arguments(dir.path())).stdin(Stdio::null());
            let output = watch.time(thread, || format!("{limit} files"), || command.output().expect("spawn"));
            let errors = String::from_utf8_lossy(&output.stderr);
            // Below about ten a process cannot even begin.
            assert!(
                output.status.code().is_some() && !errors.contains("panicked at engine"),
                "{limit} files: {errors}"
            );
            let mut told = Told::default();
            String::from_utf8_lossy(&output.stdout).lines().for_each(|line| told.hear(line));
            let read = told.failures.iter().find(|failure| failure.starts_with("failed read"));
            assert!(told.batches.is_empty() || read.is_none(), "{limit} files: reads do not go on: {read:?}");
            check(&dir.path().join("store"), WORK.seed, &told.clone().after_failures(), Demand::Everything, true)
                .unwrap_or_else(|wrong| panic!("{limit} files: {wrong:?}"));
            acknowledged += told.acknowledged();
        }
        acknowledged
    });
    let compared = format!("{} acknowledged batches", acknowledged.iter().sum::<usize>());
    summary::row("6 to 39 open files", format!("{} lives", 2 * limits.len()), compared, 0, began);
}

/// A sync fails, the process opens the store again and goes on, and then the power is cut: what failed to be synced may never be
/// on disk, whatever later syncs say, and what was acknowledged after that is.
#[test]
fn a_power_cut_after_a_failed_sync_and_another_opening_loses_nothing() {
    let began = Instant::now();
    const SYNCS: u64 = 40;
    const CUTS: u64 = 6;
    let (mut failed, mut compared) = (0, 0);
    for first in 1..=SYNCS {
        let work = Work { seed: 23, batches: 12, ..WORK };
        let orders = Orders { fault: Some(("sync", first, 1, EIO)), ..Orders::default() };
        let recorded = Recorded::new(work, &orders, Image::new(), Told::default().after_failures());
        failed += recorded.events.iter().filter(|event| matches!(event, Event::SyncFails { .. })).count();
        let tally = cut_power(&recorded, CUTS, Demand::Everything);
        compared += tally.compared;
        assert!(tally.wrong.is_empty(), "sync {first}: {}", tally.wrong[0]);
    }
    assert_eq!(failed as u64, SYNCS);
    let compared = format!("{compared} acknowledged batches");
    summary::row("power cuts after a failed sync", SYNCS * CUTS, compared, 0, began);
}

/// The log cannot grow, or RocksDB cannot write a file, for a while in the middle of a life. The store says so, goes on
/// reading, and goes on writing by itself when there is space again; and a power cut at any moment of this loses nothing.
#[test]
fn a_full_disk_is_told_and_passes_without_reopening() {
    const LIVES: usize = 40;
    let began = Instant::now();
    for (kind, first) in [("logwrite", 90), ("tablewrite", 1)] {
        // Who writes little while RocksDB has no space is not kept waiting, and not told.
        let is_told = |told: &Told| told.failures.iter().any(|said| said.starts_with("failed health: disk full since"));
        let mut lives = (0..LIVES).map(|_| {
            let recorded = with_full_disk(kind, first, &Orders::default());
            let mut told = Told::default();
            for event in &recorded.events {
                if let Event::Said(said) = event {
                    said.lines().for_each(|line| told.hear(line));
                }
            }
            (recorded, told)
        });
        let (recorded, told) = lives.find(|(_, told)| is_told(told)).expect("none was told of a full disk");
        let said = |what: &str| told.failures.iter().any(|failure| failure.starts_with(what));
        assert!(said("failed health: healthy again"), "{kind} {first}: {:?}", told.failures);
        assert!(!said("failed read") && !said("failed writer"), "{kind} {first}: {:?}", told.failures);
        assert!(told.batches.values().all(|&last| last == FULL_DISK.batches), "{kind} {first}: {:?}", told.batches);
        let tally = cut_power(&recorded, 40, Demand::Everything);
        assert!(tally.wrong.is_empty(), "{kind}: {:?}", tally.wrong[0]);
    }
    summary::row("a full disk and space again", "2 lives, 80 power cuts", "", 0, began);
}

const FULL_DISK: Work = Work { batches: 100, durability: "patient", lives: 1, ..WORK };

/// A life in the middle of which the disk is full, for the log or for RocksDB, and has space again.
pub(crate) fn with_full_disk(kind: &'static str, first: u64, orders: &Orders) -> Recorded {
    let orders = Orders { fault: Some((kind, first, FULL, ENOSPC)), ..orders.clone() };
    Recorded::new(FULL_DISK, &orders, Image::new(), Told::default().after_failures())
}

/// RocksDB's closing waited for its recovery from the full disk, and that for a flush that nobody began: for ever, in one
/// of some closings that came right after a write had failed.
#[test]
fn a_store_closes_while_its_disk_was_just_full() {
    none_hangs(&(100..=150).step_by(3).map(|first| ("write", first, 1)).collect::<Vec<_>>());
}

/// A writer that found RocksDB behind with its files waited at the head of RocksDB's queue, and when the disk was full the
/// recovery waited behind it: for ever, also with space again. Also closing writes files.
#[test]
fn a_writer_that_waits_for_memory_does_not_keep_the_store_from_recovering() {
    none_hangs(&(1..=16).flat_map(|first| COUNTS.map(|count| ("tablewrite", first, count))).collect::<Vec<_>>());
}

/// Lives in which so many calls of a kind, from some number on, find the disk full.
fn none_hangs(faults: &[(&'static str, u64, u64)]) {
    let threads = threads();
    let watch = Watch::new(threads, Duration::from_secs(60));
    watch.run(|thread| {
        for &(kind, first, count) in faults.iter().skip(thread).step_by(threads) {
            let place = || format!("fault {kind}:{first}:{count}:{ENOSPC}");
            let found = watch.time(thread, place, || fail(kind, first, count, ENOSPC));
            found.unwrap_or_else(|what| panic!("{}: {what}", place()));
        }
    });
}
