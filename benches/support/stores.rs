//! The two stores that are compared, raw RocksDB and etagdb, each with the same memory, compression and background
//! threads, and the same documents.

use std::path::{Path, PathBuf};

use etagdb::{Collection, Durability, Options, Precondition, Store};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType};

use crate::{Bodies, key, settle, shuffled};

/// How many documents of which size, and how much memory to keep them in.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// How many documents.
    pub documents: u64,
    /// The size of each body.
    pub bytes: usize,
    /// etagdb's document cache.
    pub document_cache_bytes: usize,
    /// etagdb's block cache. Raw RocksDB's has the bytes of both.
    pub cache_bytes: usize,
}

/// RocksDB as it comes, but for compression, memory and background threads, which are those of etagdb. `tuned`: with
/// what its documentation recommends for many writers and for reads of single keys.
pub fn raw_options(sizes: &Sizes, tuned: bool) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_hyper_clock_cache(sizes.cache_bytes + sizes.document_cache_bytes, 0));
    let mut options = rocksdb::Options::default();
    if tuned {
        table.set_bloom_filter(10.0, false);
        options.set_enable_pipelined_write(true);
    }
    options.set_block_based_table_factory(&table);
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bytes_per_sync(1 << 20);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    options.set_max_background_jobs(i32::try_from(cores.clamp(2, 8)).unwrap_or(2));
    options
}

/// etagdb's options for these sizes.
pub fn ours_options(sizes: &Sizes, durability: Durability) -> Options {
    let options = Options::default().durability(durability);
    options.cache_bytes(sizes.cache_bytes).document_cache_bytes(sizes.document_cache_bytes)
}

/// Raw RocksDB, raw RocksDB tuned, and etagdb, open in one directory with the same documents.
pub struct Pair {
    /// As it comes.
    pub raw: DB,
    /// As its documentation recommends.
    pub tuned: DB,
    /// Ours.
    pub docs: Collection,
    /// Ours.
    pub store: Store,
    sizes: Sizes,
    path: PathBuf,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Pair {
    /// Loads three new stores in `path`, and opens them again, so that all documents are in sorted files.
    pub fn load(path: &Path, sizes: &Sizes) -> Pair {
        let loaded = Pair::open(path, sizes, Durability::Buffered);
        load_raw(&loaded.raw, sizes);
        load_raw(&loaded.tuned, sizes);
        load_ours(&loaded.docs, sizes);
        loaded.reopen(Durability::Sync)
    }

    /// Closes all and opens them again: etagdb with another durability, and all with empty caches.
    pub fn reopen(self, durability: Durability) -> Pair {
        let (path, sizes) = (self.path.clone(), self.sizes);
        // RocksDB leaves its memory table in the log when it closes; etagdb does not.
        for db in [&self.raw, &self.tuned] {
            db.flush().expect("flush RocksDB");
        }
        drop(self);
        settle();
        let opened = Pair::open(&path, &sizes, durability);
        settle();
        opened
    }

    fn open(path: &Path, sizes: &Sizes, durability: Durability) -> Pair {
        let raw = |name: &str, tuned| DB::open(&raw_options(sizes, tuned), path.join(name)).expect("open RocksDB");
        let store = ours_options(sizes, durability).open(path.join("ours")).expect("open etagdb");
        Pair {
            raw: raw("raw", false),
            tuned: raw("tuned", true),
            docs: store.collection("docs").expect("collection"),
            store,
            sizes: *sizes,
            path: path.to_owned(),
        }
    }
}

/// Puts every document into raw RocksDB, in shuffled order.
pub fn load_raw(db: &DB, sizes: &Sizes) {
    let mut bodies = Bodies::new(0, sizes.bytes);
    let ids: Vec<u64> = shuffled(sizes.documents).collect();
    for ids in ids.chunks(1000) {
        let mut batch = rocksdb::WriteBatch::default();
        for &id in ids {
            batch.put(key(id), bodies.make());
        }
        db.write(batch).expect("load RocksDB");
    }
}

/// Puts every document into etagdb, in shuffled order.
pub fn load_ours(docs: &Collection, sizes: &Sizes) {
    let mut bodies = Bodies::new(0, sizes.bytes);
    let all = shuffled(sizes.documents).map(|id| (key(id), bodies.make().to_vec()));
    docs.bulk_load(all, Precondition::Any).expect("load etagdb");
}
