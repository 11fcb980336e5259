//! Running a transaction again until it fits. Owns how often, how long to wait in between, and that nobody who tries
//! again loses for ever; what a transaction is, and whether it fits, is decided elsewhere.
//!
//! Optimistic transactions over one hot document favour whoever is new: he has just seen the winner's commit, while
//! those who lost to it are only waking up. Waiting longer after each failure makes that worse, and with a newcomer who
//! comes back at once, hundreds of attempts can fail in a row. So a few attempts after the first are made at once or
//! soon; from then on those who lost over a document take turns, and the one whose turn it is tries again immediately.
//! A newcomer who beats him even so stands back for a moment before he goes on.

use std::hash::BuildHasher;
use std::time::Duration;

use crate::error::{Conflict, Error, Result};
use crate::store::Store;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, RandomState, thread};
use crate::transaction::Transaction;

/// How often [`Store::transact`] runs a closure before it gives up.
pub const MAX_TRANSACTION_ATTEMPTS: u32 = 64;

/// So many failures over, a transaction waits for its turn.
const FAILURES_BEFORE_TURN: u32 = 3;
/// Nobody waits longer than this for his turn, because `work` may itself wait for another thread's transaction.
const LONGEST_TURN_WAIT: Duration = Duration::from_secs(1);
/// Nobody stands back longer than this; a commit with its sync most often takes less.
const LONGEST_STAND_BACK: Duration = Duration::from_millis(2);
/// The longest wait after the second failure; twice that after the third, and so on.
const FIRST_WAIT: Duration = Duration::from_micros(100);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Two documents that are fought over seldom share one of so many.
const TURNS: usize = 64;

/// Whose turn it is to try again, by the id of the document that was lost over.
pub(crate) struct Turns {
    turns: [Mutex<()>; TURNS],
    /// How many are taken, so that those who are not concerned look no further.
    taken: AtomicUsize,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { turns: [const { Mutex::new(()) }; TURNS], taken: AtomicUsize::new(0), hasher: RandomState::new() }
    }
}

impl Turns {
    fn of(&self, id: &[u8]) -> &Mutex<()> {
        &self.turns[self.hasher.hash_one(id) as usize % TURNS]
    }

    /// Waits for a turn, but not for ever: without one it still may try.
    fn wait(&self, over: &Conflict) -> Option<Turn<'_>> {
        let guard = self.of(&over.id).try_lock_for(LONGEST_TURN_WAIT)?;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Some(Turn { turns: self, guard: Some(guard) })
    }

    /// Gives way, for a moment, to somebody whose turn it is with one of these documents.
    fn stand_back<'i>(&self, written: impl Iterator<Item = &'i [u8]>) {
        if self.taken.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(turn) = written.map(|id| self.of(id)).find(|turn| turn.is_locked()) {
            // Behind those who wait for it already.
            drop(turn.try_lock_for(LONGEST_STAND_BACK));
        }
    }
}

/// Held by the one whose turn it is.
struct Turn<'a> {
    turns: &'a Turns,
    /// `None` only while it is dropped.
    guard: Option<MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.fetch_sub(1, Ordering::SeqCst);
        // To the one who has waited longest.
        if let Some(guard) = self.guard.take() {
            MutexGuard::unlock_fair(guard);
        }
    }
}

impl Store {
    /// Runs `work` in a transaction and commits it, again from the start for as long as the commit finds that what was
    /// read has changed: up to [`MAX_TRANSACTION_ATTEMPTS`] times, with short random waits in between. Transactions that
    /// fail several times over one document take turns. On return the writes are as durable as the store's
    /// [`Durability`](crate::Durability) promises.
    ///
    /// `work` may run many times, so apart from the transaction it should change nothing that it does not set anew.
    /// What it returns as an error ends the transaction with nothing written, and is returned as it is. This includes a
    /// precondition that fails within: it is about an etag that `work` brought along, which no repetition makes current
    /// again.
    ///
    /// # Errors
    ///
    /// What `work` returns; otherwise as [`Transaction::commit`], with [`Error::Conflict`] only after the last attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Error, Precondition, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let counters = store.collection("counters")?;
    /// let visits = store.transact(|txn| -> etagdb::Result<u64> {
    ///     let count = txn.get(&counters, "visits")?.and_then(|c| std::str::from_utf8(&c.body).ok()?.parse().ok());
    ///     let next = count.unwrap_or(0) + 1;
    ///     txn.put(&counters, "visits", next.to_string(), Precondition::Any)?;
    ///     Ok(next)
    /// })?;
    /// assert_eq!(visits, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transact<T, E: From<Error>>(&self, mut work: impl FnMut(&mut Transaction) -> Result<T, E>) -> Result<T, E> {
        let mut turn = None;
        let mut failures = 0;
        loop {
            let mut txn = self.begin();
            let value = work(&mut txn)?;
            let conflict = match txn.commit() {
                Ok(committed) => {
                    if turn.is_none() {
                        self.turns().stand_back(committed.ids());
                    }
                    return Ok(value);
                }
                Err(Error::Conflict(conflict)) => conflict,
                Err(error) => return Err(error.into()),
            };
            failures += 1;
            if failures == MAX_TRANSACTION_ATTEMPTS {
                return Err(Error::Conflict(conflict).into());
            }
            if turn.is_none() && failures == FAILURES_BEFORE_TURN {
                turn = self.turns().wait(&conflict);
            } else if turn.is_none() {
                wait_after(failures);
            }
        }
    }
}

/// Waits before another attempt. The first is immediate: the winner has committed, and most often nobody else is there.
/// After that, contenders that met once would meet again if they all waited for the same time.
fn wait_after(failures: u32) {
    let doublings = match failures {
        0 | 1 => return,
        _ => failures.min(16) - 2,
    };
    let longest = (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT);
    // Each `RandomState` has keys of its own, so this is a random number.
    let random = RandomState::new().hash_one(failures);
    let nanos = u64::try_from(longest.as_nanos()).map_or(0, |nanos| random % nanos);
    thread::sleep(Duration::from_nanos(nanos));
}
