//! The rows of the default column family: what a store knows of itself, its collections and its own work. Owns their keys
//! and records, drawn at the top of `encoding`.

use bincode::config;

use super::{CollectionNumber, array};
use crate::error::{Error, Result};

pub(crate) const APPLIED_KEY: &[u8] = b"applied";
pub(crate) const STORE_KEY: &[u8] = b"store";
pub(crate) const NEXT_COLLECTION_KEY: &[u8] = b"next-collection";
pub(crate) const COLLECTION_PREFIX: &[u8] = b"collection/";
pub(crate) const SWEPT_KEY: &[u8] = b"swept";
pub(crate) const DROPPED_PREFIX: &[u8] = b"dropped/";
pub(crate) const EPOCH_PREFIX: &[u8] = b"epoch/";
pub(crate) const CURSOR_PREFIX: &[u8] = b"cursor/";
pub(crate) const HORIZON_PREFIX: &[u8] = b"horizon/";
pub(crate) const EXPIRE_PREFIX: &[u8] = b"expire/";
pub(crate) const TRIM_PREFIX: &[u8] = b"trim/";

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct StoreRecord {
    pub(crate) format: u32,
    pub(crate) created_ms: u64,
}

/// What a store knows of a collection.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct CollectionRecord {
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    /// How long superseded versions are kept; `None`: for ever.
    pub(crate) keep_ms: Option<u64>,
    /// How many superseded versions of each existing document are kept however old they are.
    pub(crate) keep_versions: u32,
    pub(crate) ttl: TtlRecord,
}

/// What a collection says of the life of its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) enum TtlRecord {
    /// None expires.
    Off,
    /// Those expire that have a time to live of their own.
    #[default]
    Documents,
    /// The others too, so many milliseconds after their last write.
    After(u64),
}

/// From where on a collection's history is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Horizon {
    /// The oldest sequence as of which every document reads as it was, and from which on every feed row is there.
    pub(crate) complete: u64,
    /// The oldest sequence from which on the tombstone of every document that is still deleted is there.
    pub(crate) deletes: u64,
}

/// How far retention has come along the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TrimPosition {
    /// All that may be dropped on account of the commits up to here is dropped.
    pub(crate) done: u64,
    /// On account of the commits up to here something was dropped, with gaps: where it was looked at before, what a
    /// commit superseded need not be the only older version of its document.
    pub(crate) looked: u64,
}

/// What a store knows of a registered cursor.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct CursorRecord {
    pub(crate) position: u64,
    pub(crate) registered_ms: u64,
    pub(crate) advanced_ms: u64,
}

pub(crate) fn encode_record(record: &impl bincode::Encode) -> Result<Vec<u8>> {
    bincode::encode_to_vec(record, config::standard()).map_err(Error::io)
}

pub(crate) fn decode_record<T: bincode::Decode<()>>(what: &str, bytes: &[u8]) -> Result<T> {
    match bincode::decode_from_slice(bytes, config::standard()) {
        Ok((record, read)) if read == bytes.len() => Ok(record),
        Ok((_, read)) => Err(Error::Corruption(format!("{what} has {} bytes too many", bytes.len() - read))),
        Err(cause) => Err(Error::Corruption(format!("{what} cannot be decoded: {cause}"))),
    }
}

pub(crate) fn collection_key(number: CollectionNumber) -> Vec<u8> {
    [COLLECTION_PREFIX, &number.to_be_bytes()].concat()
}

pub(crate) fn collection_of_key(key: &[u8]) -> Result<CollectionNumber> {
    suffix(key, COLLECTION_PREFIX).map(u32::from_be_bytes)
}

pub(crate) fn dropped_key(number: CollectionNumber) -> Vec<u8> {
    [DROPPED_PREFIX, &number.to_be_bytes()].concat()
}

pub(crate) fn dropped_of_key(key: &[u8]) -> Result<CollectionNumber> {
    suffix(key, DROPPED_PREFIX).map(u32::from_be_bytes)
}

pub(crate) fn swept(value: &[u8]) -> Result<u64> {
    suffix(value, b"").map(u64::from_le_bytes)
}

pub(crate) fn epoch_key(seq: u64) -> Vec<u8> {
    [EPOCH_PREFIX, &seq.to_be_bytes()].concat()
}

pub(crate) fn epoch_of_row(key: &[u8], value: &[u8]) -> Result<(u64, u64)> {
    let seq = suffix(key, EPOCH_PREFIX).map(u64::from_be_bytes)?;
    Ok((seq, u64::from_le_bytes(suffix(value, b"")?)))
}

pub(crate) fn cursor_key(name: &str) -> Vec<u8> {
    [CURSOR_PREFIX, name.as_bytes()].concat()
}

pub(crate) fn cursor_of_key(key: &[u8]) -> Result<String> {
    key.strip_prefix(CURSOR_PREFIX)
        .and_then(|name| String::from_utf8(name.to_vec()).ok())
        .ok_or_else(|| Error::Corruption(format!("metadata {key:02x?} names no cursor")))
}

pub(crate) fn horizon_key(number: CollectionNumber) -> Vec<u8> {
    [HORIZON_PREFIX, &number.to_be_bytes()].concat()
}

pub(crate) fn horizon_value(horizon: Horizon) -> [u8; 16] {
    array(&[horizon.complete.to_le_bytes(), horizon.deletes.to_le_bytes()].concat())
}

pub(crate) fn horizon_of_row(key: &[u8], value: &[u8]) -> Result<(CollectionNumber, Horizon)> {
    let number = suffix(key, HORIZON_PREFIX).map(u32::from_be_bytes)?;
    let value: [u8; 16] = suffix(value, b"")?;
    let field = |at: usize| u64::from_le_bytes(array(&value[at..at + 8]));
    Ok((number, Horizon { complete: field(0), deletes: field(8) }))
}

pub(crate) fn trim_key(age_ms: u64) -> Vec<u8> {
    [TRIM_PREFIX, &age_ms.to_be_bytes()].concat()
}

pub(crate) fn trim_value(position: TrimPosition) -> [u8; 16] {
    array(&[position.done.to_le_bytes(), position.looked.to_le_bytes()].concat())
}

/// The age and the trim position of a row.
pub(crate) fn trim_of_row(key: &[u8], value: &[u8]) -> Result<(u64, TrimPosition)> {
    let age_ms = suffix(key, TRIM_PREFIX).map(u64::from_be_bytes)?;
    let value: [u8; 16] = suffix(value, b"")?;
    let field = |at: usize| u64::from_le_bytes(array(&value[at..at + 8]));
    Ok((age_ms, TrimPosition { done: field(0), looked: field(8) }))
}

pub(crate) fn expire_key(ttl_ms: u64) -> Vec<u8> {
    [EXPIRE_PREFIX, &ttl_ms.to_be_bytes()].concat()
}

/// The time to live and the position of a row.
pub(crate) fn expire_of_row(key: &[u8], value: &[u8]) -> Result<(u64, u64)> {
    let ttl_ms = suffix(key, EXPIRE_PREFIX).map(u64::from_be_bytes)?;
    Ok((ttl_ms, u64::from_le_bytes(suffix(value, b"")?)))
}

/// A position in the log.
pub(crate) fn position(value: &[u8]) -> Result<u64> {
    suffix(value, b"").map(u64::from_le_bytes)
}

pub(crate) fn next_collection(value: &[u8]) -> Result<CollectionNumber> {
    suffix(value, b"").map(u32::from_le_bytes)
}

fn suffix<const N: usize>(bytes: &[u8], prefix: &[u8]) -> Result<[u8; N]> {
    bytes
        .strip_prefix(prefix)
        .and_then(|rest| rest.try_into().ok())
        .ok_or_else(|| Error::Corruption(format!("metadata {bytes:02x?} has the wrong length")))
}
