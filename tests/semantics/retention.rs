//! Retention: what is dropped, when, what is kept, and what a reader of the dropped past is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use etagdb::{
    Change, Collection, CollectionTtl, CommitSeq, Error, Options, PinKind, Precondition, Retention, ScanRange, Store,
};

use crate::{Timed, text};

fn seconds(count: u64) -> Retention {
    Retention::age(Duration::from_secs(count))
}

/// What document `id` was as of each commit: its body, nothing, or "dropped".
fn as_of(store: &Store, docs: &Collection, id: &str, seqs: &[CommitSeq]) -> Vec<String> {
    let read = |&seq: &CommitSeq| match store.snapshot_at(seq).and_then(|snapshot| snapshot.get(docs, id)) {
        Ok(Some(document)) => String::from_utf8(document.body.to_vec()).expect("UTF-8"),
        Ok(None) => "-".to_owned(),
        Err(Error::NotRetained { asked, oldest }) => {
            assert!(asked == seq && oldest > seq, "{asked} {oldest}");
            "dropped".to_owned()
        }
        Err(error) => panic!("{error}"),
    };
    seqs.iter().map(read).collect()
}

fn dropped(timed: &Timed) -> u64 {
    timed.fixture.store.run_maintenance().expect("maintenance").dropped
}

/// Writes "1" to "4" at 1, 2, 3 and 4 seconds and returns the commits.
fn four_versions(timed: &Timed, docs: &Collection) -> Vec<CommitSeq> {
    let put = |second: u64| {
        timed.clock.set(second * 1000);
        docs.put("a", second.to_string(), Precondition::Any).expect("put").seq
    };
    (1..=4).map(put).collect()
}

#[test]
fn a_version_is_kept_for_the_age_after_it_was_superseded_to_the_millisecond() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(10)).expect("set");
    let seqs = four_versions(&timed, &docs);
    let read = || as_of(&timed.fixture.store, &docs, "a", &seqs);

    // Version 1 was superseded at 2 s.
    timed.clock.set(11_999);
    assert_eq!(dropped(&timed), 0);
    assert_eq!(read(), ["1", "2", "3", "4"]);
    assert_eq!(docs.horizon(), CommitSeq::new(0));
    timed.clock.set(12_000);
    assert_eq!(dropped(&timed), 1);
    assert_eq!(read(), ["dropped", "2", "3", "4"]);
    assert_eq!((docs.horizon(), timed.fixture.store.horizon()), (seqs[1], seqs[1]));
    timed.clock.set(1_000_000);
    assert_eq!(dropped(&timed), 2);
    assert_eq!(read(), ["dropped", "dropped", "dropped", "4"]);
    assert_eq!(dropped(&timed), 0);
}

#[test]
fn nothing_is_dropped_while_the_clock_is_set_back() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(10)).expect("set");
    let seqs = four_versions(&timed, &docs);
    timed.clock.set(0);
    assert_eq!(dropped(&timed), 0);
    // A commit keeps the time of the one before it, and time goes on from there.
    docs.put("a", "5", Precondition::Any).expect("put");
    assert_eq!(dropped(&timed), 0);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["1", "2", "3", "4"]);
}

#[test]
fn the_newest_superseded_versions_are_kept_by_count_however_old() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0).versions(2)).expect("set");
    let seqs = four_versions(&timed, &docs);
    docs.put("b", "1", Precondition::Any).expect("put");
    docs.put("b", "2", Precondition::Any).expect("put");
    timed.clock.set(1_000_000);
    assert_eq!(dropped(&timed), 1);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["dropped", "2", "3", "4"]);
    docs.put("a", "5", Precondition::Any).expect("put");
    assert_eq!(dropped(&timed), 1);
    // A deleted document keeps nothing by count.
    docs.delete("a", Precondition::Any).expect("delete");
    docs.put("c", "1", Precondition::Any).expect("put");
    assert_eq!(dropped(&timed), 4);
}

#[test]
fn fewer_or_no_versions_by_count_are_dropped_when_the_policy_changes() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0).versions(3)).expect("set");
    let seqs = four_versions(&timed, &docs);
    assert_eq!(dropped(&timed), 0);
    docs.set_retention(seconds(0).versions(1)).expect("set");
    assert_eq!(dropped(&timed), 2);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["dropped", "dropped", "3", "4"]);
    // Keeping more from now on brings nothing back.
    docs.set_retention(Retention::FOREVER).expect("set");
    docs.put("a", "5", Precondition::Any).expect("put");
    timed.clock.set(u64::MAX / 2_000_000);
    assert_eq!(dropped(&timed), 0);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["dropped", "dropped", "3", "4"]);
    docs.set_retention(seconds(0)).expect("set");
    assert_eq!(dropped(&timed), 2);
}

#[test]
fn a_policy_and_a_horizon_survive_a_reopen() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    assert_eq!(docs.retention(), seconds(600));
    docs.set_retention(seconds(2).versions(1)).expect("set");
    let seqs = four_versions(&timed, &docs);
    assert_eq!(dropped(&timed), 1);
    drop(docs);
    let timed = timed.reopen();
    let docs = timed.fixture.collection("docs");
    assert_eq!((docs.retention(), docs.horizon()), (seconds(2).versions(1), seqs[1]));
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["dropped", "2", "3", "4"]);
    timed.clock.set(100_000);
    assert_eq!(dropped(&timed), 1);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &seqs), ["dropped", "dropped", "3", "4"]);
}

#[test]
fn a_snapshot_keeps_exactly_what_it_reads_until_it_is_gone() {
    let timed = Timed::new();
    let store = &timed.fixture.store;
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0)).expect("set");
    let put = |id: &str, body: &str| docs.put(id, body, Precondition::Any).expect("put").seq;
    put("a", "1");
    put("b", "1");
    put("a", "2");
    docs.delete("b", Precondition::Any).expect("delete");
    // No maintenance has run yet, so the past is still there.
    let past = store.snapshot_at(CommitSeq::new(2)).expect("snapshot");
    let now = store.snapshot();
    put("a", "3");
    put("a", "4");
    put("b", "2");
    put("b", "3");

    let read = |snapshot: &etagdb::Snapshot, id| snapshot.get(&docs, id).expect("get").map(|document| document.body);
    let see = || [read(&past, "a"), read(&past, "b"), read(&now, "a"), read(&now, "b")];
    let whole = [Some("1".into()), Some("1".into()), Some("2".into()), None];
    assert_eq!(see(), whole);
    // Superseded and read by neither: "3" of a and "2" of b.
    assert_eq!(dropped(&timed), 2);
    assert_eq!(see(), whole);
    assert_eq!(past.scan(&docs, &ScanRange::all()).expect("scan").count(), 2);
    assert_eq!(now.scan(&docs, &ScanRange::all()).expect("scan").count(), 1);
    assert!(matches!(store.snapshot_at(CommitSeq::new(2)), Err(Error::NotRetained { .. })));

    drop(past);
    assert_eq!(dropped(&timed), 2, "\"1\" of both");
    assert_eq!(read(&now, "a"), Some("2".into()));
    assert_eq!(read(&now, "b"), None);
    drop(now);
    assert_eq!(dropped(&timed), 2, "\"2\" of a and the tombstone of b");
    assert_eq!((text(&docs, "a").as_deref(), text(&docs, "b").as_deref()), (Some("4"), Some("3")));
}

#[test]
fn what_a_snapshot_kept_is_dropped_after_a_reopen_too() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0)).expect("set");
    docs.put("a", "1", Precondition::Any).expect("put");
    let snapshot = timed.fixture.store.snapshot();
    for body in ["2", "3", "4"] {
        docs.put("a", body, Precondition::Any).expect("put");
    }
    assert_eq!(dropped(&timed), 2);
    drop(snapshot);
    drop(docs);
    let timed = timed.reopen();
    assert_eq!(dropped(&timed), 1);
}

#[test]
fn what_a_snapshot_kept_goes_once_a_cursor_has_passed_the_next_version_that_is_left() {
    let timed = Timed::new();
    let (store, docs) = (&timed.fixture.store, timed.fixture.collection("docs"));
    docs.set_retention(Retention::age(Duration::ZERO)).expect("set");
    let put = |body: &str| docs.put("a", body, Precondition::Any).expect("put").seq;
    let one = put("1");
    let snapshot = store.snapshot();
    let (two, three) = (put("2"), put("3"));
    assert_eq!(dropped(&timed), 1, "2, and the snapshot keeps 1");
    drop(snapshot);
    // That 2 superseded 1 is no longer known, so 1 counts as superseded by 3.
    store.register_cursor("audit", two).expect("register");
    put("4");
    let seqs = || {
        let history = docs.history("a").expect("history");
        history.map(|version| version.expect("read").seq).collect::<Vec<_>>()
    };
    assert_eq!(dropped(&timed), 0);
    assert_eq!(seqs().last(), Some(&one));
    store.advance_cursor("audit", three).expect("advance");
    assert_eq!(dropped(&timed), 1);
    assert_eq!(seqs().last(), Some(&three));
}

#[test]
fn a_tombstone_goes_when_it_is_old_itself() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(10)).expect("set");
    docs.put("a", "1", Precondition::Any).expect("put");
    let before = timed.fixture.store.last_commit();
    timed.clock.set(5_000);
    let deleted = docs.delete("a", Precondition::Any).expect("delete").expect("was there").seq;
    docs.put("b", "1", Precondition::Any).expect("put");
    timed.clock.set(14_999);
    assert_eq!(dropped(&timed), 0);
    assert_eq!(as_of(&timed.fixture.store, &docs, "a", &[before, deleted]), ["1", "-"]);
    timed.clock.set(15_000);
    assert_eq!(dropped(&timed), 2);
    assert_eq!(docs.put("a", "2", Precondition::Absent).expect("put").replaced, None);
}

#[test]
fn the_last_commit_keeps_its_place_though_it_is_a_tombstone() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0)).expect("set");
    docs.put("a", "1", Precondition::Any).expect("put");
    let deleted = docs.delete("a", Precondition::Any).expect("delete").expect("was there").seq;
    assert_eq!(dropped(&timed), 1);
    assert_eq!(dropped(&timed), 0);
    drop(docs);
    let timed = timed.reopen();
    assert_eq!(timed.fixture.store.last_commit(), deleted);
    let docs = timed.fixture.collection("docs");
    assert!(docs.put("b", "1", Precondition::Any).expect("put").seq > deleted);
    assert_eq!(dropped(&timed), 1);
}

/// The newest commit at some time within the age is what a reader of that time finds. A tombstone that was dropped too
/// soon once had such readers refused.
#[test]
fn every_state_within_the_age_can_be_read() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(10)).expect("set");
    docs.put("kept", "1", Precondition::Any).expect("put");
    docs.put("a", "1", Precondition::Any).expect("put");
    docs.delete("a", Precondition::Any).expect("delete");
    timed.clock.set(20_000);
    docs.put("b", "1", Precondition::Any).expect("put");
    assert_eq!(dropped(&timed), 1, "what was deleted, and not yet the tombstone");
    let at = UNIX_EPOCH + Duration::from_secs(15);
    assert!(docs.get_as_of("a", at).expect("within the age").is_none());
    let then = timed.fixture.store.snapshot_at(at).expect("within the age");
    assert_eq!(then.scan(&docs, &ScanRange::all()).expect("scan").count(), 1);
    drop((then, docs));
    // Remembered after a reopen, too.
    let timed = timed.reopen();
    assert_eq!(dropped(&timed), 0);
    timed.clock.set(29_999);
    assert_eq!(dropped(&timed), 0);
    timed.clock.set(30_000);
    assert_eq!(dropped(&timed), 1);
}

/// A document once came back from its delete: its tombstone was dropped while a snapshot held an older version, in the
/// pass over the feed that followed a change of the policy.
#[test]
fn a_tombstone_stays_as_long_as_a_snapshot_holds_what_it_hides() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(Retention::FOREVER).expect("set");
    let first = docs.put("a", "1", Precondition::Any).expect("put").seq;
    docs.put("a", "2", Precondition::Any).expect("put");
    docs.set_retention(seconds(0)).expect("set");
    let snapshot = timed.fixture.store.snapshot_at(first).expect("kept");
    docs.delete("a", Precondition::Any).expect("delete");
    docs.put("b", "1", Precondition::Any).expect("put");
    assert_eq!(dropped(&timed), 1, "the second version");
    assert_eq!(snapshot.get(&docs, "a").expect("get").expect("held").body, "1");
    drop((snapshot, docs));
    let timed = timed.reopen();
    assert_eq!(text(&timed.fixture.collection("docs"), "a"), None, "it was deleted");
    assert_eq!(dropped(&timed), 2);
    assert_eq!(text(&timed.fixture.collection("docs"), "a"), None);
}

#[test]
fn each_collection_has_its_own_past() {
    let timed = Timed::new();
    let store = &timed.fixture.store;
    let (brief, long) = (timed.fixture.collection("brief"), timed.fixture.collection("long"));
    brief.set_retention(seconds(0)).expect("set");
    long.set_retention(seconds(1_000)).expect("set");
    let put = |docs: &Collection, body: &str| docs.put("a", body, Precondition::Any).expect("put").seq;
    put(&brief, "1");
    let middle = put(&long, "1");
    let early = store.snapshot_at(middle).expect("snapshot");
    put(&brief, "2");
    put(&long, "2");
    assert_eq!(dropped(&timed), 0, "the snapshot reads both");
    drop(early);
    assert_eq!(dropped(&timed), 1);

    let snapshot = store.snapshot_at(middle).expect("one collection is whole there");
    assert_eq!(snapshot.get(&long, "a").expect("get").expect("there").body, "1");
    let error = snapshot.get(&brief, "a").expect_err("dropped");
    assert!(matches!(error, Error::NotRetained { asked, oldest } if asked == middle && oldest == brief.horizon()));
    assert!(matches!(snapshot.scan(&brief, &ScanRange::all()), Err(Error::NotRetained { .. })));
    assert_eq!((long.horizon(), store.horizon()), (CommitSeq::new(0), brief.horizon()));
}

#[test]
fn stats_say_what_pins_the_past_and_since_when() {
    let timed = Timed::new();
    let store = &timed.fixture.store;
    let docs = timed.fixture.collection("docs");
    let first = docs.put("a", "1", Precondition::Any).expect("put").seq;
    timed.clock.set(7_000);
    let snapshot = store.snapshot();
    let second = docs.put("a", "2", Precondition::Any).expect("put").seq;
    timed.clock.set(8_000);
    let newer = store.snapshot();
    let pins = store.stats().pins;
    assert_eq!(pins.len(), 2);
    assert_eq!((&pins[0].kind, pins[0].seq), (&PinKind::Snapshot, first));
    assert_eq!(pins[0].since, UNIX_EPOCH + Duration::from_secs(7));
    assert_eq!(pins[1].seq, second);
    drop((snapshot, newer));
    assert_eq!(store.stats().pins, []);
}

#[test]
fn settings_and_maintenance_are_refused_inside_an_update_closure() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    let update = docs.update("a", |_| {
        assert!(matches!(docs.set_retention(seconds(0)), Err(Error::Invalid(_))));
        assert!(matches!(docs.set_ttl(CollectionTtl::Off), Err(Error::Invalid(_))));
        assert!(matches!(timed.fixture.store.run_maintenance(), Err(Error::Invalid(_))));
        Ok(Change::Keep)
    });
    update.expect("update");
}

#[test]
fn many_versions_of_many_documents_come_down_to_one_each() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_retention(seconds(0)).expect("set");
    // More than a step and more than a write batch of deletions.
    for round in 0..12 {
        let mut batch = timed.fixture.store.batch();
        for id in 0..3_000u32 {
            batch.put(&docs, id.to_be_bytes(), format!("{round}"), Precondition::Any);
        }
        batch.commit().expect("commit");
    }
    let mut hot = timed.fixture.store.batch();
    for round in 0..25_000 {
        hot.put(&docs, "hot", format!("{round}"), Precondition::Any);
    }
    hot.commit().expect("commit");
    assert_eq!(dropped(&timed), 11 * 3_000 + 24_999);
    let bodies: Vec<_> =
        docs.scan(&ScanRange::all()).expect("scan").map(|entry| entry.expect("entry").1.body).collect();
    assert_eq!(bodies.len(), 3_001);
    assert!(bodies.iter().all(|body| body == "11" || body == "24999"));
}

/// Readers without a hold: whatever they choose to read at may be superseded and dropped before they read.
#[test]
fn plain_reads_never_miss_a_document_that_is_being_updated_and_trimmed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options::default().durability(etagdb::Durability::Buffered).background_maintenance(false);
    let store = options.open(dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    docs.set_retention(seconds(0)).expect("set");
    for id in ["a", "b"] {
        docs.put(id, "0", Precondition::Any).expect("put");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    store.run_maintenance().expect("maintenance");
                }
            });
        }
        let readers: Vec<_> = (0..6)
            .map(|reader| {
                let (store, docs, done) = (&store, &docs, &done);
                scope.spawn(move || {
                    let (mut last, mut reads) = (0, 0u64);
                    while !done.load(Ordering::Relaxed) {
                        let value: u64 = match reader % 3 {
                            0 => text(docs, "a").expect("never absent").parse().expect("number"),
                            1 => {
                                let bodies: Vec<_> = docs
                                    .scan(&ScanRange::all())
                                    .expect("scan")
                                    .map(|entry| entry.expect("entry").1.body)
                                    .collect();
                                assert_eq!(bodies.len(), 2, "a scan missed a document");
                                assert_eq!(bodies[0], bodies[1], "a scan split a batch");
                                String::from_utf8_lossy(&bodies[0]).parse().expect("number")
                            }
                            _ => {
                                let snapshot = store.snapshot();
                                let read = |id| snapshot.get(docs, id).expect("get").expect("never absent").body;
                                let (a, b) = (read("a"), read("b"));
                                assert_eq!(a, b, "a snapshot split a batch");
                                String::from_utf8_lossy(&a).parse().expect("number")
                            }
                        };
                        assert!(value >= last, "reader {reader} went back from {last} to {value}");
                        last = value;
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for value in 1..=20_000u64 {
            let mut batch = store.batch();
            batch.put(&docs, "a", value.to_string(), Precondition::Any);
            batch.put(&docs, "b", value.to_string(), Precondition::Any);
            batch.commit().expect("commit");
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("joined") > 0);
        }
    });
}
