//! The only write path: lock stripes, judge, queue, release; one writer leads the queue to the log, one lands it.
//!
//! # The life of a write
//!
//! 1. The writer takes the stripes of all its keys, in ascending order.
//! 2. It judges its operations in order (`judge`), each against the newest version of its document: the *pending* one,
//!    if a writer before it has queued one that is not on disk yet (`pending`), else the newest visible one.
//! 3. It puts what it wants written into the queue (`queue`), and gets its commit sequences and its time there. It leaves
//!    its versions as pending, and releases its stripes: the next writer of the same key can be judged at once.
//! 4. If nobody leads, it leads; otherwise it waits, by sleeping or as a future.
//! 5. The leader takes the queue as it stands, encodes what is left of it into one RocksDB write batch and writes that to
//!    the log, without a sync: one append for everybody in the group (`log_group`). Its rows come to RocksDB later
//!    (`backlog`); whoever reads finds them at once.
//! 6. The lander, mostly the leader itself, syncs the log under `Durability::Sync`: one sync for all groups that are in it
//!    (`landing`). It publishes the last sequence of each as visible, takes its versions out of the pending ones, and
//!    answers its writers. Where it pays, the next group is written to the log meanwhile.
//!
//! A transaction's batch brings along what it read elsewhere. The leader, who comes to the batches in commit order,
//! refuses it if any of that has changed before its place (`reads`). So it is not certain that it will be written, and
//! nobody may build on it: it leaves no pending versions, and keeps its stripes to the end. So does a bulk load, which
//! has nothing to win; and the drop of a collection, which takes all stripes, so that nothing is judged before it and
//! queued after it.
//!
//! # Why it is right
//!
//! * *Judge and write are one atomic step.* The queue is the commit order. A writer enters it under the stripes of its
//!   keys, and what it was judged against is the newest that is in the queue or was: nobody can come between.
//! * *Nobody is told of what a power cut could take back.* Reads look no further than the visible sequence, which moves
//!   only after the sync. A writer is told of its success when its own group is published, which is after every group
//!   that it was judged by. A failed precondition, a refusing closure, and a batch that turns out to write nothing are
//!   answered only when all pending versions that they were judged by are visible (`Core::wait_for`). Without
//!   that, a loser would read the old version again, lose again, and spin. (Under `Buffered` the same holds with
//!   "written" in place of "synced".) Only an update closure sees a pending version, and what it makes of it.
//! * *Commits become visible in sequence order, and the log holds them in that order*, because sequences are given in
//!   queue order, one leader at a time writes them, and one lander at a time publishes them. So what a crash leaves is a
//!   prefix, and a reader that has seen sequence n has everything up to n. Rows can be read before they are visible;
//!   every read names the sequence that it reads at, and so passes them by. A sequence whose transaction was refused is
//!   not used; nobody ever hears of it.
//! * *Nothing builds on what failed.* When a group fails, the generation ends (`queue`): everybody who was judged by
//!   its versions, or by the versions of those, is refused.
//! * *After a failed sync* the kernel may have dropped the dirty pages and called them clean, so syncing again proves
//!   nothing. The outcome of all that was in the log and not visible is unknown, and no later write may build on it: the
//!   store takes no more writes until it is reopened. A disk that is full when a group is *written* is different: the log has
//!   nothing of the group, and nothing is built on it. Nor is it tried while RocksDB has no space for what is in the log.
//!
//! # Rejected
//!
//! * *Holding the stripes through the sync*: one write of a hot key per sync, where one sync could carry hundreds.
//! * *Letting readers see pending versions*: what they saw may be gone after a power cut.
//! * *A committer thread for everybody*: a lone writer then pays two thread hand-overs for each write, several times
//!   what the write itself costs without a sync.
//! * *Writing and syncing in one call*: with 64 writers, nobody writes while the disk syncs, and the disk waits while
//!   somebody writes. Always overlapping the two is no better: it makes two groups of writers that sync in turn.
//! * *Each writer its own RocksDB write, sequence taken beforehand*: RocksDB groups these as well, but not in sequence
//!   order, so a crash could leave n without n - 1, and visibility needs a list of holes.

use std::sync::Arc;

use crate::CommitSeq;
use crate::batch::Operation;
use crate::collection::CollectionState;
use crate::document::Written;
use crate::encoding::{self, CollectionNumber, ExpiryRow, FeedKind, VersionKind};
use crate::error::Result;
use crate::judge::{IN_UPDATE, JudgedWrite, Receipt, Receipts, WAITS_FOR_ITSELF, refuse_in_update, rest_of_unit};
use crate::landing::{Logged, Unlogged};
use crate::pending::Head;
use crate::queue::{Basis, Group, Place, Ticket, Work};
use crate::reads::{Reads, Validator};
use crate::rocks::Rows;
use crate::store::Core;
use crate::sync::Stopwatch;
use crate::ttl::NEVER_MS;
use crate::waiter::Wait;

/// A batch that was judged, and is queued if there is anything to write.
pub(crate) enum Judged {
    /// It is in the queue.
    Queued { ticket: Ticket, receipts: Receipts, operations: usize },
    /// It writes nothing, or may not happen. This is what to say when its basis is visible.
    Answer(Basis, Result<Vec<Option<Written>>>),
}

impl Core {
    /// Carries out a batch: all of it, or none of it. Given what a transaction read, only if nothing of that has
    /// changed when the batch gets its place in the commit order.
    pub(crate) fn commit(&self, operations: Vec<Operation<'_>>, reads: Option<Reads>) -> Result<Vec<Option<Written>>> {
        refuse_in_update(WAITS_FOR_ITSELF)?;
        if reads.is_none() {
            return match self.judge_and_queue(operations, Wait::Blocking)? {
                Judged::Queued { ticket, receipts, operations } => {
                    let place = ticket.place;
                    self.finish(ticket)?;
                    Ok(self.results(place, &receipts, operations))
                }
                Judged::Answer(basis, answer) => self.wait_for(basis).and(answer),
            };
        }
        let mut basis = self.basis()?;
        let count = operations.len();
        let guards = self.stripes.lock(operations.iter().map(|operation| &operation.prefix[..]));
        let mut writes = Vec::with_capacity(count);
        if let Err(error) = self.judge(operations, &mut basis, &mut writes) {
            drop(guards);
            return self.wait_for(basis).and(Err(error));
        }
        let receipts: Receipts = writes.iter().map(JudgedWrite::receipt).collect();
        let ticket = self.enqueue(Work::Writes(Arc::new(writes), reads), basis.generation, Wait::Blocking)?;
        let place = ticket.place;
        self.finish(ticket)?;
        drop(guards);
        Ok(self.results(place, &receipts, count))
    }

    /// Judges a batch and puts it into the queue. Its stripes are free on return.
    pub(crate) fn judge_and_queue(&self, operations: Vec<Operation<'_>>, wait: Wait) -> Result<Judged> {
        let mut basis = self.basis()?;
        let count = operations.len();
        let guards = self.stripes.lock(operations.iter().map(|operation| &operation.prefix[..]));
        let mut writes = Vec::with_capacity(count);
        if let Err(error) = self.judge(operations, &mut basis, &mut writes) {
            return Ok(Judged::Answer(basis, Err(error)));
        }
        if writes.is_empty() {
            return Ok(Judged::Answer(basis, Ok(vec![None; count])));
        }
        let receipts: Receipts = writes.iter().map(JudgedWrite::receipt).collect();
        let writes = Arc::new(writes);
        let ticket = self.enqueue(Work::Writes(Arc::clone(&writes), None), basis.generation, wait)?;
        self.leave_pending(&writes, ticket.place, basis.generation);
        drop(guards);
        Ok(Judged::Queued { ticket, receipts, operations: count })
    }

    /// What a judgement that begins now rests on.
    fn basis(&self) -> Result<Basis> {
        // In this order: a failure is in the health before its generation ends.
        let generation = self.queue.generation();
        self.health.check()?;
        Ok(Basis { generation, seq: 0 })
    }

    /// Leaves what was queued to the next writers of the same documents. Called under their stripes.
    fn leave_pending(&self, writes: &[JudgedWrite], place: Place, generation: u64) {
        for (index, write) in writes.iter().enumerate() {
            let seq = place.start + index as u64;
            let header = write.header(place.start, place.time_ms);
            self.pending.insert(&write.prefix, Head { seq, header, body: write.body.clone(), generation });
        }
        // The leader may have been faster, and found nothing to take away.
        let last = place.start + writes.len() as u64 - 1;
        if self.visible().get() >= last || self.queue.generation() != generation {
            self.take_pending(writes, place);
        }
    }

    fn take_pending(&self, writes: &[JudgedWrite], place: Place) {
        for (index, write) in writes.iter().enumerate() {
            self.pending.remove(&write.prefix, place.start + index as u64);
        }
    }

    /// One entry per operation.
    pub(crate) fn results(&self, place: Place, receipts: &[Receipt], operations: usize) -> Vec<Option<Written>> {
        let mut results = vec![None; operations];
        for (index, receipt) in receipts.iter().enumerate() {
            if let Some(position) = receipt.position {
                results[position] = Some(receipt.written(self, place, index));
            }
        }
        results
    }

    /// Carries out each operation as a batch of its own, in order, up to the first that fails; all that come before it
    /// share one write to disk. Returns what was written, and what failed.
    pub(crate) fn commit_each(&self, operations: Vec<Operation<'_>>) -> (Vec<Written>, Result<()>) {
        let mut basis = match refuse_in_update(WAITS_FOR_ITSELF).and_then(|()| self.basis()) {
            Ok(basis) => basis,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let _guards = self.stripes.lock(operations.iter().map(|operation| &operation.prefix[..]));
        let mut writes = Vec::with_capacity(operations.len());
        let judged = self.judge(operations, &mut basis, &mut writes);
        if writes.is_empty() {
            return (Vec::new(), self.wait_for(basis).and(judged));
        }
        for write in &mut writes {
            write.alone = true;
        }
        let receipts: Receipts = writes.iter().map(JudgedWrite::receipt).collect();
        let queued = self.enqueue(Work::Writes(Arc::new(writes), None), basis.generation, Wait::Blocking);
        match queued.and_then(|ticket| Ok((ticket.place, self.finish(ticket)?))) {
            Ok((place, ())) => {
                let asked = receipts.iter().enumerate().filter(|(_, receipt)| receipt.position.is_some());
                (asked.map(|(index, receipt)| receipt.written(self, place, index)).collect(), judged)
            }
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// Ends a collection: nothing that is judged later is written to it.
    pub(crate) fn commit_drop(&self, collection: &Arc<CollectionState>) -> Result<()> {
        refuse_in_update("a collection cannot be dropped inside an update closure")?;
        let _guards = self.stripes.lock_all();
        let basis = self.basis()?;
        self.finish(self.enqueue(Work::Drop(Arc::clone(collection)), basis.generation, Wait::Blocking)?)
    }

    /// Waits for the writers of a document that are under way. A writer judged by an earlier time than the caller's
    /// may have found a document that has expired since; what it writes comes before whatever the caller tells.
    pub(crate) fn wait_for_writers(&self, prefix: &[u8]) -> Result<()> {
        // Inside an update closure the stripe may be this thread's own, and then nobody else is being judged.
        if !IN_UPDATE.get() {
            drop(self.stripes.lock(std::iter::once(prefix)));
        }
        let generation = self.queue.generation();
        match self.pending.get(prefix, generation) {
            Some(head) => self.wait_for(Basis { generation, seq: head.seq }),
            None => Ok(()),
        }
    }

    /// Waits until whatever was judged before is visible or has failed.
    pub(crate) fn wait_for_all_writers(&self) {
        drop(self.stripes.lock_all());
        self.settle();
    }

    /// Writes a group to the log. Called by one leader at a time. Leaves it without submissions, and its rows empty; when
    /// it fails, its submissions are still there to be refused.
    pub(crate) fn log_group(&self, group: &mut Group) -> Result<Logged, Unlogged> {
        // A failure of a sync, or of the flusher, is known only now.
        self.health.check().map_err(|error| Unlogged { error, tried: false })?;
        let epoch = self.epochs.for_write();
        let mut logged = Logged::default();
        let mut first = None;
        let mut validator = Validator::new(self, &group.submissions);
        let rows = &mut group.rows;
        for submission in &mut group.submissions {
            submission.result = match &submission.work {
                Work::Writes(writes, reads) => {
                    let valid = reads.as_ref().map_or(Ok(()), |reads| validator.check(reads, submission.place));
                    if valid.is_ok() && !writes.is_empty() {
                        let place = submission.place;
                        if !submission.is_encoded {
                            self.encode(rows, writes, place);
                        }
                        first.get_or_insert(place.start);
                        logged.last = place.start + writes.len() as u64 - 1;
                        logged.time_ms = place.time_ms;
                        logged.commits += writes.len() as u64;
                        validator.note(writes, place);
                    }
                    valid
                }
                Work::Drop(collection) if collection.check_live().is_err() => Err(collection.dropped_error()),
                Work::Drop(collection) => {
                    logged.drops = true;
                    self.encode_drop(rows, collection.number);
                    Ok(())
                }
                Work::After(_) => Ok(()),
            };
        }
        if first.is_some() || logged.drops {
            if let Some(first) = first.filter(|_| epoch.is_new) {
                self.rocks.put_meta(rows, &encoding::epoch_key(first), &epoch.number.to_le_bytes());
            }
            let begun = Stopwatch::start();
            self.rocks.write(rows).map_err(|error| Unlogged { error, tried: true })?;
            self.health.after_write();
            logged.write_time = begun.elapsed();
            // At least up to here the log is on disk when it is synced next; others may have written to it as well.
            logged.log_end = self.rocks.log_end();
            if first.is_some() {
                self.epochs.written();
            }
        }
        self.queue.note_logged(logged.last);
        rows.clear();
        Ok(Logged { bytes: group.bytes, submissions: std::mem::take(&mut group.submissions), ..logged })
    }

    /// Makes visible what a group has written, now that it is durable. Called in commit order.
    pub(crate) fn publish_group(&self, group: &Logged) {
        let last = self.visible().max(CommitSeq::new(group.last));
        self.raise_time(group.time_ms);
        for submission in &group.submissions {
            match (&submission.work, &submission.result) {
                (Work::Drop(collection), _) => collection.mark_dropped(),
                (Work::Writes(writes, _), Ok(())) => {
                    self.cache_written(writes, submission.place);
                    writes.iter().for_each(|write| write.collection.note_change(last.get()));
                }
                (Work::Writes(..), Err(_)) | (Work::After(_), _) => {}
            }
        }
        if group.commits > 0 || group.drops {
            // Also where it is the same as before: whoever waits for a collection that was dropped is to learn of it.
            self.publish(last);
        }
        for submission in &group.submissions {
            if let Work::Writes(writes, None) = &submission.work {
                self.take_pending(writes, submission.place);
            }
        }
    }

    /// Encodes the writes of one batch.
    pub(crate) fn encode(&self, rows: &mut Rows, writes: &[JudgedWrite], place: Place) {
        for (index, write) in writes.iter().enumerate() {
            let seq = place.start + index as u64;
            let header = write.header(place.start, place.time_ms);
            self.rocks.put_version(rows, &write.prefix, seq, &header, &write.body);

            if let Some(ttl_ms) = header.ttl_ms.filter(|&ttl_ms| ttl_ms != NEVER_MS) {
                let (time_ms, collection) = (place.time_ms.saturating_add(ttl_ms), write.collection.number);
                let row = ExpiryRow { seq, time_ms, collection, id: &write.id };
                self.rocks.put_expiry(rows, &row.key(), &row.value());
            }
            let kind = match (write.kind, header.created) {
                (VersionKind::Tombstone, _) if write.expired => FeedKind::Expired,
                (VersionKind::Tombstone, _) => FeedKind::Deleted,
                (VersionKind::Document, 0) => FeedKind::Created,
                (VersionKind::Document, _) => FeedKind::Replaced,
            };
            // A batch has at most `MAX_BATCH_OPERATIONS` writes, and as many expiries, so the rest of it always fits.
            let rest = match write.alone {
                false => (writes.len() - index - 1) as u32,
                true => rest_of_unit(&writes[index..]),
            };
            self.rocks.put_feed(rows, seq, kind, rest, &header, (write.collection.number, &write.id));
        }
    }

    /// Puts what was written into the cache, before anybody may see it.
    fn cache_written(&self, writes: &[JudgedWrite], place: Place) {
        for (index, write) in writes.iter().enumerate() {
            let seq = place.start + index as u64;
            // A load would wash out what is asked for again and again.
            if write.alone {
                self.cache.superseded(&write.prefix, seq);
                continue;
            }
            let header = write.header(place.start, place.time_ms);
            self.cache.written(&write.prefix, seq, header, &write.body);
            if let Some(ttl_ms) = header.ttl_ms {
                self.signal.due_at(place.time_ms.saturating_add(ttl_ms));
            }
        }
    }

    /// Its versions stay until everybody knows, and its horizon until its feed rows are swept away: it says which of them
    /// are missing already (`trim`).
    fn encode_drop(&self, rows: &mut Rows, number: CollectionNumber) {
        self.rocks.delete_meta(rows, &encoding::collection_key(number));
        self.rocks.put_meta(rows, &encoding::dropped_key(number), b"");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::{Change, Collection, CommitHandle, Error, Options, Precondition, Store};

    /// A store in which nothing is written until the test leads the queue.
    struct Led {
        _dir: tempfile::TempDir,
        store: Store,
        docs: Collection,
    }

    impl Led {
        fn new() -> Led {
            let dir = tempfile::tempdir().expect("temporary directory");
            let options = Options::default().background_maintenance(false);
            let store = options.open(dir.path().join("store")).expect("open");
            let docs = store.collection("docs").expect("collection");
            docs.put("a", "1", Precondition::Absent).expect("put");
            store.inner().take_lead();
            Led { _dir: dir, store, docs }
        }

        fn put(&self, id: &str, body: &str, precondition: impl Into<Precondition>) -> CommitHandle {
            let mut batch = self.store.batch();
            batch.put(&self.docs, id, body, precondition);
            batch.submit()
        }

        /// Appends to a document.
        fn append(&self, id: &str, more: &'static str) -> CommitHandle {
            let mut batch = self.store.batch();
            batch.update(&self.docs, id, move |current| {
                let mut body = current.map_or_else(Vec::new, |document| document.body.to_vec());
                body.extend_from_slice(more.as_bytes());
                Ok(Change::Put(body))
            });
            batch.submit()
        }

        fn body(&self, id: &str) -> Option<String> {
            let document = self.docs.get(id).expect("get")?;
            Some(String::from_utf8(document.body.to_vec()).expect("UTF-8"))
        }
    }

    fn is_waiting(handle: &mut CommitHandle) -> bool {
        matches!(pin!(handle).poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }

    #[test]
    fn writers_of_one_document_build_on_each_other_before_anything_is_on_disk() {
        let led = Led::new();
        let handles = ["2", "3", "4"].map(|more| led.append("a", more));
        assert_eq!(led.body("a").as_deref(), Some("1"), "readers see what is durable");
        let groups = led.store.stats().groups;
        led.store.inner().lead_once();
        let written = handles.map(|handle| handle.wait().expect("committed").remove(0).expect("written"));
        assert_eq!(led.body("a").as_deref(), Some("1234"));
        assert_eq!(led.store.stats().groups, groups + 1, "one write to disk for all");
        assert_eq!([written[1].replaced, written[2].replaced], [Some(written[0].etag), Some(written[1].etag)]);
        assert_eq!(led.docs.get("a").expect("get").expect("there").etag, written[2].etag);
        assert_eq!(led.store.inner().pending.count(), 0);
    }

    #[test]
    fn a_loser_is_told_when_the_winner_is_visible_and_not_before() {
        let led = Led::new();
        let first = led.docs.get("a").expect("get").expect("there").etag;
        let winner = led.put("a", "2", first);
        let mut losers = [led.put("a", "3", first), led.put("a", "3", Precondition::Absent)];
        let mut batch = led.store.batch();
        batch.check(&led.docs, "a", Precondition::Present);
        let mut check = batch.submit();
        assert!(losers.iter_mut().all(is_waiting) && is_waiting(&mut check));
        // A loser that was judged by what is visible has nothing to wait for.
        let mut elsewhere = led.put("b", "1", Precondition::Present);
        assert!(!is_waiting(&mut elsewhere));
        led.store.inner().lead_once();
        let won = winner.wait().expect("committed").remove(0).expect("written");
        for loser in losers {
            match loser.wait() {
                Err(Error::Conflict(conflict)) => assert_eq!(conflict.current, Some(won.etag)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(check.wait().expect("present"), [None]);
    }

    #[test]
    fn what_was_judged_by_a_group_that_failed_fails_with_it_and_leaves_nothing() {
        let led = Led::new();
        let core = led.store.inner();
        let doomed = [led.append("a", "2"), led.append("a", "3"), led.append("b", "1")];
        let loser = led.put("a", "x", Precondition::Absent);
        // Judged before the failure, and queued after it.
        let generation = core.queue.generation();
        core.void_queue(&Error::DiskFull("no space".into()));
        let late = core.enqueue(Work::After(0), generation, Wait::AsFuture);
        assert!(matches!(late.map(drop), Err(Error::DiskFull(_))));
        for handle in doomed.into_iter().chain([loser]) {
            assert!(matches!(handle.wait(), Err(Error::DiskFull(cause)) if cause.to_string() == "no space"));
        }
        assert_eq!(core.pending.count(), 0);
        // With space again, the next is judged by what is visible.
        let again = led.append("a", "4");
        core.lead_once();
        let written = again.wait().expect("committed").remove(0).expect("written");
        assert_eq!((led.body("a").as_deref(), led.body("b")), (Some("14"), None));
        assert!(written.seq.get() > 4, "the sequences of those that failed are used up");
        assert_eq!(led.store.last_commit(), written.seq);
    }

    #[test]
    fn a_refused_transaction_leaves_a_gap_that_nobody_hears_of() {
        let led = Led::new();
        let (store, docs) = (&led.store, &led.docs);
        let before = store.last_commit();
        std::thread::scope(|scope| {
            let mut transaction = store.begin();
            transaction.get(docs, "a").expect("get");
            transaction.put(docs, "b", "1", Precondition::Any).expect("put");
            let write = led.append("a", "2");
            let refused = scope.spawn(|| transaction.commit());
            store.inner().wait_until_queued(2);
            store.inner().lead_once();
            let written = write.wait().expect("committed").remove(0).expect("written");
            assert!(matches!(refused.join().expect("join"), Err(Error::Conflict(_))));
            assert_eq!((store.last_commit(), written.seq.get()), (written.seq, before.get() + 1));
        });
        let next = led.append("a", "3");
        store.inner().lead_once();
        assert_eq!(next.wait().expect("committed").remove(0).expect("written").seq.get(), before.get() + 3);
        assert!(store.verify(|_| {}).expect("verify").is_sound());
    }

    #[test]
    fn closing_a_store_writes_what_is_queued() {
        let Led { _dir: dir, store, docs } = Led::new();
        let mut batch = store.batch();
        batch.put(&docs, "b", "1", Precondition::Absent);
        let handle = batch.submit();
        // The lead goes to the store's own thread.
        store.inner().pass_lead();
        drop((store, docs));
        assert!(handle.wait().expect("committed")[0].is_some());
        let store = Store::open(dir.path().join("store")).expect("open");
        assert!(store.collection("docs").expect("collection").get("b").expect("get").is_some());
    }
}
