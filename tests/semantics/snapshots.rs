//! Snapshots: one commit sequence, unmoved by writers.

use etagdb::{CommitSeq, Error, Precondition, ScanRange};

use crate::{Fixture, text};

#[test]
fn a_snapshot_reads_the_past_in_every_way() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("changed", "1", Precondition::Any).expect("put");
    docs.put("deleted", "1", Precondition::Any).expect("put");
    let snapshot = fixture.store.snapshot();
    docs.put("changed", "2", Precondition::Any).expect("put");
    docs.delete("deleted", Precondition::Any).expect("delete");
    docs.put("added", "1", Precondition::Any).expect("put");

    let old = |id| snapshot.get(&docs, id).expect("get").map(|document| document.body);
    assert_eq!([old("changed"), old("deleted"), old("added")], [Some("1".into()), Some("1".into()), None]);
    let scanned: Vec<_> =
        snapshot.scan(&docs, &ScanRange::all()).expect("scan").map(|entry| entry.expect("entry").0).collect();
    assert_eq!(scanned, ["changed", "deleted"]);
    assert_eq!(text(&docs, "changed").as_deref(), Some("2"));
}

#[test]
fn a_snapshot_can_leave_the_thread_and_outlive_the_store_handle() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("a", "1", Precondition::Any).expect("put");
    let snapshot = fixture.store.snapshot();
    drop(fixture);
    let body = std::thread::spawn(move || snapshot.get(&docs, "a").expect("get").expect("there").body);
    assert_eq!(body.join().expect("joined"), "1");
}

#[test]
fn the_watermark_is_the_oldest_live_snapshot() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let put = || docs.put("a", "x", Precondition::Any).expect("put").seq;
    let first = put();
    let old = fixture.store.snapshot();
    let second = put();
    let new = fixture.store.snapshot();
    let third = put();
    assert_eq!((old.seq(), new.seq()), (first, second));
    assert_eq!(fixture.store.watermark(), first);
    assert_eq!(fixture.store.stats().snapshots, 2);
    drop(old);
    assert_eq!(fixture.store.watermark(), second);
    drop(new);
    assert_eq!(fixture.store.watermark(), third);
}

#[test]
fn a_snapshot_of_an_earlier_commit_survives_a_reopen_and_never_splits_a_batch() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("a", "0", Precondition::Any).expect("put");
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "1", Precondition::Any).put(&docs, "b", "1", Precondition::Any);
    let written: Vec<_> = batch.commit().expect("commit").into_iter().flatten().collect();
    docs.put("a", "2", Precondition::Any).expect("put");
    drop(docs);

    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    for seq in [written[0].seq, written[1].seq] {
        let snapshot = fixture.store.snapshot_at(seq).expect("snapshot");
        assert_eq!(snapshot.seq(), written[1].seq, "the end of the batch");
        let read = |id| snapshot.get(&docs, id).expect("get").expect("there").body;
        assert_eq!((read("a"), read("b")), ("1".into(), "1".into()));
    }
    let start = fixture.store.snapshot_at(CommitSeq::new(0)).expect("before everything");
    assert_eq!(start.get(&docs, "a").expect("get"), None);
    let future = CommitSeq::new(fixture.store.last_commit().get() + 1);
    assert!(matches!(fixture.store.snapshot_at(future), Err(Error::Invalid(_))));
}
