//! How long single operations take when nobody else is there: criterion's statistics, and its comparison with the run
//! before.
//!
//! `cargo bench --bench latency -- [FILTER]`

use std::hint::black_box;
use std::time::Duration;

use bench_support::{Bodies, Random, Sizes, key, load_ours, ours_options};
use criterion::{Criterion, criterion_group, criterion_main};
use etagdb::{CommitSeq, Durability, Error, Etag, FeedMode, Precondition, ScanRange};

const SIZES: Sizes = Sizes { documents: 20_000, bytes: 1024, document_cache_bytes: 64 << 20, cache_bytes: 128 << 20 };

fn operations(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("ours");
    let open = |document_cache_bytes| {
        let sizes = Sizes { document_cache_bytes, ..SIZES };
        let store = ours_options(&sizes, Durability::Buffered).open(&path).expect("open etagdb");
        let docs = store.collection("docs").expect("collection");
        (store, docs)
    };
    load_ours(&open(0).1, &SIZES);
    let mut random = Random::new(0);
    let mut any = move || random.below(SIZES.documents);

    // Without a document cache each read goes to RocksDB, which has the block in its own.
    let (store, docs) = open(0);
    criterion.bench_function("get, not in the document cache", |bencher| {
        bencher.iter(|| black_box(docs.get(key(any())).expect("get").expect("loaded")));
    });
    drop((store, docs));

    let (store, docs) = open(SIZES.document_cache_bytes);
    let mut etags: Vec<Etag> =
        (0..SIZES.documents).map(|id| docs.get(key(id)).expect("get").expect("loaded").etag).collect();
    criterion.bench_function("get, in the document cache", |bencher| {
        bencher.iter(|| black_box(docs.get(key(any())).expect("get").expect("loaded")));
    });
    criterion.bench_function("get, no such document", |bencher| {
        bencher.iter(|| black_box(docs.get(key(SIZES.documents + any())).expect("get")));
    });
    criterion.bench_function("scan of 100", |bencher| {
        bencher.iter(|| {
            let scan = docs.scan(&ScanRange::all().from(key(any() / 2))).expect("scan");
            scan.take(100).for_each(|entry| drop(black_box(entry.expect("scan"))));
        });
    });
    criterion.bench_function("feed, a page of 100", |bencher| {
        bencher.iter(|| {
            let feed = docs.changes(FeedMode::Latest, CommitSeq::new(any() / 2)).expect("feed");
            black_box(feed.page_entries(100).read().expect("page"));
        });
    });
    let mut bodies = Bodies::new(0, SIZES.bytes);
    criterion.bench_function("conflict", |bencher| {
        bencher.iter(|| match docs.put(key(any()), bodies.make(), Precondition::Absent) {
            Err(Error::Conflict(conflict)) => black_box(conflict),
            other => panic!("expected a conflict, not {other:?}"),
        });
    });
    criterion.bench_function("compare-and-swap, Buffered", |bencher| {
        bencher.iter(|| {
            let id = any();
            let written = docs.put(key(id), bodies.make(), etags[id as usize]).expect("nobody else writes");
            etags[id as usize] = written.etag;
        });
    });
    drop((store, docs));
}

criterion_group! {
    name = latency;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = operations
}
criterion_main!(latency);
