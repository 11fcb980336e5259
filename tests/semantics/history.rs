//! Reading what was: as of an etag, a commit sequence or a time; and the list of a document's versions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{AsOf, Collection, CommitSeq, Durability, Error, Etag, Options, Precondition, ScanRange, Store, Version};

use crate::{Fixture, TestClock};

fn at(time_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(time_ms)
}

/// A store whose time the test sets.
fn timed(durability: Durability) -> (tempfile::TempDir, Store, TestClock) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = TestClock::default();
    let store =
        Options::default().durability(durability).clock(clock.clone()).open(dir.path().join("store")).expect("open");
    (dir, store, clock)
}

fn body(collection: &Collection, id: &str, as_of: impl Into<AsOf>) -> Option<String> {
    let document = collection.get_as_of(id, as_of).expect("get")?;
    Some(String::from_utf8(document.body.to_vec()).expect("UTF-8"))
}

fn versions(collection: &Collection, id: &str) -> Vec<Version> {
    collection.history(id).expect("history").map(|version| version.expect("version")).collect()
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(result: Result<T, Error>, says: &str) {
    match result {
        Err(Error::Invalid(message)) => assert!(message.contains(says), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_is_read_by_its_etag_its_sequence_and_its_time() {
    let (_dir, store, clock) = timed(Durability::Buffered);
    let docs = store.collection("docs").expect("collection");
    clock.set(1_000);
    let first = docs.put("a", "1", Precondition::Absent).expect("put");
    clock.set(2_000);
    let second = docs.put("a", "2", first.etag).expect("put");
    clock.set(3_000);
    let deleted = docs.delete("a", second.etag).expect("delete").expect("deleted");
    clock.set(4_000);
    let again = docs.put("a", "3", Precondition::Absent).expect("put");
    clock.set(5_000);

    let expected = [(first, Some("1")), (second, Some("2")), (deleted, None), (again, Some("3"))];
    for (written, expected) in expected {
        assert_eq!(body(&docs, "a", written.etag).as_deref(), expected);
        assert_eq!(body(&docs, "a", written.seq).as_deref(), expected);
        assert_eq!(body(&docs, "a", at(written.time_ms)).as_deref(), expected);
        assert_eq!(body(&docs, "a", at(written.time_ms + 999)).as_deref(), expected);
    }
    assert_eq!(body(&docs, "a", CommitSeq::new(0)), None);
    assert_eq!(body(&docs, "a", at(999)), None);
    assert_eq!(body(&docs, "a", UNIX_EPOCH - Duration::from_secs(1)), None);
    assert_eq!(body(&docs, "never there", again.seq), None);
    let old = docs.get_as_of("a", second.etag).expect("get").expect("kept");
    assert_eq!((old.etag, old.seq, old.created, old.time_ms), (second.etag, second.seq, first.seq, 2_000));
}

#[test]
fn etags_of_others_are_refused() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mine = docs.put("a", "1", Precondition::Absent).expect("put");
    let namesake = fixture.collection("others").put("a", "1", Precondition::Absent).expect("put");
    let neighbour = docs.put("b", "1", Precondition::Absent).expect("put");
    let foreign = Fixture::new().collection("docs").put("a", "1", Precondition::Absent).expect("put");
    assert_eq!(foreign.seq, mine.seq, "the sequence alone would find a version");

    invalid(docs.get_as_of("a", namesake.etag), "no version of document \"a\" in collection \"docs\"");
    invalid(docs.get_as_of("a", neighbour.etag), "no version of document \"a\" in collection \"docs\"");
    invalid(docs.get_as_of("a", foreign.etag), "no version of this store");
    invalid(docs.get_as_of("a", Etag::NEVER), "no version of this store");
    invalid(docs.get_as_of("", mine.etag), "no version of document");
    invalid(fixture.store.snapshot_at(foreign.etag), "no version of this store");
    let future = format!("{}{:04x}", &mine.etag.to_string()[..32], 999).parse::<Etag>().expect("an etag");
    invalid(docs.get_as_of("a", future), "no version of this store");
}

#[test]
fn etags_keep_their_meaning_over_a_reopen() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let first = docs.put("a", "1", Precondition::Absent).expect("put");
    drop(docs);
    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    let second = docs.put("a", "2", first.etag).expect("put");
    drop(docs);
    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    assert_eq!(body(&docs, "a", first.etag).as_deref(), Some("1"));
    assert_eq!(body(&docs, "a", second.etag).as_deref(), Some("2"));
    assert_eq!(versions(&docs, "a").iter().map(|version| version.etag).collect::<Vec<_>>(), [second.etag, first.etag]);
}

#[test]
fn what_is_still_to_come_is_refused() {
    let (_dir, store, clock) = timed(Durability::Buffered);
    let docs = store.collection("docs").expect("collection");
    clock.set(1_000);
    invalid(store.snapshot_at(at(1_001)), "still to come");
    let newest = docs.put("a", "1", Precondition::Absent).expect("put");
    invalid(docs.get_as_of("a", at(1_001)), "still to come");
    invalid(docs.get_as_of("a", CommitSeq::new(newest.seq.get() + 1)), "does not exist yet");
    assert_eq!(body(&docs, "a", at(1_000)).as_deref(), Some("1"));
    // Set back, the clock stands still at the newest commit.
    clock.set(500);
    assert_eq!(body(&docs, "a", at(1_000)).as_deref(), Some("1"));
    invalid(docs.get_as_of("a", at(1_001)), "still to come");
    assert_eq!(body(&docs, "a", at(999)), None);
}

#[test]
fn a_snapshot_at_a_time_or_an_etag_is_of_whole_batches() {
    let (_dir, store, clock) = timed(Durability::Buffered);
    let docs = store.collection("docs").expect("collection");
    assert_eq!(store.snapshot_at(at(0)).expect("of the empty store").seq(), CommitSeq::new(0));
    let mut etags = Vec::new();
    for time_ms in [10, 20, 20, 40] {
        clock.set(time_ms);
        let mut batch = store.batch();
        for id in ["a", "b", "c"] {
            batch.put(&docs, id, etags.len().to_string(), Precondition::Any);
        }
        let written = batch.commit().expect("commit");
        etags.push(written.into_iter().flatten().map(|written| written.etag).collect::<Vec<_>>());
    }
    clock.set(60);
    let all = |snapshot: &etagdb::Snapshot| -> Vec<String> {
        let entries = snapshot.scan(&docs, &ScanRange::all()).expect("scan").map(|entry| entry.expect("entry").1.body);
        entries.map(|body| String::from_utf8(body.to_vec()).expect("UTF-8")).collect()
    };
    for (time_ms, expected) in
        [(9, None), (10, Some("0")), (19, Some("0")), (20, Some("2")), (40, Some("3")), (60, Some("3"))]
    {
        let found = all(&store.snapshot_at(at(time_ms)).expect("snapshot"));
        assert_eq!(found, vec![expected.unwrap_or_default(); if expected.is_some() { 3 } else { 0 }], "{time_ms} ms");
    }
    for (n, batch) in etags.iter().enumerate() {
        for &etag in batch {
            let snapshot = store.snapshot_at(etag).expect("snapshot");
            assert_eq!(snapshot.seq().get(), 3 * (n as u64 + 1));
            assert_eq!(all(&snapshot), vec![n.to_string(); 3]);
        }
    }
}

#[test]
fn the_list_of_versions_tells_all_of_each() {
    let (_dir, store, clock) = timed(Durability::Buffered);
    let docs = store.collection("docs").expect("collection");
    // Neighbours in key order, whose versions must not be listed.
    for id in ["a\0", "a", "aa", "A"] {
        clock.set(10);
        docs.put(id, "other", Precondition::Any).expect("put");
    }
    let other = docs.get("a").expect("get").expect("there");
    clock.set(20);
    let deleted = docs.delete("a", Precondition::Present).expect("delete").expect("deleted");
    clock.set(30);
    let again = docs.put("a", "longer", Precondition::Absent).expect("put");

    let list = versions(&docs, "a");
    let figures: Vec<_> = list.iter().map(|v| (v.etag, v.seq, v.time_ms, v.body_bytes, v.tombstone)).collect();
    let expected = [
        (again.etag, again.seq, 30, 6, false),
        (deleted.etag, deleted.seq, 20, 0, true),
        (other.etag, other.seq, 10, 5, false),
    ];
    assert_eq!(figures, expected);
    assert_eq!(list.iter().map(|v| v.created).collect::<Vec<_>>(), [again.seq, other.seq, other.seq]);
    assert_eq!(list.iter().map(|v| v.previous).collect::<Vec<_>>(), [Some(deleted.seq), Some(other.seq), None]);
    assert_eq!(versions(&docs, "never there"), []);
    assert_eq!(versions(&docs, ""), []);
}

#[test]
fn the_list_of_versions_is_of_one_moment() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for n in 0..5 {
        docs.put("a", n.to_string(), Precondition::Any).expect("put");
    }
    let snapshot = fixture.store.snapshot();
    let mut list = docs.history("a").expect("history");
    let newest = list.next().expect("a version").expect("version");
    docs.put("a", "5", newest.etag).expect("put");
    assert_eq!(list.count(), 4);
    assert_eq!(snapshot.history(&docs, "a").expect("history").count(), 5);
    let third = versions(&docs, "a")[3];
    let then = fixture.store.snapshot_at(third.seq).expect("snapshot");
    assert_eq!(then.history(&docs, "a").expect("history").next().expect("a version").expect("version"), third);
}

#[test]
fn a_dropped_collection_has_no_history() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let written = docs.put("a", "1", Precondition::Any).expect("put");
    fixture.store.drop_collection("docs").expect("drop");
    invalid(docs.get_as_of("a", written.etag), "was dropped");
    invalid(docs.get_as_of("a", written.seq), "was dropped");
    invalid(docs.history("a"), "was dropped");
    let anew = fixture.collection("docs");
    invalid(anew.get_as_of("a", written.etag), "no version of document");
    assert_eq!(versions(&anew, "a"), []);
}

/// Once the clock is past a time, the state at that time stays what it is, also while writes that have this time are on
/// their way to disk.
#[test]
fn the_state_at_a_time_that_is_over_never_changes() {
    let (_dir, store, clock) = timed(Durability::Sync);
    let docs = store.collection("docs").expect("collection");
    let stop = AtomicBool::new(false);
    let answers: Vec<_> = std::thread::scope(|scope| {
        for writer in 0..4 {
            let (docs, stop) = (&docs, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    docs.put(writer.to_string(), "x", Precondition::Any).expect("put");
                }
            });
        }
        let ask = |time_ms| {
            // While this one is told that its group is on disk, the next group gets its time.
            docs.put("asker", "x", Precondition::Any).expect("put");
            clock.set(time_ms + 1);
            (time_ms, store.snapshot_at(at(time_ms)).expect("snapshot").seq())
        };
        let answers = (0..100).map(ask).collect();
        stop.store(true, Ordering::SeqCst);
        answers
    });
    for (time_ms, seq) in answers {
        assert_eq!(store.snapshot_at(at(time_ms)).expect("snapshot").seq(), seq, "at {time_ms} ms");
    }
}

/// Asking for the time of the newest commit once gave the next one a later time than the clock.
#[test]
fn asking_for_the_newest_state_by_its_time_does_not_drive_time_ahead() {
    let (_dir, store, clock) = timed(Durability::Sync);
    let docs = store.collection("docs").expect("collection");
    clock.set(1_000);
    for _ in 0..10 {
        let written = docs.put("a", "x", Precondition::Any).expect("put");
        assert_eq!(written.time_ms, 1_000);
        assert_eq!(store.snapshot_at(at(written.time_ms)).expect("snapshot").seq(), written.seq);
    }
    clock.set(2_000);
    // What was said of a time that is over stays true though the clock is set back.
    let seq = store.snapshot_at(at(1_500)).expect("snapshot").seq();
    clock.set(1_000);
    assert_eq!(docs.put("a", "x", Precondition::Any).expect("put").time_ms, 1_501);
    assert_eq!(store.snapshot_at(at(1_500)).expect("snapshot").seq(), seq);
}
