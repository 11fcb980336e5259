//! How much is in a collection: counted, or estimated from what RocksDB knows of its files. Writes nothing and keeps no
//! counters: those would be one more thing to be right after a crash.

use crate::CommitSeq;
use crate::collection::Collection;
use crate::encoding::{self, VersionHeader, VersionKind};
use crate::error::Result;
use crate::rocks::{Cursor, SortedFile, VERSIONS};
use crate::ttl::Lifetime;

/// How much is in a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionSize {
    /// Documents that exist.
    pub documents: u64,
    /// Bytes of their ids and bodies.
    pub document_bytes: u64,
    /// Versions that are stored, superseded ones and tombstones included.
    pub versions: u64,
    /// Bytes of their ids and bodies.
    pub version_bytes: u64,
    /// About how many bytes of disk the versions take up, compressed. What was written last is in the log only and does
    /// not count.
    pub disk_bytes: u64,
    /// Whether all but `disk_bytes` was counted; false if it was estimated.
    pub is_exact: bool,
}

/// An estimate looks at so many rows, in so many places.
const SAMPLE_ROWS: u64 = 250;
const SAMPLE_PLACES: usize = 8;
/// A collection with at most so many rows is counted instead.
const COUNTED_ROWS: u64 = 2_000;
/// Whose the rows in memory are, an estimate learns from so many commits in so many places of the commit order.
const NEWEST_COMMITS: u64 = 32;
const NEWEST_PLACES: u64 = 32;

/// What was met in a stretch of version rows.
#[derive(Clone, Copy, Default)]
struct Tally {
    documents: u64,
    document_bytes: u64,
    versions: u64,
    version_bytes: u64,
}

impl Collection {
    /// Counts the documents and versions as of now, and their bytes. Exact; reads the whole collection at the speed of
    /// the disk, and keeps nothing of it in memory.
    ///
    /// # Errors
    ///
    /// As [`scan`](Collection::scan) and its items.
    pub fn size(&self) -> Result<CollectionSize> {
        let (start, end) = self.keys()?;
        let (at, mut cursor) = loop {
            let at = self.last_commit();
            let cursor = self.store().rocks.walk_versions(&start, end.clone());
            // Else something that was current at `at` has been superseded and dropped before it came into view.
            if !self.state().incomplete_at(at) {
                break (at, cursor);
            }
        };
        let counted = count(&mut cursor, at, self.lifetime(), u64::MAX)?;
        Ok(counted.size(1.0, true, self.store().rocks.versions_disk_bytes(&start, &end)))
    }

    /// Estimates what [`size`](Collection::size) counts. Takes milliseconds, however large the collection is.
    ///
    /// A collection with up to 2,000 versions is counted. Otherwise the number of versions is taken from the files'
    /// records, and the rest from a sample of rows; most often it is right within a tenth, and it can be wrong by a
    /// factor of two while many versions have been dropped whose space is not given back yet, or where documents of
    /// very different sizes are mixed.
    ///
    /// # Examples
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// carts.put("ana", "1 pen", etagdb::Precondition::Any)?;
    /// carts.put("ana", "2 pens", etagdb::Precondition::Any)?;
    /// let size = carts.size_estimate()?;
    /// assert_eq!((size.documents, size.document_bytes, size.versions), (1, 9, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`size`](Collection::size).
    pub fn size_estimate(&self) -> Result<CollectionSize> {
        let (start, end) = self.keys()?;
        let rocks = &self.store().rocks;
        let (at, lifetime) = (self.last_commit(), self.lifetime());
        let disk_bytes = rocks.versions_disk_bytes(&start, &end);
        let mut cursor = rocks.versions(&start, end.clone());
        let mut sample = count(&mut cursor, at, lifetime, COUNTED_ROWS)?;
        if cursor.row()?.is_none() {
            return Ok(sample.size(1.0, true, disk_bytes));
        }
        let files = rocks.files(VERSIONS)?;
        let inside: Vec<&SortedFile> = files.iter().filter(|file| start < file.start && file.start < end).collect();
        for file in inside.iter().step_by(inside.len().div_ceil(SAMPLE_PLACES).max(1)) {
            cursor.seek(&file.start);
            sample.add(count(&mut cursor, at, lifetime, SAMPLE_ROWS)?);
        }
        let in_files: f64 = files.iter().map(|file| self.rows_of(file, &start, &end)).sum();
        // What is in memory is what was written last.
        let in_memory = rocks.versions_in_memory();
        let in_memory = in_memory as f64 * self.share_of_newest(in_memory)?;
        let versions = (in_files + in_memory).max(sample.versions as f64);
        Ok(sample.size(versions / sample.versions.max(1) as f64, false, disk_bytes))
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime { ttl: self.state().ttl(), now_ms: self.store().observe_now_ms() }
    }

    fn keys(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        self.state().check_live()?;
        let number = self.state().number;
        Ok((encoding::collection_start(number).to_vec(), encoding::collection_start(number + 1).to_vec()))
    }

    /// About how many of a file's rows are of the collection with these keys.
    fn rows_of(&self, file: &SortedFile, start: &[u8], end: &[u8]) -> f64 {
        let (first, last) = (file.start.as_slice().max(start), file.end.as_slice().min(end));
        if first > last || file.start.as_slice() >= end {
            return 0.0;
        }
        if first == file.start && last == file.end {
            return file.rows as f64;
        }
        // The file ends in another collection or begins in one: the bytes in between say how much is this one's.
        let bytes = |from: &[u8], to: &[u8]| self.store().rocks.versions_disk_bytes(from, to) as f64;
        let whole = bytes(&file.start, &file.end).max(1.0);
        file.rows as f64 * (bytes(first, last) / whole).min(1.0)
    }

    /// Which part of the newest `commits` is the collection's.
    fn share_of_newest(&self, commits: u64) -> Result<f64> {
        let first = (self.last_commit().get() + 1).saturating_sub(commits);
        let mut cursor = self.store().rocks.feed_rows();
        let (mut seen, mut ours) = (0u64, 0u64);
        for place in 0..NEWEST_PLACES {
            cursor.seek(&encoding::feed_key(first + commits / NEWEST_PLACES * place));
            for _ in 0..NEWEST_COMMITS {
                let Some((key, value)) = cursor.row()? else { break };
                seen += 1;
                ours += u64::from(encoding::feed_row(key, value)?.collection == self.state().number);
                cursor.advance();
            }
        }
        Ok(ours as f64 / seen.max(1) as f64)
    }
}

/// Counts rows from the cursor on, at most so many, as of commit `at`.
fn count(cursor: &mut Cursor<'_>, at: CommitSeq, lifetime: Lifetime, rows_max: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut rows = 0;
    let mut document: Vec<u8> = Vec::new();
    while rows < rows_max
        && let Some((key, value)) = cursor.row()?
    {
        rows += 1;
        let (prefix, seq) = encoding::split_version_key(key)?;
        if seq <= at.get() {
            let (header, body) = VersionHeader::decode(value)?;
            let bytes = (encoding::id_len_of_prefix(prefix) + body.len()) as u64;
            tally.versions += 1;
            tally.version_bytes += bytes;
            if prefix != document {
                // The first of its versions that is not too new: the one that counts.
                document.clear();
                document.extend_from_slice(prefix);
                if header.kind == VersionKind::Document && !lifetime.is_over(&header) {
                    tally.documents += 1;
                    tally.document_bytes += bytes;
                }
            }
        }
        cursor.advance();
    }
    Ok(tally)
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.documents += other.documents;
        self.document_bytes += other.document_bytes;
        self.versions += other.versions;
        self.version_bytes += other.version_bytes;
    }

    /// `factor` times what was met.
    fn size(&self, factor: f64, is_exact: bool, disk_bytes: u64) -> CollectionSize {
        let times = |number: u64| if is_exact { number } else { (number as f64 * factor).round() as u64 };
        CollectionSize {
            documents: times(self.documents),
            document_bytes: times(self.document_bytes),
            versions: times(self.versions),
            version_bytes: times(self.version_bytes),
            disk_bytes,
            is_exact,
        }
    }
}
