//! The list of a container's indexes as it is stored, beside their entries.
//!
//! Owns its form, and reading and writing it. It is a document like every entry, so what it says and what is there come
//! from the same commits.

use etagdb::{Collection, CommitSeq, Error, Precondition};
use serde::{Deserialize, Serialize};

use super::{Part, Phase};

/// The id of the list.
pub(super) const LIST: [u8; 2] = [0xFF, 0xFE];

/// Which indexes there are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct StoredList {
    next: u16,
    pub(super) indexes: Vec<StoredIndex>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredIndex {
    pub(super) number: u16,
    parts: Vec<StoredPart>,
    /// From this commit on it has an entry for each item; absent while entries of older items may be missing.
    pub(super) built: Option<u64>,
    /// The last commit up to which it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<u64>,
    /// Whether it is there because queries needed it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) needed: bool,
    /// While it is built: the last item whose entries are there, in hexadecimal, and how many came before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reached: Option<(String, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredPart {
    path: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    element: Option<Vec<String>>,
    descending: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl StoredIndex {
    pub(super) fn parts(&self) -> Vec<Part> {
        let part = |part: &StoredPart| Part {
            path: part.path.clone(),
            element: part.element.clone(),
            descending: part.descending,
        };
        self.parts.iter().map(part).collect()
    }

    pub(super) fn phase(&self) -> Phase {
        match (self.built, self.retired) {
            (None, None) => Phase::Building,
            (Some(from), None) => Phase::Whole(CommitSeq::new(from)),
            // One that was retired before it was whole never served anybody.
            (None, Some(_)) => Phase::Retired(CommitSeq::new(u64::MAX), CommitSeq::new(0)),
            (Some(from), Some(to)) => Phase::Retired(CommitSeq::new(from), CommitSeq::new(to)),
        }
    }

    /// The storage key of the last item that was looked at, and how many were.
    pub(super) fn reached(&self) -> Option<(Vec<u8>, u64)> {
        let (hex, count) = self.reached.as_ref()?;
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        let bytes = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?;
        Some((bytes, *count))
    }

    pub(super) fn reach(&mut self, key: &[u8], count: u64) {
        self.reached = Some((key.iter().map(|byte| format!("{byte:02x}")).collect(), count));
    }

    pub(super) fn finish(&mut self, built: CommitSeq) {
        self.built = Some(built.get());
        self.reached = None;
    }
}

impl StoredList {
    /// Adds an index that is to be built.
    ///
    /// # Errors
    /// [`Error::Invalid`] when all numbers have been given out.
    pub(super) fn add(&mut self, parts: &[Part], needed: bool) -> Result<(), Error> {
        let stored = |part: &Part| StoredPart {
            path: part.path.clone(),
            element: part.element.clone(),
            descending: part.descending,
        };
        let number = self.next;
        // With the last number used up, the next index would be taken for the bytes after it.
        self.next = number
            .checked_add(1)
            .filter(|next| *next < u16::from_be_bytes(LIST))
            .ok_or_else(|| Error::Invalid("the container has had too many indexes; make it anew".to_owned()))?;
        let parts = parts.iter().map(stored).collect();
        self.indexes.push(StoredIndex { number, parts, built: None, retired: None, needed, reached: None });
        Ok(())
    }

    pub(super) fn find(&mut self, number: u16) -> Option<&mut StoredIndex> {
        self.indexes.iter_mut().find(|index| index.number == number)
    }

    pub(super) fn load(entries: &Collection) -> Result<StoredList, Error> {
        entries
            .get(LIST)?
            .map_or_else(|| Ok(StoredList::default()), |document| StoredList::read(entries, &document.body))
    }

    pub(super) fn read(entries: &Collection, body: &[u8]) -> Result<StoredList, Error> {
        serde_json::from_slice(body)
            .map_err(|error| Error::Invalid(format!("the list of indexes in {:?}: {error}", entries.name())))
    }

    /// Writes the list. Nothing is written when nothing has changed: a store that is only opened stays as it is.
    pub(super) fn save(&self, entries: &Collection) -> Result<(), Error> {
        let body = serde_json::to_vec(self).map_err(|error| Error::Invalid(error.to_string()))?;
        if entries.get(LIST)?.is_none_or(|document| document.body[..] != body[..]) {
            entries.put(LIST, body, Precondition::Any)?;
        }
        Ok(())
    }
}
