//! `Idempotency-Key`: a write that was answered once is answered the same when the client sends it again.
//!
//! Owns the collections `sys/idempotency/<period>` and the records in them. A record is written in the same batch as the
//! writes that it speaks of, so there is no moment at which one is there without the other: not after a crash, and not
//! for a second request with the same key that comes while the first is under way, which waits for it.
//!
//! * A key belongs to a container and to one request: the method, the path, what the headers say about the write, and
//!   the body. Another request with the same key is refused with 422.
//! * Only a request that wrote something is remembered. One that was refused has changed nothing, and is judged anew.
//! * A record is kept for at least [`PERIOD_MS`] and for less than two of them. A period's records are one collection,
//!   dropped as a whole, so forgetting costs the same for one record and for a million.
//!
//! A write's etag is not known before it is committed, and the record is part of that commit. So the record says how far
//! before it each of them is (`WriteBatch::annotate`); its own etag and sequence then name theirs.
//!
//! ```text
//! u8 format | 32 bytes SHA-256 of the request | JSON: Record
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use etagdb::{Abort, Change, Collection, CommitSeq, Document, DocumentTtl, Store, WriteBatch};
use http::{HeaderName, Method, StatusCode};
use parking_lot::{RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::catalog::Container;
use crate::config::ServeError;
use crate::headers::Headers;
use crate::routes::Part;
use crate::run::{self, Ran, Slot};
use crate::status::{ApiError, Kind};
use crate::wire::Version;

/// The header that a client names its request by.
static HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// The collections' names, before the number of their period.
const COLLECTIONS_PREFIX: &str = "sys/idempotency/";
/// Milliseconds of a period: a day.
pub(crate) const PERIOD_MS: u64 = 24 * 60 * 60 * 1000;
/// First byte of a record.
const FORMAT: u8 = 1;
const FINGERPRINT_BYTES: usize = 32;
/// The request headers that say what a write does. The rest may differ from one attempt to the next.
const MEANING: [&str; 8] = [
    "x-ms-documentdb-partitionkey",
    "x-ms-documentdb-is-upsert",
    "x-ms-cosmos-is-batch-request",
    "x-ms-cosmos-batch-atomic",
    "x-ms-cosmos-batch-continue-on-error",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
];

/// The records that are kept.
#[derive(Debug)]
pub(crate) struct Idempotency {
    store: Store,
    /// Read-locked while a guarded write is judged and queued: no record comes into a period that another request, with
    /// the same key, does not look at. Once it is in the store's queue that request finds it, on disk or not.
    periods: RwLock<Periods>,
}

#[derive(Debug, Default)]
struct Periods {
    current: Option<(u64, Collection)>,
    previous: Option<Collection>,
}

impl Idempotency {
    /// Finds the records of the last two periods, and forgets older ones, unless the store is only read.
    pub(crate) fn open(store: &Store, now_ms: u64) -> Result<Idempotency, ServeError> {
        let current = now_ms / PERIOD_MS;
        let mut known: Vec<u64> = store.collections().iter().filter_map(|name| period_of(name)).collect();
        known.sort_unstable();
        let mut periods = Periods::default();
        let writable = store.is_writable();
        for number in known {
            if number + 1 < current {
                if writable {
                    store.drop_collection(&name_of(number))?;
                }
                continue;
            }
            // The clock may have been set back: the newest is the current one, whatever the time.
            if let Some((before, collection)) = periods.current.take() {
                periods.previous = (before + 1 == number).then_some(collection);
            }
            periods.current = Some((number, store.collection(&name_of(number))?));
        }
        Ok(Idempotency { store: store.clone(), periods: RwLock::new(periods) })
    }

    /// The guard of a write that names itself, or `None` for one that does not.
    pub(crate) fn guard(
        self: &Arc<Self>,
        container: &Container,
        method: &Method,
        part: &Part,
        headers: Headers<'_>,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Option<Guard>, ApiError> {
        let Some(key) = key(headers)? else { return Ok(None) };
        let id = match part {
            Part::Item(id) => id.as_str(),
            _ => "",
        };
        let fingerprint = fingerprint(method, id, headers, body);
        let key = [container.rid.to_string().as_bytes(), b"/", key.as_bytes()].concat();
        Ok(Some(Guard { records: Arc::clone(self), key, fingerprint, now_ms }))
    }

    /// The periods to look at now; makes the current one if nothing was written in it yet.
    fn periods_at(&self, now_ms: u64) -> Result<RwLockReadGuard<'_, Periods>, ApiError> {
        let number = now_ms / PERIOD_MS;
        loop {
            let periods = self.periods.read();
            if periods.current.as_ref().is_some_and(|(current, _)| *current >= number) {
                return Ok(periods);
            }
            drop(periods);
            self.turn(number)?;
        }
    }

    fn turn(&self, number: u64) -> Result<(), ApiError> {
        let mut periods = self.periods.write();
        if periods.current.as_ref().is_some_and(|(current, _)| *current >= number) {
            return Ok(());
        }
        let collection = self.store.collection(&name_of(number))?;
        let last = periods.current.replace((number, collection));
        let forgotten = periods.previous.take();
        if let Some(forgotten) = forgotten {
            self.store.drop_collection(forgotten.name())?;
        }
        if let Some((before, collection)) = last {
            if before + 1 == number {
                periods.previous = Some(collection);
            } else {
                self.store.drop_collection(collection.name())?;
            }
        }
        Ok(())
    }
}

fn name_of(period: u64) -> String {
    format!("{COLLECTIONS_PREFIX}{period}")
}

fn period_of(name: &str) -> Option<u64> {
    name.strip_prefix(COLLECTIONS_PREFIX)?.parse().ok()
}

/// The key of a request, checked.
fn key(headers: Headers<'_>) -> Result<Option<&str>, ApiError> {
    let refuse =
        |why: &str| ApiError::bad_request(format!("The value of the header 'Idempotency-Key' is invalid: {why}."));
    let mut values = headers.0.get_all(&HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse("it is there twice"));
    }
    let key = value.to_str().map_err(|_| refuse("it is not ASCII text"))?.trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(refuse("it must have 1 to 255 characters"));
    }
    Ok(Some(key))
}

/// Refuses a key on a write that is not remembered: a client that sends one relies on it.
pub(crate) fn refuse(headers: Headers<'_>) -> Result<(), ApiError> {
    match key(headers)? {
        Some(_) => Err(ApiError::bad_request("The header 'Idempotency-Key' is understood on writes of items only.")),
        None => Ok(()),
    }
}

fn fingerprint(method: &Method, id: &str, headers: Headers<'_>, body: &[u8]) -> [u8; FINGERPRINT_BYTES] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(method.as_str().as_bytes());
    add(id.as_bytes());
    for name in MEANING {
        add(name.as_bytes());
        headers.0.get_all(name).iter().for_each(|value| add(value.as_bytes()));
    }
    add(b"body");
    add(body);
    hash.finalize().into()
}

/// What makes one write happen once.
#[derive(Debug)]
pub(crate) struct Guard {
    records: Arc<Idempotency>,
    key: Vec<u8>,
    fingerprint: [u8; FINGERPRINT_BYTES],
    now_ms: u64,
}

/// A [`Guard`] at work: the periods of its records stay as they are.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    guard: &'a Guard,
    periods: RwLockReadGuard<'a, Periods>,
}

impl Held<'_> {
    /// Adds the look for a record to a batch, before anything else. A record that is found stops the batch.
    pub(crate) fn look<'b>(&self, batch: &mut WriteBatch<'b>, found: &'b RefCell<Option<Document>>) {
        for collection in self.periods.previous.iter().chain(self.periods.current.iter().map(|(_, current)| current)) {
            batch.update(collection, &self.guard.key, move |record| match record {
                None => Ok(Change::Keep),
                Some(record) => {
                    *found.borrow_mut() = Some(record.clone());
                    Err(Abort)
                }
            });
        }
    }

    /// Adds the record to a batch, after everything else. `record` is called then; without anything to remember nothing
    /// is written.
    pub(crate) fn remember<'b>(
        &self,
        batch: &mut WriteBatch<'b>,
        record: impl FnOnce(&[Option<u64>]) -> Option<Record> + 'b,
    ) {
        let Some((_, current)) = &self.periods.current else { return };
        let fingerprint = self.guard.fingerprint;
        batch.annotate(current, &self.guard.key, move |distances| {
            let Some(record) = record(distances) else { return Ok(Change::Keep) };
            let mut bytes = vec![FORMAT];
            bytes.extend_from_slice(&fingerprint);
            // A record has no maps with odd keys and writes to memory: nothing in it can fail.
            serde_json::to_writer(&mut bytes, &record).map_err(|_| Abort)?;
            Ok(Change::Put(bytes))
        });
    }
}

impl Guard {
    /// Holds the periods from before the write is judged until it is queued.
    pub(crate) fn hold(&self) -> Result<Held<'_>, ApiError> {
        Ok(Held { guard: self, periods: self.records.periods_at(self.now_ms)? })
    }

    /// What the request came to when it was made first.
    pub(crate) fn recall(&self, document: &Document) -> Result<Ran, ApiError> {
        let broken = |what: &str| {
            ApiError::new(Kind::InternalServerError, format!("what is remembered of this request is damaged: {what}"))
        };
        let (&format, rest) = document.body.split_first().ok_or_else(|| broken("it is empty"))?;
        let (fingerprint, json) = rest.split_at_checked(FINGERPRINT_BYTES).ok_or_else(|| broken("it is short"))?;
        if format != FORMAT {
            return Err(broken("its format is unknown"));
        }
        if fingerprint != self.fingerprint {
            return Err(ApiError::new(
                Kind::UnprocessableEntity,
                "This Idempotency-Key was used for another request: the method, the path, the conditions and the body \
                 must be those of the first one.",
            ));
        }
        let record: Record = serde_json::from_slice(json).map_err(|error| broken(&error.to_string()))?;
        record.recall(document).ok_or_else(|| broken("it does not add up"))
    }
}

/// Since when there are the items that a batch writes: taken down while its operations are judged.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// For each operation that wrote an item, by its position.
    made: HashMap<usize, Made>,
    /// Which operation made the item under a key.
    by_key: HashMap<Vec<u8>, usize>,
}

/// When an item came into being.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Made {
    /// At this commit.
    Before(u64),
    /// By the batch's operation at this position.
    At(usize),
}

impl Notes {
    /// Takes down what the operation at `at` did to the document under `key`, which was `before`.
    pub(crate) fn note(&mut self, at: usize, key: &[u8], before: Option<&Document>, change: &Change) {
        if !matches!(change, Change::Put(_) | Change::PutWith(..)) {
            return;
        }
        let made = match before {
            None => {
                self.by_key.insert(key.to_vec(), at);
                Made::At(at)
            }
            Some(before) if before.created.get() > 0 => Made::Before(before.created.get()),
            Some(_) => Made::At(self.by_key.get(key).copied().unwrap_or(at)),
        };
        self.made.insert(at, made);
    }
}

/// How a request ended, but for what only the commit knew.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    ends: Vec<End>,
    /// How far before the record each of the batch's operations wrote, by its position.
    distances: Vec<Option<u64>>,
    made: HashMap<usize, Made>,
}

/// How one operation ended.
#[derive(Debug, Serialize, Deserialize)]
enum End {
    Wrote { status: u16, at: usize, body: Box<RawValue> },
    ReadWritten { at: usize, body: Box<RawValue> },
    Read { etag: String, seq: u64, created: u64, time_ms: u64, body: Box<RawValue> },
    NotModified { etag: String, seq: u64 },
    Deleted,
    Refused { kind: Kind, substatus: u32, message: String, etag: Option<String> },
    Dependent,
}

impl Record {
    /// `None` when nothing was written.
    pub(crate) fn of(slots: &[Slot], notes: &Notes, distances: &[Option<u64>]) -> Option<Record> {
        distances.iter().flatten().next()?;
        let ends = slots.iter().map(End::of).collect::<Option<_>>()?;
        Some(Record { ends, distances: distances.to_vec(), made: notes.made.clone() })
    }

    fn recall(self, document: &Document) -> Option<Ran> {
        let (distances, made) = (self.distances, self.made);
        let before = |distance: u64| document.seq.get().checked_sub(distance).map(CommitSeq::new);
        let seq = |at: usize| before((*distances.get(at)?)?);
        let version = |body: Bytes, at: usize| {
            let created = match *made.get(&at)? {
                Made::Before(created) => CommitSeq::new(created),
                Made::At(at) => seq(at)?,
            };
            let seq = seq(at)?;
            Some(Version { body, etag: document.etag.of_same_batch(seq), seq, created, time_ms: document.time_ms })
        };
        let first = before(distances.iter().flatten().copied().max()?)?;
        let slots = self.ends.into_iter().map(End::slot).collect::<Option<Vec<_>>>()?;
        let outcomes = run::outcomes(slots, version);
        Some(Ran { outcomes, commits: Some((first, document.seq)), recalled: true })
    }
}

impl End {
    fn of(slot: &Slot) -> Option<End> {
        Some(match slot {
            Slot::Wrote { status, body, at, .. } => End::Wrote { status: status.as_u16(), at: *at, body: raw(body)? },
            Slot::ReadWritten { body, at } => End::ReadWritten { at: *at, body: raw(body)? },
            Slot::ReadStored(version) => End::Read {
                etag: version.etag.to_string(),
                seq: version.seq.get(),
                created: version.created.get(),
                time_ms: version.time_ms,
                body: raw(&version.body)?,
            },
            Slot::NotModified(etag, seq) => End::NotModified { etag: etag.to_string(), seq: seq.get() },
            Slot::Deleted => End::Deleted,
            Slot::Refused(error) => End::Refused {
                kind: error.kind,
                substatus: error.substatus,
                message: error.message.clone(),
                etag: error.etag.map(|etag| etag.to_string()),
            },
            Slot::Waiting | Slot::Moving(_) | Slot::Dependent => End::Dependent,
        })
    }

    fn slot(self) -> Option<Slot> {
        let bytes = |body: &RawValue| Bytes::copy_from_slice(body.get().as_bytes());
        Some(match self {
            End::Wrote { status, at, body } => Slot::Wrote {
                status: StatusCode::from_u16(status).ok()?,
                body: bytes(&body),
                ttl: DocumentTtl::default(),
                at,
            },
            End::ReadWritten { at, body } => Slot::ReadWritten { body: bytes(&body), at },
            End::Read { etag, seq, created, time_ms, body } => Slot::ReadStored(Version {
                body: bytes(&body),
                etag: etag.parse().ok()?,
                seq: CommitSeq::new(seq),
                created: CommitSeq::new(created),
                time_ms,
            }),
            End::NotModified { etag, seq } => Slot::NotModified(etag.parse().ok()?, CommitSeq::new(seq)),
            End::Deleted => Slot::Deleted,
            End::Refused { kind, substatus, message, etag } => {
                let mut error = ApiError::new(kind, message).substatus(substatus);
                error.etag = etag.map(|etag| etag.parse()).transpose().ok()?;
                Slot::Refused(error)
            }
            End::Dependent => Slot::Dependent,
        })
    }
}

/// A stored item is JSON as it was written, and stays so.
fn raw(body: &Bytes) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(body.to_vec()).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::catalog::Catalog;
    use crate::headers::Condition;
    use crate::metadata;
    use crate::operations::{Action, NewBody, Operation, Outcome};
    use crate::run::{Mode, Run};

    /// A time in the middle of a period.
    const NOON_MS: u64 = 20_000 * PERIOD_MS + PERIOD_MS / 2;

    /// A store with one container.
    pub(crate) struct Fixture {
        store: Store,
        pub(crate) container: Arc<Container>,
        _dir: tempfile::TempDir,
    }

    pub(crate) fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let catalog = Catalog::open(&store).unwrap();
        catalog.create_database("d".to_owned(), None).unwrap();
        let definition = metadata::container(br#"{"id":"c","partitionKey":{"paths":["/pk"],"kind":"Hash"}}"#).unwrap();
        let container = catalog.create_container("d", definition, None).unwrap();
        Fixture { store, container, _dir: dir }
    }

    impl Fixture {
        /// Upserts an item under a key at a time. Says whether that was a repetition, and the item's sequence.
        fn upsert(&self, idempotency: &Arc<Idempotency>, key: &'static str, body: &str, now_ms: u64) -> (bool, u64) {
            let mut map = HeaderMap::new();
            map.insert(&HEADER, HeaderValue::from_static(key));
            let (headers, part) = (Headers(&map), Part::Items);
            let method = Method::POST;
            let guard = idempotency.guard(&self.container, &method, &part, headers, body.as_bytes(), now_ms).unwrap();
            let body = NewBody { bytes: body.as_bytes().to_vec(), ..NewBody::default() };
            let action = Action::Upsert { body, if_match: Condition::None };
            let operation = Operation { key: b"item".to_vec(), created: None, action };
            let run = Run {
                store: self.store.clone(),
                container: Arc::clone(&self.container),
                operations: vec![Ok(operation)],
                mode: Mode::AllOrNothing,
                guard: guard.map(Arc::new),
            };
            let mut ran = run.run_blocking().unwrap();
            match ran.outcomes.pop() {
                Some(Outcome::Item(_, version)) => (ran.recalled, version.seq.get()),
                other => panic!("{other:?}"),
            }
        }

        fn periods(&self) -> Vec<u64> {
            let mut periods: Vec<u64> = self.store.collections().iter().filter_map(|name| period_of(name)).collect();
            periods.sort_unstable();
            periods
        }
    }

    #[test]
    fn a_key_is_kept_for_at_least_one_period_and_less_than_two_more() {
        let fixture = fixture();
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS).unwrap());
        let (repeated, seq) = fixture.upsert(&idempotency, "k", "{}", NOON_MS);
        assert!(!repeated);
        for later in [0, 1, PERIOD_MS, PERIOD_MS + PERIOD_MS / 2 - 1] {
            assert_eq!(fixture.upsert(&idempotency, "k", "{}", NOON_MS + later), (true, seq), "after {later} ms");
        }
        let (repeated, again) = fixture.upsert(&idempotency, "k", "{}", NOON_MS + 2 * PERIOD_MS);
        assert!(!repeated && again > seq, "forgotten by then");
        assert_eq!(fixture.periods(), [20_001, 20_002], "what is forgotten takes no space");
        fixture.upsert(&idempotency, "other", "{}", NOON_MS + 9 * PERIOD_MS);
        assert_eq!(fixture.periods(), [20_009], "also after days without a request");
    }

    #[test]
    fn opening_forgets_what_is_old_and_keeps_the_rest() {
        let fixture = fixture();
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS).unwrap());
        let first = fixture.upsert(&idempotency, "k", "{}", NOON_MS).1;
        let second = fixture.upsert(&idempotency, "l", "{}", NOON_MS + PERIOD_MS).1;
        drop(idempotency);
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS + PERIOD_MS).unwrap());
        assert_eq!(fixture.upsert(&idempotency, "k", "{}", NOON_MS + PERIOD_MS), (true, first));
        assert_eq!(fixture.upsert(&idempotency, "l", "{}", NOON_MS + PERIOD_MS), (true, second));
        drop(idempotency);
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS + 2 * PERIOD_MS).unwrap());
        assert_eq!(fixture.periods(), [20_001]);
        assert!(!fixture.upsert(&idempotency, "k", "{}", NOON_MS + 2 * PERIOD_MS).0);
        assert_eq!(fixture.upsert(&idempotency, "l", "{}", NOON_MS + 2 * PERIOD_MS), (true, second));
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nothing() {
        let fixture = fixture();
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS).unwrap());
        let seq = fixture.upsert(&idempotency, "k", "{}", NOON_MS).1;
        assert_eq!(fixture.upsert(&idempotency, "k", "{}", NOON_MS - 5 * PERIOD_MS), (true, seq));
        drop(idempotency);
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS - 5 * PERIOD_MS).unwrap());
        assert_eq!(fixture.upsert(&idempotency, "k", "{}", NOON_MS - 5 * PERIOD_MS), (true, seq));
    }

    #[test]
    fn damaged_records_are_errors_and_no_panic() {
        let fixture = fixture();
        let idempotency = Arc::new(Idempotency::open(&fixture.store, NOON_MS).unwrap());
        fixture.upsert(&idempotency, "k", "{}", NOON_MS);
        let records = fixture.store.collection(&name_of(20_000)).unwrap();
        let id = [fixture.container.rid.to_string().as_bytes(), b"/k"].concat();
        let good = records.get(&id).unwrap().unwrap().body;
        let mut map = HeaderMap::new();
        map.insert(&HEADER, HeaderValue::from_static("k"));
        let recall = |body: &[u8]| {
            records.put(&id, body, etagdb::Precondition::Any).unwrap();
            let document = records.get(&id).unwrap().unwrap();
            let guard =
                idempotency.guard(&fixture.container, &Method::POST, &Part::Items, Headers(&map), b"{}", NOON_MS);
            guard.unwrap().unwrap().recall(&document).map(drop).map_err(|error| error.kind)
        };
        assert_eq!(recall(&good), Ok(()));
        for end in 0..good.len() {
            assert!(recall(&good[..end]).is_err(), "cut after {end} bytes");
        }
        let mut unknown = good.to_vec();
        unknown[0] = 9;
        assert_eq!(recall(&unknown), Err(Kind::InternalServerError));
    }
}
