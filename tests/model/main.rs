//! The whole engine beside a model that is too simple to be wrong: random histories of everything that can be done.
//!
//! `ETAGDB_MODEL_SEED=0x.. cargo test --test model` replays the histories of one seed. `make soak` goes on for an hour.

mod concurrent;
mod feeds;
mod keeping;
mod mistakes;
mod oracle;
mod pair;
mod random;
mod reads;
mod record;
mod runner;
mod soak;
mod steps;
mod subject;
mod transactions;
mod whole;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mistakes::Mistake;
use runner::{BATCH, Count};

/// Seeds of a run: some tens of thousands of histories.
const SEEDS: u64 = 500;

/// As many at once as there are processors, but for one that RocksDB's own threads need.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |count| count.get().saturating_sub(1).clamp(2, 8))
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn store_and_model_agree_about_random_histories() {
    let (first, count) = match from_environment("ETAGDB_MODEL_SEED") {
        Some(seed) => (seed, 1),
        None => (
            from_environment("ETAGDB_MODEL_FIRST").unwrap_or(0),
            from_environment("ETAGDB_MODEL_SEEDS").unwrap_or(SEEDS),
        ),
    };
    let (counts, begun, given) = (Count::default(), Instant::now(), AtomicU64::new(0));
    let next = || Some(given.fetch_add(1, Ordering::SeqCst)).filter(|&n| n < count).map(|n| first.wrapping_add(n));
    let mut failures = Vec::new();
    runner::batches(threads(), next, &counts, |failure| {
        // One is enough.
        given.store(count, Ordering::SeqCst);
        failures.push(failure);
    });
    println!("{}", runner::progress(&counts, begun));
    if let Some(failure) = failures.first() {
        panic!("{}", runner::explain(failure, None));
    }
}

/// Every seed that ever found something finds nothing any more.
#[test]
fn seeds_that_once_failed_do_so_no_more() {
    let counts = Count::default();
    for seed in soak::regressions() {
        if let Err(failure) = runner::batch(seed, BATCH, None, &counts) {
            panic!("{}", runner::explain(&failure, None));
        }
    }
}

/// The tester is tested: of a model that is wrong, it is found out that it is, within a few batches.
#[test]
fn a_wrong_model_is_found_out() {
    for mistake in Mistake::ALL {
        let counts = Count::default();
        let found = (0..40).find_map(|seed| runner::batch(seed, BATCH, Some(mistake), &counts).err());
        let failure = found.unwrap_or_else(|| panic!("nobody sees that {mistake:?}"));
        let histories = counts.histories.load(Ordering::Relaxed);
        println!(
            "{mistake:?}: found after {histories} histories: {}",
            failure.what.chars().take(120).collect::<String>()
        );
    }
}
