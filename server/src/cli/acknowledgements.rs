//! The acknowledgement log: one line for every document that is stored, written as soon as that is known.
//!
//! A test that kills the import reads it to learn what must still be there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::document::{Document, quoted};

/// An open acknowledgement log; lines are appended whole.
#[derive(Debug)]
pub(super) struct AckLog {
    path: PathBuf,
    file: Mutex<File>,
}

impl AckLog {
    /// Opens the log at `path`, creating it if it is missing.
    ///
    /// # Errors
    /// One line for the user.
    pub(super) fn open(path: &Path) -> Result<AckLog, String> {
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            if !ends_with_line(path)? {
                // A crash cut the last line short; what follows must not be joined to it.
                file.write_all(b"\n")?;
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(AckLog { path: path.to_owned(), file: Mutex::new(file) }),
            Err(error) => Err(format!("cannot append to {}: {error}", path.display())),
        }
    }

    /// Appends the line of one stored document.
    pub(super) fn append(&self, document: &Document, etag: &str) -> Result<(), String> {
        let Document { id, partition_key, .. } = document;
        let line = format!("{{\"id\":{},\"pk\":{partition_key},\"etag\":{}}}\n", quoted(id), quoted(etag));
        let written = self.file.lock().write_all(line.as_bytes());
        written.map_err(|error| format!("cannot append to {}: {error}", self.path.display()))
    }
}

/// Whether the file is empty, ends with a whole line, or is no file that ends at all.
fn ends_with_line(path: &Path) -> io::Result<bool> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_after_a_line_that_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        std::fs::write(&path, "{\"id\":").unwrap();
        let document = Document { id: "a\"b".into(), partition_key: "[\"x\",{}]".into(), text: Vec::new() };
        for _ in 0..2 {
            AckLog::open(&path).unwrap().append(&document, "\"1-2\"").unwrap();
        }
        let line = "{\"id\":\"a\\\"b\",\"pk\":[\"x\",{}],\"etag\":\"\\\"1-2\\\"\"}\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{{\"id\":\n{line}{line}"));
    }

    #[test]
    fn a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(AckLog::open(dir.path()).unwrap_err().starts_with("cannot append to "));
    }
}
