//! The engines, by the name they have in the tables.

mod etag;
mod fjall;
mod lmdb;
mod redb;
mod rocks;
mod sled;
mod sqlite;
mod surrealkv;

use crate::engine::Open;

/// An engine that can be compared.
pub(crate) struct Peer {
    /// As `--engines` and the tables name it.
    pub(crate) name: &'static str,
    /// The package in `Cargo.lock` that says which version it is.
    pub(crate) package: &'static str,
    pub(crate) open: Open,
    /// Whether a lost update is an error. Not for the yardstick, which compares nothing.
    pub(crate) compares: bool,
    /// What a reader of its figures must know.
    pub(crate) note: Option<&'static str>,
}

impl Peer {
    const fn new(name: &'static str, package: &'static str, open: Open) -> Peer {
        Peer { name, package, open, compares: true, note: None }
    }

    /// A yardstick writes without looking at what is there.
    const fn yardstick(name: &'static str, open: Open) -> Peer {
        let note =
            Some("a plain `Put` where the others compare and swap: it loses updates, and is here as the yardstick");
        Peer { compares: false, note, ..Peer::new(name, "rocksdb", open) }
    }
}

/// From its source, and from what the manual page of the system call warns of.
const SLED_SYNC: &str = "its flush is `sync_file_range`, which leaves the disk's own cache and the file's length alone: \
                         its synced columns promise less than the others'";

/// The yardstick that every figure is divided by.
pub(crate) const YARDSTICK: &str = "raw RocksDB";

/// Ours.
pub(crate) const OURS: &str = "etagdb";

/// All of them, in the order of the table.
pub(crate) const PEERS: [Peer; 11] = [
    Peer::yardstick(YARDSTICK, rocks::open_default),
    Peer::yardstick("raw RocksDB, tuned", rocks::open_tuned),
    Peer::new(OURS, "etagdb", etag::open),
    Peer::new("RocksDB OptimisticTransactionDB", "rocksdb", rocks::open_optimistic),
    Peer::new("RocksDB TransactionDB", "rocksdb", rocks::open_pessimistic),
    Peer::new("redb", "redb", redb::open),
    Peer::new("fjall", "fjall", fjall::open),
    Peer::new("heed (LMDB)", "heed", lmdb::open),
    Peer::new("SurrealKV", "surrealkv", surrealkv::open),
    Peer { note: Some(SLED_SYNC), ..Peer::new("sled", "sled", sled::open) },
    Peer::new("SQLite", "rusqlite", sqlite::open),
];
