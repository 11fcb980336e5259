//! A history: what clients asked and were told, put together from their lines, and beside it what is in the store at the
//! end. Owns no judgement; `order`, `search` and `elle` judge.

use std::collections::HashMap;
use std::path::Path;

use etagdb::{Document, FeedEntry, FeedMode, FeedStart, Options, ScanRange, Store};

use super::said::{Answer, Intent, Said, Seen, Version, values};

/// One question and its answer. Moments are places in the one order of all lines.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) asked: usize,
    /// `usize::MAX` when there was no answer, or none that says what happened.
    pub(crate) answered: usize,
    pub(crate) writes: Vec<Intent>,
    pub(crate) answer: Answer,
}

/// A commit that is in the store at the end.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) seq: u64,
    /// The last sequence of its batch.
    pub(crate) end: u64,
    pub(crate) id: String,
    pub(crate) etag: String,
    /// `None` for a deletion.
    pub(crate) body: Option<Vec<u64>>,
    pub(crate) time_ms: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) ops: Vec<Op>,
    /// In commit order.
    pub(crate) commits: Vec<Commit>,
    /// All lines, as they were said.
    pub(crate) lines: Vec<String>,
    moment: usize,
    open: HashMap<u64, usize>,
}

impl History {
    /// Takes the next line.
    ///
    /// # Panics
    ///
    /// When it cannot be what a client says next.
    pub(crate) fn hear(&mut self, said: Said) {
        self.moment += 1;
        self.lines.push(said.line());
        match said {
            Said::Asks { client } => {
                let unanswered = Answer::Unknown;
                let op = Op { asked: self.moment, answered: usize::MAX, writes: Vec::new(), answer: unanswered };
                let before = self.open.insert(client, self.ops.len());
                assert!(before.is_none(), "client {client} asks twice at once");
                self.ops.push(op);
            }
            Said::Intends { client, writes } => self.ops[self.open[&client]].writes = writes,
            Said::Told { client, answer } => {
                let op = &mut self.ops[self.open.remove(&client).expect("somebody asked")];
                // What is unknown may yet come about, when the store is opened again.
                op.answered = if answer == Answer::Unknown { usize::MAX } else { self.moment };
                op.answer = answer;
            }
        }
    }

    /// Takes a line as it was printed.
    pub(crate) fn hear_line(&mut self, line: &str) {
        let said = serde_json::from_str(line).unwrap_or_else(|error| panic!("a client said {line:?}: {error}"));
        self.hear(said);
    }

    /// All clients are dead: those who wait will get no answer, and others may have their numbers.
    pub(crate) fn everybody_died(&mut self) {
        self.open.clear();
    }

    /// Reads all that was ever committed from the store that `history-child` left, and what a reader who comes last
    /// sees of it.
    pub(crate) fn conclude(&mut self, store: &Path) -> Result<(), String> {
        let options = Options::default().background_maintenance(false);
        let store = options.open(store).map_err(|error| format!("cannot be opened: {error}"))?;
        self.take_commits(&store, "docs", |entry| {
            let id = String::from_utf8_lossy(&entry.id).into_owned();
            (id, entry.document.as_ref().map(|document| values(&document.body)))
        })?;
        if let Some(docs) = store.existing_collection("docs") {
            let seen = docs.scan(&ScanRange::all()).and_then(|scan| {
                scan.map(|entry| entry.map(|(id, document)| seen(&String::from_utf8_lossy(&id), &document))).collect()
            });
            self.last_look(seen.map_err(|error| format!("the last scan failed: {error}"))?);
        }
        let report = store.verify(|_| {}).map_err(|error| format!("verify: {error}"))?;
        if report.is_sound() { Ok(()) } else { Err(format!("verify: {:?}", report.problems)) }
    }

    /// The same of the store that the server left, where documents are items of the only container.
    pub(crate) fn conclude_items(&mut self, store: &Path) -> Result<(), String> {
        let options = Options::default().background_maintenance(false);
        let store = options.open(store).map_err(|error| format!("cannot be opened: {error}"))?;
        let item = |body: &[u8]| -> Option<(String, Vec<u64>)> {
            let item: serde_json::Value = serde_json::from_slice(body).ok()?;
            let values = item["values"].as_array()?.iter().map(serde_json::Value::as_u64);
            Some((item["id"].as_str()?.to_owned(), values.collect::<Option<_>>()?))
        };
        // The store has collections of the server's own, too.
        let holds_items = |name: &String| {
            let docs = store.existing_collection(name).expect("listed");
            let mut scan = docs.scan(&ScanRange::all()).expect("scan");
            scan.any(|entry| item(&entry.expect("entry").1.body).is_some())
        };
        let container = store.collections().into_iter().find(holds_items).ok_or("no container")?;
        self.take_commits(&store, &container, |entry| match &entry.document {
            Some(document) => item(&document.body).map(|(id, body)| (id, Some(body))).expect("an item"),
            None => {
                let deleted = entry.previous.as_ref().and_then(|previous| previous.document.as_ref());
                (item(&deleted.expect("not dropped yet").body).expect("an item").0, None)
            }
        })?;
        let report = store.verify(|_| {}).map_err(|error| format!("verify: {error}"))?;
        if report.is_sound() { Ok(()) } else { Err(format!("verify: {:?}", report.problems)) }
    }

    /// Takes over all commits of a collection.
    pub(crate) fn take_commits(
        &mut self,
        store: &Store,
        collection: &str,
        read: impl Fn(&FeedEntry) -> (String, Option<Vec<u64>>),
    ) -> Result<(), String> {
        let failed = |error: etagdb::Error| format!("the last reading failed: {error}");
        let Some(docs) = store.existing_collection(collection) else { return Ok(()) };
        let mut feed = docs.changes(FeedMode::All, FeedStart::Beginning).map_err(failed)?;
        loop {
            let page = feed.read().map_err(failed)?;
            if page.is_empty() {
                break;
            }
            for entry in &page.entries {
                let (id, body) = read(entry);
                self.commits.push(Commit {
                    seq: entry.seq.get(),
                    end: entry.batch_end.get(),
                    id,
                    etag: entry.etag.to_string(),
                    body,
                    time_ms: entry.time_ms,
                });
            }
        }
        Ok(())
    }

    /// Somebody who comes after all others sees these documents and no others.
    pub(crate) fn last_look(&mut self, seen: Vec<Seen>) {
        self.everybody_died();
        self.hear(Said::Asks { client: u64::MAX });
        self.hear(Said::Told { client: u64::MAX, answer: Answer::Saw { seen, all_of: Some(String::new()) } });
    }

    /// How many questions were asked, and how many of them got no sure answer.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.ops.len(), self.ops.iter().filter(|op| op.answer == Answer::Unknown).count())
    }
}

fn seen(id: &str, document: &Document) -> Seen {
    let version = Version { etag: document.etag.to_string(), body: Some(values(&document.body)) };
    Seen { id: id.to_owned(), version: Some(version) }
}
