//! The check before open: the `MANIFEST`, which says which files a database consists of, is read by us before RocksDB reads
//! it. Owns the judgement of what it ends in, a torn tail or damage, and the cutting of torn tails; never opens a
//! database.
//!
//! # Why
//!
//! A power cut leaves a `MANIFEST` that ends in the middle of a record, in zeros, or in sectors of which some were written
//! and some were not; that is normal, and concerns only what nobody relies on yet. A flipped bit, a lost page or an old
//! copy that was put back concerns what somebody does. RocksDB's recovery does not always tell the two apart, and one
//! flipped bit makes it read for ever (see `manifest_format`).
//!
//! # How a torn tail is told from damage
//!
//! The store's [`Mark`] says which `MANIFEST` was in use and up to where it was synced: up to there each record is whole.
//! The mark can lag behind after a power cut (`durable` says how much) but is never ahead, so a torn tail is never called
//! damage. Without a mark, a whole record behind one that is not counts as damage.
//!
//! A torn tail is cut off before RocksDB sees the file. Who opens for reading only changes no file, and is refused where
//! RocksDB could not be shown the tail.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::describe;
use crate::durable::Mark;
use crate::error::{Error, Result};
use crate::manifest_format::{LogReader, Step};

/// What is to be cut off before RocksDB sees the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TornTail(Option<Cut>);

#[derive(Debug, PartialEq, Eq)]
struct Cut {
    path: PathBuf,
    at: u64,
    /// RocksDB, shown the file as it is, would replay no more than what is before the cut.
    harmless: bool,
}

impl TornTail {
    /// Cuts it off, durably. Done again after a crash in the middle of it, it comes to the same.
    pub(crate) fn cut(&self) -> Result<()> {
        if let Some(Cut { path, at, .. }) = &self.0 {
            let cut = || {
                let file = OpenOptions::new().write(true).open(path)?;
                file.set_len(*at)?;
                file.sync_all()
            };
            cut().map_err(|error| describe(path, error))?;
        }
        Ok(())
    }

    /// Refuses what RocksDB cannot be shown.
    pub(crate) fn must_be_harmless(&self) -> Result<()> {
        match self.0.iter().find(|cut| !cut.harmless) {
            None => Ok(()),
            Some(Cut { path, at, .. }) => Err(Error::Invalid(format!(
                "{}: a crash left parts of unacknowledged writes from offset {at} on, which opening the store for \
                 writing cuts off; open it so once, or open a copy",
                path.display()
            ))),
        }
    }
}

/// Reads the `MANIFEST` of the database in the directory `database` as RocksDB would, and says what is torn.
///
/// # Errors
///
/// [`Error::Corruption`] names the file and the offset of what is damaged, and what can be done; [`Error::Io`] when a
/// file cannot be read.
pub(crate) fn check(database: &Path, mark: Option<&Mark>) -> Result<TornTail> {
    let Some(manifest) = current_manifest(database)? else {
        // RocksDB refuses to open a database without a good `CURRENT`.
        return Ok(TornTail::default());
    };
    let path = database.join(format!("MANIFEST-{manifest:06}"));
    if let Some(mark) = mark
        && manifest < mark.manifest
    {
        return Err(damage(
            &database.join("CURRENT"),
            0,
            &format!("it names {}, but MANIFEST-{:06} was in use: this is an older copy", name(&path), mark.manifest),
        ));
    }
    match check_manifest(&path, manifest, mark) {
        // As above.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TornTail::default()),
        checked => checked.map_err(|error| describe(&path, error))?,
    }
}

/// The number of the `MANIFEST` that `CURRENT` names.
fn current_manifest(database: &Path) -> Result<Option<u64>> {
    let path = database.join("CURRENT");
    match fs::read(&path) {
        Ok(bytes) => Ok(manifest_number(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(describe(&path, error)),
    }
}

/// What the contents of `CURRENT` name.
pub(crate) fn manifest_number(current: &[u8]) -> Option<u64> {
    let digits = current.strip_prefix(b"MANIFEST-")?.strip_suffix(b"\n")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn check_manifest(path: &Path, number: u64, mark: Option<&Mark>) -> io::Result<Result<TornTail>> {
    // A newer one than the mark's was whole and synced before `CURRENT` named it, but how long it was is not known.
    let synced = mark.filter(|mark| mark.manifest == number).map_or(0, |mark| mark.manifest_bytes);
    let mut reader = LogReader::open(path, 0)?;
    let fault = loop {
        match reader.step()? {
            Step::Record { .. } => {}
            Step::End => break None,
            Step::Bad(fault) => break Some(fault),
        }
    };
    let whole = reader.whole();
    if whole < synced {
        let what = fault.map_or("the file ends here", |fault| fault.what);
        return Ok(Err(damage(path, whole, &format!("{what}, and {synced} bytes of it were on disk"))));
    }
    let Some(fault) = fault else { return Ok(Ok(TornTail::default())) };
    let followed = reader.record_after(&fault)?.is_some();
    if followed && mark.is_none() {
        return Ok(Err(damage(path, fault.offset, fault.what)));
    }
    let harmless = !followed && !fault.endless;
    Ok(Ok(TornTail(Some(Cut { path: path.to_owned(), at: fault.offset, harmless }))))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn damage(path: &Path, offset: u64, what: &str) -> Error {
    Error::Corruption(format!(
        "{} at offset {offset}: {what}; nothing was changed: put back the file as it was, or restore a checkpoint",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest_format::encode_log;

    #[test]
    fn the_manifest_is_whole_up_to_the_mark() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("CURRENT"), "MANIFEST-000003\n").expect("write");
        let path = dir.path().join("MANIFEST-000003");
        let records: Vec<_> = (0..20u8).map(|n| vec![3, n]).collect();
        let whole = encode_log(&records);
        let ends: Vec<_> = (1..=records.len()).map(|count| encode_log(&records[..count]).len()).collect();
        let check = |bytes: &[u8], synced: usize| {
            std::fs::write(&path, bytes).expect("write");
            check(dir.path(), Some(&Mark { manifest: 3, manifest_bytes: synced as u64, ..Mark::default() }))
        };
        for (index, &end) in ends.iter().enumerate() {
            assert_eq!(check(&whole[..end], end).expect("whole"), TornTail::default());
            assert!(check(&whole[..end - 1], end).is_err(), "a byte is missing");
            assert!(index == 0 || check(&whole[..ends[index - 1]], end).is_err(), "a record is missing");
            let mut flipped = whole.clone();
            flipped[end - 3] ^= 4;
            assert!(check(&flipped, end).is_err());
            let torn = check(&flipped, end - 9).expect("behind the mark");
            torn.cut().expect("cut");
            assert_eq!(std::fs::read(&path).expect("read").len(), end - 9);
        }
        let newer = Mark { manifest: 7, ..Mark::default() };
        let error = super::check(dir.path(), Some(&newer)).expect_err("an old CURRENT").to_string();
        assert!(error.contains("MANIFEST-000007 was in use"), "{error}");
    }

    #[test]
    fn without_a_mark_a_whole_record_behind_a_bad_one_is_damage() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("CURRENT"), "MANIFEST-000003\n").expect("write");
        let mut whole = encode_log(&(0..5u8).map(|n| vec![3; 40 + usize::from(n)]).collect::<Vec<_>>());
        let mut check = |at: usize| {
            whole[at] ^= 1;
            std::fs::write(dir.path().join("MANIFEST-000003"), &whole).expect("write");
            super::check(dir.path(), None)
        };
        let torn = check(whole_len() - 1).expect("the last record is torn");
        torn.must_be_harmless().expect("RocksDB stops there by itself");
        assert!(matches!(check(20), Err(Error::Corruption(_))));
    }

    fn whole_len() -> usize {
        encode_log(&(0..5u8).map(|n| vec![3; 40 + usize::from(n)]).collect::<Vec<_>>()).len()
    }
}
