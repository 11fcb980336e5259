//! Preconditions, and the one function that judges them for single writes, batches and HTTP alike.

use std::fmt;

use crate::Etag;

/// What must be true of a document for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: last write wins.
    Any,
    /// The document does not exist (never did, or was deleted).
    Absent,
    /// The document exists, whatever its version.
    Present,
    /// The document exists and this is its current version.
    Match(Etag),
}

impl Precondition {
    /// Tells whether a document whose current version is `current` (`None`: no such document) satisfies this.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::Precondition;
    ///
    /// assert!(Precondition::Absent.holds(None));
    /// assert!(!Precondition::Present.holds(None));
    /// ```
    pub fn holds(self, current: Option<Etag>) -> bool {
        match self {
            Precondition::Any => true,
            Precondition::Absent => current.is_none(),
            Precondition::Present => current.is_some(),
            // A version written earlier in the same batch goes by `NEVER` until it is committed: nobody can hold its
            // etag, so `Match(NEVER)` must not find it either.
            Precondition::Match(etag) => etag != Etag::NEVER && current == Some(etag),
        }
    }
}

impl From<Etag> for Precondition {
    fn from(etag: Etag) -> Precondition {
        Precondition::Match(etag)
    }
}

impl fmt::Display for Precondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Precondition::Any => f.write_str("anything"),
            Precondition::Absent => f.write_str("no document"),
            Precondition::Present => f.write_str("a document"),
            Precondition::Match(etag) => write!(f, "etag {etag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommitSeq;

    #[test]
    fn the_whole_table() {
        let (mine, other) = (Etag::new(7, CommitSeq::new(1)), Etag::new(8, CommitSeq::new(1)));
        let rows = [
            (Precondition::Any, [true, true, true, true]),
            (Precondition::Absent, [true, false, false, false]),
            (Precondition::Present, [false, true, true, true]),
            (Precondition::Match(mine), [false, true, false, false]),
            (Precondition::Match(Etag::NEVER), [false, false, false, false]),
        ];
        for (precondition, expected) in rows {
            let states = [None, Some(mine), Some(other), Some(Etag::NEVER)];
            assert_eq!(states.map(|current| precondition.holds(current)), expected, "{precondition:?}");
        }
    }
}
