//! The change feed and its registered cursors, compared.

use etagdb::{AsOf, ChangeFeed, ChangeKind, CommitSeq, Error, FeedEntry, FeedMode, FeedPage, FeedStart};

use crate::mistakes::Mistake;
use crate::oracle::{Agreement, Oracle, Version, agree};
use crate::pair::{MOST, Pair};
use crate::reads::{Place, invalid};
use crate::steps::{CURSORS, IDS, Moment, Reader, Step};

impl Oracle {
    /// What a feed tells after a position, of the collections that exist.
    fn told_after(&self, reader: &Reader, scope: Option<usize>, position: u64) -> Vec<&Version> {
        let concerns = |version: &&Version| {
            version.seq > position
                && self.bins[version.collection].live
                && scope.is_none_or(|scope| version.collection == scope)
                && reader.ids.is_none_or(|ids| ids.contains(version.id))
        };
        let view = self.view();
        let is_current = |version: &&Version| {
            let seen = self.see(version.collection, version.id, &view).if_known();
            seen.is_some_and(|seen| seen.seq == version.seq) || self.errs(Mistake::LatestTellsAll)
        };
        let told = |version: &&Version| match reader.mode {
            FeedMode::All => !self.errs(Mistake::FeedForgetsDeletes) || version.is_document(),
            FeedMode::Latest => is_current(version),
        };
        self.log.iter().filter(concerns).filter(told).collect()
    }

    fn compare_entry(&self, reader: &Reader, version: &Version, entry: &FeedEntry) -> Agreement {
        version.is_called(entry.etag)?;
        let said = (entry.seq.get(), entry.batch_end.get(), entry.time_ms, entry.kind, &entry.id[..]);
        let expected = (version.seq, version.end, version.time_ms, version.kind, IDS[version.id]);
        agree!(said == expected, "the feed tells {entry:?} instead of {version:?}");
        match &entry.document {
            Some(document) if version.is_document() => self.compare_document(version, document)?,
            None if !version.is_document() => {}
            other => return Err(format!("the feed tells {other:?} of {version:?}")),
        }
        let has_previous = reader.mode == FeedMode::All && version.kind != ChangeKind::Created;
        let previous = self.version(version.previous).filter(|_| has_previous);
        match (&entry.previous, previous) {
            (None, None) => Ok(()),
            (Some(said), Some(previous)) => {
                previous.is_called(said.etag)?;
                match &said.document {
                    Some(document) if reader.previous_images && !previous.gone => {
                        self.compare_document(previous, document)
                    }
                    None if !reader.previous_images || previous.gone => Ok(()),
                    other => Err(format!("the feed shows {other:?} of {previous:?} before {version:?}")),
                }
            }
            (said, expected) => Err(format!("the feed tells {said:?} before {version:?} instead of {expected:?}")),
        }
    }
}

impl Pair<'_> {
    pub(crate) fn step_of_feed(&mut self, step: &Step) -> Agreement {
        match *step {
            Step::Drain(reader) => match self.begin_feed(reader)? {
                Some(feed) => self.drain(feed, &reader),
                None => Ok(()),
            },
            Step::OpenFeed(reader) if self.feeds.len() < MOST => {
                if let Some(feed) = self.begin_feed(reader)? {
                    // It stays with the collection that it was opened for.
                    let scope = reader.scope.map(|place| self.places[place]);
                    self.feeds.push((feed, Reader { scope, ..reader }));
                }
                Ok(())
            }
            Step::ReadFeed(n) if !self.feeds.is_empty() => {
                let n = n % self.feeds.len();
                let (mut feed, reader) = self.feeds.swap_remove(n);
                let result = self.read_page(&mut feed, &reader, reader.scope);
                self.feeds.push((feed, reader));
                result.map(drop)
            }
            Step::CloseFeed(n) if !self.feeds.is_empty() => {
                self.feeds.remove(n % self.feeds.len());
                Ok(())
            }
            Step::RegisterCursor(n, moment) => self.register(n, moment),
            Step::AdvanceCursor(n, moment) => self.advance(n, moment),
            Step::RemoveCursor(n) => {
                let removed = self.subject.store().remove_cursor(CURSORS[n]).map_err(|error| error.to_string())?;
                agree!(removed == self.cursors[n].take().is_some(), "cursor {n} was there or not: {removed}");
                self.compare_cursors()
            }
            _ => Ok(()),
        }
    }

    fn begin_feed(&mut self, reader: Reader) -> Agreement<Option<ChangeFeed>> {
        let scope = reader.scope.map(|place| self.places[place]);
        let Some((start, place)) = self.start(reader.start) else { return Ok(None) };
        let result = match scope.map(|collection| self.handle(collection)) {
            Some(None) => return Ok(None),
            Some(Some(docs)) => docs.changes(reader.mode, start),
            None => self.subject.store().changes(reader.mode, start),
        };
        let is_dropped = scope.is_some_and(|collection| !self.oracle.bins[collection].live);
        let Place::Within { low, high, .. } = place else {
            agree!(invalid(&result), "{start:?} is no start, and the store says {result:?}");
            return Ok(None);
        };
        let horizon = self.oracle.horizon(scope);
        match result {
            Ok(feed) => {
                let at = feed.position().get();
                agree!(!is_dropped, "a feed of a dropped collection begins at {at}");
                agree!((low..=high).contains(&at), "{start:?} is at {at}, not from {low} to {high}");
                let is_whole = reader.mode == FeedMode::Latest || at + 1 >= horizon;
                agree!(is_whole, "a feed begins at {at} below the horizon {horizon}");
                let mut feed = feed.page_entries(reader.page_entries).previous_images(reader.previous_images);
                if let Some(ids) = reader.ids {
                    feed = feed.ids(ids.scan_range());
                }
                Ok(Some(feed))
            }
            Err(Error::NotRetained { .. }) if reader.mode == FeedMode::All && low + 1 < horizon => Ok(None),
            Err(Error::Invalid(message)) if is_dropped && message.contains("was dropped") => Ok(None),
            Err(error) => Err(format!("a feed from {start:?}, {low} to {high}, horizon {horizon}: {error:?}")),
        }
    }

    /// A moment as the start of a feed.
    fn start(&self, moment: Moment) -> Option<(FeedStart, Place)> {
        if let Moment::Beginning = moment {
            return Some((FeedStart::Beginning, Place::Within { low: 0, high: 0, time_ms: None }));
        }
        if let Moment::Now = moment {
            let last = self.oracle.last;
            return Some((FeedStart::Now, Place::Within { low: last, high: last, time_ms: None }));
        }
        let (as_of, place) = self.oracle.resolve(moment)?;
        Some(match as_of {
            AsOf::Commit(seq) => (seq.into(), place),
            AsOf::Etag(etag) => (etag.into(), place),
            AsOf::Time(time) => {
                let time_ms = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis() as u64;
                let (low, high) = self.oracle.last_that(|version| version.time_ms < time_ms);
                let none_since = self.oracle.last_ms < time_ms;
                let place = match time_ms {
                    // Whether a time is to come is asked of the clock itself, which may have been set back.
                    _ if none_since && time_ms > self.oracle.now_ms() => Place::Refused,
                    _ if none_since && time_ms > self.oracle.clock_ms => return None,
                    _ => Place::Within { low, high, time_ms: None },
                };
                (time.into(), place)
            }
        })
    }

    fn drain(&mut self, mut feed: ChangeFeed, reader: &Reader) -> Agreement {
        let scope = reader.scope.map(|place| self.places[place]);
        while self.read_page(&mut feed, reader, scope)? {}
        Ok(())
    }

    /// Reads the next page, and says whether there was something in it.
    fn read_page(&mut self, feed: &mut ChangeFeed, reader: &Reader, scope: Option<usize>) -> Agreement<bool> {
        let before = feed.position().get();
        let horizon = self.oracle.horizon(scope);
        let page = match feed.read() {
            Ok(page) => page,
            Err(error) => {
                let is_dropped = scope.is_some_and(|collection| !self.oracle.bins[collection].live);
                let agrees = match &error {
                    Error::NotRetained { asked, oldest } => {
                        let said = (asked.get(), oldest.get()) == (before, horizon.saturating_sub(1));
                        reader.mode == FeedMode::All && before + 1 < horizon && said
                    }
                    Error::Invalid(message) => is_dropped && message.contains("was dropped"),
                    _ => false,
                };
                agree!(agrees, "a feed at {before}, horizon {horizon}, dropped: {is_dropped}: {error:?}");
                agree!(feed.position().get() == before, "a feed moved by an error from {before}");
                return Ok(false);
            }
        };
        let is_whole = reader.mode == FeedMode::Latest || before + 1 >= horizon;
        agree!(is_whole, "a feed at {before} below the horizon {horizon} tells {page:?}");
        self.compare_page(&page, reader, scope, before)?;
        agree!(feed.position() == page.position, "a feed is at {} after {page:?}", feed.position());
        Ok(!page.is_empty())
    }

    fn compare_page(&self, page: &FeedPage, reader: &Reader, scope: Option<usize>, before: u64) -> Agreement {
        let expected = self.oracle.told_after(reader, scope, before);
        agree!(page.entries.len() <= expected.len(), "a page from {before} of {page:?} instead of {expected:?}");
        for (version, entry) in expected.iter().zip(&page.entries) {
            self.oracle.compare_entry(reader, version, entry)?;
            let name = self.handles[version.collection].as_ref().map(etagdb::Collection::name);
            agree!(name == Some(entry.collection()), "{entry:?} is of another collection than {name:?}");
        }
        let (position, last) = (page.position.get(), self.oracle.last);
        agree!(before <= position && position <= last, "a page ends at {position}, from {before} and before {last}");
        // What is left for the next page is all after this one's end, so batches are whole and nothing is passed over.
        let left = expected.get(page.entries.len());
        agree!(left.is_none_or(|left| left.seq > position), "a page ends at {position} and leaves {left:?}");
        let told = page.entries.last();
        agree!(told.is_none_or(|told| told.batch_end <= page.position), "a page ends at {position} within {told:?}");
        agree!(!page.is_empty() || left.is_none(), "an empty page from {before} instead of {expected:?}");
        let batches = page.batches().count();
        agree!(page.entries.len() <= reader.page_entries || batches == 1, "{batches} batches in too large a page");
        let etag = self.oracle.version(position).and_then(|version| version.etag.get());
        agree!(etag.is_none() || etag == page.position_etag, "{:?} at {position}: {etag:?}", page.position_etag);
        Ok(())
    }

    fn register(&mut self, n: usize, moment: Moment) -> Agreement {
        let Some((AsOf::Commit(seq), place)) = self.oracle.resolve(moment) else { return Ok(()) };
        let result = self.subject.store().register_cursor(CURSORS[n], seq);
        let horizon = self.oracle.horizon(None);
        match (result, place, self.cursors[n]) {
            (Ok(cursor), _, Some(at)) => {
                agree!(cursor.position.get() == at, "cursor {n} is at {} instead of {at}", cursor.position);
            }
            (Ok(cursor), Place::Within { low, high, .. }, None) => {
                let at = cursor.position.get();
                agree!((low..=high).contains(&at), "cursor {n} begins at {at}, not from {low} to {high}");
                agree!(at + 1 >= horizon, "cursor {n} begins at {at} below the horizon {horizon}");
                self.cursors[n] = Some(at);
            }
            (Err(Error::Invalid(_)), Place::Refused, None) => {}
            (Err(Error::NotRetained { .. }), Place::Within { low, .. }, None) if low + 1 < horizon => {}
            (result, _, at) => return Err(format!("cursor {n} at {seq} (now {at:?}, horizon {horizon}): {result:?}")),
        }
        self.compare_cursors()
    }

    fn advance(&mut self, n: usize, moment: Moment) -> Agreement {
        let Some((AsOf::Commit(seq), place)) = self.oracle.resolve(moment) else { return Ok(()) };
        let result = self.subject.store().advance_cursor(CURSORS[n], seq);
        let now = self.subject.store().cursor(CURSORS[n]).map(|cursor| cursor.position.get());
        match (result, place, self.cursors[n]) {
            (Ok(()), Place::Within { low, high, .. }, Some(at)) => {
                let now = now.unwrap_or(0);
                agree!(at <= now && (low..=high).contains(&now), "cursor {n} went from {at} to {now} for {seq}");
                self.cursors[n] = Some(now);
            }
            (Err(Error::Invalid(_)), Place::Refused, _) | (Err(Error::Invalid(_)), _, None) => {}
            (Err(Error::Invalid(_)), Place::Within { low, .. }, Some(at)) if low < at => {}
            (result, _, at) => return Err(format!("cursor {n} from {at:?} to {seq}: {result:?}")),
        }
        self.compare_cursors()
    }

    pub(crate) fn compare_cursors(&self) -> Agreement {
        let store = self.subject.store();
        let said: Vec<_> = store.cursors().into_iter().map(|cursor| (cursor.name, cursor.position.get())).collect();
        let expected: Vec<_> = CURSORS.iter().zip(self.cursors).filter_map(|(name, at)| Some((*name, at?))).collect();
        agree!(
            said.iter().map(|(name, at)| (name.as_str(), *at)).eq(expected.iter().copied()),
            "cursors {said:?} instead of {expected:?}"
        );
        let needs = self.needs();
        let oldest = needs.at.iter().chain(&needs.from).min().copied().unwrap_or(self.oracle.last);
        agree!(
            store.watermark() == CommitSeq::new(oldest),
            "the watermark is {} instead of {oldest}",
            store.watermark()
        );
        Ok(())
    }
}
