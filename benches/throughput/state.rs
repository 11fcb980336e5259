//! The state that many updates leave behind, once retention has caught up: how fast it is scanned, and how much disk it
//! takes.

use std::time::Instant;

use bench_support::{
    Bodies, Figures, Goal, Line, Sizes, directory_bytes, key, load_ours, load_raw, median, ours_options, raw_options,
    settle, shuffled,
};
use etagdb::{Collection, Durability, Precondition, Retention, ScanRange, Store};
use rocksdb::{DB, IteratorMode};

use crate::settings::Settings;

const BYTES: usize = 1024;
/// How often each document is updated.
const UPDATES: u64 = 10;

const SCAN: &str = "scan of the latest after 10 updates each";
const DISK: &str = "disk after 10 updates each, MiB";

pub(crate) const NAMES: [&str; 2] = [SCAN, DISK];

/// Loads, updates and compares.
pub(crate) fn measure(settings: &Settings, mut show: impl FnMut(Line)) {
    if !NAMES.iter().any(|name| settings.wants(name)) {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let (raw_path, ours_path) = (dir.path().join("raw"), dir.path().join("ours"));
    let sizes =
        Sizes { documents: settings.documents, bytes: BYTES, document_cache_bytes: 64 << 20, cache_bytes: 128 << 20 };
    let open_raw = || DB::open(&raw_options(&sizes, false), &raw_path).expect("open RocksDB");
    let open_ours = || ours_options(&sizes, Durability::Buffered).open(&ours_path).expect("open etagdb");
    let (raw, store) = (open_raw(), open_ours());
    let docs = store.collection("docs").expect("collection");
    // Superseded versions may go at once; the background drops them as it does in production.
    docs.set_retention(Retention::age(std::time::Duration::ZERO)).expect("retention");
    load_raw(&raw, &sizes);
    load_ours(&docs, &sizes);
    for _ in 0..UPDATES {
        update_all(&raw, &store, &docs, &sizes);
    }
    // Maintenance compacts when much was dropped; raw RocksDB may do so, too.
    store.run_maintenance().expect("maintenance");
    raw.flush().expect("flush RocksDB");
    raw.compact_range(None::<&[u8]>, None::<&[u8]>);
    drop((raw, docs, store));
    let (raw, store) = (open_raw(), open_ours());
    let docs = store.existing_collection("docs").expect("made above");
    settle();
    let pass = |scan: &dyn Fn() -> u64| {
        let began = Instant::now();
        assert_eq!(scan(), sizes.documents, "documents in the scan");
        sizes.documents as f64 / began.elapsed().as_secs_f64()
    };
    // Both hand out every id and body as a copy of its own.
    let scan_raw = || raw.iterator(IteratorMode::Start).try_fold(0, |count, row| row.map(|_| count + 1)).expect("scan");
    let scan_ours = || {
        let mut scan = docs.scan(&ScanRange::all()).expect("scan");
        scan.try_fold(0, |count, entry| entry.map(|_| count + 1)).expect("scan")
    };
    pass(&scan_raw);
    pass(&scan_ours);
    let rounds: Vec<(f64, f64)> = (0..2 * settings.rounds + 1).map(|_| (pass(&scan_raw), pass(&scan_ours))).collect();
    let line = |name: &str, unit: &str, raw: f64, ours: f64, ratio: f64, goal| Line {
        name: name.to_owned(),
        unit: unit.to_owned(),
        raw: Some(Figures::of(raw)),
        tuned: None,
        ours: Figures::of(ours),
        ratio: Some(ratio),
        goal,
        others: 0.0,
    };
    let (raws, ourses) = rounds.iter().copied().unzip();
    let ratio = median(rounds.iter().map(|(raw, ours)| ours / raw).collect());
    show(line(SCAN, "1/s", median(raws), median(ourses), ratio, Goal::RatioAtLeast(0.8)));
    let mib = |path| directory_bytes(path) as f64 / f64::from(1 << 20);
    let (raw_mib, ours_mib) = (mib(&raw_path), mib(&ours_path));
    show(line(DISK, "MiB", raw_mib, ours_mib, ours_mib / raw_mib, Goal::RatioAtMost(1.3)));
}

/// Gives every document a new body, in both stores.
fn update_all(raw: &DB, store: &Store, docs: &Collection, sizes: &Sizes) {
    let mut bodies = Bodies::new(store.last_commit().get(), sizes.bytes);
    let ids: Vec<u64> = shuffled(sizes.documents).collect();
    for ids in ids.chunks(1000) {
        let (mut rows, mut batch) = (rocksdb::WriteBatch::default(), store.batch());
        for &id in ids {
            let body = bodies.make();
            rows.put(key(id), body);
            batch.put(docs, key(id), body, Precondition::Present);
        }
        raw.write(rows).expect("update RocksDB");
        batch.commit().expect("update etagdb");
    }
}
