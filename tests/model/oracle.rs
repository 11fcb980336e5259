//! The model: a list of everything that was ever committed, and the rules as the documentation says them. Everything is
//! found by going through the list from one end to the other, which is too simple to be wrong.

use std::cell::Cell;

use etagdb::{ChangeKind, CollectionTtl, DocumentTtl, Etag, Precondition};

use crate::mistakes::Mistake;
use crate::steps::{IDS, Keep};

/// What the store says is what the model says; or a sentence on how not.
pub(crate) type Agreement<T = ()> = Result<T, String>;

/// Says where the store and the model part.
macro_rules! agree {
    ($holds:expr, $($said:tt)+) => {
        if !$holds {
            return Err(format!($($said)+));
        }
    };
}
pub(crate) use agree;

/// A commit of one document: a version of it, or its tombstone.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) seq: u64,
    /// The last commit of its batch.
    pub(crate) end: u64,
    pub(crate) time_ms: u64,
    pub(crate) collection: usize,
    pub(crate) id: usize,
    pub(crate) kind: ChangeKind,
    pub(crate) body: Vec<u8>,
    pub(crate) ttl: DocumentTtl,
    /// The version before it, tombstones included; 0 for none.
    pub(crate) previous: u64,
    pub(crate) created: u64,
    /// Known when the store has said it.
    pub(crate) etag: Cell<Option<Etag>>,
    /// Dropped by retention.
    pub(crate) gone: bool,
    /// Where `seq` is a guess, the least that it can be instead.
    pub(crate) or_from: Option<u64>,
}

impl Version {
    pub(crate) fn is_document(&self) -> bool {
        matches!(self.kind, ChangeKind::Created | ChangeKind::Replaced)
    }

    /// The store says that this is the version's etag.
    pub(crate) fn is_called(&self, etag: Etag) -> Agreement {
        let known = self.etag.get().unwrap_or(etag);
        agree!(known == etag, "commit {} has etag {known} and {etag}", self.seq);
        self.etag.set(Some(etag));
        Ok(())
    }
}

/// A collection from its making to its drop.
#[derive(Debug, Clone)]
pub(crate) struct Bin {
    pub(crate) live: bool,
    pub(crate) ttl: CollectionTtl,
    pub(crate) keep: Keep,
    /// What the store said last.
    pub(crate) horizon: u64,
}

/// What a reader reads at: a sequence, and the time and the settings by which documents have expired for it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) seq: u64,
    /// Where retention has dropped the commit that tells the time, this is the earliest that it can have been,
    pub(crate) from_ms: u64,
    /// and this the latest.
    pub(crate) to_ms: u64,
    /// By collection.
    pub(crate) ttls: Vec<CollectionTtl>,
}

/// A document as a reader sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen<'a> {
    Absent,
    Present(&'a Version),
    /// It depends on a time that nobody knows any more.
    Either(&'a Version),
}

impl<'a> Seen<'a> {
    pub(crate) fn if_known(self) -> Option<&'a Version> {
        match self {
            Seen::Present(version) => Some(version),
            Seen::Absent | Seen::Either(_) => None,
        }
    }
}

/// One operation of a batch, with its etag already looked up.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) collection: usize,
    pub(crate) id: usize,
    pub(crate) precondition: Precondition,
    pub(crate) deed: Deed,
}

#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Put(Vec<u8>, DocumentTtl),
    Delete,
    Keep,
    Abort,
}

/// Why a batch writes nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    Conflict { position: usize, current: Option<Etag> },
    Aborted { position: usize },
    Dropped,
}

/// What a batch comes to.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) versions: Vec<Version>,
    /// By operation, which of the versions it wrote.
    pub(crate) results: Vec<Option<usize>>,
    /// By operation, the document that it found.
    pub(crate) found: Vec<Option<Version>>,
}

/// What the transactions of the history before may have used up.
const MOST_SKIPPED: u64 = 1_000;

#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    /// The last commit before the history.
    pub(crate) base: u64,
    pub(crate) last: u64,
    pub(crate) last_ms: u64,
    pub(crate) log: Vec<Version>,
    pub(crate) bins: Vec<Bin>,
    pub(crate) clock_ms: u64,
    /// Time does not go back behind this.
    pub(crate) floor_ms: u64,
    /// The latest that the clock has ever been, as far as the store can know.
    pub(crate) seen_ms: u64,
    /// Transactions that were refused may have used up so many sequences since the last commit,
    pub(crate) skipped: u64,
    /// and the time by then is also that of the next commit;
    pub(crate) refused_ms: u64,
    /// and the next commit comes so many later.
    pub(crate) offset: u64,
    pub(crate) mistake: Option<Mistake>,
}

impl Oracle {
    pub(crate) fn new(base: u64, last_ms: u64, clock_ms: u64, mistake: Option<Mistake>) -> Oracle {
        let (log, bins) = (Vec::new(), Vec::new());
        Oracle {
            base,
            last: base,
            last_ms,
            log,
            bins,
            clock_ms,
            floor_ms: last_ms,
            seen_ms: clock_ms,
            skipped: MOST_SKIPPED,
            refused_ms: 0,
            offset: 0,
            mistake,
        }
    }

    pub(crate) fn errs(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub(crate) fn make_bin(&mut self) -> usize {
        let keep = Keep { age_ms: Some(600_000), versions: 0 };
        self.bins.push(Bin { live: true, ttl: CollectionTtl::Documents, keep, horizon: 0 });
        self.bins.len() - 1
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.bins.len()).filter(|&bin| self.bins[bin].live)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock_ms.max(self.floor_ms)
    }

    /// Somebody was told that a document has expired: time does not go back behind that.
    fn told(&mut self) {
        self.floor_ms = self.now_ms();
    }

    pub(crate) fn version(&self, seq: u64) -> Option<&Version> {
        self.log.iter().find(|version| version.seq == seq)
    }

    /// The n-th newest commit.
    pub(crate) fn nth_newest(&self, n: usize) -> Option<&Version> {
        if self.log.is_empty() { None } else { self.log.iter().rev().nth(n % self.log.len()) }
    }

    /// The versions of a document, oldest first, dropped ones included.
    pub(crate) fn chain(&self, collection: usize, id: usize) -> Vec<&Version> {
        self.log.iter().filter(|version| (version.collection, version.id) == (collection, id)).collect()
    }

    pub(crate) fn expires_ms(version: &Version, ttl: CollectionTtl) -> Option<u64> {
        let after = match (ttl, version.ttl) {
            (CollectionTtl::Off, _) | (_, DocumentTtl::Never) => return None,
            (_, DocumentTtl::After(own)) => own,
            (CollectionTtl::Documents, DocumentTtl::Collection) => return None,
            (CollectionTtl::After(default), DocumentTtl::Collection) => default,
        };
        version.is_document().then(|| version.time_ms + after.as_millis() as u64)
    }

    fn has_expired(&self, version: &Version) -> bool {
        let late = u64::from(self.errs(Mistake::ExpiresLate));
        let expires = Oracle::expires_ms(version, self.bins[version.collection].ttl);
        expires.is_some_and(|expires_ms| expires_ms + late <= self.now_ms())
    }

    /// What somebody sees who reads now.
    pub(crate) fn view(&self) -> View {
        let ttls = self.bins.iter().map(|bin| bin.ttl).collect();
        View { seq: self.last, from_ms: self.now_ms(), to_ms: self.now_ms(), ttls }
    }

    pub(crate) fn see(&self, collection: usize, id: usize, view: &View) -> Seen<'_> {
        let newest = self.chain(collection, id).into_iter().rfind(|version| version.seq <= view.seq);
        let Some(version) = newest.filter(|version| version.is_document()) else {
            return Seen::Absent;
        };
        let ttl = view.ttls.get(collection).copied().unwrap_or_default();
        let late = u64::from(self.errs(Mistake::ExpiresLate));
        match Oracle::expires_ms(version, ttl).map(|expires_ms| expires_ms + late) {
            Some(expires_ms) if expires_ms <= view.from_ms => Seen::Absent,
            Some(expires_ms) if expires_ms <= view.to_ms => Seen::Either(version),
            _ => Seen::Present(version),
        }
    }

    /// As [`see`](Oracle::see), now; and remembers the time if an expiry is told by it.
    pub(crate) fn see_now(&mut self, collection: usize, id: usize) -> Option<Version> {
        let newest = self.chain(collection, id).pop();
        if newest.is_some_and(|newest| newest.is_document() && self.has_expired(newest)) {
            self.told();
        }
        let view = self.view();
        self.see(collection, id, &view).if_known().cloned()
    }

    /// Judges operations in order, each seeing what the ones before it did.
    pub(crate) fn judge(&mut self, intents: &[Intent]) -> Result<Judged, Refusal> {
        let mut judged = Judged { versions: Vec::new(), results: Vec::new(), found: Vec::new() };
        for (position, intent) in intents.iter().enumerate() {
            let &Intent { collection, id, precondition, .. } = intent;
            if !self.bins[collection].live {
                return Err(Refusal::Dropped);
            }
            let is_it = |version: &&Version| (version.collection, version.id) == (collection, id);
            let own = judged.versions.iter().rfind(is_it).cloned();
            let newest = own.clone().or_else(|| self.chain(collection, id).pop().cloned());
            let expired = newest.clone().filter(|version| own.is_none() && self.has_expired(version));
            if expired.is_some() {
                self.told();
            }
            let current = newest.clone().filter(|version| version.is_document() && expired.is_none());
            let etag = current.as_ref().map(|version| version.etag.get().unwrap_or(Etag::NEVER));
            if !self.holds(precondition, etag) {
                return Err(Refusal::Conflict { position, current: etag });
            }
            judged.found.push(current.clone());
            let (body, ttl, kind) = match (&intent.deed, &current) {
                (Deed::Abort, _) => return Err(Refusal::Aborted { position }),
                (Deed::Put(body, ttl), None) => (body.clone(), *ttl, ChangeKind::Created),
                (Deed::Put(body, ttl), Some(_)) => (body.clone(), *ttl, ChangeKind::Replaced),
                (Deed::Delete, Some(_)) => (Vec::new(), DocumentTtl::Collection, ChangeKind::Deleted),
                (Deed::Delete, None) | (Deed::Keep, _) => {
                    judged.results.push(None);
                    continue;
                }
            };
            let next = |judged: &Judged| self.last + 1 + self.offset + judged.versions.len() as u64;
            let mut previous = newest.map_or(0, |version| version.seq);
            if let Some(expired) = expired {
                let seq = next(&judged);
                judged.versions.push(self.expiry(&expired, seq));
                previous = seq;
            }
            let seq = next(&judged);
            judged.results.push(Some(judged.versions.len()));
            judged.versions.push(Version {
                seq,
                end: seq,
                time_ms: self.now_ms(),
                collection,
                id,
                kind,
                body,
                ttl,
                previous,
                created: current.map_or(seq, |version| version.created),
                etag: Cell::new(None),
                gone: false,
                or_from: None,
            });
        }
        Ok(judged)
    }

    fn holds(&self, precondition: Precondition, current: Option<Etag>) -> bool {
        match precondition {
            Precondition::Any => true,
            Precondition::Absent => current.is_none(),
            Precondition::Present => current.is_some(),
            Precondition::Match(_) if self.errs(Mistake::AnyEtagMatches) => current.is_some(),
            Precondition::Match(etag) => etag != Etag::NEVER && current == Some(etag),
        }
    }

    fn expiry(&self, of: &Version, seq: u64) -> Version {
        Version {
            seq,
            end: seq,
            time_ms: self.now_ms(),
            kind: ChangeKind::Expired,
            body: Vec::new(),
            ttl: DocumentTtl::Collection,
            previous: of.seq,
            etag: Cell::new(None),
            gone: false,
            or_from: None,
            ..of.clone()
        }
    }

    /// Takes a batch into the log.
    pub(crate) fn commit(&mut self, mut versions: Vec<Version>) {
        let Some(last) = versions.last().map(|version| version.seq) else { return };
        for version in &mut versions {
            version.end = last;
        }
        if self.errs(Mistake::LosesTheEndOfABatch) && versions.len() > 1 {
            versions.pop();
        }
        self.log.extend(versions);
        self.committed(last);
    }

    /// Commits up to `last` were made now.
    pub(crate) fn committed(&mut self, last: u64) {
        self.last = last;
        self.last_ms = self.now_ms();
        self.floor_ms = self.last_ms;
        (self.skipped, self.refused_ms, self.offset) = (0, 0, 0);
    }

    /// A transaction with at most so many writes had its place in the commit order before it was refused.
    pub(crate) fn refused(&mut self, writes: usize) {
        // Each may have come with the commit of an expiry.
        self.skipped += 2 * writes as u64;
        self.refused_ms = self.now_ms();
    }

    /// The next commit is said to come so many sequences late.
    pub(crate) fn comes_late_by(&mut self, offset: u64) -> Agreement {
        agree!(offset <= self.skipped, "{offset} sequences were passed over, and {} were used up", self.skipped);
        self.offset = offset;
        Ok(())
    }

    /// Somebody asked for the state at a time.
    pub(crate) fn asked_for(&mut self, time_ms: u64) {
        if time_ms >= self.last_ms {
            self.floor_ms = self.floor_ms.max((time_ms + 1).min(self.now_ms()));
        }
    }

    /// Documents that have expired and of which that is not committed yet.
    pub(crate) fn expired(&self) -> Vec<Version> {
        let mut expired = Vec::new();
        for collection in self.live() {
            for id in 0..IDS.len() {
                let newest = self.chain(collection, id).pop();
                expired.extend(newest.filter(|newest| newest.is_document() && self.has_expired(newest)).cloned());
            }
        }
        expired
    }

    /// Takes the commit of an expiry into the log, as a batch of its own or part of one.
    pub(crate) fn commit_expiry(&mut self, of: &Version, seq: u64) {
        let version = self.expiry(of, seq);
        self.log.push(version);
    }

    /// Whether the commit's row in the feed may be missing: dropped by retention, or that of a dropped collection.
    pub(crate) fn may_be_missing(&self, version: &Version) -> bool {
        version.gone || !self.bins[version.collection].live
    }

    /// The newest horizon of a collection or of all.
    pub(crate) fn horizon(&self, scope: Option<usize>) -> u64 {
        match scope {
            Some(collection) => self.bins[collection].horizon,
            None => self.live().map(|bin| self.bins[bin].horizon).max().unwrap_or(0),
        }
    }

    /// The store was closed and opened: it remembers the time of its last commit and no other.
    pub(crate) fn reopened(&mut self) {
        self.floor_ms = self.last_ms;
        self.seen_ms = self.clock_ms;
    }
}
