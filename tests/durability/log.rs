//! The files of a store as the tests read them, by what is drawn in the engine (`segment.rs`, `durable.rs`): up to where
//! RocksDB has the log in files, up to where the log was noted to be on disk, and what is between.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};

use crate::disk::Image;
use crate::reached::is_segment;

/// Where a segment begins, by its name.
pub(crate) fn start(path: &Path) -> u64 {
    let name = path.file_stem().and_then(|name| name.to_str()).expect("UTF-8");
    u64::from_str_radix(name, 16).expect("sixteen digits")
}

/// Up to where RocksDB has the log of the store in a directory in files; `None` where it has none yet.
pub(crate) fn applied(store: &Path) -> Option<u64> {
    let families = ["default", "versions", "feed", "expiry"];
    let db = DB::open_cf_for_read_only(&Options::default(), store.join("rocksdb"), families, false).ok()?;
    let row = db.get(b"applied").expect("readable")?;
    Some(u64::from_le_bytes(row.try_into().expect("a position")))
}

/// Up to where the log of a store was noted to be on disk.
fn marked(mark: &[u8]) -> u64 {
    let number = |slot: &[u8], at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
    let slots = mark.chunks(512).filter(|slot| slot.starts_with(b"edbmark"));
    slots.max_by_key(|slot| number(slot, 8)).map_or(0, |slot| number(slot, 24))
}

/// The bytes of the log in an image that a recovery needs and that were on disk: heads of segments, and records without what
/// fills them up. `applied`: what RocksDB has.
pub(crate) fn needed(image: &Image, store: &str, applied: u64) -> Vec<(PathBuf, Range<usize>)> {
    let marked = marked(image[&Path::new(store).join("DURABLE")].as_ref().expect("a file"));
    let segments: Vec<&PathBuf> = image.keys().filter(|path| is_segment(path) && path.starts_with(store)).collect();
    let (mut needed, mut position) = (Vec::new(), applied);
    let mut last = None;
    while position < marked {
        let path = segments.iter().filter(|path| start(path) <= position).max_by_key(|path| start(path));
        let path = *path.expect("a segment");
        if last != Some(path) {
            // Magic, salt, position and checksum.
            needed.push((path.clone(), 0..28));
            last = Some(path);
        }
        let bytes = image[path].as_ref().expect("a file");
        let at = 512 + (position - start(path)) as usize;
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes")) as usize;
        needed.push((path.clone(), at..at + 8 + len));
        position += 8 + len.next_multiple_of(8) as u64;
    }
    needed
}
