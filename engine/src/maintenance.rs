//! Work that nobody waits for: committing expiries, dropping what retention no longer keeps, and giving its disk space
//! back. Owns the thread that does it, when it runs and how much of the machine it takes; what expires is `expiry`'s,
//! what is dropped is `trim`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::expiry::{self, Expiries};
use crate::judge::refuse_in_update;
use crate::store::Core;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};
use crate::trim::{self, Walks};

/// Between two looks at a store that is being written to. Steps get larger and cheaper by it, and nothing but disk
/// space waits for them.
const PAUSE: Duration = Duration::from_millis(100);
/// How soon to look again at what a snapshot or a cursor holds, or after an error.
const RETRY: Duration = Duration::from_secs(1);
/// A store without commits for this long is at rest.
const REST: Duration = Duration::from_secs(5);
/// The longest sleep while something has a due time: the wall clock can be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Below this many deletions a compaction is not worth its while.
const WORTHWHILE_DELETIONS: u64 = 1_000;
/// A compaction rewrites everything, so it waits until deletions are one in this many rows ...
const BUSY_SHARE: u64 = 3;
/// ... or, in a store at rest, one in this many: nobody will pay for them again.
const REST_SHARE: u64 = 100;
/// Of the time, at most one part in this many goes to compactions.
const COMPACTION_TIME_SHARE: u32 = 8;

/// What [`Store::run_maintenance`](crate::Store::run_maintenance) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// Documents whose expiry was committed.
    pub expired: u64,
    /// Versions dropped, tombstones included.
    pub dropped: u64,
}

/// What the work remembers between its steps. Whoever works holds the lock.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) walks: Walks,
    pub(crate) expiries: Expiries,
    /// Versions dropped since deletions were last counted.
    dropped: u64,
    compaction_not_before: Option<Instant>,
}

/// What a step came to: see the steps of `expiry` and `trim`.
#[derive(Debug)]
struct Step {
    done: Maintained,
    more: bool,
    held: bool,
    at_end: bool,
    due_ms: Option<u64>,
}

impl Upkeep {
    pub(crate) fn new(walks: Walks, expiries: Expiries) -> Upkeep {
        Upkeep { walks, expiries, ..Upkeep::default() }
    }
}

/// How writers and handles call the thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Set while the thread sleeps and the next commit may be due sooner than it would wake.
    idle: AtomicBool,
    /// When it will wake by itself, in milliseconds of the store's clock; 0 while it is awake.
    asleep_until: AtomicU64,
    calls: Mutex<Calls>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    stop: bool,
    wake: bool,
}

impl Signal {
    /// Called after each publication. Costs a load of a flag that rarely changes.
    pub(crate) fn after_commit(&self) {
        // The visible sequence was stored before, and the thread stores the flag before it looks at that sequence:
        // one of the two sees the other.
        if self.idle.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Called for each document with a time to live of its own, when it is on disk.
    pub(crate) fn due_at(&self, time_ms: u64) {
        // As above: the row was written before, and the thread says how long it sleeps before it looks at the rows.
        if time_ms < self.asleep_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Has the thread look at everything again.
    pub(crate) fn wake(&self) {
        self.calls.lock().wake = true;
        self.called.notify_one();
    }

    fn stop(&self) {
        self.calls.lock().stop = true;
        self.called.notify_one();
    }

    /// Sleeps until called, or for `at_most`. False when it is time to stop.
    fn sleep(&self, at_most: Option<Duration>) -> bool {
        let mut calls = self.calls.lock();
        if !calls.stop && !calls.wake {
            match at_most {
                Some(time) => drop(self.called.wait_for(&mut calls, time)),
                None => self.called.wait(&mut calls),
            }
        }
        calls.wake = false;
        !calls.stop
    }

    /// Sleeps for `time` whoever calls. False when it is time to stop.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut calls = self.calls.lock();
        while !calls.stop && !self.called.wait_until(&mut calls, until).timed_out() {}
        !calls.stop
    }

    fn stopped(&self) -> bool {
        self.calls.lock().stop
    }
}

/// The thread; stopped and waited for when dropped.
pub(crate) struct Maintenance {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    pub(crate) fn start(core: &Arc<Core>) -> Result<Maintenance> {
        let worker = Arc::clone(core);
        let run = move || work(&worker);
        let thread = thread::Builder::new().name("etagdb-maintenance".into()).spawn(run).map_err(Error::io)?;
        Ok(Maintenance { core: Arc::clone(core), thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.core.signal.stop();
        // Else the last handle of a large store would be minutes in going.
        self.core.rocks.abandon_compaction();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: a failed write is remembered in the health.
            let _ = thread.join();
        }
    }
}

fn work(core: &Core) {
    let mut last_seen = core.visible();
    let mut last_change = Instant::now();
    loop {
        let begun = Instant::now();
        let visible = core.visible();
        if visible != last_seen {
            (last_seen, last_change) = (visible, begun);
        }
        // Up before anything is looked at: what comes too late to be seen finds them up and calls.
        core.signal.idle.store(true, Ordering::SeqCst);
        core.signal.asleep_until.store(u64::MAX, Ordering::SeqCst);
        let step = core.health.check().and_then(|()| core.maintain(&mut core.upkeep.lock()));
        let (mut watch, mut gather) = (true, false);
        let pause = match step {
            // Reads may fail for a while, and a full disk gets space back. After a failed write the store takes no
            // more of them, and this has nothing to do until it is closed.
            Err(_) => Some(RETRY),
            // As long a rest as the work took: at most half of one core.
            Ok(step) if step.more => Some(begun.elapsed().min(RETRY)),
            Ok(step) => {
                (watch, gather) = (step.at_end, true);
                let at_rest = last_change.elapsed() >= REST;
                let mut upkeep = core.upkeep.lock();
                let compacted = core.compact(&mut upkeep, at_rest);
                let due = step.due_ms.map(|due| Duration::from_millis(due.saturating_sub(core.now_ms())));
                let retry = (step.held || compacted.is_err()).then_some(RETRY);
                let rest = (upkeep.dropped > 0).then_some(REST);
                [due, retry, rest].into_iter().flatten().min().map(|time| time.clamp(PAUSE, SLEEP_MAX))
            }
        };
        if !watch {
            core.signal.idle.store(false, Ordering::SeqCst);
        }
        let sleep_ms = pause.map_or(u64::MAX, |pause| pause.as_millis().try_into().unwrap_or(u64::MAX));
        core.signal.asleep_until.store(core.now_ms().saturating_add(sleep_ms), Ordering::SeqCst);
        if !core.signal.sleep(pause) {
            return;
        }
        core.signal.idle.store(false, Ordering::SeqCst);
        core.signal.asleep_until.store(0, Ordering::SeqCst);
        // Woken by a commit: let some more gather.
        if gather && begun.elapsed() < PAUSE && !core.signal.rest(PAUSE) {
            return;
        }
    }
}

impl Core {
    /// Does a little of what is due.
    fn maintain(&self, upkeep: &mut Upkeep) -> Result<Step> {
        let now_ms = self.now_ms();
        let expired = expiry::step(self, &mut upkeep.expiries, now_ms)?;
        let trimmed = trim::step(self, &mut upkeep.walks, now_ms)?;
        upkeep.dropped += trimmed.dropped;
        Ok(Step {
            done: Maintained { expired: expired.expired, dropped: trimmed.dropped },
            more: expired.more || trimmed.more,
            held: trimmed.held,
            at_end: expired.at_end || trimmed.at_end,
            due_ms: expired.due_ms.into_iter().chain(trimmed.due_ms).min(),
        })
    }

    /// Gives disk space back where enough was dropped.
    fn compact(&self, upkeep: &mut Upkeep, at_rest: bool) -> Result<()> {
        let too_early = upkeep.compaction_not_before.is_some_and(|time| Instant::now() < time);
        if upkeep.dropped == 0 || too_early || self.signal.stopped() {
            return Ok(());
        }
        let share = if at_rest { REST_SHARE } else { BUSY_SHARE };
        let begun = Instant::now();
        let mut compacted = false;
        for family in self.rocks.trimmed_families() {
            let count = self.rocks.count_rows(family)?;
            if count.deletions >= WORTHWHILE_DELETIONS && count.deletions * share >= count.rows {
                self.rocks.compact(family, || self.signal.stopped());
                compacted = true;
            }
        }
        if compacted || at_rest {
            upkeep.dropped = 0;
        }
        if compacted && at_rest {
            // The log is kept for what is in memory only, and may well be the largest part.
            self.rocks.flush()?;
        }
        if compacted {
            upkeep.compaction_not_before = Some(Instant::now() + begun.elapsed() * COMPACTION_TIME_SHARE);
        }
        Ok(())
    }

    /// Does everything that is due now, on this thread.
    pub(crate) fn run_maintenance(&self) -> Result<Maintained> {
        refuse_in_update("maintenance inside an update closure would wait for it")?;
        let mut maintained = Maintained::default();
        loop {
            self.health.check()?;
            // Let go of between steps, so that this and the background thread take turns.
            let mut upkeep = self.upkeep.lock();
            let step = self.maintain(&mut upkeep)?;
            maintained.expired += step.done.expired;
            maintained.dropped += step.done.dropped;
            if !step.more && step.done == Maintained::default() {
                upkeep.compaction_not_before = None;
                self.compact(&mut upkeep, true)?;
                return Ok(maintained);
            }
        }
    }
}
