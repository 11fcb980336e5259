//! Documents as values of a type. Owns the two encodings and what it means that a body does not decode; what is stored
//! are bytes like any others, written and judged by the same path.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::{Abort, Change};
use crate::collection::Collection;
use crate::document::{Document, Written};
use crate::encoding::MAX_BODY_BYTES;
use crate::error::{Cause, Error, Result, Undecodable};
use crate::scan::{Scan, ScanRange};
use crate::{CommitSeq, DocumentTtl, Etag, Precondition, PutOptions};

/// How values become bodies. [`Json`] and [`Bincode`] are ready; a type of your own can be another.
pub trait Encoding {
    /// What error messages call it.
    const NAME: &'static str;

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// Whatever the encoding cannot express.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Cause>;

    /// Decodes a whole body.
    ///
    /// # Errors
    ///
    /// Whatever is no value of `T`, also when there are bytes left over.
    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Cause>;
}

/// JSON text. Fields have names, so fields can be added and (with `#[serde(default)]`) be missing: types may change
/// while documents stay. Other programs can read it, and the HTTP server's documents are JSON too.
#[derive(Debug, Clone, Copy)]
pub enum Json {}

impl Encoding for Json {
    const NAME: &'static str = "JSON";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Cause> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Cause> {
        Ok(serde_json::from_slice(body)?)
    }
}

/// [bincode](https://docs.rs/bincode/2.0.1) 2 with its standard configuration: small and fast, and nothing but the
/// fields' values in order. A type whose fields change cannot read what was written before, and attributes that need
/// names (`flatten`, `untagged`, `skip_serializing_if`) do not work with it.
#[derive(Debug, Clone, Copy)]
pub enum Bincode {}

/// A damaged length must not make the decoder reserve memory without bound. A value's own size can be 16 times that of
/// its encoding (small numbers take one byte, whatever their type), so whatever fits a body is within this.
const BINCODE_LIMIT: usize = 16 * MAX_BODY_BYTES;

const BINCODE: Configuration<LittleEndian, Varint, Limit<BINCODE_LIMIT>> =
    config::standard().with_limit::<BINCODE_LIMIT>();

impl Encoding for Bincode {
    const NAME: &'static str = "bincode";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Cause> {
        Ok(bincode::serde::encode_to_vec(value, BINCODE)?)
    }

    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Cause> {
        let (value, read) = bincode::serde::decode_from_slice(body, BINCODE)?;
        match body.len() - read {
            0 => Ok(value),
            left => Err(format!("{left} bytes are left over").into()),
        }
    }
}

/// One version of a document, as a typed read returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedDocument<T> {
    /// The version's name, for preconditions.
    pub etag: Etag,
    /// The commit that wrote this version.
    pub seq: CommitSeq,
    /// The commit that made the document come into being.
    pub created: CommitSeq,
    /// When this version was committed, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The time to live that it was put with.
    pub ttl: DocumentTtl,
    /// What was put.
    pub value: T,
}

/// A collection seen as documents of type `T`.
///
/// A view: it stores nothing of its own, many views of one collection can be in use at once, and byte writes go on
/// beside it. Cheap to clone. Batches, transactions and snapshots take bytes: [`encode`](TypedCollection::encode) and
/// [`decode`](TypedCollection::decode) are the way there and back.
///
/// # Examples
///
/// ```
/// use etagdb::{Change, Precondition};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Cart {
///     owner: String,
///     pens: u32,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let carts = store.collection("carts")?.typed::<Cart>();
/// carts.put("ana", &Cart { owner: "Ana".into(), pens: 1 }, Precondition::Absent)?;
/// let cart = carts.get("ana")?.expect("just put");
/// carts.put("ana", &Cart { pens: cart.value.pens + 1, ..cart.value }, cart.etag)?;
///
/// // The same without a retry when somebody else is faster.
/// carts.update("ana", |cart| match cart {
///     Some(cart) => Ok(Change::Put(Cart { pens: cart.value.pens + 1, ..cart.value })),
///     None => Ok(Change::Keep),
/// })?;
/// assert_eq!(carts.get("ana")?.expect("there").value.pens, 3);
///
/// // In a batch, beside documents of other types.
/// let mut batch = store.batch();
/// let cart = carts.encode("bert", &Cart { owner: "Bert".into(), pens: 0 })?;
/// batch.put(carts.collection(), "bert", cart, Precondition::Absent);
/// batch.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedCollection<T, E = Json> {
    collection: Collection,
    types: PhantomData<fn() -> (T, E)>,
}

impl Collection {
    /// Sees the collection as documents of type `T`, encoded as JSON.
    pub fn typed<T: Serialize + DeserializeOwned>(&self) -> TypedCollection<T> {
        self.typed_as()
    }

    /// Sees the collection as documents of type `T` in encoding `E`, for example
    /// `typed_as::<Reading, Bincode>()`.
    pub fn typed_as<T: Serialize + DeserializeOwned, E: Encoding>(&self) -> TypedCollection<T, E> {
        TypedCollection { collection: self.clone(), types: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned, E: Encoding> TypedCollection<T, E> {
    /// The collection that this is a view of.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Reads the current version of document `id`, or `None` when there is none. See [`Collection::get`].
    ///
    /// # Errors
    ///
    /// [`Error::Undecodable`] when the body is no `T`; otherwise as [`Collection::get`].
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<TypedDocument<T>>> {
        let id = id.as_ref();
        self.collection.get(id)?.map(|document| self.decode(id, document)).transpose()
    }

    /// Writes `value` as the new version of document `id` if `precondition` holds. See [`Collection::put`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the value cannot be encoded; otherwise as [`Collection::put`].
    pub fn put(&self, id: impl AsRef<[u8]>, value: &T, precondition: impl Into<Precondition>) -> Result<Written> {
        let id = id.as_ref();
        self.collection.put(id, self.encode(id, value)?, precondition)
    }

    /// As [`put`](TypedCollection::put), with options: how long the document is to live.
    ///
    /// # Errors
    ///
    /// As [`put`](TypedCollection::put); [`Error::Invalid`] for a time to live of zero.
    pub fn put_with(
        &self,
        id: impl AsRef<[u8]>,
        value: &T,
        precondition: impl Into<Precondition>,
        options: PutOptions,
    ) -> Result<Written> {
        let id = id.as_ref();
        self.collection.put_with(id, self.encode(id, value)?, precondition, options)
    }

    /// Deletes document `id` if `precondition` holds. See [`Collection::delete`].
    ///
    /// # Errors
    ///
    /// As [`Collection::delete`].
    pub fn delete(&self, id: impl AsRef<[u8]>, precondition: impl Into<Precondition>) -> Result<Option<Written>> {
        self.collection.delete(id, precondition)
    }

    /// Reads document `id`, lets `change` decide, and writes what it says, in one atomic step. `change` gets the
    /// document itself, to change and hand back. See [`Collection::update`].
    ///
    /// # Errors
    ///
    /// [`Error::Undecodable`] when the current body is no `T` (`change` is not called), [`Error::Invalid`] when the new
    /// value cannot be encoded, [`Error::Aborted`] when `change` refuses; otherwise as [`Collection::update`]. Nothing
    /// is written then.
    pub fn update(
        &self,
        id: impl AsRef<[u8]>,
        change: impl FnOnce(Option<TypedDocument<T>>) -> Result<Change<T>, Abort>,
    ) -> Result<Option<Written>> {
        let id = id.as_ref();
        // The engine's closure can only refuse; why it did is kept here.
        let mut failed = None;
        let result = self.collection.update(id, |current| {
            let mut fail = |error| {
                failed = Some(error);
                Abort
            };
            let current = current.map(|document| self.decode(id, document.clone())).transpose().map_err(&mut fail)?;
            Ok(match change(current)? {
                Change::Put(value) => Change::Put(self.encode(id, &value).map_err(&mut fail)?),
                Change::PutWith(value, options) => {
                    Change::PutWith(self.encode(id, &value).map_err(&mut fail)?, options)
                }
                Change::Delete => Change::Delete,
                Change::Keep => Change::Keep,
            })
        });
        match failed {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Reads the current versions of the documents in `range`. See [`Collection::scan`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the collection was dropped. An item can fail as [`get`](TypedCollection::get); after one
    /// that is [`Error::Undecodable`] the scan goes on with the next document.
    pub fn scan(&self, range: &ScanRange) -> Result<TypedScan<'_, T, E>> {
        Ok(TypedScan { scan: self.collection.scan(range)?, view: self })
    }

    /// The body that stands for `value`, for a batch or a transaction that writes it as document `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the value cannot be encoded, naming `id`.
    pub fn encode(&self, id: impl AsRef<[u8]>, value: &T) -> Result<Vec<u8>> {
        E::encode(value).map_err(|cause| {
            let (id, name) = (String::from_utf8_lossy(id.as_ref()), self.collection.name());
            let (encoding, wanted) = (E::NAME, type_name::<T>());
            Error::Invalid(format!("the value for {id:?} in collection {name:?} ({wanted}) is no {encoding}: {cause}"))
        })
    }

    /// The value that document `id` holds, for one that a snapshot, a transaction or a feed has read.
    ///
    /// # Errors
    ///
    /// [`Error::Undecodable`] when the body is no `T`.
    pub fn decode(&self, id: impl AsRef<[u8]>, document: Document) -> Result<TypedDocument<T>> {
        let Document { etag, seq, created, time_ms, ttl, body } = document;
        match E::decode(&body) {
            Ok(value) => Ok(TypedDocument { etag, seq, created, time_ms, ttl, value }),
            Err(cause) => Err(Error::Undecodable(Box::new(Undecodable {
                collection: self.collection.name().to_owned(),
                id: Bytes::copy_from_slice(id.as_ref()),
                etag,
                encoding: E::NAME,
                wanted: type_name::<T>(),
                cause,
            }))),
        }
    }
}

impl<T, E> Clone for TypedCollection<T, E> {
    fn clone(&self) -> TypedCollection<T, E> {
        TypedCollection { collection: self.collection.clone(), types: PhantomData }
    }
}

impl<T, E> fmt::Debug for TypedCollection<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCollection")
            .field("name", &self.collection.name())
            .field("type", &type_name::<T>())
            .finish_non_exhaustive()
    }
}

/// The documents of a range as values, all as of one commit sequence. An iterator of id and document.
pub struct TypedScan<'a, T, E = Json> {
    scan: Scan<'a>,
    view: &'a TypedCollection<T, E>,
}

impl<T, E> TypedScan<'_, T, E> {
    /// The commit sequence that the documents are read at.
    pub fn seq(&self) -> CommitSeq {
        self.scan.seq()
    }
}

impl<T: Serialize + DeserializeOwned, E: Encoding> Iterator for TypedScan<'_, T, E> {
    type Item = Result<(Bytes, TypedDocument<T>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.scan.next()?;
        Some(entry.and_then(|(id, document)| Ok((id.clone(), self.view.decode(&id, document)?))))
    }
}

impl<T, E> fmt::Debug for TypedScan<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedScan").field("seq", &self.scan.seq()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<E: Encoding>() {
        let value = (u64::MAX, String::from("é\0"), vec![Some(1.5f64), None], [(); 0]);
        let body = E::encode(&value).expect("encode");
        assert_eq!(E::decode::<(u64, String, Vec<Option<f64>>, [(); 0])>(&body).expect("decode"), value);
        let longer = [&body[..], b"0"].concat();
        assert!(E::decode::<(u64, String, Vec<Option<f64>>, [(); 0])>(&longer).is_err(), "{}", E::NAME);
        assert!(E::decode::<(u64, String)>(&body[..body.len() - 1]).is_err(), "{}", E::NAME);
    }

    #[test]
    fn values_survive_and_other_lengths_are_refused() {
        round_trip::<Json>();
        round_trip::<Bincode>();
    }

    /// Small numbers of a large type: 16 bytes of value for each byte of body, the most there can be.
    #[test]
    fn the_bincode_limit_refuses_damaged_lengths_and_no_true_ones() {
        let huge_length = [&[0xfd][..], &u64::MAX.to_le_bytes()].concat();
        assert!(Bincode::decode::<String>(&huge_length).is_err());
        assert!(Bincode::decode::<Vec<u8>>(&huge_length).is_err());
        let many = vec![7u128; 1 << 20];
        assert_eq!(Bincode::decode::<Vec<u128>>(&Bincode::encode(&many).expect("encode")).expect("decode"), many);
    }
}
