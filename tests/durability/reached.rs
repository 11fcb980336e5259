//! What a recorded life did with its log: a test that asks for power cuts around these must not silently stop having any.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::recorder::Event;

/// How often a life came to the places of the log where mistakes are likely.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Reached {
    /// Segments that were begun, in new files.
    pub(crate) begun: u64,
    /// Segments that were begun in the file of an older one.
    pub(crate) written_over: u64,
    /// Segments that were removed.
    pub(crate) removed: u64,
    /// Sorted files that RocksDB began.
    pub(crate) tables: u64,
    /// Files that RocksDB made its own (synced a `MANIFEST`) while the log had something unsynced that is in them.
    pub(crate) ahead: u64,
    /// Removals of segments before any was begun: what a recovery ends with.
    pub(crate) removed_first: u64,
    /// How many events there were up to the last of these.
    pub(crate) recovery: usize,
}

impl Reached {
    pub(crate) fn of(events: &[Event]) -> Reached {
        let mut reached = Reached::default();
        let mut paths: HashMap<u32, &Path> = HashMap::new();
        // By file: the moments of writes that are not synced.
        let mut unsynced: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        let mut syncs: HashMap<u64, (usize, PathBuf)> = HashMap::new();
        let mut newest_table = None;
        for (moment, event) in events.iter().enumerate() {
            match event {
                Event::Open { fd, path, create, .. } => {
                    paths.insert(*fd, path);
                    reached.begun += u64::from(*create && is_segment(path));
                    if *create && path.extension().is_some_and(|extension| extension == "sst") {
                        reached.tables += 1;
                        newest_table = Some(moment);
                    }
                }
                Event::Write { fd, .. } => {
                    if let Some(path) = paths.get(fd).filter(|path| is_segment(path)) {
                        unsynced.entry(path.to_path_buf()).or_default().push(moment);
                    }
                }
                Event::SyncBegins { fd, number } => {
                    if let Some(path) = paths.get(fd) {
                        syncs.insert(*number, (moment, path.to_path_buf()));
                    }
                }
                Event::SyncEnds { number } => {
                    let Some((begun, path)) = syncs.remove(number) else { continue };
                    if let Some(writes) = unsynced.get_mut(&path) {
                        writes.retain(|&write| write >= begun);
                    }
                    let is_manifest =
                        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"));
                    let in_table = |write: &usize| newest_table.is_some_and(|table| *write < table);
                    reached.ahead += u64::from(is_manifest && unsynced.values().flatten().any(in_table));
                }
                Event::Rename { from, to } if is_segment(from) && is_segment(to) => reached.written_over += 1,
                Event::Remove { path } if is_segment(path) => {
                    reached.removed += 1;
                    if reached.begun == 0 {
                        reached.removed_first += 1;
                        reached.recovery = moment;
                    }
                }
                _ => {}
            }
        }
        reached
    }
}

/// Whether a path is that of a segment of a store's log.
pub(crate) fn is_segment(path: &Path) -> bool {
    path.parent().is_some_and(|directory| directory.ends_with("log"))
        && path.extension().is_some_and(|extension| extension == "log")
}
