//! Copies of a store on disk: a checkpoint of an open one, and a store made from a checkpoint. Owns which files go and
//! in what order; the marks that tell a whole copy from a half-made one are `directory`'s.
//!
//! A copy needs no new epoch written into it: every opening of a store begins one with its first write (see
//! `encoding`), so the store that goes on and the copy that is opened later never make the same etag.

use std::fs::{self, File};
use std::path::Path;

use crate::CommitSeq;
use crate::directory::{Construction, Directory, describe};
use crate::durable::{self, Durable};
use crate::encoding;
use crate::error::Result;
use crate::options::Options;
use crate::rocks::Rocks;
use crate::store::Store;

impl Store {
    /// Makes a checkpoint: a consistent copy of the whole store in the new directory `dir`, while writers go on.
    ///
    /// Returns the newest commit in it. It holds every commit that was acknowledged before the call, whole batches
    /// only, with all the history that the store has, and is on disk on return under either
    /// [`Durability`](crate::Durability). A checkpoint is a store of its own: open it, also
    /// [read-only](Options::read_only), or [restore](Store::restore) it elsewhere. The etags of its versions are those
    /// of this store; what is written to either of the two afterwards has etags that the other one never gives.
    ///
    /// On the same file system it takes little time and space, because sorted files are shared as hard links (RocksDB
    /// writes each of them once); what is not in one yet, about
    /// [`write_buffer_bytes`](Options::write_buffer_bytes) at the most, is written to one. On another file system all is
    /// copied. Shared
    /// files guard against mistakes, not against the loss of the disk: copy the checkpoint elsewhere for that. As the
    /// store goes on, files that only the checkpoint still has take up space until its directory is deleted.
    ///
    /// Missing parents of `dir` are made. A checkpoint that a crash cuts short is no store: opening it is
    /// [`Error::Invalid`](crate::Error::Invalid), and it can be deleted. One that fails removes what it made.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) when `dir` exists; [`Error::ReadOnly`](crate::Error::ReadOnly) when the store takes no writes (copy a store that is
    /// open for reading, or that failed and was closed, with [`Store::restore`]); [`Error::DiskFull`](crate::Error::DiskFull) and
    /// [`Error::Io`](crate::Error::Io) when copying fails. The store itself goes on in every case.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{Precondition, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = |name: &str| dir.path().join(name);
    /// let store = Store::open(path("shop"))?;
    /// let carts = store.collection("carts")?;
    /// let saved = carts.put("ana", "1 pen", Precondition::Any)?;
    /// store.checkpoint(path("monday"))?;
    /// let later = carts.put("ana", "none", Precondition::Any)?;
    ///
    /// Store::restore(path("monday"), path("restored"))?;
    /// let restored = Store::open(path("restored"))?;
    /// let carts = restored.collection("carts")?;
    /// assert_eq!(carts.get("ana")?.expect("saved").etag, saved.etag);
    /// // The same commit sequence again, but not the same etag: the other store's is still nobody's here.
    /// let again = carts.put("ana", "2 pens", saved.etag)?;
    /// assert_eq!(again.seq, later.seq);
    /// assert_ne!(again.etag, later.etag);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<CommitSeq> {
        let inner = self.inner();
        inner.health.check()?;
        let target = Construction::begin(dir.as_ref(), false)?;
        inner.rocks.checkpoint(&target.rocks_path())?;
        // Opening it says what is in it, and that it opens.
        let options = Options::default().cache_bytes(1 << 20);
        let newest = newest_commit(&Rocks::open_files(&target.rocks_path(), &options)?)?;
        durable::mark_copy(&target.rocks_path(), newest)?;
        target.finish()?;
        Ok(newest)
    }

    /// Makes a store in the directory `target` from the checkpoint in `checkpoint`, and returns its newest commit.
    ///
    /// Every file is copied, so the new store shares nothing with the checkpoint, and is on disk on return. `target`
    /// must not exist, or be empty. The checkpoint is not changed, and can be restored again. The directory of any
    /// store that nobody has open for writing will do in place of a checkpoint.
    ///
    /// Etags of versions in the checkpoint are the same in the new store. Etags that the old store gave after the
    /// checkpoint match nothing in the new one, now or ever: its own writes begin a new random epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) when `checkpoint` is no checkpoint or an unfinished one, or `target` is not empty;
    /// [`Error::InUse`](crate::Error::InUse) when somebody has `checkpoint` open for writing; [`Error::UnknownFormat`](crate::Error::UnknownFormat) when a newer build
    /// wrote it; [`Error::Corruption`](crate::Error::Corruption) when it is too damaged to open ([`Store::verify`] tells about the rest);
    /// [`Error::DiskFull`](crate::Error::DiskFull) and [`Error::Io`](crate::Error::Io) when copying fails. After an error `target` is as it was.
    pub fn restore(checkpoint: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<CommitSeq> {
        let source = Directory::open_shared(checkpoint.as_ref())?;
        let marked = Durable::open(checkpoint.as_ref(), &source.rocks_path(), false, false)?;
        let target = Construction::begin(target.as_ref(), true)?;
        copy_files(&source.rocks_path(), &target.rocks_path())?;
        copy_files(&source.log_path(), &target.log_path())?;
        // Opening it replays the log, if there is one.
        let options = Options::default().cache_bytes(1 << 20);
        let rocks = Rocks::open(&target.rocks_path(), &options, false, |end| marked.check_log(end))?;
        let newest = newest_commit(&rocks)?;
        drop(rocks);
        marked.check(newest.get())?;
        durable::mark_copy(&target.rocks_path(), newest)?;
        target.finish()?;
        Ok(newest)
    }
}

fn newest_commit(rocks: &Rocks) -> Result<CommitSeq> {
    match rocks.last_feed_row()? {
        Some((key, value)) => Ok(CommitSeq::new(encoding::feed_position(&key, &value)?.seq)),
        None => Ok(CommitSeq::new(0)),
    }
}

/// Copies the files of a directory that nobody writes to, if there is one.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    fs::create_dir(to).map_err(|error| describe(to, error))?;
    for entry in fs::read_dir(from).map_err(|error| describe(from, error))? {
        let entry = entry.map_err(|error| describe(from, error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if !is_data(&entry) {
            continue;
        }
        fs::copy(&source, &target).map_err(|error| describe(&source, error))?;
        File::open(&target).and_then(|file| file.sync_all()).map_err(|error| describe(&target, error))?;
    }
    File::open(to).and_then(|directory| directory.sync_all()).map_err(|error| describe(to, error))
}

/// Whether a file belongs to the database: not its lock, and not the log it keeps for people.
fn is_data(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    entry.file_type().is_ok_and(|kind| kind.is_file()) && name != "LOCK" && name != "LOG" && !name.starts_with("LOG.")
}
