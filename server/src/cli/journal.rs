//! The progress file of an import: how far every document is known to be acknowledged, so that an interrupted import goes
//! on where it stopped.
//!
//! It never claims more than was acknowledged. Claiming less is harmless: those documents are written once more, with
//! the same ids and the same content.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::reader::{Form, Position};

/// The layout of the file; another number is not read.
const FORMAT: u32 = 1;

/// How much of the input's beginning is hashed.
const FIRST_BLOCK_BYTES: u64 = 64 << 10;

/// What happened to documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Documents that were not there before.
    pub(super) created: u64,
    /// Documents that took the place of one with the same id and partition key.
    pub(super) replaced: u64,
    /// Bad documents passed over.
    pub(super) skipped: u64,
}

impl Tally {
    /// Documents that are stored.
    pub(super) fn stored(&self) -> u64 {
        self.created + self.replaced
    }
}

/// What tells one input file from another without reading all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    size: u64,
    modified_ns: u64,
    first_block_sha256: String,
}

impl Identity {
    /// Takes the identity of an open file, and leaves it at its beginning.
    pub(super) fn of(file: &mut File) -> io::Result<Identity> {
        let metadata = file.metadata()?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        Read::by_ref(file).take(FIRST_BLOCK_BYTES).read_to_end(&mut block)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Identity {
            size: metadata.len(),
            modified_ns: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
            first_block_sha256: hex(&Sha256::digest(&block)),
        })
    }
}

/// The content of the progress file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where the documents go.
    pub(super) destination: String,
    /// Where their ids come from.
    pub(super) id_source: String,
    /// The input file; absent for standard input.
    pub(super) input: Option<Identity>,
    /// How the input separates its documents.
    pub(super) form: Form,
    /// Every document before this place is acknowledged or passed over.
    pub(super) position: Position,
    /// What happened to them.
    pub(super) tally: Tally,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    etagdb_import: u32,
    #[serde(flatten)]
    entry: Entry,
}

/// The progress file.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    /// Names the progress file.
    pub(super) fn at(path: PathBuf) -> Journal {
        Journal { path }
    }

    /// Names the progress file of an input when nobody said where it is: beside the input, one for each destination.
    pub(super) fn beside(input: &Path, destination: &str) -> Journal {
        let mut name = input.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.etagdb-import", &hex(&Sha256::digest(destination))[..8]));
        Journal { path: input.with_file_name(name) }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what an earlier run left, or `None` if there is no file.
    ///
    /// # Errors
    /// `InvalidData` for a file that is no progress file of this release.
    pub(super) fn load(&self) -> io::Result<Option<Entry>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Stored>(&bytes) {
            Ok(stored) if stored.etagdb_import == FORMAT => Ok(Some(stored.entry)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a progress file of this release")),
        }
    }

    /// Replaces the file in one step: after a crash there is the old or the new one, whole.
    pub(super) fn store(&self, entry: &Entry) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&Stored { etagdb_import: FORMAT, entry: entry.clone() })?;
        text.push(b'\n');
        let new = self.new_path();
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }

    /// Removes the file, if there is one.
    pub(super) fn remove(&self) -> io::Result<()> {
        for path in [self.new_path(), self.path.clone()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the next content is written before it takes the file's name.
    fn new_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            destination: "somewhere".into(),
            id_source: "id".into(),
            input: None,
            form: Form::Array,
            position: Position { documents: 3, offset: 1 << 40, line: 2, line_start: 9, digest: u64::MAX },
            tally: Tally { created: 1, replaced: 1, skipped: 1 },
        }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::beside(&dir.path().join("cities.json"), "demo/cities");
        assert_eq!(journal.load().unwrap(), None);
        journal.store(&entry()).unwrap();
        let mut later = entry();
        later.position.documents = 4;
        journal.store(&later).unwrap();
        assert_eq!(journal.load().unwrap(), Some(later));
        journal.remove().unwrap();
        journal.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn destinations_do_not_share_a_file() {
        let input = Path::new("/data/cities.json");
        assert_ne!(Journal::beside(input, "a").path(), Journal::beside(input, "b").path());
        assert_eq!(Journal::beside(input, "a").path().parent(), input.parent());
    }

    #[test]
    fn a_file_that_is_something_else_is_not_taken_for_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path().join("notes.txt"));
        let future = serde_json::to_string(&Stored { etagdb_import: 2, entry: entry() }).unwrap();
        for text in ["", "{}", "remember the milk", &future] {
            fs::write(journal.path(), text).unwrap();
            assert_eq!(journal.load().unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }

    #[test]
    fn an_edited_file_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        let identity = || Identity::of(&mut File::open(&path).unwrap()).unwrap();
        fs::write(&path, "{\"a\":1}").unwrap();
        let before = identity();
        assert_eq!(before, identity());
        fs::write(&path, "{\"a\":2}").unwrap();
        assert_ne!(before.first_block_sha256, identity().first_block_sha256);
    }
}
