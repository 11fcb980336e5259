//! Waiting for an answer: on a thread, which sleeps and can be called to work for others meanwhile, or as a future. Owns
//! how answers get to those who wait; what they are is the queue's and the lander's.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::Result;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, thread};

/// How a writer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Blocking,
    AsFuture,
}

/// Where a waiting writer gets its answer.
pub(crate) struct Waiter {
    pub(crate) wait: Wait,
    /// Whether there is a turn in the slot: for those who look before they sleep.
    is_called: AtomicBool,
    slot: Mutex<Slot>,
    called: Condvar,
}

#[derive(Default)]
struct Slot {
    turn: Option<Turn>,
    waker: Option<Waker>,
}

pub(crate) enum Turn {
    Lead,
    /// To land what is in the log, if nobody else has.
    Land,
    /// The answer, and others who are to be told theirs.
    Done(Result<()>, Vec<Told>),
}

/// A writer and its answer.
pub(crate) type Told = (Arc<Waiter>, Result<()>);

/// Answers all. Those who block help: each of the first few answers a few of the others. To wake a thread takes its
/// waker a few microseconds and the thread many, so neither one for all nor a long chain of them is quick.
pub(crate) fn tell(mut all: Vec<Told>) {
    let share = all.len().isqrt();
    while let Some((waiter, result)) = all.pop() {
        let others = match waiter.wait {
            Wait::Blocking => all.split_off(all.len().saturating_sub(share)),
            Wait::AsFuture => Vec::new(),
        };
        waiter.call(Turn::Done(result, others));
    }
}

/// As [`tell`], but for `own`, whose answer becomes `answer`.
pub(crate) fn deliver(mut told: Vec<Told>, own: Option<&Arc<Waiter>>, answer: &mut Option<Result<()>>) {
    if let Some(index) = own.and_then(|own| told.iter().position(|(waiter, _)| Arc::ptr_eq(waiter, own))) {
        *answer = Some(told.swap_remove(index).1);
    }
    tell(told);
}

impl Waiter {
    pub(crate) fn new(wait: Wait) -> Arc<Waiter> {
        Arc::new(Waiter { wait, is_called: AtomicBool::new(false), slot: Mutex::default(), called: Condvar::new() })
    }

    pub(crate) fn call(&self, turn: Turn) {
        let waker = {
            let mut slot = self.slot.lock();
            // A call to land may come late, when the writer has its answer or will have no other turn.
            if matches!(turn, Turn::Land) && slot.turn.is_some() {
                return;
            }
            slot.turn = Some(turn);
            self.is_called.store(true, Ordering::Release);
            slot.waker.take()
        };
        self.called.notify_one();
        if let Some(waker) = waker {
            // A waker is foreign code, and this thread works for others: they are not to suffer from its panic.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Only a hint, which saves taking the lock: the turn itself is in the slot.
    pub(crate) fn is_called(&self) -> bool {
        self.is_called.load(Ordering::Acquire)
    }

    /// `looks`: how often to look for the turn before sleeping. Others may work meanwhile: whoever is to bring the turn
    /// needs a processor, too.
    pub(crate) fn wait(&self, looks: usize) -> Turn {
        for _ in 0..looks {
            if self.is_called() {
                break;
            }
            thread::yield_now();
        }
        let mut slot = self.slot.lock();
        loop {
            if let Some(turn) = slot.turn.take() {
                self.is_called.store(false, Ordering::Relaxed);
                return turn;
            }
            self.called.wait(&mut slot);
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut slot = self.slot.lock();
        match slot.turn.take() {
            Some(Turn::Done(result, _)) => Poll::Ready(result),
            // Futures are not called to lead.
            Some(Turn::Lead | Turn::Land) | None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The answer to a ticket whose holder does not lead.
pub(crate) struct Answer(pub(crate) Arc<Waiter>);

impl Future for Answer {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll(context)
    }
}

impl Answer {
    /// Waits for it in place of polling.
    pub(crate) fn wait(self) -> Result<()> {
        loop {
            if let Turn::Done(result, _) = self.0.wait(0) {
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever calls to land has chosen a writer while its group waited for that, and another may land it before the call.
    #[test]
    fn a_call_to_land_that_comes_late_leaves_the_answer() {
        let waiter = Waiter::new(Wait::Blocking);
        waiter.call(Turn::Done(Ok(()), Vec::new()));
        waiter.call(Turn::Land);
        assert!(matches!(waiter.wait(0), Turn::Done(Ok(()), _)));
    }
}
