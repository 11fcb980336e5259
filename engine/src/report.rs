//! What a verification says. Plain data and its text; finding it is `verify`'s.

use std::fmt;

use bytes::Bytes;

use crate::CommitSeq;

/// How far a [verification](crate::Store::verify) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Rows read so far. Each commit has two, one in the commit order and one in its document's history.
    pub rows: u64,
    /// About how many rows there are.
    pub rows_estimate: u64,
}

/// Most problems that a report lists one by one.
const MAX_PROBLEMS: usize = 1_000;

/// What a [verification](crate::Store::verify) found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Commits in the commit order.
    pub commits: u64,
    /// The first of them, 0 without one.
    pub first_commit: CommitSeq,
    /// The last of them, 0 without one.
    pub last_commit: CommitSeq,
    /// Sequences between the first and the last that nothing is stored for. No damage: a write that failed uses up its
    /// sequences.
    pub sequence_gaps: u64,
    /// Versions, superseded ones and tombstones included.
    pub versions: u64,
    /// Bytes of keys, records and bodies of all versions, uncompressed.
    pub version_bytes: u64,
    /// Documents that exist.
    pub documents: u64,
    /// Collections.
    pub collections: u64,
    /// Epochs: openings of the store that wrote something.
    pub epochs: u64,
    /// What is wrong, at most 1,000 entries.
    pub problems: Vec<Problem>,
    /// Problems found beyond those listed.
    pub problems_not_listed: u64,
    /// Whether versions and commit order were compared with each other. They are unless parts could not be read.
    pub compared: bool,
    pub(crate) families_with_gaps: Vec<String>,
}

impl VerifyReport {
    /// Whether everything was read and nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.problems_not_listed += 1;
        }
    }
}

/// Something that is wrong in a store, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of thing is wrong.
    pub kind: ProblemKind,
    /// The collection's name, or its number where it has none.
    pub collection: Option<String>,
    /// The document.
    pub id: Option<Bytes>,
    /// The commit.
    pub seq: Option<CommitSeq>,
    /// The file, below the store's `rocksdb` directory.
    pub file: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Bytes cannot be read, or are not those that were written.
    Unreadable,
    /// A record about the store or a collection makes no sense.
    Metadata,
    /// Commits have no epoch, or an epoch no commits, or two epochs one number.
    Epoch,
    /// A version makes no sense by itself.
    Version,
    /// A document's versions do not follow from one another.
    Chain,
    /// An entry of the commit order makes no sense, or time runs backwards in it.
    Feed,
    /// A batch is not whole.
    Batch,
    /// Versions and commit order do not tell of the same commits.
    Disagreement,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProblemKind::Unreadable => "unreadable",
            ProblemKind::Metadata => "metadata",
            ProblemKind::Epoch => "epoch",
            ProblemKind::Version => "version",
            ProblemKind::Chain => "chain",
            ProblemKind::Feed => "feed",
            ProblemKind::Batch => "batch",
            ProblemKind::Disagreement => "disagreement",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        if let Some(id) = &self.id {
            write!(f, "document {:?} ", String::from_utf8_lossy(id))?;
        }
        if let Some(collection) = &self.collection {
            write!(f, "in collection {collection:?} ")?;
        }
        if let Some(seq) = self.seq {
            write!(f, "at commit {seq}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.file {
            Some(file) => write!(f, " (file {file})"),
            None => Ok(()),
        }
    }
}

/// The sorted file or manifest that one of RocksDB's messages names.
pub(crate) fn file_named_in(message: &str) -> Option<String> {
    let names = message.split(|c: char| c == '/' || c.is_whitespace() || c == ':' || c == ',');
    let mut files = names.filter(|name| {
        let number = name.strip_suffix(".sst").or(name.strip_prefix("MANIFEST-"));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    files.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_messages() {
        let found = |message| file_named_in(message);
        let text =
            "Corruption: block checksum mismatch: stored = 1, type = 4  in /x y/a.sst/000012.sst offset 0 size 9";
        assert_eq!(found(text).as_deref(), Some("000012.sst"));
        assert_eq!(found("IO error: while reading /s/MANIFEST-000004: bad").as_deref(), Some("MANIFEST-000004"));
        assert_eq!(found("nothing of the kind"), None);
    }

    #[test]
    fn a_report_lists_so_many_problems_and_counts_the_rest() {
        let mut report = VerifyReport::default();
        for n in 0..MAX_PROBLEMS as u64 + 5 {
            report.add(Problem {
                kind: ProblemKind::Chain,
                collection: Some("docs".into()),
                id: Some("a".into()),
                seq: Some(CommitSeq::new(n)),
                file: None,
                message: "broken".into(),
            });
        }
        assert_eq!((report.problems.len(), report.problems_not_listed), (MAX_PROBLEMS, 5));
        assert!(!report.is_sound());
        assert_eq!(report.problems[7].to_string(), "chain: document \"a\" in collection \"docs\" at commit 7: broken");
    }
}
