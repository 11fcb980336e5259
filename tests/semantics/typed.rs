//! Documents as values of a type.

use std::collections::HashMap;

use etagdb::{Abort, Bincode, Change, Encoding, Error, Json, Precondition, ScanRange};
use serde::{Deserialize, Serialize};

use crate::Fixture;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: f64,
    tags: Vec<Option<u32>>,
}

fn reading(value: f64) -> Reading {
    Reading { sensor: "north \u{2603}".into(), value, tags: vec![Some(7), None] }
}

fn every_operation<E: Encoding>() {
    let fixture = Fixture::new();
    let readings = fixture.collection("readings").typed_as::<Reading, E>();
    let first = readings.put("a", &reading(1.5), Precondition::Absent).expect("put");
    let document = readings.get("a").expect("get").expect("there");
    assert_eq!((document.etag, document.seq, document.created), (first.etag, first.seq, first.created));
    assert_eq!((document.time_ms, &document.value), (first.time_ms, &reading(1.5)));
    assert!(readings.get("b").expect("get").is_none());

    let second = readings.put("a", &reading(2.5), first.etag).expect("put");
    assert!(matches!(readings.put("a", &reading(9.0), first.etag), Err(Error::Conflict(_))));

    let updated = readings.update("a", |current| {
        let mut current = current.expect("there");
        assert_eq!(current.etag, second.etag);
        current.value.value += 1.0;
        Ok(Change::Put(current.value))
    });
    assert_eq!(updated.expect("update").expect("written").replaced, Some(second.etag));
    assert!(readings.update("a", |_| Ok(Change::Keep)).expect("update").is_none());
    assert!(matches!(readings.update("a", |_| Err(Abort)), Err(Error::Aborted { position: 0 })));
    let made = readings.update("b", |current| {
        assert!(current.is_none());
        Ok(Change::Put(reading(0.0)))
    });
    made.expect("update").expect("written");

    let scan = readings.scan(&ScanRange::all().reverse()).expect("scan");
    let found: Vec<_> = scan.map(|entry| entry.expect("entry")).map(|(id, d)| (id, d.value.value)).collect();
    assert_eq!(found, [("b".into(), 0.0), ("a".into(), 3.5)]);

    // Through a batch and a snapshot, which know bytes only.
    let before = fixture.store.snapshot();
    let mut batch = fixture.store.batch();
    let body = readings.encode("a", &reading(4.5)).expect("encode");
    batch.put(readings.collection(), "a", body, Precondition::Present);
    batch.commit().expect("commit");
    assert_eq!(readings.get("a").expect("get").expect("there").value, reading(4.5));
    let old = before.get(readings.collection(), "a").expect("get").expect("there");
    assert_eq!(readings.decode("a", old).expect("decode").value, reading(3.5));

    readings.update("b", |_| Ok(Change::Delete)).expect("update").expect("written");
    readings.delete("a", Precondition::Present).expect("delete").expect("written");
    assert_eq!(readings.scan(&ScanRange::all()).expect("scan").count(), 0);
}

#[test]
fn every_operation_takes_and_gives_values_in_json() {
    every_operation::<Json>();
}

#[test]
fn every_operation_takes_and_gives_values_in_bincode() {
    every_operation::<Bincode>();
}

#[test]
fn a_body_that_is_no_value_is_named_with_its_etag_and_left_alone() {
    let fixture = Fixture::new();
    let bytes = fixture.collection("readings");
    let readings = bytes.typed::<Reading>();
    readings.put("a", &reading(1.0), Precondition::Absent).expect("put");
    let broken = bytes.put("b", br#"{"sensor":"south"}"#, Precondition::Absent).expect("put");
    readings.put("c", &reading(3.0), Precondition::Absent).expect("put");

    let check = |error: Error| match &error {
        Error::Undecodable(undecodable) => {
            assert_eq!((&undecodable.id[..], undecodable.etag), (&b"b"[..], broken.etag));
            assert_eq!((&undecodable.collection[..], undecodable.encoding), ("readings", "JSON"));
            let message = error.to_string();
            for part in ["\"b\"", &broken.etag.to_string(), "Reading", "missing field `value`"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(std::error::Error::source(&error).is_some());
        }
        other => panic!("expected Undecodable, got {other:?}"),
    };
    check(readings.get("b").expect_err("no reading"));
    check(readings.update("b", |_| unreachable!("called with no value")).expect_err("no reading"));
    assert_eq!(bytes.get("b").expect("get").expect("there").etag, broken.etag, "left alone");

    // A scan says so in its place and goes on.
    let found: Vec<_> = readings.scan(&ScanRange::all()).expect("scan").collect();
    let [a, b, c] = <[_; 3]>::try_from(found).expect("three entries");
    assert_eq!(a.expect("a").0, "a");
    check(b.expect_err("no reading"));
    assert_eq!(c.expect("c").0, "c");

    // It can be replaced by what it should have been.
    readings.put("b", &reading(2.0), broken.etag).expect("put");
    assert!(readings.get("b").is_ok());
}

#[test]
fn a_value_that_cannot_be_encoded_is_refused_and_nothing_is_written() {
    let fixture = Fixture::new();
    // JSON has no keys but strings.
    let docs = fixture.collection("docs").typed::<HashMap<Vec<u8>, u8>>();
    let value = HashMap::from([(vec![1, 2], 3)]);
    let before = fixture.store.last_commit();
    let refusals = [
        docs.put("a", &value, Precondition::Any).expect_err("no JSON"),
        docs.update("a", |_| Ok(Change::Put(value.clone()))).expect_err("no JSON"),
        docs.encode("a", &value).expect_err("no JSON"),
    ];
    for refused in refusals {
        assert!(matches!(&refused, Error::Invalid(message) if message.contains("\"a\"")), "{refused}");
    }
    assert_eq!(fixture.store.last_commit(), before);
    let docs = fixture.collection("docs").typed_as::<HashMap<Vec<u8>, u8>, Bincode>();
    docs.put("a", &value, Precondition::Any).expect("bincode has");
    assert_eq!(docs.get("a").expect("get").expect("there").value, value);
}

#[test]
fn json_documents_outlive_a_new_field() {
    #[derive(Serialize, Deserialize)]
    struct Later {
        sensor: String,
        #[serde(default)]
        unit: Option<String>,
    }
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.typed::<Reading>().put("a", &reading(1.0), Precondition::Absent).expect("put");
    let later = docs.typed::<Later>().get("a").expect("get").expect("there");
    assert_eq!((later.value.sensor, later.value.unit), (reading(1.0).sensor, None));
}
