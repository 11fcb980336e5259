//! Damage to every kind of file: flipped bits, zeroed pages, cut-off ends and older copies. What is damaged must be
//! detected, at opening or at the latest when it is read, or do no harm; and nothing may hang. `ETAGDB_DAMAGES` says how
//! many stores are damaged. One that is served as good data is kept, and its number too (`again`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::again;
use crate::disk::{Disk, Image, Names, Policy, write_image};
use crate::log;
use crate::model::{Demand, Told, Wrong, check};
use crate::power::{Recorded, Watch, Work, keep_state, seed_of_run, threads};
use crate::random::Random;
use crate::recorder::{Event, Orders, memory_dir};
use crate::summary;

/// Of what the victims' writers wrote.
const SEED: u64 = 11;

/// A store at rest, what was told of it, and how it was some time before.
struct Victim {
    name: &'static str,
    image: Image,
    told: Told,
    before: Image,
}

/// The same store after it was closed, and after its process died in the middle of its work.
fn victims() -> Vec<Victim> {
    let recorded = Recorded::fresh(Work { seed: SEED, batches: 350, ..Work::SYNC }, &Orders::default());
    let keep = |events: &[Event]| {
        let mut disk = Disk::new(recorded.root.path(), Names::Strict, &Image::new());
        let mut told = Told::default();
        for event in events {
            disk.apply(event);
            if let Event::Said(said) = event {
                said.lines().for_each(|line| told.hear(line));
            }
        }
        (disk.cut(Policy::KeepAll, &mut Random::new(0)), told)
    };
    let all = &recorded.events[..];
    let victim = |name, end: usize, before: usize| {
        let (image, told) = keep(&all[..end]);
        Victim { name, image, told, before: keep(&all[..before]).0 }
    };
    // A batch's answer is the last thing that happened, so that nothing is in flight that need not be there.
    let answer = |from: usize| (from..all.len()).find(|&at| matches!(all[at], Event::Said(_))).expect("an answer") + 1;
    vec![
        victim("closed", all.len(), all.len() * 2 / 3),
        victim("killed", answer(all.len() * 9 / 10), all.len() * 17 / 20),
        victim("killed early", answer(all.len() / 5), all.len() / 6),
    ]
}

/// Which kind of file a path is, for the table.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    match name {
        "FORMAT" | "DURABLE" | "CURRENT" | "IDENTITY" | "LOCK" => match name {
            "FORMAT" => "FORMAT",
            "DURABLE" => "DURABLE",
            "CURRENT" => "CURRENT",
            _ => "other",
        },
        _ if path.parent().is_some_and(|directory| directory.ends_with("store/log")) => "log",
        _ if name.ends_with(".sst") => "sst",
        _ if name.starts_with("MANIFEST") => "MANIFEST",
        _ => "other",
    }
}

/// Damages one file; says how, or `None` when this does nothing to it.
fn damage(image: &mut Image, path: &Path, before: &Image, random: &mut Random) -> Option<String> {
    let bytes = image.get_mut(path)?.as_mut()?;
    let original = bytes.clone();
    let len = bytes.len() as u64;
    let what = match random.below(5) {
        0 | 1 if len > 0 => {
            let (at, bit) = (random.below(len), random.below(8));
            bytes[at as usize] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        2 if len > 0 => {
            let page = random.below(len.div_ceil(4096)) as usize * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
            format!("bytes {page} to {end} zeroed")
        }
        3 if len > 0 => {
            let to = random.below(len);
            bytes.truncate(to as usize);
            format!("cut off at {to} of {len}")
        }
        _ => {
            *bytes = before.get(path)?.clone()?;
            format!("an older copy of {} bytes put back, it was {len}", bytes.len())
        }
    };
    (*bytes != original).then_some(what)
}

/// The kinds of files whose damage may go unnoticed because it does no harm are none of them without a check below.
#[derive(Debug, Default, Clone)]
struct Counts {
    refused: u64,
    detected: u64,
    harmless: u64,
}

/// A store with a damaged file.
struct Damaged<'a> {
    victim: &'a Victim,
    image: Image,
    kind: &'static str,
    what: String,
}

/// What became of a damage.
enum Found {
    Harmless,
    Refused,
    WhenRead,
}

impl Damaged<'_> {
    /// Damages one of the victims as the seed says; `None` when that does nothing to it.
    fn new(victims: &[Victim], seed: u64) -> Option<Damaged<'_>> {
        let mut random = Random::new(0xda3a_6e00 ^ seed);
        let victim = &victims[random.below(victims.len() as u64) as usize];
        // Every kind as often as the others, however many files there are of it.
        let kinds = ["log", "sst", "MANIFEST", "CURRENT", "DURABLE", "FORMAT", "other", "log", "MANIFEST"];
        let wanted = kinds[random.below(kinds.len() as u64) as usize];
        let of_kind = |(path, contents): &(&PathBuf, &Option<Vec<u8>>)| contents.is_some() && kind(path) == wanted;
        let files: Vec<PathBuf> = victim.image.iter().filter(of_kind).map(|(path, _)| path.clone()).collect();
        if files.is_empty() {
            return None;
        }
        let path = &files[random.below(files.len() as u64) as usize];
        let mut image = victim.image.clone();
        let what = damage(&mut image, path, &victim.before, &mut random)?;
        Some(Damaged { victim, image, kind: wanted, what: format!("{}, {}: {what}", victim.name, path.display()) })
    }

    /// Opens it and reads all of it; what is served as good data and is not, if anything.
    fn open(&self) -> Result<Found, String> {
        let dir = memory_dir();
        write_image(&self.image, dir.path());
        match check(&dir.path().join("store"), SEED, &self.victim.told, Demand::Everything, true) {
            Ok(_) => Ok(Found::Harmless),
            Err(Wrong::Unopenable(_)) => Ok(Found::Refused),
            // The engine says itself that it cannot be read, or that a write failed.
            Err(Wrong::Untrue(said)) if said.contains("cannot be read: stored data is damaged") => Ok(Found::WhenRead),
            Err(Wrong::Untrue(said)) if said.starts_with("cannot be read: ") || said.starts_with("verify: ") => {
                Ok(Found::WhenRead)
            }
            Err(other) => {
                let kept = keep_state(&self.image, SEED, &self.victim.told, Demand::Everything, true);
                Err(format!("{other:?}, {}, judged again with ETAGDB_KEPT_CUT={}", self.what, kept.display()))
            }
        }
    }
}

/// The damage with this seed, to stores that were made anew.
pub(crate) fn again(case: &str) -> Result<(), String> {
    let seed = u64::from_str_radix(case.trim_start_matches("0x"), 16).expect("a seed");
    let victims = victims();
    Damaged::new(&victims, seed).map_or(Ok(()), |damaged| damaged.open().map(drop))
}

#[test]
fn damage_to_any_file_is_detected_or_harmless_and_nothing_hangs() {
    let began = Instant::now();
    let total = std::env::var("ETAGDB_DAMAGES").ok().map_or(1_200, |count| count.parse().expect("a number"));
    let victims = victims();
    let threads = threads();
    // Each opening and reading of everything; the engine's own limit is for opening alone.
    let watch = Watch::new(threads, Duration::from_secs(5));
    let results = watch.run(|thread| {
        let mut table: BTreeMap<&'static str, Counts> = BTreeMap::new();
        let mut wrong = Vec::new();
        for number in (thread as u64..total).step_by(threads) {
            let seed = number ^ (seed_of_run() << 32);
            let Some(damaged) = Damaged::new(&victims, seed) else { continue };
            let counts = table.entry(damaged.kind).or_default();
            match watch.time(thread, || damaged.what.clone(), || damaged.open()) {
                Ok(Found::Harmless) => counts.harmless += 1,
                Ok(Found::Refused) => counts.refused += 1,
                Ok(Found::WhenRead) => counts.detected += 1,
                Err(what) => wrong.push((format!("damage {seed:#x}"), what)),
            }
        }
        (table, wrong)
    });
    let mut table: BTreeMap<&'static str, Counts> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (counts, more) in results {
        for (kind, Counts { refused, detected, harmless }) in counts {
            let sum = table.entry(kind).or_default();
            sum.refused += refused;
            sum.detected += detected;
            sum.harmless += harmless;
        }
        wrong.extend(more);
    }
    for (kind, Counts { refused, detected, harmless }) in &table {
        println!("{kind:9} {refused:5} refused at opening, {detected:5} detected when read, {harmless:5} harmless");
    }
    let [refused, detected, harmless] =
        table.values().fold([0; 3], |[a, b, c], counts| [a + counts.refused, b + counts.detected, c + counts.harmless]);
    let compared = format!("{refused} refused at opening, {detected} when read, {harmless} harmless");
    summary::row("damage", refused + detected + harmless, compared, format!("{} undetected", wrong.len()), began);
    wrong.iter().take(10).for_each(|(case, what)| again::keep(case, what));
    assert!(wrong.is_empty(), "{} damages were served as good data", wrong.len());
}

/// One bit makes RocksDB read the same place of a `MANIFEST` for ever: record type 1 becomes 5, that of a recycled log.
#[test]
fn a_record_of_another_type_does_not_make_opening_go_round_for_ever() {
    let victims = victims();
    let victim = victims.iter().find(|victim| victim.name == "killed").expect("there");
    let mut image = victim.image.clone();
    let (path, contents) = image.iter_mut().find(|(path, _)| kind(path) == "MANIFEST").expect("there is one");
    let (name, bytes) = (path.display().to_string(), contents.as_mut().expect("it is a file"));
    // The second record: the first one decides whether the log counts as recycled.
    let second = 7 + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    assert_eq!(bytes[second + 6], 1, "a whole record");
    bytes[second + 6] = 5;
    let dir = memory_dir();
    write_image(&image, dir.path());
    let watch = Watch::new(1, Duration::from_secs(5));
    let found = watch.run(|thread| {
        let store = dir.path().join("store");
        watch.time(thread, || name.clone(), || check(&store, SEED, &victim.told, Demand::Everything, false))
    });
    let [Err(Wrong::Unopenable(said))] = &found[..] else { panic!("{name}: {found:?}") };
    assert!(said.contains(&name) && said.contains(&format!("offset {second}")), "{said}");
}

/// Each single file, of whatever kind, as it was some time before: the others know better, or it does not matter.
#[test]
fn an_older_copy_of_any_one_file_is_detected_or_harmless() {
    let victims = victims();
    let older = |victim: &Victim| -> Vec<PathBuf> {
        let changed = victim
            .before
            .iter()
            .filter(|(path, before)| before.is_some() && victim.image.get(*path).is_some_and(|now| now != *before));
        changed.map(|(path, _)| path.clone()).collect()
    };
    let watch = Watch::new(1, Duration::from_secs(5));
    watch.run(|thread| {
        let mut tried = 0;
        for victim in &victims {
            for path in older(victim) {
                let mut image = victim.image.clone();
                image.insert(path.clone(), victim.before[&path].clone());
                let dir = memory_dir();
                write_image(&image, dir.path());
                let place = || format!("{}: {}", victim.name, path.display());
                let store = dir.path().join("store");
                let found = watch.time(thread, place, || check(&store, SEED, &victim.told, Demand::Everything, true));
                if let Err(Wrong::Lost(what)) = found {
                    panic!("{}: served as good data, {what}", place());
                }
                tried += 1;
            }
        }
        println!("{tried} files put back as they had been");
        assert!(tried > 4, "{tried}");
    });
}

/// A whole database with its log that is consistent in itself, but older than what was acknowledged from the store.
#[test]
fn an_older_database_put_back_is_refused() {
    for victim in victims() {
        let mut image = victim.image.clone();
        let data = |path: &Path| ["store/rocksdb", "store/log"].iter().any(|dir| path.starts_with(dir));
        image.retain(|path, _| !data(path));
        let older = victim.before.iter().filter(|(path, _)| data(path));
        image.extend(older.map(|(path, contents)| (path.clone(), contents.clone())));
        let dir = memory_dir();
        write_image(&image, dir.path());
        match check(&dir.path().join("store"), SEED, &victim.told, Demand::Everything, false) {
            Err(Wrong::Unopenable(said)) => assert!(said.starts_with("stored data is damaged: "), "{said}"),
            other => panic!("{}: {other:?}", victim.name),
        }
    }
}

/// Whatever is damaged of the log that recovery needs and that was noted to be on disk, be it a single bit. A closed store has no
/// log; the last part after a power cut, of which the mark does not know yet, is not this test's.
#[test]
fn damage_to_any_byte_of_the_log_below_the_mark_is_refused() {
    const BITS: u64 = 240;
    let began = Instant::now();
    let victims = victims();
    let (mut random, mut heads, mut bodies) = (Random::new(0x6c6f67), 0, 0);
    for victim in victims.iter().filter(|victim| victim.name != "closed") {
        let dir = memory_dir();
        write_image(&victim.image, dir.path());
        let needed = log::needed(&victim.image, "store", log::applied(&dir.path().join("store")).unwrap_or(0));
        assert!(needed.len() > 20, "{}: {} pieces of the log are needed", victim.name, needed.len());
        for _ in 0..BITS / 2 {
            let (path, range) = &needed[random.below(needed.len() as u64) as usize];
            // Heads, of segments and of records, as often as bodies.
            let is_head = random.below(2) == 0;
            let head = if range.start == 0 { range.len() } else { 8 };
            let at = range.start + random.below(if is_head { head } else { range.len() } as u64) as usize;
            *if is_head { &mut heads } else { &mut bodies } += 1;
            let mut image = victim.image.clone();
            let bytes = image.get_mut(path).and_then(Option::as_mut).expect("a file");
            bytes[at] ^= 1 << random.below(8);
            let dir = memory_dir();
            write_image(&image, dir.path());
            let store = dir.path().join("store");
            match check(&store, SEED, &victim.told, Demand::Everything, false) {
                Err(Wrong::Unopenable(said)) => {
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    assert!(said.contains(&name) && said.contains("at offset"), "{said}");
                }
                other => panic!("{}, {} at {at}: {other:?}", victim.name, path.display()),
            }
        }
    }
    summary::row("a bit of the log below the mark", heads + bodies, format!("{heads} in heads"), 0, began);
}
