//! The store beside the model of it: carries out steps on both, and compares.

use etagdb::{
    Abort, Bincode, Change, ChangeFeed, Collection, CommitHandle, Document, Error, Etag, Precondition, PutOptions,
    Snapshot, WriteBatch, Written,
};

use crate::keeping::Needs;
use crate::mistakes::Mistake;
use crate::oracle::{Agreement, Deed, Intent, Judged, Oracle, Refusal, Version, View, agree};
use crate::steps::{Act, Body, COLLECTIONS, Guard, IDS, Step, Updating, Write};
use crate::subject::Subject;
use crate::transactions::Open;

pub(crate) struct Pair<'s> {
    pub(crate) subject: &'s mut Subject,
    pub(crate) oracle: Oracle,
    /// By number of the collection in the model; those of dropped ones are forgotten when the store is closed.
    pub(crate) handles: Vec<Option<Collection>>,
    /// By place, the collection that was made there last.
    pub(crate) places: [usize; COLLECTIONS],
    pub(crate) snapshots: Vec<Held>,
    pub(crate) transactions: Vec<Open>,
    pub(crate) feeds: Vec<(ChangeFeed, crate::steps::Reader)>,
    /// By cursor, where it stands.
    pub(crate) cursors: [Option<u64>; 2],
    /// Whether the store has commits that the model is still to be told of.
    ahead: bool,
}

/// A snapshot and what it must show.
pub(crate) struct Held {
    pub(crate) snapshot: Snapshot,
    pub(crate) view: View,
    /// By collection, whether it was whole when the snapshot was taken.
    pub(crate) whole: Vec<bool>,
}

/// What an update closure was shown.
type Shown = Option<Option<Document>>;

/// At most so many snapshots, transactions and feeds at a time.
pub(crate) const MOST: usize = 4;

impl<'s> Pair<'s> {
    pub(crate) fn new(subject: &'s mut Subject, mistake: Option<Mistake>) -> Agreement<Pair<'s>> {
        // Everything before the history is earlier than everything in it, also what the store only told somebody of when
        // the clock was ahead.
        let now_ms = subject.now_ms()?;
        let clock_ms = now_ms + 100;
        subject.clock.set(clock_ms);
        let base = subject.store().last_commit().get();
        let oracle = Oracle::new(base, subject.last_ms, clock_ms, mistake);
        let mut pair = Pair {
            subject,
            oracle,
            handles: Vec::new(),
            places: [0; COLLECTIONS],
            snapshots: Vec::new(),
            transactions: Vec::new(),
            feeds: Vec::new(),
            cursors: [None; 2],
            ahead: false,
        };
        for place in 0..COLLECTIONS {
            pair.make_collection(place)?;
        }
        Ok(pair)
    }

    pub(crate) fn name(place: usize) -> String {
        format!("collection {place}")
    }

    /// The place of a collection.
    pub(crate) fn place_of(&self, collection: usize) -> String {
        // Made in turn at first, and later wherever there was none.
        self.handles[collection].as_ref().map_or_else(String::new, |handle| handle.name().to_owned())
    }

    fn make_collection(&mut self, place: usize) -> Agreement {
        let handle = self.subject.store().collection(&Pair::name(place)).map_err(|error| error.to_string())?;
        self.places[place] = self.oracle.make_bin();
        self.handles.push(Some(handle));
        Ok(())
    }

    pub(crate) fn handle(&self, collection: usize) -> Option<Collection> {
        self.handles[collection].clone()
    }

    pub(crate) fn step(&mut self, step: &Step) -> Agreement {
        match step {
            Step::Single(write) => self.single(write),
            Step::Batch(writes) => self.batch(writes),
            Step::Pipeline(batches) => self.pipeline(batches),
            Step::Bulk { collection, documents, guard } => self.bulk(*collection, documents, *guard),
            Step::Typed { collection, id, value, bincode } => self.typed(*collection, *id, *value, *bincode),
            Step::Transact { .. }
            | Step::Begin
            | Step::TxnGet { .. }
            | Step::TxnScan { .. }
            | Step::TxnWrite { .. }
            | Step::TxnCommit(_)
            | Step::TxnAbort(_) => self.step_of_transaction(step),
            Step::Drain(_)
            | Step::OpenFeed(_)
            | Step::ReadFeed(_)
            | Step::CloseFeed(_)
            | Step::RegisterCursor(..)
            | Step::AdvanceCursor(..)
            | Step::RemoveCursor(_) => self.step_of_feed(step),
            Step::Snapshot
            | Step::SnapshotAt(_)
            | Step::ReadSnapshot(_)
            | Step::DropSnapshot(_)
            | Step::Get { .. }
            | Step::Scan { .. }
            | Step::AsOf { .. }
            | Step::Versions { .. }
            | Step::Size(_)
            | Step::BadInput(_) => self.step_of_reading(step),
            Step::Retain(..)
            | Step::Ttl(..)
            | Step::Clock(_)
            | Step::Maintain
            | Step::DropCollection(_)
            | Step::MakeCollection(_)
            | Step::Reopen
            | Step::Crash
            | Step::ReadOnly
            | Step::Checkpoint { .. }
            | Step::Verify => self.step_of_store(step),
        }
    }

    pub(crate) fn make_collection_at(&mut self, place: usize) -> Agreement {
        if self.oracle.bins[self.places[place]].live {
            return Ok(());
        }
        self.make_collection(place)
    }

    pub(crate) fn needs(&self) -> Needs {
        let snapshots = self.snapshots.iter().map(|held| held.view.seq);
        let transactions = self.transactions.iter().map(|open| open.view.seq);
        Needs { at: snapshots.chain(transactions).collect(), from: self.cursors.iter().flatten().min().copied() }
    }

    pub(crate) fn precondition(&mut self, collection: usize, id: usize, guard: Guard) -> Precondition {
        match guard {
            Guard::Any => Precondition::Any,
            Guard::Absent => Precondition::Absent,
            Guard::Present => Precondition::Present,
            Guard::Current => {
                let current = self.oracle.see_quietly(collection, id);
                Precondition::Match(current.and_then(|version| version.etag.get()).unwrap_or(Etag::NEVER))
            }
            Guard::Past(n) => {
                let past = self.oracle.nth_newest(n).and_then(|version| version.etag.get());
                Precondition::Match(past.unwrap_or(Etag::NEVER))
            }
        }
    }

    pub(crate) fn intent(&mut self, write: &Write) -> Intent {
        let collection = self.places[write.collection];
        let precondition = match write.act {
            Act::Update(_) => Precondition::Any,
            _ => self.precondition(collection, write.id, write.guard),
        };
        let deed = match write.act.clone() {
            Act::Put(body, ttl) | Act::Update(Updating::PutWith(body, ttl)) => Deed::Put(body.0, ttl),
            Act::Update(Updating::Put(body)) => Deed::Put(body.0, Default::default()),
            Act::Delete | Act::Update(Updating::Delete) => Deed::Delete,
            Act::Check | Act::Update(Updating::Keep) => Deed::Keep,
            Act::Update(Updating::Abort) => Deed::Abort,
        };
        Intent { collection, id: write.id, precondition, deed }
    }

    fn single(&mut self, write: &Write) -> Agreement {
        let intent = self.intent(write);
        let Some(docs) = self.handle(intent.collection) else { return Ok(()) };
        let id = IDS[write.id];
        let mut shown: Vec<Shown> = vec![None];
        let result = match &write.act {
            Act::Put(body, ttl) if *ttl == Default::default() => docs.put(id, &body.0, intent.precondition).map(Some),
            Act::Put(body, ttl) => {
                let options = PutOptions::default().document_ttl(*ttl);
                docs.put_with(id, &body.0, intent.precondition, options).map(Some)
            }
            Act::Delete => docs.delete(id, intent.precondition),
            Act::Update(updating) => docs.update(id, answer(updating, &mut shown[0])),
            Act::Check => return self.batch(std::slice::from_ref(write)),
        };
        self.compare_batch(&[intent], result.map(|written| vec![written]), &shown)
    }

    fn batch(&mut self, writes: &[Write]) -> Agreement {
        let intents: Vec<Intent> = writes.iter().map(|write| self.intent(write)).collect();
        if intents.iter().any(|intent| self.handles[intent.collection].is_none()) {
            return Ok(());
        }
        let mut shown: Vec<Shown> = vec![None; writes.len()];
        let result = self.write_batch(writes, &intents, &mut shown).commit();
        self.compare_batch(&intents, result, &shown)
    }

    /// The batch as the store is given it.
    fn write_batch<'a>(&self, writes: &[Write], intents: &[Intent], shown: &'a mut [Shown]) -> WriteBatch<'a> {
        let mut batch = self.subject.store().batch();
        for ((write, intent), shown) in writes.iter().zip(intents).zip(shown) {
            let Some(docs) = &self.handles[intent.collection] else { continue };
            let (id, precondition) = (IDS[write.id], intent.precondition);
            match &write.act {
                Act::Put(body, ttl) => {
                    let options = PutOptions::default().document_ttl(*ttl);
                    batch.put_with(docs, id, &body.0, precondition, options)
                }
                Act::Delete => batch.delete(docs, id, precondition),
                Act::Check => batch.check(docs, id, precondition),
                Act::Update(updating) => batch.update(docs, id, answer(updating, shown)),
            };
        }
        batch
    }

    fn pipeline(&mut self, batches: &[Vec<Write>]) -> Agreement {
        let intents: Vec<Vec<Intent>> =
            batches.iter().map(|writes| writes.iter().map(|write| self.intent(write)).collect()).collect();
        if intents.iter().flatten().any(|intent| self.handles[intent.collection].is_none()) {
            return Ok(());
        }
        let mut shown: Vec<Vec<Shown>> = batches.iter().map(|writes| vec![None; writes.len()]).collect();
        let mut submitted = Vec::new();
        for ((writes, intents), shown) in batches.iter().zip(&intents).zip(&mut shown) {
            submitted.push(self.write_batch(writes, intents, shown).submit());
        }
        let results: Vec<_> = submitted.into_iter().map(CommitHandle::wait).collect();
        for ((intents, result), shown) in intents.iter().zip(results).zip(&shown) {
            self.ahead = true;
            let agreement = self.compare_batch(intents, result, shown);
            self.ahead = false;
            agreement?;
        }
        self.check_last()
    }

    /// Compares what a batch came to, and takes it into the model.
    pub(crate) fn compare_batch(
        &mut self,
        intents: &[Intent],
        result: Result<Vec<Option<Written>>, Error>,
        shown: &[Shown],
    ) -> Agreement {
        match (result, self.oracle.judge(intents)) {
            (Ok(results), Ok(judged)) => {
                let judged = self.placed(intents, judged, &results)?;
                self.compare_written(&judged, &results)?;
                for (shown, found) in shown.iter().zip(&judged.found) {
                    self.compare_shown(shown, found.as_ref())?;
                }
                self.commit(judged)
            }
            (Err(error), Err(refusal)) => self.compare_refusal(intents, &error, &refusal),
            (result, judged) => Err(format!("the store answers {result:?}, the model {judged:?}")),
        }
    }

    /// The same with the sequences that the store gave, which may come after some that nobody uses.
    pub(crate) fn placed(
        &mut self,
        intents: &[Intent],
        judged: Judged,
        results: &[Option<Written>],
    ) -> Agreement<Judged> {
        let first = judged.results.iter().zip(results).find_map(|(index, written)| Some(((*index)?, (*written)?)));
        let Some((index, written)) = first else { return Ok(judged) };
        let offset = written.seq.get().checked_sub(judged.versions[index].seq);
        self.oracle.comes_late_by(offset.ok_or_else(|| format!("{written:?} comes before its time"))?)?;
        self.oracle.judge(intents).map_err(|refusal| format!("the model changes its mind: {refusal:?}"))
    }

    pub(crate) fn compare_refusal(&self, intents: &[Intent], error: &Error, refusal: &Refusal) -> Agreement {
        let agrees = match (error, refusal) {
            (Error::Conflict(conflict), Refusal::Conflict { position, current }) => {
                let intent = &intents[*position];
                conflict.position == *position
                    && conflict.current == *current
                    && conflict.expected == intent.precondition
                    && conflict.id == IDS[intent.id]
                    && conflict.collection == self.place_of(intent.collection)
            }
            (Error::Aborted { position }, Refusal::Aborted { position: expected }) => position == expected,
            (Error::Invalid(message), Refusal::Dropped) => message.contains("was dropped"),
            _ => false,
        };
        agree!(agrees, "the store refuses with {error:?}, the model with {refusal:?}");
        Ok(())
    }

    fn compare_written(&self, judged: &Judged, results: &[Option<Written>]) -> Agreement {
        agree!(results.len() == judged.results.len(), "{} results for {judged:?}", results.len());
        for (result, expected) in results.iter().zip(&judged.results) {
            let (Some(written), Some(index)) = (result, expected) else {
                agree!(result.is_none() && expected.is_none(), "the store wrote {result:?}, the model {expected:?}");
                continue;
            };
            self.compare_one(&judged.versions[*index], written, &judged.versions)?;
        }
        Ok(())
    }

    pub(crate) fn compare_one(&self, version: &Version, written: &Written, batch: &[Version]) -> Agreement {
        version.is_called(written.etag)?;
        let seqs = (written.seq.get(), written.created.get(), written.time_ms);
        let expected = (version.seq, version.created, version.time_ms);
        agree!(seqs == expected, "written {written:?}, in the model {version:?}");
        let previous = batch.iter().chain(&self.oracle.log).find(|other| other.seq == version.previous);
        let replaced = previous.filter(|previous| previous.is_document()).and_then(|previous| previous.etag.get());
        agree!(written.replaced == replaced, "{written:?} replaced another version than {previous:?}");
        Ok(())
    }

    fn compare_shown(&self, shown: &Shown, found: Option<&Version>) -> Agreement {
        let Some(shown) = shown else { return Ok(()) };
        match (shown, found) {
            (None, None) => Ok(()),
            (Some(document), Some(version)) if version.seq > self.oracle.last => {
                // Of the same batch: it has a body and no name yet.
                let agrees = document.etag == Etag::NEVER
                    && (document.seq.get(), document.time_ms) == (0, 0)
                    && document.body == version.body
                    && document.ttl == version.ttl;
                agree!(agrees, "an update was shown {document:?} instead of {version:?}");
                Ok(())
            }
            (Some(document), Some(version)) => self.oracle.compare_document(version, document),
            _ => Err(format!("an update was shown {shown:?} instead of {found:?}")),
        }
    }

    /// Takes a batch into the model, and looks whether the store has committed as much.
    pub(crate) fn commit(&mut self, judged: Judged) -> Agreement {
        let etags: Vec<Etag> = judged.versions.iter().filter_map(|version| version.etag.get()).collect();
        for etag in etags {
            agree!(self.subject.etags.insert(etag), "etag {etag} was given twice");
        }
        self.oracle.commit(judged.versions);
        self.check_last()
    }

    pub(crate) fn check_last(&mut self) -> Agreement {
        self.subject.last_ms = self.oracle.last_ms;
        if self.ahead {
            return Ok(());
        }
        let last = self.subject.store().last_commit().get();
        agree!(last == self.oracle.last, "the last commit is {last}, and {} in the model", self.oracle.last);
        Ok(())
    }

    fn bulk(&mut self, place: usize, documents: &[(usize, Body)], guard: Guard) -> Agreement {
        let collection = self.places[place];
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let precondition = self.precondition(collection, documents[0].0, guard);
        let result = docs.bulk_load(documents.iter().map(|(id, body)| (IDS[*id], body.0.clone())), precondition);
        // Once to know how many sequences it takes, and so where it begins.
        let mut before = self.oracle.clone();
        load(&mut self.oracle, collection, documents, precondition);
        let last = self.subject.store().last_commit().get();
        let offset = last.checked_sub(self.oracle.last);
        std::mem::swap(&mut self.oracle, &mut before);
        if before.last > self.oracle.last {
            self.oracle.comes_late_by(offset.ok_or_else(|| format!("a load ends at {last}"))?)?;
        }
        let (written, refusal) = load(&mut self.oracle, collection, documents, precondition);
        let refusal = match refusal {
            Some((_, Refusal::Dropped)) => {
                agree!(matches!(result, Err(Error::Invalid(_))), "{result:?} in a dropped collection");
                return Ok(());
            }
            Some((position, Refusal::Conflict { current, .. })) => Some((position, current)),
            Some((position, refusal)) => return Err(format!("the model says {refusal:?} of document {position}")),
            None => None,
        };
        match (&result, refusal) {
            (Ok(loaded), None) => {
                let bytes: usize = documents.iter().map(|(id, body)| IDS[*id].len() + body.0.len()).sum();
                let figures = (loaded.documents, loaded.bytes, loaded.first.get(), loaded.last.get());
                let (first, last) = (written[0].seq, written[written.len() - 1].seq);
                let expected = (documents.len() as u64, bytes as u64, first, last);
                agree!(figures == expected, "loaded {loaded:?} instead of {expected:?}");
            }
            (Err(Error::Conflict(conflict)), Some((position, current))) => {
                let agrees = (conflict.position, conflict.current) == (position, current);
                agree!(agrees, "a load conflicts with {conflict:?} instead of {position} {current:?}");
            }
            (result, refusal) => return Err(format!("a load says {result:?}, the model {refusal:?}")),
        }
        self.check_last()?;
        self.learn_etags()
    }

    /// Asks the store for the etags of versions that it has not told yet, which are those of the last commits.
    pub(crate) fn learn_etags(&mut self) -> Agreement {
        let unknown = |version: &&Version| version.etag.get().is_none() && !version.gone;
        let documents: Vec<(usize, usize)> =
            self.oracle.log.iter().filter(unknown).map(|version| (version.collection, version.id)).collect();
        for (collection, id) in documents {
            if self.oracle.bins[collection].live {
                self.compare_versions(collection, id)?;
            }
        }
        for version in self.oracle.log.iter().rev().take(64) {
            if let Some(etag) = version.etag.get() {
                self.subject.etags.insert(etag);
            }
        }
        Ok(())
    }

    fn typed(&mut self, place: usize, id: usize, value: u32, bincode: bool) -> Agreement {
        let collection = self.places[place];
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let value = (value, format!("{value}"));
        let (json, compact) = (docs.typed::<(u32, String)>(), docs.typed_as::<(u32, String), Bincode>());
        let body = if bincode { compact.encode(IDS[id], &value) } else { json.encode(IDS[id], &value) };
        let body = body.map_err(|error| error.to_string())?;
        let result = match bincode {
            true => compact.put(IDS[id], &value, Precondition::Any),
            false => json.put(IDS[id], &value, Precondition::Any),
        };
        let deed = Deed::Put(body, Default::default());
        let intent = Intent { collection, id, precondition: Precondition::Any, deed };
        let is_live = result.is_ok();
        self.compare_batch(&[intent], result.map(|written| vec![Some(written)]), &[])?;
        if is_live {
            let found = if bincode { compact.get(IDS[id]) } else { json.get(IDS[id]) };
            let found = found.map_err(|error| error.to_string())?.map(|document| document.value);
            agree!(found.as_ref() == Some(&value), "{found:?} was read as a value instead of {value:?}");
        }
        Ok(())
    }
}

/// Loads documents into the model, up to the first that may not be. Those that share a write to disk have no etags yet.
fn load(
    oracle: &mut Oracle,
    collection: usize,
    documents: &[(usize, Body)],
    precondition: Precondition,
) -> (Vec<Version>, Option<(usize, Refusal)>) {
    let mut written = Vec::new();
    for (position, (id, body)) in documents.iter().enumerate() {
        let deed = Deed::Put(body.0.clone(), Default::default());
        match oracle.judge(&[Intent { collection, id: *id, precondition, deed }]) {
            Ok(judged) => {
                written.push(judged.versions.last().expect("a put writes").clone());
                // Each is a batch of its own, so a later one sees what the earlier ones did.
                oracle.commit(judged.versions);
            }
            Err(refusal) => return (written, Some((position, refusal))),
        }
    }
    (written, None)
}

/// The closure that notes what it is shown, and answers as told.
fn answer<'a>(
    updating: &Updating,
    shown: &'a mut Shown,
) -> impl FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a {
    let change = match updating.clone() {
        Updating::Put(body) => Ok(Change::Put(body.0)),
        Updating::PutWith(body, ttl) => Ok(Change::PutWith(body.0, PutOptions::default().document_ttl(ttl))),
        Updating::Delete => Ok(Change::Delete),
        Updating::Keep => Ok(Change::Keep),
        Updating::Abort => Err(Abort),
    };
    move |current| {
        *shown = Some(current.cloned());
        change
    }
}
