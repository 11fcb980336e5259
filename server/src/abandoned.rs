//! Whether anybody still waits for the answer that this thread is making.
//!
//! Owns the link between a request's future, which is dropped when its client goes away, and the thread that does the
//! blocking work for it. Work that can be long looks here now and then, and ends.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::status::{ApiError, Kind};

thread_local! {
    static WORK: RefCell<Option<Work>> = const { RefCell::new(None) };
}

/// Held by whoever waits; dropping it abandons the work.
#[derive(Debug)]
pub(crate) struct Interest(Arc<AtomicBool>);

/// The work that somebody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Work(Arc<AtomicBool>);

/// The two ends of a request.
pub(crate) fn link() -> (Interest, Work) {
    let abandoned = Arc::new(AtomicBool::new(false));
    (Interest(Arc::clone(&abandoned)), Work(abandoned))
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Work {
    /// Runs `work` as what is waited for.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        // Taken away also when the work panics: the thread goes on to other requests.
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                WORK.set(None);
            }
        }
        WORK.set(Some(self));
        let _reset = Reset;
        work()
    }
}

/// Whether nobody waits any more for what this thread does. Work that was not linked to anybody is always wanted.
pub(crate) fn is_abandoned() -> bool {
    WORK.with_borrow(|work| work.as_ref().is_some_and(|work| work.0.load(Ordering::SeqCst)))
}

/// What nobody will read.
pub(crate) fn refusal() -> ApiError {
    ApiError::new(Kind::RequestTimeout, "The client went away.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_abandoned_with_the_last_interest_and_only_that_work() {
        assert!(!is_abandoned());
        let (interest, work) = link();
        work.clone().run(|| assert!(!is_abandoned()));
        drop(interest);
        work.run(|| assert!(is_abandoned()));
        assert!(!is_abandoned());
        let (interest, work) = link();
        drop(interest);
        assert!(std::panic::catch_unwind(|| work.run(|| panic!("on purpose"))).is_err());
        assert!(!is_abandoned());
    }
}
