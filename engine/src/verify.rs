//! Reading everything and saying what is wrong with it. Owns what must be true of the rows on disk; changes nothing.
//!
//! # What is read
//!
//! A second, read-only handle of the same directory, with a cache of its own that is empty: so blocks come from the
//! disk and are checked, also those that the open store has in memory. While writers go on, no file is deleted, and the
//! handle keeps seeing the state it was opened at.
//!
//! # Memory
//!
//! Each family is walked once, front to back. Feed and versions hold the same commits in different orders; instead of
//! sorting, both are summed up by stretches of sequences ([`Tally`], 8 MiB), and only where sums differ are rows
//! compared one by one, so many of them at most (see `agreement`). The list of problems is bounded too. What remains is one row,
//! and what the log replays into (twice the write buffer).

use std::collections::{BTreeMap, BTreeSet};

use crate::CommitSeq;
use crate::agreement::{Commit, feed_kind};
use crate::encoding::{
    self, CollectionNumber, CollectionRecord, FeedPosition, FeedRow, MAX_BODY_BYTES, MAX_ID_BYTES, StoreRecord,
    VersionHeader, VersionKind,
};
use crate::error::{Error, Result};
use crate::judge::created_seq;
use crate::report::{Problem, ProblemKind, VerifyProgress, VerifyReport};
use crate::rocks::{FEED, META, Rocks, VERSIONS};
use crate::store::Store;
use crate::tally::Tally;

/// Rows from one call of the progress callback to the next.
const ROWS_PER_PROGRESS: u64 = 16 * 1024;

impl Store {
    /// Reads everything that is stored and checks that it makes sense. Changes nothing; writers go on meanwhile.
    ///
    /// Checked are: the checksum of every block of rows; store, collection and epoch records; each document's versions
    /// (each names the one before it, and where the document began, and no time runs backwards); the commit order
    /// (times, whole batches); and that versions and commit order tell of the same commits. `progress` is called about
    /// every 16,000 rows.
    ///
    /// Blocks; reads at the speed of the disk. Holds some 20 MiB in memory whatever the store's size. Files that become superfluous meanwhile are deleted only afterwards. Commits that are acknowledged during
    /// the call may be left out. Not read are filters and other files that only make RocksDB faster: damage there does
    /// no harm. A store whose damage keeps it from opening cannot be verified: the error of opening it says what is
    /// wrong.
    ///
    /// # Errors
    ///
    /// Damage is no error but in the report: look at [`VerifyReport::is_sound`]. [`Error::Corruption`] and
    /// [`Error::Io`] when the files cannot be opened a second time.
    ///
    /// # Examples
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// store.collection("carts")?.put("ana", "1 pen", etagdb::Precondition::Any)?;
    /// let report = store.verify(|progress| println!("{} of about {} rows", progress.rows, progress.rows_estimate))?;
    /// for problem in &report.problems {
    ///     println!("{problem}");
    /// }
    /// assert!(report.is_sound());
    /// assert_eq!((report.commits, report.documents), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
        let inner = self.inner();
        let acknowledged = self.last_commit();
        // Nobody deletes files under a store that is open for reading.
        let _kept = if inner.options.read_only { None } else { Some(inner.rocks.keep_files()?) };
        let options = inner.options.clone().cache_bytes(8 << 20);
        let rocks = if inner.options.read_only {
            Rocks::open_read_only(&inner.rocks_path(), &options, |_| Ok(()))?
        } else {
            // What is in memory only cannot be read back.
            inner.rocks.flush()?;
            Rocks::open_files(&inner.rocks_path(), &options)?
        };
        let rows_estimate = rocks.estimate_rows(VERSIONS) + rocks.estimate_rows(FEED);
        let mut verifier = Verifier {
            rocks: &rocks,
            progress,
            state: VerifyProgress { rows: 0, rows_estimate },
            report: VerifyReport { compared: true, ..VerifyReport::default() },
            collections: BTreeMap::new(),
            dropped: BTreeSet::new(),
            next_collection: 1,
            unknown: BTreeSet::new(),
            epochs: Vec::new(),
            horizons: BTreeMap::new(),
            feed_horizon: 0,
        };
        verifier.run(acknowledged)?;
        Ok(verifier.report)
    }
}

pub(crate) struct Verifier<'a, P> {
    pub(crate) rocks: &'a Rocks,
    progress: P,
    state: VerifyProgress,
    report: VerifyReport,
    pub(crate) collections: BTreeMap<CollectionNumber, String>,
    /// Collections of which something is left that is to be swept away.
    dropped: BTreeSet<CollectionNumber>,
    next_collection: CollectionNumber,
    /// Collections that there is no record of, each reported once.
    unknown: BTreeSet<CollectionNumber>,
    epochs: Vec<(u64, u64)>,
    /// By collection, below which sequence retention may have dropped versions and their feed rows.
    horizons: BTreeMap<CollectionNumber, u64>,
    /// Below which sequence any feed row may be missing: those of dropped collections are.
    feed_horizon: u64,
}

/// What walking a family comes upon.
pub(crate) enum Found<'a> {
    Row(&'a [u8], &'a [u8]),
    /// Some rows that could not be read.
    Gap,
}

/// What a row is about, for the report.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    pub(crate) collection: Option<CollectionNumber>,
    pub(crate) id: Option<&'a [u8]>,
    pub(crate) seq: Option<u64>,
}

/// The document whose versions are being walked, newest first.
#[derive(Default)]
struct Chain {
    prefix: Vec<u8>,
    /// The version before in the walk, and so the next newer one. `None` at the start, and after a gap.
    newer: Option<(u64, VersionHeader)>,
    /// Whether its newest version was met, which says whether the document exists.
    counted: bool,
}

impl<P: FnMut(VerifyProgress)> Verifier<'_, P> {
    fn run(&mut self, acknowledged: CommitSeq) -> Result<()> {
        (self.progress)(self.state);
        self.metadata()?;
        let (first, last) = self.ends()?;
        let mut tally = Tally::new(first, last);
        let feed_read = self.feed(&mut tally)?;
        let versions_read = self.versions(&mut tally)?;
        if feed_read && self.report.last_commit < acknowledged {
            let message = format!(
                "commits after {} up to {acknowledged} were acknowledged and are not in the files: \
                 the end of the log is damaged",
                self.report.last_commit
            );
            self.problem(ProblemKind::Unreadable, Place::default(), message);
        }
        self.check_epochs(first);
        if feed_read && versions_read {
            self.compare(&tally)?;
        } else {
            self.report.compared = false;
        }
        (self.progress)(self.state);
        Ok(())
    }

    /// Shows `look` every row of a family that can be read; false if some cannot.
    pub(crate) fn walk(&mut self, family: &str, mut look: impl FnMut(&mut Self, Found<'_>)) -> Result<bool> {
        let rocks = self.rocks;
        let files = rocks.files(family)?;
        let mut cursor = rocks.walk(family);
        let mut last: Vec<u8> = Vec::new();
        let mut whole = true;
        loop {
            match cursor.row() {
                Ok(Some((key, value))) => {
                    last.clear();
                    last.extend_from_slice(key);
                    look(self, Found::Row(key, value));
                    self.state.rows += 1;
                    if self.state.rows.is_multiple_of(ROWS_PER_PROGRESS) {
                        (self.progress)(self.state);
                    }
                    cursor.advance();
                }
                Ok(None) => return Ok(whole),
                Err(error) => {
                    if std::mem::replace(&mut whole, false) {
                        self.report.families_with_gaps.push(family.to_owned());
                    }
                    self.unreadable(family, &error);
                    look(self, Found::Gap);
                    // What else is in the damaged file is lost to this walk; the next file is not.
                    let Some(next) = files.iter().find(|file| file.start > last) else {
                        return Ok(false);
                    };
                    last.clone_from(&next.start);
                    cursor.seek(&next.start);
                }
            }
        }
    }

    fn unreadable(&mut self, family: &str, error: &Error) {
        let message = format!("rows of {family} cannot be read: {error}");
        if self.report.problems.iter().any(|known| known.message == message) {
            return;
        }
        let file = crate::report::file_named_in(&message);
        self.report.add(Problem {
            kind: ProblemKind::Unreadable,
            collection: None,
            id: None,
            seq: None,
            file,
            message,
        });
    }

    pub(crate) fn problem(&mut self, kind: ProblemKind, place: Place<'_>, message: String) {
        let collection = place.collection.map(|number| match self.collections.get(&number) {
            Some(name) => name.clone(),
            None => format!("number {number}"),
        });
        let id = place.id.map(bytes::Bytes::copy_from_slice);
        let seq = place.seq.map(CommitSeq::new);
        self.report.add(Problem { kind, collection, id, seq, file: None, message });
    }

    fn metadata(&mut self) -> Result<()> {
        let mut next_collection = None;
        let mut has_store = false;
        self.walk(META, |verifier, found| {
            let Found::Row(key, value) = found else { return };
            let checked = if key == encoding::STORE_KEY {
                has_store = true;
                encoding::decode_record("store record", value).map(|_: StoreRecord| ())
            } else if key == encoding::NEXT_COLLECTION_KEY {
                encoding::next_collection(value).map(|next| next_collection = Some(next))
            } else if key.starts_with(encoding::COLLECTION_PREFIX) {
                verifier.collection_record(key, value)
            } else if key.starts_with(encoding::EPOCH_PREFIX) {
                encoding::epoch_of_row(key, value).map(|epoch| verifier.epochs.push(epoch))
            } else if key.starts_with(encoding::HORIZON_PREFIX) {
                encoding::horizon_of_row(key, value).map(|(number, horizon)| {
                    verifier.horizons.insert(number, horizon.complete);
                    verifier.feed_horizon = verifier.feed_horizon.max(horizon.complete);
                })
            } else if key.starts_with(encoding::DROPPED_PREFIX) {
                encoding::dropped_of_key(key).map(|number| verifier.dropped.extend([number]))
            } else if key == encoding::SWEPT_KEY {
                encoding::swept(value).map(|swept| verifier.feed_horizon = verifier.feed_horizon.max(swept))
            } else {
                Ok(())
            };
            if let Err(error) = checked {
                verifier.problem(ProblemKind::Metadata, Place::default(), error.to_string());
            }
        })?;
        if !has_store {
            self.problem(ProblemKind::Metadata, Place::default(), "the store record is missing".into());
        }
        self.next_collection = next_collection.unwrap_or(1);
        if let Some((&highest, _)) = self.collections.last_key_value()
            && highest >= self.next_collection
        {
            let message = format!("it has number {highest}, and the next to be given is {}", self.next_collection);
            self.problem(ProblemKind::Metadata, Place { collection: Some(highest), ..Place::default() }, message);
        }
        self.report.collections = self.collections.len() as u64;
        self.report.epochs = self.epochs.len() as u64;
        Ok(())
    }

    fn collection_record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = encoding::collection_of_key(key)?;
        let record: CollectionRecord = encoding::decode_record("collection record", value)?;
        let place = Place { collection: Some(number), ..Place::default() };
        if let Some((other, _)) = self.collections.iter().find(|(_, name)| **name == record.name) {
            let message = format!("collections {other} and {number} have the same name {:?}", record.name);
            self.problem(ProblemKind::Metadata, place, message);
        }
        self.collections.insert(number, record.name);
        Ok(())
    }

    /// The first and the last sequence in the feed, as far as they can be read.
    fn ends(&self) -> Result<(u64, u64)> {
        let seq = |key: &[u8]| <[u8; 8]>::try_from(key).map_or(0, u64::from_be_bytes);
        let first = match self.rocks.walk(FEED).row() {
            Ok(Some((key, _))) => seq(key),
            Ok(None) | Err(_) => 0,
        };
        let last = self.rocks.last_feed_row().ok().flatten().map_or(first, |(key, _)| seq(&key));
        Ok((first, last))
    }

    /// The commit order. False if parts of it cannot be read.
    fn feed(&mut self, tally: &mut Tally) -> Result<bool> {
        let mut before: Option<FeedPosition> = None;
        let whole = self.walk(FEED, |verifier, found| {
            let Found::Row(key, value) = found else {
                before = None;
                return;
            };
            let row = match encoding::feed_row(key, value) {
                Ok(row) => row,
                Err(error) => {
                    let seq = <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes);
                    verifier.problem(ProblemKind::Feed, Place { seq, ..Place::default() }, error.to_string());
                    before = None;
                    return;
                }
            };
            verifier.feed_row(before, &row);
            before = Some(row.position);
            if let Some(commit) = verifier.commit_of_feed(&row) {
                tally.add(row.position.seq, commit);
            }
        })?;
        if whole && let Some(last) = before.filter(|last| !last.is_last()) {
            let place = Place { seq: Some(last.seq), ..Place::default() };
            self.problem(ProblemKind::Batch, place, "the commit order ends inside a batch".into());
        }
        Ok(whole)
    }

    fn feed_row(&mut self, before: Option<FeedPosition>, row: &FeedRow<'_>) {
        let FeedPosition { seq, time_ms, .. } = row.position;
        let place = Place { collection: Some(row.collection), id: Some(row.id), seq: Some(seq) };
        if let Some(before) = before {
            let missing = seq - before.seq - 1;
            self.report.sequence_gaps += missing;
            if missing > 0 && !before.is_last() && before.seq + 1 >= self.feed_horizon {
                let message = format!("the batch that commit {} is of has no end", before.seq);
                self.problem(ProblemKind::Batch, place, message);
            }
            if missing == 0 && !before.is_last() && time_ms != before.time_ms {
                let message =
                    format!("its time is {time_ms} ms, and that of the commit before in its batch {}", before.time_ms);
                self.problem(ProblemKind::Batch, place, message);
            }
            if missing == 0 && !before.is_last() && row.position.end != before.end {
                let message =
                    format!("its batch ends at {}, and that of the commit before at {}", row.position.end, before.end);
                self.problem(ProblemKind::Batch, place, message);
            }
            if time_ms < before.time_ms {
                let message =
                    format!("its time {time_ms} ms is before that of commit {}, {} ms", before.seq, before.time_ms);
                self.problem(ProblemKind::Feed, place, message);
            }
        } else if self.report.commits == 0 {
            self.report.first_commit = CommitSeq::new(seq);
        }
        if let Some(wrong) = wrong_with_id(row.id) {
            self.problem(ProblemKind::Feed, place, wrong);
        }
        if row.collection >= self.next_collection {
            let message = format!("it is of collection {}, a number that was never given", row.collection);
            self.problem(ProblemKind::Feed, place, message);
        }
        self.report.commits += 1;
        self.report.last_commit = CommitSeq::new(seq);
    }

    /// All versions. False if some cannot be read.
    fn versions(&mut self, tally: &mut Tally) -> Result<bool> {
        let mut chain = Chain::default();
        let whole = self.walk(VERSIONS, |verifier, found| {
            let Found::Row(key, value) = found else {
                chain.newer = None;
                return;
            };
            let prefix = encoding::filter_prefix(key);
            if prefix != chain.prefix {
                verifier.end_of_chain(&chain);
                chain.prefix.clear();
                chain.prefix.extend_from_slice(prefix);
                (chain.newer, chain.counted) = (None, false);
            }
            let Some((seq, header, commit)) = verifier.version_row(key, value) else {
                chain.newer = None;
                return;
            };
            let counted = std::mem::replace(&mut chain.counted, true);
            verifier.report.documents += u64::from(!counted && header.kind == VersionKind::Document);
            let place = Place { collection: Some(commit.collection), id: Some(&commit.id), seq: Some(seq) };
            verifier.link(place, chain.newer, seq, &header);
            chain.newer = Some((seq, header));
            tally.take_away(seq, commit);
        })?;
        self.end_of_chain(&chain);
        Ok(whole)
    }

    /// Reads one version row by itself; `None` when it makes no sense, its collection is unknown, or it is to be swept away.
    fn version_row(&mut self, key: &[u8], value: &[u8]) -> Option<(u64, VersionHeader, Commit)> {
        let parsed = encoding::split_version_key(key).and_then(|(prefix, seq)| {
            let collection = encoding::collection_of_prefix(prefix).unwrap_or_default();
            Ok((collection, encoding::id_of_prefix(prefix)?, seq))
        });
        if matches!(&parsed, Ok((collection, ..)) if self.dropped.contains(collection)) {
            return None;
        }
        self.report.versions += 1;
        self.report.version_bytes += (key.len() + value.len()) as u64;
        let (collection, id, seq) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                self.problem(ProblemKind::Version, Place::default(), error.to_string());
                return None;
            }
        };
        let place = Place { collection: Some(collection), id: Some(&id), seq: Some(seq) };
        if !self.collections.contains_key(&collection) {
            if self.unknown.insert(collection) {
                let message = "there are versions of a collection that there is no record of".into();
                self.problem(ProblemKind::Version, place, message);
            }
            return None;
        }
        let (header, body) = match VersionHeader::decode(value) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.problem(ProblemKind::Version, place, error.to_string());
                return None;
            }
        };
        let wrong = wrong_with_id(&id).or_else(|| match header.kind {
            VersionKind::Tombstone if !body.is_empty() => Some(format!("a tombstone has {} bytes of body", body.len())),
            VersionKind::Document if body.len() > MAX_BODY_BYTES => Some(format!("the body has {} bytes", body.len())),
            _ => None,
        });
        if let Some(message) = wrong {
            self.problem(ProblemKind::Version, place, message);
        }
        let (kind, time_ms, previous) = (feed_kind(&header) as u8, header.time_ms, header.previous);
        let commit = Commit { collection, kind, time_ms, previous, id };
        Some((seq, header, commit))
    }

    /// Checks a version against itself and the next newer one of its document.
    fn link(&mut self, place: Place<'_>, newer: Option<(u64, VersionHeader)>, seq: u64, header: &VersionHeader) {
        if header.previous >= seq || header.created >= seq {
            let (previous, created) = (header.previous, header.created);
            let message = format!("it names commits {previous} and {created} as earlier ones");
            self.problem(ProblemKind::Chain, place, message);
        }
        let Some((newer_seq, newer)) = newer else { return };
        let place = Place { seq: Some(newer_seq), ..place };
        if newer.previous != seq {
            let dropped = newer.previous > seq && self.may_have_been_dropped(place.collection, newer.previous);
            if !dropped {
                let message = format!("it names {} as the version before it, and that is {seq}", newer.previous);
                self.problem(ProblemKind::Chain, place, message);
            }
            return;
        }
        if newer.time_ms < header.time_ms {
            let message =
                format!("its time {} ms is before that of version {seq}, {} ms", newer.time_ms, header.time_ms);
            self.problem(ProblemKind::Chain, place, message);
        }
        let expected = match header.kind {
            VersionKind::Document => created_seq(seq, header),
            VersionKind::Tombstone => 0,
        };
        if newer.created != expected {
            let message =
                format!("it says its document began at {}, by version {seq} it did at {expected}", newer.created);
            self.problem(ProblemKind::Chain, place, message);
        }
    }

    /// The oldest version must be the first, or come after what retention dropped.
    fn end_of_chain(&mut self, chain: &Chain) {
        let Some((seq, oldest)) = chain.newer else { return };
        let id = encoding::id_of_prefix(&chain.prefix).ok();
        let collection = encoding::collection_of_prefix(&chain.prefix);
        let place = Place { collection, id: id.as_deref(), seq: Some(seq) };
        if oldest.previous != 0 {
            if !self.may_have_been_dropped(collection, oldest.previous) {
                let message = format!("the version before it, {}, is missing", oldest.previous);
                self.problem(ProblemKind::Chain, place, message);
            }
        } else if oldest.created != 0 || oldest.kind == VersionKind::Tombstone {
            let message = "it is the first version, and replaces or deletes another one".into();
            self.problem(ProblemKind::Chain, place, message);
        }
    }

    /// Whether retention may have dropped the version that commit `seq` wrote.
    fn may_have_been_dropped(&self, collection: Option<CollectionNumber>, seq: u64) -> bool {
        collection.and_then(|number| self.horizons.get(&number)).is_some_and(|&complete| seq < complete)
    }

    fn check_epochs(&mut self, first_commit: u64) {
        let (last, commits) = (self.report.last_commit.get(), self.report.commits);
        let epochs = std::mem::take(&mut self.epochs);
        if commits > 0 && epochs.first().is_none_or(|&(begins, _)| begins > first_commit) {
            let message = format!("no epoch covers commit {first_commit}");
            self.problem(ProblemKind::Epoch, Place { seq: Some(first_commit), ..Place::default() }, message);
        }
        let mut numbers = BTreeSet::new();
        for (begins, number) in epochs {
            let place = Place { seq: Some(begins), ..Place::default() };
            if begins > last && !self.report.families_with_gaps.iter().any(|family| family == FEED) {
                let message = format!("an epoch begins at commit {begins}, and the last one is {last}");
                self.problem(ProblemKind::Epoch, place, message);
            }
            if !numbers.insert(number) {
                let message = format!("the epoch that begins at commit {begins} has the number of an earlier one");
                self.problem(ProblemKind::Epoch, place, message);
            }
        }
    }
}

fn wrong_with_id(id: &[u8]) -> Option<String> {
    match id.len() {
        1..=MAX_ID_BYTES => None,
        len => Some(format!("the id has {len} bytes")),
    }
}
