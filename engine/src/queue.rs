//! The queue of commits: who comes when, who leads, and who waits for whom. Owns commit sequences and times as they are
//! given out; what a leader does with a group is `commit`'s, how writers wait `waiter`'s.
//!
//! # Leading
//!
//! There is no thread that commits for others while one of those who wait can do it. A writer that finds nobody leading
//! leads at once. It takes the queue to the log and sees to it that the group lands (`landing`); when many have queued
//! meanwhile, it goes on with them, for a few groups, since to wake another leader takes as long as half a sync; then it
//! calls the first in the queue to lead. With nobody there the lead lapses. So a lone writer never hands over to another
//! thread. Only where the first in the queue waits as a future is there nobody to call, and then threads of the store's
//! own lead and land. To wake them takes longer than a write that is not synced; so where nothing is synced, and writes
//! have been quick of late, whoever comes first leads in `submit`, too.
//!
//! A sync takes as long with one write as with many, and whoever was answered after the last one is often back within a
//! tenth of the next. So a leader waits for those, until as many are in the queue as were under way then, and for a
//! quarter of a sync after they were answered at the most. A lone writer waits for nobody, and nobody waits who comes
//! later than that; a fixed delay, which many databases have as a setting, makes all of them wait.
//!
//! What can be done before and after the write to disk is kept away from the leader, for everybody waits for it:
//! writers encode their rows when they queue, and those who were answered first wake the others.
//!
//! # Groups that fail
//!
//! Whoever was judged after a group was queued may have been judged by what that group was to write. When the group
//! cannot be written, all of that is void: the *generation* moves on, everything in the queue is refused, and so is
//! everything that was judged in the generation before and comes to the queue afterwards. Nothing that is refused this
//! way was given to the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::collection::CollectionState;
use crate::error::{Error, Result};
use crate::judge::JudgedWrite;
use crate::landing::{Returning, Unlogged};
use crate::reads::Reads;
use crate::rocks::Rows;
use crate::store::Core;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, looks, thread};
use crate::waiter::{Answer, Turn, Wait, Waiter, deliver, tell};
use crate::workers::Summons;

/// A group closes when its bodies have this many bytes, so that nobody's write waits for an unbounded one.
const GROUP_BYTES: usize = 16 << 20;
/// Rows of batches up to this size are encoded by their writers, under the lock of the queue.
const ENCODE_BYTES: usize = 64 << 10;
/// And of up to so many writes: others wait for the lock.
const ENCODE_WRITES: usize = 64;
/// So many groups a leader takes to the log before it calls another one, with syncs and without: its own answer waits for
/// the last of them.
const GROUPS_PER_LEAD: usize = 4;
const GROUPS_PER_LEAD_UNSYNCED: usize = 16;
/// So many writers are worth going on for, when they sleep through a sync.
const MANY: usize = 16;
/// After so many quick groups in a row, a writer leads although it waits as a future, if nothing is synced.
const QUICK_GROUPS: u32 = 64;
/// A write to the log that takes longer waits for RocksDB or the disk; whoever waits as a future is not to wait for that.
const QUICK: Duration = Duration::from_millis(1);
/// How often the writers look for their answers, and let others have the processor, before they sleep: all of them
/// together, for those who look are in the way of whoever works. It takes them some hundred microseconds, as a sync does;
/// to be woken, and a processor with them, takes half as long again. Without syncs and with them.
const LOOKS: usize = 1600;
const LOOKS_SYNCED: usize = 3200;
/// With so many bytes of bodies in the queue, writers wait before they enter it.
const QUEUE_BYTES: usize = 64 << 20;

/// Writers waiting for a leader, and whether there is one.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    /// Called when the queue has room again.
    room: Condvar,
    /// Written under the lock of the state.
    generation: AtomicU64,
    /// How the store's own thread is called to lead.
    pub(crate) summons: Summons,
    /// The newest sequence in the log. Written by leaders.
    logged: AtomicU64,
}

struct QueueState {
    waiting: VecDeque<Group>,
    /// Empty, with the room of rows that have been written.
    spare: Rows,
    /// Submissions on their way, from when they are queued until they are answered, and the bytes of their bodies.
    under_way: usize,
    bytes: usize,
    led: bool,
    /// Groups in a row that were written quickly.
    quick_groups: u32,
    last_assigned: u64,
    last_time_ms: u64,
    /// Why the last generation ended.
    failure: String,
}

/// What a judgement rests on that is not visible yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Basis {
    pub(crate) generation: u64,
    /// The newest commit that was looked at while it was pending; 0 for none.
    pub(crate) seq: u64,
}

/// Where a batch stands in the commit order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The sequence of its first write.
    pub(crate) start: u64,
    /// Never earlier than that of the batch before.
    pub(crate) time_ms: u64,
}

/// What goes to disk in one write.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) submissions: Submissions,
    /// What those have encoded that are.
    pub(crate) rows: Rows,
    pub(crate) bytes: usize,
}

/// Of a lone writer, just its own.
pub(crate) type Submissions = SmallVec<[Submission; 1]>;

/// A judged batch, the end of a collection, or somebody who waits for others, on its way.
pub(crate) struct Submission {
    pub(crate) work: Work,
    pub(crate) place: Place,
    /// Whether its rows are in those of its group.
    pub(crate) is_encoded: bool,
    pub(crate) waiter: Arc<Waiter>,
    /// Why it was left out when its group was written, if it was.
    pub(crate) result: Result<()>,
}

pub(crate) enum Work {
    /// A batch; and, of a transaction, what it read and did not write.
    Writes(Arc<Vec<JudgedWrite>>, Option<Reads>),
    Drop(Arc<CollectionState>),
    /// Nothing but to be answered once this commit is visible.
    After(u64),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Work::Writes(writes, _) => writes.iter().map(|write| write.body.len()).sum(),
            Work::Drop(_) | Work::After(_) => 0,
        }
    }

    fn commits(&self) -> u64 {
        match self {
            Work::Writes(writes, _) => writes.len() as u64,
            Work::Drop(_) | Work::After(_) => 0,
        }
    }
}

/// A place in the queue.
pub(crate) struct Ticket {
    pub(crate) place: Place,
    waiter: Arc<Waiter>,
    leads: bool,
    /// Submissions under way, this one included.
    under_way: usize,
}

impl QueueState {
    /// Keeps the room of rows that have been written for the next group.
    fn keep(&mut self, rows: &mut Rows) {
        if rows.has_room() {
            self.spare = std::mem::take(rows);
        }
    }
}

impl Queue {
    pub(crate) fn new(last_assigned: u64, last_time_ms: u64) -> Queue {
        let state = QueueState {
            waiting: VecDeque::new(),
            spare: Rows::default(),
            under_way: 0,
            bytes: 0,
            led: false,
            quick_groups: 0,
            last_assigned,
            last_time_ms,
            failure: String::new(),
        };
        Queue {
            state: Mutex::new(state),
            room: Condvar::new(),
            generation: AtomicU64::new(0),
            summons: Summons::default(),
            logged: AtomicU64::new(last_assigned),
        }
    }

    /// Submissions that nobody has taken to the log yet, at this moment.
    fn waiting(&self) -> usize {
        self.state.lock().waiting.iter().map(|group| group.submissions.len()).sum()
    }

    /// Read before anything is judged.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Bytes of bodies on their way, at this moment: from when they are queued until they are visible.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// So many submissions, with so many bytes, are visible or have failed.
    pub(crate) fn have_arrived(&self, submissions: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.under_way -= submissions;
        state.bytes -= bytes;
        drop(state);
        if bytes > 0 {
            self.room.notify_all();
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.state.lock().under_way
    }

    /// The newest sequence in the log, for whoever leads.
    pub(crate) fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    /// Of a leader. Leaders hand over under the lock of the state, which orders this.
    pub(crate) fn note_logged(&self, last: u64) {
        self.logged.fetch_max(last, Ordering::Relaxed);
    }

    /// Makes `group`, which has been written, the next one: an empty one when fewer than `at_least` wait.
    fn take_group(&self, at_least: usize, group: &mut Group) {
        let mut state = self.state.lock();
        state.keep(&mut group.rows);
        *group = match state.waiting.front() {
            Some(next) if next.submissions.len() >= at_least => state.waiting.pop_front().unwrap_or_default(),
            _ => Group::default(),
        };
        if !group.submissions.is_empty() {
            state.quick_groups = state.quick_groups.saturating_add(1);
        }
    }
}

impl Core {
    /// Gives `work`, which was judged in `generation`, its place in the commit order, and puts it into the queue. The
    /// caller holds the stripes of all that it writes. Waits only while the queue is full.
    pub(crate) fn enqueue(&self, work: Work, generation: u64, wait: Wait) -> Result<Ticket> {
        let waiter = Waiter::new(wait);
        let (bytes, commits) = (work.bytes(), work.commits());
        let queue = &self.queue;
        let mut state = queue.state.lock();
        let is_void = || queue.generation.load(Ordering::SeqCst) != generation;
        while state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES && !is_void() {
            queue.room.wait(&mut state);
        }
        if is_void() {
            return Err(self.refusal(&state.failure));
        }
        let mut place = Place::default();
        if commits > 0 {
            // Asked under the lock, so that whoever raises the time from now on raises that of all that come later.
            place = Place { start: state.last_assigned + 1, time_ms: self.now_ms().max(state.last_time_ms) };
            state.last_assigned += commits;
            state.last_time_ms = place.time_ms;
        }
        state.under_way += 1;
        state.bytes += bytes;
        if state.waiting.back().is_none_or(|group| group.bytes > 0 && group.bytes + bytes > GROUP_BYTES) {
            let rows = std::mem::take(&mut state.spare);
            state.waiting.push_back(Group { rows, ..Group::default() });
        }
        let group = state.waiting.back_mut().expect("just made");
        group.bytes += bytes;
        let is_encoded = match &work {
            // Of a transaction it is not certain that it will be written.
            Work::Writes(writes, None) if bytes <= ENCODE_BYTES && writes.len() <= ENCODE_WRITES => {
                self.encode(&mut group.rows, writes, place);
                true
            }
            _ => false,
        };
        let submission = Submission { work, place, is_encoded, waiter: Arc::clone(&waiter), result: Ok(()) };
        group.submissions.push(submission);
        let first = !std::mem::replace(&mut state.led, true);
        let is_quick = state.quick_groups >= QUICK_GROUPS && !self.options.syncs();
        let under_way = state.under_way;
        drop(state);
        let leads = first && (wait == Wait::Blocking || is_quick);
        if first && !leads {
            queue.summons.call();
        }
        Ok(Ticket { place, waiter, leads, under_way })
    }

    /// Waits until what was queued is visible or has failed; leads the queue when it is called to.
    pub(crate) fn finish(&self, ticket: Ticket) -> Result<()> {
        let looks_of_all = if self.options.syncs() { LOOKS_SYNCED } else { LOOKS };
        let looks = looks(looks_of_all / ticket.under_way);
        if ticket.leads
            && let Some(result) = self.lead(Some(&ticket.waiter))
        {
            return result;
        }
        loop {
            match ticket.waiter.wait(looks) {
                Turn::Done(result, others) => {
                    tell(others);
                    return result;
                }
                Turn::Lead => {
                    if let Some(result) = self.lead(Some(&ticket.waiter)) {
                        return result;
                    }
                }
                Turn::Land => {
                    let mut answer = None;
                    self.land(self.landings.lander(), Some(&ticket.waiter), &mut answer);
                    if let Some(result) = answer {
                        return result;
                    }
                }
            }
        }
    }

    /// Waits until commit `basis.seq` is visible. When it never will be, says why.
    pub(crate) fn wait_for(&self, basis: Basis) -> Result<()> {
        match self.waits_for(basis) {
            true => self.finish(self.enqueue(Work::After(basis.seq), basis.generation, Wait::Blocking)?),
            false => Ok(()),
        }
    }

    /// As [`wait_for`](Core::wait_for), for somebody who waits as a future; `None` when there is nothing to wait for.
    pub(crate) fn answer_after(&self, basis: Basis) -> Result<Option<Answer>> {
        match self.waits_for(basis) {
            true => {
                let ticket = self.enqueue(Work::After(basis.seq), basis.generation, Wait::AsFuture)?;
                Ok(Some(self.answer(ticket)))
            }
            false => Ok(None),
        }
    }

    /// The answer to what was queued, for a holder that waits as a future. Leads the queue first, if it is to.
    pub(crate) fn answer(&self, ticket: Ticket) -> Answer {
        if ticket.leads {
            self.lead(None);
        }
        Answer(ticket.waiter)
    }

    /// Whether a judgement on this basis may not be told yet, or never: when its generation has ended, a later commit may
    /// be visible, and this one not have happened.
    fn waits_for(&self, basis: Basis) -> bool {
        // In this order: what was visible before the generation ended was written in it.
        basis.seq > 0 && (basis.seq > self.visible().get() || self.queue.generation() != basis.generation)
    }

    /// As [`settle`](Core::settle), and lets nothing that comes later have a time before `from_ms`.
    pub(crate) fn settle_time(&self, from_ms: u64) {
        {
            // Times are given under this lock.
            let _state = self.queue.state.lock();
            self.raise_time(from_ms);
        }
        self.settle();
    }

    /// Waits until everything that is in the queue now is visible or has failed.
    pub(crate) fn settle(&self) {
        let (generation, seq) = (self.queue.generation(), self.queue.state.lock().last_assigned);
        // What fails, now or before this comes to the queue, is settled, too.
        if let Ok(ticket) = self.enqueue(Work::After(seq), generation, Wait::Blocking) {
            let _ = self.finish(ticket);
        }
    }

    /// Takes some groups from the head of the queue to the log, sees to it that they land, and passes the lead on.
    /// Returns the answer of the leader's own submission, if it has it.
    pub(crate) fn lead(&self, own: Option<&Arc<Waiter>>) -> Option<Result<()>> {
        let mut lead = Lead { core: self, group: Group::default() };
        let mut answer = None;
        let syncs = self.options.syncs();
        let groups = if syncs { GROUPS_PER_LEAD } else { GROUPS_PER_LEAD_UNSYNCED };
        for lead_before in 0..groups {
            // A small group is led by one of its own: the fewer there are, the more one is missed who leads for others.
            // Without syncs it is over before another one is awake.
            let at_least = if lead_before > 0 && syncs && answer.is_some() { MANY } else { 1 };
            if syncs && own.is_some() && answer.is_none() {
                self.gather();
            }
            self.queue.take_group(at_least, &mut lead.group);
            let submissions = &mut lead.group.submissions;
            if submissions.is_empty() {
                break;
            }
            let visible = self.visible().get();
            // What these waited for has come.
            let is_over = |submission: &Submission| matches!(submission.work, Work::After(seq) if seq <= visible);
            if submissions.iter().any(is_over) {
                let (over, rest): (Submissions, _) = std::mem::take(submissions).into_iter().partition(is_over);
                *submissions = rest;
                self.queue.have_arrived(over.len(), 0);
                let over = over.into_iter().map(|submission| (submission.waiter, Ok(()))).collect();
                deliver(over, own, &mut answer);
            }
            // A group that nobody waits for could call nobody to land it.
            if lead.group.submissions.is_empty() {
                continue;
            }
            // The end of a collection is to be visible as soon as it is in the log.
            let mut lander = None;
            if lead.group.submissions.iter().any(|submission| matches!(submission.work, Work::Drop(_))) {
                self.land_rounds(lander.insert(self.landings.lander()), own, &mut answer);
            }
            match self.log_group(&mut lead.group) {
                Ok(logged) => {
                    if logged.write_time > QUICK {
                        self.queue.state.lock().quick_groups = 0;
                    }
                    self.landings.add(logged);
                }
                Err(unlogged) => {
                    drop(lander);
                    self.fail_group(std::mem::take(&mut lead.group), unlogged, own, &mut answer);
                    break;
                }
            }
            let under_way = self.queue.under_way();
            // Whoever waits without a sync is awake, and takes over at once.
            let wait = if own.is_some() { Wait::Blocking } else { Wait::AsFuture };
            let overlap =
                if syncs { self.landings.pays_to_overlap(under_way, wait) } else { own.is_some() && under_way > 1 };
            if overlap && own.is_none() && lander.is_none() {
                // There is a thread for that, too; this one writes the next group meanwhile.
                self.landings.summons.call();
            } else if let Some(lander) = lander.or_else(|| self.landings.try_lander()) {
                if overlap {
                    // Others write the next group while this one is synced and published.
                    drop(lead);
                    self.land(lander, own, &mut answer);
                    break;
                }
                self.land(lander, own, &mut answer);
            } else if answer.is_some() || own.is_some_and(|own| own.is_called()) {
                break;
            }
        }
        answer
    }

    /// Waits until those are back who were answered a moment ago, where they can share one sync.
    fn gather(&self) {
        let Some(Returning { writers, answered }) = self.landings.returning() else { return };
        if self.landings.pays_to_overlap(writers, Wait::Blocking) {
            return;
        }
        let patience = self.landings.sync_time() / 4;
        while answered.elapsed() < patience && self.queue.waiting() < writers {
            thread::yield_now();
        }
    }

    /// Refuses a group that is not in the log, and all that was queued after it.
    fn fail_group(
        &self,
        group: Group,
        Unlogged { error, tried }: Unlogged,
        own: Option<&Arc<Waiter>>,
        answer: &mut Option<Result<()>>,
    ) {
        // What came before is not void with it; nothing else comes while this thread leads.
        self.land(self.landings.lander(), own, answer);
        let fail: Box<dyn Fn() -> Error> = if tried {
            Box::new(self.health.after_failed_write(error))
        } else {
            let refusal = error.to_string();
            Box::new(move || self.refusal(&refusal))
        };
        self.void_queue(&fail());
        self.queue.have_arrived(group.submissions.len(), group.bytes);
        let told = group.submissions.into_iter().map(|submission| (submission.waiter, Err(fail()))).collect();
        deliver(told, own, answer);
    }

    /// Ends the generation after a failure: nothing that rests on what was queued up to now will be written.
    pub(crate) fn void_queue(&self, because: &Error) {
        let queue = &self.queue;
        let (generation, refused, refusal) = {
            let mut state = queue.state.lock();
            state.failure = match because {
                Error::DiskFull(cause) => cause.to_string(),
                other => other.to_string(),
            };
            let generation = queue.generation.fetch_add(1, Ordering::SeqCst) + 1;
            let refused = std::mem::take(&mut state.waiting);
            for group in &refused {
                state.under_way -= group.submissions.len();
                state.bytes -= group.bytes;
            }
            (generation, refused, state.failure.clone())
        };
        queue.room.notify_all();
        self.pending.begin(generation);
        let refused = refused.into_iter().flat_map(|group| group.submissions);
        tell(refused.map(|submission| (submission.waiter, Err(self.refusal(&refusal)))).collect());
    }

    /// What those are told whose write was never tried.
    fn refusal(&self, failure: &str) -> Error {
        self.health.check().err().unwrap_or_else(|| Error::DiskFull(failure.into()))
    }
}

#[cfg(test)]
impl Core {
    /// Makes the caller the leader: nothing is written unless it says so.
    pub(crate) fn take_lead(&self) {
        assert!(!std::mem::replace(&mut self.queue.state.lock().led, true), "somebody leads");
    }

    /// Writes one group and lands it, and keeps the lead.
    pub(crate) fn lead_once(&self) {
        let mut group = Group::default();
        self.queue.take_group(1, &mut group);
        match self.log_group(&mut group) {
            Ok(logged) => {
                self.landings.add(logged);
                self.land(self.landings.lander(), None, &mut None);
            }
            Err(unlogged) => self.fail_group(group, unlogged, None, &mut None),
        }
    }

    pub(crate) fn pass_lead(&self) {
        drop(Lead { core: self, group: Group::default() });
    }

    pub(crate) fn wait_until_queued(&self, count: usize) {
        while self.queue.waiting() < count {
            thread::yield_now();
        }
    }
}

/// Passes the lead on when a leader is done, and answers for it when it panics, so that nobody waits for ever.
struct Lead<'a> {
    core: &'a Core,
    /// What is being written: no submissions before and after.
    group: Group,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.group.submissions.is_empty() {
            let fail = self.core.health.after_failed_sync(Error::io("the thread that wrote for this group panicked"));
            self.core.void_queue(&fail());
            tell(self.group.submissions.drain(..).map(|submission| (submission.waiter, Err(fail()))).collect());
        }
        let mut state = self.core.queue.state.lock();
        state.keep(&mut self.group.rows);
        match state.waiting.front().and_then(|group| group.submissions.first()) {
            None => state.led = false,
            Some(next) if next.waiter.wait == Wait::Blocking => next.waiter.call(Turn::Lead),
            Some(_) => self.core.queue.summons.call(),
        }
    }
}
