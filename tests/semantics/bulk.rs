//! Bulk load: every document is a commit like any other.

use std::collections::HashSet;

use etagdb::{Change, Error, MAX_BODY_BYTES, Precondition, ScanRange};

use crate::{Fixture, text};

/// More than a chunk of documents.
const MANY: usize = 5_000;

fn id(n: usize) -> String {
    format!("{:05}", (n * 7919) % MANY)
}

fn numbered(ids: impl IntoIterator<Item = usize>) -> impl Iterator<Item = (String, String)> {
    ids.into_iter().map(|n| (id(n), format!("body {n}")))
}

#[test]
fn every_document_has_its_own_etag_and_sequence_in_the_order_given() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("before", "x", Precondition::Any).expect("put");
    let loaded = docs.bulk_load(numbered(0..MANY), Precondition::Absent).expect("load");
    assert_eq!((loaded.documents, loaded.first.get(), loaded.last.get()), (MANY as u64, 2, 1 + MANY as u64));
    let bytes: usize = numbered(0..MANY).map(|(id, body)| id.len() + body.len()).sum();
    assert_eq!(loaded.bytes, bytes as u64);
    assert_eq!(fixture.store.last_commit(), loaded.last);

    let mut etags = HashSet::new();
    for n in 0..MANY {
        let document = docs.get(id(n)).expect("get").expect("loaded");
        assert_eq!((document.seq.get(), document.created), (2 + n as u64, document.seq));
        assert_eq!(document.body, format!("body {n}"));
        assert!(etags.insert(document.etag));
    }
    assert_eq!(docs.scan(&ScanRange::all()).expect("scan").count(), MANY + 1);
    // Each is a batch of its own: the past can be read between any two.
    for n in [1, 2, 3, 1_999, 2_000, 2_001, MANY] {
        let then = fixture.store.snapshot_at(etagdb::CommitSeq::new(n as u64)).expect("snapshot");
        assert_eq!(then.seq().get(), n as u64);
        assert_eq!(then.scan(&docs, &ScanRange::all()).expect("scan").count(), n);
    }
    let report = fixture.store.verify(|_| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.problems);
    drop(docs);
    let fixture = fixture.reopen();
    assert_eq!(fixture.collection("docs").scan(&ScanRange::all()).expect("scan").count(), MANY + 1);
}

#[test]
fn absent_overwrites_nothing_and_stops_at_the_first_that_is_there() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let there = docs.put(id(3_000), "mine", Precondition::Absent).expect("put");
    match docs.bulk_load(numbered(0..MANY), Precondition::Absent) {
        Err(Error::Conflict(conflict)) => {
            assert_eq!((conflict.position, &conflict.id[..]), (3_000, id(3_000).as_bytes()));
            assert_eq!((conflict.current, &conflict.collection[..]), (Some(there.etag), "docs"));
        }
        other => panic!("a document was overwritten: {other:?}"),
    }
    assert_eq!(text(&docs, &id(3_000)).as_deref(), Some("mine"));
    assert_eq!(docs.scan(&ScanRange::all()).expect("scan").count(), 3_001, "all before it, and none after");
    assert!(docs.get(id(2_999)).expect("get").is_some() && docs.get(id(3_001)).expect("get").is_none());

    // The same id twice in one load.
    let twice = docs.bulk_load([("twice", "1"), ("twice", "2"), ("after", "3")], Precondition::Absent);
    assert!(matches!(&twice, Err(Error::Conflict(conflict)) if conflict.position == 1), "{twice:?}");
    assert_eq!((text(&docs, "twice").as_deref(), text(&docs, "after")), (Some("1"), None));
}

#[test]
fn any_replaces_and_the_last_one_wins() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.bulk_load(numbered(0..MANY), Precondition::Absent).expect("load");
    let first = docs.get(id(0)).expect("get").expect("loaded");
    let again = numbered(0..10).chain(numbered([0])).map(|(id, body)| (id, body + " again"));
    let loaded = docs.bulk_load(again, Precondition::Any).expect("load");
    assert_eq!((loaded.documents, loaded.last.get()), (11, MANY as u64 + 11));
    let last = docs.get(id(0)).expect("get").expect("there");
    assert_eq!((last.seq, last.created), (loaded.last, first.seq));
    assert!(matches!(docs.put(id(0), "x", first.etag), Err(Error::Conflict(_))));
    assert_eq!(text(&docs, &id(9)).as_deref(), Some("body 9 again"));
    let missing = docs.bulk_load([(id(1), "1"), ("missing".to_owned(), "2")], Precondition::Present);
    assert!(matches!(&missing, Err(Error::Conflict(conflict)) if conflict.position == 1), "{missing:?}");
    assert_eq!(text(&docs, &id(1)).as_deref(), Some("1"));
    let report = fixture.store.verify(|_| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.problems);
}

#[test]
fn a_document_beyond_the_limits_is_named_and_those_before_it_are_there() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let long = [("a", vec![1]), ("b", vec![0; MAX_BODY_BYTES + 1]), ("c", vec![1])];
    match docs.bulk_load(long, Precondition::Any) {
        Err(Error::Invalid(message)) => assert!(message.starts_with("document 1: the body has"), "{message}"),
        other => panic!("expected Invalid, got {other:?}"),
    }
    let empty = docs.bulk_load([("d", "1"), ("", "2")], Precondition::Any);
    assert!(matches!(empty, Err(Error::Invalid(message)) if message.starts_with("document 1: an id")));
    let found: Vec<_> = docs.scan(&ScanRange::all()).expect("scan").map(|entry| entry.expect("entry").0).collect();
    assert_eq!(found, ["a", "d"]);
    let nothing = docs.bulk_load(Vec::<(&str, &str)>::new(), Precondition::Any).expect("load");
    assert_eq!((nothing.documents, nothing.first.get()), (0, 0));
}

#[test]
fn loads_are_refused_where_writes_are() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut refused = None;
    docs.update("a", |_| {
        refused = docs.bulk_load([("b", "1")], Precondition::Any).err();
        Ok(Change::Keep)
    })
    .expect("update");
    assert!(matches!(refused, Some(Error::Invalid(_))), "{refused:?}");
    fixture.store.drop_collection("docs").expect("drop");
    let dropped = docs.bulk_load([("b", "1")], Precondition::Any);
    assert!(matches!(&dropped, Err(Error::Invalid(message)) if message.contains("dropped")), "{dropped:?}");
}

/// Loads, single writers and readers at once: no update is lost, and every document of a load is seen once.
#[test]
fn a_load_and_other_writers_do_not_hurt_each_other() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    std::thread::scope(|scope| {
        for part in 0..2 {
            let docs = &docs;
            scope.spawn(move || {
                let own = numbered((0..MANY).filter(|n| n % 2 == part));
                docs.bulk_load(own, Precondition::Absent).expect("load");
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let count = |current: Option<&etagdb::Document>| {
                        let text = current.map_or("0".into(), |d| String::from_utf8_lossy(&d.body).into_owned());
                        Ok(Change::Put((text.parse::<u64>().expect("a number") + 1).to_string().into_bytes()))
                    };
                    docs.update("counter", count).expect("update");
                }
            });
        }
    });
    assert_eq!(text(&docs, "counter").as_deref(), Some("200"));
    assert_eq!(docs.scan(&ScanRange::all()).expect("scan").count(), MANY + 1);
    let report = fixture.store.verify(|_| {}).expect("verify");
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.commits, MANY as u64 + 200);
}
