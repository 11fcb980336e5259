//! The second half of a commit: groups that are in the log are synced, made visible and answered. Owns the order in which
//! that happens, and who does it; what it means for a group to be visible is `commit`'s.
//!
//! A leader writes its group to the log and leaves it here. One *lander* at a time takes all that is here, syncs the log
//! once for all of it, publishes it in commit order, and answers its writers. Meanwhile the next groups are written to
//! the log: a sync takes as long as the writing of some fifty documents, and neither waits for the other.
//!
//! A leader whose group finds nobody landing lands it itself. Else its writers wait for whoever does; and when a lander
//! is done and there are further groups, it calls one of their writers to be the next, before it answers its own. The
//! call is no more than a hint: whoever holds the lock of the lander is the lander, and whoever leaves it looks once more
//! whether something is left. So a call that comes too late does no harm, and a group that nobody was called for is not
//! forgotten.
//!
//! # Groups that fail
//!
//! When a group cannot be written to the log, what came before it is as good as ever. That lands first, and then
//! everything that was queued after it is void (`queue`). When a sync fails, nobody knows what of the log is on disk, and
//! the rows are already on their way to RocksDB; so whatever the reason, also for a full disk, the outcome of all groups
//! here is unknown, none of them ever becomes visible, and the store takes no more writes until it is reopened.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::histogram::{Histogram, Recorder};
use crate::queue::{Submission, Submissions};
use crate::store::Core;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, Stopwatch};
use crate::waiter::{Told, Turn, Wait, Waiter, tell};
use crate::workers::Summons;

/// About what it takes until a writer that was answered has queued its next write, for each of those who are: they are
/// told one by one, and share the processors. Futures have to be woken, and their tasks to come from elsewhere.
const RETURN_TIME: Duration = Duration::from_micros(8);
const RETURN_TIME_OF_FUTURES: Duration = Duration::from_micros(20);

/// So many times a lander syncs for others before it calls another one: its own answer waits for the last of them.
const ROUNDS: usize = 8;

/// Groups on their way from the log to visibility.
#[derive(Default)]
pub(crate) struct Landings {
    /// In commit order. Never locked for longer than it takes to add or take one.
    logged: Mutex<VecDeque<Logged>>,
    /// Held by the lander: room for the groups of its rounds, empty in between.
    lander: Mutex<VecDeque<Logged>>,
    /// How the store's own thread is called to land.
    pub(crate) summons: Summons,
    /// What a sync takes of late, in nanoseconds.
    sync_nanos: AtomicU64,
    /// As of the last answers after a sync.
    returning: Mutex<Option<Returning>>,
    /// Commits of each round.
    sizes: Recorder,
    /// What each sync took, in microseconds.
    syncs: Recorder,
    nanos: AtomicU64,
}

/// A group that is in the log.
#[derive(Default)]
pub(crate) struct Logged {
    pub(crate) submissions: Submissions,
    /// The sequence of its last write; 0 without one.
    pub(crate) last: u64,
    pub(crate) time_ms: u64,
    pub(crate) commits: u64,
    /// Whether it ends a collection. Such a group is synced under either durability.
    pub(crate) drops: bool,
    /// Where in the log it ends, or further.
    pub(crate) log_end: u64,
    pub(crate) bytes: usize,
    pub(crate) write_time: Duration,
}

/// Who may be back soon.
#[derive(Clone, Copy)]
pub(crate) struct Returning {
    /// How many were under way when the last ones were answered, with those.
    pub(crate) writers: usize,
    pub(crate) answered: Stopwatch,
}

/// Why a group is not in the log.
pub(crate) struct Unlogged {
    pub(crate) error: Error,
    /// Whether it was given to the disk.
    pub(crate) tried: bool,
}

/// Whoever has this lands.
pub(crate) type Lander<'a> = MutexGuard<'a, VecDeque<Logged>>;

/// Groups that are landing. When the thread panics at it, their writers are told that the outcome is unknown.
struct Round<'a> {
    core: &'a Core,
    groups: &'a mut VecDeque<Logged>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if !self.groups.is_empty() {
            let fail = self.core.health.after_failed_sync(Error::io("the thread that synced for this group panicked"));
            self.core.void_queue(&fail());
            let submissions = self.groups.drain(..).flat_map(|group| group.submissions);
            tell(submissions.map(|submission| (submission.waiter, Err(fail()))).collect());
        }
    }
}

impl Landings {
    pub(crate) fn add(&self, group: Logged) {
        self.logged.lock().push_back(group);
    }

    /// The right to land, if nobody has it.
    pub(crate) fn try_lander(&self) -> Option<Lander<'_>> {
        self.lander.try_lock()
    }

    /// Waits for the right to land.
    pub(crate) fn lander(&self) -> Lander<'_> {
        self.lander.lock()
    }

    /// How many writes were committed in each round, and how many microseconds each sync took, since the store was opened.
    pub(crate) fn histograms(&self) -> (Histogram, Histogram) {
        (self.sizes.read(), self.syncs.read())
    }

    /// The time that all rounds took.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// Whether it pays to write the next group while one is synced, with so many writers under way.
    ///
    /// It makes two groups of them, which are synced in turn, where all could share a sync. So it pays only when those who
    /// were answered take longer to come back than a sync does.
    pub(crate) fn pays_to_overlap(&self, writers: usize, wait: Wait) -> bool {
        let return_time = match wait {
            Wait::Blocking => RETURN_TIME,
            Wait::AsFuture => RETURN_TIME_OF_FUTURES,
        };
        u32::try_from(writers).is_ok_and(|writers| return_time * writers > self.sync_time())
    }

    /// What a sync takes of late. Right or not, and of whatever moment: all that hangs on it is how fast this is.
    pub(crate) fn sync_time(&self) -> Duration {
        Duration::from_nanos(self.sync_nanos.load(Ordering::Relaxed))
    }

    /// Who was under way when the last ones were answered; nobody where nothing is synced.
    pub(crate) fn returning(&self) -> Option<Returning> {
        *self.returning.lock()
    }

    fn note_sync(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.syncs.record(took / 1000);
        let before = self.sync_nanos.load(Ordering::Relaxed);
        // Only the lander writes it.
        self.sync_nanos.store(before - before / 8 + took / 8, Ordering::Relaxed);
    }

    fn has_logged(&self) -> bool {
        !self.logged.lock().is_empty()
    }

    /// Calls somebody to land what is here, if there is anything. False when there was nobody to call.
    fn call_next(&self) -> bool {
        let waiter = {
            let logged = self.logged.lock();
            let Some(first) = logged.front() else { return false };
            let blocking = |submission: &&Submission| submission.waiter.wait == Wait::Blocking;
            first.submissions.iter().find(blocking).map(|submission| Arc::clone(&submission.waiter))
        };
        match waiter {
            Some(waiter) => waiter.call(Turn::Land),
            None => self.summons.call(),
        }
        true
    }
}

impl Core {
    /// Lands what is in the log; `own`'s answer, if it is among it, becomes `answer`.
    pub(crate) fn land(&self, mut lander: Lander<'_>, own: Option<&Arc<Waiter>>, answer: &mut Option<Result<()>>) {
        if !self.land_rounds(&mut lander, own, answer) {
            drop(lander);
            // For what came after the last look.
            self.landings.call_next();
        }
    }

    /// As [`land`](Core::land), and stays the lander. Returns whether somebody has been called to be the next.
    pub(crate) fn land_rounds(
        &self,
        lander: &mut Lander<'_>,
        own: Option<&Arc<Waiter>>,
        answer: &mut Option<Result<()>>,
    ) -> bool {
        let landings = &self.landings;
        for round in 1.. {
            std::mem::swap(&mut **lander, &mut *landings.logged.lock());
            if lander.is_empty() {
                break;
            }
            let mut landing = Round { core: self, groups: lander };
            let synced = self.sync_round(landing.groups);
            // The store's own thread has nothing else to do.
            let goes_on = own.is_none() || (round < ROUNDS && landings.has_logged());
            // It wakes up while this one publishes.
            let has_called = !goes_on && landings.call_next();
            tell(self.publish_round(&mut landing, synced, own, answer));
            if has_called || !goes_on {
                return has_called;
            }
        }
        false
    }

    /// Makes the groups durable as far as the store's writes are to be.
    fn sync_round(&self, groups: &VecDeque<Logged>) -> Result<()> {
        // What a failed sync leaves is unknown, and a sync that succeeds afterwards proves nothing. Nor may those be
        // answered who only wait for what was lost in it.
        self.health.check()?;
        let syncs = |group: &Logged| group.drops || self.options.syncs() && group.commits > 0;
        let mut sync_time = Duration::ZERO;
        if groups.iter().any(syncs) {
            let begun = Stopwatch::start();
            self.rocks.sync()?;
            sync_time = begun.elapsed();
            self.landings.note_sync(sync_time);
        }
        if let Some(last) = groups.iter().rfind(|group| group.commits > 0) {
            if self.options.syncs() {
                self.durable.note(last.last, last.log_end);
            }
            let time = groups.iter().map(|group| group.write_time).sum::<Duration>() + sync_time;
            let commits = groups.iter().map(|group| group.commits).sum();
            self.landings.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.landings.sizes.record(commits);
        }
        Ok(())
    }

    /// Publishes what is durable, or draws the consequence when it is not known to be. Returns what to tell the others.
    fn publish_round(
        &self,
        round: &mut Round<'_>,
        synced: Result<()>,
        own: Option<&Arc<Waiter>>,
        answer: &mut Option<Result<()>>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        let (mut submissions, mut bytes) = (0, 0);
        let fail = synced.err().map(|error| {
            let fail = self.health.after_failed_sync(error);
            self.void_queue(&fail());
            fail
        });
        while let Some(group) = round.groups.front() {
            if fail.is_none() {
                self.publish_group(group);
            }
            bytes += group.bytes;
            let Some(group) = round.groups.pop_front() else { break };
            submissions += group.submissions.len();
            for Submission { waiter, result, .. } in group.submissions {
                // Also that of who was left out: it may have been for a write of this very group, which nobody may hear of.
                let result = fail.as_ref().map_or(result, |fail| Err(fail()));
                match own {
                    Some(own) if Arc::ptr_eq(own, &waiter) => *answer = Some(result),
                    _ => told.push((waiter, result)),
                }
            }
        }
        if self.options.syncs() {
            let writers = self.queue.under_way();
            *self.landings.returning.lock() = Some(Returning { writers, answered: Stopwatch::start() });
        }
        self.queue.have_arrived(submissions, bytes);
        told
    }
}
