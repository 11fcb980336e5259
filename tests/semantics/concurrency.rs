//! Many writers at once: no lost update, no half batch, no commit out of order.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use etagdb::{Change, Durability, Error, Options, Precondition, ScanRange};

use crate::{Fixture, text};

const WRITERS: usize = 8;
const ROUNDS: usize = 100;

fn number(body: &[u8]) -> usize {
    std::str::from_utf8(body).expect("UTF-8").parse().expect("a number")
}

/// Lost update: two writers read the same version, both write, and one of the writes disappears.
#[test]
fn compare_and_swap_loses_no_update() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("counter", "0", Precondition::Absent).expect("put");
    let increment = || {
        let current = docs.get("counter").expect("get").expect("there");
        docs.put("counter", (number(&current.body) + 1).to_string(), current.etag)
    };
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    while matches!(increment(), Err(Error::Conflict(_))) {}
                }
            });
        }
    });
    assert_eq!(text(&docs, "counter"), Some((WRITERS * ROUNDS).to_string()));
}

#[test]
fn update_needs_no_retry() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    docs.update("counter", |current| {
                        let next = current.map_or(0, |current| number(&current.body)) + 1;
                        Ok(Change::Put(next.to_string().into_bytes()))
                    })
                    .expect("update");
                }
            });
        }
    });
    assert_eq!(text(&docs, "counter"), Some((WRITERS * ROUNDS).to_string()));
}

/// Of writers that create one document, or take one version to the next, exactly one wins.
#[test]
fn of_many_writers_with_one_etag_one_wins() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut precondition = Precondition::Absent;
    for round in 0..50 {
        let won: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let docs = &docs;
                        move || docs.put("a", writer.to_string(), precondition)
                    })
                })
                .collect();
            writers.into_iter().filter_map(|writer| writer.join().expect("joined").ok()).collect()
        });
        assert_eq!(won.len(), 1, "round {round}");
        precondition = won[0].etag.into();
    }
}

/// Read skew: a reader sees one half of a batch as it was before, and the other as it is after.
#[test]
fn no_reader_sees_half_a_batch() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let ids: Vec<String> = (0..10).map(|n| format!("account {n}")).collect();
    let write_all = |value: usize| {
        let mut batch = fixture.store.batch();
        for id in &ids {
            batch.put(&docs, id, value.to_string(), Precondition::Any);
        }
        batch.commit().expect("commit");
    };
    write_all(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0;
                    let mut before = 0;
                    while !stop.load(Ordering::SeqCst) || looks == 0 {
                        let values: HashSet<usize> = docs
                            .scan(&ScanRange::all())
                            .expect("scan")
                            .map(|entry| number(&entry.expect("entry").1.body))
                            .collect();
                        assert_eq!(values.len(), 1, "half a batch: {values:?}");
                        let value = values.into_iter().next().expect("one");
                        assert!(value >= before, "went back from {before} to {value}");
                        before = value;
                        looks += 1;
                    }
                })
            })
            .collect();
        for value in 1..=ROUNDS {
            write_all(value);
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.join().expect("joined");
        }
    });
}

/// Batches that name the same documents in opposite orders neither deadlock nor overlap.
#[test]
fn opposite_batches_move_money_without_losing_any() {
    let fixture = Fixture::new();
    let docs = fixture.collection("accounts");
    for id in ["a", "b"] {
        docs.put(id, "1000", Precondition::Absent).expect("put");
    }
    let transfer = |from: &str, to: &str| {
        let mut batch = fixture.store.batch();
        for (id, change) in [(from, -1), (to, 1)] {
            batch.update(&docs, id, move |current| {
                let balance: i64 = number(&current.expect("there").body) as i64;
                Ok(Change::Put((balance + change).to_string().into_bytes()))
            });
        }
        batch.commit().expect("commit");
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let transfer = &transfer;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if writer % 2 == 0 { transfer("a", "b") } else { transfer("b", "a") }
                }
            });
        }
    });
    assert_eq!((text(&docs, "a").as_deref(), text(&docs, "b").as_deref()), (Some("1000"), Some("1000")));
}

#[test]
fn concurrent_writers_share_syncs_and_sequences_have_no_gaps() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let seqs: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let docs = &docs;
                scope.spawn(move || {
                    let put = |n| docs.put(format!("{writer} {n}"), "x", Precondition::Absent).expect("put").seq.get();
                    (0..ROUNDS).map(put).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("joined")).collect()
    });
    let distinct: HashSet<u64> = seqs.iter().copied().collect();
    assert_eq!(distinct.len(), WRITERS * ROUNDS);
    assert_eq!(distinct, (1..=(WRITERS * ROUNDS) as u64).collect());
    let stats = fixture.store.stats();
    assert_eq!(stats.commits, (WRITERS * ROUNDS) as u64);
    assert!(stats.groups <= stats.commits, "{stats:?}");
}

#[test]
fn a_read_from_memory_alone_is_the_same_read_or_none() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    assert_eq!(docs.get_cached("a"), None);
    docs.put("a", "1", Precondition::Absent).expect("put");
    let current = docs.get("a").expect("get");
    assert!(current.is_some());
    assert_eq!(docs.get_cached("a"), current);
    docs.delete("a", Precondition::Present).expect("delete");
    assert_eq!(docs.get_cached("a"), None);
    docs.put("a", "2", Precondition::Absent).expect("put");
    drop(docs);
    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    assert_eq!(docs.get_cached("a"), None, "nothing is in memory yet");
    let current = docs.get("a").expect("get");
    assert_eq!(docs.get_cached("a"), current);
    fixture.store.drop_collection("docs").expect("drop");
    assert_eq!(docs.get_cached("a"), None);
}

/// Stale read: a reader sees a version that was replaced before the read began. The document cache is so small here
/// that entries come and go all the time, which is when an old version could be put back into it.
#[test]
fn no_read_goes_back_behind_an_acknowledged_write() {
    const DOCUMENTS: usize = 256;
    for document_cache_bytes in [0, 16 * 1024, 64 << 20] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let options = Options::default().durability(Durability::Buffered).document_cache_bytes(document_cache_bytes);
        let store = options.open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        let acknowledged: Vec<AtomicUsize> = (0..DOCUMENTS).map(|_| AtomicUsize::new(0)).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (docs, acknowledged, stop) = (&docs, &acknowledged, &stop);
                scope.spawn(move || {
                    for n in reader.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let id = n % DOCUMENTS;
                        let least = acknowledged[id].load(Ordering::SeqCst);
                        let found = docs.get(id.to_string()).expect("get");
                        let value = found.map_or(0, |document| number(&document.body));
                        assert!(value >= least, "{value} was read after {least} was acknowledged");
                    }
                });
            }
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let (docs, acknowledged) = (&docs, &acknowledged);
                    scope.spawn(move || {
                        for value in 1..=ROUNDS {
                            for id in (writer..DOCUMENTS).step_by(2) {
                                docs.put(id.to_string(), value.to_string(), Precondition::Any).expect("put");
                                acknowledged[id].store(value, Ordering::SeqCst);
                            }
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.join().expect("joined");
            }
            stop.store(true, Ordering::SeqCst);
        });
        let stats = store.stats();
        assert_eq!(stats.cache_hits > 0, document_cache_bytes > 0, "{stats:?}");
    }
}
