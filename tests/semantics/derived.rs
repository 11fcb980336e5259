//! Derived collections: entries and documents change in one batch, whoever writes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etagdb::{Abort, Change, Collection, Error, Precondition, PutOptions, ScanRange, Snapshot};
use proptest::prelude::*;

use crate::{Fixture, Timed};

/// An entry for each letter of a body: the letter, then the id.
fn by_letter(id: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    body.iter().map(|letter| [&[*letter], id].concat()).collect()
}

fn derived(fixture: &Fixture) -> (Collection, Collection) {
    let (docs, entries) = (fixture.collection("docs"), fixture.collection("entries"));
    docs.derive_into(&entries, by_letter).expect("derives");
    (docs, entries)
}

/// The entries there are and those that the documents give rise to, in one state.
fn both(snapshot: &Snapshot, docs: &Collection, entries: &Collection) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
    let found = snapshot.scan(entries, &ScanRange::all()).expect("scan");
    let found = found.map(|entry| entry.expect("entry").0.to_vec()).collect();
    let due = snapshot.scan(docs, &ScanRange::all()).expect("scan").flat_map(|row| {
        let (id, document) = row.expect("row");
        by_letter(&id, &document.body)
    });
    (found, due.collect())
}

fn agree(fixture: &Fixture, docs: &Collection, entries: &Collection) {
    let (found, due) = both(&fixture.store.snapshot(), docs, entries);
    assert_eq!(found, due);
}

/// One write by one of the ways there are.
#[derive(Debug, Clone)]
enum Write {
    Put(u8, String),
    Delete(u8),
    Batch(Vec<(u8, Option<String>)>, bool),
    Transaction(Vec<(u8, String)>),
    Bulk(Vec<(u8, String)>),
    Pass(u64),
}

fn body() -> impl Strategy<Value = String> {
    "[abc]{0,3}"
}

fn write() -> impl Strategy<Value = Write> {
    let id = || 0u8..4;
    prop_oneof![
        (id(), body()).prop_map(|(id, body)| Write::Put(id, body)),
        id().prop_map(Write::Delete),
        (prop::collection::vec((id(), prop::option::of(body())), 1..5), any::<bool>())
            .prop_map(|(writes, aborts)| Write::Batch(writes, aborts)),
        prop::collection::vec((id(), body()), 1..4).prop_map(Write::Transaction),
        prop::collection::vec((id(), body()), 1..4).prop_map(Write::Bulk),
        (0u64..120).prop_map(Write::Pass),
    ]
}

fn carry_out(timed: &Timed, docs: &Collection, write: Write) {
    let store = &timed.fixture.store;
    match write {
        Write::Put(id, body) => {
            let options = PutOptions::default().ttl(Duration::from_millis(100));
            docs.put_with([id], body, Precondition::Any, options).expect("put");
        }
        Write::Delete(id) => {
            docs.delete([id], Precondition::Any).expect("delete");
        }
        Write::Batch(writes, aborts) => {
            let mut batch = store.batch();
            for (id, body) in writes {
                batch.update(docs, [id], move |_| {
                    Ok(body.map_or(Change::Delete, |body| Change::Put(body.into_bytes())))
                });
            }
            if aborts {
                batch.update(docs, [9], |_| Err(Abort));
            }
            assert_eq!(batch.commit().is_err(), aborts);
        }
        Write::Transaction(writes) => {
            let done: Result<(), Error> = store.transact(|txn| {
                for (id, body) in &writes {
                    txn.put(docs, [*id], body, Precondition::Any)?;
                }
                Ok(())
            });
            done.expect("transaction");
        }
        Write::Bulk(writes) => {
            let documents = writes.into_iter().map(|(id, body)| ([id], body));
            docs.bulk_load(documents, Precondition::Any).expect("load");
        }
        Write::Pass(ms) => {
            timed.clock.advance(ms);
            store.run_maintenance().expect("maintenance");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_and_documents_agree_after_every_write(writes in prop::collection::vec(write(), 1..16)) {
        let timed = Timed::new();
        let (docs, entries) = derived(&timed.fixture);
        let mut states = Vec::new();
        for write in writes {
            carry_out(&timed, &docs, write);
            // What has expired is gone for readers before its entries are.
            timed.fixture.store.run_maintenance().expect("maintenance");
            let (found, due) = both(&timed.fixture.store.snapshot(), &docs, &entries);
            prop_assert_eq!(&found, &due);
            states.push((timed.fixture.store.last_commit(), found));
        }
        for (seq, state) in states {
            let past = timed.fixture.store.snapshot_at(seq).expect("a state of the past");
            prop_assert_eq!(both(&past, &docs, &entries).0, state);
        }
        let report = timed.fixture.store.verify(|_| {}).expect("verify");
        prop_assert!(report.is_sound(), "{report:?}");
    }
}

#[test]
fn no_snapshot_shows_a_document_without_its_entries() {
    let fixture = Fixture::new();
    let (docs, entries) = derived(&fixture);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3u8 {
            let docs = &docs;
            scope.spawn(move || {
                for round in 0..100u8 {
                    let body = [b'a' + (round + writer) % 5, b'f' + round % 3];
                    docs.put([round % 7], body, Precondition::Any).expect("put");
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                agree(&fixture, &docs, &entries);
            }
        });
        // A scope joins its threads; this one says when the writers are through.
        let (docs, done) = (&docs, &done);
        scope.spawn(move || {
            for round in 0..100u8 {
                docs.delete([round % 7], Precondition::Any).expect("delete");
            }
            done.store(true, Ordering::SeqCst);
        });
    });
    agree(&fixture, &docs, &entries);
}

#[test]
fn what_was_there_before_can_be_added_while_others_write() {
    let fixture = Fixture::new();
    let (docs, entries) = (fixture.collection("docs"), fixture.collection("entries"));
    for id in 0..50u8 {
        docs.put([id], "ab", Precondition::Any).expect("put");
    }
    std::thread::scope(|scope| {
        let (docs, entries, fixture) = (&docs, &entries, &fixture);
        scope.spawn(move || {
            for round in 0..200u8 {
                // Some of what the documents gave rise to before stays.
                docs.put([round % 60], [b'a' + round % 3], Precondition::Any).expect("put");
            }
        });
        scope.spawn(move || {
            docs.derive_all_into(entries, by_letter).expect("derives");
            let snapshot = fixture.store.snapshot();
            for row in snapshot.scan(docs, &ScanRange::all()).expect("scan") {
                let (id, document) = row.expect("row");
                let mut batch = fixture.store.batch();
                batch.check(docs, &id, document.etag);
                for entry in by_letter(&id, &document.body) {
                    batch.put(entries, entry, "", Precondition::Any);
                }
                match batch.commit() {
                    // Who has written it since has taken care of its entries.
                    Ok(_) | Err(Error::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    agree(&fixture, &docs, &entries);
}

#[test]
fn a_write_that_changes_no_entry_leaves_none_out_while_they_are_added() {
    let fixture = Fixture::new();
    let (docs, entries) = (fixture.collection("docs"), fixture.collection("entries"));
    let first = docs.put("d", "ab", Precondition::Any).expect("put");
    docs.derive_all_into(&entries, by_letter).expect("derives");
    // Whoever adds the entries of older documents has just seen the first version when it is replaced.
    docs.put("d", "ba", Precondition::Any).expect("put");
    let mut batch = fixture.store.batch();
    batch.check(&docs, "d", first.etag);
    assert!(matches!(batch.commit(), Err(Error::Conflict(_))));
    agree(&fixture, &docs, &entries);
    docs.derive_into(&entries, by_letter).expect("derives");
    docs.put("d", "a", Precondition::Any).expect("put");
    agree(&fixture, &docs, &entries);
}

#[test]
fn a_collection_derives_into_another_one_of_its_store() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let docs = one.collection("docs");
    let nothing = |_: &[u8], _: &[u8]| Vec::new();
    assert!(matches!(docs.derive_into(&docs, nothing), Err(Error::Invalid(_))));
    assert!(matches!(docs.derive_into(&two.collection("x"), nothing), Err(Error::Invalid(_))));
    let (middle, last) = (one.collection("middle"), one.collection("last"));
    middle.derive_into(&last, nothing).expect("derives");
    assert!(matches!(docs.derive_into(&middle, nothing), Err(Error::Invalid(_))));
    let inside = docs.update("a", |_| {
        assert!(matches!(docs.derive_nothing(), Err(Error::Invalid(_))));
        Ok(Change::Keep)
    });
    inside.expect("update");
}

#[test]
fn an_entry_that_no_document_could_have_refuses_the_write() {
    let fixture = Fixture::new();
    let (docs, entries) = (fixture.collection("docs"), fixture.collection("entries"));
    docs.derive_into(&entries, |_, _| vec![Vec::new()]).expect("derives");
    assert!(matches!(docs.put("a", "1", Precondition::Any), Err(Error::Invalid(_))));
    assert!(docs.get("a").expect("get").is_none());
    docs.derive_nothing().expect("derives nothing");
    docs.put("a", "1", Precondition::Any).expect("put");
}
