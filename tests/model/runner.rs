//! Runs histories: many to a store, on several threads; and makes a failing one as short as it can.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::mistakes::Mistake;
use crate::oracle::Agreement;
use crate::pair::Pair;
use crate::random::Random;
use crate::steps::{self, Step};
use crate::subject::Subject;

/// Histories that one store sees, one after the other.
pub(crate) const BATCH: usize = 40;

/// A history that store and model disagree about.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The seed of the batch.
    pub(crate) seed: u64,
    /// Which of its histories.
    pub(crate) history: usize,
    pub(crate) what: String,
}

/// What was run.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) histories: AtomicU64,
    pub(crate) steps: AtomicU64,
}

/// The seeds of a batch's histories.
fn seeds(seed: u64, count: usize) -> (Random, Vec<u64>) {
    let mut random = Random::new(seed);
    let seeds = (0..count).map(|_| random.next()).collect();
    (random, seeds)
}

/// Runs the histories of a batch on one store.
pub(crate) fn batch(seed: u64, count: usize, mistake: Option<Mistake>, counts: &Count) -> Result<(), Failure> {
    let (mut random, seeds) = seeds(seed, count);
    let mut subject = Subject::new(&mut random);
    for (history, history_seed) in seeds.into_iter().enumerate() {
        let steps = steps::history(history_seed);
        run(&mut subject, &steps, mistake).map_err(|what| Failure { seed, history, what })?;
        counts.histories.fetch_add(1, Ordering::Relaxed);
        counts.steps.fetch_add(steps.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs one history. After an error or a panic the store is of no more use.
fn run(subject: &mut Subject, steps: &[Step], mistake: Option<Mistake>) -> Agreement {
    let history = || {
        let mut pair = Pair::new(subject, mistake)?;
        for (n, step) in steps.iter().enumerate() {
            pair.step(step).map_err(|what| format!("step {n}, {step:?}: {what}"))?;
        }
        pair.finish()
    };
    catch_unwind(AssertUnwindSafe(history)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("of another kind")))
    })
}

/// Takes steps out of a history as long as it still fails, and says what is left.
pub(crate) fn explain(failure: &Failure, mistake: Option<Mistake>) -> String {
    let (random, seeds) = seeds(failure.seed, BATCH);
    let alone = |steps: &[Step]| run(&mut Subject::new(&mut random.clone()), steps, mistake);
    let mut steps = steps::history(seeds[failure.history]);
    let mut text = format!(
        "store and model part: {}\nreplay with ETAGDB_MODEL_SEED={:#x}, history {}\n",
        failure.what, failure.seed, failure.history
    );
    let Err(mut what) = alone(&steps) else {
        text.push_str("it takes the histories before it in the same store, too\n");
        return text;
    };
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        while start < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + chunk).min(steps.len()));
            match alone(&fewer) {
                Err(still) => (steps, what) = (fewer, still),
                Ok(()) => start += chunk,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    let _ = writeln!(text, "alone and at its shortest: {what}");
    for (n, step) in steps.iter().enumerate() {
        let _ = writeln!(text, "  {n}: {step:?}");
    }
    text
}

/// Runs batches with the seeds that `next_seed` gives, on so many threads, until there are none. Shows failures to
/// `failed`, one at a time.
pub(crate) fn batches(
    threads: usize,
    next_seed: impl Fn() -> Option<u64> + Sync,
    counts: &Count,
    failed: impl FnMut(Failure) + Send,
) {
    let failed = Mutex::new(failed);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = next_seed() {
                    if let Err(failure) = batch(seed, BATCH, None, counts) {
                        failed.lock().expect("not poisoned")(failure);
                    }
                }
            });
        }
    });
}

/// Says what was done, in one line.
pub(crate) fn progress(counts: &Count, since: Instant) -> String {
    let (histories, steps) = (counts.histories.load(Ordering::Relaxed), counts.steps.load(Ordering::Relaxed));
    let seconds = since.elapsed().as_secs_f64();
    format!("{histories} histories, {steps} steps in {seconds:.0} s ({:.0} histories/s)", histories as f64 / seconds)
}
