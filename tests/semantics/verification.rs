//! Verification: a sound store is called sound whatever it went through, and each kind of damage is named with its
//! place. Damage is planted behind the engine's back, through RocksDB, in a store that is closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etagdb::{
    CommitSeq, Error, Options, Precondition, Problem, ProblemKind, Retention, ScanRange, Store, VerifyReport,
};

use crate::{Fixture, quiet};

fn verify(store: &Store) -> VerifyReport {
    store.verify(|_| {}).expect("verify")
}

#[track_caller]
fn assert_sound(report: &VerifyReport) {
    let problems: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    assert!(report.is_sound() && report.compared, "{problems:#?}");
}

#[test]
fn an_empty_store_is_sound() {
    let fixture = Fixture::new();
    let report = verify(&fixture.store);
    assert_sound(&report);
    assert_eq!((report.commits, report.versions, report.collections, report.epochs), (0, 0, 0, 0));
}

/// Creates, replaces, deletes, re-creates, batches, several openings, a dropped collection.
fn lived_in() -> Fixture {
    let fixture = Fixture::with(quiet());
    let docs = fixture.collection("docs"); // 1
    docs.put("a", "1", Precondition::Any).expect("put"); // 1
    docs.put("a", "2", Precondition::Any).expect("put"); // 2
    docs.put("a\0b", "1", Precondition::Any).expect("put"); // 3
    drop(docs);
    let fixture = fixture.reopen_with(quiet());
    let (docs, gone) = (fixture.collection("docs"), fixture.collection("gone")); // 1, 2
    gone.put("x", "1", Precondition::Any).expect("put"); // 4
    docs.delete("a", Precondition::Any).expect("delete"); // 5
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "3", Precondition::Absent); // 6
    batch.put(&gone, "x", "2", Precondition::Any); // 7
    batch.put(&docs, "b", "1", Precondition::Any); // 8
    batch.put(&docs, "b", "2", Precondition::Any); // 9
    batch.commit().expect("commit");
    drop((docs, gone));
    let fixture = fixture.reopen_with(quiet());
    fixture.store.drop_collection("gone").expect("drop");
    let other = fixture.collection("other"); // 3
    other.put("a", "1", Precondition::Any).expect("put"); // 10
    fixture.collection("docs").delete("b", Precondition::Any).expect("delete"); // 11
    fixture
}

#[test]
fn a_store_that_was_lived_in_is_sound_and_counted() {
    let fixture = lived_in();
    let report = verify(&fixture.store);
    assert_sound(&report);
    assert_eq!((report.commits, report.versions, report.documents), (11, 9, 3));
    assert_eq!((report.collections, report.epochs, report.sequence_gaps), (2, 3, 0));
    assert_eq!((report.first_commit, report.last_commit), (CommitSeq::new(1), CommitSeq::new(11)));
    let path = fixture.dir.path().join("store");
    drop(fixture.store);
    let store = Options::default().read_only(true).open(&path).expect("open");
    assert_eq!(format!("{:?}", verify(&store)), format!("{report:?}"), "the same when opened for reading");
}

#[test]
fn progress_goes_from_nothing_to_all() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for start in 0..10 {
        let mut batch = fixture.store.batch();
        for n in 0..2_000 {
            batch.put(&docs, format!("{start} {n}"), "x", Precondition::Absent);
        }
        batch.commit().expect("commit");
    }
    let mut seen = Vec::new();
    let report = fixture.store.verify(|progress| seen.push(progress.rows)).expect("verify");
    assert_sound(&report);
    assert!(seen.len() >= 4 && seen.is_sorted(), "{seen:?}");
    assert_eq!(seen[0], 0);
    // Both families, and a few rows of metadata.
    assert!((40_000..40_010).contains(&seen[seen.len() - 1]), "{seen:?}");
}

#[test]
fn a_store_is_sound_while_it_is_written_to() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Options::default().write_buffer_bytes(1 << 20).open(dir.path().join("store")).expect("open");
    let stop = AtomicBool::new(false);
    let body = "x".repeat(2_000);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (store, stop, body) = (&store, &stop, &body);
            scope.spawn(move || {
                let docs = store.collection("docs").expect("collection");
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut batch = store.batch();
                    for n in 0..4 {
                        let id = format!("{}", (round * 7 + n * 3 + writer) % 100);
                        if round % 5 == 0 {
                            batch.delete(&docs, id, Precondition::Any);
                        } else {
                            batch.put(&docs, id, body, Precondition::Any);
                        }
                    }
                    batch.commit().expect("commit");
                    if round % 50 == 0 {
                        let name = format!("short-lived {writer}");
                        store.collection(&name).expect("collection").put("a", "x", Precondition::Any).expect("put");
                        store.drop_collection(&name).expect("drop");
                    }
                }
            });
        }
        for round in 0..6 {
            while store.last_commit().get() < round * 1_000 {
                std::thread::yield_now();
            }
            let before = store.last_commit();
            let report = verify(&store);
            assert_sound(&report);
            assert!(report.last_commit >= before);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

/// The database of a closed store, opened behind its back.
struct Behind {
    db: rocksdb::DB,
}

const HEADER_BYTES: usize = 25;

impl Behind {
    fn key(collection: u32, id: &[u8], seq: u64) -> Vec<u8> {
        let mut key = collection.to_be_bytes().to_vec();
        for &byte in id {
            key.push(byte);
            if byte == 0 {
                key.push(0xff);
            }
        }
        [&key[..], b"\0\x01", &(!seq).to_be_bytes()].concat()
    }

    fn family(&self, name: &str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).expect("family")
    }

    fn get(&self, family: &str, key: &[u8]) -> Vec<u8> {
        self.db.get_cf(self.family(family), key).expect("get").unwrap_or_else(|| panic!("no row {key:02x?}"))
    }

    fn put(&self, family: &str, key: &[u8], value: &[u8]) {
        self.db.put_cf(self.family(family), key, value).expect("put");
    }

    fn delete(&self, family: &str, key: &[u8]) {
        self.get(family, key);
        self.db.delete_cf(self.family(family), key).expect("delete");
    }

    /// Changes a row in place.
    fn change(&self, family: &str, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
        let mut value = self.get(family, key);
        change(&mut value);
        self.put(family, key, &value);
    }

    /// Overwrites the number at `at` of a version's record.
    fn set_field(&self, key: &[u8], at: usize, number: u64) {
        self.change("versions", key, |value| value[at..at + 8].copy_from_slice(&number.to_le_bytes()));
    }
}

const TIME: usize = 1;
const PREVIOUS: usize = 9;
const CREATED: usize = 17;

/// Plants damage in a store that was lived in, and returns what verification says of it.
fn after(damage: impl FnOnce(&Behind)) -> Vec<Problem> {
    after_in(lived_in(), damage)
}

fn after_in(fixture: Fixture, damage: impl FnOnce(&Behind)) -> Vec<Problem> {
    let Fixture { store, dir } = fixture;
    drop(store);
    let path = dir.path().join("store");
    {
        let families = ["default", "versions", "feed", "expiry"];
        let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), path.join("rocksdb"), families).expect("open");
        damage(&Behind { db });
    }
    // With the note of what is on disk the store would not open where commits are missing at the end.
    std::fs::remove_file(path.join("DURABLE")).expect("remove");
    let store = quiet().open(&path).expect("the damage does not keep it from opening");
    let report = verify(&store);
    assert_eq!(report.is_sound(), report.problems.is_empty());
    report.problems
}

/// Expects a problem of this kind at this document and commit, whose text contains `words`.
#[track_caller]
fn assert_named(problems: &[Problem], kind: ProblemKind, place: Option<(&str, &[u8])>, seq: Option<u64>, words: &str) {
    let found = problems.iter().any(|problem| {
        let there = match place {
            Some((collection, id)) => {
                problem.collection.as_deref() == Some(collection) && problem.id.as_deref() == Some(id)
            }
            None => true,
        };
        problem.kind == kind && there && problem.seq == seq.map(CommitSeq::new) && problem.message.contains(words)
    });
    let said: Vec<_> = problems.iter().map(Problem::to_string).collect();
    assert!(found, "no {kind} problem at {place:?}, {seq:?} that says {words:?} among {said:#?}");
}

const A: Option<(&str, &[u8])> = Some(("docs", b"a"));
const B: Option<(&str, &[u8])> = Some(("docs", b"b"));
const OTHER: Option<(&str, &[u8])> = Some(("other", b"a"));

#[test]
fn a_lost_version_is_named_by_its_successor_and_by_the_feed() {
    let problems = after(|db| db.delete("versions", &Behind::key(1, b"a", 2)));
    assert_named(&problems, ProblemKind::Chain, A, Some(5), "names 2");
    assert_named(&problems, ProblemKind::Disagreement, A, Some(2), "missing");
    assert_eq!(problems.len(), 2);

    let oldest = after(|db| db.delete("versions", &Behind::key(1, b"a", 1)));
    assert_named(&oldest, ProblemKind::Chain, A, Some(2), "1, is missing");
    let newest = after(|db| db.delete("versions", &Behind::key(1, b"a", 6)));
    assert_named(&newest, ProblemKind::Disagreement, A, Some(6), "missing");
    assert_eq!(newest.len(), 1);
}

#[test]
fn a_version_that_nobody_wrote_is_named() {
    let problems = after(|db| {
        let value = db.get("versions", &Behind::key(1, b"a\0b", 3));
        db.put("versions", &Behind::key(1, b"new\0", 4), &value);
        db.put("versions", &Behind::key(1, b"far", 1 << 40), &value);
    });
    assert_named(&problems, ProblemKind::Disagreement, Some(("docs", b"new\0")), Some(4), "does not tell");
    assert_named(&problems, ProblemKind::Disagreement, Some(("docs", b"far")), Some(1 << 40), "does not tell");
    assert_eq!(problems.len(), 2);
}

#[test]
fn a_lost_feed_row_is_named() {
    let problems = after(|db| db.delete("feed", &3u64.to_be_bytes()));
    assert_named(&problems, ProblemKind::Disagreement, Some(("docs", b"a\0b")), Some(3), "does not tell");
    assert_eq!(problems.len(), 1);
    // Of a batch of four the second, of a dropped collection, and the last.
    let inside = after(|db| db.delete("feed", &7u64.to_be_bytes()));
    assert_named(&inside, ProblemKind::Batch, None, Some(8), "commit 6 is of has no end");
    assert_eq!(inside.len(), 1);
    let last = after(|db| db.delete("feed", &9u64.to_be_bytes()));
    assert_named(&last, ProblemKind::Batch, None, Some(10), "commit 8 is of has no end");
    assert_named(&last, ProblemKind::Disagreement, B, Some(9), "does not tell");
}

/// What retention dropped is no damage, and what is missing besides is.
#[test]
fn a_store_that_was_trimmed_is_sound_and_a_loss_above_its_horizon_is_named() {
    let trimmed = || {
        let fixture = Fixture::with(quiet());
        let docs = fixture.collection("docs");
        for n in 0..10 {
            let id = if n % 2 == 0 { "even" } else { "odd" };
            docs.put(id, n.to_string(), Precondition::Any).expect("put"); // 1 to 10
        }
        docs.delete("odd", Precondition::Any).expect("delete"); // 11
        docs.set_retention(Retention::age(Duration::ZERO)).expect("set");
        assert!(fixture.store.run_maintenance().expect("maintenance").dropped > 0);
        docs.set_retention(Retention::FOREVER).expect("set");
        for n in 12..16 {
            docs.put("even", n.to_string(), Precondition::Any).expect("put"); // 12 to 15
        }
        fixture
    };
    let report = verify(&trimmed().store);
    assert_sound(&report);
    assert!(report.sequence_gaps > 0 && report.documents == 1, "{report:?}");

    let problems = after_in(trimmed(), |db| {
        db.delete("versions", &Behind::key(1, b"even", 13));
        db.delete("feed", &14u64.to_be_bytes());
    });
    let even = Some(("docs", &b"even"[..]));
    assert_named(&problems, ProblemKind::Chain, even, Some(14), "names 13");
    assert_named(&problems, ProblemKind::Disagreement, even, Some(13), "missing");
    assert_named(&problems, ProblemKind::Disagreement, even, Some(14), "does not tell");
    assert_eq!(problems.len(), 3);
}

/// A dropped collection once took with it what says that retention had taken some of its feed rows before, and the rest
/// of their batches was called damaged.
#[test]
fn a_batch_that_lost_its_end_with_a_dropped_collection_is_sound() {
    let fixture = Fixture::with(quiet());
    let (stays, gone, last) = (fixture.collection("stays"), fixture.collection("gone"), fixture.collection("last"));
    let retain = |docs: &etagdb::Collection| docs.set_retention(Retention::age(Duration::ZERO)).expect("set");
    retain(&gone);
    retain(&last);
    for other in [&gone, &last] {
        let mut batch = fixture.store.batch();
        batch.put(&stays, other.name(), "1", Precondition::Any);
        batch.put(other, "a", "1", Precondition::Any);
        batch.commit().expect("commit");
    }
    for other in [&last, &gone] {
        other.delete("a", Precondition::Any).expect("delete");
        stays.put("b", "1", Precondition::Any).expect("put");
    }
    fixture.store.run_maintenance().expect("maintenance");
    assert_sound(&verify(&fixture.store));
    // The second sweep does not reach as far as the first one.
    for name in ["gone", "last"] {
        fixture.store.drop_collection(name).expect("drop");
        assert_sound(&verify(&fixture.store));
        fixture.store.run_maintenance().expect("maintenance");
        assert_sound(&verify(&fixture.store));
    }
}

#[test]
fn a_feed_row_that_nobody_wrote_is_named() {
    let problems = after(|db| {
        let value = db.get("feed", &10u64.to_be_bytes());
        db.put("feed", &20u64.to_be_bytes(), &value);
    });
    assert_named(&problems, ProblemKind::Disagreement, OTHER, Some(20), "missing");
    let unknown = after(|db| db.change("feed", &10u64.to_be_bytes(), |value| value[24] = 99));
    assert_named(&unknown, ProblemKind::Feed, None, Some(10), "never given");
    assert_named(&unknown, ProblemKind::Disagreement, OTHER, Some(10), "does not tell");
    let renamed = after(|db| db.change("feed", &10u64.to_be_bytes(), |value| value[25] = b'z'));
    assert_named(&renamed, ProblemKind::Disagreement, OTHER, Some(10), "document \"z\"");
    assert_named(&renamed, ProblemKind::Disagreement, Some(("other", b"z")), Some(10), "missing");
    let short = after(|db| db.put("feed", &10u64.to_be_bytes(), b"short"));
    assert_named(&short, ProblemKind::Feed, None, Some(10), "too short");
    let kind = after(|db| db.change("feed", &10u64.to_be_bytes(), |value| value[0] = 77));
    assert_named(&kind, ProblemKind::Feed, None, Some(10), "unknown kind 77");
}

#[test]
fn versions_and_feed_that_say_different_things_are_named() {
    let kind = after(|db| db.change("feed", &2u64.to_be_bytes(), |value| value[0] = 1));
    assert_named(&kind, ProblemKind::Disagreement, A, Some(2), "feed says kind 1");
    assert_eq!(kind.len(), 1);
    // The newest version: no other one is younger.
    let time = after(|db| db.set_field(&Behind::key(3, b"a", 10), TIME, u64::MAX));
    assert_named(&time, ProblemKind::Disagreement, OTHER, Some(10), "the version kind 1");
    assert_eq!(time.len(), 1);
}

#[test]
fn times_that_run_backwards_are_named() {
    let version = after(|db| db.set_field(&Behind::key(1, b"a", 5), TIME, 7));
    assert_named(&version, ProblemKind::Chain, A, Some(5), "time 7 ms is before that of version 2");
    let feed = after(|db| {
        db.change("feed", &10u64.to_be_bytes(), |value| value[5..13].copy_from_slice(&7u64.to_le_bytes()));
    });
    assert_named(&feed, ProblemKind::Feed, OTHER, Some(10), "time 7 ms is before");
    let batch = after(|db| {
        db.change("feed", &8u64.to_be_bytes(), |value| value[5..13].copy_from_slice(&u64::MAX.to_le_bytes()));
    });
    assert_named(&batch, ProblemKind::Batch, B, Some(8), "in its batch");
    let longer = after(|db| db.change("feed", &8u64.to_be_bytes(), |value| value[1] += 1));
    assert_named(&longer, ProblemKind::Batch, B, Some(8), "its batch ends at");
}

#[test]
fn broken_chains_are_named() {
    let skipped = after(|db| db.set_field(&Behind::key(1, b"a", 5), PREVIOUS, 1));
    assert_named(&skipped, ProblemKind::Chain, A, Some(5), "names 1 as the version before it, and that is 2");
    let future = after(|db| db.set_field(&Behind::key(1, b"a", 5), PREVIOUS, 9));
    assert_named(&future, ProblemKind::Chain, A, Some(5), "names commits 9 and 1");
    let none = after(|db| db.set_field(&Behind::key(1, b"a", 6), PREVIOUS, 0));
    assert_named(&none, ProblemKind::Chain, A, Some(6), "names 0");
    let created = after(|db| db.set_field(&Behind::key(1, b"a", 5), CREATED, 2));
    assert_named(&created, ProblemKind::Chain, A, Some(5), "began at 2, by version 2 it did at 1");
    // A document that says it goes on from before its deletion.
    let undead = after(|db| db.set_field(&Behind::key(1, b"a", 6), CREATED, 1));
    assert_named(&undead, ProblemKind::Chain, A, Some(6), "began at 1");
    assert_named(&undead, ProblemKind::Disagreement, A, Some(6), "the version kind 2");
    let first = after(|db| db.change("versions", &Behind::key(3, b"a", 10), |value| value[0] = 2));
    assert_named(&first, ProblemKind::Chain, OTHER, Some(10), "the first version");
}

#[test]
fn versions_that_make_no_sense_are_named() {
    let key = Behind::key(1, b"a", 2);
    let short = after(|db| db.change("versions", &key, |value| value.truncate(HEADER_BYTES - 1)));
    assert_named(&short, ProblemKind::Version, A, Some(2), "too short");
    assert_eq!(short.len(), 1, "named once");
    let kind = after(|db| db.change("versions", &key, |value| value[0] = 77));
    assert_named(&kind, ProblemKind::Version, A, Some(2), "unknown kind 77");
    let tombstone = after(|db| db.change("versions", &Behind::key(1, b"a", 5), |value| value.push(b'x')));
    assert_named(&tombstone, ProblemKind::Version, A, Some(5), "tombstone has 1 bytes");
    let stray = after(|db| db.put("versions", b"\0\0\0\x01stray key", b""));
    assert_named(&stray, ProblemKind::Version, None, None, "version key");
    let empty = after(|db| db.put("versions", &Behind::key(1, b"", 12), &[1; HEADER_BYTES]));
    assert_named(&empty, ProblemKind::Version, Some(("docs", b"")), Some(12), "id has 0 bytes");
}

#[test]
fn metadata_that_makes_no_sense_is_named() {
    let unknown = after(|db| db.delete("default", b"collection/\0\0\0\x03"));
    assert_named(&unknown, ProblemKind::Version, Some(("number 3", b"a")), Some(10), "no record");
    assert_eq!(unknown.len(), 1);
    let twice = after(|db| {
        let record = db.get("default", b"collection/\0\0\0\x01");
        db.put("default", b"collection/\0\0\0\x02", &record);
    });
    assert_named(&twice, ProblemKind::Metadata, None, None, "same name \"docs\"");
    let reused = after(|db| db.put("default", b"next-collection", &2u32.to_le_bytes()));
    assert_named(&reused, ProblemKind::Metadata, None, None, "it has number 3, and the next to be given is 2");
}

#[test]
fn epochs_that_do_not_cover_the_commits_are_named() {
    let row = |seq: u64| [b"epoch/", &seq.to_be_bytes()[..]].concat();
    let first = after(|db| db.delete("default", &row(1)));
    assert_named(&first, ProblemKind::Epoch, None, Some(1), "no epoch covers");
    let late = after(|db| db.put("default", &row(50), &7u64.to_le_bytes()));
    assert_named(&late, ProblemKind::Epoch, None, Some(50), "last one is 11");
    let twice = after(|db| {
        let number = db.get("default", &row(1));
        db.put("default", &row(5), &number);
    });
    assert_named(&twice, ProblemKind::Epoch, None, Some(5), "number of an earlier one");
}

#[test]
fn a_lost_tail_of_the_commit_order_is_named() {
    let problems = after(|db| {
        for seq in 9u64..=11 {
            db.delete("feed", &seq.to_be_bytes());
        }
    });
    assert_named(&problems, ProblemKind::Batch, None, Some(8), "ends inside a batch");
    assert_named(&problems, ProblemKind::Epoch, None, Some(10), "last one is 8");
    assert_named(&problems, ProblemKind::Disagreement, OTHER, Some(10), "does not tell");
}

/// More damage than the report lists, in a store large enough that many commits share a stretch of the comparison.
#[test]
fn damage_without_end_is_counted() {
    let Fixture { store, dir } = Fixture::new();
    let docs = store.collection("docs").expect("collection");
    for start in 0..3 {
        let mut batch = store.batch();
        for n in 0..1_000 {
            batch.put(&docs, format!("{start} {n}"), "x", Precondition::Absent);
        }
        batch.commit().expect("commit");
    }
    drop((docs, store));
    let path = dir.path().join("store");
    {
        let families = ["default", "versions", "feed", "expiry"];
        let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), path.join("rocksdb"), families).expect("open");
        let versions = db.cf_handle("versions").expect("family");
        db.delete_range_cf(versions, b"\0\0\0\x010", b"\0\0\0\x012").expect("delete");
    }
    let report = verify(&quiet().open(&path).expect("open"));
    assert_eq!((report.problems.len(), report.problems_not_listed), (1_000, 1_000));
    assert!(report.problems.iter().all(|problem| problem.kind == ProblemKind::Disagreement));
    assert_eq!((report.documents, report.commits), (1_000, 3_000));
}

fn sorted_files(store: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.join("rocksdb")).expect("read").map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect();
    files.sort();
    files
}

/// Everything a store gives out.
fn everything(store: &Store) -> Result<Vec<(Vec<u8>, etagdb::Document)>, Error> {
    let docs = store.existing_collection("docs").expect("collection");
    let mut found = Vec::new();
    for entry in docs.scan(&ScanRange::all())? {
        let (id, document) = entry?;
        found.push((id.to_vec(), document));
    }
    Ok(found)
}

/// A byte at a time is turned over, at places all over every sorted file. Where blocks of rows are, it is always
/// named, with the file; elsewhere it is named or does no harm.
#[test]
fn a_flipped_byte_in_a_sorted_file_is_named_or_harmless() {
    let Fixture { store, dir } = Fixture::new();
    let docs = store.collection("docs").expect("collection");
    for n in 0..400u32 {
        // Bodies that do not compress, so that there are many blocks.
        let body: Vec<u8> = (0..200u32).map(|i| (n.wrapping_mul(2_654_435_761).rotate_left(i) >> 8) as u8).collect();
        docs.put(format!("{n}"), body, Precondition::Any).expect("put");
    }
    drop((docs, store));
    let path = dir.path().join("store");
    let open = || Options::default().read_only(true).open(&path);
    let good = everything(&open().expect("open")).expect("scan");
    assert_sound(&verify(&open().expect("open")));

    let (mut named, mut harmless) = (0, 0);
    for file in sorted_files(&path) {
        let bytes = std::fs::read(&file).expect("read");
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        for part in 0..40 {
            let at = (bytes.len() - 1) * part / 39;
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&file, &damaged).expect("write");
            let report = open().and_then(|store| Ok((store.verify(|_| {})?, everything(&store))));
            match report {
                Err(error) => {
                    assert!(matches!(error, Error::Corruption(_) | Error::Io(_)), "{name} at {at}: {error}");
                    named += 1;
                }
                Ok((report, _)) if !report.is_sound() => {
                    let here = |p: &&Problem| p.kind == ProblemKind::Unreadable && p.file.as_deref() == Some(&name);
                    let problem = report.problems.iter().find(here);
                    let problem = problem.unwrap_or_else(|| panic!("{name} at {at}: {:?}", report.problems));
                    assert!(problem.to_string().contains(&name), "{problem}");
                    assert!(!report.compared);
                    named += 1;
                }
                Ok((_, found)) => {
                    assert_eq!(found.expect("scan"), good, "{name} at {at}: passed for sound and reads differently");
                    // Blocks of rows come first and are most of a file.
                    assert!(at > bytes.len() / 2 || bytes.len() < 8_192, "{name} at {at} of {}", bytes.len());
                    harmless += 1;
                }
            }
        }
        std::fs::write(&file, &bytes).expect("write");
    }
    println!("{named} flips named, {harmless} without effect");
    assert!(named > harmless, "{named} named, {harmless} harmless");
    assert_sound(&verify(&open().expect("open")));
}

/// The open store has all of it in memory: the files are what is verified.
#[test]
fn damage_below_an_open_store_is_named() {
    let fixture = lived_in().reopen_with(quiet());
    assert_eq!(everything(&fixture.store).expect("scan").len(), 2, "now cached");
    let path = fixture.dir.path().join("store");
    let file = sorted_files(&path).into_iter().max_by_key(|file| file.metadata().expect("metadata").len());
    let file = file.expect("a file");
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[20] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    let report = verify(&fixture.store);
    assert_named(&report.problems, ProblemKind::Unreadable, None, None, "checksum");
    assert_eq!(everything(&fixture.store).expect("from memory").len(), 2);
}
