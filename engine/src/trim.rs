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
//! Rows are taken in steps of some thousand and the documents of a step in key order, so a document that was written
//! a thousand times in a step is looked up once. A step is one RocksDB write batch that deletes version rows and feed
//! rows and moves the trim position and the horizons: a crash leaves all of a step or nothing of it. It is not a
//! commit: it has no sequence, and nobody is told. It is not synced either; a step that a power cut takes back is
//! done again.
//!
//! A version that a snapshot reads is passed over, and the walk remembers where; when that snapshot is gone, it goes
//! back to there. The position on disk never passes such a place, so a crash forgets no version. Cursors of the feed
//! stop the walk: they need everything that comes after them.
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

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::collection::CollectionState;
use crate::encoding::{self, CollectionNumber, FeedKind, Horizon, VersionHeader, VersionKind};
use crate::error::Result;
use crate::retention::{self, Chain, Row};
use crate::rocks::{Cursor, Rows};
use crate::store::Core;
use crate::watermark::Needs;

/// Feed rows that a step looks at.
const STEP_ROWS: usize = 4096;
/// Rows that a write batch deletes, about: a step that has more writes several, and moves its position in the last.
const BATCH_DELETIONS: usize = 20_000;

/// How far each walk has come, by the age that its collections keep.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    by_age: BTreeMap<u64, Walk>,
}

#[derive(Debug, Default)]
struct Walk {
    /// All rows up to here were looked at.
    position: u64,
    /// By the sequence that somebody read at: the lowest row that has something to drop once nobody does.
    deferred: BTreeMap<u64, u64>,
    /// What the row on disk says.
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
    /// Whether something could go if a hold were not there.
    pub(crate) held: bool,
}

/// The feed rows of a step that name a collection of the walk.
#[derive(Default)]
struct Found {
    /// The newest row of each document.
    documents: BTreeMap<Vec<u8>, u64>,
    /// The last row looked at.
    end: u64,
    step: Step,
}

/// Deletions on their way to disk.
#[derive(Default)]
struct Plan {
    /// Keys of version rows, with their sequences.
    deletions: Vec<(Vec<u8>, u64)>,
    horizons: HashMap<CollectionNumber, Horizon>,
    deferred: BTreeMap<u64, u64>,
    /// The row that can only be dealt with after another commit.
    wait_at: Option<u64>,
}

impl Walks {
    pub(crate) fn new(positions: Vec<(u64, u64)>) -> Walks {
        let walk = |(age, position)| (age, Walk { position, stored: position, ..Walk::default() });
        Walks { by_age: positions.into_iter().map(walk).collect() }
    }

    /// Lets a collection that kept versions for `from` do so for `to` (`None`: for ever), and returns the rows to
    /// store. With `afresh`, versions that were passed over may go now, so the walk begins at the beginning.
    pub(crate) fn change_age(&mut self, from: Option<u64>, to: Option<u64>, afresh: bool) -> Option<(u64, u64)> {
        let to = to?;
        let done = match from.and_then(|from| self.by_age.get(&from)) {
            Some(walk) if !afresh => walk.safe_position(),
            _ => 0,
        };
        let walk = self.by_age.entry(to).or_insert_with(|| Walk { position: done, ..Walk::default() });
        walk.position = walk.position.min(done);
        walk.stored = walk.safe_position();
        Some((to, walk.stored))
    }
}

impl Walk {
    /// The position that may be stored: nothing at or before it is left to do.
    fn safe_position(&self) -> u64 {
        let lowest = self.deferred.values().min().map_or(u64::MAX, |row| row - 1);
        self.position.min(lowest)
    }

    /// Goes back to what readers kept that are gone.
    fn resume(&mut self, needs: &Needs) {
        let position = &mut self.position;
        self.deferred.retain(|at, row| {
            let held = needs.at.binary_search(at).is_ok();
            if !held {
                *position = (*position).min(*row - 1);
            }
            held
        });
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
    let mut total = Step::default();
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
        total.due_ms = total.due_ms.into_iter().chain(step.due_ms).min();
    }
    Ok(total)
}

/// The collections of a walk, with how many superseded versions each keeps.
type Group = HashMap<CollectionNumber, (Arc<CollectionState>, u32)>;

/// One step of one walk; `None` when it must be computed again.
fn step_of(core: &Core, walk: &mut Walk, group: &Group, age_ms: u64, now_ms: u64) -> Result<Option<Step>> {
    let needs = core.watermark.needs();
    walk.resume(&needs);
    let last = core.visible().get();
    let found = collect(core, walk.position, group, &needs, last, age_ms, now_ms)?;
    let plan = plan(core, &found, group, &needs, last)?;
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
    let mut step = found.step;
    step.dropped = plan.deletions.len() as u64;
    // In parts only if there are very many. Each part leaves a state from which the same step begins again.
    let mut parts = plan.deletions.chunks(BATCH_DELETIONS).peekable();
    let mut rows = Rows::default();
    for number in plan.horizons.keys() {
        if let Some((state, _)) = group.get(number) {
            let value = encoding::horizon_value(state.horizon());
            core.rocks.put_meta(&mut rows, &encoding::horizon_key(*number), &value);
        }
    }
    while let Some(part) = parts.next() {
        for (key, seq) in part {
            core.rocks.delete_version(&mut rows, key);
            core.rocks.delete_feed(&mut rows, &encoding::feed_key(*seq));
        }
        if parts.peek().is_some() {
            write(core, std::mem::take(&mut rows))?;
        }
    }
    let mut after = Walk { position: found.end, deferred: walk.deferred.clone(), stored: walk.stored };
    for (at, row) in plan.deferred {
        let lowest = after.deferred.entry(at).or_insert(row);
        *lowest = row.min(*lowest);
    }
    if let Some(row) = plan.wait_at {
        after.position = row - 1;
        step.more = false;
    }
    step.held |= !after.deferred.is_empty();
    let safe = after.safe_position();
    // A walk that only moves on is stored now and then: what it repeats after a crash finds nothing to do.
    if step.dropped > 0 || safe >= after.stored + STEP_ROWS as u64 {
        core.rocks.put_meta(&mut rows, &encoding::trim_key(age_ms), &safe.to_le_bytes());
        write(core, rows)?;
        after.stored = safe;
    }
    *walk = after;
    Ok(Some(step))
}

fn write(core: &Core, rows: Rows) -> Result<()> {
    core.rocks.write(rows, false).map_err(|error| core.health.after_failed_write(error)())
}

/// Reads the feed from `position` on.
fn collect(
    core: &Core,
    position: u64,
    group: &Group,
    needs: &Needs,
    last: u64,
    age_ms: u64,
    now_ms: u64,
) -> Result<Found> {
    let mut found = Found { end: position, ..Found::default() };
    let mut cursor = core.rocks.feed(position + 1);
    for _ in 0..STEP_ROWS {
        let Some((key, value)) = cursor.row()? else {
            return Ok(found);
        };
        let row = encoding::feed_position(key, value)?;
        if row.seq > last {
            return Ok(found);
        }
        let due_ms = row.time_ms.saturating_add(age_ms);
        if due_ms > now_ms {
            found.step.due_ms = Some(due_ms);
            return Ok(found);
        }
        if needs.from.is_some_and(|from| row.seq > from) {
            found.step.held = true;
            return Ok(found);
        }
        let entry = encoding::feed_entry(value)?;
        if let Some((_, keep_versions)) = group.get(&entry.collection)
            // A new document supersedes at most a tombstone, and that one's own row deals with it; unless versions
            // of it are counted, because then the tombstone may have been kept.
            && (entry.kind != FeedKind::Created || *keep_versions > 0)
        {
            found.documents.insert(encoding::document_prefix(entry.collection, entry.id), row.seq);
        }
        found.end = row.seq;
        cursor.advance();
    }
    found.step.more = true;
    Ok(found)
}

/// Says what goes of the documents found.
fn plan(core: &Core, found: &Found, group: &Group, needs: &Needs, last: u64) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut cursor = core.rocks.versions_from_start();
    let mut rows = Vec::new();
    for (prefix, &due) in &found.documents {
        let number = encoding::collection_of_prefix(prefix)?;
        let Some((_, keep_versions)) = group.get(&number) else { continue };
        let (newer, exists) = match keep_versions {
            0 => (0, true),
            _ => look_at_newer(&mut cursor, prefix, due, *keep_versions as usize)?,
        };
        rows.clear();
        seek(&mut cursor, prefix, due);
        while let Some((key, value)) = cursor.row()? {
            let (found, seq) = encoding::split_version_key(key)?;
            if found != prefix {
                break;
            }
            rows.push(Row { seq, kind: VersionHeader::decode(value)?.0.kind });
            cursor.advance();
        }
        let chain = Chain { due, rows: &rows, newer, exists, last: due == last };
        let verdict = retention::judge(&chain, *keep_versions, &needs.at);
        for &index in &verdict.drop {
            let mut key = prefix.clone();
            encoding::push_seq(&mut key, rows[index].seq);
            plan.deletions.push((key, rows[index].seq));
        }
        if verdict.complete > 0 {
            let horizon = plan.horizons.entry(number).or_default();
            horizon.complete = horizon.complete.max(verdict.complete);
            horizon.deletes = horizon.deletes.max(verdict.deletes);
        }
        for at in verdict.held_by {
            let lowest = plan.deferred.entry(at).or_insert(due);
            *lowest = due.min(*lowest);
        }
        if verdict.wait {
            plan.wait_at = Some(due);
        }
    }
    Ok(plan)
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
