//! Commits that are waited for as futures, and what a writer is told while others are on their way.

use std::sync::atomic::{AtomicBool, Ordering};

use etagdb::{Change, Collection, CommitHandle, Durability, Error, Options, Precondition, Store};

use crate::{Fixture, text};

fn number(current: Option<&etagdb::Document>) -> u64 {
    current.map_or(0, |document| std::str::from_utf8(&document.body).expect("UTF-8").parse().expect("a number"))
}

fn increment(store: &Store, docs: &Collection, id: &str) -> CommitHandle {
    let mut batch = store.batch();
    batch.update(docs, id, |current| Ok(Change::Put((number(current) + 1).to_string().into_bytes())));
    batch.submit()
}

#[test]
fn futures_and_threads_count_together_and_nothing_is_lost() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fixture = Fixture::with(Options::default().durability(durability));
        count_to_1000(&fixture);
        let fixture = fixture.reopen();
        assert_eq!(text(&fixture.collection("docs"), "hot").as_deref(), Some("1000"));
    }
}

fn count_to_1000(fixture: &Fixture) {
    let docs = fixture.collection("docs");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let tasks = (0..16).map(|_| {
        let (store, docs) = (fixture.store.clone(), docs.clone());
        runtime.spawn(async move {
            for n in 0..50 {
                let handle = increment(&store, &docs, "hot");
                // A dropped handle stops nothing.
                if n % 5 > 0 {
                    handle.await.expect("committed");
                }
            }
            // Its commit comes after those whose handles were dropped.
            increment(&store, &docs, "done").await.expect("committed");
        })
    });
    let tasks: Vec<_> = tasks.collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let add = |current: Option<&_>| Ok(Change::Put((number(current) + 1).to_string().into_bytes()));
                    docs.update("hot", add).expect("update");
                }
            });
        }
    });
    for task in tasks {
        runtime.block_on(task).expect("a task ended well");
    }
    assert_eq!((text(&docs, "done").as_deref(), text(&docs, "hot").as_deref()), (Some("16"), Some("1000")));
}

#[test]
fn batches_that_are_submitted_in_turn_are_judged_in_turn() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let submit = |body: Option<&str>, precondition: Precondition| {
        let mut batch = fixture.store.batch();
        match body {
            Some(body) => batch.put(&docs, "a", body, precondition),
            None => batch.delete(&docs, "a", precondition),
        };
        batch.submit()
    };
    let handles = [
        submit(Some("1"), Precondition::Absent),
        submit(None, Precondition::Present),
        submit(Some("2"), Precondition::Absent),
        submit(Some("3"), Precondition::Absent),
        submit(Some("4"), Precondition::Present),
    ];
    let ended = handles.map(CommitHandle::wait);
    assert_eq!(ended.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, true]);
    assert!(matches!(ended[3], Err(Error::Conflict(_))));
    assert_eq!(text(&docs, "a").as_deref(), Some("4"));
}

#[test]
fn bad_batches_are_known_at_once() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut batch = fixture.store.batch();
    batch.put(&docs, "", "x", Precondition::Any);
    assert!(matches!(batch.submit().wait(), Err(Error::Invalid(message)) if message.contains("at least one byte")));
    assert!(fixture.store.batch().submit().wait().expect("nothing to do").is_empty());
    let inside = docs.update("a", |_| {
        let mut batch = fixture.store.batch();
        batch.put(&docs, "b", "x", Precondition::Any);
        assert!(matches!(batch.submit().wait(), Err(Error::Invalid(_))));
        Ok(Change::Keep)
    });
    assert_eq!(inside.expect("update"), None);
}

/// Whoever is told of a version, by a conflict or inside a closure that writes nothing, can read it from then on.
#[test]
fn nobody_is_told_of_a_version_before_it_can_be_read() {
    let fixture = Fixture::new();
    let docs = &fixture.collection("docs");
    docs.put("a", "0", Precondition::Absent).expect("put");
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut known = docs.get("a").expect("get").expect("there").etag;
                while !stop.load(Ordering::SeqCst) {
                    known = match docs.put("a", "x", known) {
                        Ok(written) => written.etag,
                        Err(Error::Conflict(conflict)) => {
                            let current = conflict.current.expect("present");
                            let read = docs.get("a").expect("get").expect("there");
                            assert!(read.seq >= docs.get_as_of("a", current).expect("visible").expect("kept").seq);
                            current
                        }
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
        for _ in 0..500 {
            let mut seen = None;
            docs.update("a", |current| {
                seen = current.map(|document| document.seq);
                Ok(Change::Keep)
            })
            .expect("update");
            assert!(docs.last_commit() >= seen.expect("present"), "told of what is not visible");
        }
        stop.store(true, Ordering::SeqCst);
    });
}
