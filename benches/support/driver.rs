//! The closed loop: threads that each wait for one operation before they begin the next. Owns counting and timing.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{Bodies, Random, device_bytes, settle};

/// What a thread does again and again.
pub trait Workload: Sync {
    /// One operation on document `id`; a write takes its body from `bodies`. The answer is how many conflicts it met.
    /// Any other failure is a panic, which ends the benchmark.
    fn operate(&self, id: u64, bodies: &mut Bodies) -> u64;
}

/// How a workload is run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many threads.
    pub threads: u64,
    /// On which documents: those with a number below this, at random.
    pub documents: u64,
    /// How large the bodies are.
    pub bytes: usize,
    /// Times one operation of so many. Looking at the clock costs as much as a tenth of a read from memory.
    pub time_every: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Operations that succeeded.
    pub operations: u64,
    /// Conflicts on the way to them.
    pub conflicts: u64,
    /// From the start to the end of all threads.
    pub elapsed: Duration,
    /// Nanoseconds.
    pub latencies: Histogram<u64>,
    /// What the process wrote meanwhile and in the background afterwards, until it was done.
    pub device_bytes: u64,
}

impl Measured {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Adds a later round.
    pub fn add(&mut self, other: &Measured) {
        self.operations += other.operations;
        self.conflicts += other.conflicts;
        self.elapsed += other.elapsed;
        self.latencies += &other.latencies;
        self.device_bytes += other.device_bytes;
    }
}

/// Runs a workload for `seconds`, and waits until what it caused in the background is over.
pub fn run(workload: &dyn Workload, load: &Load, seconds: f64) -> Measured {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(load.threads as usize + 1);
    let written_before = device_bytes();
    let mut measured = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.threads)
            .map(|thread| {
                scope.spawn({
                    let (stop, start) = (&stop, &start);
                    move || closed_loop(workload, load, thread, stop, start)
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        let mut all =
            Measured { operations: 0, conflicts: 0, elapsed: Duration::ZERO, latencies: histogram(), device_bytes: 0 };
        for thread in threads {
            all.add(&thread.join().expect("an operation failed; its message is above"));
        }
        all.elapsed = began.elapsed();
        all
    });
    settle();
    measured.device_bytes = device_bytes() - written_before;
    measured
}

fn closed_loop(workload: &dyn Workload, load: &Load, thread: u64, stop: &AtomicBool, start: &Barrier) -> Measured {
    let (mut random, mut bodies) = (Random::new(thread), Bodies::new(thread, load.bytes));
    let (mut operations, mut conflicts, mut latencies) = (0, 0, histogram());
    start.wait();
    while !stop.load(Ordering::Relaxed) {
        let id = random.below(load.documents);
        let began = (operations % load.time_every == 0).then(Instant::now);
        conflicts += workload.operate(id, &mut bodies);
        if let Some(began) = began {
            latencies.saturating_record(began.elapsed().as_nanos() as u64);
        }
        operations += 1;
    }
    Measured { operations, conflicts, elapsed: Duration::ZERO, latencies, device_bytes: 0 }
}

/// From 1 ns to 100 s, to two digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 2).expect("bounds in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleep(Duration);

    impl Workload for Sleep {
        fn operate(&self, id: u64, _: &mut Bodies) -> u64 {
            assert!(id < 10);
            std::thread::sleep(self.0);
            1
        }
    }

    #[test]
    fn an_operation_takes_as_long_as_it_takes() {
        let load = Load { threads: 2, documents: 10, bytes: 100, time_every: 1 };
        let measured = run(&Sleep(Duration::from_millis(5)), &load, 0.1);
        // Each of the two threads may have been in the midst of one when the time was up.
        let most = 2 * (measured.elapsed.as_millis() / 5 + 1);
        let operations = u128::from(measured.operations);
        assert!(operations >= 2 && operations <= most, "{operations} of {most}");
        assert_eq!(measured.conflicts, measured.operations);
        assert_eq!(measured.latencies.len(), measured.operations);
        assert!(measured.latencies.min() >= 4_900_000, "{}", measured.latencies.min());
        assert!(measured.rate() <= most as f64 / measured.elapsed.as_secs_f64(), "{}", measured.rate());
    }
}
