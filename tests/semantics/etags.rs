//! Etags are never used twice, and identity and time are kept straight.

use std::collections::HashSet;

use etagdb::{Error, Options, Precondition, Store};

use crate::{Fixture, TestClock, copy};

#[test]
fn an_unchanged_body_gets_a_new_etag() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let first = docs.put("a", "same", Precondition::Any).expect("put");
    let second = docs.put("a", "same", Precondition::Any).expect("put");
    assert_ne!(first.etag, second.etag);
}

#[test]
fn the_etag_of_a_deleted_document_does_not_match_its_successor() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let first = docs.put("a", "1", Precondition::Absent).expect("put");
    let tombstone = docs.delete("a", first.etag).expect("delete").expect("there was one");
    let again = docs.put("a", "1", Precondition::Absent).expect("put");
    for stale in [first.etag, tombstone.etag] {
        assert!(matches!(docs.put("a", "2", stale), Err(Error::Conflict(_))));
    }
    assert_ne!(again.created, first.created, "a new document under an old id");
    assert_eq!(again.replaced, None);
}

#[test]
fn created_names_the_first_version_until_the_document_goes() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let first = docs.put("a", "1", Precondition::Absent).expect("put");
    assert_eq!(first.created, first.seq);
    let second = docs.put("a", "2", Precondition::Present).expect("put");
    assert_eq!(second.created, first.seq);
    let deleted = docs.delete("a", Precondition::Any).expect("delete").expect("there");
    assert_eq!(deleted.created, first.seq);
    drop(docs);
    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    let third = docs.put("a", "3", Precondition::Absent).expect("put");
    assert_eq!(third.created, third.seq);
    assert_eq!(docs.get("a").expect("get").expect("there").created, third.seq);
}

#[test]
fn etags_survive_a_reopen_and_are_not_given_again() {
    let mut fixture = Fixture::new();
    let mut given = HashSet::new();
    let mut last = None;
    for round in 0..5 {
        let docs = fixture.collection("docs");
        if let Some(etag) = last {
            assert_eq!(docs.get("a").expect("get").expect("there").etag, etag, "round {round}");
        }
        for _ in 0..3 {
            let written = docs.put("a", "x", last.map_or(Precondition::Absent, Precondition::Match)).expect("put");
            assert!(given.insert(written.etag), "round {round}: an etag was given twice");
            last = Some(written.etag);
        }
        drop(docs);
        fixture = fixture.reopen();
    }
}

/// A copied directory is a fork that nobody announced: both sides go on from the same sequence.
#[test]
fn a_copied_directory_never_gives_the_etags_of_its_original() {
    let Fixture { store, dir } = Fixture::new();
    let docs = store.collection("docs").expect("collection");
    let common = docs.put("a", "common", Precondition::Absent).expect("put");
    drop((docs, store));
    copy(&dir.path().join("store"), &dir.path().join("copy"));

    let write = |name: &str| {
        let store = Store::open(dir.path().join(name)).expect("open");
        let docs = store.collection("docs").expect("collection");
        docs.put("a", name, common.etag).expect("the common version is current in both")
    };
    let (original, copy) = (write("store"), write("copy"));
    assert_eq!(original.seq, copy.seq, "the case worth testing: same sequence on both sides");
    assert_ne!(original.etag, copy.etag);
    let store = Store::open(dir.path().join("copy")).expect("open");
    let docs = store.collection("docs").expect("collection");
    assert!(matches!(docs.put("a", "x", original.etag), Err(Error::Conflict(_))));
}

#[test]
fn commit_times_never_run_backwards_when_the_clock_does() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = TestClock::default();
    clock.set(5_000);
    let open = || Options::default().clock(clock.clone()).open(dir.path().join("store")).expect("open");
    let store = open();
    let docs = store.collection("docs").expect("collection");
    let mut times = vec![docs.put("a", "1", Precondition::Any).expect("put").time_ms];
    clock.set(1_000);
    times.push(docs.put("a", "2", Precondition::Any).expect("put").time_ms);
    drop((docs, store));
    // The memory of the latest time survives a reopen.
    let store = open();
    let docs = store.collection("docs").expect("collection");
    times.push(docs.put("a", "3", Precondition::Any).expect("put").time_ms);
    clock.set(6_000);
    times.push(docs.put("a", "4", Precondition::Any).expect("put").time_ms);
    assert_eq!(times, [5_000, 5_000, 5_000, 6_000]);
    assert_eq!(docs.get("a").expect("get").expect("there").time_ms, 6_000);
}
