//! Loading documents into an empty store: single puts, batches and bulk load, and raw RocksDB write batches of the same
//! size beside them, with the same durability and the same documents. Prints a table of medians.
//!
//! `cargo bench --bench bulk_load -- [--documents N] [--bytes B] [--rounds R]`

use std::path::Path;
use std::time::Instant;

use bench_support::{Bodies, key, shuffled};
use etagdb::{Collection, Durability, Options, Precondition, Store};

/// As many as the engine puts into a chunk.
const CHUNK: usize = 2_000;

fn main() {
    let (mut documents, mut bytes, mut rounds) = (200_000, 1024, 3);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(flag) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let number: usize = value.unwrap_or_else(|| panic!("{flag} needs a number"));
        match flag.as_str() {
            "--documents" => documents = number,
            "--bytes" => bytes = number,
            "--rounds" => rounds = number,
            _ => panic!("unknown flag {flag}; known are --documents, --bytes and --rounds"),
        }
    }
    println!("{documents} documents of {bytes} bytes, ids in random order; thousands a second, median of {rounds}\n");
    println!("| load | Sync | Buffered |\n|---|---|---|");
    // Single synced puts are slow: fewer of them say as much.
    let few = documents / 10;
    type Row<'a> = (&'a str, usize, &'a dyn Fn(&Path, bool, &Documents) -> f64);
    let rows: [Row<'_>; 7] = [
        ("raw RocksDB, batches of 2,000, one row a document", documents, &|path, sync, docs| raw(path, sync, docs, 1)),
        ("raw RocksDB, batches of 2,000, the engine's two rows", documents, &|path, sync, docs| {
            raw(path, sync, docs, 2)
        }),
        ("put, 1 thread", few, &|path, sync, docs| etagdb(path, sync, docs, |collection| puts(collection, docs, 1))),
        ("put, 16 threads", few, &|path, sync, docs| etagdb(path, sync, docs, |collection| puts(collection, docs, 16))),
        ("batches of 2,000", documents, &|path, sync, docs| batches(path, sync, docs)),
        ("bulk_load, 1 thread", documents, &|path, sync, docs| etagdb(path, sync, docs, |c| bulk(c, docs, 1))),
        ("bulk_load, 4 threads", documents, &|path, sync, docs| etagdb(path, sync, docs, |c| bulk(c, docs, 4))),
    ];
    for (name, count, run) in rows {
        let docs = Documents { ids: shuffled(count as u64).collect(), body: Bodies::new(0, bytes).make().to_vec() };
        let figure = |sync: bool| {
            let mut figures: Vec<f64> = (0..rounds)
                .map(|_| {
                    let dir = tempfile::tempdir().expect("temporary directory");
                    run(&dir.path().join("store"), sync, &docs)
                })
                .collect();
            figures.sort_by(f64::total_cmp);
            figures[rounds / 2] / 1000.0
        };
        println!("| {name} | {:.0} | {:.0} |", figure(true), figure(false));
    }
}

struct Documents {
    ids: Vec<u64>,
    body: Vec<u8>,
}

impl Documents {
    fn all(&self) -> impl Iterator<Item = ([u8; 16], Vec<u8>)> {
        self.ids.iter().map(|&id| (key(id), self.body.clone()))
    }
}

fn per_second(count: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    count as f64 / start.elapsed().as_secs_f64()
}

fn open(path: &Path, sync: bool) -> Store {
    let durability = if sync { Durability::Sync } else { Durability::Buffered };
    Options::default().durability(durability).open(path).expect("open")
}

fn etagdb(path: &Path, sync: bool, docs: &Documents, run: impl FnOnce(&Collection)) -> f64 {
    let collection = open(path, sync).collection("docs").expect("collection");
    per_second(docs.ids.len(), || run(&collection))
}

fn puts(collection: &Collection, docs: &Documents, threads: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for &id in docs.ids.iter().skip(thread).step_by(threads) {
                    collection.put(key(id), &docs.body, Precondition::Absent).expect("put");
                }
            });
        }
    });
}

fn bulk(collection: &Collection, docs: &Documents, threads: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let own = docs.all().skip(thread).step_by(threads);
            scope.spawn(move || collection.bulk_load(own, Precondition::Absent).expect("load"));
        }
    });
}

fn batches(path: &Path, sync: bool, docs: &Documents) -> f64 {
    let store = open(path, sync);
    let collection = store.collection("docs").expect("collection");
    per_second(docs.ids.len(), || {
        for ids in docs.ids.chunks(CHUNK) {
            let mut batch = store.batch();
            for &id in ids {
                batch.put(&collection, key(id), &docs.body, Precondition::Absent);
            }
            batch.commit().expect("commit");
        }
    })
}

fn raw(path: &Path, sync: bool, docs: &Documents, rows: usize) -> f64 {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let db = rocksdb::DB::open_cf(&options, path, ["versions", "feed"]).expect("open");
    let (versions, feed) = (db.cf_handle("versions").expect("family"), db.cf_handle("feed").expect("family"));
    let mut write = rocksdb::WriteOptions::default();
    write.set_sync(sync);
    let mut seq = 0;
    per_second(docs.ids.len(), || {
        for ids in docs.ids.chunks(CHUNK) {
            let mut batch = rocksdb::WriteBatch::default();
            for &id in ids {
                batch.put_cf(versions, key(id), &docs.body);
                if rows == 2 {
                    seq += 1u64;
                    batch.put_cf(feed, seq.to_be_bytes(), [&[0; 14], &key(id)[..]].concat());
                }
            }
            db.write_opt(batch, &write).expect("write");
        }
    })
}
