//! Turns what has expired into commits. Owns the search for it; readers and writers judge for themselves, so nothing
//! here decides whether a document is there.
//!
//! A document with a time to live of its own has a row in the expiry family, by the time at which it is up: whoever is
//! due is at the front. The others of a collection with a default expire in the order in which they were written, and
//! that is the order of the feed: a walk along it, as far as it is old enough, passes each of them once. So a default
//! costs a write nothing, and a changed one takes effect without touching a document. Neither way is anything looked
//! at before it is due, except that a walk begins at the beginning of the feed when a default is set for the first
//! time.
//!
//! What is found goes the way of all writes: under its stripe, judged again, as one batch with a place in the feed.
//! Rows of the expiry family outlive their versions and are taken away when they come up, after the commit that deals
//! with them; so a crash leaves at worst a row to look at again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::batch::{Action, Operation};
use crate::collection::CollectionState;
use crate::encoding::{self, CollectionNumber, ExpiryRow, FeedKind, KeyBytes, TtlRecord};
use crate::error::Result;
use crate::judge::refuse_in_update;
use crate::rocks::Rows;
use crate::store::Core;

/// Rows that a step looks at.
const STEP_ROWS: usize = 4096;
/// Documents that expire in one batch. Their stripes are held through its sync.
const BATCH: usize = 256;

/// How far the work has come.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    /// By default time to live: all commits up to here were seen to their end.
    positions: BTreeMap<u64, u64>,
    stored: BTreeMap<u64, u64>,
    /// Collections of which no row is parked.
    unparked: HashSet<CollectionNumber>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Expiries committed.
    pub(crate) expired: u64,
    /// Whether the next step has something to look at right away.
    pub(crate) more: bool,
    /// When there will be something, as far as is known.
    pub(crate) due_ms: Option<u64>,
    /// Whether the next commit may be due sooner.
    pub(crate) at_end: bool,
}

impl Step {
    fn due(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |earlier| earlier.min(due_ms)));
    }
}

type Live = HashMap<CollectionNumber, Arc<CollectionState>>;

impl Expiries {
    pub(crate) fn new(positions: Vec<(u64, u64)>) -> Expiries {
        let positions: BTreeMap<u64, u64> = positions.into_iter().collect();
        Expiries { stored: positions.clone(), positions, ..Expiries::default() }
    }

    /// Lets a collection go from one setting to another, and returns the position to store.
    fn change(&mut self, number: CollectionNumber, from: TtlRecord, to: TtlRecord) -> Option<(u64, u64)> {
        self.unparked.remove(&number);
        let TtlRecord::After(ttl_ms) = to else { return None };
        // What had no default may have expired by the new one however old it is.
        let before = match from {
            TtlRecord::After(before_ms) => self.positions.get(&before_ms).copied().unwrap_or(0),
            TtlRecord::Off | TtlRecord::Documents => 0,
        };
        let position = self.positions.entry(ttl_ms).or_insert(before);
        *position = before.min(*position);
        let position = *position;
        self.stored.insert(ttl_ms, position);
        Some((ttl_ms, position))
    }
}

impl Core {
    pub(crate) fn set_ttl(&self, collection: &CollectionState, ttl: TtlRecord) -> Result<()> {
        // As in `set_retention`.
        refuse_in_update("a time to live cannot be set inside an update closure")?;
        let mut upkeep = self.upkeep.lock();
        let _collections = self.collections.lock();
        collection.check_live()?;
        self.health.check()?;
        let mut rows = Rows::default();
        let record = encoding::encode_record(&collection.record(collection.retention(), ttl))?;
        self.rocks.put_meta(&mut rows, &encoding::collection_key(collection.number), &record);
        if let Some((ttl_ms, position)) = upkeep.expiries.change(collection.number, collection.ttl(), ttl) {
            self.rocks.put_meta(&mut rows, &encoding::expire_key(ttl_ms), &position.to_le_bytes());
        }
        self.write_durably(rows)?;
        collection.set_ttl(ttl);
        self.lifetimes.write().set(collection.number, ttl);
        self.signal.wake();
        Ok(())
    }
}

/// Looks for what has expired by `now_ms`, and commits some of it.
pub(crate) fn step(core: &Core, expiries: &mut Expiries, now_ms: u64) -> Result<Step> {
    let live: Live = core.live_collections().into_iter().map(|state| (state.number, state)).collect();
    let mut step = Step::default();
    unpark(core, expiries, &live)?;
    own(core, &live, now_ms, &mut step)?;
    let mut groups: BTreeMap<u64, HashMap<CollectionNumber, Arc<CollectionState>>> = BTreeMap::new();
    for (number, state) in &live {
        if let TtlRecord::After(ttl_ms) = state.ttl() {
            groups.entry(ttl_ms).or_default().insert(*number, Arc::clone(state));
        }
    }
    for (ttl_ms, group) in &groups {
        default(core, expiries, group, *ttl_ms, now_ms, &mut step)?;
    }
    Ok(step)
}

/// Puts back the rows of collections in which documents expire again.
fn unpark(core: &Core, expiries: &mut Expiries, live: &Live) -> Result<()> {
    for (number, state) in live {
        if state.ttl() == TtlRecord::Off || expiries.unparked.contains(number) {
            continue;
        }
        let prefix = encoding::parked_prefix(*number);
        loop {
            let mut rows = Rows::default();
            let mut count = 0;
            let mut cursor = core.rocks.expiry(&prefix);
            while let Some((key, value)) = cursor.row()?.filter(|(key, _)| key.starts_with(&prefix))
                && count < STEP_ROWS
            {
                let row = ExpiryRow::decode(key, value)?;
                core.rocks.put_expiry(&mut rows, &row.key(), value);
                core.rocks.delete_expiry(&mut rows, key);
                count += 1;
                cursor.advance();
            }
            if count == 0 {
                break;
            }
            core.write_rows(rows)?;
        }
        expiries.unparked.insert(*number);
    }
    Ok(())
}

/// Deals with documents that have a time to live of their own.
fn own(core: &Core, live: &Live, now_ms: u64, step: &mut Step) -> Result<()> {
    let visible = core.visible().get();
    let mut rows = Rows::default();
    let mut looked = 0;
    let mut operations = Vec::new();
    let mut cursor = core.rocks.expiry(&[0]);
    while let Some((key, value)) = cursor.row()? {
        if encoding::is_parked(key) {
            break;
        }
        let row = ExpiryRow::decode(key, value)?;
        if row.time_ms > now_ms {
            step.due(row.time_ms);
            break;
        }
        if looked == STEP_ROWS || operations.len() == BATCH {
            step.more = true;
            break;
        }
        looked += 1;
        if row.seq > visible {
            // On its way; its publication is near.
            step.due(now_ms);
            cursor.advance();
            continue;
        }
        let prefix = encoding::document_prefix(row.collection, row.id);
        let newest = core.newest(&prefix, visible, false)?.filter(|version| version.seq == row.seq);
        if let (Some(state), Some(version)) = (live.get(&row.collection), newest) {
            match state.ttl().expires_ms(&version.header) {
                Some(_) => operations.push(expire(state, row.id, prefix, row.seq)),
                None => core.rocks.put_expiry(&mut rows, &row.parked_key(), value),
            }
        }
        core.rocks.delete_expiry(&mut rows, key);
        cursor.advance();
    }
    if looked > 0 {
        step.expired += commit(core, operations)?;
        core.write_rows(rows)?;
    }
    Ok(())
}

/// Deals with documents that expire by the default of their collections.
fn default(
    core: &Core,
    expiries: &mut Expiries,
    group: &Live,
    ttl_ms: u64,
    now_ms: u64,
    step: &mut Step,
) -> Result<()> {
    let visible = core.visible().get();
    let mut position = expiries.positions.get(&ttl_ms).copied().unwrap_or(0);
    let mut operations = Vec::new();
    let mut cursor = core.rocks.feed(position + 1, visible);
    let mut looked = 0;
    loop {
        let Some((key, value)) = cursor.row()? else {
            step.at_end = true;
            break;
        };
        let entry = encoding::feed_row(key, value)?;
        let row = entry.position;
        let due_ms = row.time_ms.saturating_add(ttl_ms);
        if due_ms > now_ms {
            step.due(due_ms);
            break;
        }
        if looked == STEP_ROWS || operations.len() == BATCH {
            step.more = true;
            break;
        }
        looked += 1;
        if let Some(state) = group.get(&entry.collection)
            && matches!(entry.kind, FeedKind::Created | FeedKind::Replaced)
        {
            let prefix = encoding::document_prefix(entry.collection, entry.id);
            let newest = core.newest(&prefix, visible, false)?;
            if newest.is_some_and(|version| version.seq == row.seq && version.header.ttl_ms.is_none()) {
                operations.push(expire(state, entry.id, prefix, row.seq));
            }
        }
        position = row.seq;
        cursor.advance();
    }
    step.expired += commit(core, operations)?;
    expiries.positions.insert(ttl_ms, position);
    if position >= expiries.stored.get(&ttl_ms).copied().unwrap_or(0) + STEP_ROWS as u64 {
        let mut rows = Rows::default();
        core.rocks.put_meta(&mut rows, &encoding::expire_key(ttl_ms), &position.to_le_bytes());
        core.write_rows(rows)?;
        expiries.stored.insert(ttl_ms, position);
    }
    Ok(())
}

fn expire<'a>(state: &Arc<CollectionState>, id: &[u8], prefix: KeyBytes, seq: u64) -> Operation<'a> {
    Operation { collection: Arc::clone(state), id: KeyBytes::from_slice(id), prefix, action: Action::Expire(seq) }
}

/// Commits expiries, and returns how many there were.
fn commit(core: &Core, operations: Vec<Operation<'_>>) -> Result<u64> {
    if operations.is_empty() {
        return Ok(0);
    }
    let results = core.commit(operations, None)?;
    Ok(results.iter().flatten().count() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::encoding::FeedPosition;
    use crate::{Clock, Options, Precondition, PutOptions};

    #[derive(Clone)]
    struct TestClock(Arc<AtomicU64>);

    impl Clock for TestClock {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn the_feed_tells_an_expiry_from_a_delete_and_tells_it_before_what_comes_after() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let clock = TestClock(Arc::new(AtomicU64::new(1_000)));
        let options = Options::default().clock(clock.clone()).background_maintenance(false);
        let store = options.open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        let ttl = PutOptions::default().ttl(Duration::from_millis(10));
        docs.put_with("a", "1", Precondition::Any, ttl).expect("put");
        docs.put_with("b", "1", Precondition::Any, ttl).expect("put");
        clock.0.store(1_010, Ordering::SeqCst);
        docs.put("a", "2", Precondition::Any).expect("put");
        store.run_maintenance().expect("maintenance");
        docs.delete("a", Precondition::Any).expect("delete");

        let mut kinds = Vec::new();
        let core = store.inner();
        let mut cursor = core.rocks.feed(1, u64::MAX);
        while let Some((key, value)) = cursor.row().expect("row") {
            let row = encoding::feed_row(key, value).expect("row");
            let FeedPosition { seq, time_ms, end } = row.position;
            kinds.push((row.kind, row.id.to_vec(), row.previous, end - seq, time_ms));
            cursor.advance();
        }
        let expected = [
            (FeedKind::Created, b"a".to_vec(), 0, 0, 1_000),
            (FeedKind::Created, b"b".to_vec(), 0, 0, 1_000),
            (FeedKind::Expired, b"a".to_vec(), 1, 1, 1_010),
            (FeedKind::Created, b"a".to_vec(), 3, 0, 1_010),
            (FeedKind::Expired, b"b".to_vec(), 2, 0, 1_010),
            (FeedKind::Deleted, b"a".to_vec(), 4, 0, 1_010),
        ];
        assert_eq!(kinds, expected);
    }
}
