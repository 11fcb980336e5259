//! What threads share and wait with: locks, atomics, threads, and the seeds of hashes. Owns nothing. It is the one place
//! that says where these come from, so that the tests can compile the files of the engine over others, and then decide
//! themselves which thread goes on at each of them.

pub(crate) use std::sync::atomic;
pub(crate) use std::{thread, thread_local};

/// Hashes of ids, seeded at random for each table. A write takes several; the standard library's would be a tenth of it.
pub(crate) use foldhash::fast::RandomState;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

/// Measures how long something takes, where a conclusion is drawn from it.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// How often to look for something before sleeping: where each look is a step of a test, the test decides.
pub(crate) fn looks(most: usize) -> usize {
    most
}
