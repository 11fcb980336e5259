//! The engine's `directory.rs` where there are no files: a store's directory is a disk, and nobody else can take it.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::{Error, Result};

pub(crate) struct Directory {
    disk: Disk,
    is_new: bool,
}

impl Directory {
    pub(crate) fn open(path: &Path, _: bool) -> Result<Directory> {
        let disk = Disk::at(path)?;
        let is_new = disk.is_empty();
        Ok(Directory { disk, is_new })
    }

    pub(crate) fn open_shared(path: &Path) -> Result<Directory> {
        Directory::open(path, false)
    }

    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.path().to_owned()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.rocks_path()
    }

    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    pub(crate) fn finish_creation(&mut self) -> Result<()> {
        self.is_new = false;
        Ok(())
    }
}

/// A store that is being made elsewhere: there are no names that a crash could leave half done.
pub(crate) struct Construction {
    path: PathBuf,
}

impl Construction {
    pub(crate) fn begin(path: &Path, _: bool) -> Result<Construction> {
        Ok(Construction { path: path.to_owned() })
    }

    pub(crate) fn rocks_path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.rocks_path()
    }

    pub(crate) fn finish(self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn describe(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{}: {error}", path.display()))
}
