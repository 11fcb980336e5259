//! What a store must hold after what its writers were told. Owns the judgement of a store that a power cut, a fault or
//! damage has left; the writers are `power-child`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use etagdb::{ChangeKind, Collection, Error, FeedEntry, FeedMode, FeedStart, Options, Precondition, ScanRange, Store};

use crate::workload::{self, DOCS};

/// What a child has said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// All that was heard, to be kept with a failing state.
    lines: Vec<String>,
    /// By writer: the number of his last batch.
    pub(crate) batches: BTreeMap<u64, u64>,
    /// By writer and number: the last sequence of the batch, and the etag of his counter.
    given: HashMap<(u64, u64), (u64, String)>,
    etags: HashSet<String>,
    pub(crate) made: BTreeSet<String>,
    dropped: BTreeSet<String>,
    /// How many documents are in a collection that nobody changes any more, as long as it is there.
    filled: BTreeMap<String, u64>,
    /// By writer: the number of the batch of which he was told that it was not written.
    refused: BTreeMap<u64, u64>,
    /// Everything up to this commit was synced.
    synced: u64,
    /// Up to this commit somebody was shown what was written.
    seen: u64,
    /// Name and newest commit of each checkpoint, and of each store that was restored from one.
    pub(crate) checkpoints: Vec<(String, u64)>,
    pub(crate) failures: Vec<String>,
    /// How many batches of each writer may be there that nobody heard of, besides the one in flight.
    unheard: u64,
    /// Whether sequences of failed writes may be missing.
    may_skip: bool,
}

impl Told {
    /// # Panics
    ///
    /// When an etag is given twice, or the child says something else.
    pub(crate) fn hear(&mut self, said: &str) {
        let line = said.trim_end();
        self.lines.push(line.to_owned());
        if line.starts_with("failed") {
            self.failures.push(line.to_owned());
            return;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("the child said {line:?}"));
        match words[..] {
            ["batch", writer, batch, seq, etag] => {
                let (writer, batch) = (number(writer), number(batch));
                self.batches.insert(writer, batch);
                self.given.insert((writer, batch), (number(seq), etag.to_owned()));
                assert!(self.etags.insert(etag.to_owned()), "etag {etag} was given twice");
            }
            ["made", "extra", generation] => {
                self.dropped.remove(&format!("extra {generation}"));
                self.made.insert(format!("extra {generation}"));
            }
            // From now on it may be there or not.
            ["dropping", "extra", generation] => {
                self.made.remove(&format!("extra {generation}"));
            }
            ["dropped", "extra", generation] => {
                self.dropped.insert(format!("extra {generation}"));
            }
            ["filled", "extra", generation, count] => {
                self.filled.insert(format!("extra {generation}"), number(count));
            }
            ["refused", writer, batch] => drop(self.refused.insert(number(writer), number(batch))),
            ["again", writer, _] => drop(self.refused.remove(&number(writer))),
            ["saw", seq] => self.seen = self.seen.max(number(seq)),
            ["synced", seq] => self.synced = self.synced.max(number(seq)),
            ["checkpoint", life, checkpoint, seq] => {
                self.checkpoints.push((format!("{life} {checkpoint}"), number(seq)));
            }
            ["restored", life, checkpoint, seq] => {
                self.checkpoints.push((format!("{life} {checkpoint} restored"), number(seq)));
            }
            _ => panic!("the child said {line:?}"),
        }
    }

    /// The newest commit that was acknowledged.
    pub(crate) fn newest(&self) -> u64 {
        self.given.values().map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    /// What is known of a store after a death, to those who live in it next: a batch of each writer that was in flight
    /// may be there, and the writer goes on from it.
    pub(crate) fn after_a_death(mut self) -> Told {
        self.unheard += 1;
        self
    }

    /// What is known after writes failed: any of those that did may be there or not, and sequences may be passed over.
    pub(crate) fn after_failures(mut self) -> Told {
        self.unheard = u64::MAX;
        self.may_skip = true;
        self
    }

    /// What is known of a copy made at an unknown moment.
    pub(crate) fn unknown() -> Told {
        Told { unheard: u64::MAX, ..Told::default() }
    }

    /// All of it as text, for [`Told::from_text`].
    pub(crate) fn to_text(&self) -> String {
        format!("{} {}\n{}\n", self.unheard, self.may_skip, self.lines.join("\n"))
    }

    /// # Panics
    ///
    /// When it is not such a text.
    pub(crate) fn from_text(text: &str) -> Told {
        let mut lines = text.lines();
        let (unheard, may_skip) = lines.next().and_then(|line| line.split_once(' ')).expect("a first line");
        let mut told = Told {
            unheard: unheard.parse().expect("a number"),
            may_skip: may_skip.parse().expect("true or false"),
            ..Told::default()
        };
        lines.filter(|line| !line.is_empty()).for_each(|line| told.hear(line));
        told
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.given.len()
    }
}

/// How much is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Demand {
    /// All that was acknowledged, and of what was in flight nothing or all.
    Everything,
    /// As `Everything`, of a store that drops what was superseded: the feed does not tell the whole story any more.
    Newest,
    /// Some first commits: all up to the last [`Store::sync`], and no later one without those before it.
    Prefix,
}

/// What is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It cannot be opened; the engine's own words.
    Unopenable(String),
    /// Something that was acknowledged is not there.
    Lost(String),
    /// Something is there that nobody wrote, or half of it, or in the wrong order.
    Untrue(String),
}

/// Opens the store in `dir`, reads all of it in all ways, and compares it with what was told. `thorough`: also lets the
/// engine verify itself. Returns how many commits are there.
pub(crate) fn check(dir: &Path, seed: u64, told: &Told, demand: Demand, thorough: bool) -> Result<u64, Wrong> {
    // Nothing is dropped while this looks, however long ago it was written.
    let options = Options::default().background_maintenance(false);
    let store = options.write_buffer_bytes(1 << 20).cache_bytes(8 << 20).open(dir);
    let store = store.map_err(|error| Wrong::Unopenable(error.to_string()))?;
    check_open(&store, seed, told, demand, thorough)
}

/// As [`check`], of a store that is open. What it writes to it is deleted again.
pub(crate) fn check_open(store: &Store, seed: u64, told: &Told, demand: Demand, thorough: bool) -> Result<u64, Wrong> {
    let newest = store.last_commit().get();
    let read = |error: Error| Wrong::Untrue(format!("cannot be read: {error}"));
    for (name, &filled) in &told.filled {
        let Some(collection) = store.existing_collection(name) else { continue };
        let found = collection.size().map_err(read)?.documents;
        if found != filled {
            return Err(Wrong::Lost(format!("collection {name:?} is back with {found} of {filled} documents")));
        }
    }
    let Some(docs) = store.existing_collection(DOCS) else {
        let lost = demand != Demand::Prefix && !told.batches.is_empty() || told.synced > 0;
        return if lost { Err(Wrong::Lost("the collection is gone".into())) } else { Ok(newest) };
    };
    if demand == Demand::Newest {
        check_newest(&docs, seed, told)?;
        return check_rest(store, &docs, told, demand, thorough, newest);
    }
    let mut reader = Reader { seed, told, documents: BTreeMap::new(), last: BTreeMap::new(), next: None };
    let mut feed = docs.changes(FeedMode::All, FeedStart::Beginning).map_err(read)?.previous_images(false);
    loop {
        let page = feed.read().map_err(read)?;
        if page.is_empty() {
            break;
        }
        for batch in page.batches() {
            reader.batch(batch)?;
        }
    }
    let Reader { documents, last, .. } = reader;
    compare(&docs, &documents)?;
    for (writer, &acknowledged) in &told.batches {
        let found = last.get(writer).copied().unwrap_or(0);
        if demand == Demand::Everything && found < acknowledged {
            return Err(Wrong::Lost(format!("batch {acknowledged} of writer {writer}: the last one is {found}")));
        }
    }
    for (writer, &found) in &last {
        if let Some(refused) = told.refused.get(writer).filter(|&&refused| found >= refused) {
            return Err(Wrong::Untrue(format!(
                "batch {refused} of writer {writer}, which was refused for want of space"
            )));
        }
        let acknowledged = told.batches.get(writer).copied().unwrap_or(0);
        if found > acknowledged.saturating_add(told.unheard).saturating_add(1) {
            return Err(Wrong::Untrue(format!("batch {found} of writer {writer}, who was at {acknowledged}")));
        }
    }
    check_rest(store, &docs, told, demand, thorough, newest)
}

/// Compares the current documents with those that the batches leave, in the order of their commits.
fn check_newest(docs: &Collection, seed: u64, told: &Told) -> Result<(), Wrong> {
    let read = |error: Error| Wrong::Untrue(format!("cannot be read: {error}"));
    let mut batches: Vec<(u64, u64, u64)> = Vec::new();
    for ((writer, number), (_, etag)) in &told.given {
        // An etag ends in the sequence of its write.
        let seq = u64::from_str_radix(&etag.replace('-', "")[16..], 16).expect("an etag");
        batches.push((seq, *writer, *number));
    }
    // Of each writer one batch may be there of which he did not hear.
    for writer in 0..64 {
        let acknowledged = told.batches.get(&writer).copied().unwrap_or(0);
        let counter = docs.get(workload::counter(writer)).map_err(read)?;
        let found = counter.as_ref().and_then(|counter| workload::parse_count(&counter.body)).map_or(0, |(_, n)| n);
        if found < acknowledged {
            return Err(Wrong::Lost(format!("batch {acknowledged} of writer {writer}: the last one is {found}")));
        }
        if found > acknowledged + 1 {
            return Err(Wrong::Untrue(format!("batch {found} of writer {writer}, who was at {acknowledged}")));
        }
        if let Some(counter) = counter.filter(|_| found > acknowledged) {
            batches.push((counter.seq.get(), writer, found));
        }
    }
    batches.sort_unstable();
    let mut documents = BTreeMap::new();
    for (_, writer, number) in batches {
        for (id, body) in workload::batch(seed, writer, number) {
            match body {
                Some(body) => documents.insert(id, body),
                None => documents.remove(&id),
            };
        }
    }
    compare(docs, &documents)
}

/// What is asked of every store, whatever its feed tells.
fn check_rest(
    store: &Store,
    docs: &Collection,
    told: &Told,
    demand: Demand,
    thorough: bool,
    newest: u64,
) -> Result<u64, Wrong> {
    let read = |error: Error| Wrong::Untrue(format!("cannot be read: {error}"));
    if thorough {
        let report = store.verify(|_| {}).map_err(read)?;
        if !report.is_sound() {
            return Err(Wrong::Untrue(format!("verify: {:?}", report.problems)));
        }
    }
    if newest < told.synced {
        return Err(Wrong::Lost(format!("commit {} was synced, and {newest} is the last one", told.synced)));
    }
    if demand != Demand::Prefix && newest < told.seen {
        return Err(Wrong::Lost(format!("commit {} was shown, and {newest} is the last one", told.seen)));
    }
    if demand != Demand::Prefix {
        let there = store.collections();
        if let Some(name) = told.made.iter().find(|name| !there.contains(name)) {
            return Err(Wrong::Lost(format!("collection {name:?}")));
        }
        if let Some(name) = told.dropped.iter().find(|name| there.contains(name)) {
            return Err(Wrong::Lost(format!("the dropping of collection {name:?}")));
        }
    }
    // It takes writes, and gives them etags that were never given.
    let written = docs.put("probe", "x", Precondition::Absent).map_err(|error| Wrong::Untrue(error.to_string()))?;
    if told.etags.contains(&written.etag.to_string()) {
        return Err(Wrong::Untrue(format!("etag {} was given before", written.etag)));
    }
    Ok(newest)
}

/// Every way to read a current document shows the same.
fn compare(docs: &Collection, documents: &BTreeMap<String, Vec<u8>>) -> Result<(), Wrong> {
    let read = |error: Error| Wrong::Untrue(format!("cannot be read: {error}"));
    let mut scanned = 0;
    for entry in docs.scan(&ScanRange::all()).map_err(read)? {
        let (id, document) = entry.map_err(read)?;
        let id = String::from_utf8_lossy(&id).into_owned();
        if documents.get(&id).map(|body| &body[..]) != Some(&document.body[..]) {
            return Err(Wrong::Untrue(format!("the scan shows {id:?} with {} bytes", document.body.len())));
        }
        scanned += 1;
    }
    if scanned != documents.len() {
        return Err(Wrong::Untrue(format!("the scan shows {scanned} documents, and there are {}", documents.len())));
    }
    for (id, body) in documents {
        let found = docs.get(id).map_err(read)?;
        if found.as_ref().map(|document| &document.body[..]) != Some(&body[..]) {
            return Err(Wrong::Untrue(format!("{id:?} is {:?}", found.map(|document| document.body.len()))));
        }
    }
    Ok(())
}

/// Follows the feed and knows what it must say next.
struct Reader<'a> {
    seed: u64,
    told: &'a Told,
    documents: BTreeMap<String, Vec<u8>>,
    /// By writer: the number of his last batch.
    last: BTreeMap<u64, u64>,
    /// The sequence that must come next; `None` before the first.
    next: Option<u64>,
}

impl Reader<'_> {
    fn batch(&mut self, entries: &[FeedEntry]) -> Result<(), Wrong> {
        let untrue = |what: String| Err(Wrong::Untrue(what));
        let first = &entries[0];
        let body = |entry: &FeedEntry| entry.document.as_ref().map(|document| document.body.clone());
        let Some((writer, number)) = body(first).as_deref().and_then(workload::parse_count) else {
            return untrue(format!("commit {} begins no batch", first.seq));
        };
        let place = format!("batch {number} of writer {writer} at {}", first.seq);
        let before = self.last.insert(writer, number).unwrap_or(0);
        if number != before + 1 {
            return untrue(format!("{place} comes after batch {before}"));
        }
        let mut found = entries.iter();
        for (id, wanted) in workload::batch(self.seed, writer, number) {
            if wanted.is_none() && !self.documents.contains_key(&id) {
                continue;
            }
            let Some(entry) = found.next() else {
                return untrue(format!("{place} ends before {id:?}"));
            };
            let seq = entry.seq.get();
            if self.next.is_some_and(|next| seq < next || (seq > next && !self.told.may_skip)) {
                return untrue(format!("{place}: after a hole, commit {seq}"));
            }
            self.next = Some(seq + 1);
            let kind = match (&wanted, self.documents.contains_key(&id)) {
                (Some(_), false) => ChangeKind::Created,
                (Some(_), true) => ChangeKind::Replaced,
                (None, _) => ChangeKind::Deleted,
            };
            if entry.id != id.as_bytes() || body(entry).as_deref() != wanted.as_deref() || entry.kind != kind {
                return untrue(format!(
                    "{place}: {id:?} should be {kind:?}, and is {:?} of {:?}",
                    entry.kind, entry.id
                ));
            }
            match wanted {
                Some(body) => self.documents.insert(id, body),
                None => self.documents.remove(&id),
            };
        }
        if found.next().is_some() {
            return untrue(format!("{place} has more writes than were made"));
        }
        if let Some((seq, etag)) = self.told.given.get(&(writer, number))
            && (*seq != first.batch_end.get() || *etag != first.etag.to_string())
        {
            return untrue(format!("{place} has etag {}, and {etag} at {seq} was acknowledged", first.etag));
        }
        Ok(())
    }
}
