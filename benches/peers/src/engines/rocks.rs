//! RocksDB four times: bare, with default options and as its wiki tunes it, and its two kinds of transactions.

use rocksdb::{
    BlockBasedOptions, Cache, DB, Error, ErrorKind, OptimisticTransactionDB, OptimisticTransactionOptions, Options,
    Transaction, TransactionDB, TransactionDBOptions, TransactionOptions, WriteBatch, WriteBatchWithTransaction,
    WriteOptions,
};

use crate::engine::{CACHE_BYTES, Decide, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

/// The yardstick.
pub(super) fn open_default(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, opening.dir)?;
    run(&Raw { db, write: write_options(opening), numbers: Numbers::default() })
}

pub(super) fn open_tuned(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let mut options = tuned();
    // Not among the wiki's: the log of the next group is written while the rows of this one go into memory.
    options.set_enable_pipelined_write(true);
    let db = DB::open(&options, opening.dir)?;
    run(&Raw { db, write: write_options(opening), numbers: Numbers::default() })
}

pub(super) fn open_optimistic(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let db = OptimisticTransactionDB::open(&tuned(), opening.dir)?;
    run(&Optimistic { db, write: write_options(opening), numbers: Numbers::default() })
}

pub(super) fn open_pessimistic(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let db = TransactionDB::open(&tuned(), &TransactionDBOptions::default(), opening.dir)?;
    run(&Pessimistic { db, write: write_options(opening), numbers: Numbers::default() })
}

/// The wiki's "Setup Options and Basic Tuning", with the compressions that the binding has here.
fn tuned() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_block_size(16 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(6);
    options.set_bytes_per_sync(1 << 20);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_bottommost_compression_type(rocksdb::DBCompressionType::Zstd);
    options
}

fn write_options(opening: Opening<'_>) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(opening.sync);
    options
}

struct Raw {
    db: DB,
    write: WriteOptions,
    numbers: Numbers,
}

impl Engine for Raw {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, body) in documents {
            batch.put(key, pack(self.numbers.next(), body));
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RawSession(self)))
    }
}

struct RawSession<'a>(&'a Raw);

impl RawSession<'_> {
    fn write(&self, key: &[u8], body: &[u8]) -> Result<u64> {
        let version = self.0.numbers.next();
        self.0.db.put_opt(key, pack(version, body), &self.0.write)?;
        Ok(version)
    }
}

impl Session for RawSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let value = self.0.db.get_pinned(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        self.write(key, body)?;
        Ok(())
    }

    /// Compares nothing: a plain `Put`, which is what the others' comparisons are measured against.
    fn compare_and_swap(&mut self, key: &[u8], _: Version, body: &[u8]) -> Result<Option<Version>> {
        Ok(Some(Version::Number(self.write(key, body)?)))
    }
}

/// Whether a transaction failed because of another one.
fn lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut)
}

/// What both kinds of transactions do: read for update, decide, write, commit.
/// `decide` makes the new body from the version and body that are there, or gives up.
fn transact<D>(
    transaction: Transaction<'_, D>,
    numbers: &Numbers,
    key: &[u8],
    decide: Decide<'_>,
) -> std::result::Result<Option<Version>, Error> {
    let exclusive = true;
    let decided = match transaction.get_pinned_for_update(key, exclusive)?.as_deref().map(unpack) {
        Some(Ok((version, body))) => decide(version, body),
        _ => None,
    };
    let Some(body) = decided else { return Ok(None) };
    let next = numbers.next();
    transaction.put(key, pack(next, &body))?;
    transaction.commit()?;
    Ok(Some(Version::Number(next)))
}

/// The two kinds of transactions, which the binding gives no common trait.
macro_rules! transactional {
    ($engine:ident, $session:ident, $db:ty, $options:expr) => {
        struct $engine {
            db: $db,
            write: WriteOptions,
            numbers: Numbers,
        }

        impl Engine for $engine {
            fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
                let mut batch = WriteBatchWithTransaction::<true>::default();
                for (key, body) in documents {
                    batch.put(key, pack(self.numbers.next(), body));
                }
                Ok(self.db.write_opt(batch, &self.write)?)
            }

            fn session(&self) -> Result<Box<dyn Session + '_>> {
                Ok(Box::new($session(self)))
            }
        }

        struct $session<'a>(&'a $engine);

        impl $session<'_> {
            /// `None` if another transaction was faster or `decide` gave up.
            fn transact(&self, key: &[u8], decide: Decide<'_>) -> Result<Option<Version>> {
                let transaction = self.0.db.transaction_opt(&self.0.write, &$options);
                match transact(transaction, &self.0.numbers, key, decide) {
                    Err(error) if lost(&error) => Ok(None),
                    done => Ok(done?),
                }
            }
        }

        impl Session for $session<'_> {
            fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
                let value = self.0.db.get_pinned(key)?.ok_or("the document is not there")?;
                let (version, body) = unpack(&value)?;
                look(Version::Number(version), body);
                Ok(())
            }

            fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
                // Outside a transaction: it reads nothing. TransactionDB locks the key by itself.
                self.0.db.put_opt(key, pack(self.0.numbers.next(), body), &self.0.write)?;
                Ok(())
            }

            fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
                let expected = expected.number()?;
                self.transact(key, &mut |version, _| (version == expected).then(|| body.to_vec()))
            }

            fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
                while self.transact(key, &mut |_, body| Some(change(body)))?.is_none() {}
                Ok(())
            }
        }
    };
}

transactional!(Optimistic, OptimisticSession, OptimisticTransactionDB, OptimisticTransactionOptions::default());
transactional!(Pessimistic, PessimisticSession, TransactionDB, TransactionOptions::default());
