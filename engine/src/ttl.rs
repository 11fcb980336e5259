//! How long documents live. Owns the settings and the one function that says when a document expires; `expiry` turns
//! what has expired into commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::encoding::{CollectionNumber, TtlRecord, VersionHeader, VersionKind};
use crate::error::{Error, Result};

/// What time to live a write gives its document. Each write decides anew: a [`put`](crate::Collection::put) without
/// one clears what an earlier write said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DocumentTtl {
    /// What the [collection says](CollectionTtl), now and when it changes.
    #[default]
    Collection,
    /// For ever, whatever the collection's default.
    Never,
    /// So long after this write, to the millisecond (fractions of one count as one). Not zero.
    After(Duration),
}

/// What a collection says of the life of its documents. See [`Collection::set_ttl`](crate::Collection::set_ttl).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CollectionTtl {
    /// No document expires, whatever time to live was written with it.
    Off,
    /// Documents expire that were written with a time to live. The default.
    #[default]
    Documents,
    /// The others too, so long after their last write, to the millisecond (fractions of one count as one). Not zero.
    After(Duration),
}

/// How a document is put.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use etagdb::{Precondition, PutOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let sessions = store.collection("sessions")?;
/// let half_an_hour = PutOptions::default().ttl(Duration::from_secs(1800));
/// sessions.put_with("ana", "logged in", Precondition::Any, half_an_hour)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutOptions {
    pub(crate) ttl: DocumentTtl,
}

impl PutOptions {
    /// Has the document expire so long after this write. See [`DocumentTtl::After`].
    pub fn ttl(self, ttl: Duration) -> PutOptions {
        self.document_ttl(DocumentTtl::After(ttl))
    }

    /// Says how long the document lives. Default: [`DocumentTtl::Collection`].
    pub fn document_ttl(mut self, ttl: DocumentTtl) -> PutOptions {
        self.ttl = ttl;
        self
    }
}

/// In a version's header: never. No document can live this many milliseconds.
pub(crate) const NEVER_MS: u64 = u64::MAX;
/// The longest time to live that is not for ever. The numbers above it have other meanings here and in memory.
const LONGEST_MS: u64 = u64::MAX - 2;

impl DocumentTtl {
    /// As a version's header says it, or what is wrong.
    pub(crate) fn to_header(self) -> Result<Option<u64>, String> {
        match self {
            DocumentTtl::Collection => Ok(None),
            DocumentTtl::Never => Ok(Some(NEVER_MS)),
            DocumentTtl::After(ttl) => milliseconds(ttl).map(Some),
        }
    }

    pub(crate) fn from_header(header: &VersionHeader) -> DocumentTtl {
        match header.ttl_ms {
            None => DocumentTtl::Collection,
            Some(NEVER_MS) => DocumentTtl::Never,
            Some(ms) => DocumentTtl::After(Duration::from_millis(ms)),
        }
    }
}

impl CollectionTtl {
    pub(crate) fn to_record(self) -> Result<TtlRecord> {
        Ok(match self {
            CollectionTtl::Off => TtlRecord::Off,
            CollectionTtl::Documents => TtlRecord::Documents,
            CollectionTtl::After(ttl) => TtlRecord::After(milliseconds(ttl).map_err(Error::Invalid)?),
        })
    }

    pub(crate) fn from_record(record: TtlRecord) -> CollectionTtl {
        match record {
            TtlRecord::Off => CollectionTtl::Off,
            TtlRecord::Documents => CollectionTtl::Documents,
            TtlRecord::After(ms) => CollectionTtl::After(Duration::from_millis(ms)),
        }
    }
}

fn milliseconds(ttl: Duration) -> Result<u64, String> {
    match ttl.as_nanos().div_ceil(1_000_000) {
        0 => Err("a time to live is longer than zero".to_owned()),
        ms => Ok(u64::try_from(ms).unwrap_or(u64::MAX).min(LONGEST_MS)),
    }
}

impl TtlRecord {
    /// As one number, for a reader that must not wait for a lock.
    pub(crate) fn to_number(self) -> u64 {
        match self {
            TtlRecord::Off => u64::MAX,
            TtlRecord::Documents => u64::MAX - 1,
            TtlRecord::After(ms) => ms.min(LONGEST_MS),
        }
    }

    pub(crate) fn from_number(number: u64) -> TtlRecord {
        match number {
            u64::MAX => TtlRecord::Off,
            ms if ms > LONGEST_MS => TtlRecord::Documents,
            ms => TtlRecord::After(ms),
        }
    }

    /// When a version expires, in milliseconds since the Unix epoch: from that millisecond on it is gone. `None`: never.
    pub(crate) fn expires_ms(self, version: &VersionHeader) -> Option<u64> {
        match version.kind {
            VersionKind::Tombstone => None,
            VersionKind::Document => self.end_ms(version.time_ms, version.ttl_ms),
        }
    }

    /// When a document expires that was written at `time_ms`, with a time to live of its own or without.
    pub(crate) fn end_ms(self, time_ms: u64, own_ms: Option<u64>) -> Option<u64> {
        let ttl_ms = match (self, own_ms) {
            (TtlRecord::Off, _) | (_, Some(NEVER_MS)) | (TtlRecord::Documents, None) => return None,
            (_, Some(own_ms)) => own_ms,
            (TtlRecord::After(default_ms), None) => default_ms,
        };
        Some(time_ms.saturating_add(ttl_ms))
    }

    pub(crate) fn is_expired(self, version: &VersionHeader, now_ms: impl FnOnce() -> u64) -> bool {
        self.expires_ms(version).is_some_and(|expires_ms| expires_ms <= now_ms())
    }
}

/// What all collections say, at one moment: snapshots keep it, so that a later change does not move what they see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetimes {
    /// Those that do not say [`CollectionTtl::Documents`].
    by_collection: Arc<HashMap<CollectionNumber, TtlRecord>>,
}

impl Lifetimes {
    pub(crate) fn of(&self, number: CollectionNumber) -> TtlRecord {
        self.by_collection.get(&number).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, number: CollectionNumber, record: TtlRecord) {
        let map = Arc::make_mut(&mut self.by_collection);
        match record {
            TtlRecord::Documents => drop(map.remove(&number)),
            record => drop(map.insert(number, record)),
        }
    }
}

/// How a reader judges the documents of a collection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) ttl: TtlRecord,
    pub(crate) now_ms: u64,
}

impl Lifetime {
    pub(crate) fn is_over(self, version: &VersionHeader) -> bool {
        self.ttl.is_expired(version, || self.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ttl_ms: Option<u64>) -> VersionHeader {
        VersionHeader { kind: VersionKind::Document, time_ms: 1_000, previous: 0, created: 0, ttl_ms }
    }

    #[test]
    fn the_documents_own_time_counts_before_the_collections() {
        let (off, documents, default) = (TtlRecord::Off, TtlRecord::Documents, TtlRecord::After(50));
        let (none, own, never) = (written(None), written(Some(7)), written(Some(NEVER_MS)));
        assert_eq!([off, documents, default].map(|c| c.expires_ms(&none)), [None, None, Some(1_050)]);
        assert_eq!([off, documents, default].map(|c| c.expires_ms(&own)), [None, Some(1_007), Some(1_007)]);
        assert_eq!([off, documents, default].map(|c| c.expires_ms(&never)), [None, None, None]);
        let tombstone = VersionHeader { kind: VersionKind::Tombstone, ..none };
        assert_eq!(default.expires_ms(&tombstone), None);
    }

    #[test]
    fn the_millisecond_of_expiry_belongs_to_the_absence() {
        let default = TtlRecord::After(50);
        assert!(!default.is_expired(&written(None), || 1_049));
        assert!(default.is_expired(&written(None), || 1_050));
        assert!(!default.is_expired(&written(Some(NEVER_MS)), || panic!("asked for the time in vain")));
    }

    #[test]
    fn times_round_up_and_are_not_zero() {
        assert_eq!(DocumentTtl::After(Duration::from_nanos(1)).to_header(), Ok(Some(1)));
        assert!(DocumentTtl::After(Duration::ZERO).to_header().is_err());
        assert_eq!(DocumentTtl::After(Duration::MAX).to_header(), Ok(Some(LONGEST_MS)));
        assert!(matches!(CollectionTtl::After(Duration::ZERO).to_record(), Err(Error::Invalid(_))));
        for ttl in [CollectionTtl::Off, CollectionTtl::Documents, CollectionTtl::After(Duration::from_millis(5))] {
            let record = ttl.to_record().expect("valid");
            assert_eq!(CollectionTtl::from_record(record), ttl);
            assert_eq!(TtlRecord::from_number(record.to_number()), record);
        }
    }

    #[test]
    fn lifetimes_do_not_follow_later_changes() {
        let mut now = Lifetimes::default();
        now.set(1, TtlRecord::After(5));
        let then = now.clone();
        now.set(1, TtlRecord::Documents);
        now.set(2, TtlRecord::Off);
        assert_eq!([then.of(1), then.of(2)], [TtlRecord::After(5), TtlRecord::Documents]);
        assert_eq!([now.of(1), now.of(2)], [TtlRecord::Documents, TtlRecord::Off]);
    }
}
