//! How far everybody may see, and who waits to see further. Owns the newest visible sequence and the wakers of waiting
//! change feeds; never reads a row.
//!
//! Publishing a group is one store, and one load to learn that nobody waits. A waiter first leaves its waker, then
//! looks; the publisher first moves the sequence, then looks for wakers. Both orders are sequentially consistent, so
//! at least one of the two sees the other, and no wake-up is lost.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::CommitSeq;
use crate::collection::CollectionState;
use crate::encoding::CollectionNumber;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};

/// Whose commits a feed is about: one collection's, or (`None`) the whole store's.
pub(crate) type Scope = Option<Arc<CollectionState>>;

/// The newest visible commit, and the wakers of those who wait for a later one.
pub(crate) struct Visible {
    seq: AtomicU64,
    /// How many wakers there are, so that publishing can pass them by without taking the lock.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    closed: bool,
    last_key: u64,
    /// By scope, so that a commit costs those who wait for other collections nothing.
    rooms: BTreeMap<Option<CollectionNumber>, Room>,
}

/// The waiters of one scope. Nobody comes in who has something to read already, so the first commit in the scope
/// concerns all of them.
struct Room {
    scope: Scope,
    /// The oldest position of those inside.
    oldest: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Visible {
    pub(crate) fn new(seq: u64) -> Visible {
        Visible { seq: AtomicU64::new(seq), waiting: AtomicUsize::new(0), waiters: Mutex::default() }
    }

    pub(crate) fn get(&self) -> CommitSeq {
        CommitSeq::new(self.seq.load(Ordering::SeqCst))
    }

    /// Moves the visible sequence and wakes those whom that concerns.
    pub(crate) fn publish(&self, seq: CommitSeq) {
        self.seq.store(seq.get(), Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake(|room| self.newest_in(&room.scope) > room.oldest);
        }
    }

    /// Wakes everybody, and makes all later waiting end at once.
    pub(crate) fn close(&self) {
        self.waiters.lock().closed = true;
        self.wake(|_| true);
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// At or after the newest visible commit in the scope; the end of all sequences when it was dropped.
    pub(crate) fn newest_in(&self, scope: &Scope) -> u64 {
        let visible = self.get().get();
        match scope {
            None => visible,
            Some(collection) if collection.is_dropped() => u64::MAX,
            Some(collection) => collection.last_change().min(visible),
        }
    }

    #[cold]
    fn wake(&self, concerned: impl Fn(&Room) -> bool) {
        let mut woken = Vec::new();
        let mut waiters = self.waiters.lock();
        waiters.rooms.retain(|_, room| {
            let stays = !concerned(room);
            if !stays {
                woken.extend(std::mem::take(&mut room.wakers));
            }
            stays
        });
        self.waiting.fetch_sub(woken.len(), Ordering::SeqCst);
        drop(waiters);
        for (_, waker) in woken {
            // A waker is foreign code, and this thread writes for others: they are not to suffer from its panic.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Leaves a waker to be called once; under the key it had before, if it still has one. False when closed.
    fn enter(&self, scope: &Scope, after: u64, key: &mut Option<u64>, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut waiters = self.waiters.lock();
        if waiters.closed {
            return false;
        }
        let key = *key.get_or_insert_with(|| {
            waiters.last_key += 1;
            waiters.last_key
        });
        let number = scope.as_ref().map(|collection| collection.number);
        let room = waiters.rooms.entry(number).or_insert_with(|| Room {
            scope: scope.clone(),
            oldest: after,
            wakers: BTreeMap::new(),
        });
        room.oldest = room.oldest.min(after);
        let replaced = room.wakers.insert(key, waker);
        if replaced.is_none() {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // Dropping a waker is foreign code too.
        drop(waiters);
        true
    }

    /// Takes a waker back that may have been called meanwhile.
    fn leave(&self, scope: &Scope, key: u64) {
        let mut waiters = self.waiters.lock();
        let number = scope.as_ref().map(|collection| collection.number);
        let Some(room) = waiters.rooms.get_mut(&number) else { return };
        let waker = room.wakers.remove(&key);
        if room.wakers.is_empty() {
            waiters.rooms.remove(&number);
        }
        if waker.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(waiters);
    }
}

/// Resolves when there may be something to read after a feed's position. Made by
/// [`ChangeFeed::ready`](crate::ChangeFeed::ready).
///
/// It needs no particular runtime and does no input or output: a commit wakes it from the committing thread. Dropping
/// it ends the wait; nothing is left behind. It does not keep the store open.
#[must_use = "a future does nothing unless it is polled"]
pub struct Ready {
    visible: Arc<Visible>,
    scope: Scope,
    after: u64,
    key: Option<u64>,
}

impl Ready {
    pub(crate) fn new(visible: Arc<Visible>, scope: Scope, after: u64) -> Ready {
        Ready { visible, scope, after, key: None }
    }

    /// Waits in this thread; false when the time ran out.
    pub(crate) fn wait_until(self, deadline: Option<Instant>) -> Result<bool> {
        let parked = Arc::new(Parked::default());
        let waker = Waker::from(Arc::clone(&parked));
        let mut context = Context::from_waker(&waker);
        let mut this = pin!(self);
        loop {
            if let Poll::Ready(result) = this.as_mut().poll(&mut context) {
                return result.map(|()| true);
            }
            if !parked.wait_until(deadline) {
                return Ok(false);
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.visible.newest_in(&self.scope) > self.after
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            self.visible.leave(&self.scope, key);
        }
    }
}

impl Future for Ready {
    /// [`Error::Closed`] when the store is closed and nothing was left to read.
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if !this.is_ready() {
            if !this.visible.enter(&this.scope, this.after, &mut this.key, context.waker()) {
                return Poll::Ready(Err(Error::Closed));
            }
            // A commit that came before the waker was left has not called it.
            if !this.is_ready() {
                return Poll::Pending;
            }
        }
        this.leave();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("after", &self.after).finish_non_exhaustive()
    }
}

/// A thread that sleeps until its waker is called.
#[derive(Default)]
struct Parked {
    woken: Mutex<bool>,
    called: Condvar,
}

impl Parked {
    /// False when the time ran out first.
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline {
                None => self.called.wait(&mut woken),
                Some(deadline) if self.called.wait_until(&mut woken, deadline).timed_out() => break,
                Some(_) => {}
            }
        }
        std::mem::take(&mut *woken)
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.called.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{CollectionRecord, Horizon, TtlRecord};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Waiting {
        ready: Ready,
        count: Arc<Count>,
    }

    impl Waiting {
        fn new(visible: &Arc<Visible>, scope: Scope, after: u64) -> Waiting {
            Waiting { ready: Ready::new(Arc::clone(visible), scope, after), count: Arc::default() }
        }

        fn poll(&mut self) -> Poll<Result<()>> {
            let waker = Waker::from(Arc::clone(&self.count));
            Pin::new(&mut self.ready).poll(&mut Context::from_waker(&waker))
        }

        fn wakes(&self) -> usize {
            self.count.0.load(Ordering::SeqCst)
        }
    }

    fn collection(number: CollectionNumber) -> Arc<CollectionState> {
        let record = CollectionRecord {
            name: number.to_string(),
            created_ms: 0,
            keep_ms: None,
            keep_versions: 0,
            ttl: TtlRecord::Documents,
        };
        Arc::new(CollectionState::new(number, record, Horizon::default(), 0))
    }

    #[test]
    fn a_commit_wakes_a_waiter_once_and_a_waker_left_again_counts_once() {
        let visible = Arc::new(Visible::new(5));
        let mut waiting = Waiting::new(&visible, None, 5);
        assert!(waiting.poll().is_pending());
        assert!(waiting.poll().is_pending(), "a spurious poll");
        assert_eq!(visible.waiting(), 1);
        visible.publish(CommitSeq::new(6));
        assert_eq!((waiting.wakes(), visible.waiting()), (1, 0));
        visible.publish(CommitSeq::new(7));
        assert_eq!(waiting.wakes(), 1);
        assert!(matches!(waiting.poll(), Poll::Ready(Ok(()))));
        assert_eq!(visible.waiting(), 0);
    }

    #[test]
    fn who_has_something_to_read_does_not_wait() {
        let visible = Arc::new(Visible::new(5));
        assert!(matches!(Waiting::new(&visible, None, 4).poll(), Poll::Ready(Ok(()))));
        assert_eq!(visible.waiting(), 0);
    }

    #[test]
    fn a_commit_wakes_its_collection_and_the_store_and_nobody_else() {
        let visible = Arc::new(Visible::new(5));
        let (changed, quiet) = (collection(1), collection(2));
        let mut waiting =
            [None, Some(&changed), Some(&quiet)].map(|scope| Waiting::new(&visible, scope.map(Arc::clone), 5));
        assert!(waiting.iter_mut().all(|waiting| waiting.poll().is_pending()));
        changed.note_change(6);
        assert!(waiting[1].poll().is_pending(), "the commit is not visible yet");
        visible.publish(CommitSeq::new(6));
        assert_eq!(waiting.each_ref().map(Waiting::wakes), [1, 1, 0]);
        quiet.mark_dropped();
        visible.publish(CommitSeq::new(6));
        assert_eq!(waiting.each_ref().map(Waiting::wakes), [1, 1, 1], "a drop concerns those who wait for it");
    }

    #[test]
    fn a_dropped_future_leaves_nothing_behind() {
        let visible = Arc::new(Visible::new(5));
        let (mut stays, mut goes) = (Waiting::new(&visible, None, 5), Waiting::new(&visible, None, 5));
        assert!(stays.poll().is_pending() && goes.poll().is_pending());
        let count = Arc::clone(&goes.count);
        drop(goes);
        assert_eq!((visible.waiting(), Arc::strong_count(&count)), (1, 1), "its waker is gone");
        visible.publish(CommitSeq::new(6));
        assert_eq!((stays.wakes(), count.0.load(Ordering::SeqCst)), (1, 0));
        drop(stays);
        assert_eq!(visible.waiting(), 0);
        assert!(visible.waiters.lock().rooms.is_empty());
    }

    #[test]
    fn closing_wakes_everybody_and_nobody_waits_afterwards() {
        let visible = Arc::new(Visible::new(5));
        let mut waiting = [None, Some(collection(1))].map(|scope| Waiting::new(&visible, scope, 5));
        assert!(waiting.iter_mut().all(|waiting| waiting.poll().is_pending()));
        visible.close();
        for waiting in &mut waiting {
            assert_eq!(waiting.wakes(), 1);
            assert!(matches!(waiting.poll(), Poll::Ready(Err(Error::Closed))));
        }
        assert!(matches!(Ready::new(visible, None, 5).wait_until(None), Err(Error::Closed)));
    }

    #[test]
    fn a_panicking_waker_harms_neither_the_publisher_nor_other_waiters() {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("a waker that panics on purpose");
            }
        }
        let visible = Arc::new(Visible::new(5));
        let mut bad = Ready::new(Arc::clone(&visible), None, 5);
        let waker = Waker::from(Arc::new(Bad));
        assert!(Pin::new(&mut bad).poll(&mut Context::from_waker(&waker)).is_pending());
        let mut good = Waiting::new(&visible, None, 5);
        assert!(good.poll().is_pending());
        visible.publish(CommitSeq::new(6));
        assert_eq!(good.wakes(), 1);
    }

    /// A lost wake-up: a commit comes between a waiter's look and its sleep, and nobody ever wakes it.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 100_000;
        let sides = [0, 1].map(|_| Arc::new(Visible::new(0)));
        // Each publishes in answer to the other. A waiter that is not woken fails after a while instead of hanging.
        std::thread::scope(|scope| {
            for player in 0..2 {
                let [mine, others] = [player, 1 - player].map(|side| Arc::clone(&sides[side]));
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        if player == 0 {
                            mine.publish(CommitSeq::new(round));
                        }
                        let patience = crate::clock::deadline(std::time::Duration::from_secs(30));
                        let ready = Ready::new(Arc::clone(&others), None, round - 1).wait_until(patience);
                        assert!(matches!(ready, Ok(true)), "round {round} of player {player}");
                        if player == 1 {
                            mine.publish(CommitSeq::new(round));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let visible = Arc::new(Visible::new(5));
        let now = crate::clock::deadline(std::time::Duration::ZERO);
        assert!(matches!(Ready::new(Arc::clone(&visible), None, 5).wait_until(now), Ok(false)));
        assert!(matches!(Ready::new(Arc::clone(&visible), None, 4).wait_until(now), Ok(true)));
        assert_eq!(visible.waiting(), 0);
    }
}
