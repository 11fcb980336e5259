//! Ids, bodies and names at their limits and one beyond.

use etagdb::{Change, Error, MAX_BODY_BYTES, MAX_ID_BYTES, MAX_NAME_BYTES, Precondition};

use crate::Fixture;

fn refused<T: std::fmt::Debug>(result: etagdb::Result<T>, part: &str) {
    match result {
        Err(Error::Invalid(message)) => assert!(message.contains(part), "{message:?} does not say {part:?}"),
        other => panic!("accepted, or refused for another reason: {other:?}"),
    }
}

#[test]
fn ids_and_bodies_at_and_beyond_their_limits() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    // Zero bytes are the worst case: each is escaped.
    let longest = vec![0u8; MAX_ID_BYTES];
    docs.put(&longest, "x", Precondition::Absent).expect("an id of the longest length");
    assert_eq!(docs.get(&longest).expect("get").expect("there").body, "x");
    let too_long = vec![b'a'; MAX_ID_BYTES + 1];
    refused(docs.put(&too_long, "x", Precondition::Any), &MAX_ID_BYTES.to_string());
    refused(docs.put("", "x", Precondition::Any), "at least one byte");
    assert_eq!(docs.get("").expect("get"), None);
    assert_eq!(docs.get(&too_long).expect("get"), None);

    let largest = vec![7u8; MAX_BODY_BYTES];
    let written = docs.put("big", &largest, Precondition::Absent).expect("a body of the largest size");
    let document = docs.get("big").expect("get").expect("there");
    assert_eq!((document.etag, document.body.len()), (written.etag, MAX_BODY_BYTES));
    let too_large = vec![7u8; MAX_BODY_BYTES + 1];
    refused(docs.put("big", &too_large, Precondition::Any), &MAX_BODY_BYTES.to_string());
    refused(docs.update("big", |_| Ok(Change::Put(too_large))), &MAX_BODY_BYTES.to_string());
    docs.put("empty", "", Precondition::Absent).expect("an empty body is a body");
    assert_eq!(docs.get("empty").expect("get").expect("there").body, "");
}

#[test]
fn collection_names_at_and_beyond_their_limits() {
    let fixture = Fixture::new();
    fixture.collection(&"n".repeat(MAX_NAME_BYTES));
    refused(fixture.store.collection(&"n".repeat(MAX_NAME_BYTES + 1)), "255");
    refused(fixture.store.collection(""), "255");
}

#[test]
fn a_batch_names_the_operation_that_is_wrong_and_writes_nothing() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let other = Fixture::new();
    let foreign = other.collection("foreign");
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "x", Precondition::Any).put(&docs, "", "x", Precondition::Any);
    refused(batch.commit(), "operation 1");
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "x", Precondition::Any).put(&foreign, "b", "x", Precondition::Any);
    refused(batch.commit(), "another store");
    assert_eq!(docs.get("a").expect("get"), None);
    refused(other.store.snapshot().get(&docs, "a"), "another store");
}
