//! A disk in memory: a log of writes, how much of it is synced, and the rows that follow from it. Owns what a failing
//! call and a power cut leave of them. Stores find their disk by the path that they are opened at.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use shuttle::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

pub(crate) const FAMILIES: usize = 4;
pub(crate) const META: usize = 0;
pub(crate) const VERSIONS: usize = 1;
pub(crate) const FEED: usize = 2;

/// The rows of all families. Shared with those who read them as they were.
pub(crate) type Rows = [BTreeMap<Vec<u8>, Vec<u8>>; FAMILIES];

#[derive(Clone)]
pub(crate) enum Change {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
}

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A sync fails, and no write is taken from then on. What was written may be on disk all the same.
    Sync,
    /// As that, of a write to the log; none of it is written.
    Write,
    /// No space; none of it is written. There is none until [`Disk::make_space`].
    Full,
    /// As that, of the database; the log takes what is written.
    Refused,
}

/// What a store is opened on. All clones are one disk.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// Held for the whole of a write, as the log's writer is.
    writing: shuttle::sync::Mutex<()>,
    /// Loaded where others are to be able to come between.
    between: AtomicU64,
}

#[derive(Default)]
struct State {
    /// What the database has of the log.
    rows: Arc<Rows>,
    log: Vec<Vec<Change>>,
    synced: usize,
    /// Writes and syncs that began.
    writes: u64,
    syncs: u64,
    fault: Option<(u64, Fault)>,
    failing: Option<Fault>,
    has_failed: bool,
    has_refused: bool,
}

// All threads of a schedule are one to the operating system.
std::thread_local! {
    static DISKS: RefCell<HashMap<PathBuf, Disk>> = RefCell::default();
}

impl Disk {
    /// An empty disk, found by stores at `path` until [`remove`](Disk::remove).
    pub fn new(path: &str) -> Disk {
        Disk::holding(path.as_ref(), Vec::new())
    }

    fn holding(path: &Path, log: Vec<Vec<Change>>) -> Disk {
        let mut state = State::default();
        for changes in log {
            apply(Arc::make_mut(&mut state.rows), &changes);
            state.log.push(changes);
        }
        state.synced = state.log.len();
        let shared = Shared {
            path: path.into(),
            state: Mutex::new(state),
            writing: shuttle::sync::Mutex::new(()),
            between: AtomicU64::new(0),
        };
        let disk = Disk { shared: Arc::new(shared) };
        DISKS.with_borrow_mut(|disks| disks.insert(path.into(), disk.clone()));
        disk
    }

    pub(crate) fn at(path: &Path) -> Result<Disk> {
        let disk = DISKS.with_borrow(|disks| disks.get(path).cloned());
        disk.ok_or_else(|| Error::Invalid(format!("there is no disk at {}", path.display())))
    }

    /// The disk that stores find at `path`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn at_path(path: &str) -> Disk {
        Disk::at(path.as_ref()).expect("a disk")
    }

    /// Where stores find it.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Stores find it no more.
    pub fn remove(&self) {
        DISKS.with_borrow_mut(|disks| disks.remove(&self.shared.path));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Never held where others can come between.
        self.shared.state.lock().expect("a panic ends the schedule")
    }

    fn let_others_come_between(&self) {
        self.shared.between.load(Ordering::SeqCst);
    }

    /// Has the `nth` write, or sync, from now on fail, counting from 1.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        let begun = if fault == Fault::Sync { state.syncs } else { state.writes };
        state.fault = Some((begun + nth, fault));
    }

    /// Ends [`Fault::Full`] and [`Fault::Refused`].
    pub fn make_space(&self) {
        let mut state = self.state();
        state.failing = state.failing.filter(|&fault| !is_full(fault));
    }

    /// Whether writes fail now.
    pub fn fails(&self) -> bool {
        self.state().failing.is_some()
    }

    /// Whether a write has failed.
    pub fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    /// The newest commit that a power cut now could not take back.
    pub fn durable_commit(&self) -> u64 {
        let state = self.state();
        newest_commit(&state.log[..state.synced])
    }

    /// The disk after a power cut: all that is synced, and `more` of the writes that are not, as far as there are any.
    pub fn after_power_cut(&self, path: &str, more: usize) -> Disk {
        let state = self.state();
        let left = state.log.len().min(state.synced + more);
        Disk::holding(path.as_ref(), state.log[..left].to_vec())
    }

    /// How many writes are not synced.
    pub fn unsynced(&self) -> usize {
        let state = self.state();
        state.log.len() - state.synced
    }

    /// How many collections there are, and versions, as far as no power cut can change it.
    pub fn durable_rows(&self) -> (usize, usize) {
        let state = self.state();
        let mut rows = Rows::default();
        state.log[..state.synced].iter().for_each(|changes| apply(&mut rows, changes));
        let collections = rows[META].keys().filter(|key| key.starts_with(crate::encoding::COLLECTION_PREFIX));
        (collections.count(), rows[VERSIONS].len())
    }

    /// Makes a copy of what is applied at some moment of this call, synced, for stores at `path`.
    pub(crate) fn copy(&self, path: &Path) {
        self.let_others_come_between();
        let state = self.state();
        let families = state.rows.iter().enumerate();
        let puts = families
            .flat_map(|(family, rows)| {
                rows.iter().map(move |(key, value)| Change::Put(family, key.clone(), value.clone()))
            })
            .collect();
        drop(state);
        drop(Disk::holding(path, vec![puts]));
        self.let_others_come_between();
    }

    /// Takes version rows with `start <= key < end` away from whatever a power cut leaves, as if their files were gone.
    pub(crate) fn forget_versions(&self, start: &[u8], end: &[u8]) {
        self.let_others_come_between();
        let gone =
            |change: &Change| matches!(change, Change::Put(VERSIONS, key, _) if (start..end).contains(&&key[..]));
        self.state().log.iter_mut().for_each(|changes| changes.retain(|change| !gone(change)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().log.is_empty()
    }

    /// Where the newest record of the log ends.
    pub(crate) fn log_end(&self) -> u64 {
        self.state().log.len() as u64
    }

    /// The rows that the database has now.
    pub(crate) fn rows(&self) -> Arc<Rows> {
        self.let_others_come_between();
        Arc::clone(&self.state().rows)
    }

    /// The right to append to the log.
    pub(crate) fn writer(&self) -> shuttle::sync::MutexGuard<'_, ()> {
        self.shared.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Appends to the log.
    pub(crate) fn append(&self, changes: Vec<Change>) -> Result<()> {
        {
            let mut state = self.state();
            if !changes.is_empty() {
                state.writes += 1;
                let writes = state.writes;
                state.fail_at(writes, &[Fault::Write, Fault::Full, Fault::Refused]);
            }
            if state.failing != Some(Fault::Refused) {
                state.takes_writes()?;
            }
            state.log.push(changes);
        }
        self.let_others_come_between();
        Ok(())
    }

    /// Has the database take what is in the log.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<()> {
        self.let_others_come_between();
        {
            let mut state = self.state();
            state.has_refused = state.failing == Some(Fault::Refused);
            if state.has_refused {
                return Err(failure(Fault::Refused));
            }
            apply(Arc::make_mut(&mut state.rows), changes);
        }
        self.let_others_come_between();
        Ok(())
    }

    /// Whether the database has refused the last changes.
    pub(crate) fn has_refused(&self) -> bool {
        self.state().has_refused
    }

    /// Syncs what was written before the call.
    pub(crate) fn sync(&self) -> Result<()> {
        let end = {
            let mut state = self.state();
            state.syncs += 1;
            state.log.len()
        };
        self.let_others_come_between();
        {
            let mut state = self.state();
            let syncs = state.syncs;
            state.fail_at(syncs, &[Fault::Sync]);
            // What is in the log has its space.
            if !state.failing.is_some_and(is_full) {
                state.takes_writes()?;
            }
            state.synced = state.synced.max(end);
        }
        self.let_others_come_between();
        Ok(())
    }
}

impl State {
    fn takes_writes(&self) -> Result<()> {
        self.failing.map_or(Ok(()), |fault| Err(failure(fault)))
    }

    /// Begins to fail if the fault that is to come is one of these, and it is time.
    fn fail_at(&mut self, count: u64, faults: &[Fault]) {
        if let Some((_, fault)) = self.fault.filter(|(nth, fault)| faults.contains(fault) && count >= *nth) {
            self.fault = None;
            self.failing = Some(fault);
            self.has_failed = true;
        }
    }
}

fn is_full(fault: Fault) -> bool {
    matches!(fault, Fault::Full | Fault::Refused)
}

fn failure(fault: Fault) -> Error {
    match fault {
        Fault::Sync | Fault::Write => Error::io("the disk failed on purpose"),
        Fault::Full | Fault::Refused => Error::DiskFull("no space, on purpose".into()),
    }
}

pub(crate) fn apply(rows: &mut Rows, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(family, key, value) => drop(rows[*family].insert(key.clone(), value.clone())),
            Change::Delete(family, key) => drop(rows[*family].remove(key)),
            Change::DeleteRange(family, start, end) => rows[*family].retain(|key, _| !(start..end).contains(&key)),
        }
    }
}

fn newest_commit(log: &[Vec<Change>]) -> u64 {
    let commits = log.iter().flatten().filter_map(|change| match change {
        Change::Put(FEED, key, _) => key.as_slice().try_into().map(u64::from_be_bytes).ok(),
        _ => None,
    });
    commits.max().unwrap_or(0)
}
