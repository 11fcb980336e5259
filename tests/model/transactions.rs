//! Transactions, compared.

use std::collections::{BTreeMap, BTreeSet};

use etagdb::{Committed, Error, Etag, Precondition, PutOptions, Transaction, Written};

use crate::mistakes::Mistake;
use crate::oracle::{Agreement, Deed, Intent, Oracle, Refusal, Seen, View, agree};
use crate::pair::{MOST, Pair};
use crate::reads::is_dropped;
use crate::steps::{Act, IDS, Range, Step, Updating, Write};

/// A document: its collection and its id.
type Key = (usize, usize);

/// A transaction under way, and what it has done.
pub(crate) struct Open {
    pub(crate) txn: Transaction,
    pub(crate) view: View,
    /// What it read of single documents, by their etags.
    points: BTreeMap<Key, Option<Etag>>,
    /// What it read of documents in ranges.
    ranges: BTreeMap<Key, Option<Etag>>,
    /// Collections that it scanned, though it may have been for nothing.
    scanned: BTreeSet<usize>,
    /// In the order of the last write to each.
    writes: Vec<(Key, Deed)>,
}

impl Open {
    fn own(&self, key: Key) -> Option<&Deed> {
        self.writes.iter().find(|(written, _)| *written == key).map(|(_, deed)| deed)
    }

    /// The etag that the transaction sees.
    fn etag(&self, oracle: &Oracle, key: Key) -> Option<Etag> {
        match self.own(key) {
            Some(Deed::Put(..)) => Some(Etag::NEVER),
            Some(_) => None,
            None => oracle.see(key.0, key.1, &self.view).if_known().and_then(|version| version.etag.get()),
        }
    }

    fn note(&mut self, oracle: &Oracle, key: Key) {
        if self.own(key).is_none() {
            let seen = self.etag(oracle, key);
            self.points.entry(key).or_insert(seen);
        }
    }
}

impl Pair<'_> {
    pub(crate) fn step_of_transaction(&mut self, step: &Step) -> Agreement {
        match step {
            Step::Begin if self.transactions.len() < MOST => {
                let open = self.begin()?;
                self.transactions.push(open);
                Ok(())
            }
            Step::Transact { write, interfere } => self.transact(write, *interfere),
            Step::TxnGet { txn, collection, id } => {
                self.within(*txn, |pair, open| pair.get_within(open, (pair.places[*collection], *id)))
            }
            Step::TxnScan { txn, collection, range, limit } => {
                self.within(*txn, |pair, open| pair.scan_within(open, pair.places[*collection], *range, *limit))
            }
            Step::TxnWrite { txn, write } => self.within(*txn, |pair, open| pair.write_within(open, write)),
            Step::TxnCommit(n) if !self.transactions.is_empty() => {
                let open = self.transactions.remove(n % self.transactions.len());
                self.commit_transaction(open).map(drop)
            }
            Step::TxnAbort(n) if !self.transactions.is_empty() => {
                self.transactions.remove(n % self.transactions.len()).txn.abort();
                self.check_last()
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Agreement<Open> {
        let (txn, view) = (self.subject.store().begin(), self.oracle.view());
        agree!(txn.seq().get() == view.seq, "a transaction at {} instead of {}", txn.seq(), view.seq);
        let (points, ranges) = (BTreeMap::new(), BTreeMap::new());
        Ok(Open { txn, view, points, ranges, scanned: BTreeSet::new(), writes: Vec::new() })
    }

    fn within(&mut self, n: usize, act: impl FnOnce(&mut Self, &mut Open) -> Agreement) -> Agreement {
        if self.transactions.is_empty() {
            return Ok(());
        }
        let n = n % self.transactions.len();
        let mut open = self.transactions.swap_remove(n);
        let result = act(self, &mut open);
        self.transactions.push(open);
        result
    }

    fn get_within(&mut self, open: &mut Open, key: Key) -> Agreement {
        let Some(docs) = self.handle(key.0) else { return Ok(()) };
        let result = open.txn.get(&docs, IDS[key.1]);
        if !self.oracle.bins[key.0].live {
            agree!(is_dropped(&result), "a transaction reads {result:?} of a dropped collection");
            return Ok(());
        }
        let found = result.map_err(|error| error.to_string())?;
        match open.own(key) {
            Some(Deed::Put(body, ttl)) => {
                let agrees = found.as_ref().is_some_and(|found| {
                    found.etag == Etag::NEVER && found.body == *body && found.ttl == *ttl && found.seq.get() == 0
                });
                agree!(agrees, "a transaction reads {found:?} of its own");
            }
            Some(_) => agree!(found.is_none(), "a transaction reads {found:?}, which it deleted"),
            None => self.oracle.compare_seen(self.oracle.see(key.0, key.1, &open.view), found.as_ref())?,
        }
        open.note(&self.oracle, key);
        Ok(())
    }

    fn scan_within(&mut self, open: &mut Open, collection: usize, range: Range, limit: usize) -> Agreement {
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let result = open.txn.scan(&docs, &range.scan_range());
        if !self.oracle.bins[collection].live {
            agree!(is_dropped(&result), "a transaction scans a dropped collection: {result:?}");
            return Ok(());
        }
        let scan = result.map_err(|error| error.to_string())?.take(limit);
        let found = scan.collect::<etagdb::Result<Vec<_>>>().map_err(|error| error.to_string())?;
        open.scanned.insert(collection);
        let mut entries = found.iter();
        let mut read = Vec::new();
        for id in range.ids(&self.oracle) {
            if entries.len() == 0 && found.len() == limit {
                // It stopped here, and has not seen what comes after.
                break;
            }
            read.push(id);
            let seen = self.oracle.see(collection, id, &open.view);
            let (body, etag) = match (open.own((collection, id)), seen) {
                (Some(Deed::Put(body, _)), _) => (body.clone(), Some(Etag::NEVER)),
                (Some(_), _) | (None, Seen::Absent | Seen::Either(_)) => continue,
                (None, Seen::Present(version)) => (version.body.clone(), version.etag.get()),
            };
            let Some((found, document)) = entries.next() else {
                return Err(format!("a transaction does not see {:?} in {found:?}", IDS[id]));
            };
            let agrees = *found == IDS[id] && document.body == body && etag.is_none_or(|etag| etag == document.etag);
            agree!(agrees, "a transaction sees {found:?} {document:?} instead of {:?} {body:?}", IDS[id]);
        }
        agree!(entries.len() == 0, "a transaction sees more than there is: {found:?}");
        for id in read {
            let seen = self.oracle.see(collection, id, &open.view).if_known().and_then(|version| version.etag.get());
            open.ranges.entry((collection, id)).or_insert(seen);
        }
        Ok(())
    }

    fn write_within(&mut self, open: &mut Open, write: &Write) -> Agreement {
        let Intent { collection, id, precondition, deed } = self.intent(write);
        let key = (collection, id);
        let Some(docs) = self.handle(collection) else { return Ok(()) };
        let result = match &deed {
            Deed::Put(body, ttl) => {
                let options = PutOptions::default().document_ttl(*ttl);
                open.txn.put_with(&docs, IDS[id], body, precondition, options)
            }
            Deed::Delete => open.txn.delete(&docs, IDS[id], precondition),
            // A transaction has other ways to check.
            Deed::Keep | Deed::Abort => return self.get_within(open, key),
        };
        if !self.oracle.bins[collection].live {
            agree!(is_dropped(&result), "a transaction writes to a dropped collection: {result:?}");
            return Ok(());
        }
        let current = open.etag(&self.oracle, key);
        if precondition != Precondition::Any {
            open.note(&self.oracle, key);
        }
        match result {
            Ok(()) if precondition.holds(current) => {
                open.writes.retain(|(written, _)| *written != key);
                open.writes.push((key, deed));
                Ok(())
            }
            Err(Error::Conflict(conflict)) if !precondition.holds(current) => {
                agree!(conflict.current == current, "a transaction conflicts with {conflict:?}, not {current:?}");
                Ok(())
            }
            result => Err(format!("a transaction writes {result:?}, having seen {current:?}")),
        }
    }

    /// True if it was committed, false if what it read has changed.
    fn commit_transaction(&mut self, open: Open) -> Agreement<bool> {
        let Open { txn, view, points, ranges, scanned, writes } = open;
        let result = txn.commit();
        if result.is_err() {
            self.oracle.refused(writes.len());
        }
        // To delete what was read to be absent is no more than to read it.
        let writes: Vec<(Key, Deed)> = writes
            .into_iter()
            .filter(|(key, deed)| !(matches!(deed, Deed::Delete) && points.get(key) == Some(&None)))
            .collect();
        if writes.is_empty() {
            let seq = result.map(|committed| committed.seq().get()).map_err(|error| error.to_string())?;
            agree!(seq == view.seq, "a transaction that only read is at {seq} instead of {}", view.seq);
            return self.check_last().map(|()| true);
        }
        let reads = || {
            let ranges = ranges.iter().filter(|_| !self.oracle.errs(Mistake::PhantomsAreNotSeen));
            points.iter().chain(ranges).filter(|_| !self.oracle.errs(Mistake::ReadsAreNotValidated))
        };
        let dropped = |collection: usize| !self.oracle.bins[collection].live;
        if reads().any(|((collection, _), _)| dropped(*collection)) || writes.iter().any(|((c, _), _)| dropped(*c)) {
            agree!(matches!(result, Err(Error::Invalid(_) | Error::Conflict(_))), "{result:?} of a dropped collection");
            return self.check_last().map(|()| false);
        }
        let now = self.oracle.view();
        let current = |key: &Key| {
            let seen = self.oracle.see(key.0, key.1, &now).if_known();
            seen.and_then(|version| version.etag.get())
        };
        let is_changed = |(key, seen): &(&Key, &Option<Etag>)| current(key) != **seen;
        // What has only expired since, or come back by a setting, has no commit that would tell.
        let by_commit = |(key, _): &(&Key, &Option<Etag>)| {
            self.oracle.chain(key.0, key.1).last().is_some_and(|newest| newest.seq > view.seq)
        };
        let written = |(key, _): &(&Key, &Option<Etag>)| {
            points.contains_key(*key) && writes.iter().any(|(written, _)| written == *key)
        };
        // By what the collections said at the snapshot: somebody may have gone by it, whatever they say now.
        let later = View { from_ms: now.from_ms, to_ms: now.to_ms, ..view.clone() };
        let has_expired = |(key, seen): &(&Key, &Option<Etag>)| {
            seen.is_some() && self.oracle.see(key.0, key.1, &later).if_known().is_none()
        };
        let is_written = |key: &Key| writes.iter().any(|(written, _)| written == key);
        let changed: Vec<_> = reads().filter(|read| is_changed(read) || has_expired(read)).collect();
        let must_fail = changed.iter().any(|read| {
            is_changed(read) && (by_commit(read) || written(read)) || has_expired(read) && !is_written(read.0)
        });
        match result {
            Err(Error::Conflict(conflict)) => {
                // What came since and has expired already did change, and is as it was.
                let came_and_expired = |(key, _): &(&Key, &Option<Etag>)| {
                    let newest = self.oracle.chain(key.0, key.1).pop();
                    newest.is_some_and(|newest| newest.seq > view.seq && newest.is_document() && current(key).is_none())
                };
                let may_fail = |read: &_| is_changed(read) || has_expired(read) || came_and_expired(read);
                let agrees = reads().filter(may_fail).any(|(key, seen)| {
                    let expected = seen.map_or(Precondition::Absent, Precondition::Match);
                    conflict.id == IDS[key.1] && conflict.expected == expected && conflict.position == 0
                });
                agree!(agrees, "a transaction conflicts with {conflict:?}, and what has changed is {changed:?}");
                self.check_last().map(|()| false)
            }
            Ok(committed) => {
                agree!(!must_fail, "a transaction committed though {changed:?} has changed");
                self.compare_committed(&view, &writes, &committed).map(|()| true)
            }
            Err(Error::Invalid(_)) if scanned.iter().any(|&collection| dropped(collection)) => {
                self.check_last().map(|()| false)
            }
            Err(error) => Err(format!("a transaction fails with {error:?}")),
        }
    }

    fn compare_committed(&mut self, view: &View, writes: &[(Key, Deed)], committed: &Committed) -> Agreement {
        let intents: Vec<Intent> = writes
            .iter()
            .map(|((collection, id), deed)| Intent {
                collection: *collection,
                id: *id,
                precondition: Precondition::Any,
                deed: deed.clone(),
            })
            .collect();
        let judged = self.oracle.judge(&intents).map_err(|refusal| format!("the model refuses with {refusal:?}"))?;
        let results: Vec<Option<Written>> = intents
            .iter()
            .map(|intent| committed.written(self.handles[intent.collection].as_ref()?, IDS[intent.id]).copied())
            .collect();
        let judged = self.placed(&intents, judged, &results)?;
        for (intent, index) in intents.iter().zip(&judged.results) {
            let Some(docs) = self.handle(intent.collection) else { continue };
            let written = committed.written(&docs, IDS[intent.id]);
            match (written, index) {
                (None, None) => {}
                (Some(written), Some(index)) => {
                    self.compare_one(&judged.versions[*index], written, &judged.versions)?;
                }
                _ => return Err(format!("a transaction wrote {written:?} for {intent:?}")),
            }
        }
        let last = judged.versions.last().map_or(view.seq, |version| version.seq);
        agree!(committed.seq().get() == last, "a transaction is at {} instead of {last}", committed.seq());
        self.commit(judged)
    }

    /// Reads a document and writes it; so many times somebody else is faster.
    fn transact(&mut self, write: &Write, interfere: usize) -> Agreement {
        let collection = self.places[write.collection];
        let Some(docs) = self.handle(collection).filter(|_| self.oracle.bins[collection].live) else { return Ok(()) };
        let (store, id) = (self.subject.store().clone(), write.id);
        let body = match &write.act {
            Act::Put(body, _) | Act::Update(Updating::Put(body) | Updating::PutWith(body, _)) => body.0.clone(),
            _ => Vec::new(),
        };
        let (mut runs, mut others, mut seen) = (0, Vec::new(), None);
        let result = store.transact(|txn| -> etagdb::Result<()> {
            seen = txn.get(&docs, IDS[id])?;
            if runs < interfere {
                others.push(docs.put(IDS[id], [runs as u8], Precondition::Any)?);
            }
            runs += 1;
            txn.put(&docs, IDS[id], &body, Precondition::Any)
        });
        result.map_err(|error| format!("transact: {error:?}"))?;
        agree!(runs == interfere + 1, "transact ran {runs} times, and was disturbed {interfere} times");
        for (n, other) in others.into_iter().enumerate() {
            self.oracle.refused(1);
            let deed = Deed::Put(vec![n as u8], Default::default());
            let intent = Intent { collection, id, precondition: Precondition::Any, deed };
            self.compare_batch_quietly(&[intent], other.seq.get())?;
            self.oracle.log.last().ok_or("just committed")?.is_called(other.etag)?;
        }
        let found = self.oracle.see_quietly(collection, id);
        let seen_now = found.as_ref().map_or(Seen::Absent, Seen::Present);
        self.oracle.compare_seen(seen_now, seen.as_ref()).map_err(|what| format!("transact: {what}"))?;
        self.oracle.refused(1);
        let deed = Deed::Put(body, Default::default());
        let last = self.subject.store().last_commit().get();
        self.compare_batch_quietly(&[Intent { collection, id, precondition: Precondition::Any, deed }], last)?;
        self.check_last()?;
        self.learn_etags()
    }

    /// Takes a write into the model whose last commit is `last`, while the store may be ahead of it.
    fn compare_batch_quietly(&mut self, intents: &[Intent], last: u64) -> Agreement {
        let judge = |oracle: &mut Oracle| {
            oracle.judge(intents).map_err(|refusal: Refusal| format!("the model says {refusal:?}"))
        };
        let expected = judge(&mut self.oracle)?.versions.last().map_or(last, |version| version.seq);
        self.oracle.comes_late_by(last.checked_sub(expected).ok_or("a transaction comes before its time")?)?;
        let judged = judge(&mut self.oracle)?;
        self.oracle.commit(judged.versions);
        Ok(())
    }
}
