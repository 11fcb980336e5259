//! Whether the feed and the versions tell of the same commits. Owns what both must say of a commit, and names those that
//! they do not agree on; which stretches of commits to look at is [`Tally`]'s word.

use std::collections::BTreeMap;

use crate::encoding::{self, CollectionNumber, FeedKind, FeedRow, VersionHeader, VersionKind};
use crate::error::Result;
use crate::report::{ProblemKind, VerifyProgress};
use crate::rocks::{FEED, VERSIONS};
use crate::tally::Tally;
use crate::verify::{Found, Place, Verifier};

/// Commits that are compared one by one where feed and versions disagree, more or less: a stretch is not split.
const DETAIL_ROWS: usize = 64 * 1024;

/// A commit as both families know it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Commit {
    pub(crate) collection: CollectionNumber,
    pub(crate) id: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) time_ms: u64,
    pub(crate) previous: u64,
}

/// What the feed must say of a version; of a tombstone it may also say that the document expired.
pub(crate) fn feed_kind(header: &VersionHeader) -> FeedKind {
    match (header.kind, header.created) {
        (VersionKind::Tombstone, _) => FeedKind::Deleted,
        (VersionKind::Document, 0) => FeedKind::Created,
        (VersionKind::Document, _) => FeedKind::Replaced,
    }
}

impl<P: FnMut(VerifyProgress)> Verifier<'_, P> {
    /// What a feed row says, unless its collection was dropped: the versions of those are gone.
    pub(crate) fn commit_of_feed(&self, row: &FeedRow<'_>) -> Option<Commit> {
        let known = self.collections.contains_key(&row.collection);
        known.then(|| Commit {
            collection: row.collection,
            id: row.id.to_vec(),
            kind: match row.kind {
                FeedKind::Expired => FeedKind::Deleted as u8,
                kind => kind as u8,
            },
            time_ms: row.position.time_ms,
            previous: row.previous,
        })
    }

    /// Names the commits that feed and versions do not agree on.
    pub(crate) fn compare(&mut self, tally: &Tally) -> Result<()> {
        // Stretches come in ascending order: those up to here are looked at, and those after it are not.
        let mut looked_at_to = None;
        let mut expected: BTreeMap<u64, Commit> = BTreeMap::new();
        for stretch in tally.differences() {
            if expected.len() >= DETAIL_ROWS {
                let (start, end) = (stretch.start(), stretch.end());
                let message =
                    format!("feed and versions disagree on commits from {start} to {end}; not looked at one by one");
                self.problem(ProblemKind::Disagreement, Place { seq: Some(*start), ..Place::default() }, message);
                continue;
            }
            let mut cursor = self.rocks.walk(FEED);
            cursor.seek(&encoding::feed_key(*stretch.start()));
            while let Some((key, value)) = cursor.row()? {
                // A row that cannot be decoded was reported when it was met.
                if let Ok(row) = encoding::feed_row(key, value) {
                    if row.position.seq > *stretch.end() {
                        break;
                    }
                    if let Some(commit) = self.commit_of_feed(&row) {
                        expected.insert(row.position.seq, commit);
                    }
                }
                cursor.advance();
            }
            looked_at_to = Some(*stretch.end());
        }
        let Some(looked_at_to) = looked_at_to else {
            return Ok(());
        };
        self.walk(VERSIONS, |verifier, found| {
            let Found::Row(key, value) = found else { return };
            let Ok((prefix, seq)) = encoding::split_version_key(key) else { return };
            if seq > looked_at_to || !tally.differs_at(seq) {
                return;
            }
            let Ok(id) = encoding::id_of_prefix(prefix) else { return };
            let collection = encoding::collection_of_prefix(prefix).unwrap_or_default();
            if !verifier.collections.contains_key(&collection) {
                return;
            }
            match VersionHeader::decode(value) {
                Ok((header, _)) => {
                    let kind = feed_kind(&header) as u8;
                    let commit = Commit { collection, id, kind, time_ms: header.time_ms, previous: header.previous };
                    verifier.compare_version(seq, &commit, &mut expected);
                }
                // It was reported when it was met, and is not missing.
                Err(_) => drop(expected.remove(&seq)),
            }
        })?;
        for (seq, commit) in expected {
            let place = Place { collection: Some(commit.collection), id: Some(&commit.id), seq: Some(seq) };
            self.problem(ProblemKind::Disagreement, place, "the feed tells of a version that is missing".into());
        }
        Ok(())
    }

    fn compare_version(&mut self, seq: u64, version: &Commit, expected: &mut BTreeMap<u64, Commit>) {
        let place = Place { collection: Some(version.collection), id: Some(&version.id), seq: Some(seq) };
        let told = expected.get(&seq);
        let same_document = told.is_some_and(|told| (told.collection, &told.id) == (version.collection, &version.id));
        if !same_document {
            let message = match told {
                None => "the feed does not tell of this version".into(),
                Some(told) => {
                    let (id, number) = (String::from_utf8_lossy(&told.id), told.collection);
                    format!("the feed tells of document {id:?} of collection number {number} at this commit")
                }
            };
            self.problem(ProblemKind::Disagreement, place, message);
            return;
        }
        if let Some(told) = expected.remove(&seq)
            && told != *version
        {
            let said = |commit: &Commit| {
                format!("kind {} at {} ms after version {}", commit.kind, commit.time_ms, commit.previous)
            };
            let message = format!("the feed says {}, the version {}", said(&told), said(version));
            self.problem(ProblemKind::Disagreement, place, message);
        }
    }
}
