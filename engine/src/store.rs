//! Opening a store, its collections and its snapshots. Owns what all handles share and how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{Operation, WriteBatch};
use crate::cache::VersionCache;
use crate::collection::{Collection, CollectionState};
use crate::commit::Judged;
use crate::cursors::Cursors;
use crate::directory::Directory;
use crate::durable::Durable;
use crate::encoding::{self, CollectionNumber, CollectionRecord, Horizon, MAX_NAME_BYTES, StoreRecord, TtlRecord};
use crate::epoch::Epochs;
use crate::error::{Error, Result};
use crate::expiry::Expiries;
use crate::flusher::Flusher;
use crate::health::Health;
use crate::judge::{WAITS_FOR_ITSELF, refuse_in_update};
use crate::landing::Landings;
use crate::maintenance::{Maintained, Maintenance, Signal, Upkeep};
use crate::options::{Durability, Options};
use crate::pending::Pending;
use crate::queue::Queue;
use crate::retention::Retention;
use crate::retry::Turns;
use crate::rocks::{Rocks, Rows};
use crate::snapshot::Snapshot;
use crate::stripes::Stripes;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::trim::Walks;
use crate::ttl::Lifetimes;
use crate::visible::Visible;
use crate::waiter::Wait;
use crate::watermark::{PinKind, Watermark};
use crate::workers::{Committer, Worker};
use crate::{AsOf, CommitSeq, clock};

/// A persistent store of versioned documents in collections.
///
/// Cheap to clone; all clones are the same open store, usable from many threads at once. One process at a time has a
/// directory open, or many that only [read](Options::read_only) it. The store closes when its last handle goes (collections and snapshots are handles too); a process
/// that is killed instead loses nothing that it acknowledged.
///
/// # Examples
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let store = etagdb::Store::open(&path)?;
/// let carts = store.collection("carts")?;
/// carts.put("ana", "1 pen", etagdb::Precondition::Absent)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles of an open store share. When the last handle goes, its threads end and the store closes.
pub(crate) struct Inner {
    flusher: Option<Flusher>,
    maintenance: Option<Maintenance>,
    /// Started when somebody first waits as a future.
    committer: Mutex<Option<Committer>>,
    applier: Option<Worker>,
    core: Arc<Core>,
}

/// The store itself, shared with its own threads: they can not be what keeps it open. The order of the fields is the
/// order in which they go: the database closes before its directory is free for others.
pub(crate) struct Core {
    pub(crate) rocks: Arc<Rocks>,
    /// Goes after the database, whose last state it notes.
    pub(crate) durable: Arc<Durable>,
    pub(crate) options: Options,
    pub(crate) stripes: Stripes,
    pub(crate) cache: VersionCache,
    pub(crate) queue: Queue,
    pub(crate) landings: Landings,
    pub(crate) turns: Turns,
    pub(crate) pending: Pending,
    pub(crate) epochs: Epochs,
    pub(crate) health: Arc<Health>,
    pub(crate) watermark: Watermark,
    pub(crate) cursors: Cursors,
    pub(crate) upkeep: Mutex<Upkeep>,
    pub(crate) signal: Signal,
    pub(crate) visible: Arc<Visible>,
    /// The time of the last commit, or a later one by which somebody judged: the wall clock may be behind it.
    time_floor_ms: AtomicU64,
    pub(crate) collections: Mutex<Collections>,
    /// What the collections say of the life of their documents.
    pub(crate) lifetimes: RwLock<Lifetimes>,
    directory: Directory,
}

pub(crate) struct Collections {
    by_name: BTreeMap<String, Arc<CollectionState>>,
    next_number: CollectionNumber,
}

impl Store {
    /// Opens the store in directory `path` with default options, creating it if there is none.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Options::default().open(path)
    }

    pub(crate) fn open_with(options: &Options, path: &Path) -> Result<Store> {
        let (mut directory, mut durable, rocks) = open_files(options, path)?;
        if directory.is_new() {
            let created_ms = clock::now_ms(&options.clock, 0);
            let record = encoding::encode_record(&StoreRecord { format: encoding::FORMAT, created_ms })?;
            let mut rows = Rows::default();
            rocks.put_meta(&mut rows, encoding::STORE_KEY, &record);
            rocks.write(&mut rows)?;
            rocks.sync()?;
            directory.finish_creation()?;
        }
        check_store_record(&rocks, path)?;
        let epochs = rocks
            .meta_rows(encoding::EPOCH_PREFIX)?
            .iter()
            .map(|(key, value)| encoding::epoch_of_row(key, value))
            .collect::<Result<Vec<_>>>()?;
        let last = match rocks.last_feed_row()? {
            Some((key, value)) => Some(encoding::feed_position(&key, &value)?),
            None => None,
        };
        if last.is_some() && epochs.is_empty() {
            return Err(Error::Corruption("there are commits but no epoch that they belong to".into()));
        }
        let (last_assigned, last_time_ms) = last.map_or((0, 0), |last| (last.seq, last.time_ms));
        durable.check(last_assigned)?;
        if !options.read_only {
            durable.begin(last_assigned, rocks.log_end())?;
        }
        let collections = load_collections(&rocks, last_assigned)?;
        let (rocks, durable) = (Arc::new(rocks), Arc::new(durable));
        let visible = Arc::new(Visible::new(last_assigned));
        let health = Arc::new(Health::new(&options.clock, options.read_only));
        let flusher = match options.durability {
            _ if options.read_only => None,
            Durability::Sync => None,
            Durability::Buffered => {
                let (rocks, visible, durable) = (Arc::clone(&rocks), Arc::clone(&visible), Arc::clone(&durable));
                Some(Flusher::start(move || durable.sync(&rocks, visible.get()), &health, options.flush_interval)?)
            }
        };
        let positions = rocks.meta_rows(encoding::TRIM_PREFIX)?;
        let positions = positions.iter().map(|(key, value)| encoding::trim_of_row(key, value));
        let walks = Walks::new(positions.collect::<Result<_>>()?);
        let positions = rocks.meta_rows(encoding::EXPIRE_PREFIX)?;
        let positions = positions.iter().map(|(key, value)| encoding::expire_of_row(key, value));
        let upkeep = Upkeep::new(walks, Expiries::new(positions.collect::<Result<_>>()?));
        let mut lifetimes = Lifetimes::default();
        for state in collections.by_name.values() {
            lifetimes.set(state.number, state.ttl());
        }
        let watermark = Watermark::default();
        let cursors = Cursors::load(&rocks, &watermark)?;
        let core = Arc::new(Core {
            rocks,
            durable,
            options: options.clone(),
            stripes: Stripes::new(),
            cache: VersionCache::new(options.document_cache_bytes),
            queue: Queue::new(last_assigned, last_time_ms),
            landings: Landings::default(),
            turns: Turns::default(),
            pending: Pending::new(),
            epochs: Epochs::new(epochs, last_assigned),
            health,
            watermark,
            cursors,
            upkeep: Mutex::new(upkeep),
            signal: Signal::default(),
            visible,
            time_floor_ms: AtomicU64::new(last_time_ms),
            collections: Mutex::new(collections),
            lifetimes: RwLock::new(lifetimes),
            directory,
        });
        let maintenance =
            (options.background_maintenance && !options.read_only).then(|| Maintenance::start(&core)).transpose()?;
        let applier = (!options.read_only).then(|| Worker::applier(&core)).transpose()?;
        Ok(Store { inner: Arc::new(Inner { flusher, maintenance, committer: Mutex::default(), applier, core }) })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The directory that the store is in.
    pub fn path(&self) -> &Path {
        self.inner.directory.path()
    }

    /// Opens the collection `name`, creating it if there is none; a new one is on disk when this returns. `name`: 1
    /// to [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name beyond the limits; [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and
    /// [`Error::DiskFull`] when creating fails.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        let inner = &self.inner;
        let mut collections = inner.collections.lock();
        if let Some(state) = collections.by_name.get(name) {
            return Ok(Collection::new(Arc::clone(inner), Arc::clone(state)));
        }
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let len = name.len();
            return Err(Error::Invalid(format!("a collection name has 1 to {MAX_NAME_BYTES} bytes, not {len}")));
        }
        inner.health.check()?;
        let number = collections.next_number;
        // The highest number stays free, so that the end of a collection's keys can always be written down.
        let next = number.checked_add(1).filter(|&next| next < CollectionNumber::MAX);
        let next = next.ok_or_else(|| Error::invalid("this store has had as many collections as it can have"))?;
        let created_ms = clock::now_ms(&inner.options.clock, 0);
        let Retention { keep_ms, keep_versions } = Retention::default();
        let ttl = TtlRecord::default();
        let record = CollectionRecord { name: name.to_owned(), created_ms, keep_ms, keep_versions, ttl };
        let state = Arc::new(CollectionState::new(number, record.clone(), Horizon::default(), 0));
        let record = encoding::encode_record(&record)?;
        let mut rows = Rows::default();
        inner.rocks.put_meta(&mut rows, &encoding::collection_key(number), &record);
        inner.rocks.put_meta(&mut rows, encoding::NEXT_COLLECTION_KEY, &next.to_le_bytes());
        inner.write_durably(rows)?;
        collections.next_number = next;
        collections.by_name.insert(name.to_owned(), Arc::clone(&state));
        Ok(Collection::new(Arc::clone(inner), state))
    }

    /// Opens the collection `name` if there is one.
    pub fn existing_collection(&self, name: &str) -> Option<Collection> {
        let collections = self.inner.collections.lock();
        let state = collections.by_name.get(name)?;
        Some(Collection::new(Arc::clone(&self.inner), Arc::clone(state)))
    }

    /// The names of all collections, in byte order.
    pub fn collections(&self) -> Vec<String> {
        self.inner.collections.lock().by_name.keys().cloned().collect()
    }

    /// Drops the collection `name` with all its documents and their history; false when there is none.
    ///
    /// On return it is gone for every handle and every snapshot, durably. A batch that writes to it happens wholly
    /// before or fails with [`Error::Invalid`]. Disk space comes back in the background.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part.
    pub fn drop_collection(&self, name: &str) -> Result<bool> {
        let inner = &self.inner;
        let mut collections = inner.collections.lock();
        let Some(state) = collections.by_name.get(name) else {
            return Ok(false);
        };
        inner.commit_drop(state)?;
        // Now the background work may take its rows away.
        collections.by_name.remove(name);
        inner.signal.wake();
        Ok(true)
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// Begins an empty batch.
    pub fn batch<'a>(&self) -> WriteBatch<'a> {
        WriteBatch::new(Arc::clone(&self.inner), 0)
    }

    /// Takes a snapshot of the whole store as it is now. Costs no input or output.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.inner), PinKind::Snapshot)
    }

    /// Takes a snapshot of the whole store as it was after a commit sequence, after the write that an etag names, or at
    /// a time (see [`AsOf`]). A batch is never split: in the middle of one, the snapshot is of the state after it, and
    /// [`Snapshot::seq`] says so. Documents that had expired at that time are absent.
    ///
    /// Each collection can be read as far back as its [horizon](Collection::horizon). When some collections can be
    /// read as of then and others no more, the snapshot can be taken, and reads of the others fail.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a sequence that is not committed yet, a time to come, or an etag of another store;
    /// [`Error::NotRetained`] for a state older than the horizon of every collection; [`Error::Io`] and [`Error::Corruption`]
    /// when the commit order cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::Precondition;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// let first = carts.put("ana", "1 pen", Precondition::Any)?;
    /// carts.put("ana", "2 pens", Precondition::Any)?;
    /// let then = store.snapshot_at(first.seq)?;
    /// assert_eq!(then.get(&carts, "ana")?.expect("there").body, "1 pen");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot_at(&self, as_of: impl Into<AsOf>) -> Result<Snapshot> {
        let inner = &self.inner;
        let (seq, time_ms) = inner.resolve(as_of.into())?;
        Snapshot::past(Arc::clone(inner), PinKind::Snapshot, seq, time_ms)
    }

    /// The newest visible commit; 0 in a store without commits.
    pub fn last_commit(&self) -> CommitSeq {
        self.inner.visible()
    }

    /// The oldest commit sequence that a live snapshot or a transaction reads at or a [registered
    /// cursor](Store::register_cursor) stands at, or [`last_commit`](Store::last_commit) without any. Versions that were
    /// superseded at or before it are needed by none of these.
    pub fn watermark(&self) -> CommitSeq {
        self.inner.watermark.oldest(|| self.inner.visible())
    }

    /// The oldest commit as of which every collection still reads as it was: the newest of their
    /// [horizons](Collection::horizon). 0 while nothing has been dropped.
    pub fn horizon(&self) -> CommitSeq {
        self.inner.horizon(None)
    }

    /// Commits the expiry of everything that has expired by now, drops what [retention](Retention) no longer keeps, and gives disk space back if that is much.
    /// Blocks until done. Needed only without [`Options::background_maintenance`], or when somebody waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] inside an [`update`](Collection::update) closure; [`Error::ReadOnly`],
    /// [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part; [`Error::Corruption`] and
    /// [`Error::Io`] when what is stored cannot be read.
    pub fn run_maintenance(&self) -> Result<Maintained> {
        self.inner.run_maintenance()
    }

    /// Makes everything acknowledged so far durable, also under [`Durability::Buffered`].
    ///
    /// # Errors
    ///
    /// [`Error::OutcomeUnknown`] when the sync fails; the store then takes no more writes.
    pub fn sync(&self) -> Result<()> {
        self.inner.health.check()?;
        self.inner.sync_log()
    }
}

/// A panic in an update closure leaves nothing half done (its batch is not written, its stripes are free), so the
/// handles stay usable afterwards.
impl RefUnwindSafe for Inner {}

impl Inner {
    /// As [`judge_and_queue`](Core::judge_and_queue), for somebody who waits as a future.
    pub(crate) fn judge_for_handle(&self, operations: Vec<Operation<'_>>) -> Result<Judged> {
        refuse_in_update(WAITS_FOR_ITSELF)?;
        {
            let mut committer = self.committer.lock();
            if committer.is_none() {
                *committer = Some(Committer::start(&self.core)?);
            }
        }
        self.judge_and_queue(operations, Wait::AsFuture)
    }
}

impl Deref for Inner {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Core {
    /// The newest commit that anybody may see.
    pub(crate) fn visible(&self) -> CommitSeq {
        self.visible.get()
    }

    /// Lets everybody see the commits up to `seq`. Called by one leader at a time, in ascending order.
    pub(crate) fn publish(&self, seq: CommitSeq) {
        self.visible.publish(seq);
        self.signal.after_commit();
    }

    /// The time that commits get now: the clock's, but never earlier than the last commit's.
    pub(crate) fn now_ms(&self) -> u64 {
        clock::now_ms(&self.options.clock, self.time_floor_ms.load(Ordering::SeqCst))
    }

    /// The time now, from which no later reader or commit will go back.
    pub(crate) fn observe_now_ms(&self) -> u64 {
        let now_ms = self.now_ms();
        self.raise_time(now_ms);
        now_ms
    }

    /// Remembers the time of a commit, before it is published, or the time at which somebody was told that a document
    /// has expired.
    pub(crate) fn raise_time(&self, time_ms: u64) {
        self.time_floor_ms.fetch_max(time_ms, Ordering::SeqCst);
    }

    pub(crate) fn live_collections(&self) -> Vec<Arc<CollectionState>> {
        self.collections.lock().by_name.values().cloned().collect()
    }

    /// Writes rows that nobody waits for to be on disk.
    pub(crate) fn write_rows(&self, mut rows: Rows) -> Result<()> {
        self.rocks.write(&mut rows).map_err(|error| self.health.after_failed_write(error)())
    }

    /// Writes metadata, which is on disk on return under either durability. Nobody may act on it before: what reads it
    /// are copies in memory, which its writer changes afterwards.
    pub(crate) fn write_durably(&self, rows: Rows) -> Result<()> {
        self.write_rows(rows)?;
        self.sync_log()
    }

    /// Syncs the log, and notes what is on disk by that.
    fn sync_log(&self) -> Result<()> {
        let synced = self.durable.sync(&self.rocks, self.visible());
        synced.map_err(|error| self.health.after_failed_sync(error)())
    }

    /// The end of the batch that `seq` is in. What is named by a sequence is never half a batch.
    pub(crate) fn end_of_visible_batch(&self, seq: CommitSeq) -> Result<CommitSeq> {
        let newest = self.visible();
        if seq > newest {
            return Err(Error::Invalid(format!("commit {seq} does not exist yet: the newest is {newest}")));
        }
        self.rocks.end_of_batch(seq.get()).map(CommitSeq::new)
    }

    /// The oldest commit as of which a collection, or (`None`) every one, still reads as it was.
    pub(crate) fn horizon(&self, collection: Option<&CollectionState>) -> CommitSeq {
        CommitSeq::new(match collection {
            Some(collection) => collection.horizon().complete,
            None => {
                let collections = self.collections.lock();
                collections.by_name.values().map(|state| state.horizon().complete).max().unwrap_or(0)
            }
        })
    }

    /// Refuses when retention may have dropped something of the state as of commit `at`. Whoever reads history without
    /// holding it asks when the rows are in view.
    pub(crate) fn check_retained(&self, collection: Option<&CollectionState>, at: CommitSeq) -> Result<()> {
        let oldest = self.horizon(collection);
        if at < oldest { Err(Error::NotRetained { asked: at, oldest }) } else { Ok(()) }
    }

    /// Refuses when retention may have dropped some commit after `position`. Whoever reads the feed without holding it
    /// asks again when it is read.
    pub(crate) fn check_feed_retained(&self, collection: Option<&CollectionState>, position: CommitSeq) -> Result<()> {
        let oldest = CommitSeq::new(self.horizon(collection).get().saturating_sub(1));
        if position < oldest { Err(Error::NotRetained { asked: position, oldest }) } else { Ok(()) }
    }

    /// The live collection with this number.
    pub(crate) fn collection_numbered(&self, number: CollectionNumber) -> Option<Arc<CollectionState>> {
        self.collections.lock().by_name.values().find(|state| state.number == number).cloned()
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.directory.rocks_path()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.visible.close();
        drop(self.maintenance.take());
        // Now nobody is left who waits for a commit but futures.
        drop(self.committer.lock().take());
        drop(self.flusher.take());
        drop(self.applier.take());
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Saves the next opening the replay of the log. What fails here is in the log all the same: a write that was
        // acknowledged is no less durable for it.
        if self.health.check().is_ok() && !self.health.is_full() {
            let _ = self.sync_log();
            let _ = self.rocks.finish();
        }
    }
}

fn open_files(options: &Options, path: &Path) -> Result<(Directory, Durable, Rocks)> {
    if options.read_only {
        let directory = Directory::open_shared(path)?;
        let durable = Durable::open(path, &directory.rocks_path(), false, false)?;
        let rocks = Rocks::open_read_only(&directory.rocks_path(), options, |end| durable.check_log(end))?;
        return Ok((directory, durable, rocks));
    }
    let directory = Directory::open(path, options.create_if_missing)?;
    let durable = Durable::open(path, &directory.rocks_path(), directory.is_new(), true)?;
    let rocks = Rocks::open(&directory.rocks_path(), options, directory.is_new(), |end| durable.check_log(end))?;
    Ok((directory, durable, rocks))
}

fn check_store_record(rocks: &Rocks, path: &Path) -> Result<()> {
    let Some(bytes) = rocks.meta(encoding::STORE_KEY)? else {
        return Err(Error::Corruption(format!("{} holds a database that is no etagdb store", path.display())));
    };
    let record: StoreRecord = encoding::decode_record("store record", &bytes)?;
    if record.format != encoding::FORMAT {
        return Err(Error::UnknownFormat { path: path.to_owned(), found: record.format.to_string() });
    }
    Ok(())
}

/// `newest`: the newest commit; any of them may have changed any collection.
fn load_collections(rocks: &Rocks, newest: u64) -> Result<Collections> {
    let mut by_name = BTreeMap::new();
    let horizons = rocks.meta_rows(encoding::HORIZON_PREFIX)?;
    let horizons = horizons.iter().map(|(key, value)| encoding::horizon_of_row(key, value));
    let horizons = horizons.collect::<Result<BTreeMap<_, _>>>()?;
    for (key, value) in rocks.meta_rows(encoding::COLLECTION_PREFIX)? {
        let number = encoding::collection_of_key(&key)?;
        let record: CollectionRecord = encoding::decode_record("collection record", &value)?;
        let horizon = horizons.get(&number).copied().unwrap_or_default();
        by_name.insert(record.name.clone(), Arc::new(CollectionState::new(number, record, horizon, newest)));
    }
    let next_number = match rocks.meta(encoding::NEXT_COLLECTION_KEY)? {
        Some(bytes) => encoding::next_collection(&bytes)?,
        None => 1,
    };
    Ok(Collections { by_name, next_number })
}
