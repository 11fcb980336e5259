//! Power cuts: a child's file operations are recorded once; then, for thousands of moments of the record, a state that
//! a power cut may leave (see `disk`) is laid down and the store in it compared with what the child had been told by
//! then. `ETAGDB_POWER_CUTS` says how many (`make powercut` makes it many), and `ETAGDB_SEED` chooses other moments. A
//! failing state is kept with all that was told, and its path said: `ETAGDB_KEPT_CUT` names it to judge it again. Its
//! seed is kept too (`again`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etagdb::{Error, Options};

use crate::again;
use crate::disk::{Disk, Image, Names, POLICIES, Policy, read_image, write_image};
use crate::model::{Demand, Told, Wrong, check};
use crate::random::Random;
use crate::reached::{Reached, is_segment};
use crate::recorder::{Event, Orders, memory_dir, record};
use crate::summary;

/// A recorded life of a store, and what it began with.
pub(crate) struct Recorded {
    pub(crate) root: tempfile::TempDir,
    base: Image,
    told: Told,
    pub(crate) events: Vec<Event>,
    /// After how many events the power may be cut.
    moments: Vec<usize>,
    seed: u64,
    /// How it is recorded again: see [`Recorded::again`].
    name: String,
}

/// What the child is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) seed: u64,
    pub(crate) writers: u64,
    pub(crate) batches: u64,
    pub(crate) durability: &'static str,
    pub(crate) lives: u64,
    pub(crate) checkpoints: bool,
}

impl Work {
    pub(crate) const SYNC: Work =
        Work { seed: 1, writers: 4, batches: 500, durability: "sync", lives: 2, checkpoints: false };

    /// All of it in one word, for [`Work::named`].
    fn name(&self) -> String {
        let Work { seed, writers, batches, durability, lives, checkpoints } = *self;
        format!("{durability}/{seed}/{writers}/{batches}/{lives}/{checkpoints}")
    }

    fn named(name: &str) -> Option<Work> {
        const DURABILITIES: [&str; 5] = ["sync", "buffered", "trimming", "filling", "patient"];
        let parts: Vec<&str> = name.split('/').collect();
        let [durability, seed, writers, batches, lives, checkpoints] = parts[..] else { return None };
        Some(Work {
            seed: seed.parse().ok()?,
            writers: writers.parse().ok()?,
            batches: batches.parse().ok()?,
            durability: DURABILITIES.into_iter().find(|known| *known == durability)?,
            lives: lives.parse().ok()?,
            checkpoints: checkpoints.parse().ok()?,
        })
    }

    pub(crate) fn arguments(&self, root: &Path) -> Vec<String> {
        let path = |name: &str| root.join(name).display().to_string();
        let Work { seed, writers, batches, durability, lives, checkpoints } = *self;
        let mut arguments = vec![path("store")];
        arguments.extend([seed, writers, batches].map(|number| number.to_string()));
        arguments.extend([durability.to_owned(), lives.to_string()]);
        arguments.extend(checkpoints.then(|| path("checkpoints")));
        arguments
    }
}

impl Recorded {
    /// Records a child at work, on top of what an image holds.
    pub(crate) fn new(work: Work, orders: &Orders, base: Image, told: Told) -> Recorded {
        let root = memory_dir();
        write_image(&base, root.path());
        let arguments = work.arguments(root.path());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let events = record(root.path(), orders, &arguments);
        let is_drop = |event: &Event| matches!(event, Event::Said(said) if said.starts_with("dropping"));
        // Of a collection that is filled and dropped, all that matters comes after that.
        let first = if work.durability == "filling" { events.iter().position(is_drop) } else { None };
        let moments = (first.unwrap_or(0)..=events.len()).collect();
        let name = work.name();
        Recorded { root, base, told, events, moments, seed: work.seed, name }
    }

    pub(crate) fn fresh(work: Work, orders: &Orders) -> Recorded {
        let base = if work.checkpoints { Image::from([(PathBuf::from("checkpoints"), None)]) } else { Image::new() };
        Recorded::new(work, orders, base, Told::default())
    }

    /// One that came to the places of the log that a test is about. When RocksDB writes its files is its own affair: on a
    /// busy machine late, and then a life is recorded again.
    pub(crate) fn that_reached(work: Work, is_there: impl Fn(&Reached) -> bool) -> Recorded {
        const LIVES: usize = 40;
        let mut missed = Vec::new();
        for _ in 0..LIVES {
            let recorded = Recorded::fresh(work, &Orders::default());
            let reached = Reached::of(&recorded.events);
            if is_there(&reached) {
                return recorded;
            }
            missed.push(reached);
        }
        panic!("none of {LIVES} lives was as this test wants them: {missed:?}");
    }

    /// Records the life with this name again.
    fn again(name: &str, orders: &Orders) -> Option<Recorded> {
        match name.strip_prefix("recovery-") {
            Some(base) => Some(recovery(&before_recovery(), base.parse().ok()?, orders)),
            None => Some(Recorded::fresh(Work::named(name)?, orders)),
        }
    }

    /// The moment of the cut with this seed, which names are kept, and what decides the rest.
    fn cut(&self, seed: u64) -> (usize, Names, Random) {
        let mut random = Random::new(seed);
        let names = if seed.is_multiple_of(2) { Names::Strict } else { Names::Ordered };
        (self.moments[random.below(self.moments.len() as u64) as usize], names, random)
    }
}

/// A power cut after which something was wrong.
#[derive(Debug)]
pub(crate) struct Red {
    /// How the same choices are made again.
    pub(crate) case: String,
    place: String,
    /// Where the state is, with how it was judged.
    pub(crate) kept: PathBuf,
    pub(crate) wrong: Wrong,
}

impl Red {
    /// Removes what was kept.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_dir_all(&self.kept);
    }
}

impl fmt::Display for Red {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}, judged again with ETAGDB_KEPT_CUT={}", self.wrong, self.place, self.kept.display())
    }
}

/// What came of many power cuts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: u64,
    /// Acknowledged batches that were compared.
    pub(crate) compared: u64,
    pub(crate) wrong: Vec<Red>,
    /// Cuts after which acknowledged commits were gone without that being wrong (`Buffered`).
    pub(crate) shorter: u64,
}

impl Tally {
    pub(crate) fn lost(&self) -> usize {
        self.wrong.iter().filter(|red| matches!(red.wrong, Wrong::Lost(_))).count()
    }

    pub(crate) fn refused(&self) -> usize {
        self.wrong.iter().filter(|red| matches!(red.wrong, Wrong::Unopenable(_))).count()
    }

    fn add(&mut self, other: Tally) {
        self.cuts += other.cuts;
        self.compared += other.compared;
        self.shorter += other.shorter;
        self.wrong.extend(other.wrong);
    }

    fn expect_none(&self, what: &str, began: Instant) {
        let Tally { cuts, compared, wrong, shorter } = self;
        let shorter = if *shorter > 0 { format!(", of which {shorter} lost something") } else { String::new() };
        let compared = format!("{compared} acknowledged batches");
        summary::row(format!("power cuts, {what}"), format!("{cuts}{shorter}"), compared, wrong.len(), began);
        wrong.iter().take(EXAMPLES).for_each(|red| again::keep(&red.case, red));
        assert!(wrong.is_empty(), "{} of {cuts} wrong, the first: {}", wrong.len(), wrong[0]);
    }
}

/// Ends the process when something takes too long: a thread that never comes back cannot be failed otherwise.
pub(crate) struct Watch {
    running: Vec<Mutex<Option<(Instant, String)>>>,
    limit: Duration,
    done: AtomicBool,
}

impl Watch {
    pub(crate) fn new(threads: usize, limit: Duration) -> Watch {
        Watch { running: (0..threads).map(|_| Mutex::new(None)).collect(), limit, done: AtomicBool::new(false) }
    }

    pub(crate) fn time<T>(&self, thread: usize, what: impl FnOnce() -> String, run: impl FnOnce() -> T) -> T {
        *self.running[thread].lock().expect("unpoisoned") = Some((Instant::now(), what()));
        let result = run();
        *self.running[thread].lock().expect("unpoisoned") = None;
        result
    }

    /// Runs the work on some threads, watched.
    pub(crate) fn run<T: Send>(&self, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.running.len())
                .map(|thread| {
                    scope.spawn({
                        let work = &work;
                        move || work(thread)
                    })
                })
                .collect();
            let watcher = scope.spawn(|| {
                while !self.done.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(200));
                    for running in &self.running {
                        if let Some((began, what)) = &*running.lock().expect("unpoisoned")
                            && began.elapsed() > self.limit
                        {
                            eprintln!("hangs for more than {:?}: {what}", self.limit);
                            std::process::exit(101);
                        }
                    }
                }
            });
            let results: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            self.done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            results.into_iter().map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// What all choices of this run depend on.
pub(crate) fn seed_of_run() -> u64 {
    std::env::var("ETAGDB_SEED").ok().map_or(0, |seed| seed.parse().expect("a number"))
}

/// How many power cuts a test makes, of `share` thousandths of all.
fn budget(share: u64) -> u64 {
    let all = std::env::var("ETAGDB_POWER_CUTS").ok().map_or(2_500, |cuts| cuts.parse().expect("a number"));
    (all * share / 1000).max(20)
}

/// Of a test that finds much, a few examples are enough.
const EXAMPLES: usize = 3;

/// Cuts the power `count` times at moments that the seed chooses.
pub(crate) fn cut_power(recorded: &Recorded, count: u64, demand: Demand) -> Tally {
    let mut random = Random::new(recorded.seed ^ 0x6375_7473 ^ (seed_of_run() << 32));
    cut_power_with(recorded, (0..count).map(|_| random.next()), demand)
}

/// Cuts the power once for each seed.
fn cut_power_with(recorded: &Recorded, seeds: impl Iterator<Item = u64>, demand: Demand) -> Tally {
    let mut cuts: [Vec<(usize, u64)>; 2] = Default::default();
    seeds.for_each(|seed| cuts[seed as usize % 2].push((recorded.cut(seed).0, seed)));
    cuts.iter_mut().for_each(|cuts| cuts.sort_unstable());
    let threads = threads();
    let watch = Watch::new(threads, Duration::from_secs(60));
    let tallies = watch.run(|thread| {
        // Each thread has one disk, and goes forward.
        let cuts = &cuts[thread % 2];
        let (of, step) = (thread / 2, (threads + 1 - thread % 2) / 2);
        let names = if thread.is_multiple_of(2) { Names::Strict } else { Names::Ordered };
        let mut disk = Disk::new(recorded.root.path(), names, &recorded.base);
        let mut told = recorded.told.clone();
        let mut tally = Tally::default();
        let mut happened = 0;
        for &(moment, seed) in cuts.iter().skip(of).step_by(step) {
            for event in &recorded.events[happened..moment] {
                disk.apply(event);
                if let Event::Said(said) = event {
                    said.lines().for_each(|line| told.hear(line));
                }
            }
            happened = moment;
            let (.., mut random) = recorded.cut(seed);
            let policy = POLICIES[random.below(4) as usize];
            let image = disk.cut(policy, &mut random);
            let place = || format!("moment {moment}, {policy:?}, {names:?}");
            let thorough = random.below(8) == 0;
            let found = watch.time(thread, place, || open_image(&image, recorded.seed, &told, demand, thorough));
            tally.cuts += 1;
            tally.compared += told.acknowledged() as u64;
            match found {
                Ok(shorter) => tally.shorter += u64::from(shorter),
                Err(wrong) => {
                    let kept = keep_state(&image, recorded.seed, &told, demand, thorough);
                    let case = format!("cut {} {demand:?} {seed:#x}", recorded.name);
                    tally.wrong.push(Red { case, place: place(), kept, wrong });
                }
            }
        }
        tally
    });
    let mut sum = Tally::default();
    tallies.into_iter().for_each(|tally| sum.add(tally));
    sum.wrong.iter().skip(EXAMPLES).for_each(Red::forget);
    sum
}

/// Keeps a state and how it was judged, for [`judge_kept`].
pub(crate) fn keep_state(image: &Image, seed: u64, told: &Told, demand: Demand, thorough: bool) -> PathBuf {
    let kept = memory_dir().keep();
    write_image(image, &kept);
    let judged = serde_json::to_string(&(seed, demand, thorough)).expect("text");
    std::fs::write(kept.join("judged"), judged).expect("write");
    std::fs::write(kept.join("told"), told.to_text()).expect("write");
    kept
}

/// Records a life as it was when a cut was found wrong, and makes the choices of that cut. What the child's threads do is
/// not the same each time, so it has some tries.
pub(crate) fn again(case: &str, orders: &Orders) -> Result<(), String> {
    const TRIES: usize = 3;
    let mut words = case.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{case:?} is no power cut"));
    let (name, demand, seed) = (word(), word(), word());
    let demand = serde_json::from_str(&format!("\"{demand}\"")).expect("a demand");
    let seed = u64::from_str_radix(seed.trim_start_matches("0x"), 16).expect("a seed");
    for _ in 0..TRIES {
        let recorded = Recorded::again(name, orders).unwrap_or_else(|| panic!("{name:?} is no recorded life"));
        let tally = cut_power_with(&recorded, std::iter::once(seed), demand);
        if let Some(red) = tally.wrong.first() {
            return Err(red.to_string());
        }
    }
    Ok(())
}

/// Some power cut that shows the bug that is planted by these orders.
pub(crate) fn find_red(orders: &Orders) -> Red {
    let recorded = Recorded::fresh(Work { seed: 7, batches: 250, ..Work::SYNC }, orders);
    let mut wrong = cut_power(&recorded, 60, Demand::Everything).wrong.into_iter();
    let red = wrong.next().expect("nobody noticed");
    wrong.for_each(|other| other.forget());
    red
}

/// Checks the store in an image, and the checkpoints beside it; true when acknowledged commits are missing and may be.
fn open_image(image: &Image, seed: u64, told: &Told, demand: Demand, thorough: bool) -> Result<bool, Wrong> {
    let dir = memory_dir();
    write_image(image, dir.path());
    let mut shorter = false;
    let found = check(&dir.path().join("store"), seed, told, demand, thorough)?;
    if demand == Demand::Prefix {
        shorter = told.newest() > found;
    }
    check_copies(dir.path(), seed, told, thorough)?;
    Ok(shorter)
}

/// Checks the checkpoints in an image and what was restored from them: those of which the child was told are whole, and
/// others are whole or say that they are not.
fn check_copies(root: &Path, seed: u64, told: &Told, thorough: bool) -> Result<(), Wrong> {
    for (name, newest) in &told.checkpoints {
        let path = root.join("checkpoints").join(name);
        let store = Options::default().read_only(true).open(&path);
        let store = store.map_err(|error| Wrong::Lost(format!("checkpoint {name}: {error}")))?;
        if store.last_commit().get() != *newest {
            return Err(Wrong::Lost(format!("checkpoint {name} ends at {}, not {newest}", store.last_commit())));
        }
        if thorough {
            drop(store);
            check(&path, seed, &Told::unknown(), Demand::Prefix, true)?;
        }
    }
    for entry in std::fs::read_dir(root.join("checkpoints")).into_iter().flatten() {
        let path = entry.expect("entry").path();
        if told.checkpoints.iter().any(|(name, _)| path.ends_with(name)) {
            continue;
        }
        match Options::default().read_only(true).open(&path) {
            // Nobody has opened it to write, so it has no epoch of its own, and no damage.
            Ok(copy) if thorough => {
                let report = copy.verify(|_| {}).map_err(|error| Wrong::Untrue(error.to_string()))?;
                if !report.is_sound() {
                    return Err(Wrong::Untrue(format!("verify {}: {:?}", path.display(), report.problems)));
                }
            }
            Ok(_) => {}
            Err(Error::Invalid(said)) if said.contains("unfinished") || said.contains("no store") => {}
            Err(error) => return Err(Wrong::Untrue(format!("{}: {error}", path.display()))),
        }
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    let began = Instant::now();
    let recorded = Recorded::that_reached(Work::SYNC, |reached| {
        reached.begun > 8 && reached.written_over > 8 && reached.removed > 8 && reached.tables > 16
    });
    cut_power(&recorded, budget(450), Demand::Everything).expect_none("Sync", began);
}

/// What is superseded is dropped all the while, and nothing else is.
#[test]
fn a_power_cut_while_history_is_dropped_takes_no_current_document() {
    let began = Instant::now();
    let work = Work { seed: 6, durability: "trimming", batches: 200, ..Work::SYNC };
    let recorded = Recorded::fresh(work, &Orders::default());
    let sorted = |path: &Path| path.extension().is_some_and(|extension| extension == "sst");
    let gone = recorded.events.iter().filter(|event| matches!(event, Event::Remove { path } if sorted(path))).count();
    assert!(gone > 0, "nothing was compacted meanwhile");
    cut_power(&recorded, budget(100), Demand::Newest).expect_none("while history is dropped and compacted", began);
}

#[test]
fn a_power_cut_during_a_checkpoint_or_a_restore_harms_neither_store_nor_copy() {
    let began = Instant::now();
    let work = Work { seed: 2, batches: 60, checkpoints: true, ..Work::SYNC };
    let recorded = Recorded::fresh(work, &Orders::default());
    cut_power(&recorded, budget(60), Demand::Everything).expect_none("during checkpoints and restores", began);
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_either() {
    let began = Instant::now();
    let first = before_recovery();
    let mut sum = Tally::default();
    let bases = budget(200).div_ceil(100).clamp(4, 60);
    let (mut tried, mut from_the_middle, mut removed, mut moments, mut events) = (0, 0, 0, 0, 0);
    for base in 0..bases + 60 {
        // On a busy machine RocksDB comes late to write its first files: some more lives then, for one that has some.
        if base >= bases && from_the_middle > 0 {
            break;
        }
        tried += 1;
        let recorded = recovery(&first, base, &Orders::default());
        let reached = Reached::of(&recorded.events);
        from_the_middle += u64::from(replays_from_the_middle_of_a_segment(&recorded.base));
        removed += reached.removed_first;
        moments += reached.recovery;
        events += recorded.events.len();
        sum.add(cut_power(&recorded, budget(200) / bases, Demand::Everything));
    }
    let reached = format!("of {tried} replays {from_the_middle} from the middle, {removed} segments removed");
    assert!(from_the_middle > 0 && removed > tried, "{reached}");
    assert!(moments * 20 > events, "{reached}, {moments} of {events} moments are in a recovery");
    sum.expect_none(&format!("during recovery from {tried} earlier power cuts"), began);
}

/// A life that ends in power cuts.
fn before_recovery() -> Recorded {
    Recorded::fresh(Work { seed: 3, batches: 200, lives: 1, ..Work::SYNC }, &Orders::default())
}

/// Whether RocksDB has some of a segment in files, and not what comes after it.
fn replays_from_the_middle_of_a_segment(image: &Image) -> bool {
    let dir = memory_dir();
    write_image(image, dir.path());
    let Some(applied) = crate::log::applied(&dir.path().join("store")) else { return false };
    let starts = image.keys().filter(|path| is_segment(path)).map(|path| crate::log::start(path));
    let begun = starts.filter(|start| *start <= applied).max();
    begun.is_some_and(|start| start < applied)
}

/// The life that comes after a power cut, and begins with the recovery.
fn recovery(first: &Recorded, base: u64, orders: &Orders) -> Recorded {
    let mut random = Random::new(33 ^ (base << 8));
    let moment = random.below(first.events.len() as u64) as usize;
    let work = Work { seed: 3, batches: 3, lives: 1, ..Work::SYNC };
    let recorded = recover(first, moment, POLICIES[base as usize % 4], &mut random, work, orders);
    Recorded { name: format!("recovery-{base}"), ..recorded }
}

/// The same after a power cut at some moment, with what is to be done then.
pub(crate) fn recover(
    first: &Recorded,
    moment: usize,
    policy: Policy,
    random: &mut Random,
    work: Work,
    orders: &Orders,
) -> Recorded {
    let mut disk = Disk::new(first.root.path(), Names::Ordered, &first.base);
    let mut told = Told::default();
    for event in first.events.iter().take(moment) {
        disk.apply(event);
        if let Event::Said(said) = event {
            said.lines().for_each(|line| told.hear(line));
        }
    }
    let image = disk.cut(policy, random);
    // Of a store that does not wait for its syncs it is not known what is left.
    let told = if work.durability == "buffered" { Told::unknown() } else { told.after_a_death() };
    Recorded::new(work, orders, image, told)
}

#[test]
fn a_buffered_store_loses_only_its_newest_commits() {
    let began = Instant::now();
    let work = Work { seed: 4, durability: "buffered", ..Work::SYNC };
    let recorded = Recorded::that_reached(work, |reached| reached.ahead > 0 && reached.written_over > 0);
    let tally = cut_power(&recorded, budget(150), Demand::Prefix);
    tally.expect_none("Buffered, prefix only", began);
    assert!(tally.shorter > 0, "no power cut took anything from a store that does not wait for its syncs");
}

/// A drop was not synced under `Buffered`, but the files of the collection were removed at once: a power cut brought it
/// back empty, or with what had not come into files.
#[test]
fn a_power_cut_brings_a_dropped_collection_back_whole_or_not_at_all() {
    let began = Instant::now();
    let work = Work { seed: 8, batches: 40, durability: "filling", lives: 1, ..Work::SYNC };
    let recorded = Recorded::fresh(work, &Orders::default());
    let removes =
        |event: &Event| matches!(event, Event::Remove { path } if path.extension().is_some_and(|it| it == "sst"));
    assert!(recorded.events[recorded.moments[0]..].iter().any(removes), "no file was removed");
    let tally = cut_power(&recorded, budget(30), Demand::Prefix);
    tally.expect_none("Buffered, filled and dropped", began);
}

/// The death of the process alone, at any moment, costs a `Buffered` store nothing either.
#[test]
fn a_buffered_store_keeps_everything_when_only_its_process_dies() {
    let recorded =
        Recorded::fresh(Work { seed: 5, durability: "buffered", batches: 100, ..Work::SYNC }, &Orders::default());
    let (mut disk, mut told) = (Disk::new(recorded.root.path(), Names::Strict, &recorded.base), Told::default());
    let step = recorded.events.len() / 20;
    for (moment, event) in recorded.events.iter().enumerate() {
        disk.apply(event);
        if let Event::Said(said) = event {
            said.lines().for_each(|line| told.hear(line));
        }
        if moment % step == step - 1 {
            let image = disk.cut(Policy::KeepAll, &mut Random::new(0));
            open_image(&image, 5, &told, Demand::Everything, false).expect("whole");
        }
    }
    // The model agrees with the files themselves.
    let (left, found) = (disk.cut(Policy::KeepAll, &mut Random::new(0)), read_image(recorded.root.path()));
    assert!(left == found, "the model of the disk is wrong");
}

/// Judges a state again that was kept because something was wrong with it.
pub(crate) fn judge_kept(kept: &Path) -> Result<bool, Wrong> {
    let read = |name: &str| std::fs::read_to_string(kept.join(name)).expect("a kept state");
    let (seed, demand, thorough) = serde_json::from_str(&read("judged")).expect("how it was judged");
    let mut image = read_image(kept);
    image.retain(|path, _| path != Path::new("judged") && path != Path::new("told"));
    open_image(&image, seed, &Told::from_text(&read("told")), demand, thorough)
}

#[test]
fn a_kept_power_cut_is_judged_again() {
    if let Some(kept) = std::env::var_os("ETAGDB_KEPT_CUT") {
        judge_kept(Path::new(&kept)).expect("nothing wrong");
    }
}
