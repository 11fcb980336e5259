//! What a transaction has read, and whether it still holds when the transaction commits. Owns the validation that makes
//! transactions serializable; never writes.
//!
//! # How reads are validated
//!
//! A transaction reads everything from one snapshot. If none of what it read has changed by the time its writes get
//! their place in the commit order, then it might as well have read it all at that place: transactions are then the
//! same as if they had run one after the other, in commit order. So the question at commit is whether any commit after
//! the snapshot wrote a document that was read.
//!
//! * A document that was read *and written* is judged under its stripe, with what was read for its precondition.
//! * All other reads are ranges of documents (one document is a short range), and the documents that are absent from a
//!   range are read as well as those that are in it. The feed names every document written since the snapshot, so the
//!   feed is walked for one that lies in a range: first by the transaction's own thread, up to the newest visible
//!   commit, however long that takes; then, for what came since, by the leader of the commit queue. The leader is alone
//!   in assigning commit sequences, so nothing can come between the check and the commit. Earlier batches of the
//!   leader's own group are not in the feed yet; the leader passes them on as it accepts them.
//!
//! Retention may take a row out of the feed when its version is superseded, but the newest version of a document keeps
//! its row, and so does a tombstone as long as there is anything below it; so a document that is not as it was read is
//! always found. A tombstone that is gone altogether is that of a document which came and went since the snapshot.
//!
//! Reads that are validated this way take no stripe. Transactions that read one common document and write others share
//! a sync; under the document's stripe, each would wait for the sync of the one before.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::collection::CollectionState;
use crate::encoding::{self, CollectionNumber, FeedKind, KeyBytes, VersionKind};
use crate::error::{Conflict, Error, Result};
use crate::judge::JudgedWrite;
use crate::queue::{Place, Submission, Work};
use crate::store::Core;
use crate::ttl::Lifetimes;
use crate::{CommitSeq, Etag, Precondition};

/// When this few commits are left to check, the leader may as well do it: some 50 microseconds, once for its group.
const LEFT_TO_LEADER: u64 = 100;

/// A range of document prefixes: from the first to before the second.
pub(crate) type PrefixRange = (Vec<u8>, Vec<u8>);

/// What a transaction read and did not write.
pub(crate) struct Reads {
    /// What it was read from, and the time and the settings by which documents had expired then.
    snapshot: CommitSeq,
    time_ms: u64,
    lifetimes: Lifetimes,
    /// Up to this commit, nothing of it has changed.
    valid_to: CommitSeq,
    /// Ascending, with no overlap.
    ranges: Vec<PrefixRange>,
    /// Of the documents that were there, the first to expire.
    expiring: Option<Expiring>,
    collections: BTreeMap<CollectionNumber, Arc<CollectionState>>,
}

/// A document that was read, and when it expires.
pub(crate) struct Expiring {
    pub(crate) ms: u64,
    pub(crate) collection: String,
    pub(crate) id: Bytes,
    pub(crate) etag: Etag,
}

impl Reads {
    pub(crate) fn new(
        snapshot: CommitSeq,
        (time_ms, lifetimes): (u64, &Lifetimes),
        ranges: Vec<PrefixRange>,
        collections: BTreeMap<CollectionNumber, Arc<CollectionState>>,
    ) -> Reads {
        let lifetimes = lifetimes.clone();
        Reads { snapshot, time_ms, lifetimes, valid_to: snapshot, ranges: merge(ranges), expiring: None, collections }
    }

    pub(crate) fn with_expiring(self, expiring: Option<Expiring>) -> Reads {
        Reads { expiring, ..self }
    }

    /// Refuses when a document that was read as present has expired by `time_ms`.
    fn check_expiry(&self, time_ms: u64) -> Result<()> {
        match &self.expiring {
            Some(expiring) if expiring.ms <= time_ms => Err(Error::Conflict(Box::new(Conflict {
                position: 0,
                collection: expiring.collection.clone(),
                id: expiring.id.clone(),
                expected: Precondition::Match(expiring.etag),
                current: None,
            }))),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn covers(&self, prefix: &[u8]) -> bool {
        let after = self.ranges.partition_point(|(start, _)| start.as_slice() <= prefix);
        after.checked_sub(1).is_some_and(|index| prefix < self.ranges[index].1.as_slice())
    }

    /// Refuses when `prefix`, which now has the current version `current`, is not as it was read.
    fn check_document(&self, store: &Core, prefix: &[u8], current: Option<Etag>) -> Result<()> {
        let number = encoding::collection_of_prefix(prefix);
        let ttl = number.map(|number| self.lifetimes.of(number)).unwrap_or_default();
        let was = store.rocks.newest(prefix, self.snapshot.get(), |seq, header, _| {
            let present = header.kind == VersionKind::Document && !ttl.is_expired(&header, || self.time_ms);
            present.then(|| store.etag(seq))
        })?;
        let expected = was.flatten().map_or(Precondition::Absent, Precondition::Match);
        // Absent as it was read, though it came and went in between.
        if expected.holds(current) {
            return Ok(());
        }
        let collection = number.and_then(|number| self.collections.get(&number));
        Err(Error::Conflict(Box::new(Conflict {
            position: 0,
            collection: collection.map_or_else(String::new, |collection| collection.name.clone()),
            id: Bytes::from(encoding::id_of_prefix(prefix)?),
            expected,
            current,
        })))
    }
}

/// Sorts ranges and joins those that meet; drops empty ones.
fn merge(mut ranges: Vec<PrefixRange>) -> Vec<PrefixRange> {
    ranges.retain(|(start, end)| start < end);
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let meet = next.0 <= kept.1;
        if meet && next.1 > kept.1 {
            kept.1 = std::mem::take(&mut next.1);
        }
        meet
    });
    ranges
}

impl Core {
    /// Validates reads against everything visible, but for what is left to the leader. Blocks nobody.
    pub(crate) fn validate_visible(&self, reads: &mut Reads) -> Result<()> {
        // Each round checks the commits made during the one before. Checking is much faster than committing, so the
        // rounds get shorter; should they not, a few have at least taken most of the work off the leader.
        for _ in 0..4 {
            let visible = self.visible();
            if visible.get() - reads.valid_to.get() <= LEFT_TO_LEADER {
                break;
            }
            self.walk_feed(reads.valid_to, visible, |prefix, _, current| {
                if reads.covers(prefix) { reads.check_document(self, prefix, current) } else { Ok(()) }
            })?;
            reads.valid_to = visible;
        }
        Ok(())
    }

    /// Shows `look` each document written after commit `after`, up to `to`, in commit order, with what that write made
    /// current.
    fn walk_feed(
        &self,
        after: CommitSeq,
        to: CommitSeq,
        mut look: impl FnMut(&[u8], CommitSeq, Option<Etag>) -> Result<()>,
    ) -> Result<()> {
        if after >= to {
            return Ok(());
        }
        let mut cursor = self.rocks.feed(after.get() + 1, to.get());
        while let Some((key, value)) = cursor.row()? {
            let row = encoding::feed_row(key, value)?;
            let seq = row.position.seq;
            let gone = matches!(row.kind, FeedKind::Deleted | FeedKind::Expired);
            let current = (!gone).then(|| self.etag(seq));
            look(&encoding::document_prefix(row.collection, row.id), CommitSeq::new(seq), current)?;
            cursor.advance();
        }
        Ok(())
    }
}

/// Judges, for the leader, the reads of one group's transactions at their places in the commit order.
pub(crate) struct Validator<'a> {
    store: &'a Core,
    /// `None`: the group has no reads to validate.
    recent: Option<Recent>,
}

/// What was written lately.
struct Recent {
    /// From after this commit on; the least that any transaction of the group asks for.
    after: CommitSeq,
    /// To this one, the last before the group.
    to: CommitSeq,
    /// Whether the commits before the group are in `newest`. They are read only if somebody asks.
    loaded: bool,
    /// By document, its newest write and what that made current.
    newest: BTreeMap<KeyBytes, (CommitSeq, Option<Etag>)>,
}

impl<'a> Validator<'a> {
    /// Of the leader, for its group: all commits before the group are in the log, or never will be.
    pub(crate) fn new(store: &'a Core, group: &[Submission]) -> Validator<'a> {
        let reads = group.iter().filter_map(|submission| match &submission.work {
            Work::Writes(_, reads) => reads.as_ref(),
            Work::Drop(_) | Work::After(_) => None,
        });
        let recent = reads.map(|reads| reads.valid_to).min().map(|after| Recent {
            after,
            to: CommitSeq::new(store.queue.logged()),
            loaded: false,
            newest: BTreeMap::new(),
        });
        Validator { store, recent }
    }

    /// Refuses when anything of `reads` was changed by an earlier commit or an earlier batch of this group, or when a
    /// collection it was read from is gone.
    pub(crate) fn check(&mut self, reads: &Reads, place: Place) -> Result<()> {
        // Others may have seen it absent since, and have committed before this.
        reads.check_expiry(place.time_ms)?;
        // One that ends with this group ends after everything else in it: see `Core::commit_drop`.
        reads.collections.values().try_for_each(|collection| collection.check_live())?;
        let Some(recent) = &mut self.recent else {
            return Ok(());
        };
        let store = self.store;
        if !recent.loaded {
            let newest = &mut recent.newest;
            store.walk_feed(recent.after, recent.to, |prefix, seq, current| {
                match newest.get_mut(prefix) {
                    // What was noted of this group is newer than all that is in the feed.
                    Some(known) if known.0 > seq => {}
                    Some(known) => *known = (seq, current),
                    None => {
                        newest.insert(KeyBytes::from_slice(prefix), (seq, current));
                    }
                }
                Ok(())
            })?;
            recent.loaded = true;
        }
        let check = |prefix: &[u8], &(seq, current): &(CommitSeq, Option<Etag>)| {
            if seq > reads.valid_to { reads.check_document(store, prefix, current) } else { Ok(()) }
        };
        // Whichever there is less of is looked up in the other.
        if recent.newest.len() < reads.ranges.len() {
            recent.newest.iter().filter(|(prefix, _)| reads.covers(prefix)).try_for_each(|(p, newest)| check(p, newest))
        } else {
            reads.ranges.iter().try_for_each(|(start, end)| {
                let range = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                recent.newest.range::<[u8], _>(range).try_for_each(|(prefix, newest)| check(prefix, newest))
            })
        }
    }

    /// Takes note of a batch that comes before the rest of the group.
    pub(crate) fn note(&mut self, writes: &[JudgedWrite], place: Place) {
        let Some(recent) = &mut self.recent else { return };
        for (index, write) in writes.iter().enumerate() {
            let seq = place.start + index as u64;
            let current = (write.kind == VersionKind::Document).then(|| self.store.etag(seq));
            recent.newest.insert(write.prefix.clone(), (CommitSeq::new(seq), current));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(ranges: &[(&str, &str)]) -> Reads {
        let ranges = ranges.iter().map(|(start, end)| (start.as_bytes().to_vec(), end.as_bytes().to_vec()));
        Reads::new(CommitSeq::new(0), (0, &Lifetimes::default()), ranges.collect(), BTreeMap::new())
    }

    #[test]
    fn ranges_are_joined_where_they_meet() {
        let joined = reads(&[("k", "m"), ("a", "c"), ("b", "d"), ("d", "e"), ("a", "b"), ("x", "x"), ("z", "y")]);
        assert_eq!(joined.ranges, [(b"a".to_vec(), b"e".to_vec()), (b"k".to_vec(), b"m".to_vec())]);
    }

    #[test]
    fn a_range_covers_its_start_and_not_its_end() {
        let reads = reads(&[("b", "d"), ("f", "g")]);
        let covered = ["a", "b", "c", "d", "e", "f", "fz", "g"].map(|prefix| reads.covers(prefix.as_bytes()));
        assert_eq!(covered, [false, true, true, false, false, true, true, false]);
    }
}
