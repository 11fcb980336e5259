//! Waiting for a commit without blocking a thread. Owns the future that a batch turns into when it is submitted.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::commit::Judged;
use crate::document::Written;
use crate::error::Result;
use crate::store::Core;
use crate::waiter::Answer;

/// A batch on its way to disk: a [`Future`] of what [`WriteBatch::commit`](crate::WriteBatch::commit) would return.
///
/// Made by [`WriteBatch::submit`](crate::WriteBatch::submit). Any executor will do. The commit goes on whether this is
/// polled or not, and also when it is dropped: then nobody learns how it ended. It does not keep the store open;
/// closing the store first writes what is queued.
#[must_use = "without waiting for it nobody learns whether the batch was committed"]
pub struct CommitHandle(State);

enum State {
    /// The result, if the answer is good.
    Waiting(Answer, Outcome),
    Known(Outcome),
    Told,
}

type Outcome = Result<Vec<Option<Written>>>;

impl CommitHandle {
    pub(crate) fn new(store: &Core, judged: Result<Judged>) -> CommitHandle {
        CommitHandle(match judged {
            Ok(Judged::Queued { ticket, receipts, operations }) => {
                let results = store.results(ticket.place, &receipts, operations);
                State::Waiting(store.answer(ticket), Ok(results))
            }
            Ok(Judged::Answer(basis, outcome)) => match store.answer_after(basis) {
                Ok(Some(answer)) => State::Waiting(answer, outcome),
                Ok(None) => State::Known(outcome),
                Err(error) => State::Known(Err(error)),
            },
            Err(error) => State::Known(Err(error)),
        })
    }

    /// Blocks until it is known how the commit ended.
    ///
    /// # Errors
    ///
    /// As [`WriteBatch::commit`](crate::WriteBatch::commit).
    ///
    /// # Panics
    ///
    /// When it was ready once, by polling.
    pub fn wait(self) -> Result<Vec<Option<Written>>> {
        match self.0 {
            State::Waiting(answer, outcome) => answer.wait().and(outcome),
            State::Known(outcome) => outcome,
            State::Told => panic!("{TOLD}"),
        }
    }
}

const TOLD: &str = "a commit handle that has told how the commit ended was asked again";

impl Future for CommitHandle {
    type Output = Result<Vec<Option<Written>>>;

    /// # Panics
    ///
    /// When it was ready once.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = match &mut self.0 {
            State::Waiting(answer, _) => ready!(Pin::new(answer).poll(context)),
            State::Known(_) | State::Told => Ok(()),
        };
        match std::mem::replace(&mut self.0, State::Told) {
            State::Waiting(_, outcome) => Poll::Ready(answered.and(outcome)),
            State::Known(outcome) => Poll::Ready(outcome),
            State::Told => panic!("{TOLD}"),
        }
    }
}

impl fmt::Debug for CommitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitHandle").finish_non_exhaustive()
    }
}
