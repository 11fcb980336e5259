//! Checkpoints and what is restored from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use etagdb::{Collection, CommitSeq, Durability, Error, Etag, Options, Precondition, ScanRange, Snapshot, Store};

use crate::{Fixture, text};

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Every document of a collection with everything that is known of it.
fn contents(snapshot: &Snapshot, collection: &Collection) -> BTreeMap<Vec<u8>, (Etag, CommitSeq, CommitSeq, Vec<u8>)> {
    let entries = snapshot.scan(collection, &ScanRange::all()).expect("scan").map(|entry| entry.expect("entry"));
    entries.map(|(id, d)| (id.to_vec(), (d.etag, d.seq, d.created, d.body.to_vec()))).collect()
}

fn assert_same_at(seq: CommitSeq, original: &Store, copy: &Store, collection: &str) {
    let of = |store: &Store| {
        let snapshot = store.snapshot_at(seq).expect("snapshot");
        assert_eq!(snapshot.seq(), seq, "a checkpoint ends with a batch");
        contents(&snapshot, &store.existing_collection(collection).expect("collection"))
    };
    assert_eq!(of(copy), of(original), "at {seq}");
}

#[test]
fn a_checkpoint_is_a_store_with_all_that_was_acknowledged_and_its_history() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Options::default().durability(durability).open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        let first = docs.put("a", "1", Precondition::Any).expect("put");
        docs.put("a", "2", Precondition::Any).expect("put");
        docs.delete("a", Precondition::Any).expect("delete");
        docs.put("b", "1", Precondition::Any).expect("put");
        store.collection("gone").expect("collection").put("x", "1", Precondition::Any).expect("put");
        store.drop_collection("gone").expect("drop");
        let last = store.last_commit();

        let path = dir.path().join("deep/down/checkpoint");
        assert_eq!(store.checkpoint(&path).expect("checkpoint"), last);
        docs.put("b", "later", Precondition::Any).expect("put");

        let copy = Store::open(&path).expect("a checkpoint is a store");
        assert_eq!(copy.last_commit(), last);
        assert_eq!(copy.collections(), ["docs"]);
        assert_same_at(last, &store, &copy, "docs");
        assert_same_at(first.seq, &store, &copy, "docs");
        assert_eq!(text(&copy.collection("docs").expect("collection"), "b").as_deref(), Some("1"));
    }
}

#[test]
fn an_empty_store_has_a_checkpoint() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.checkpoint(fixture.path("copy")).expect("checkpoint"), CommitSeq::new(0));
    let copy = Store::open(fixture.path("copy")).expect("open");
    assert_eq!((copy.last_commit(), copy.collections()), (CommitSeq::new(0), vec![]));
}

/// Under load, with buffers small enough that files are written and merged meanwhile: what is in a checkpoint is what
/// the store was at its sequence, no acknowledged commit is missing, and no batch is torn.
#[test]
fn checkpoints_under_load_are_prefixes_that_lack_nothing_acknowledged() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let options = Options::default().durability(durability).write_buffer_bytes(1 << 20);
        let store = options.open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let body = "x".repeat(2_000);
        let mut checkpoints = Vec::new();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (store, docs, body, stop, acknowledged) = (&store, &docs, &body, &stop, &acknowledged);
                scope.spawn(move || {
                    for round in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let mut batch = store.batch();
                        for side in ["left", "right"] {
                            let (id, body) = (format!("{writer} {side} {}", round % 50), format!("{round} {body}"));
                            batch.put(docs, id, body, Precondition::Any);
                        }
                        let written = batch.commit().expect("commit").pop().flatten().expect("written");
                        acknowledged.fetch_max(written.seq.get(), Ordering::SeqCst);
                    }
                });
            }
            for round in 0..5 {
                // Some work between two checkpoints, however slow the machine.
                while acknowledged.load(Ordering::SeqCst) < round * 1_000 {
                    std::thread::yield_now();
                }
                let before = acknowledged.load(Ordering::SeqCst);
                let path = dir.path().join(format!("checkpoint {round}"));
                let seq = store.checkpoint(&path).expect("checkpoint");
                assert!(seq.get() >= before, "{before} was acknowledged, the checkpoint ends at {seq}");
                checkpoints.push((path, seq));
            }
            stop.store(true, Ordering::SeqCst);
        });
        for (path, seq) in checkpoints {
            let copy = Options::default().read_only(true).open(&path).expect("open");
            assert_eq!(copy.last_commit(), seq);
            assert_same_at(seq, &store, &copy, "docs");
            let docs = copy.existing_collection("docs").expect("collection");
            for (id, (_, _, _, left)) in contents(&copy.snapshot(), &docs) {
                let Some(rest) = id.strip_prefix(b"0 left") else { continue };
                let right = docs.get([b"0 right", rest].concat()).expect("get").expect("the other half");
                assert_eq!(right.body, left, "half a batch");
            }
        }
    }
}

#[test]
fn an_etag_given_after_the_checkpoint_never_matches_in_what_is_restored_from_it() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut kept = Vec::new();
    for id in ["a", "b", "c"] {
        kept.push((id, docs.put(id, "before", Precondition::Any).expect("put")));
    }
    fixture.store.checkpoint(fixture.path("checkpoint")).expect("checkpoint");
    let mut lost = Vec::new();
    for round in 0..20 {
        for id in ["a", "b", "c", "d"] {
            lost.push((id, docs.put(id, format!("after {round}"), Precondition::Any).expect("put")));
        }
    }

    Store::restore(fixture.path("checkpoint"), fixture.path("restored")).expect("restore");
    let mut given = Vec::new();
    // Over several openings, each with an epoch of its own, and past the old store's last sequence.
    for opening in 0..3 {
        let store = Store::open(fixture.path("restored")).expect("open");
        let docs = store.collection("docs").expect("collection");
        for (id, written) in &lost {
            let refused = docs.put(id, "x", written.etag).expect_err("an etag of the other store was accepted");
            assert!(matches!(refused, Error::Conflict(_)), "opening {opening}: {refused}");
        }
        if opening == 0 {
            for (id, written) in &kept {
                assert_eq!(docs.get(id).expect("get").expect("kept").etag, written.etag);
                given.push(docs.put(id, "restored", written.etag).expect("an etag from before goes on"));
            }
        }
        for round in 0..10 {
            for id in ["a", "b", "c", "d"] {
                given.push(docs.put(id, format!("restored {round}"), Precondition::Any).expect("put"));
                for (id, written) in &lost {
                    assert!(docs.delete(id, written.etag).is_err(), "opening {opening}");
                }
            }
        }
    }
    let pairs = lost.iter().flat_map(|(_, lost)| given.iter().map(move |given| (lost, given)));
    assert!(pairs.clone().any(|(lost, given)| lost.seq == given.seq), "the case worth testing: a sequence twice");
    for (lost, given) in pairs {
        assert_ne!(lost.etag, given.etag);
    }
}

/// Files are shared as hard links, and neither side ever changes one in place.
#[test]
fn store_and_checkpoint_go_their_own_ways() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let body = "x".repeat(10_000);
    for n in 0..500 {
        docs.put(format!("{n}"), &body, Precondition::Any).expect("put");
    }
    // Closing writes everything into files, so that there is something to share.
    drop(docs);
    let fixture = fixture.reopen();
    fixture.store.checkpoint(fixture.path("checkpoint")).expect("checkpoint");
    let write = |store: &Store, text: &str| {
        let docs = store.collection("docs").expect("collection");
        for n in 0..500 {
            docs.put(format!("{n}"), format!("{text} {n}"), Precondition::Present).expect("put");
        }
    };
    let open = |name: &str| Options::default().write_buffer_bytes(1 << 20).open(fixture.path(name)).expect("open");
    write(&fixture.store, "original");
    write(&open("checkpoint"), "copy");
    let fixture_docs = fixture.collection("docs");
    let copy = open("checkpoint");
    let copy_docs = copy.collection("docs").expect("collection");
    for n in 0..500 {
        assert_eq!(text(&fixture_docs, &n.to_string()), Some(format!("original {n}")));
        assert_eq!(text(&copy_docs, &n.to_string()), Some(format!("copy {n}")));
    }
}

#[test]
fn a_restored_store_shares_nothing_with_its_checkpoint_and_both_can_be_copied_again() {
    let fixture = Fixture::new();
    fixture.collection("docs").put("a", "1", Precondition::Any).expect("put");
    let fixture = fixture.reopen();
    fixture.collection("docs").put("b", "in the log only", Precondition::Any).expect("put");
    fixture.store.checkpoint(fixture.path("one")).expect("checkpoint");
    std::fs::create_dir(fixture.path("two")).expect("an empty directory will do");
    let seq = Store::restore(fixture.path("one"), fixture.path("two")).expect("restore");
    std::fs::remove_dir_all(fixture.path("one")).expect("remove");
    let two = Store::open(fixture.path("two")).expect("open");
    assert_eq!(two.last_commit(), seq);
    two.checkpoint(fixture.path("three")).expect("a checkpoint of what was restored");
    drop(two);
    Store::restore(fixture.path("two"), fixture.path("four")).expect("a closed store will do as well");
    for name in ["two", "three", "four"] {
        let store = Store::open(fixture.path(name)).expect("open");
        let docs = store.existing_collection("docs").expect("collection");
        assert_eq!(text(&docs, "b").as_deref(), Some("in the log only"), "{name}");
    }
}

fn assert_invalid<T: std::fmt::Debug>(result: Result<T, Error>, word: &str) {
    match result {
        Err(Error::Invalid(message)) => assert!(message.contains(word), "{message:?} does not say {word:?}"),
        other => panic!("expected Invalid with {word:?}, got {other:?}"),
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("read").map(|entry| entry.expect("entry").file_name());
    entries.map(|name| name.into_string().expect("UTF-8")).collect()
}

#[test]
fn targets_that_exist_and_sources_that_are_no_checkpoint_are_refused_untouched() {
    let fixture = Fixture::new();
    fixture.collection("docs").put("a", "1", Precondition::Any).expect("put");
    let (file, empty, full) = (fixture.path("file"), fixture.path("empty"), fixture.path("full"));
    std::fs::write(&file, "").expect("write");
    std::fs::create_dir(&empty).expect("create");
    std::fs::create_dir(&full).expect("create");
    std::fs::write(full.join("thesis.tex"), "").expect("write");

    for target in [&file, &empty, &full] {
        assert_invalid(fixture.store.checkpoint(target), "exists already");
    }
    let checkpoint = fixture.path("checkpoint");
    fixture.store.checkpoint(&checkpoint).expect("checkpoint");
    assert_invalid(fixture.store.checkpoint(&checkpoint), "exists already");
    for target in [&file, &full, &checkpoint] {
        assert_invalid(Store::restore(&checkpoint, target), "not an empty directory");
    }
    assert_eq!(names(&full), ["thesis.tex"]);

    let target = fixture.path("target");
    for source in [&empty, &full, &fixture.path("missing")] {
        assert_invalid(Store::restore(source, &target), "no store");
    }
    assert!(Store::restore(&file, &target).is_err());
    assert!(!target.exists());

    std::fs::write(empty.join("FORMAT"), "etagdb format 99\n").expect("write");
    assert!(matches!(Store::restore(&empty, &target), Err(Error::UnknownFormat { found, .. }) if found == "99"));
    assert!(!target.exists());
    // A database that lost its files: the copy does not open, and goes away again.
    std::fs::remove_file(checkpoint.join("rocksdb/CURRENT")).expect("remove");
    assert!(Store::restore(&checkpoint, &target).is_err());
    assert!(!target.exists());
}

#[test]
fn a_checkpoint_that_was_cut_short_is_no_store() {
    let fixture = Fixture::new();
    fixture.collection("docs").put("a", "1", Precondition::Any).expect("put");
    let path = fixture.path("checkpoint");
    fixture.store.checkpoint(&path).expect("checkpoint");
    // The last thing that making it does is this rename.
    std::fs::rename(path.join("FORMAT"), path.join("UNFINISHED")).expect("rename");
    assert_invalid(Store::open(&path), "unfinished");
    assert_invalid(Options::default().read_only(true).open(&path), "unfinished");
    assert_invalid(Store::restore(&path, fixture.path("target")), "unfinished");
}

#[test]
fn a_directory_that_is_written_to_is_not_restored_from() {
    let fixture = Fixture::new();
    let refused = Store::restore(fixture.path("store"), fixture.path("target"));
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    assert!(!fixture.path("target").exists());
}
