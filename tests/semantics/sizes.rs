//! Counting what is in a collection, and estimating it.

use std::path::Path;

use etagdb::{Collection, CollectionSize, Durability, Error, Options, Precondition, ScanRange, Store};

use crate::Fixture;

#[test]
fn a_size_counts_documents_versions_and_their_bytes() {
    let fixture = Fixture::new();
    let (docs, other) = (fixture.collection("docs"), fixture.collection("other"));
    let empty = docs.size().expect("size");
    assert_eq!((empty.documents, empty.versions, empty.version_bytes, empty.is_exact), (0, 0, 0, true));
    docs.put("a", "12345", Precondition::Any).expect("put");
    docs.put("a", "123", Precondition::Any).expect("put");
    docs.put("zero\0", "1", Precondition::Any).expect("put");
    docs.put("gone", "1", Precondition::Any).expect("put");
    docs.delete("gone", Precondition::Any).expect("delete");
    other.put("a", "not counted", Precondition::Any).expect("put");
    for size in [docs.size().expect("size"), docs.size_estimate().expect("small ones are counted")] {
        assert_eq!((size.documents, size.document_bytes), (2, 4 + 6));
        assert_eq!((size.versions, size.version_bytes), (5, 6 + 4 + 6 + 5 + 4));
        assert!(size.is_exact);
    }
    fixture.store.drop_collection("docs").expect("drop");
    assert!(matches!(docs.size(), Err(Error::Invalid(_))));
    assert!(matches!(docs.size_estimate(), Err(Error::Invalid(_))));
}

/// Within a factor of 1.5: the machine's timing decides what is in memory and what is in files.
#[track_caller]
fn assert_near(estimate: CollectionSize, exact: CollectionSize) {
    assert!(exact.is_exact && !estimate.is_exact);
    let near = |what: &str, estimate: u64, exact: u64| {
        let ratio = estimate as f64 / exact as f64;
        assert!((0.66..1.5).contains(&ratio), "{what}: {estimate} estimated, {exact} counted");
    };
    near("documents", estimate.documents, exact.documents);
    near("document bytes", estimate.document_bytes, exact.document_bytes);
    near("versions", estimate.versions, exact.versions);
    near("version bytes", estimate.version_bytes, exact.version_bytes);
}

fn check(collections: &[Collection]) {
    for collection in collections {
        let exact = collection.size().expect("size");
        assert_eq!(exact.documents as usize, collection.scan(&ScanRange::all()).expect("scan").count());
        assert_near(collection.size_estimate().expect("estimate"), exact);
    }
}

#[test]
fn an_estimate_is_near_wherever_the_rows_are() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let open = |buffer: usize| Options::default().write_buffer_bytes(buffer).open(dir.path().join("store"));
    // Everything in memory.
    let store = open(64 << 20).expect("open");
    let load = |store: &Store, name: &str, documents: usize, rounds: usize, bytes: usize| {
        let collection = store.collection(name).expect("collection");
        for _ in 0..rounds {
            let all = (0..documents).map(|n| (format!("{:06}", (n * 7919) % documents), vec![b'x'; bytes]));
            collection.bulk_load(all, Precondition::Any).expect("load");
        }
        collection
    };
    let collections = [load(&store, "one version", 9_000, 1, 100), load(&store, "many versions", 3_000, 5, 300)];
    check(&collections);
    drop((collections, store));

    // Everything in files, several of them in one collection, and one of them in two.
    let store = open(1 << 20).expect("reopen");
    let collections = ["one version", "many versions"].map(|name| store.existing_collection(name).expect("there"));
    check(&collections);
    assert!(collections[0].size_estimate().expect("estimate").disk_bytes > 0);
    // Both.
    let more = load(&store, "more", 12_000, 2, 200);
    check(&[collections[0].clone(), more]);
}

/// As `Options::write_buffer_bytes` says it, for batches that are small beside it.
#[test]
fn the_log_takes_at_most_two_and_a_half_write_buffers_and_nothing_after_a_close() {
    const WRITE_BUFFER_BYTES: u64 = 4 << 20;
    let options = Options::default().write_buffer_bytes(WRITE_BUFFER_BYTES as usize).durability(Durability::Buffered);
    let Fixture { store, dir } = Fixture::with(options);
    let log = dir.path().join("store/log");
    let docs = store.collection("docs").expect("collection");
    let mut most = 0;
    for body in [10, 100, 1_000, 3_000] {
        let body = vec![b'x'; body];
        let batches = 10 * WRITE_BUFFER_BYTES / (100 * (body.len() as u64 + 100));
        for n in 0..batches {
            let mut batch = store.batch();
            for id in 0..100 {
                batch.put(&docs, format!("{id}"), &body, Precondition::Any);
            }
            batch.commit().expect("commit");
            if n % 8 == 0 {
                most = most.max(bytes_in(&log));
            }
        }
    }
    // The last batch before a flush makes a buffer larger than that, and the last one in a segment may leave room.
    let bound = WRITE_BUFFER_BYTES * 5 / 2 + (2 << 20);
    assert!(WRITE_BUFFER_BYTES < most && most <= bound, "{most} bytes of log");
    drop((docs, store));
    assert_eq!(bytes_in(&log), 0, "it was closed");
}

/// What the files in a directory take up; those that go meanwhile take up nothing.
fn bytes_in(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).expect("list").map(|entry| entry.expect("entry"));
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
