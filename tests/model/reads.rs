//! Reads of all kinds, compared.

use std::time::Duration;

use etagdb::{
    AsOf, CollectionTtl, CommitSeq, Document, Error, Etag, Options, Precondition, PutOptions, Scan, ScanRange,
};

use crate::mistakes::Mistake;
use crate::oracle::{Agreement, Oracle, Seen, Version, View, agree};
use crate::pair::{Held, MOST, Pair};
use crate::steps::{IDS, Moment, Range, Step};
use crate::subject::time;

/// What the model expects of a place in the past.
pub(crate) enum Place {
    /// There is no such place.
    Refused,
    /// After a commit from the first to the second. They differ where retention has dropped commits in between: these
    /// mean nothing to whatever can still be read there.
    Within { low: u64, high: u64, time_ms: Option<u64> },
}

impl Range {
    pub(crate) fn scan_range(self) -> ScanRange {
        let mut range = ScanRange::all();
        if let Some(from) = self.from {
            range = if self.from_is_excluded { range.after(IDS[from]) } else { range.from(IDS[from]) };
        }
        if let Some(to) = self.to {
            range = range.to(IDS[to]);
        }
        if self.reverse { range.reverse() } else { range }
    }

    pub(crate) fn contains(self, id: usize) -> bool {
        let excluded = usize::from(self.from_is_excluded);
        self.from.is_none_or(|from| id >= from + excluded) && self.to.is_none_or(|to| id < to)
    }

    /// The ids in it, in its order.
    pub(crate) fn ids(self, oracle: &Oracle) -> Vec<usize> {
        let mut ids: Vec<usize> = (0..IDS.len()).filter(|&id| self.contains(id)).collect();
        if self.reverse && !oracle.errs(Mistake::ReverseIsIgnored) {
            ids.reverse();
        }
        ids
    }
}

const ALL: Range = Range { from: None, from_is_excluded: false, to: None, reverse: false };

impl Oracle {
    pub(crate) fn compare_document(&self, version: &Version, document: &Document) -> Agreement {
        version.is_called(document.etag)?;
        let said = (document.seq.get(), document.created.get(), document.time_ms, document.ttl);
        let expected = (version.seq, version.created, version.time_ms, version.ttl);
        agree!(said == expected && document.body == version.body, "{document:?} instead of {version:?}");
        Ok(())
    }

    pub(crate) fn compare_seen(&self, seen: Seen<'_>, document: Option<&Document>) -> Agreement {
        match (seen, document) {
            (Seen::Absent | Seen::Either(_), None) => Ok(()),
            (Seen::Present(version) | Seen::Either(version), Some(document)) => {
                self.compare_document(version, document)
            }
            (seen, document) => Err(format!("{document:?} instead of {seen:?}")),
        }
    }

    /// What somebody sees now; nobody is told.
    pub(crate) fn see_quietly(&self, collection: usize, id: usize) -> Option<Version> {
        self.see(collection, id, &self.view()).if_known().cloned()
    }

    /// The earliest and the latest that the time of commit `seq` can be taken for.
    fn times_of(&self, seq: u64) -> (u64, u64) {
        let mut upto = self.log.iter().filter(|version| version.seq <= seq);
        let latest = upto.clone().next_back().map_or(0, |version| version.time_ms);
        let certain = upto.rfind(|version| !self.may_be_missing(version));
        (certain.map_or(0, |version| version.time_ms), latest)
    }

    pub(crate) fn view_at(&self, seq: u64, time_ms: Option<u64>) -> View {
        let (from_ms, to_ms) = time_ms.map_or_else(|| self.times_of(seq), |time_ms| (time_ms, time_ms));
        View { seq, from_ms, to_ms, ttls: self.view().ttls }
    }

    fn place_of_commit(&self, seq: u64) -> Place {
        if seq > self.last {
            return Place::Refused;
        }
        let (low, high) = match self.version(seq) {
            Some(version) if self.may_be_missing(version) => (seq, version.end),
            Some(version) => (version.end, version.end),
            None if seq > self.base => (seq, seq),
            None => (seq, self.base),
        };
        Place::Within { low, high, time_ms: None }
    }

    /// The last commit that `is_before`, which is true of all up to some commit.
    pub(crate) fn last_that(&self, is_before: impl Fn(&Version) -> bool) -> (u64, u64) {
        let certain = || self.log.iter().filter(|version| !self.may_be_missing(version));
        let low = certain().rfind(|version| is_before(version)).map_or(0, |version| version.seq);
        let next = certain().find(|version| !is_before(version));
        (low, next.map_or(self.last, |next| next.seq - 1))
    }

    fn place_of_time(&self, time_ms: u64) -> Place {
        if time_ms > self.now_ms() {
            return Place::Refused;
        }
        let (low, high) = self.last_that(|version| version.time_ms <= time_ms);
        Place::Within { low, high, time_ms: Some(time_ms) }
    }

    /// A moment as the store is asked for it, and what is to be expected. `None` when nobody knows its name yet.
    pub(crate) fn resolve(&self, moment: Moment) -> Option<(AsOf, Place)> {
        let commit = |seq: u64| (AsOf::Commit(CommitSeq::new(seq)), self.place_of_commit(seq));
        let at = |time_ms: u64| (AsOf::Time(time(time_ms)), self.place_of_time(time_ms));
        Some(match moment {
            Moment::Commit(n, less) => {
                commit(self.nth_newest(n).map_or(self.base, |version| version.seq).saturating_sub(less))
            }
            Moment::Etag(n) => {
                let version = self.nth_newest(n)?;
                (AsOf::Etag(version.etag.get()?), self.place_of_commit(version.seq))
            }
            Moment::Time(n, more) => {
                at(self.nth_newest(n).map_or(self.last_ms, |version| version.time_ms).saturating_add_signed(more))
            }
            Moment::Beginning => commit(0),
            Moment::Now => commit(self.last),
            Moment::Ahead if self.last.is_multiple_of(2) => commit(self.last + 1),
            Moment::Ahead => at(self.now_ms() + 1),
        })
    }
}

impl Pair<'_> {
    pub(crate) fn step_of_reading(&mut self, step: &Step) -> Agreement {
        match *step {
            Step::Snapshot if self.snapshots.len() < MOST => {
                let snapshot = self.subject.store().snapshot();
                let (view, whole) = (self.oracle.view(), vec![true; self.oracle.bins.len()]);
                agree!(snapshot.seq().get() == view.seq, "a snapshot at {} instead of {}", snapshot.seq(), view.seq);
                self.snapshots.push(Held { snapshot, view, whole });
                Ok(())
            }
            Step::SnapshotAt(moment) if self.snapshots.len() < MOST => self.snapshot_at(moment),
            Step::ReadSnapshot(n) if !self.snapshots.is_empty() => self.read_snapshot(n % self.snapshots.len()),
            Step::DropSnapshot(n) if !self.snapshots.is_empty() => {
                self.snapshots.remove(n % self.snapshots.len());
                Ok(())
            }
            Step::Get { collection, id } => self.get(self.places[collection], id),
            Step::Scan { collection, range, page } => self.scan(self.places[collection], range, page),
            Step::AsOf { collection, id, moment } => self.get_as_of(self.places[collection], id, moment),
            Step::Versions { collection, id } => {
                let collection = self.places[collection];
                if self.oracle.bins[collection].live { self.compare_versions(collection, id) } else { Ok(()) }
            }
            Step::Size(place) => self.size(self.places[place]),
            Step::BadInput(n) => self.bad_input(n),
            _ => Ok(()),
        }
    }

    fn snapshot_at(&mut self, moment: Moment) -> Agreement {
        let Some((as_of, place)) = self.oracle.resolve(moment) else { return Ok(()) };
        let result = self.subject.store().snapshot_at(as_of);
        let Place::Within { low, high, time_ms } = place else {
            agree!(matches!(result, Err(Error::Invalid(_))), "{as_of:?} is no place, and the store says {result:?}");
            return Ok(());
        };
        self.oracle.asked_for(time_ms.unwrap_or(0));
        let horizons = || self.oracle.live().map(|bin| self.oracle.bins[bin].horizon);
        let oldest = horizons().min().unwrap_or(0);
        match result {
            Ok(snapshot) => {
                let seq = snapshot.seq().get();
                agree!((low..=high).contains(&seq), "{as_of:?} is at {seq}, not from {low} to {high}");
                agree!(oldest <= seq, "a snapshot at {seq}, and all horizons are at {oldest} or later");
                let view = self.oracle.view_at(seq, time_ms);
                let whole = self.oracle.bins.iter().map(|bin| bin.horizon <= seq).collect();
                self.snapshots.push(Held { snapshot, view, whole });
                Ok(())
            }
            Err(Error::NotRetained { asked, oldest: said }) => {
                let agrees = (low..=high).contains(&asked.get()) && said.get() == oldest && oldest > low;
                agree!(agrees, "{as_of:?} is refused at {asked} for {said}, with {oldest} and from {low} to {high}");
                Ok(())
            }
            Err(error) => Err(format!("{as_of:?}: {error}")),
        }
    }

    fn read_snapshot(&self, n: usize) -> Agreement {
        let held = &self.snapshots[n];
        let view = match self.oracle.errs(Mistake::SnapshotsMove) {
            true => &self.oracle.view(),
            false => &held.view,
        };
        for collection in 0..self.oracle.bins.len() {
            let Some(docs) = self.handle(collection) else { continue };
            let is_live = self.oracle.bins[collection].live;
            let is_whole = held.whole.get(collection).is_none_or(|whole| *whole);
            if !is_live || !is_whole {
                let refused = [
                    held.snapshot.get(&docs, IDS[0]).map(|_| ()),
                    held.snapshot.scan(&docs, &ScanRange::all()).map(|_| ()),
                ];
                for result in refused {
                    let agrees = match &result {
                        Err(Error::NotRetained { .. }) => !is_whole,
                        Err(Error::Invalid(_)) => !is_live,
                        _ => false,
                    };
                    agree!(agrees, "collection {collection} (live: {is_live}) at {}: {result:?}", view.seq);
                }
                continue;
            }
            for (id, name) in IDS.iter().enumerate() {
                let found = held.snapshot.get(&docs, name).map_err(|error| error.to_string())?;
                let seen = self.oracle.see(collection, id, view);
                self.oracle.compare_seen(seen, found.as_ref()).map_err(|what| format!("snapshot: {what}"))?;
            }
            for range in [ALL, Range { reverse: true, ..ALL }] {
                let scan = held.snapshot.scan(&docs, &range.scan_range());
                self.compare_scan(scan, collection, &range.ids(&self.oracle), view)?;
            }
            let id = (view.seq % IDS.len() as u64) as usize;
            let list = held.snapshot.history(&docs, IDS[id]).map_err(|error| error.to_string())?;
            self.compare_list(list, collection, id, view.seq)?;
        }
        Ok(())
    }

    pub(crate) fn compare_scan(
        &self,
        scan: etagdb::Result<Scan<'_>>,
        collection: usize,
        ids: &[usize],
        view: &View,
    ) -> Agreement {
        let found = scan.and_then(Iterator::collect::<etagdb::Result<Vec<_>>>).map_err(|error| error.to_string())?;
        let expected = ids.iter().map(|&id| (id, self.oracle.see(collection, id, view)));
        self.compare_entries(&found, expected)
    }

    pub(crate) fn compare_entries<'a, I: AsRef<[u8]> + std::fmt::Debug>(
        &self,
        found: &[(I, Document)],
        expected: impl Iterator<Item = (usize, Seen<'a>)>,
    ) -> Agreement {
        let mut entries = found.iter().peekable();
        for (id, seen) in expected {
            let document = entries.next_if(|(found, _)| found.as_ref() == IDS[id]).map(|(_, document)| document);
            self.oracle.compare_seen(seen, document).map_err(|what| format!("scan of {found:?}: {what}"))?;
        }
        agree!(entries.next().is_none(), "a scan has more than expected, or another order: {found:?}");
        Ok(())
    }

    fn get(&mut self, collection: usize, id: usize) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let cached = docs.get_cached(IDS[id]);
        let result = docs.get(IDS[id]);
        if !self.oracle.bins[collection].live {
            agree!(cached.is_none() && is_dropped(&result), "a dropped collection says {cached:?} {result:?}");
            return Ok(());
        }
        let found = result.map_err(|error| error.to_string())?;
        agree!(cached.is_none() || cached == found, "{cached:?} in memory, and {found:?}");
        let expected = self.oracle.see_now(collection, id);
        self.oracle.compare_seen(expected.as_ref().map_or(Seen::Absent, Seen::Present), found.as_ref())
    }

    /// Page by page.
    fn scan(&mut self, collection: usize, range: Range, page: usize) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let mut rest = range.scan_range();
        if !self.oracle.bins[collection].live {
            let result = docs.scan(&rest);
            agree!(is_dropped(&result), "a scan of a dropped collection says {result:?}");
            return Ok(());
        }
        let mut found = Vec::new();
        loop {
            let scan = docs.scan(&rest).map_err(|error| error.to_string())?.take(page);
            let next = scan.collect::<etagdb::Result<Vec<_>>>().map_err(|error| error.to_string())?;
            let Some((id, _)) = next.last() else { break };
            rest = if range.reverse { rest.before(id) } else { rest.after(id) };
            found.extend(next);
        }
        let view = self.oracle.view();
        let ids = range.ids(&self.oracle);
        self.compare_entries(&found, ids.iter().map(|&id| (id, self.oracle.see(collection, id, &view))))
    }

    fn get_as_of(&mut self, collection: usize, id: usize, moment: Moment) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let Some((as_of, place)) = self.oracle.resolve(moment) else { return Ok(()) };
        let result = docs.get_as_of(IDS[id], as_of);
        if !self.oracle.bins[collection].live {
            agree!(is_dropped(&result), "a dropped collection says {result:?}");
            return Ok(());
        }
        let horizon = self.oracle.bins[collection].horizon;
        if let AsOf::Etag(etag) = as_of {
            return self.compare_by_etag(collection, id, etag, &result);
        }
        let Place::Within { low, high, time_ms } = place else {
            agree!(matches!(result, Err(Error::Invalid(_))), "{as_of:?} is no place, and the store says {result:?}");
            return Ok(());
        };
        self.oracle.asked_for(time_ms.unwrap_or(0));
        match result {
            Ok(found) => {
                let compare = |seq| {
                    let view = self.oracle.view_at(seq, time_ms);
                    self.oracle.compare_seen(self.oracle.see(collection, id, &view), found.as_ref())
                };
                compare(low).or_else(|_| compare(high)).map_err(|what| format!("{as_of:?}: {what}"))
            }
            Err(Error::NotRetained { .. }) => {
                let chain = self.oracle.chain(collection, id);
                let at = chain.iter().rfind(|version| version.seq <= low);
                let next = chain.iter().find(|version| version.seq > low);
                let is_known = at.is_some_and(|at| !at.gone) && next.is_none_or(|next| !next.gone);
                agree!(horizon > low && !is_known, "{as_of:?} is kept, from {low} to {high}, and refused");
                Ok(())
            }
            Err(error) => Err(format!("{as_of:?}: {error}")),
        }
    }

    fn compare_by_etag(
        &self,
        collection: usize,
        id: usize,
        etag: Etag,
        result: &etagdb::Result<Option<Document>>,
    ) -> Agreement {
        let version = self.oracle.log.iter().find(|version| version.etag.get() == Some(etag));
        let version = version.ok_or("an etag that the model has forgotten")?;
        let is_own = (version.collection, version.id) == (collection, id);
        match result {
            Ok(found) if is_own && !version.gone => {
                let seen = if version.is_document() { Seen::Present(version) } else { Seen::Absent };
                self.oracle.compare_seen(seen, found.as_ref())
            }
            Err(Error::NotRetained { asked, .. }) if is_own && version.gone && asked.get() == version.seq => Ok(()),
            // Whose a commit was is not known when its row is gone.
            Err(Error::NotRetained { .. }) if !is_own && self.oracle.may_be_missing(version) => {
                agree!(version.seq < self.oracle.bins[collection].horizon, "{etag} is refused above the horizon");
                Ok(())
            }
            Err(Error::Invalid(_)) if !is_own => Ok(()),
            _ => Err(format!("{result:?} for the etag of {version:?}")),
        }
    }

    /// Compares the list of a document's versions; by the way learns their etags.
    pub(crate) fn compare_versions(&self, collection: usize, id: usize) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let list = docs.history(IDS[id]).map_err(|error| error.to_string())?;
        self.compare_list(list, collection, id, self.oracle.last)
    }

    pub(crate) fn compare_list(&self, list: etagdb::History<'_>, collection: usize, id: usize, at: u64) -> Agreement {
        let list = list.collect::<etagdb::Result<Vec<_>>>().map_err(|error| error.to_string())?;
        let chain = self.oracle.chain(collection, id);
        let kept: Vec<_> = chain.iter().rev().filter(|version| version.seq <= at && !version.gone).collect();
        let seqs = |what: &[u64]| format!("{what:?}");
        let (listed, expected): (Vec<u64>, Vec<u64>) =
            (list.iter().map(|version| version.seq.get()).collect(), kept.iter().map(|version| version.seq).collect());
        agree!(listed == expected, "versions {} instead of {}", seqs(&listed), seqs(&expected));
        for (listed, version) in list.iter().zip(kept) {
            version.is_called(listed.etag)?;
            let said = (listed.created.get(), listed.time_ms, listed.body_bytes, listed.tombstone);
            let expected = (version.created, version.time_ms, version.body.len(), !version.is_document());
            agree!(said == expected, "{listed:?} instead of {version:?}");
            let previous = listed.previous.map_or(0, CommitSeq::get);
            // A tombstone that was dropped may still be named by the version after it.
            let may_be_named = |other: &Version| other.gone && (previous == 0 || other.or_from.is_some());
            let gone = chain.iter().any(|other| other.seq == version.previous && may_be_named(other));
            agree!(previous == version.previous || gone, "{listed:?} follows another than {version:?}");
        }
        Ok(())
    }

    fn size(&mut self, collection: usize) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let results = [docs.size(), docs.size_estimate()];
        for result in results {
            if !self.oracle.bins[collection].live {
                agree!(is_dropped(&result), "the size of a dropped collection: {result:?}");
                continue;
            }
            let size = result.map_err(|error| error.to_string())?;
            let bytes = |version: &Version| (IDS[version.id].len() + version.body.len()) as u64;
            let documents: Vec<Version> =
                (0..IDS.len()).filter_map(|id| self.oracle.see_quietly(collection, id)).collect();
            let versions =
                || self.oracle.log.iter().filter(|version| version.collection == collection && !version.gone);
            let said = (size.documents, size.document_bytes, size.versions, size.version_bytes);
            let expected = (
                documents.len() as u64,
                documents.iter().map(bytes).sum(),
                versions().count() as u64,
                versions().map(bytes).sum(),
            );
            agree!(said == expected && size.is_exact, "{size:?} instead of {expected:?}");
        }
        Ok(())
    }

    /// What cannot be done says so, and does nothing.
    fn bad_input(&mut self, n: usize) -> Agreement {
        let collection = self.places[n % self.places.len()];
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let store = self.subject.store().clone();
        let zero = PutOptions::default().ttl(Duration::ZERO);
        let never: Etag = "00000000-0000-4000-8000-000000000001".parse().map_err(|_| "an etag")?;
        let is_invalid = match n / self.places.len() {
            0 => invalid(&docs.put("", "x", Precondition::Any)),
            1 => invalid(&docs.put_with("a", "x", Precondition::Any, zero)),
            2 => invalid(&docs.put(vec![b'x'; etagdb::MAX_ID_BYTES + 1], "x", Precondition::Any)),
            3 => invalid(&docs.set_ttl(CollectionTtl::After(Duration::ZERO))),
            4 => invalid(&store.collection("")),
            5 => invalid(&store.collection(&"x".repeat(etagdb::MAX_NAME_BYTES + 1))),
            6 => invalid(&store.register_cursor("", CommitSeq::new(0))),
            7 => invalid(&store.advance_cursor("nobody's", CommitSeq::new(0))),
            8 => invalid(&docs.get_as_of("a", never)),
            9 => invalid(&store.snapshot_at(never)),
            10 => invalid(&store.checkpoint(self.subject.path())),
            11 => matches!(Options::default().open(self.subject.path()), Err(Error::InUse { .. })),
            12 => invalid(&Options::default().create_if_missing(false).open(self.subject.path().join("none"))),
            13 => docs.get("").is_ok_and(|found| found.is_none()) || !self.oracle.bins[collection].live,
            14 => invalid(&docs.bulk_load([("", "x")], Precondition::Any)),
            _ => {
                let mut inside = None;
                let update = docs.update("a", |_| {
                    inside = Some(invalid(&docs.put("b", "x", Precondition::Any)));
                    Ok(etagdb::Change::Keep)
                });
                // Also when it only looks, an update tells of an expiry.
                if self.oracle.bins[collection].live {
                    self.oracle.see_now(collection, 2);
                }
                update.is_err() || inside == Some(true)
            }
        };
        agree!(is_invalid, "bad input {n} was taken");
        self.check_last()
    }
}

pub(crate) fn invalid<T>(result: &etagdb::Result<T>) -> bool {
    matches!(result, Err(Error::Invalid(_)))
}

pub(crate) fn is_dropped<T>(result: &etagdb::Result<T>) -> bool {
    matches!(result, Err(Error::Invalid(message)) if message.contains("was dropped"))
}
