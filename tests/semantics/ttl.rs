//! Time to live: when a document is gone, for whom, and what that leaves behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etagdb::{
    Change, Collection, CollectionTtl, CommitSeq, DocumentTtl, Error, Precondition, PutOptions, Retention, ScanRange,
};

use crate::{TestClock, Timed, text};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ttl(after_ms: u64) -> PutOptions {
    PutOptions::default().ttl(ms(after_ms))
}

/// Commits what has expired, and says how many that were.
fn expired(timed: &Timed) -> u64 {
    timed.fixture.store.run_maintenance().expect("maintenance").expired
}

fn ids(docs: &Collection) -> Vec<String> {
    let scan = docs.scan(&ScanRange::all()).expect("scan");
    scan.map(|entry| String::from_utf8_lossy(&entry.expect("entry").0).into_owned()).collect()
}

#[test]
fn an_expired_document_is_absent_for_everybody_from_its_millisecond_on() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    let written = docs.put_with("a", "1", Precondition::Absent, ttl(500)).expect("put");
    let holds = |precondition: Precondition| {
        let mut batch = timed.fixture.store.batch();
        batch.check(&docs, "a", precondition);
        match batch.commit() {
            Ok(_) => true,
            Err(Error::Conflict(conflict)) => {
                assert_eq!(conflict.current, docs.get("a").expect("get").map(|document| document.etag));
                false
            }
            Err(error) => panic!("{error}"),
        }
    };
    let shown = || {
        let mut shown = None;
        let update = docs.update("a", |current| {
            shown = Some(current.is_some());
            Ok(Change::Keep)
        });
        assert_eq!(update.expect("update"), None);
        shown.expect("asked")
    };
    let everybody = || {
        let snapshot = timed.fixture.store.snapshot();
        [
            docs.get("a").expect("get").is_some(),
            !ids(&docs).is_empty(),
            snapshot.get(&docs, "a").expect("get").is_some(),
            snapshot.scan(&docs, &ScanRange::all()).expect("scan").next().is_some(),
            holds(Precondition::Present),
            holds(Precondition::Match(written.etag)),
            !holds(Precondition::Absent),
            shown(),
        ]
    };
    timed.clock.set(1_499);
    assert_eq!(everybody(), [true; 8]);
    assert_eq!(docs.get("a").expect("get").expect("there").ttl, DocumentTtl::After(ms(500)));
    timed.clock.set(1_500);
    assert_eq!(everybody(), [false; 8]);
    assert_eq!(docs.delete("a", Precondition::Any).expect("delete"), None, "there is nothing to delete");
    assert_eq!(timed.fixture.store.last_commit(), written.seq, "nothing was committed yet");
    assert_eq!(expired(&timed), 1);
    assert_eq!(everybody(), [false; 8]);
    assert!(timed.fixture.store.last_commit() > written.seq);
    assert_eq!(expired(&timed), 0);
}

#[test]
fn a_clock_set_back_brings_nothing_back_and_ends_nothing_early() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.put_with("seen", "1", Precondition::Absent, ttl(500)).expect("put");
    timed.clock.set(1_500);
    assert_eq!(text(&docs, "seen"), None);
    timed.clock.set(0);
    assert_eq!(text(&docs, "seen"), None, "it was seen to be gone");
    // Written at 1,500, whatever the clock says, and so it lives until 2,000.
    docs.put_with("new", "1", Precondition::Absent, ttl(500)).expect("put");
    timed.clock.set(1_999);
    assert_eq!(text(&docs, "new").as_deref(), Some("1"));
    timed.clock.set(2_000);
    assert_eq!(text(&docs, "new"), None);
}

#[test]
fn a_collections_default_counts_from_the_last_write_of_documents_that_exist() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    assert_eq!(docs.ttl(), CollectionTtl::Documents);
    docs.put("old", "1", Precondition::Any).expect("put");
    docs.put("renewed", "1", Precondition::Any).expect("put");
    timed.clock.set(2_000);
    docs.put("renewed", "2", Precondition::Any).expect("put");
    timed.clock.set(10_000);
    assert_eq!(ids(&docs), ["old", "renewed"]);

    docs.set_ttl(CollectionTtl::After(ms(8_500))).expect("set");
    assert_eq!(ids(&docs), ["renewed"]);
    docs.set_ttl(CollectionTtl::After(ms(20_000))).expect("set");
    assert_eq!(ids(&docs), ["old", "renewed"], "nothing had been committed");
    docs.set_ttl(CollectionTtl::After(ms(8_500))).expect("set");
    assert_eq!(expired(&timed), 1);
    docs.set_ttl(CollectionTtl::After(ms(20_000))).expect("set");
    assert_eq!(ids(&docs), ["renewed"], "a committed expiry is final");
    timed.clock.set(21_999);
    assert_eq!(expired(&timed), 0);
    timed.clock.set(22_000);
    assert_eq!((ids(&docs).len(), expired(&timed)), (0, 1));
    docs.put("after", "1", Precondition::Any).expect("put");
    docs.set_ttl(CollectionTtl::Documents).expect("set");
    timed.clock.set(1_000_000);
    assert_eq!((ids(&docs), expired(&timed)), (vec!["after".to_owned()], 0));
}

#[test]
fn a_shorter_default_reaches_what_a_longer_one_had_passed_over() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_ttl(CollectionTtl::After(ms(10_000))).expect("set");
    let own = PutOptions::default().document_ttl(DocumentTtl::Never);
    docs.put_with("never", "1", Precondition::Any, own).expect("put");
    docs.put("a", "1", Precondition::Any).expect("put");
    timed.clock.set(5_000);
    docs.put("b", "1", Precondition::Any).expect("put");
    timed.clock.set(11_000);
    assert_eq!(expired(&timed), 1);
    docs.set_ttl(CollectionTtl::After(ms(6_000))).expect("set");
    assert_eq!(expired(&timed), 1);
    assert_eq!(ids(&docs), ["never"]);
}

#[test]
fn a_documents_own_time_to_live_is_set_changed_and_cleared_by_writes() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_ttl(CollectionTtl::After(ms(1_000))).expect("set");
    let never = PutOptions::default().document_ttl(DocumentTtl::Never);
    let put = |id: &str, options: PutOptions| docs.put_with(id, "x", Precondition::Any, options).expect("put");
    for id in ["longer", "shorter", "never", "cleared", "default"] {
        put(id, ttl(50));
    }
    put("longer", ttl(5_000));
    put("shorter", ttl(500));
    put("never", never);
    put("cleared", PutOptions::default());
    docs.update("default", |_| Ok(Change::PutWith(b"y".to_vec(), PutOptions::default()))).expect("update");

    let alive_at = |time: u64| {
        timed.clock.set(time);
        let before = ids(&docs);
        expired(&timed);
        assert_eq!(ids(&docs), before, "the commit of an expiry changes nothing for readers");
        before.join(" ")
    };
    assert_eq!(alive_at(1_400), "cleared default longer never shorter");
    assert_eq!(alive_at(1_500), "cleared default longer never");
    assert_eq!(alive_at(2_000), "longer never");
    assert_eq!(alive_at(6_000), "never");
    assert_eq!(alive_at(1_000_000_000), "never");
    assert!(matches!(docs.put_with("zero", "x", Precondition::Any, ttl(0)), Err(Error::Invalid(_))));
    assert!(matches!(docs.set_ttl(CollectionTtl::After(Duration::ZERO)), Err(Error::Invalid(_))));
    let refused = docs.update("zero", |_| Ok(Change::PutWith(Vec::new(), ttl(0))));
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

#[test]
fn where_expiry_is_off_nothing_expires_until_it_is_on_again() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.put_with("a", "1", Precondition::Any, ttl(500)).expect("put");
    docs.put_with("b", "1", Precondition::Any, ttl(5_000)).expect("put");
    docs.set_ttl(CollectionTtl::Off).expect("set");
    timed.clock.set(2_000);
    assert_eq!((expired(&timed), ids(&docs).len()), (0, 2));
    let snapshot = timed.fixture.store.snapshot();
    docs.set_ttl(CollectionTtl::Documents).expect("set");
    assert_eq!(ids(&docs), ["b"]);
    assert!(snapshot.get(&docs, "a").expect("get").is_some(), "a snapshot keeps the settings of its time");
    assert_eq!(expired(&timed), 1);
    assert!(snapshot.get(&docs, "a").expect("get").is_some());
    timed.clock.set(6_000);
    assert_eq!(expired(&timed), 1);
    assert_eq!(snapshot.scan(&docs, &ScanRange::all()).expect("scan").count(), 2);
}

#[test]
fn a_snapshot_judges_by_the_time_at_which_it_was_taken() {
    let timed = Timed::new();
    let store = &timed.fixture.store;
    let docs = timed.fixture.collection("docs");
    let written = docs.put_with("a", "1", Precondition::Any, ttl(500)).expect("put");
    let alive = store.snapshot();
    timed.clock.set(1_500);
    let gone = store.snapshot();
    let later = docs.put("b", "1", Precondition::Any).expect("put").seq;
    let see = || {
        let past = store.snapshot_at(written.seq).expect("snapshot");
        let after = store.snapshot_at(later).expect("snapshot");
        [&alive, &gone, &past, &after].map(|snapshot| snapshot.get(&docs, "a").expect("get").is_some())
    };
    assert_eq!(see(), [true, false, true, false]);
    assert_eq!(expired(&timed), 1);
    assert_eq!(see(), [true, false, true, false]);
}

#[test]
fn a_write_over_an_expired_document_commits_the_expiry_first() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    let first = docs.put_with("a", "1", Precondition::Any, ttl(500)).expect("put");
    docs.put_with("b", "1", Precondition::Any, ttl(500)).expect("put");
    timed.clock.set(1_500);
    let stale = docs.put("a", "2", first.etag).expect_err("the etag went with the document");
    assert!(matches!(&stale, Error::Conflict(conflict) if conflict.current.is_none()));
    let before = timed.fixture.store.last_commit().get();

    let again = docs.put("a", "2", Precondition::Absent).expect("put");
    assert_eq!((again.seq.get(), again.replaced), (before + 2, None));
    assert_eq!(again.created, again.seq, "another document than the first");
    // In a batch: the results stay with their operations, and later ones see the new document.
    let mut batch = timed.fixture.store.batch();
    batch
        .check(&docs, "b", Precondition::Absent)
        .put(&docs, "b", "2", Precondition::Absent)
        .put(&docs, "b", "3", Precondition::Present)
        .delete(&docs, "b", Precondition::Present);
    let results = batch.commit().expect("commit");
    let seqs: Vec<_> = results.iter().map(|result| result.map(|written| written.seq.get() - before)).collect();
    assert_eq!(seqs, [None, Some(4), Some(5), Some(6)]);
    assert_eq!(results[2].expect("written").created.get(), before + 4);
    assert_eq!(expired(&timed), 0, "nothing is left to expire");
}

#[test]
fn an_expiry_is_a_commit_that_retention_treats_as_a_delete() {
    let timed = Timed::new();
    let store = &timed.fixture.store;
    let docs = timed.fixture.collection("docs");
    docs.set_retention(Retention::age(ms(10_000))).expect("set");
    let written = docs.put_with("a", "1", Precondition::Any, ttl(500)).expect("put");
    timed.clock.set(2_000);
    let maintained = store.run_maintenance().expect("maintenance");
    assert_eq!((maintained.expired, maintained.dropped), (1, 0));
    let seq = CommitSeq::new(written.seq.get() + 1);
    assert_eq!(store.last_commit(), seq);
    docs.put("b", "1", Precondition::Any).expect("put");
    // Superseded when the expiry was committed, at 2,000.
    timed.clock.set(11_999);
    assert_eq!(store.run_maintenance().expect("maintenance").dropped, 0);
    timed.clock.set(12_000);
    assert_eq!(store.run_maintenance().expect("maintenance").dropped, 2);
}

#[test]
fn settings_and_times_survive_a_reopen() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    docs.set_ttl(CollectionTtl::After(ms(1_000))).expect("set");
    docs.put("default", "1", Precondition::Any).expect("put");
    docs.put_with("own", "1", Precondition::Any, ttl(2_000)).expect("put");
    docs.put_with("later", "1", Precondition::Any, ttl(20_000)).expect("put");
    drop(docs);
    let timed = timed.reopen();
    let docs = timed.fixture.collection("docs");
    assert_eq!(docs.ttl(), CollectionTtl::After(ms(1_000)));
    timed.clock.set(2_500);
    assert_eq!(ids(&docs), ["later", "own"]);
    assert_eq!(expired(&timed), 1);
    drop(docs);
    let timed = timed.reopen();
    timed.clock.set(3_000);
    assert_eq!(expired(&timed), 1);
    assert_eq!(ids(&timed.fixture.collection("docs")), ["later"]);
}

#[test]
fn thousands_expire_in_one_pass_and_no_other() {
    let timed = Timed::new();
    let (short, long) = (timed.fixture.collection("short"), timed.fixture.collection("long"));
    short.set_ttl(CollectionTtl::After(ms(1_000))).expect("set");
    long.set_ttl(CollectionTtl::After(ms(100_000))).expect("set");
    let mut batch = timed.fixture.store.batch();
    for id in 0..6_000u32 {
        batch.put(&short, id.to_be_bytes(), "x", Precondition::Any);
        batch.put(&long, id.to_be_bytes(), "x", Precondition::Any);
        batch.put_with(&long, format!("own {id}"), "x", Precondition::Any, ttl(1_500));
    }
    batch.commit().expect("commit");
    timed.clock.set(2_499);
    assert_eq!(expired(&timed), 6_000);
    timed.clock.set(2_500);
    assert_eq!(expired(&timed), 6_000);
    assert_eq!((ids(&short).len(), ids(&long).len()), (0, 6_000));
}

/// A reader that has found a document expired must not see a write succeed that builds on it: the reader came after
/// the end of the document, so the write would have to come before, and then the reader would have seen it.
#[test]
fn no_write_builds_on_a_document_that_somebody_saw_expired() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let clock = TestClock::default();
    clock.set(1);
    let options = Timed::options(&clock).durability(etagdb::Durability::Buffered);
    let store = options.open(dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    let done = AtomicBool::new(false);
    // The last commit when somebody saw that there is no document.
    let absences = Mutex::new(Vec::new());
    // Commit, and whether it built on a document.
    let mut writes: Vec<(u64, bool)> = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Time goes on while writers are under way.
                    clock.advance(1);
                    let before = store.last_commit();
                    let found = docs.get("session").expect("get");
                    if found.is_none() && store.last_commit() == before {
                        absences.lock().expect("lock").push(before.get());
                    }
                }
            });
        }
        for round in 0..20_000u64 {
            let etag = docs.get("session").expect("get").map(|document| document.etag);
            let guard = etag.map_or(Precondition::Absent, Precondition::Match);
            match docs.put_with("session", "x", guard, ttl(1 + round % 40)) {
                Ok(written) => writes.push((written.seq.get(), written.replaced.is_some())),
                Err(Error::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let absences = absences.into_inner().expect("lock");
    assert!(writes.iter().any(|&(_, builds)| builds) && writes.iter().any(|&(_, builds)| !builds));
    for seen in absences {
        let next = writes.partition_point(|&(seq, _)| seq <= seen);
        if let Some((seq, builds)) = writes.get(next) {
            assert!(!builds, "commit {seq} built on a document that was seen to be gone at {seen}");
        }
    }
}

/// The expiry of what was there before is a commit of its own, among those of the batch that finds it.
#[test]
fn a_batch_is_described_right_when_it_commits_expiries_too() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    for id in ["a", "b", "about"] {
        docs.put_with(id, "old", Precondition::Absent, ttl(500)).expect("put");
    }
    timed.clock.set(1_500);
    let mut told = Vec::new();
    let mut batch = timed.fixture.store.batch();
    batch.put(&docs, "a", "new", Precondition::Absent).check(&docs, "none", Precondition::Absent);
    batch.put(&docs, "b", "new", Precondition::Absent).put(&docs, "a", "newer", Precondition::Present);
    batch.delete(&docs, "none", Precondition::Any);
    batch.annotate(&docs, "about", |distances| {
        told = distances.to_vec();
        Ok(Change::Put(Vec::new()))
    });
    let written = batch.commit().expect("commit");
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true, false]);
    let about = docs.get("about").expect("get").expect("written");
    for (distance, written) in told.iter().zip(&written) {
        let (Some(distance), Some(written)) = (distance, written) else { continue };
        let seq = CommitSeq::new(about.seq.get() - distance);
        assert_eq!((seq, about.etag.of_same_batch(seq)), (written.seq, written.etag));
    }
    assert!(told[0].expect("written") > 4, "four writes and two expiries follow it: {told:?}");
}

#[test]
fn a_description_that_is_refused_undoes_its_batch() {
    let timed = Timed::new();
    let docs = timed.fixture.collection("docs");
    let mut batch = timed.fixture.store.batch();
    batch.put(&docs, "a", "new", Precondition::Absent).annotate(&docs, "about", |_| Err(etagdb::Abort));
    assert!(matches!(batch.commit(), Err(Error::Aborted { position: 1 })));
    assert_eq!((text(&docs, "a"), text(&docs, "about")), (None, None));
}
