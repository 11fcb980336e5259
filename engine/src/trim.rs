//! Drops what retention no longer keeps. Owns the walk along the feed that finds it; `retention` judges, `maintenance`
//! decides when.
//!
//! # How
//!
//! Whatever superseded a version left a row in the feed, and the feed is in the order of time. So a walk along the
//! feed, up to the first row that is younger than the age to keep, passes every document that has something to drop,
//! once for each write to it. Nothing else is ever looked at: the work is proportional to the writes, not to the
//! documents. Collections that keep versions for the same age share a walk and its *trim position*.
//!
//! A feed row names the version that its commit superseded, so most of the time nothing else is read: that version
//! goes, and everything older went on account of earlier rows. A document's own rows are looked at only where this is
//! not known: where versions are kept by count, and where something was passed over before.
//!
//! Rows are taken in steps of some thousand. A step is one RocksDB write batch that deletes version rows and feed
//! rows and moves the trim position and the horizons: a crash leaves all of a step or nothing of it. It is not a
//! commit: it has no sequence, and nobody is told. It is not synced either; a step that a power cut takes back is
//! done again.
//!
//! A version that a snapshot reads is passed over, and the walk remembers where; when that snapshot is gone, it goes
//! back to there. The position on disk never passes such a place, so a crash forgets no version. What superseded it may
//! have gone with its row meanwhile; then it goes when the walk comes to the next row of its document that is left.
//! Cursors of the feed stop the walk: they need everything that comes after them.
//!
//! The newest row that is old enough stays, also when it is a tombstone that nobody needs: it is what a reader of the
//! past finds who asks for a time since then, and the horizon must not be above it. It goes when another row of the
//! walk's collections has come of age.
//!
//! What a dropped collection left is swept away by a walk of its own: its versions at once, then its rows in the feed.
//! Nobody holds that back: a collection is gone for everybody at once. But it begins only when the drop is on disk and
//! every handle knows of it. Before, a power cut could bring back a collection whose files are gone already, and readers
//! would find it empty without being told why.
//!
//! # Why readers never see the gap
//!
//! Dropping a version that was current at p and superseded at s makes states from p to s - 1 incomplete. Before a step
//! deletes anything it raises the collection's *horizon* to s or above, in memory, under the lock under which holds in
//! the past are taken. Then:
//!
//! * A snapshot of the past is refused for a collection whose horizon is above it, or its hold was there first and the
//!   step is computed again with it.
//! * A snapshot of the present is at or above every s of the step, as is every later one.
//! * A plain read takes no hold. It chooses the visible sequence V, opens a RocksDB iterator (a fixed view of the
//!   rows), and then looks at the horizon. If that is at or below V, then no deletion in its view concerned a state
//!   that V belongs to, because horizons are raised before deletions are written. Otherwise it reads again, at a newer
//!   V: horizons never pass the visible sequence, so this ends.
//! * A writer judges at V under the stripe of its document, so the version that is newest at V is not superseded, and
//!   stays. A tombstone may go, but reads the same as its absence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::collection::CollectionState;
use crate::encoding::{
    self, CollectionNumber, FeedKind, FeedRow, Horizon, KeyBytes, TrimPosition, VersionHeader, VersionKind,
};
use crate::error::Result;
use crate::judge::refuse_in_update;
use crate::retention::{self, Chain, Retention, Row};
use crate::rocks::{Cursor, Rows};
use crate::store::Core;
use crate::watermark::Needs;

/// Feed rows that a step looks at.
const STEP_ROWS: usize = 8192;
/// Rows that a write batch deletes, about: a step that has more writes several, and moves its position in the last.
const BATCH_DELETIONS: usize = 20_000;

/// How far each walk has come, by the age that its collections keep.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    by_age: BTreeMap<u64, Walk>,
    sweep: Sweep,
}

/// The walk that takes away the feed rows of dropped collections. It begins anew with each drop, and at opening.
#[derive(Debug, Default)]
struct Sweep {
    numbers: BTreeSet<CollectionNumber>,
    position: u64,
}

#[derive(Debug, Clone, Default)]
struct Walk {
    /// All rows up to here were looked at, and
    position: u64,
    /// all rows up to here some time or other, with something passed over.
    looked: u64,
    /// By the sequence that somebody read at: the lowest row that has something to drop once nobody does.
    deferred: BTreeMap<u64, u64>,
    /// The newest row that is old enough, if that is a tombstone which could go but for that.
    waiting: Option<u64>,
    /// What the row on disk says is done.
    stored: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Versions dropped.
    pub(crate) dropped: u64,
    /// Whether the next step has something to look at right away.
    pub(crate) more: bool,
    /// When there will be something, as far as is known.
    pub(crate) due_ms: Option<u64>,
    /// Whether the next commit may be due sooner.
    pub(crate) at_end: bool,
    /// Whether something could go if a hold were not there.
    pub(crate) held: bool,
}

/// Deletions on their way to disk.
#[derive(Default)]
struct Plan {
    /// Keys of version rows, by sequence. In this order a version goes before the one that superseded it, so that a
    /// step cut short in the middle leaves no gap that the next one does not see.
    deletions: BTreeMap<u64, KeyBytes>,
    horizons: HashMap<CollectionNumber, Horizon>,
    deferred: BTreeMap<u64, u64>,
    /// The newest row of the walk's collections.
    newest: u64,
    /// That row, if it is a tombstone that can go as soon as there is a newer one.
    last_tombstone: Option<Tombstone>,
    waiting: Option<u64>,
    /// The walk must go back to the tombstone that it let wait.
    go_back: bool,
    /// Documents to be looked at, with the newest row that names them.
    documents: BTreeMap<KeyBytes, u64>,
    /// The last row of the step.
    end: u64,
    step: Step,
}

struct Tombstone {
    seq: u64,
    prefix: KeyBytes,
    collection: CollectionNumber,
}

impl Walks {
    pub(crate) fn new(positions: Vec<(u64, TrimPosition)>) -> Walks {
        let walk = |(age, TrimPosition { done, looked })| {
            (age, Walk { position: done, looked, stored: done, ..Walk::default() })
        };
        Walks { by_age: positions.into_iter().map(walk).collect(), sweep: Sweep::default() }
    }

    /// Lets a collection that kept versions for `from` do so for `to` (`None`: for ever), and returns the row to
    /// store. With `afresh`, versions that were passed over may go now, so the walk begins at the beginning. `last`:
    /// the newest visible sequence.
    pub(crate) fn change_age(
        &mut self,
        from: Option<u64>,
        to: Option<u64>,
        afresh: bool,
        last: u64,
    ) -> Option<(u64, TrimPosition)> {
        let to = to?;
        let before = match from.map(|from| self.by_age.entry(from).or_default()) {
            Some(walk) if !afresh => walk.to_store(),
            _ => TrimPosition { done: 0, looked: last },
        };
        let walk = self.by_age.entry(to).or_insert_with(|| Walk { position: before.done, ..Walk::default() });
        walk.looked = walk.looked.max(before.looked).max(walk.position);
        walk.position = walk.position.min(before.done);
        let store = walk.to_store();
        walk.stored = store.done;
        Some((to, store))
    }
}

impl Walk {
    fn to_store(&self) -> TrimPosition {
        let lowest = self.deferred.values().chain(&self.waiting).min().map_or(u64::MAX, |row| row - 1);
        if lowest >= self.position {
            return TrimPosition { done: self.position, looked: self.looked };
        }
        TrimPosition { done: lowest, looked: self.looked.max(self.position) }
    }

    /// Goes back to what readers kept that are gone.
    fn resume(&mut self, needs: &Needs) {
        let mut back_to = self.position;
        self.deferred.retain(|at, row| {
            let held = needs.at.binary_search(at).is_ok();
            if !held {
                back_to = back_to.min(*row - 1);
            }
            held
        });
        self.go_back(back_to);
    }

    fn go_back(&mut self, to: u64) {
        if to < self.position {
            self.looked = self.looked.max(self.position);
            self.position = to;
        }
        // What it comes to again does not wait.
        self.waiting = self.waiting.filter(|&row| row <= self.position);
    }
}

impl Core {
    pub(crate) fn set_retention(&self, collection: &CollectionState, retention: Retention) -> Result<()> {
        refuse_in_update("retention cannot be set inside an update closure")?;
        // In this order, as the background work takes them. The second is held throughout, so that a drop of the
        // collection comes wholly before or after.
        let mut upkeep = self.upkeep.lock();
        let _collections = self.collections.lock();
        collection.check_live()?;
        self.health.check()?;
        let before = collection.retention();
        let mut rows = Rows::default();
        let record = encoding::encode_record(&collection.record(retention, collection.ttl()))?;
        self.rocks.put_meta(&mut rows, &encoding::collection_key(collection.number), &record);
        let afresh = retention.counts_less_than(before);
        let last = self.visible().get();
        let changed = upkeep.walks.change_age(before.keep_ms, retention.keep_ms, afresh, last);
        if let Some((age_ms, position)) = changed {
            self.rocks.put_meta(&mut rows, &encoding::trim_key(age_ms), &encoding::trim_value(position));
        }
        self.write_durably(rows)?;
        collection.set_retention(retention);
        self.signal.wake();
        Ok(())
    }
}

/// One step of every walk. `now_ms` is never earlier than the last commit's time.
pub(crate) fn step(core: &Core, walks: &mut Walks, now_ms: u64) -> Result<Step> {
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    for state in core.live_collections() {
        let retention = state.retention();
        if let Some(age_ms) = retention.keep_ms {
            groups.entry(age_ms).or_default().insert(state.number, (state, retention.keep_versions));
        }
    }
    let mut total = sweep(core, &mut walks.sweep)?;
    for (age_ms, group) in groups {
        let walk = walks.by_age.entry(age_ms).or_default();
        let step = loop {
            // Computed again when a hold in the past came between.
            if let Some(step) = step_of(core, walk, &group, age_ms, now_ms)? {
                break step;
            }
        };
        total.dropped += step.dropped;
        total.more |= step.more;
        total.held |= step.held;
        total.at_end |= step.at_end;
        total.due_ms = total.due_ms.into_iter().chain(step.due_ms).min();
    }
    Ok(total)
}

/// One step of the walk that takes away what dropped collections left in the feed.
fn sweep(core: &Core, sweep: &mut Sweep) -> Result<Step> {
    let dropped = core.rocks.meta_rows(encoding::DROPPED_PREFIX)?;
    let mut numbers = dropped.iter().map(|(key, _)| encoding::dropped_of_key(key)).collect::<Result<BTreeSet<_>>>()?;
    // A drop that is in the log and not on disk yet, or never will be: until it is, its collection is live.
    for state in core.live_collections() {
        numbers.remove(&state.number);
    }
    let mut step = Step::default();
    if numbers.is_empty() {
        return Ok(step);
    }
    if numbers != sweep.numbers {
        sweep_versions(core, numbers.difference(&sweep.numbers))?;
        *sweep = Sweep { numbers, position: 0 };
    }
    let last = core.visible().get();
    let mut rows = Rows::default();
    let mut swept = core.rocks.meta(encoding::SWEPT_KEY)?.map_or(Ok(0), |value| encoding::swept(&value))?;
    let mut cursor = core.rocks.feed(sweep.position + 1, last);
    for _ in 0..STEP_ROWS {
        let Some(row) = cursor.row()?.map(|(key, value)| encoding::feed_row(key, value)).transpose()? else {
            for number in &sweep.numbers {
                swept = swept.max(finish_sweep(core, &mut rows, *number)?);
            }
            core.rocks.put_meta(&mut rows, encoding::SWEPT_KEY, &swept.to_le_bytes());
            core.write_rows(rows)?;
            *sweep = Sweep::default();
            return Ok(step);
        };
        let seq = row.position.seq;
        if sweep.numbers.contains(&row.collection) {
            if seq == last {
                // Its place is needed until there is another commit.
                step.at_end = true;
                core.write_rows(rows)?;
                return Ok(step);
            }
            core.rocks.delete_feed(&mut rows, &encoding::feed_key(seq));
            // An earlier sweep may have gone further.
            swept = swept.max(seq + 1);
            core.rocks.put_meta(&mut rows, encoding::SWEPT_KEY, &swept.to_le_bytes());
            step.dropped += 1;
        }
        sweep.position = seq;
        cursor.advance();
    }
    core.write_rows(rows)?;
    step.more = true;
    Ok(step)
}

/// Takes away the versions of dropped collections.
fn sweep_versions<'a>(core: &Core, numbers: impl Iterator<Item = &'a CollectionNumber> + Clone) -> Result<()> {
    let keys = numbers.map(|&number| (encoding::collection_start(number), encoding::collection_start(number + 1)));
    let mut rows = Rows::default();
    keys.clone().for_each(|(start, end)| core.rocks.delete_versions(&mut rows, &start, &end));
    core.write_rows(rows)?;
    for (start, end) in keys {
        // They are gone; this only gives space back sooner than compaction would.
        let _ = core.rocks.reclaim_versions(&start, &end);
    }
    Ok(())
}

/// Takes away what is left of a dropped collection besides versions and feed rows. Returns its horizon, below which
/// retention had taken feed rows before the drop.
fn finish_sweep(core: &Core, rows: &mut Rows, number: CollectionNumber) -> Result<u64> {
    let prefix = encoding::parked_prefix(number);
    let mut cursor = core.rocks.expiry(&prefix);
    while let Some((key, _)) = cursor.row()?.filter(|(key, _)| key.starts_with(&prefix)) {
        core.rocks.delete_expiry(rows, key);
        cursor.advance();
    }
    let key = encoding::horizon_key(number);
    let horizon = core.rocks.meta(&key)?.map(|value| encoding::horizon_of_row(&key, &value)).transpose()?;
    core.rocks.delete_meta(rows, &key);
    core.rocks.delete_meta(rows, &encoding::dropped_key(number));
    Ok(horizon.map_or(0, |(_, horizon)| horizon.complete))
}

/// The collections of a walk, with how many superseded versions each keeps.
type Group = HashMap<CollectionNumber, (Arc<CollectionState>, u32)>;

/// One step of one walk; `None` when it must be computed again.
fn step_of(core: &Core, walk: &mut Walk, group: &Group, age_ms: u64, now_ms: u64) -> Result<Option<Step>> {
    // In this order: who takes hold after he was not asked does it at `last` or later, and needs nothing that was superseded
    // by then. The other way round a snapshot could come between the two, and a commit after it.
    let last = core.visible().get();
    let needs = core.watermark.needs();
    walk.resume(&needs);
    let mut plan = Plan { end: walk.position, ..Plan::default() };
    read_feed(core, walk, group, &needs, last, age_ms, now_ms, &mut plan)?;
    if let Some(row) = walk.waiting.filter(|_| plan.go_back) {
        walk.go_back(row - 1);
        return Ok(None);
    }
    read_documents(core, group, &needs, &mut plan)?;
    let announce = || {
        for (number, &horizon) in &plan.horizons {
            if let Some((state, _)) = group.get(number) {
                state.raise_horizon(horizon);
            }
        }
    };
    if !core.watermark.agree(&needs, announce) {
        return Ok(None);
    }
    let mut step = plan.step;
    step.dropped = plan.deletions.len() as u64;
    let mut rows = Rows::default();
    for number in plan.horizons.keys() {
        if let Some((state, _)) = group.get(number) {
            let value = encoding::horizon_value(state.horizon());
            core.rocks.put_meta(&mut rows, &encoding::horizon_key(*number), &value);
        }
    }
    for (index, (seq, key)) in plan.deletions.iter().enumerate() {
        core.rocks.delete_version(&mut rows, key);
        core.rocks.delete_feed(&mut rows, &encoding::feed_key(*seq));
        if index % BATCH_DELETIONS == BATCH_DELETIONS - 1 {
            core.write_rows(std::mem::take(&mut rows))?;
        }
    }
    let mut after = Walk { position: plan.end, ..walk.clone() };
    for (at, row) in plan.deferred {
        let lowest = after.deferred.entry(at).or_insert(row);
        *lowest = row.min(*lowest);
    }
    after.waiting = plan.waiting.or(after.waiting);
    step.held |= !after.deferred.is_empty();
    let store = after.to_store();
    // A walk that only moves on is stored now and then: what it repeats after a crash finds nothing to do.
    if step.dropped > 0 || store.done >= after.stored + STEP_ROWS as u64 {
        core.rocks.put_meta(&mut rows, &encoding::trim_key(age_ms), &encoding::trim_value(store));
        core.write_rows(rows)?;
        after.stored = store.done;
    }
    *walk = after;
    Ok(Some(step))
}

/// Reads the feed from the walk's position on, and plans for each row that is old enough.
#[expect(clippy::too_many_arguments, reason = "one caller, and a struct of them would say no more")]
fn read_feed(
    core: &Core,
    walk: &Walk,
    group: &Group,
    needs: &Needs,
    last: u64,
    age_ms: u64,
    now_ms: u64,
    plan: &mut Plan,
) -> Result<()> {
    let mut cursor = core.rocks.feed(walk.position + 1, last);
    for _ in 0..STEP_ROWS {
        let Some((key, value)) = cursor.row()? else {
            plan.step.at_end = true;
            return Ok(());
        };
        let entry = encoding::feed_row(key, value)?;
        let row = entry.position;
        let due_ms = row.time_ms.saturating_add(age_ms);
        if due_ms > now_ms {
            plan.step.due_ms = Some(due_ms);
            return Ok(());
        }
        if needs.from.is_some_and(|from| row.seq > from) {
            plan.step.held = true;
            return Ok(());
        }
        if let Some((_, keep_versions)) = group.get(&entry.collection) {
            if walk.waiting.is_some() {
                plan.go_back = true;
                return Ok(());
            }
            plan.newest = row.seq;
            if let Some(Tombstone { seq, prefix, collection }) = plan.last_tombstone.take() {
                plan.drop_row(collection, prefix, seq, Horizon { complete: seq + 1, deletes: seq + 1 });
            }
            let prefix = || encoding::document_prefix(entry.collection, entry.id);
            // Of a document that is to be looked at, something older may be found to be needed, and to be hidden.
            let known = || {
                row.seq > walk.looked
                    && walk.deferred.is_empty()
                    && plan.deferred.is_empty()
                    && (plan.documents.is_empty() || !plan.documents.contains_key(&prefix()))
            };
            match (entry.kind, keep_versions) {
                // A new document supersedes at most a tombstone, and that one's own row deals with it.
                (FeedKind::Created, 0) => {}
                (FeedKind::Replaced, 0) if row.seq > walk.looked => plan.superseded(&entry, row.seq, needs),
                (FeedKind::Deleted | FeedKind::Expired, 0) if known() => {
                    plan.superseded(&entry, row.seq, needs);
                    if !plan.deferred.is_empty() {
                        // What it superseded is needed, and so is the tombstone that hides it.
                    } else {
                        let (seq, collection) = (row.seq, entry.collection);
                        plan.last_tombstone = Some(Tombstone { seq, prefix: prefix(), collection });
                    }
                }
                _ => {
                    plan.documents.insert(prefix(), row.seq);
                }
            }
        }
        plan.end = row.seq;
        cursor.advance();
    }
    plan.step.more = true;
    Ok(())
}

impl Plan {
    /// Plans for the version that the commit at `seq` superseded.
    fn superseded(&mut self, entry: &FeedRow<'_>, seq: u64, needs: &Needs) {
        let at = needs.at.partition_point(|&at| at < entry.previous);
        match needs.at.get(at).filter(|&&at| at < seq) {
            Some(&at) => self.defer(at, seq),
            None => self.drop(entry, entry.previous, Horizon { complete: seq, deletes: 0 }),
        }
    }

    fn drop(&mut self, entry: &FeedRow<'_>, seq: u64, horizon: Horizon) {
        self.drop_row(entry.collection, encoding::document_prefix(entry.collection, entry.id), seq, horizon);
    }

    fn drop_row(&mut self, collection: CollectionNumber, prefix: KeyBytes, seq: u64, horizon: Horizon) {
        let mut key = prefix;
        encoding::push_seq(&mut key, seq);
        self.deletions.insert(seq, key);
        self.raise(collection, horizon);
    }

    fn raise(&mut self, number: CollectionNumber, horizon: Horizon) {
        let raised = self.horizons.entry(number).or_default();
        raised.complete = raised.complete.max(horizon.complete);
        raised.deletes = raised.deletes.max(horizon.deletes);
    }

    fn defer(&mut self, at: u64, row: u64) {
        let lowest = self.deferred.entry(at).or_insert(row);
        *lowest = row.min(*lowest);
    }
}

/// Looks at the documents of which the feed alone does not tell what goes.
fn read_documents(core: &Core, group: &Group, needs: &Needs, plan: &mut Plan) -> Result<()> {
    plan.waiting = plan.last_tombstone.take().map(|tombstone| tombstone.seq);
    if plan.documents.is_empty() {
        return Ok(());
    }
    let mut cursor = core.rocks.versions_from_start();
    let mut rows = Vec::new();
    for (prefix, due) in std::mem::take(&mut plan.documents) {
        let in_group = encoding::collection_of_prefix(&prefix).and_then(|number| Some((number, group.get(&number)?)));
        let Some((number, (_, keep_versions))) = in_group else { continue };
        let (newer, exists) = match keep_versions {
            0 => (0, true),
            _ => look_at_newer(&mut cursor, &prefix, due, *keep_versions as usize)?,
        };
        rows.clear();
        seek(&mut cursor, &prefix, due);
        while let Some((key, value)) = cursor.row()? {
            let (found, seq) = encoding::split_version_key(key)?;
            if *found != *prefix {
                break;
            }
            rows.push(Row { seq, kind: VersionHeader::decode(value)?.0.kind });
            cursor.advance();
        }
        let chain = Chain { due, rows: &rows, newer, exists, last: due == plan.newest };
        let verdict = retention::judge(&chain, *keep_versions, &needs.at);
        for &index in &verdict.drop {
            let mut key = prefix.clone();
            encoding::push_seq(&mut key, rows[index].seq);
            plan.deletions.insert(rows[index].seq, key);
        }
        plan.raise(number, Horizon { complete: verdict.complete, deletes: verdict.deletes });
        for at in verdict.held_by {
            plan.defer(at, due);
        }
        if verdict.wait {
            plan.waiting = Some(due);
        }
    }
    plan.horizons.retain(|_, horizon| horizon.complete > 0);
    Ok(())
}

/// How many versions of a document are newer than `due`, counted to one more than `enough`, and whether it exists.
fn look_at_newer(cursor: &mut Cursor<'_>, prefix: &[u8], due: u64, enough: usize) -> Result<(usize, bool)> {
    let mut newer = 0;
    let mut exists = true;
    seek(cursor, prefix, u64::MAX);
    while let Some((key, value)) = cursor.row()? {
        let (found, seq) = encoding::split_version_key(key)?;
        if found != prefix {
            break;
        }
        if newer == 0 {
            exists = VersionHeader::decode(value)?.0.kind == VersionKind::Document;
        }
        if seq <= due || newer > enough {
            break;
        }
        newer += 1;
        cursor.advance();
    }
    Ok((newer, exists))
}

fn seek(cursor: &mut Cursor<'_>, prefix: &[u8], seq: u64) {
    let mut key = prefix.to_vec();
    encoding::push_seq(&mut key, seq);
    cursor.seek(&key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Precondition, Store};

    fn feed_rows(store: &Store) -> Vec<u64> {
        let mut cursor = store.inner().rocks.feed(1, u64::MAX);
        let mut seqs = Vec::new();
        while let Some((key, value)) = cursor.row().expect("row") {
            seqs.push(encoding::feed_position(key, value).expect("position").seq);
            cursor.advance();
        }
        seqs
    }

    #[test]
    fn a_dropped_collection_leaves_nothing_in_the_feed_but_the_place_of_the_last_commit() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Options::default().background_maintenance(false).open(dir.path().join("store")).expect("open");
        let (gone, stays) = (store.collection("gone").expect("new"), store.collection("stays").expect("new"));
        for docs in [&gone, &stays, &gone, &gone] {
            docs.put("a", "x", Precondition::Any).expect("put");
        }
        store.drop_collection("gone").expect("drop");
        store.run_maintenance().expect("maintenance");
        assert_eq!(feed_rows(&store), [2, 4]);
        stays.put("b", "x", Precondition::Any).expect("put");
        store.run_maintenance().expect("maintenance");
        assert_eq!(feed_rows(&store), [2, 5]);
        assert!(store.inner().rocks.meta_rows(encoding::DROPPED_PREFIX).expect("read").is_empty());
    }

    /// A drop is in the log before it is on disk. A power cut now takes it back, and a sync that fails leaves it unknown.
    #[test]
    fn nothing_is_swept_away_of_a_collection_whose_drop_is_not_durable() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Options::default().background_maintenance(false).open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("new");
        docs.put("a", "x", Precondition::Any).expect("put");
        let core = store.inner();
        let mut rows = Rows::default();
        core.rocks.put_meta(&mut rows, &encoding::dropped_key(docs.state().number), b"");
        core.write_rows(rows).expect("as a drop leaves it in the log");
        store.run_maintenance().expect("maintenance");
        let prefix = encoding::document_prefix(docs.state().number, b"a");
        assert!(core.rocks.newest(&prefix, 1, |_, _, _| ()).expect("read").is_some());
        assert_eq!(feed_rows(&store), [1]);
        store.drop_collection("docs").expect("drop");
        store.run_maintenance().expect("maintenance");
        assert!(core.rocks.versions_from_start().row().expect("read").is_none(), "swept away when it is");
    }
}
