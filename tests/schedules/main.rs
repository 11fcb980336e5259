//! Tries schedules of the engine's write path: the real stripes, judge, queue, pending heads, publication and feed, of
//! which every step at which another thread could come between is decided by a scheduler. A schedule goes red when
//! something was told that the commit order does not explain, when it was told too early, or when everybody waits.
//!
//! * In `make test` a fixed number of schedules from fixed seeds.
//! * `ETAGDB_SCHEDULES_SECONDS=600` goes on with new seeds for as long.
//! * `ETAGDB_SCHEDULES_SEED=0` begins with these seeds.
//! * `ETAGDB_SCHEDULE=one-key:17` runs one group of schedules again: a failure says which.
//! * An argument that is the name of a scenario tries only that one.

mod scenarios;
mod truth;
mod upkeep;

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

use scenarios::{ALL, Scenario};

/// Schedules from one seed.
const GROUP: usize = 200;
/// Rounds of `make test`: in each, as many groups of every scenario as its share.
const GROUPS: usize = 8;

#[derive(Debug, Clone, Copy)]
enum Scheduler {
    /// Anybody goes on, at each step.
    Random,
    /// The one of highest priority goes on, and priorities change so many times in a schedule.
    Pct(usize),
}

/// What is tried together, and repeated together.
struct Attempt {
    scenario: &'static Scenario,
    scheduler: Scheduler,
    seed: u64,
}

impl Attempt {
    fn new(scenario: &'static Scenario, seed: u64) -> Attempt {
        let scheduler = match seed % 4 {
            0 | 1 => Scheduler::Random,
            2 => Scheduler::Pct(2),
            _ => Scheduler::Pct(4),
        };
        Attempt { scenario, scheduler, seed }
    }

    /// As [`name`](Attempt::name) has it.
    fn named(name: &str) -> Option<Attempt> {
        let (scenario, seed) = name.split_once(':')?;
        let scenario = ALL.iter().find(|known| known.name == scenario)?;
        Some(Attempt::new(scenario, seed.parse().ok()?))
    }

    fn name(&self) -> String {
        format!("{}:{}", self.scenario.name, self.seed)
    }

    fn run(&self) -> usize {
        let mut config = Config::new();
        config.stack_size = 256 << 10;
        config.silence_warnings = true;
        config.max_steps = MaxSteps::FailAfter(200_000);
        match self.scheduler {
            Scheduler::Random => {
                Runner::new(RandomScheduler::new_from_seed(self.seed, GROUP), config).run(self.scenario.run)
            }
            Scheduler::Pct(depth) => {
                Runner::new(PctScheduler::new_from_seed(self.seed, depth, GROUP), config).run(self.scenario.run)
            }
        }
    }
}

/// Where the next attempts come from.
struct Plan {
    scenarios: Vec<&'static Scenario>,
    until: Option<Instant>,
    first_seed: u64,
    next: AtomicUsize,
}

impl Plan {
    fn next(&self) -> Option<Attempt> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        // In turns of one group for each share, so that a run that ends early has tried everything.
        let turns: usize = self.scenarios.iter().map(|scenario| scenario.share).sum();
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if self.until.is_none() && next >= turns * GROUPS {
            return None;
        }
        let mut place = (next * 37) % turns;
        let scenario = self.scenarios.iter().find(|scenario| {
            let here = place < scenario.share;
            place = place.wrapping_sub(scenario.share);
            here
        })?;
        Some(Attempt::new(scenario, self.first_seed + next as u64))
    }
}

fn main() {
    let begun = Instant::now();
    if let Ok(name) = std::env::var("ETAGDB_SCHEDULE") {
        let attempt = Attempt::named(&name).expect("ETAGDB_SCHEDULE is the name that a failure printed");
        println!("{} schedules of {name}, all well", attempt.run());
        return;
    }
    let seconds = std::env::var("ETAGDB_SCHEDULES_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let seed = std::env::var("ETAGDB_SCHEDULES_SEED").ok().map(|text| text.parse().expect("a number"));
    let plan = Plan {
        scenarios: ALL.iter().filter(|it| wanted.is_empty() || wanted.iter().any(|name| name == it.name)).collect(),
        until: seconds.map(|seconds| begun + Duration::from_secs(seconds)),
        first_seed: match (seed, seconds) {
            (Some(seed), _) => seed,
            (None, Some(_)) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs()) << 20
            }
            (None, None) => 0,
        },
        next: AtomicUsize::new(0),
    };
    let failed = AtomicBool::new(false);
    let counts = Mutex::new(vec![0; ALL.len()]);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed)
                    && let Some(attempt) = plan.next()
                {
                    let ran = panic::catch_unwind(AssertUnwindSafe(|| attempt.run()));
                    let Ok(ran) = ran else {
                        failed.store(true, Ordering::Relaxed);
                        println!("red after {:.1?}: ETAGDB_SCHEDULE={}", begun.elapsed(), attempt.name());
                        return;
                    };
                    let index = ALL.iter().position(|known| known.name == attempt.scenario.name).unwrap_or(0);
                    counts.lock().expect("nothing panics here")[index] += ran;
                }
            });
        }
    });
    let counts = counts.into_inner().expect("nothing panics here");
    for (scenario, count) in ALL.iter().zip(&counts).filter(|(_, count)| **count > 0) {
        println!("{:>9} {}", count, scenario.name);
    }
    let (total, time) = (counts.iter().sum::<usize>(), begun.elapsed());
    println!("{total:>9} schedules in {time:.1?}: {:.0} a second", total as f64 / time.as_secs_f64());
    std::io::stdout().flush().expect("written");
    if failed.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
}
