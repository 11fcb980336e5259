//! What threads were told, and whether it all fits one order: that of the change feed. Replaying the feed must explain
//! every acknowledged write, every conflict, and everything that anybody read.

use std::collections::BTreeMap;

use etagdb::{ChangeKind, CollectionTtl, Etag, FeedEntry, Precondition, Written};

use crate::oracle::{Agreement, agree};

/// A document: which collection, and its id.
pub(crate) type Key = (usize, String);

/// Something that somebody did, and what he was told.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Everything up to this commit was acknowledged before it began,
    pub(crate) after: u64,
    /// and everything that it can have seen was committed up to this one.
    pub(crate) until: u64,
    /// The store's time was not before this when it began,
    pub(crate) from_ms: u64,
    /// and not after this when it ended.
    pub(crate) to_ms: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A batch, an update, a transaction: at one place in the order, this was so and this was done.
    Happened(Vec<Deed>),
    /// A reader of commit `seq` found these documents, and of the collections no others.
    Saw { seq: u64, collections: Vec<usize>, found: BTreeMap<Key, Etag> },
    /// At some time in between, the document was this.
    Was(Key, Option<Etag>),
}

#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// What was read, or shown to a closure.
    Read(Key, Option<Etag>),
    Held(Key, Precondition),
    Wrote {
        key: Key,
        written: Written,
        body: Option<String>,
    },
    /// A delete of what is not there.
    FoundNothing(Key),
}

/// A version as the feed tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Current {
    etag: Etag,
    expires_ms: Option<u64>,
}

type State = BTreeMap<Key, Current>;

/// The feed, replayed.
#[derive(Debug)]
pub(crate) struct Replay {
    entries: BTreeMap<u64, FeedEntry>,
    /// By document, what it became and when.
    lives: BTreeMap<Key, Vec<(u64, Option<Current>)>>,
    ttls: Vec<CollectionTtl>,
}

fn key(entry: &FeedEntry, names: &[&str]) -> Agreement<Key> {
    let collection = names.iter().position(|name| *name == entry.collection()).ok_or("a collection of nobody's")?;
    Ok((collection, String::from_utf8_lossy(&entry.id).into_owned()))
}

impl Replay {
    /// Carries out what the feed tells, and looks whether each change follows from the ones before.
    pub(crate) fn new(entries: Vec<FeedEntry>, names: &[&str], ttls: Vec<CollectionTtl>) -> Agreement<Replay> {
        let mut replay = Replay { entries: BTreeMap::new(), lives: BTreeMap::new(), ttls };
        let (mut state, mut before): (State, Option<FeedEntry>) = (State::new(), None);
        for entry in entries {
            let key = key(&entry, names)?;
            if let Some(before) = &before {
                agree!(before.seq < entry.seq && before.time_ms <= entry.time_ms, "{entry:?} comes after {before:?}");
                let same_batch = entry.seq <= before.batch_end;
                agree!(!same_batch || before.batch_end == entry.batch_end, "{before:?} and {entry:?} end apart");
            }
            let expires_ms = entry.document.as_ref().and_then(|document| {
                let after = match (document.ttl, replay.ttls[key.0]) {
                    (etagdb::DocumentTtl::After(own), _) => Some(own),
                    (etagdb::DocumentTtl::Collection, CollectionTtl::After(default)) => Some(default),
                    _ => None,
                };
                after.map(|after| document.time_ms + after.as_millis() as u64)
            });
            let was = match &entry.document {
                Some(_) => state.insert(key.clone(), Current { etag: entry.etag, expires_ms }),
                None => state.remove(&key),
            };
            let previous = entry.previous.as_ref().map(|previous| previous.etag);
            agree!(previous == was.map(|was| was.etag), "{entry:?} comes upon {was:?}");
            let kind_fits = match entry.kind {
                ChangeKind::Created => was.is_none() && entry.document.is_some(),
                ChangeKind::Replaced => was.is_some() && entry.document.is_some(),
                ChangeKind::Deleted => was.is_some() && entry.document.is_none(),
                _ => was.and_then(|was| was.expires_ms).is_some_and(|expires_ms| expires_ms <= entry.time_ms),
            };
            agree!(kind_fits, "{entry:?} comes upon {was:?}");
            replay.lives.entry(key.clone()).or_default().push((entry.seq.get(), state.get(&key).copied()));
            before = Some(entry.clone());
            replay.entries.insert(entry.seq.get(), entry);
        }
        Ok(replay)
    }

    /// What a document was after commit `seq`.
    fn at(&self, key: &Key, seq: u64) -> Option<Current> {
        let life = self.lives.get(key)?;
        life[..life.partition_point(|(changed, _)| *changed <= seq)].last()?.1
    }

    /// What remains of the documents in the end, but for those that have expired by `now_ms`.
    pub(crate) fn end(&self, now_ms: u64) -> BTreeMap<Key, Etag> {
        let last = |(key, life): (&Key, &Vec<(u64, Option<Current>)>)| Some((key.clone(), life.last()?.1?));
        let alive = |(_, current): &(Key, Current)| current.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms);
        self.lives.iter().filter_map(last).filter(alive).map(|(key, current)| (key, current.etag)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Expiries among the commits.
    pub(crate) fn expiries(&self) -> usize {
        self.entries.values().filter(|entry| entry.kind == ChangeKind::Expired).count()
    }

    /// Looks whether all events fit, and whether all commits are somebody's.
    pub(crate) fn explains(&self, events: &[Event]) -> Agreement {
        let mut acknowledged = 0;
        for event in events {
            let explained = match &event.what {
                What::Happened(deeds) => {
                    let writes = deeds.iter().filter(|deed| matches!(deed, Deed::Wrote { .. })).count();
                    acknowledged += writes;
                    self.happened(event, deeds)
                }
                What::Saw { seq, collections, found } => self.saw(event, *seq, collections, found),
                What::Was(key, etag) => self.was(event, key, *etag),
            };
            explained.map_err(|what| format!("{what}, in {event:?}"))?;
        }
        let own = self.len() - self.expiries();
        agree!(own == acknowledged, "{own} commits were made, and {acknowledged} acknowledged");
        Ok(())
    }

    fn happened(&self, event: &Event, deeds: &[Deed]) -> Agreement {
        let seqs = deeds.iter().filter_map(|deed| match deed {
            Deed::Wrote { written, .. } => Some(written.seq.get()),
            _ => None,
        });
        let first = seqs.min().ok_or("it has no place in the order")?;
        agree!(first > event.after, "it comes before what was acknowledged when it began");
        let batch_end = self.entries.get(&first).ok_or("it is not in the feed")?.batch_end;
        // Before the whole batch, an expiry that it begins with included.
        let from = self.entries.range(..first).rev().take_while(|(_, entry)| entry.batch_end == batch_end).last();
        let before = from.map_or(first, |(seq, _)| *seq) - 1;
        let mut own: BTreeMap<&Key, Option<Etag>> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Read(key, seen) => {
                    let stored = || self.may_be(self.at(key, before), *seen, event);
                    let agrees = own.get(key).map_or_else(stored, |own| own == seen);
                    agree!(agrees, "{deed:?}, and it was {:?}", self.at(key, before));
                }
                Deed::FoundNothing(key) => {
                    let stored = || self.may_be(self.at(key, before), None, event);
                    agree!(own.get(key).map_or_else(stored, Option::is_none), "{deed:?}");
                }
                Deed::Held(key, precondition) => {
                    let current = self.at(key, before);
                    let held = |seen: Option<Etag>| precondition.holds(seen) && self.may_be(current, seen, event);
                    let stored = || held(None) || held(current.map(|current| current.etag));
                    let own = own.get(key).map(|own| precondition.holds(own.map(|_| Etag::NEVER)));
                    agree!(own.unwrap_or_else(stored), "{deed:?}, and it was {current:?}");
                }
                Deed::Wrote { key, written, body } => {
                    let entry = self.entries.get(&written.seq.get()).ok_or("a write is not in the feed")?;
                    let told = entry.document.as_ref().map(|document| String::from_utf8_lossy(&document.body));
                    let agrees = entry.etag == written.etag
                        && entry.batch_end == batch_end
                        && entry.time_ms == written.time_ms
                        && entry.id == key.1.as_bytes()
                        && told.as_deref() == body.as_deref()
                        && (entry.kind == ChangeKind::Created) == written.replaced.is_none()
                        && entry.previous.as_ref().map(|previous| previous.etag) == written.replaced;
                    agree!(agrees, "{deed:?}, and the feed tells {entry:?}");
                    own.insert(key, body.as_ref().map(|_| written.etag));
                }
            }
        }
        Ok(())
    }

    /// Whether somebody can have seen `seen` of a document that was `current`.
    fn may_be(&self, current: Option<Current>, seen: Option<Etag>, event: &Event) -> bool {
        match (current, seen) {
            (None, None) => true,
            (Some(current), Some(seen)) => {
                current.etag == seen && current.expires_ms.is_none_or(|expires_ms| expires_ms > event.from_ms)
            }
            (Some(current), None) => current.expires_ms.is_some_and(|expires_ms| expires_ms <= event.to_ms),
            (None, Some(_)) => false,
        }
    }

    /// There must be one moment at which everything that was seen was alive, and everything else was not.
    fn saw(&self, event: &Event, seq: u64, collections: &[usize], found: &BTreeMap<Key, Etag>) -> Agreement {
        agree!(seq >= event.after || event.from_ms == 0, "it reads at {seq}, before what was acknowledged");
        let (mut from_ms, mut to_ms) = (event.from_ms, event.to_ms);
        // Places come after all of them.
        let keys = self.lives.keys().filter(|key| collections.contains(&key.0) && key.1.as_str() < "p");
        for key in keys {
            match (self.at(key, seq), found.get(key)) {
                (None, None) => {}
                (Some(current), Some(etag)) if current.etag == *etag => {
                    to_ms = to_ms.min(current.expires_ms.map_or(u64::MAX, |expires_ms| expires_ms - 1));
                }
                (Some(Current { expires_ms: Some(expires_ms), .. }), None) => from_ms = from_ms.max(expires_ms),
                (current, etag) => return Err(format!("{key:?} was seen as {etag:?}, and was {current:?}")),
            }
        }
        agree!(from_ms <= to_ms, "what it saw was never there at one time: from {from_ms} to {to_ms}");
        let unknown = found.keys().find(|key| !self.lives.contains_key(*key));
        agree!(unknown.is_none(), "it saw {unknown:?}, which nobody wrote");
        Ok(())
    }

    fn was(&self, event: &Event, key: &Key, seen: Option<Etag>) -> Agreement {
        let at_first = self.at(key, event.after);
        let life = self.lives.get(key).map_or(&[][..], Vec::as_slice);
        let later = life.iter().filter(|(seq, _)| event.after < *seq && *seq <= event.until).map(|(_, now)| *now);
        let agrees = std::iter::once(at_first).chain(later).any(|current| self.may_be(current, seen, event));
        agree!(agrees, "{key:?} was never {seen:?} between {} and {}", event.after, event.until);
        Ok(())
    }
}
