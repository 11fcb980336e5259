//! The store's directory: who holds it, and whether it is ours. Owns the `FORMAT` and `LOCK` files; knows nothing of
//! what RocksDB keeps beside them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::encoding;
use crate::error::{Error, Result};

/// A directory that this handle, and nobody else, has open.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held for its lock: the operating system releases it when the file is closed, also when the process dies.
    _lock: File,
    is_new: bool,
}

impl Directory {
    /// Takes the directory and checks what it holds.
    pub(crate) fn open(path: &Path, create_if_missing: bool) -> Result<Directory> {
        if read_format(path)?.is_none() {
            if !create_if_missing {
                return Err(Error::Invalid(format!("there is no store in {}", path.display())));
            }
            refuse_foreign(path)?;
            fs::create_dir_all(path).map_err(|error| describe(path, error))?;
        }
        let lock = take_lock(path)?;
        // Read again under the lock: another process may have finished creating it meanwhile.
        let format = read_format(path)?;
        if let Some(found) = &format
            && *found != encoding::format_file().into_bytes()
        {
            let found = String::from_utf8_lossy(found);
            let found = found.trim().strip_prefix("etagdb format ").unwrap_or(found.trim()).chars().take(40).collect();
            return Err(Error::UnknownFormat { path: path.to_owned(), found });
        }
        Ok(Directory { path: path.to_owned(), _lock: lock, is_new: format.is_none() })
    }

    /// Whether there is no complete store here yet: nothing was ever acknowledged from it.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.path.join("rocksdb")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the store is complete, durably. Called once, after everything else of a new store is on disk.
    pub(crate) fn finish_creation(&mut self) -> Result<()> {
        let temporary = self.path.join("FORMAT.new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(encoding::format_file().as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join("FORMAT"))?;
            File::open(&self.path)?.sync_all()?;
            // The directory's own name must survive a power cut too.
            match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => File::open(".")?.sync_all(),
            }
        };
        write().map_err(|error| describe(&temporary, error))?;
        self.is_new = false;
        Ok(())
    }
}

fn read_format(path: &Path) -> Result<Option<Vec<u8>>> {
    let path = path.join("FORMAT");
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(describe(&path, error)),
    }
}

/// A directory without `FORMAT` may be missing, empty, or hold a creation that a crash cut short. Anything else is
/// somebody's data that we would bury.
fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(describe(path, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| describe(path, error))?.file_name();
        if !["LOCK", "FORMAT.new", "rocksdb", "lost+found"].iter().any(|ours| name == *ours) {
            return Err(Error::Invalid(format!(
                "{} holds {} and no etagdb store; name an empty or a new directory",
                path.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File> {
    let lock_path = path.join("LOCK");
    let describe = |error| describe(&lock_path, error);
    let mut file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&lock_path).map_err(describe)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // For people only: an unreadable name is as good as none.
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                name => name.chars().take(80).collect(),
            };
            return Err(Error::InUse { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(describe(error)),
    }
    file.set_len(0).map_err(describe)?;
    file.rewind().map_err(describe)?;
    file.write_all(format!("process {}\n", std::process::id()).as_bytes()).map_err(describe)?;
    Ok(file)
}

fn describe(path: &Path, error: std::io::Error) -> Error {
    Error::io(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Directory::open(dir.path(), true).expect("new");
        let error = Directory::open(dir.path(), true).expect_err("held");
        assert!(
            matches!(&error, Error::InUse { holder, .. } if *holder == format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        Directory::open(dir.path(), true).expect("free again");
    }

    #[test]
    fn a_format_from_the_future_is_refused_untouched() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("FORMAT"), "etagdb format 2\n").expect("write");
        let error = Directory::open(dir.path(), true).expect_err("unknown");
        assert!(matches!(&error, Error::UnknownFormat { found, .. } if found == "2"), "{error}");
        assert!(error.to_string().contains("knows only format 1"), "{error}");
        assert!(!dir.path().join("rocksdb").exists());
    }

    #[test]
    fn other_peoples_directories_are_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("thesis.tex"), "").expect("write");
        let error = Directory::open(dir.path(), true).expect_err("not ours");
        assert!(matches!(&error, Error::Invalid(message) if message.contains("thesis.tex")), "{error}");
    }

    #[test]
    fn nothing_is_made_when_creating_is_off() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("none");
        assert!(matches!(Directory::open(&path, false), Err(Error::Invalid(_))));
        assert!(!path.exists());
    }
}
