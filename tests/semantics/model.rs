//! Random histories against a model that is too simple to be wrong: a map, and a list of all its past states.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use etagdb::{CommitSeq, Error, Etag, Precondition, Retention, ScanRange, Snapshot};
use proptest::prelude::*;

use crate::{Fixture, quiet};

/// What is true of one document.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    body: Vec<u8>,
    etag: Etag,
    created: CommitSeq,
}

type State = BTreeMap<Vec<u8>, Model>;

#[derive(Debug, Clone)]
enum Guard {
    Any,
    Absent,
    Present,
    /// The current etag, if there is one.
    Current,
    /// The etag of the n-th write of the history, most often stale.
    Past(usize),
}

#[derive(Debug, Clone)]
enum Write {
    Put(usize, Vec<u8>, Guard),
    Delete(usize, Guard),
    Check(usize, Guard),
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Write>),
    Snapshot,
    DropSnapshot(usize),
    ReadSnapshot(usize),
    Scan(usize, usize),
    /// Keeps so many superseded versions of each document, or (`None`) all.
    Retain(Option<u32>),
    Maintain,
    Reopen,
}

/// Few ids, so that writes meet; with the bytes that the key encoding treats specially.
const IDS: [&[u8]; 6] = [b"a", b"a\0", b"a\0\xff", b"ab", b"\0", b"\xff"];

fn guard() -> impl Strategy<Value = Guard> {
    prop_oneof![
        3 => Just(Guard::Any),
        2 => Just(Guard::Absent),
        2 => Just(Guard::Present),
        4 => Just(Guard::Current),
        2 => (0usize..40).prop_map(Guard::Past),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let id = 0..IDS.len();
    prop_oneof![
        6 => (id.clone(), prop::collection::vec(any::<u8>(), 0..4), guard()).prop_map(|(i, b, g)| Write::Put(i, b, g)),
        2 => (id.clone(), guard()).prop_map(|(i, g)| Write::Delete(i, g)),
        1 => (id, guard()).prop_map(|(i, g)| Write::Check(i, g)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(write(), 1..2).prop_map(Step::Batch),
        4 => prop::collection::vec(write(), 2..6).prop_map(Step::Batch),
        2 => Just(Step::Snapshot),
        1 => (0usize..8).prop_map(Step::DropSnapshot),
        3 => (0usize..8).prop_map(Step::ReadSnapshot),
        2 => (0..IDS.len(), 0..IDS.len()).prop_map(|(a, b)| Step::Scan(a, b)),
        2 => prop_oneof![4 => Just(Some(0)), 1 => (1u32..3).prop_map(Some), 1 => Just(None)].prop_map(Step::Retain),
        2 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

/// The store under test beside the model of it.
struct Pair {
    fixture: Fixture,
    state: State,
    given: Vec<Etag>,
    snapshots: Vec<(Snapshot, State)>,
    /// Every state there was, by its commit sequence.
    past: Vec<(CommitSeq, State)>,
}

impl Pair {
    fn precondition(&self, state: &State, id: usize, guard: &Guard) -> Precondition {
        match guard {
            Guard::Any => Precondition::Any,
            Guard::Absent => Precondition::Absent,
            Guard::Present => Precondition::Present,
            Guard::Current => Precondition::Match(state.get(IDS[id]).map_or(Etag::NEVER, |model| model.etag)),
            Guard::Past(n) => Precondition::Match(self.given.get(*n).copied().unwrap_or(Etag::NEVER)),
        }
    }

    fn batch(&mut self, writes: &[Write]) {
        let docs = self.fixture.collection("docs");
        let mut batch = self.fixture.store.batch();
        // The model runs the batch on a copy, with `NEVER` for the etags that do not exist yet.
        let mut after = self.state.clone();
        let mut failed = None;
        let mut changes: Vec<Option<(usize, Option<Vec<u8>>)>> = Vec::new();
        for (position, write) in writes.iter().enumerate() {
            let (id, guard) = match write {
                Write::Put(id, _, guard) | Write::Delete(id, guard) | Write::Check(id, guard) => (*id, guard),
            };
            let precondition = self.precondition(&self.state, id, guard);
            match write {
                Write::Put(_, body, _) => batch.put(&docs, IDS[id], body, precondition),
                Write::Delete(..) => batch.delete(&docs, IDS[id], precondition),
                Write::Check(..) => batch.check(&docs, IDS[id], precondition),
            };
            if failed.is_some() {
                continue;
            }
            let current = after.get(IDS[id]).cloned();
            let holds = match precondition {
                Precondition::Any => true,
                Precondition::Absent => current.is_none(),
                Precondition::Present => current.is_some(),
                Precondition::Match(etag) => etag != Etag::NEVER && current.as_ref().is_some_and(|c| c.etag == etag),
            };
            if !holds {
                failed = Some((position, current.map(|model| model.etag)));
                continue;
            }
            changes.push(match write {
                Write::Put(_, body, _) => {
                    let created = current.map_or(CommitSeq::new(0), |model| model.created);
                    after.insert(IDS[id].to_vec(), Model { body: body.clone(), etag: Etag::NEVER, created });
                    Some((id, Some(body.clone())))
                }
                Write::Delete(..) if after.remove(IDS[id]).is_some() => Some((id, None)),
                Write::Delete(..) | Write::Check(..) => None,
            });
        }
        match (batch.commit(), failed) {
            (Ok(results), None) => {
                assert_eq!(results.len(), changes.len());
                for (result, change) in results.into_iter().zip(changes) {
                    assert_eq!(result.is_some(), change.is_some());
                    let (Some(written), Some((id, body))) = (result, change) else { continue };
                    let before = self.state.remove(IDS[id]);
                    assert_eq!(written.replaced, before.as_ref().map(|model| model.etag));
                    assert_eq!(written.created, before.map_or(written.seq, |model| model.created));
                    self.given.push(written.etag);
                    if let Some(body) = body {
                        let model = Model { body, etag: written.etag, created: written.created };
                        self.state.insert(IDS[id].to_vec(), model);
                    }
                }
                self.past.push((self.fixture.store.last_commit(), self.state.clone()));
            }
            (Err(Error::Conflict(conflict)), Some((position, current))) => {
                assert_eq!((conflict.position, conflict.current), (position, current));
            }
            (result, failed) => panic!("store says {result:?}, model says {failed:?}"),
        }
    }

    fn compare(&self, snapshot: &Snapshot, state: &State) {
        let docs = self.fixture.collection("docs");
        for id in IDS {
            let found = snapshot.get(&docs, id).expect("get");
            let found = found.map(|d| Model { body: d.body.to_vec(), etag: d.etag, created: d.created });
            assert_eq!(found.as_ref(), state.get(id), "document {id:?} at {}", snapshot.seq());
        }
        let scanned: Vec<_> =
            snapshot.scan(&docs, &ScanRange::all()).expect("scan").map(|e| e.expect("entry")).collect();
        let scanned: Vec<_> = scanned.into_iter().map(|(id, document)| (id.to_vec(), document.etag)).collect();
        let expected: Vec<_> = state.iter().map(|(id, model)| (id.clone(), model.etag)).collect();
        assert_eq!(scanned, expected);
        let backwards = snapshot.scan(&docs, &ScanRange::all().reverse()).expect("scan").map(|e| e.expect("entry"));
        let backwards: Vec<_> = backwards.map(|(id, document)| (id.to_vec(), document.etag)).collect();
        assert_eq!(backwards, expected.into_iter().rev().collect::<Vec<_>>());
    }

    fn step(mut self, step: &Step) -> Pair {
        match step {
            Step::Batch(writes) => self.batch(writes),
            Step::Snapshot => self.snapshots.push((self.fixture.store.snapshot(), self.state.clone())),
            Step::DropSnapshot(n) if *n < self.snapshots.len() => drop(self.snapshots.remove(*n)),
            Step::ReadSnapshot(n) if *n < self.snapshots.len() => {
                let (snapshot, state) = &self.snapshots[*n];
                self.compare(snapshot, state);
            }
            Step::DropSnapshot(_) | Step::ReadSnapshot(_) => {}
            Step::Scan(from, to) => {
                let (from, to) = (IDS[*from], IDS[*to]);
                let docs = self.fixture.collection("docs");
                let range = ScanRange::all().from(from).to(to);
                let found = |range: &ScanRange| -> Vec<_> {
                    docs.scan(range).expect("scan").map(|entry| entry.expect("entry").0.to_vec()).collect()
                };
                let mut expected: Vec<_> =
                    self.state.keys().filter(|id| (from..to).contains(&id.as_slice())).cloned().collect();
                assert_eq!(found(&range), expected);
                expected.reverse();
                assert_eq!(found(&range.reverse()), expected);
            }
            Step::Retain(versions) => {
                let age_zero = |&versions| Retention::age(Duration::ZERO).versions(versions);
                let retention = versions.as_ref().map_or(Retention::FOREVER, age_zero);
                self.fixture.collection("docs").set_retention(retention).expect("set");
            }
            Step::Maintain => drop(self.fixture.store.run_maintenance().expect("maintenance")),
            Step::Reopen => {
                self.snapshots.clear();
                self.fixture = self.fixture.reopen_with(quiet());
            }
        }
        self
    }
}

proptest! {
    // The seed of a failing history is printed with it, and proptest shrinks it to the shortest that fails.
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histories_agree_with_the_model(steps in prop::collection::vec(step(), 1..50)) {
        let fixture = Fixture::with(quiet());
        fixture.collection("docs");
        let mut pair =
            Pair { fixture, state: State::new(), given: Vec::new(), snapshots: Vec::new(), past: Vec::new() };
        for step in &steps {
            pair = pair.step(step);
        }
        pair.compare(&pair.fixture.store.snapshot(), &pair.state);
        let docs = pair.fixture.collection("docs");
        for (seq, state) in &pair.past {
            match pair.fixture.store.snapshot_at(*seq) {
                Ok(snapshot) => pair.compare(&snapshot, state),
                Err(Error::NotRetained { asked, oldest }) => {
                    prop_assert!(asked == *seq && oldest > *seq && docs.horizon() >= oldest);
                }
                Err(error) => panic!("{error}"),
            }
        }
        // What the snapshots kept is dropped with them, and nothing is left that a look at every document would find.
        pair.snapshots.clear();
        docs.set_retention(Retention::age(Duration::ZERO)).expect("set");
        pair.fixture.store.run_maintenance().expect("maintenance");
        docs.set_retention(Retention::age(Duration::ZERO).versions(1)).expect("set");
        docs.set_retention(Retention::age(Duration::ZERO)).expect("set");
        prop_assert_eq!(pair.fixture.store.run_maintenance().expect("maintenance").dropped, 0);
        pair.compare(&pair.fixture.store.snapshot(), &pair.state);
        let distinct: HashSet<_> = pair.given.iter().collect();
        prop_assert_eq!(distinct.len(), pair.given.len(), "an etag was given twice");
    }
}
