//! Registered cursors: durable places in the change feed that hold history.

use etagdb::{CommitSeq, Error, FeedMode, MAX_NAME_BYTES, Precondition};

use crate::Fixture;

#[test]
fn a_cursor_survives_a_reopen_where_it_was_advanced_to() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for n in 0..5 {
        docs.put(n.to_string(), "", Precondition::Any).expect("put");
    }
    let cursor = fixture.store.register_cursor("mailer", CommitSeq::new(1)).expect("register");
    assert_eq!((cursor.name.as_str(), cursor.position.get()), ("mailer", 1));
    let page = docs.changes(FeedMode::All, cursor.position).expect("feed").page_entries(2).read().expect("read");
    fixture.store.advance_cursor("mailer", page.position).expect("advance");
    drop(docs);

    let fixture = fixture.reopen();
    // A consumer registers at every start; that neither moves nor doubles it.
    let cursor = fixture.store.register_cursor("mailer", CommitSeq::new(0)).expect("register");
    assert_eq!(cursor.position.get(), 3);
    assert_eq!(fixture.store.cursors(), std::slice::from_ref(&cursor));
    assert_eq!(fixture.store.cursor("mailer"), Some(cursor));
    assert_eq!(fixture.store.cursor("other"), None);
}

#[test]
fn a_cursor_holds_the_watermark_until_it_is_advanced_or_removed() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for n in 0..5 {
        docs.put(n.to_string(), "", Precondition::Any).expect("put");
    }
    let watermark = || fixture.store.watermark().get();
    assert_eq!(watermark(), 5);
    fixture.store.register_cursor("slow", CommitSeq::new(2)).expect("register");
    fixture.store.register_cursor("fast", CommitSeq::new(4)).expect("register");
    assert_eq!(watermark(), 2);
    let snapshot = fixture.store.snapshot_at(CommitSeq::new(1)).expect("snapshot");
    assert_eq!(watermark(), 1);
    drop(snapshot);
    fixture.store.advance_cursor("slow", CommitSeq::new(5)).expect("advance");
    assert_eq!(watermark(), 4);
    assert_eq!((fixture.store.stats().cursors, fixture.store.stats().watermark.get()), (2, 4));
    assert!(fixture.store.remove_cursor("fast").expect("remove"));
    assert!(!fixture.store.remove_cursor("fast").expect("remove again"));
    assert_eq!(watermark(), 5);
    drop(docs);
    let fixture = fixture.reopen();
    let names: Vec<_> = fixture.store.cursors().into_iter().map(|cursor| cursor.name).collect();
    assert_eq!(names, ["slow"], "a removed cursor stays removed");
    assert_eq!(fixture.store.watermark().get(), 5);
}

#[test]
fn a_cursor_stands_at_the_end_of_a_batch_and_goes_only_forward() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut batch = fixture.store.batch();
    for n in 0..3 {
        batch.put(&docs, n.to_string(), "", Precondition::Any);
    }
    batch.commit().expect("commit");
    docs.put("after", "", Precondition::Any).expect("put");
    let store = &fixture.store;
    assert_eq!(store.register_cursor("one", CommitSeq::new(1)).expect("register").position.get(), 3);
    store.advance_cursor("one", CommitSeq::new(2)).expect("where it is already");
    store.advance_cursor("one", CommitSeq::new(4)).expect("advance");
    for back in [0, 3] {
        let result = store.advance_cursor("one", CommitSeq::new(back));
        assert!(matches!(result, Err(Error::Invalid(_))), "{back}: {result:?}");
    }
    assert_eq!(store.cursor("one").expect("there").position.get(), 4);
}

#[test]
fn a_cursor_that_cannot_be_is_refused_and_nothing_is_held() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for (name, position) in [("", 0), (long.as_str(), 0), ("future", 1)] {
        let result = store.register_cursor(name, CommitSeq::new(position));
        assert!(matches!(result, Err(Error::Invalid(_))), "{name}: {result:?}");
    }
    assert!(matches!(store.advance_cursor("nobody", CommitSeq::new(0)), Err(Error::Invalid(_))));
    store.register_cursor("one", CommitSeq::new(0)).expect("register");
    assert!(matches!(store.advance_cursor("one", CommitSeq::new(1)), Err(Error::Invalid(_))));
    assert_eq!(store.cursors().len(), 1);
}
