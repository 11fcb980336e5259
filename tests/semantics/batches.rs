//! Batches: all or nothing, in order, each write its own version.

use std::collections::HashSet;

use etagdb::{Abort, Change, Error, Etag, Precondition};

use crate::{Fixture, text};

#[test]
fn a_batch_is_all_or_nothing_over_collections() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.collection("a"), fixture.collection("b"));
    b.put("taken", "old", Precondition::Absent).expect("put");
    let before = fixture.store.last_commit();

    let mut batch = fixture.store.batch();
    batch.put(&a, "1", "x", Precondition::Absent).delete(&b, "taken", Precondition::Present);
    batch.put(&b, "taken", "new", Precondition::Absent).check(&a, "1", Precondition::Absent);
    match batch.commit() {
        Err(Error::Conflict(conflict)) => {
            assert_eq!((conflict.position, &conflict.id[..]), (3, &b"1"[..]));
            assert_eq!(conflict.current, Some(Etag::NEVER), "an earlier operation wrote it");
        }
        other => panic!("the check saw nothing of the earlier put: {other:?}"),
    }
    assert_eq!((text(&a, "1"), text(&b, "taken").as_deref()), (None, Some("old")));
    assert_eq!(fixture.store.last_commit(), before);
}

#[test]
fn later_operations_see_earlier_ones_and_each_write_is_a_version() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut batch = fixture.store.batch();
    batch
        .put(&docs, "a", "1", Precondition::Absent)
        .put(&docs, "a", "2", Precondition::Present)
        .delete(&docs, "a", Precondition::Present)
        .check(&docs, "a", Precondition::Absent)
        .delete(&docs, "a", Precondition::Any)
        .put(&docs, "a", "3", Precondition::Absent)
        .update(&docs, "a", |current| {
            let current = current.expect("just put");
            assert_eq!((&current.body[..], current.etag, current.seq.get()), (&b"3"[..], Etag::NEVER, 0));
            Ok(Change::Put(b"4".to_vec()))
        });
    assert_eq!(batch.len(), 7);
    let results = batch.commit().expect("commit");
    let written: Vec<_> = results.iter().flatten().collect();
    assert_eq!(results.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false, false, true, true]);
    assert_eq!(written.iter().map(|w| w.etag).collect::<HashSet<_>>().len(), 5, "each write has its own etag");
    assert!(written.windows(2).all(|pair| pair[1].seq.get() == pair[0].seq.get() + 1));
    let (first, second, deleted, third, fourth) = (written[0], written[1], written[2], written[3], written[4]);
    assert_eq!(
        [first.replaced, second.replaced, deleted.replaced, third.replaced, fourth.replaced],
        [None, Some(first.etag), Some(second.etag), None, Some(third.etag)]
    );
    assert_eq!([second.created, deleted.created, fourth.created], [first.seq, first.seq, third.seq]);
    let current = docs.get("a").expect("get").expect("there");
    assert_eq!((&current.body[..], current.etag, current.created), (&b"4"[..], fourth.etag, third.seq));
}

#[test]
fn an_update_that_refuses_ends_the_batch_with_nothing_written() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "1", Precondition::Any).update(&docs, "b", |current| {
        assert!(current.is_none());
        Err(Abort)
    });
    batch.update(&docs, "c", |_| panic!("called after a failure"));
    assert!(matches!(batch.commit(), Err(Error::Aborted { position: 1 })));
    assert_eq!(text(&docs, "a"), None);
}

#[test]
fn a_checked_document_is_shown_to_a_later_update_with_its_body() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let written = docs.put("a", "body", Precondition::Any).expect("put");
    let mut seen = None;
    let mut batch = fixture.store.batch();
    batch.check(&docs, "a", written.etag).update(&docs, "a", |current| {
        seen = current.cloned();
        Ok(Change::Keep)
    });
    assert_eq!(batch.commit().expect("commit"), [None, None]);
    assert_eq!(seen, docs.get("a").expect("get"));
}

#[test]
fn a_write_inside_an_update_is_refused_and_the_thread_can_write_again() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.update("a", |_| {
        assert!(matches!(docs.put("b", "x", Precondition::Any), Err(Error::Invalid(_))));
        // Reading is fine.
        assert_eq!(text(&docs, "b"), None);
        Ok(Change::Put(b"1".to_vec()))
    })
    .expect("update");
    let panicked = std::panic::catch_unwind(|| docs.update("a", |_| panic!("the closure's own bug")));
    assert!(panicked.is_err());
    docs.put("a", "2", Precondition::Present).expect("the stripe is free and the thread may write");
}

#[test]
fn an_empty_batch_commits_nothing() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.batch().commit().expect("nothing to do"), []);
    assert_eq!(fixture.store.last_commit().get(), 0);
}
