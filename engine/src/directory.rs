//! The store's directory: who holds it, whether it is ours, and whether it is complete. Owns the `FORMAT`,
//! `UNFINISHED` and `LOCK` files; knows nothing of what RocksDB keeps beside them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::durable::DURABLE_FILE;
use crate::encoding;
use crate::error::{Error, Result};
use crate::log::LOG_DIR;

const FORMAT_FILE: &str = "FORMAT";
const UNFINISHED_FILE: &str = "UNFINISHED";
const LOCK_FILE: &str = "LOCK";
const ROCKS_DIR: &str = "rocksdb";

/// A directory that this handle has open: alone for writing, or together with other readers.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held for its lock. `None` for a reader where no lock file can be made.
    lock: Option<File>,
    is_new: bool,
}

impl Drop for Directory {
    /// Releases the lock by name. Closing the file is not enough: the lock belongs to the open file, which a child
    /// process shares from its fork until its exec, when this process starts one at this moment. (When the process
    /// dies the operating system releases it.)
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

impl Directory {
    /// Takes the directory for writing and checks what it holds.
    pub(crate) fn open(path: &Path, create_if_missing: bool) -> Result<Directory> {
        if read_format(path)?.is_none() {
            refuse_unfinished(path)?;
            if !create_if_missing {
                return Err(no_store(path));
            }
            refuse_foreign(path)?;
            fs::create_dir_all(path).map_err(|error| describe(path, error))?;
        }
        let lock = take_lock(path)?;
        // Read again under the lock: another process may have finished creating it meanwhile.
        let format = read_format(path)?;
        if let Some(found) = &format {
            check_format(path, found)?;
            // Whoever made it may have died, or failed, before it had these on disk.
            sync_names(path).map_err(|error| describe(path, error))?;
        }
        Ok(Directory { path: path.to_owned(), lock: Some(lock), is_new: format.is_none() })
    }

    /// Takes the directory of a complete store for reading, together with other readers. Creates nothing but the lock
    /// file, and not even that where it cannot.
    pub(crate) fn open_shared(path: &Path) -> Result<Directory> {
        let Some(format) = read_format(path)? else {
            refuse_unfinished(path)?;
            return Err(no_store(path));
        };
        check_format(path, &format)?;
        Ok(Directory { path: path.to_owned(), lock: share_lock(path)?, is_new: false })
    }

    /// Whether there is no complete store here yet: nothing was ever acknowledged from it.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.path.join(ROCKS_DIR)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIR)
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
            fs::rename(&temporary, self.path.join(FORMAT_FILE))?;
            sync_names(&self.path)
        };
        write().map_err(|error| describe(&temporary, error))?;
        self.is_new = false;
        Ok(())
    }
}

/// A directory that is being made into a copy of a store.
///
/// From its first moment to its last it holds the file `UNFINISHED`, which becomes `FORMAT` by being renamed: a copy
/// that a crash cuts short is not mistaken for a store, nor for the beginnings of one. Dropped unfinished, it removes
/// what it made.
#[derive(Debug)]
pub(crate) struct Construction {
    path: PathBuf,
    /// Whether the directory itself goes with what is in it when this fails.
    made_directory: bool,
    finished: bool,
}

impl Construction {
    /// Begins in a directory that does not exist yet, or (if `empty_is_fine`) in an empty one.
    pub(crate) fn begin(path: &Path, empty_is_fine: bool) -> Result<Construction> {
        if let Some(parent) = path.parent()
            && !parent.as_os_str().is_empty()
        {
            fs::create_dir_all(parent).map_err(|error| describe(parent, error))?;
        }
        let made_directory = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
                if !(empty_is_fine && is_empty()) {
                    let state = if empty_is_fine { "is not an empty directory" } else { "exists already" };
                    return Err(Error::Invalid(format!("{} {state}; name a new directory", path.display())));
                }
                false
            }
            Err(error) => return Err(describe(path, error)),
        };
        let mark = path.join(UNFINISHED_FILE);
        let write = || -> std::io::Result<()> {
            // Made anew, so that of two who begin in one empty directory one fails.
            let mut file = OpenOptions::new().write(true).create_new(true).open(&mark)?;
            file.write_all(encoding::format_file().as_bytes())?;
            file.sync_all()?;
            File::open(path)?.sync_all()
        };
        write().map_err(|error| describe(&mark, error))?;
        Ok(Construction { path: path.to_owned(), made_directory, finished: false })
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.path.join(ROCKS_DIR)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIR)
    }

    /// Makes it a store, durably. Everything in it must be on disk by now.
    pub(crate) fn finish(mut self) -> Result<()> {
        let finish = || -> std::io::Result<()> {
            // The names of what was made come before the name that says it is all there.
            File::open(&self.path)?.sync_all()?;
            fs::rename(self.path.join(UNFINISHED_FILE), self.path.join(FORMAT_FILE))?;
            sync_names(&self.path)
        };
        finish().map_err(|error| describe(&self.path, error))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Construction {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // What cannot be removed says of itself that it is unfinished, as long as the mark goes last.
        let remove = |name| match fs::remove_dir_all(self.path.join(name)) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        if remove(ROCKS_DIR) && remove(LOG_DIR) {
            let _ = fs::remove_file(self.path.join(DURABLE_FILE));
            let _ = fs::remove_file(self.path.join(UNFINISHED_FILE));
            if self.made_directory {
                let _ = fs::remove_dir(&self.path);
            }
        }
    }
}

/// Makes the names in a directory durable, and its own name.
fn sync_names(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(parent.unwrap_or(Path::new("."))) {
        // Who may not list a directory cannot sync it either, nor has made anything in it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        parent => parent?.sync_all(),
    }
}

fn no_store(path: &Path) -> Error {
    Error::Invalid(format!("there is no store in {}", path.display()))
}

fn check_format(path: &Path, found: &[u8]) -> Result<()> {
    if found == encoding::format_file().as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found);
    let found = found.trim().strip_prefix("etagdb format ").unwrap_or(found.trim()).chars().take(40).collect();
    Err(Error::UnknownFormat { path: path.to_owned(), found })
}

/// A copy that was cut short may lack any of its files: opening it could pass for data loss.
fn refuse_unfinished(path: &Path) -> Result<()> {
    if path.join(UNFINISHED_FILE).exists() {
        return Err(Error::Invalid(format!(
            "{} is an unfinished checkpoint or restore; delete it and make it again",
            path.display()
        )));
    }
    Ok(())
}

fn read_format(path: &Path) -> Result<Option<Vec<u8>>> {
    let path = path.join(FORMAT_FILE);
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
        if ![LOCK_FILE, "FORMAT.new", DURABLE_FILE, "DURABLE.new", LOG_DIR, ROCKS_DIR, "lost+found"]
            .iter()
            .any(|ours| name == *ours)
        {
            return Err(Error::Invalid(format!(
                "{} holds {} and no etagdb store; name an empty or a new directory",
                path.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

/// Locks out everybody else.
fn take_lock(path: &Path) -> Result<File> {
    let lock_path = path.join(LOCK_FILE);
    let describe = |error| describe(&lock_path, error);
    let mut file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&lock_path).map_err(describe)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
            let _ = file.unlock();
            // Readers do not write their names, and the one that is there is of an earlier writer.
            return Err(Error::InUse { path: path.to_owned(), holder: "readers".to_owned() });
        }
        Err(TryLockError::WouldBlock) => return Err(held_by_writer(path, file)),
        Err(TryLockError::Error(error)) => return Err(describe(error)),
    }
    file.set_len(0).map_err(describe)?;
    file.rewind().map_err(describe)?;
    file.write_all(format!("process {}\n", std::process::id()).as_bytes()).map_err(describe)?;
    Ok(file)
}

/// Locks out writers. `None` where there is no lock file and none can be made.
fn share_lock(path: &Path) -> Result<Option<File>> {
    let lock_path = path.join(LOCK_FILE);
    let describe = |error| describe(&lock_path, error);
    let file = match File::open(&lock_path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match OpenOptions::new().create(true).read(true).append(true).open(&lock_path) {
                Ok(file) => file,
                Err(error) => match error.kind() {
                    std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => return Ok(None),
                    _ => return Err(describe(error)),
                },
            }
        }
        Err(error) => return Err(describe(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(held_by_writer(path, file)),
        Err(TryLockError::Error(error)) => Err(describe(error)),
    }
}

fn held_by_writer(path: &Path, mut lock: File) -> Error {
    let mut holder = String::new();
    // For people only: an unreadable name is as good as none.
    let _ = lock.read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        name => name.chars().take(80).collect(),
    };
    Error::InUse { path: path.to_owned(), holder }
}

/// An operating system's error with the path that it is about.
pub(crate) fn describe(path: &Path, error: std::io::Error) -> Error {
    let cause = std::io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::StorageFull => Error::DiskFull(cause.into()),
        _ => Error::io(cause),
    }
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

    /// Seen as a store that could not be reopened while another thread was starting a process. A second descriptor of
    /// the open file is what a child has between its fork and its exec.
    #[test]
    fn a_child_that_is_being_started_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for open in [|path: &Path| Directory::open(path, true), |path: &Path| Directory::open_shared(path)] {
            let mut first = open(dir.path()).expect("free");
            if first.is_new() {
                first.finish_creation().expect("finish");
            }
            let _of_the_child = first.lock.as_ref().expect("locked").try_clone().expect("second descriptor");
            drop(first);
            drop(Directory::open(dir.path(), true).expect("free, though the file is open elsewhere"));
        }
    }

    #[test]
    fn a_format_from_the_future_is_refused_untouched() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("FORMAT"), "etagdb format 5\n").expect("write");
        let error = Directory::open(dir.path(), true).expect_err("unknown");
        assert!(matches!(&error, Error::UnknownFormat { found, .. } if found == "5"), "{error}");
        assert!(error.to_string().contains("knows only format 4"), "{error}");
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
    fn readers_share_and_exclude_writers() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut writer = Directory::open(dir.path(), true).expect("new");
        writer.finish_creation().expect("finish");
        let refused = Directory::open_shared(dir.path()).expect_err("written");
        assert!(matches!(&refused, Error::InUse { holder, .. } if holder.starts_with("process")), "{refused}");
        drop(writer);
        let readers = [(); 2].map(|()| Directory::open_shared(dir.path()).expect("shared"));
        let refused = Directory::open(dir.path(), true).expect_err("read");
        assert!(matches!(&refused, Error::InUse { holder, .. } if holder == "readers"), "{refused}");
        drop(readers);
        Directory::open(dir.path(), true).expect("free again");
    }

    #[test]
    fn an_unfinished_copy_is_refused_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("copy");
        let copy = Construction::begin(&path, false).expect("begin");
        for refused in [Directory::open(&path, true), Directory::open_shared(&path)] {
            let error = refused.expect_err("unfinished");
            assert!(matches!(&error, Error::Invalid(message) if message.contains("unfinished")), "{error}");
        }
        assert!(matches!(Construction::begin(&path, true), Err(Error::Invalid(_))), "somebody is at it");
        fs::create_dir(copy.rocks_path()).expect("create");
        drop(copy);
        assert!(!path.exists());

        fs::create_dir(&path).expect("create");
        assert!(matches!(Construction::begin(&path, false), Err(Error::Invalid(_))));
        drop(Construction::begin(&path, true).expect("empty"));
        assert_eq!(fs::read_dir(&path).expect("it was there before").count(), 0);
        Construction::begin(&path, true).expect("empty").finish().expect("finish");
        Directory::open_shared(&path).expect("complete");
    }

    #[test]
    fn nothing_is_made_when_creating_is_off() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("none");
        assert!(matches!(Directory::open(&path, false), Err(Error::Invalid(_))));
        assert!(!path.exists());
    }
}
