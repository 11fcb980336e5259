//! What a transaction is beyond its isolation: own writes, limits, repetition, ends.

use etagdb::{Error, Etag, MAX_BATCH_OPERATIONS, MAX_TRANSACTION_ATTEMPTS, Precondition, ScanRange, Transaction};

use crate::{Fixture, text};

fn ids(txn: &Transaction, collection: &etagdb::Collection, range: &ScanRange) -> Vec<String> {
    let scan = txn.scan(collection, range).expect("scan");
    scan.map(|entry| String::from_utf8(entry.expect("entry").0.to_vec()).expect("UTF-8")).collect()
}

#[test]
fn own_writes_are_seen_and_nobody_elses() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for id in ["b", "d", "f"] {
        docs.put(id, "old", Precondition::Absent).expect("put");
    }
    let mut txn = fixture.store.begin();
    for id in ["a", "c", "d", "g"] {
        txn.put(&docs, id, "new", Precondition::Any).expect("put");
    }
    txn.delete(&docs, "b", Precondition::Present).expect("delete");
    txn.put(&docs, "c", "gone", Precondition::Present).expect("put");
    txn.delete(&docs, "c", Precondition::Any).expect("delete");
    docs.put("e", "another's", Precondition::Absent).expect("put");

    let own = txn.get(&docs, "d").expect("get").expect("there");
    assert_eq!((own.etag, own.seq.get(), own.time_ms, &own.body[..]), (Etag::NEVER, 0, 0, &b"new"[..]));
    assert_eq!(txn.get(&docs, "b").expect("get"), None);
    assert_eq!(txn.get(&docs, "e").expect("get"), None);
    assert_eq!(ids(&txn, &docs, &ScanRange::all()), ["a", "d", "f", "g"]);
    assert_eq!(ids(&txn, &docs, &ScanRange::all().after("a").to("g")), ["d", "f"]);
    assert_eq!(ids(&txn, &docs, &ScanRange::all().from("h").to("c")), [""; 0]);
    assert_eq!(ids(&txn, &docs, &ScanRange::all().reverse()), ["g", "f", "d", "a"]);
    assert_eq!(ids(&txn, &docs, &ScanRange::all().after("a").to("g").reverse()), ["f", "d"]);
    assert_eq!(text(&docs, "a"), None, "nobody else sees them");
}

#[test]
fn a_commit_writes_each_document_once_in_the_order_of_the_writes() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let old = docs.put("x", "old", Precondition::Absent).expect("put");
    let mut txn = fixture.store.begin();
    for (id, body) in [("x", "1"), ("b", "1"), ("a", "1"), ("b", "2")] {
        txn.put(&docs, id, body, Precondition::Any).expect("put");
    }
    txn.delete(&docs, "never there", Precondition::Any).expect("delete");
    let committed = txn.commit().expect("commit");
    let written = |id| committed.written(&docs, id).expect("written");
    let first = old.seq.get() + 1;
    assert_eq!([written("x"), written("a"), written("b")].map(|w| w.seq.get()), [first, first + 1, first + 2]);
    assert_eq!(committed.seq(), written("b").seq);
    assert_eq!(written("x").replaced, Some(old.etag));
    assert_eq!(committed.written(&docs, "never there"), None);
    assert_eq!(docs.get("b").expect("get").expect("there").etag, written("b").etag);
    assert_eq!(text(&docs, "b").as_deref(), Some("2"));
}

#[test]
fn a_failed_commit_writes_nothing() {
    let fixture = Fixture::new();
    let (docs, others) = (fixture.collection("docs"), fixture.collection("others"));
    let mut txn = fixture.store.begin();
    assert_eq!(txn.get(&docs, "a").expect("get"), None);
    txn.put(&others, "x", "1", Precondition::Any).expect("put");
    txn.put(&docs, "b", "1", Precondition::Any).expect("put");
    let won = docs.put("a", "1", Precondition::Absent).expect("put");
    match txn.commit() {
        Err(Error::Conflict(conflict)) => {
            assert_eq!((conflict.collection.as_str(), &conflict.id[..]), ("docs", &b"a"[..]));
            assert_eq!((conflict.expected, conflict.current), (Precondition::Absent, Some(won.etag)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((text(&others, "x"), text(&docs, "b")), (None, None));
    assert_eq!(fixture.store.last_commit(), won.seq);
}

#[test]
fn what_was_not_read_may_change() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for id in ["a", "b", "c"] {
        docs.put(id, "old", Precondition::Absent).expect("put");
    }
    let mut txn = fixture.store.begin();
    assert!(txn.get(&docs, "a").expect("get").is_some());
    // As far as it was read: up to "b".
    let seen: Vec<_> = txn.scan(&docs, &ScanRange::all()).expect("scan").take(2).collect();
    assert_eq!(seen.len(), 2);
    // Made, and not read at all.
    drop(txn.scan(&docs, &ScanRange::all()).expect("scan"));
    txn.put(&docs, "z", "new", Precondition::Any).expect("put");
    docs.put("c", "new", Precondition::Present).expect("put");
    docs.put("d", "new", Precondition::Absent).expect("put");
    docs.put("z", "another's", Precondition::Absent).expect("put");
    txn.commit().expect("nothing that it read has changed");
    assert_eq!(text(&docs, "z").as_deref(), Some("new"));
}

/// On the way back, what was read ends at the other side.
#[test]
fn a_backward_scan_counts_as_far_as_it_was_read() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for id in ["a", "b", "c"] {
        docs.put(id, "old", Precondition::Absent).expect("put");
    }
    let begin = |documents: usize| {
        let mut txn = fixture.store.begin();
        let seen = txn.scan(&docs, &ScanRange::all().reverse()).expect("scan").take(documents).count();
        assert_eq!(seen, documents.min(3));
        txn.put(&docs, format!("written {documents}"), "new", Precondition::Any).expect("put");
        txn
    };
    let (two, three, all) = (begin(2), begin(3), begin(usize::MAX));
    docs.put("0", "new", Precondition::Absent).expect("put");
    assert!(matches!(all.commit(), Err(Error::Conflict(conflict)) if conflict.id == "0"));
    docs.put("a", "new", Precondition::Any).expect("put");
    assert!(matches!(three.commit(), Err(Error::Conflict(conflict)) if conflict.id == "a"));
    two.commit().expect("neither is among the two that it read");
    let (one, two) = (begin(1), begin(2));
    docs.put("z", "behind the last", Precondition::Absent).expect("put");
    assert!(matches!(one.commit(), Err(Error::Conflict(conflict)) if conflict.id == "z"));
    drop(two);
}

#[test]
fn a_scan_that_is_leaked_counts_all_the_same() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("a", "old", Precondition::Absent).expect("put");
    docs.put("b", "old", Precondition::Absent).expect("put");
    let mut txn = fixture.store.begin();
    let mut scan = txn.scan(&docs, &ScanRange::all()).expect("scan");
    assert!(scan.next().is_some());
    std::mem::forget(scan);
    txn.put(&docs, "x", "new", Precondition::Any).expect("put");
    docs.put("a", "new", Precondition::Any).expect("put");
    assert!(matches!(txn.commit(), Err(Error::Conflict(_))));
}

/// The state is as it was read, whatever happened in between.
#[test]
fn a_document_that_came_and_went_is_no_conflict() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut point = fixture.store.begin();
    let mut range = fixture.store.begin();
    assert_eq!(point.get(&docs, "a").expect("get"), None);
    assert_eq!(ids(&range, &docs, &ScanRange::all()), [""; 0]);
    docs.put("a", "1", Precondition::Absent).expect("put");
    docs.delete("a", Precondition::Present).expect("delete");
    let others = fixture.collection("others");
    for (id, txn) in [("point", &mut point), ("range", &mut range)] {
        txn.put(&others, id, "1", Precondition::Any).expect("put");
    }
    point.commit().expect("commit");
    range.commit().expect("commit");
}

/// The transaction's own thread walks most of a long feed, the leader the rest; neither may miss anything.
#[test]
fn a_change_is_found_wherever_it_is_in_a_long_feed() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let noise = fixture.collection("noise");
    let make_noise = |writes: usize| {
        let mut batch = fixture.store.batch();
        for n in 0..writes {
            batch.put(&noise, n.to_string(), "x", Precondition::Any);
        }
        batch.commit().expect("commit");
    };
    for (before, after) in [(0, 0), (3, 500), (500, 3), (500, 500), (3, 3)] {
        let (mut changed, mut unchanged) = (fixture.store.begin(), fixture.store.begin());
        for txn in [&changed, &unchanged] {
            txn.scan(&docs, &ScanRange::prefix("a")).expect("scan").for_each(drop);
            txn.get(&docs, "b").expect("get");
        }
        changed.get(&docs, "hot").expect("get");
        if before > 0 {
            make_noise(before);
        }
        docs.put("hot", "x", Precondition::Any).expect("put");
        if after > 0 {
            make_noise(after);
        }
        for txn in [&mut changed, &mut unchanged] {
            txn.put(&docs, "own", "x", Precondition::Any).expect("put");
        }
        assert!(matches!(changed.commit(), Err(Error::Conflict(c)) if c.id == "hot"), "{before}, {after}");
        unchanged.commit().expect("nothing that it read has changed");
    }
}

#[test]
fn preconditions_are_judged_by_what_the_transaction_sees() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let old = docs.put("a", "old", Precondition::Absent).expect("put");
    let mut txn = fixture.store.begin();
    let new = docs.put("a", "new", old.etag).expect("put");
    let conflict = |result| match result {
        Err(Error::Conflict(conflict)) => (conflict.expected, conflict.current),
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(txn.put(&docs, "a", "x", new.etag)), (Precondition::Match(new.etag), Some(old.etag)));
    assert_eq!(conflict(txn.delete(&docs, "b", Precondition::Present)), (Precondition::Present, None));
    txn.put(&docs, "b", "own", Precondition::Absent).expect("put");
    assert_eq!(conflict(txn.put(&docs, "b", "x", Precondition::Absent)), (Precondition::Absent, Some(Etag::NEVER)));
    assert_eq!(
        conflict(txn.put(&docs, "b", "x", Etag::NEVER)),
        (Precondition::Match(Etag::NEVER), Some(Etag::NEVER)),
        "nobody can hold the etag of a version that is not there yet"
    );
    txn.put(&docs, "b", "own again", Precondition::Present).expect("put");
    // The precondition held of the snapshot, and does not hold any more.
    txn.put(&docs, "a", "x", old.etag).expect("put");
    assert_eq!(conflict(txn.commit().map(drop)), (Precondition::Match(old.etag), Some(new.etag)));
    assert_eq!(text(&docs, "b"), None);
}

#[test]
fn transact_runs_again_until_it_fits() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut attempts = 0;
    let value = fixture.store.transact(|txn| -> etagdb::Result<_> {
        attempts += 1;
        let seen = txn.get(&docs, "a")?.map(|document| document.body);
        if attempts < 3 {
            docs.put("a", attempts.to_string(), Precondition::Any)?;
        }
        txn.put(&docs, "b", "1", Precondition::Any)?;
        Ok(seen)
    });
    assert_eq!((value.expect("committed"), attempts), (Some("2".into()), 3));
}

#[test]
fn transact_gives_up_in_the_end() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut attempts = 0;
    let result = fixture.store.transact(|txn| -> etagdb::Result<()> {
        attempts += 1;
        txn.get(&docs, "a")?;
        docs.put("a", "x", Precondition::Any)?;
        txn.put(&docs, "b", "1", Precondition::Any)
    });
    assert!(matches!(result, Err(Error::Conflict(conflict)) if conflict.id == "a"));
    assert_eq!(attempts, MAX_TRANSACTION_ATTEMPTS);
    assert_eq!(text(&docs, "b"), None);
}

#[derive(Debug)]
enum Refusal {
    TooPoor,
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Store(error)
    }
}

#[test]
fn an_error_from_within_ends_the_transaction_and_is_the_callers_own() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut attempts = 0;
    let result: Result<(), Refusal> = fixture.store.transact(|txn| {
        attempts += 1;
        txn.put(&docs, "a", "1", Precondition::Any)?;
        Err(Refusal::TooPoor)
    });
    assert!(matches!(result, Err(Refusal::TooPoor)));
    let result: Result<(), Refusal> = fixture.store.transact(|txn| {
        attempts += 1;
        Ok(txn.put(&docs, "a", "1", Etag::NEVER)?)
    });
    assert!(matches!(result, Err(Refusal::Store(Error::Conflict(_)))));
    assert_eq!((attempts, text(&docs, "a")), (2, None));
}

#[test]
fn a_panic_within_leaves_no_trace() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let panicked = std::panic::catch_unwind(|| {
        fixture.store.transact(|txn| -> etagdb::Result<()> {
            txn.put(&docs, "a", "1", Precondition::Any)?;
            panic!("in the middle of it");
        })
    });
    assert!(panicked.is_err());
    assert_eq!(fixture.store.stats().snapshots, 0);
    docs.put("a", "2", Precondition::Absent).expect("put");
}

#[test]
fn a_transaction_holds_the_watermark_until_it_ends() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let first = docs.put("a", "1", Precondition::Any).expect("put").seq;
    let (committed, aborted, dropped) = (fixture.store.begin(), fixture.store.begin(), fixture.store.begin());
    docs.put("a", "2", Precondition::Any).expect("put");
    for txn in [&committed, &aborted, &dropped] {
        assert_eq!(txn.seq(), first);
    }
    assert_eq!(fixture.store.watermark(), first);
    committed.commit().expect("commit");
    aborted.abort();
    drop(dropped);
    assert_eq!(fixture.store.stats().snapshots, 0);
}

#[test]
fn a_transaction_can_leave_the_thread_and_outlive_the_store_handle() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut txn = fixture.store.begin();
    let Fixture { store, dir } = fixture;
    drop(store);
    let seq = std::thread::spawn(move || {
        txn.put(&docs, "a", "1", Precondition::Absent).expect("put");
        txn.commit().expect("commit").seq()
    });
    assert_eq!(seq.join().expect("joined").get(), 1);
    drop(dir);
}

#[test]
fn a_dropped_collection_ends_the_transactions_that_used_it() {
    let fixture = Fixture::new();
    let (docs, others) = (fixture.collection("docs"), fixture.collection("others"));
    docs.put("a", "1", Precondition::Any).expect("put");
    let (mut point, mut range, mut writer) = (fixture.store.begin(), fixture.store.begin(), fixture.store.begin());
    point.get(&docs, "a").expect("get");
    range.scan(&docs, &ScanRange::all()).expect("scan").for_each(drop);
    writer.put(&docs, "b", "1", Precondition::Any).expect("put");
    for txn in [&mut point, &mut range] {
        txn.put(&others, "x", "1", Precondition::Any).expect("put");
    }
    fixture.store.drop_collection("docs").expect("drop");
    assert!(matches!(point.get(&docs, "a"), Err(Error::Invalid(_))));
    for txn in [point, range, writer] {
        assert!(matches!(txn.commit(), Err(Error::Invalid(message)) if message.contains("docs")));
    }
    assert_eq!(text(&others, "x"), None);
}

#[test]
fn what_is_beyond_the_limits_is_refused_and_changes_nothing() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let foreign = Fixture::new().collection("docs");
    let mut txn = fixture.store.begin();
    let invalid = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
    invalid(txn.put(&docs, "", "x", Precondition::Any));
    invalid(txn.put(&docs, vec![b'x'; etagdb::MAX_ID_BYTES + 1], "x", Precondition::Any));
    invalid(txn.put(&docs, "a", vec![0; etagdb::MAX_BODY_BYTES + 1], Precondition::Any));
    invalid(txn.put(&foreign, "a", "x", Precondition::Any));
    invalid(txn.delete(&foreign, "a", Precondition::Any));
    invalid(txn.get(&foreign, "a").map(drop));
    invalid(txn.scan(&foreign, &ScanRange::all()).map(drop));
    assert_eq!(txn.get(&docs, "").expect("no document can have this id"), None);

    for n in 0..MAX_BATCH_OPERATIONS {
        txn.put(&docs, n.to_string(), "", Precondition::Any).expect("put");
    }
    invalid(txn.put(&docs, "one more", "x", Precondition::Any));
    invalid(txn.get(&docs, "one more").map(drop));
    invalid(txn.scan(&docs, &ScanRange::all()).map(drop));
    let committed = txn.commit().expect("commit");
    assert_eq!(committed.seq().get(), MAX_BATCH_OPERATIONS as u64);

    let mut txn = fixture.store.begin();
    let large = vec![0; etagdb::MAX_BODY_BYTES - 1];
    for id in ["a", "b", "c"] {
        txn.put(&docs, id, &large, Precondition::Any).expect("put");
    }
    txn.put(&docs, "c", "small", Precondition::Any).expect("what is written over counts no more");
    txn.put(&docs, "c", &large, Precondition::Any).expect("put");
    txn.put(&docs, "d", vec![0; etagdb::MAX_BODY_BYTES - 1000], Precondition::Any).expect("put");
    invalid(txn.put(&docs, "e", vec![0; 1000], Precondition::Any));
}

#[test]
fn a_commit_inside_an_update_closure_is_refused() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.update("a", |_| {
        let mut txn = fixture.store.begin();
        assert_eq!(txn.get(&docs, "a").expect("reading waits for nobody"), None);
        txn.put(&docs, "b", "1", Precondition::Any).expect("put");
        assert!(matches!(txn.commit(), Err(Error::Invalid(_))));
        Ok(etagdb::Change::Keep)
    })
    .expect("update");
}
