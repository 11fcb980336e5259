//! How RocksDB is set up, and why each of its options that is not at its default is not.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, SliceTransform};

use super::{EXPIRY, FEED, META, VERSIONS, failure};
use crate::encoding;
use crate::error::Result;
use crate::options::Options;

pub(super) fn families(options: &Options) -> [ColumnFamilyDescriptor; 4] {
    let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
    [
        ColumnFamilyDescriptor::new(META, family_options(&cache, options)),
        ColumnFamilyDescriptor::new(VERSIONS, versions_options(&cache, options)),
        ColumnFamilyDescriptor::new(FEED, family_options(&cache, options)),
        ColumnFamilyDescriptor::new(EXPIRY, family_options(&cache, options)),
    ]
}

pub(super) fn database_options(create: bool) -> Result<rocksdb::Options> {
    // Closing a store writes its memory tables itself, or does not, after a failure or for reading only.
    let closing = "avoid_flush_during_shutdown=true";
    let mut rocks = rocksdb::Options::default().get_options_from_string(closing).map_err(failure)?;
    rocks.create_if_missing(create);
    rocks.create_missing_column_families(create);
    // Left at its default on purpose: `paranoid_checks` (on: without it background errors vanish).
    //
    // The files of all families are of one moment, which is what their log is replayed from (`log`).
    rocks.set_atomic_flush(true);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    rocks.set_max_background_jobs(i32::try_from(cores.clamp(2, 8)).unwrap_or(2));
    // RocksDB's default keeps every file open. Running out of descriptors once ends writing for good, and a server
    // has connections to hold under the common limit of 1,024.
    rocks.set_max_open_files(512);
    // Writes out dirty pages steadily instead of all at the end of a file; no effect on what is durable.
    rocks.set_bytes_per_sync(1 << 20);
    rocks.set_log_level(LogLevel::Warn);
    rocks.set_keep_log_file_num(4);
    rocks.set_max_log_file_size(4 << 20);
    rocks.set_stats_dump_period_sec(0);
    Ok(rocks)
}

fn family_options(cache: &Cache, options: &Options) -> rocksdb::Options {
    let mut rocks = rocksdb::Options::default();
    rocks.set_write_buffer_size(options.write_buffer_bytes);
    rocks.set_compression_type(DBCompressionType::Lz4);
    // Who only reads has no use for it, and would write to a directory for temporary files.
    rocks.set_disable_auto_compactions(options.read_only);
    rocks.set_block_based_table_factory(&table_options(cache));
    rocks
}

fn versions_options(cache: &Cache, options: &Options) -> rocksdb::Options {
    let mut rocks = family_options(cache, options);
    let prefix = SliceTransform::create(c"etagdb.document", encoding::filter_prefix, Some(|key: &[u8]| key.len() > 8));
    rocks.set_prefix_extractor(prefix);
    // A read of an id that is only in files need not search the memory tables, and the other way round.
    rocks.set_memtable_prefix_bloom_ratio(0.05);
    let mut table = table_options(cache);
    // Nobody asks for a version by its whole key, so filters hold document prefixes only.
    table.set_whole_key_filtering(false);
    table.set_bloom_filter(10.0, false);
    rocks.set_block_based_table_factory(&table);
    rocks
}

fn table_options(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Index and filter blocks count against the cache, so that memory is what the options say.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}
