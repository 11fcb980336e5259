//! Random transactions from many threads, and whether what they saw and did is what running them one after the other
//! in commit order would have shown and done.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use etagdb::{
    Abort, Change, Collection, Durability, Error, Options, Precondition, ScanRange, Store, Transaction, Written,
};

use crate::{Fixture, text};

/// What a transaction did, in the order in which it did it.
#[derive(Debug, Clone)]
enum Step {
    Read(String, Option<u64>),
    /// From the first id on, up to so many documents; and what was there.
    Scan(String, usize, Vec<(String, u64)>),
    /// Up to before the id, the last so many documents, backwards.
    ScanBack(String, usize, Vec<(String, u64)>),
    Put(String, u64),
    Delete(String),
}

/// A transaction that happened, whatever it was to the engine: a transaction, a batch, an update or a single write.
#[derive(Debug, Clone)]
struct Happened {
    /// Everything up to this commit was acknowledged, to somebody, before this one began.
    after: u64,
    /// Its last commit sequence; of one that only read, the sequence of its snapshot.
    place: u64,
    writes: bool,
    steps: Vec<Step>,
}

/// Runs a history one after the other, in commit order, and compares what each saw. Strictly: what was acknowledged
/// before something began comes before it.
fn check(mut history: Vec<Happened>) -> Result<(), String> {
    // A reader stands behind the commit that it reads at.
    history.sort_by_key(|happened| (happened.place, !happened.writes));
    let mut state: BTreeMap<String, u64> = BTreeMap::new();
    for happened in &history {
        let early = if happened.writes { happened.place <= happened.after } else { happened.place < happened.after };
        if early {
            return Err(format!("comes before what was acknowledged when it began: {happened:?}"));
        }
        for step in &happened.steps {
            let right = match step {
                Step::Read(id, seen) => state.get(id) == seen.as_ref(),
                Step::Scan(from, limit, seen) => {
                    let there = state.range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded));
                    there.take(*limit).map(|(id, value)| (id.clone(), *value)).eq(seen.iter().cloned())
                }
                Step::ScanBack(to, limit, seen) => {
                    let there = state.range::<str, _>((Bound::Unbounded, Bound::Excluded(to.as_str())));
                    there.rev().take(*limit).map(|(id, value)| (id.clone(), *value)).eq(seen.iter().cloned())
                }
                Step::Put(id, value) => {
                    state.insert(id.clone(), *value);
                    true
                }
                Step::Delete(id) => {
                    state.remove(id);
                    true
                }
            };
            if !right {
                return Err(format!("{step:?} does not fit the state {state:?} in {happened:?}"));
            }
        }
    }
    Ok(())
}

/// Xorshift (Marsaglia, 2003): enough to mix operations.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of few ids, so that transactions meet.
    fn id(&mut self) -> String {
        format!("{:02}", self.below(24))
    }
}

fn value(body: &[u8]) -> u64 {
    std::str::from_utf8(body).expect("UTF-8").parse().expect("a number")
}

/// The store under test and what has happened to it.
struct Recorder {
    store: Store,
    docs: Collection,
    places: Collection,
    acknowledged: AtomicU64,
    next_value: AtomicU64,
    conflicts: AtomicUsize,
    history: Mutex<Vec<Happened>>,
}

impl Recorder {
    fn new(store: Store) -> Recorder {
        let collection = |name| store.collection(name).expect("collection");
        Recorder {
            docs: collection("docs"),
            places: collection("places"),
            store,
            acknowledged: AtomicU64::new(0),
            next_value: AtomicU64::new(1),
            conflicts: AtomicUsize::new(0),
            history: Mutex::default(),
        }
    }

    fn history(&self) -> MutexGuard<'_, Vec<Happened>> {
        self.history.lock().expect("not poisoned")
    }

    /// No value is ever written twice, so that a read tells which write it saw.
    fn fresh_value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::SeqCst)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn record(&self, after: u64, place: u64, writes: bool, steps: Vec<Step>) {
        self.acknowledged.fetch_max(place, Ordering::SeqCst);
        self.history().push(Happened { after, place, writes, steps });
    }

    /// Does something, within so many transactions of this thread that are under way.
    fn act(&self, random: &mut Random, within: usize) {
        match random.below(8) {
            0 => self.batch(random),
            1 => self.update(random),
            2 => self.single(random),
            _ => self.transaction(random, within),
        }
    }

    fn transaction(&self, random: &mut Random, within: usize) {
        let after = self.acknowledged();
        let mut txn = self.store.begin();
        let mut steps = Vec::new();
        let mut writes = false;
        for _ in 0..=random.below(4) {
            match random.below(10) {
                // Old snapshots meet new ones in one group.
                9 if within < 3 => self.act(random, within + 1),
                0..=2 => steps.push(self.read(&txn, random.id())),
                3 | 4 => {
                    let (limit, reverse) = (random.below(5) as usize + 1, random.below(2) == 0);
                    steps.push(self.scan(&txn, random.id(), limit, reverse));
                }
                5 if writes => {
                    let id = random.id();
                    txn.delete(&self.docs, &id, Precondition::Any).expect("delete");
                    steps.push(Step::Delete(id));
                }
                _ => {
                    let (id, value) = (random.id(), self.fresh_value());
                    txn.put(&self.docs, &id, value.to_string(), Precondition::Any).expect("put");
                    steps.push(Step::Put(id, value));
                    writes = true;
                }
            }
        }
        // A transaction whose puts were all deleted again may have written nothing, and then has no place of its own.
        // A document of its own gives it one, and has no stripe in common with others: so they share groups.
        if writes {
            txn.put(&self.places, self.fresh_value().to_string(), "", Precondition::Any).expect("put");
        }
        match txn.commit() {
            Ok(committed) => self.record(after, committed.seq().get(), writes, steps),
            Err(Error::Conflict(_)) => drop(self.conflicts.fetch_add(1, Ordering::SeqCst)),
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&self, txn: &Transaction, id: String) -> Step {
        let seen = txn.get(&self.docs, &id).expect("get").map(|document| value(&document.body));
        Step::Read(id, seen)
    }

    fn scan(&self, txn: &Transaction, bound: String, limit: usize, reverse: bool) -> Step {
        let range = if reverse { ScanRange::all().to(&bound).reverse() } else { ScanRange::all().from(&bound) };
        let scan = txn.scan(&self.docs, &range).expect("scan").take(limit).map(|entry| entry.expect("entry"));
        let seen = scan
            .map(|(id, document)| (String::from_utf8(id.to_vec()).expect("UTF-8"), value(&document.body)))
            .collect();
        if reverse { Step::ScanBack(bound, limit, seen) } else { Step::Scan(bound, limit, seen) }
    }

    fn batch(&self, random: &mut Random) {
        let after = self.acknowledged();
        let (a, b) = (random.id(), random.id());
        let value = self.fresh_value();
        let mut batch = self.store.batch();
        batch.delete(&self.docs, &a, Precondition::Any).put(&self.docs, &b, value.to_string(), Precondition::Any);
        let written = batch.commit().expect("commit");
        let place = written.iter().flatten().map(|written| written.seq.get()).max().expect("a put");
        self.record(after, place, true, vec![Step::Delete(a), Step::Put(b, value)]);
    }

    fn update(&self, random: &mut Random) {
        let after = self.acknowledged();
        let (id, next) = (random.id(), self.fresh_value());
        let mut seen = None;
        let change = |current: Option<&etagdb::Document>| -> Result<Change, Abort> {
            seen = current.map(|document| value(&document.body));
            Ok(Change::Put(next.to_string().into_bytes()))
        };
        let written: Written = self.docs.update(&id, change).expect("update").expect("written");
        self.record(after, written.seq.get(), true, vec![Step::Read(id.clone(), seen), Step::Put(id, next)]);
    }

    fn single(&self, random: &mut Random) {
        let after = self.acknowledged();
        let (id, value) = (random.id(), self.fresh_value());
        match self.docs.put(&id, value.to_string(), Precondition::Absent) {
            Ok(written) => {
                let steps = vec![Step::Read(id.clone(), None), Step::Put(id, value)];
                self.record(after, written.seq.get(), true, steps);
            }
            Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn random_transactions(durability: Durability, threads: u64, rounds: usize) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Options::default().durability(durability).open(dir.path().join("store")).expect("open");
    let recorder = Recorder::new(store);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let recorder = &recorder;
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (thread + 1));
                for _ in 0..rounds {
                    recorder.act(&mut random, 0);
                }
            });
        }
    });
    let history = recorder.history().clone();
    let conflicts = recorder.conflicts.load(Ordering::SeqCst);
    assert!(history.len() > rounds, "{} committed, {conflicts} conflicts", history.len());
    assert!(conflicts > 0, "nobody ever met");
    if let Err(anomaly) = check(history) {
        panic!("not serializable: {anomaly}");
    }
}

#[test]
fn buffered_transactions_are_strictly_serializable() {
    random_transactions(Durability::Buffered, 8, 10_000);
}

/// With syncs, groups are large, and most of what conflicts meets within one group.
#[test]
fn synced_transactions_are_strictly_serializable() {
    random_transactions(Durability::Sync, 16, 1_000);
}

/// The tester is tested: under snapshot isolation, which only compares the documents that were written, a write skew
/// gets through, and the check sees it.
#[test]
fn the_check_sees_a_write_skew() {
    let fixture = Fixture::new();
    let recorder = Recorder::new(fixture.store.clone());
    let docs = &recorder.docs;
    for (id, value) in [("a", 1), ("b", 2)] {
        let written = docs.put(id, value.to_string(), Precondition::Absent).expect("put");
        recorder.record(0, written.seq.get(), true, vec![Step::Put(id.into(), value)]);
    }
    let both = [Step::Read("a".into(), Some(1)), Step::Read("b".into(), Some(2))];
    let (snapshot, after) = (fixture.store.snapshot(), recorder.acknowledged());
    for (id, value) in [("a", 3), ("b", 4)] {
        assert_eq!(check(recorder.history().clone()), Ok(()));
        let read = snapshot.get(docs, id).expect("get").expect("there");
        let written = docs.put(id, value.to_string(), read.etag).expect("nobody else wrote it");
        let steps = [both.to_vec(), vec![Step::Put(id.into(), value)]].concat();
        recorder.record(after, written.seq.get(), true, steps);
    }
    let anomaly = check(recorder.history().clone()).expect_err("a write skew");
    assert!(anomaly.contains("Read(\"a\", Some(1)) does not fit"), "{anomaly}");
}

#[test]
fn the_check_sees_a_phantom_and_a_stale_read() {
    let happened = |after, place, writes, steps: &[Step]| Happened { after, place, writes, steps: steps.to_vec() };
    let put = |id: &str, value| Step::Put(id.into(), value);
    let nothing = Step::Scan("a".into(), 9, Vec::new());
    let phantom = vec![happened(0, 1, true, &[put("b", 1)]), happened(0, 2, true, &[nothing, put("x", 2)])];
    assert!(check(phantom).expect_err("a phantom").contains("Scan"));
    let stale = vec![happened(0, 1, true, &[put("b", 1)]), happened(1, 0, false, &[Step::Read("b".into(), None)])];
    assert!(check(stale).expect_err("a stale read").contains("acknowledged"));
}

/// However many want the same document, nobody loses for ever, though `transact` tries only so many times.
#[test]
fn everybody_gets_his_turn_at_a_hot_document() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Options::default().durability(Durability::Buffered).open(dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let increment = |txn: &mut Transaction| -> etagdb::Result<()> {
                        let next = txn.get(&docs, "counter")?.map_or(0, |counter| value(&counter.body)) + 1;
                        txn.put(&docs, "counter", next.to_string(), Precondition::Any)
                    };
                    store.transact(increment).expect("no more than so many failures");
                }
            });
        }
    });
    assert_eq!(text(&docs, "counter").as_deref(), Some("16000"));
}

/// However money moves between accounts that open and close, everybody who adds it up finds the same.
#[test]
fn the_sum_of_all_accounts_never_changes() {
    const ACCOUNTS: u64 = 10;
    const EACH: u64 = 1_000;
    let fixture = Fixture::new();
    let accounts = fixture.collection("accounts");
    let audits = fixture.collection("audits");
    for n in 0..ACCOUNTS {
        accounts.put(n.to_string(), EACH.to_string(), Precondition::Absent).expect("put");
    }
    let sum = |txn: &Transaction| -> etagdb::Result<u64> {
        txn.scan(&accounts, &ScanRange::all())?.map(|entry| Ok(value(&entry?.1.body))).sum()
    };
    let balance = |txn: &Transaction, id: &str| -> etagdb::Result<Option<u64>> {
        Ok(txn.get(&accounts, id)?.map(|account| value(&account.body)))
    };
    // Moves some money; from an account to one that may have to be opened, and closes what becomes empty.
    let transfer = |random: &mut Random| -> etagdb::Result<()> {
        let (from, to) = (random.below(2 * ACCOUNTS).to_string(), random.below(2 * ACCOUNTS).to_string());
        let amount = 1 + random.below(EACH);
        fixture.store.transact(|txn| {
            let Some(there) = balance(txn, &from)? else { return Ok(()) };
            let moved = amount.min(there);
            match there - moved {
                0 => txn.delete(&accounts, &from, Precondition::Present)?,
                rest => txn.put(&accounts, &from, rest.to_string(), Precondition::Present)?,
            }
            let there = balance(txn, &to)?.unwrap_or(0);
            txn.put(&accounts, &to, (there + moved).to_string(), Precondition::Any)
        })
    };
    let audit = |name: String| -> etagdb::Result<()> {
        fixture.store.transact(|txn| {
            let sum = sum(txn)?;
            txn.put(&audits, &name, sum.to_string(), Precondition::Any)
        })
    };
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (transfer, audit, sum, store) = (&transfer, &audit, &sum, &fixture.store);
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                for round in 0..150 {
                    transfer(&mut random).expect("transfer");
                    if round % 10 == thread {
                        audit(thread.to_string()).expect("audit");
                    }
                    assert_eq!(sum(&store.begin()).expect("sum"), ACCOUNTS * EACH);
                }
            });
        }
    });
    for thread in 0..6 {
        assert_eq!(text(&audits, &thread.to_string()), Some((ACCOUNTS * EACH).to_string()));
    }
}
