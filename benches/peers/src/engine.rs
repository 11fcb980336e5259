//! What a store must be able to do to be compared. Owns the interface and the layout of a value; names no engine.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Memory that each engine with a cache of its own may use for it. All documents of a default run fit.
pub(crate) const CACHE_BYTES: usize = 512 << 20;

/// How a store is opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// An empty directory.
    pub(crate) dir: &'a Path,
    /// Whether a write must be on disk before it is acknowledged. When false, each engine's own way not to wait.
    pub(crate) sync: bool,
}

/// Opens a store, hands it to the closure and closes it again. The closure is called once.
pub(crate) type Open = fn(Opening<'_>, &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()>;

/// The version of a document: what a compare-and-swap compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// etagdb's.
    Etag(etagdb::Etag),
    /// Of engines that have none: a number stored before the body, never used twice.
    Number(u64),
}

impl Version {
    pub(crate) fn number(self) -> Result<u64> {
        match self {
            Version::Number(number) => Ok(number),
            Version::Etag(_) => Err("a version of another engine".into()),
        }
    }
}

/// An open store.
pub(crate) trait Engine: Sync {
    /// Writes documents that are not there yet, as one batch.
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// What one thread works with.
    fn session(&self) -> Result<Box<dyn Session + '_>>;
}

/// One thread's access to an open store. Every document it is asked for is there.
pub(crate) trait Session {
    /// Shows the document to `look`, without copying it where the engine can do that.
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()>;

    /// Writes the document whatever is there.
    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()>;

    /// Writes the document if `expected` is its version, and says which version it has then. `None` if another
    /// writer was faster and nothing was written.
    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>>;

    /// Replaces the body by what `change` makes of it, in one atomic step. Engines that have a way of their own to
    /// do this use it.
    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        loop {
            let mut found = None;
            self.get(key, &mut |version, body| found = Some((version, change(body))))?;
            let (version, body) = found.ok_or("the document is not there")?;
            if self.compare_and_swap(key, version, &body)?.is_some() {
                return Ok(());
            }
        }
    }
}

/// Makes the new body from the version and the body that are there, or gives up.
pub(crate) type Decide<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Option<Vec<u8>>;

/// Gives out version numbers, each once.
#[derive(Default)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    pub(crate) fn next(&self) -> u64 {
        // Unique is enough: nobody compares them for order.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A value as engines without versions store it: the version, then the body.
pub(crate) fn pack(version: u64, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + body.len());
    value.extend_from_slice(&version.to_le_bytes());
    value.extend_from_slice(body);
    value
}

/// Takes a packed value apart.
pub(crate) fn unpack(value: &[u8]) -> Result<(u64, &[u8])> {
    let (version, body) = value.split_first_chunk().ok_or("a value without a version")?;
    Ok((u64::from_le_bytes(*version), body))
}
