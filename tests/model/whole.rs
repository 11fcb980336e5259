//! What happens to the store as a whole: settings, time, maintenance, drops, reopening, copies; and the look at
//! everything when a history is over.

use std::fs;

use etagdb::{AsOf, CommitSeq, Error, FeedMode, FeedStart, Precondition, Store};

use crate::keeping::Fate;
use crate::mistakes::Mistake;
use crate::oracle::{Agreement, Seen, Version, agree};
use crate::pair::Pair;
use crate::reads::{invalid, is_dropped};
use crate::steps::{Act, Body, COLLECTIONS, CURSORS, Guard, IDS, Keep, Moment, Reader, Step, Write};

impl Pair<'_> {
    pub(crate) fn step_of_store(&mut self, step: &Step) -> Agreement {
        match *step {
            Step::Retain(place, keep) => self.retain(self.places[place], keep),
            Step::Ttl(place, ttl) => {
                let collection = self.places[place];
                let Some(docs) = self.handle(collection) else { return Ok(()) };
                let result = docs.set_ttl(ttl);
                if !self.oracle.bins[collection].live {
                    agree!(is_dropped(&result), "a dropped collection is set: {result:?}");
                    return Ok(());
                }
                result.map_err(|error| error.to_string())?;
                self.oracle.bins[collection].ttl = ttl;
                agree!(docs.ttl() == ttl, "{:?} was set instead of {ttl:?}", docs.ttl());
                Ok(())
            }
            Step::Clock(by_ms) => self.move_clock(by_ms),
            Step::Maintain => self.maintain(),
            Step::DropCollection(place) => self.drop_collection(place),
            Step::MakeCollection(place) => self.make_collection_at(place),
            Step::Reopen => {
                self.close();
                self.subject.open()?;
                self.opened()
            }
            Step::Crash => {
                self.forget();
                self.subject.crash()?;
                if self.oracle.errs(Mistake::CrashLosesTheLast) {
                    self.oracle.log.pop();
                }
                self.opened()
            }
            Step::ReadOnly => self.read_only(),
            Step::Checkpoint { restore } => self.checkpoint(restore),
            Step::Verify => self.verify(),
            _ => Ok(()),
        }
    }

    fn retain(&mut self, collection: usize, keep: Keep) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let result = docs.set_retention(keep.retention());
        if !self.oracle.bins[collection].live {
            agree!(is_dropped(&result), "a dropped collection is set: {result:?}");
            return Ok(());
        }
        result.map_err(|error| error.to_string())?;
        self.oracle.bins[collection].keep = keep;
        agree!(docs.retention() == keep.retention(), "{:?} was set instead of {keep:?}", docs.retention());
        Ok(())
    }

    fn move_clock(&mut self, by_ms: i64) -> Agreement {
        // A commit is not before a refused one, and whether that one had a place is not told.
        self.oracle.clock_ms = self.oracle.clock_ms.saturating_add_signed(by_ms).max(self.oracle.refused_ms);
        self.subject.clock.set(self.oracle.clock_ms);
        if by_ms < 0 {
            // Whatever the store was asked before may have made it remember the time, or not. Ask which.
            let (least, most) = (self.oracle.now_ms(), self.oracle.now_ms().max(self.oracle.seen_ms));
            let now_ms = self.subject.now_ms()?;
            agree!((least..=most).contains(&now_ms), "now it is {now_ms}, and must be from {least} to {most}");
            self.oracle.floor_ms = now_ms;
        }
        self.oracle.seen_ms = self.oracle.seen_ms.max(self.oracle.now_ms());
        Ok(())
    }

    pub(crate) fn maintain(&mut self) -> Agreement {
        let expired = self.oracle.expired();
        let needs = self.needs();
        let before = self.oracle.last;
        let done = self.subject.store().run_maintenance().map_err(|error| error.to_string())?;
        agree!(done.expired == expired.len() as u64, "{done:?}, and these have expired: {expired:?}");
        self.learn_expiries(&expired)?;
        self.check_last()?;

        let fates: Vec<Fate> = self
            .oracle
            .log
            .iter()
            .map(|version| match version.gone || !self.oracle.bins[version.collection].live {
                true => Fate::Either,
                false => self.oracle.fate(version, &needs),
            })
            .collect();
        let mut gone = Vec::new();
        for collection in self.oracle.live() {
            let docs = self.handle(collection).ok_or("a live collection has a handle")?;
            for (id, name) in IDS.iter().enumerate() {
                let list = docs.history(name).and_then(|list| list.map(|version| Ok(version?.seq.get())).collect());
                let list: Vec<u64> = list.map_err(|error: Error| error.to_string())?;
                for (index, version) in self.oracle.log.iter().enumerate() {
                    if (version.collection, version.id) != (collection, id) || version.gone {
                        continue;
                    }
                    match (list.contains(&version.seq), fates[index]) {
                        (true, Fate::Goes) => return Err(format!("{version:?} should be gone; needed at {needs:?}")),
                        (false, Fate::Stays) => return Err(format!("{version:?} was dropped; needed at {needs:?}")),
                        (true, _) => {}
                        (false, _) => gone.push(index),
                    }
                }
            }
        }
        let dropped = gone.len() as u64;
        agree!(done.dropped >= dropped, "{done:?}, and {dropped} versions are gone");
        for &index in &gone {
            self.oracle.log[index].gone = true;
        }
        let mut lowest = vec![0; self.oracle.bins.len()];
        for version in gone.iter().map(|&index| &self.oracle.log[index]) {
            let least = &mut lowest[version.collection];
            *least = self.oracle.horizon_after(version).max(*least);
        }
        self.compare_horizons(&lowest)?;
        for version in self.oracle.log.iter().filter(|version| version.seq > before && !version.gone) {
            self.compare_versions(version.collection, version.id)?;
        }
        self.compare_cursors()
    }

    /// Finds out in which order expiries were committed.
    fn learn_expiries(&mut self, expired: &[Version]) -> Agreement {
        let store = self.subject.store().clone();
        let last = store.last_commit().get();
        let offset = last.checked_sub(self.oracle.last + expired.len() as u64).ok_or("fewer commits than expiries")?;
        self.oracle.comes_late_by(if expired.is_empty() { 0 } else { offset })?;
        let before = self.oracle.last + self.oracle.offset;
        let mut found: Vec<(u64, &Version, bool)> = Vec::new();
        let mut dropped = Vec::new();
        for version in expired {
            let docs = self.handle(version.collection).ok_or("a live collection has a handle")?;
            let newest = docs.history(IDS[version.id]).map_err(|error| error.to_string())?.next();
            match newest.transpose().map_err(|error| error.to_string())?.filter(|newest| newest.seq.get() > before) {
                Some(newest) => found.push((newest.seq.get(), version, false)),
                // Committed and dropped at once: nobody will ever know which commit it was.
                None => dropped.push(version),
            }
        }
        let mut free: Vec<u64> =
            (before + 1..=last).filter(|seq| found.iter().all(|(other, ..)| other != seq)).collect();
        for version in dropped {
            found.push((free.pop().ok_or("more expiries than commits")?, version, true));
        }
        found.sort_unstable_by_key(|(seq, ..)| *seq);
        for (seq, version, is_guess) in found {
            agree!((before + 1..=last).contains(&seq), "an expiry at {seq}, not from {before} to {last}");
            self.oracle.commit_expiry(version, seq);
            // They come in batches, and how many at a time is nobody's business.
            let end = store.changes(FeedMode::Latest, CommitSeq::new(seq)).map_err(|error| error.to_string())?;
            let end = end.position().get();
            agree!((seq..=last).contains(&end), "the batch of {seq} ends at {end}, with {last} the last");
            if let Some(version) = self.oracle.log.last_mut() {
                version.end = end;
                version.or_from = is_guess.then_some(before + 1);
            }
        }
        if !expired.is_empty() {
            self.oracle.committed(last);
        }
        Ok(())
    }

    fn compare_horizons(&mut self, lowest: &[u64]) -> Agreement {
        for (collection, &lowest) in lowest.iter().enumerate() {
            let bin = &self.oracle.bins[collection];
            let Some(docs) = self.handles[collection].as_ref().filter(|_| bin.live) else { continue };
            let (horizon, least) = (docs.horizon().get(), bin.horizon.max(lowest));
            let age_ms = bin.keep.age_ms.unwrap_or(u64::MAX);
            // A state within the age can be read: the newest commit that is as old is not below the horizon.
            let is_due = |version: &&Version| {
                let other = &self.oracle.bins[version.collection];
                let is_kept_as_long = other.live && other.keep.age_ms == bin.keep.age_ms;
                is_kept_as_long && version.time_ms.saturating_add(age_ms) <= self.oracle.now_ms()
            };
            let most = match self.oracle.log.iter().any(|version| version.or_from.is_some()) {
                true => self.oracle.last,
                false => self.oracle.log.iter().rfind(is_due).map_or(0, |version| version.seq).max(bin.horizon),
            };
            let most = if lowest == 0 { bin.horizon } else { most };
            agree!((least..=most).contains(&horizon), "the horizon is {horizon} and must be from {least} to {most}");
            self.oracle.bins[collection].horizon = horizon;
        }
        let (said, expected) = (self.subject.store().horizon().get(), self.oracle.horizon(None));
        agree!(said == expected, "the store's horizon is {said} instead of {expected}");
        Ok(())
    }

    fn drop_collection(&mut self, place: usize) -> Agreement {
        let collection = self.places[place];
        let was_there = self.oracle.bins[collection].live;
        let dropped = self.subject.store().drop_collection(&Pair::name(place)).map_err(|error| error.to_string())?;
        agree!(dropped == was_there, "dropped {dropped}, and it was there: {was_there}");
        if !self.oracle.errs(Mistake::DropsNothing) {
            self.oracle.bins[collection].live = false;
        }
        Ok(())
    }

    /// Lets go of everything that keeps the store open.
    fn forget(&mut self) {
        self.snapshots.clear();
        self.transactions.clear();
        self.feeds.clear();
        self.handles.iter_mut().for_each(|handle| *handle = None);
    }

    fn close(&mut self) {
        self.forget();
        self.subject.close();
    }

    /// Looks whether the store is what it was before it was closed.
    fn opened(&mut self) -> Agreement {
        self.oracle.reopened();
        let mut names = Vec::new();
        for place in 0..COLLECTIONS {
            let collection = self.places[place];
            let found = self.subject.store().existing_collection(&Pair::name(place));
            let live = self.oracle.bins[collection].live;
            agree!(found.is_some() == live, "collection {place} is there: {}, and should be: {live}", found.is_some());
            if let Some(docs) = found {
                let bin = &self.oracle.bins[collection];
                let said = (docs.ttl(), docs.retention(), docs.horizon().get());
                let expected = (bin.ttl, bin.keep.retention(), bin.horizon);
                agree!(said == expected, "opened with {said:?} instead of {expected:?}");
                names.push(Pair::name(place));
                self.handles[collection] = Some(docs);
            }
        }
        let collections = self.subject.store().collections();
        agree!(collections == names, "collections {collections:?} instead of {names:?}");
        self.check_last()?;
        self.compare_cursors()?;
        self.compare_whole(self.subject.store())
    }

    /// Compares all documents and all their versions with those in a store: this one, or a copy of it.
    fn compare_whole(&self, store: &Store) -> Agreement {
        let view = self.oracle.view();
        for place in 0..COLLECTIONS {
            let collection = self.places[place];
            let Some(docs) = store.existing_collection(&Pair::name(place)) else {
                agree!(!self.oracle.bins[collection].live, "collection {place} is lost");
                continue;
            };
            for (id, name) in IDS.iter().enumerate() {
                let found = docs.get(name).map_err(|error| error.to_string())?;
                self.oracle.compare_seen(self.oracle.see(collection, id, &view), found.as_ref())?;
                let list = docs.history(name).map_err(|error| error.to_string())?;
                self.compare_list(list, collection, id, self.oracle.last)?;
            }
        }
        Ok(())
    }

    fn read_only(&mut self) -> Agreement {
        self.close();
        self.oracle.reopened();
        let options = self.subject.options().read_only(true);
        let store = options.open(self.subject.path()).map_err(|error| error.to_string())?;
        self.compare_whole(&store)?;
        let last = store.last_commit().get();
        agree!(last == self.oracle.last, "read-only, the last commit is {last}");
        for place in 0..COLLECTIONS {
            if let Some(docs) = store.existing_collection(&Pair::name(place)) {
                let written = docs.put("a", "x", Precondition::Any);
                agree!(matches!(written, Err(Error::ReadOnly { .. })), "written to a store for reading: {written:?}");
            }
        }
        drop(store);
        self.subject.open()?;
        self.opened()
    }

    /// A copy is the store as it was, and neither ever takes the other's etags.
    fn checkpoint(&mut self, restore: bool) -> Agreement {
        let checkpoint = self.subject.fresh_path();
        let last = self.subject.store().checkpoint(&checkpoint).map_err(|error| error.to_string())?;
        agree!(last.get() == self.oracle.last, "a checkpoint at {last} instead of {}", self.oracle.last);
        let mut path = checkpoint.clone();
        if restore {
            path = self.subject.fresh_path();
            let last = Store::restore(&checkpoint, &path).map_err(|error| error.to_string())?;
            agree!(last.get() == self.oracle.last, "restored {last} instead of {}", self.oracle.last);
        }
        {
            let copy = self.subject.options().open(&path).map_err(|error| error.to_string())?;
            // The clock may have been set back behind what this store remembers, and a copy remembers its commits only.
            if self.oracle.clock_ms >= self.oracle.floor_ms {
                self.compare_whole(&copy)?;
            }
            if let Some(place) = (0..COLLECTIONS).find(|&place| self.oracle.bins[self.places[place]].live) {
                self.compare_etags(&copy, place)?;
            }
        }
        let _ = fs::remove_dir_all(&checkpoint);
        let _ = fs::remove_dir_all(&path);
        Ok(())
    }

    fn compare_etags(&mut self, copy: &Store, place: usize) -> Agreement {
        let there = copy.existing_collection(&Pair::name(place)).ok_or("a collection is not in the copy")?;
        let elsewhere = there.put(IDS[2], "copy", Precondition::Any).map_err(|error| error.to_string())?;
        agree!(self.subject.etags.insert(elsewhere.etag), "a copy gives {} again", elsewhere.etag);
        let act = Act::Put(Body(b"here".to_vec()), Default::default());
        self.step(&Step::Single(Write { collection: place, id: 2, guard: Guard::Any, act }))?;
        let here = self.handle(self.places[place]).ok_or("a live collection has a handle")?;
        let mine = self.oracle.see_quietly(self.places[place], 2).and_then(|version| version.etag.get());
        let mine = mine.ok_or("just put")?;
        let taken = here.put(IDS[2], "x", elsewhere.etag);
        agree!(matches!(taken, Err(Error::Conflict(_))), "the etag of a copy was taken: {taken:?}");
        let taken = there.put(IDS[2], "x", mine);
        agree!(matches!(taken, Err(Error::Conflict(_))), "a copy took a later etag: {taken:?}");
        let known = [here.get_as_of(IDS[2], elsewhere.etag), there.get_as_of(IDS[2], mine)];
        agree!(known.iter().all(invalid), "a copy and its store know each other's etags: {known:?}");
        agree!(invalid(&copy.snapshot_at(AsOf::Etag(mine))), "a copy has a snapshot at a later etag");
        agree!(invalid(&copy.changes(FeedMode::All, FeedStart::AfterEtag(mine))), "a copy has a feed from it");
        self.check_last()
    }

    fn verify(&mut self) -> Agreement {
        let report = self.subject.store().verify(|_| {}).map_err(|error| error.to_string())?;
        agree!(report.is_sound(), "the store is not sound: {:?}", report.problems);
        let live = |version: &&Version| self.oracle.bins[version.collection].live;
        let versions = self.oracle.log.iter().filter(live).filter(|version| !version.gone).count() as u64;
        let said = (report.versions, report.collections, report.last_commit.get());
        let expected = (versions, self.oracle.live().count() as u64, self.oracle.last);
        agree!(said == expected, "verified {said:?} instead of {expected:?}: {report:?}");
        Ok(())
    }

    /// Looks at everything once more, and leaves the store empty.
    pub(crate) fn finish(mut self) -> Agreement {
        for n in 0..self.snapshots.len() {
            self.step(&Step::ReadSnapshot(n)).map_err(|what| format!("snapshot {n} at the end: {what}"))?;
        }
        for n in 0..self.feeds.len() {
            self.step(&Step::ReadFeed(n)).map_err(|what| format!("feed {n} at the end: {what}"))?;
        }
        self.transactions.clear();
        for mode in [FeedMode::All, FeedMode::Latest] {
            let horizon = self.oracle.horizon(None);
            let behind = self.oracle.log.iter().filter(|version| version.seq >= horizon).count();
            let start = if horizon == 0 { Moment::Beginning } else { Moment::Commit(behind, 0) };
            let reader = Reader { scope: None, mode, start, page_entries: 3, ids: None, previous_images: true };
            self.step(&Step::Drain(reader)).map_err(|what| format!("{mode:?} at the end: {what}"))?;
        }
        for collection in self.oracle.live().collect::<Vec<_>>() {
            self.compare_now(collection)?;
        }
        // With nobody left who needs the past, all of it can go.
        self.snapshots.clear();
        self.feeds.clear();
        for n in 0..CURSORS.len() {
            self.step(&Step::RemoveCursor(n))?;
        }
        for collection in self.oracle.live().collect::<Vec<_>>() {
            self.retain(collection, Keep { age_ms: Some(0), versions: 0 })?;
        }
        self.maintain().map_err(|what| format!("all of the past goes at the end: {what}"))?;
        for place in 0..COLLECTIONS {
            self.drop_collection(place)?;
        }
        Ok(())
    }

    fn compare_now(&mut self, collection: usize) -> Agreement {
        let docs = self.handle(collection).ok_or("a live collection has a handle")?;
        for (id, name) in IDS.iter().enumerate() {
            let found = docs.get(name).map_err(|error| error.to_string())?;
            let expected = self.oracle.see_now(collection, id);
            let seen = expected.as_ref().map_or(Seen::Absent, Seen::Present);
            self.oracle.compare_seen(seen, found.as_ref()).map_err(|what| format!("at the end: {what}"))?;
            self.compare_versions(collection, id).map_err(|what| format!("at the end: {what}"))?;
        }
        Ok(())
    }
}
