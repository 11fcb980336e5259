//! What is kept of the past. Owns a collection's policy, and the one function that says which versions of a document
//! may go; `trim` finds the documents and drops the rows.

use std::time::Duration;

use crate::encoding::VersionKind;

/// How much of a collection's past is kept.
///
/// A version is *superseded* when a later version of its document is committed, a tombstone included. The current
/// version of a document is never dropped. A superseded one is dropped when all of these hold:
///
/// * it was superseded at least [`age`](Retention::age) ago,
/// * it is not among the newest [`versions`](Retention::versions) superseded versions of a document that exists,
/// * no [`Snapshot`](crate::Snapshot) or transaction that is alive reads it, and no registered cursor of the change
///   feed is at or before it.
///
/// One that stayed for a snapshot may stay a little longer than that: until the next version that is left of its
/// document is old enough too, and no cursor is before it.
///
/// The tombstone of a deleted document is dropped once it is that old itself, nothing older of the document is left, and
/// another commit after it is that old, too: so every state within `age` can be read. With a version goes its entry in the change feed. All this happens in the background, and at
/// [`Store::run_maintenance`](crate::Store::run_maintenance); what is still there past its time can be read until
/// then. Once versions have been dropped, states older than the
/// [horizon](crate::Collection::horizon) are refused with [`Error::NotRetained`](crate::Error::NotRetained), never answered
/// with gaps.
///
/// Each setting is a promise to keep, so more of one never keeps less. There is no upper bound on the number of
/// versions: to drop some that are younger than `age` would break what `age` promises to whoever reads the past.
/// `versions` counts for documents that exist; of a deleted one, only `age` keeps versions, so that the space of a
/// collection whose documents come and go is bounded by what exists.
///
/// # The default
///
/// 10 minutes, and no versions beyond that. Long enough to resume a change feed after a restart, to read what a
/// conflicting write replaced, and to look at the state before a mistake that was noticed at once; short enough that
/// the space of a store whose documents are updated for ever stays bounded: by the documents themselves and by what
/// ten minutes of writes take, some 600 MB at a thousand updates of 1 KiB a second. Without retention a counter in a
/// loop would fill any disk; with none at all, every reader of the past would have to have been there before. Choose
/// [`Retention::age`] of hours or days for collections whose past is worth its space.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use etagdb::{Precondition, Retention};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let carts = store.collection("carts")?;
/// assert_eq!(carts.retention(), Retention::age(Duration::from_secs(600)), "the default");
/// // A day, and the last three versions of each cart however old.
/// carts.set_retention(Retention::age(Duration::from_secs(86_400)).versions(3))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `None`: for ever.
    pub(crate) keep_ms: Option<u64>,
    pub(crate) keep_versions: u32,
}

impl Retention {
    /// Everything, for ever.
    pub const FOREVER: Retention = Retention { keep_ms: None, keep_versions: 0 };

    /// Superseded versions for this long after they were superseded, to the millisecond (fractions of one count as
    /// one). Zero keeps only what snapshots, transactions and cursors need.
    pub fn age(age: Duration) -> Retention {
        let ms = age.as_nanos().div_ceil(1_000_000);
        Retention { keep_ms: Some(u64::try_from(ms).unwrap_or(u64::MAX)), keep_versions: 0 }
    }

    /// And of each document that exists the newest `count` superseded versions, however old they are.
    pub fn versions(mut self, count: u32) -> Retention {
        self.keep_versions = count;
        self
    }

    /// How long superseded versions are kept; `None` is for ever.
    pub fn kept_for(self) -> Option<Duration> {
        self.keep_ms.map(Duration::from_millis)
    }

    /// Whether this may drop, for its count of versions, what `earlier` kept.
    pub(crate) fn counts_less_than(self, earlier: Retention) -> bool {
        self.keep_versions < earlier.keep_versions
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::age(Duration::from_secs(600))
    }
}

/// A version row, as far as retention looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) kind: VersionKind,
}

/// A document's rows, seen from a commit whose age is past.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    /// The commit: everything that it or an earlier one superseded is old enough to go.
    pub(crate) due: u64,
    /// The document's rows at or below `due`, newest first.
    pub(crate) rows: &'a [Row],
    /// How many rows are newer than `due`; a number above the count to keep need not be exact.
    pub(crate) newer: usize,
    /// Whether the document exists.
    pub(crate) exists: bool,
    /// Whether `due` is the newest commit whose age is past.
    pub(crate) last: bool,
}

/// What may go of a document, and what that does to the horizon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many of the rows go, by their index.
    pub(crate) drop: Vec<usize>,
    /// The oldest sequence as of which the document still reads as it was; 0 when nothing goes.
    pub(crate) complete: u64,
    /// The sequence after the dropped tombstone of a document that stays deleted; 0 without one.
    pub(crate) deletes: u64,
    /// The lowest sequence read at that keeps a row; nothing else does.
    pub(crate) held_by: Vec<u64>,
    /// The tombstone at `due` can go only after another commit.
    pub(crate) wait: bool,
}

/// Says which rows of a document may go. `keep_versions`: the policy's count; `needed_at`: the sequences that
/// somebody reads at, ascending.
pub(crate) fn judge(chain: &Chain<'_>, keep_versions: u32, needed_at: &[u64]) -> Verdict {
    let mut verdict = Verdict::default();
    let kept_by_count =
        |index: usize| keep_versions > 0 && chain.exists && chain.newer + index <= keep_versions as usize;
    let anchor = chain.rows.first().filter(|row| row.seq == chain.due);
    let first_old = usize::from(anchor.is_some());
    let mut superseded_at = chain.due;
    for (index, row) in chain.rows.iter().enumerate().skip(first_old) {
        // Needed at q if it is the newest at or below q.
        let at = needed_at.partition_point(|&q| q < row.seq);
        let holder = needed_at.get(at).filter(|&&q| q < superseded_at);
        if !kept_by_count(index) {
            match holder {
                Some(&q) => verdict.held_by.push(q),
                None => {
                    verdict.drop.push(index);
                    verdict.complete = verdict.complete.max(superseded_at);
                }
            }
        }
        superseded_at = row.seq;
    }
    // With nothing older left, a tombstone says no more than its absence does.
    let all_older_go = verdict.drop.len() + first_old == chain.rows.len();
    if let Some(anchor) = anchor
        && anchor.kind == VersionKind::Tombstone
        && all_older_go
        && !kept_by_count(0)
    {
        if chain.last {
            verdict.wait = true;
        } else {
            verdict.drop.push(0);
            verdict.complete = chain.due + 1;
            verdict.deletes = chain.due + 1;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: VersionKind = VersionKind::Document;
    const T: VersionKind = VersionKind::Tombstone;

    fn rows(list: &[(u64, VersionKind)]) -> Vec<Row> {
        list.iter().map(|&(seq, kind)| Row { seq, kind }).collect()
    }

    fn chain(due: u64, rows: &[Row]) -> Chain<'_> {
        Chain { due, rows, newer: 0, exists: true, last: false }
    }

    #[test]
    fn the_version_at_the_commit_stays_and_all_older_ones_go() {
        let rows = rows(&[(9, D), (5, D), (2, D)]);
        let verdict = judge(&chain(9, &rows), 0, &[]);
        assert_eq!(verdict, Verdict { drop: vec![1, 2], complete: 9, ..Verdict::default() });
    }

    #[test]
    fn a_reader_keeps_the_one_version_that_it_sees() {
        let rows = rows(&[(9, D), (5, D), (2, D)]);
        let judged = |at: &[u64]| {
            let verdict = judge(&chain(9, &rows), 0, at);
            (verdict.drop, verdict.held_by)
        };
        assert_eq!(judged(&[1]), (vec![1, 2], vec![]));
        assert_eq!(judged(&[2]), (vec![1], vec![2]));
        assert_eq!(judged(&[4]), (vec![1], vec![4]));
        assert_eq!(judged(&[5]), (vec![2], vec![5]));
        assert_eq!(judged(&[3, 8]), (vec![], vec![8, 3]));
        assert_eq!(judged(&[9]), (vec![1, 2], vec![]));
    }

    #[test]
    fn the_newest_superseded_versions_stay_by_count_while_the_document_exists() {
        let rows = rows(&[(9, D), (5, D), (2, D)]);
        assert_eq!(judge(&chain(9, &rows), 1, &[]).drop, [2]);
        assert_eq!(judge(&chain(9, &rows), 2, &[]).drop, [0; 0]);
        // One newer version: 9 itself is the first superseded one.
        let newer = Chain { newer: 1, ..chain(9, &rows) };
        assert_eq!(judge(&newer, 1, &[]).drop, [1, 2]);
        let deleted = Chain { newer: 1, exists: false, ..chain(9, &rows) };
        assert_eq!(judge(&deleted, 5, &[]).drop, [1, 2]);
    }

    #[test]
    fn a_tombstone_goes_with_the_last_older_version_and_not_before() {
        let rows = rows(&[(9, T), (5, D)]);
        let deleted = || Chain { exists: false, ..chain(9, &rows) };
        let whole = Verdict { drop: vec![1, 0], complete: 10, deletes: 10, ..Verdict::default() };
        assert_eq!(judge(&deleted(), 3, &[]), whole);
        let held = judge(&deleted(), 0, &[6]);
        assert_eq!((held.drop, held.held_by), (vec![], vec![6]));
        let last = judge(&Chain { last: true, ..deleted() }, 0, &[]);
        assert_eq!((last.drop, last.wait), (vec![1], true));
        // Made again later, with room for both by count.
        let again = Chain { newer: 1, ..chain(9, &rows) };
        assert_eq!(judge(&again, 2, &[]).drop, [0; 0]);
        assert_eq!(judge(&again, 1, &[]).drop, [1]);
        assert_eq!(judge(&again, 0, &[]).drop, [1, 0]);
        // What is newer is not looked at when nothing is kept by count.
        assert_eq!(judge(&chain(9, &rows), 0, &[]).drop, [1, 0]);
    }

    #[test]
    fn rows_of_a_commit_that_is_gone_already_are_judged_all_the_same() {
        let rows = rows(&[(5, D), (2, D)]);
        let verdict = judge(&chain(9, &rows), 0, &[3]);
        assert_eq!((verdict.drop, verdict.complete, verdict.held_by), (vec![0], 9, vec![3]));
    }

    #[test]
    fn ages_round_up_to_the_millisecond() {
        assert_eq!(Retention::age(Duration::from_nanos(1)).keep_ms, Some(1));
        assert_eq!(Retention::age(Duration::ZERO).keep_ms, Some(0));
        assert_eq!(Retention::age(Duration::MAX).keep_ms, Some(u64::MAX));
    }
}
