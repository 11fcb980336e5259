//! The list of databases, containers and offers: stored as documents, and kept in memory for every request's look-up.
//!
//! Owns the collections `sys/*`; what a container has in the store is opened by `contents`. Nothing else
//! writes them, and nothing is changed in memory before its batch is durable, so memory and disk agree by construction.
//!
//! # What a crash leaves
//!
//! A container is made in two steps: first its item collection, then, in one batch, its document, its offer and the
//! counter that its rid came from. It is deleted in the opposite order. A crash between the steps leaves an item
//! collection that no container names, and [`Catalog::open`] drops those. A rid is never given out twice: its counter
//! moves in the same batch, and is not moved back when the batch fails.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use etagdb::{
    Collection, CommitSeq, Document, Error, Etag, Precondition, ScanRange, Snapshot, Store, WriteBatch, Written,
};
use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::config::ServeError;
use crate::contents::Contents;
use crate::headers::Throughput;
use crate::index::{Builder, Indexes};
use crate::key_ranges::{self, KeyRanges};
use crate::metadata::{self, ContainerDefinition};
use crate::offers::{Offer, StoredOffer};
use crate::rid::{ContainerRid, DatabaseRid, OfferRid};
use crate::routes::ContainerPath;
use crate::status::{ApiError, Kind, OWNER_NOT_FOUND};
use crate::unique::UniqueKeys;

/// The one document in `sys/counters`.
const COUNTERS_ID: &str = "rids";
/// Container rids have 31 bits for their number.
const NUMBERS_MAX: u32 = (1 << 31) - 1;
/// Offer rids have three bytes.
const OFFERS_MAX: u32 = (1 << 24) - 1;

/// A database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) rid: DatabaseRid,
    pub(crate) id: String,
    pub(crate) etag: Etag,
    /// Seconds since 1970 of the last write.
    pub(crate) ts: u64,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) rid: ContainerRid,
    pub(crate) definition: ContainerDefinition,
    pub(crate) ranges: KeyRanges,
    pub(crate) indexes: Arc<Indexes>,
    pub(crate) etag: Etag,
    pub(crate) ts: u64,
    pub(crate) items: Collection,
    pub(crate) unique: Option<Arc<UniqueKeys>>,
    /// `dbs/<rid>/colls/<rid>/`
    pub(crate) self_link: String,
    /// `dbs/<name>/colls/<name>`
    pub(crate) name_link: String,
    /// Its rid and its `name_link` as headers carry them; a name may have what no header can hold.
    pub(crate) content_path: Option<HeaderValue>,
    pub(crate) alt_content_path: Option<HeaderValue>,
}

/// What `sys/databases` holds under a database's number.
#[derive(Debug, Serialize, Deserialize)]
struct StoredDatabase {
    id: String,
    rid: u32,
}

/// What `sys/containers` holds under a container's numbers.
#[derive(Debug, Serialize, Deserialize)]
struct StoredContainer {
    database: u32,
    rid: u32,
    definition: ContainerDefinition,
    /// How many partition key ranges it has.
    #[serde(default = "one")]
    ranges: u32,
}

/// Containers that were made before there could be several ranges have one.
fn one() -> u32 {
    1
}

/// The numbers to be given out next.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Counters {
    database: u32,
    container: u32,
    offer: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Catalog {
    store: Store,
    databases: Collection,
    containers: Collection,
    offers: Collection,
    counters: Collection,
    /// Held through a change, from judging it to publishing it: changes happen one after the other.
    next: Mutex<Counters>,
    state: RwLock<State>,
    /// Builds and drops indexes in the background.
    pub(crate) builder: Builder,
}

#[derive(Debug, Default)]
struct State {
    databases: BTreeMap<u32, Entry>,
    names: HashMap<String, u32>,
    offers: BTreeMap<u32, Arc<Offer>>,
}

#[derive(Debug)]
struct Entry {
    database: Arc<Database>,
    containers: BTreeMap<u32, Arc<Container>>,
    names: HashMap<String, u32>,
}

impl Catalog {
    /// Reads the list, and drops what a crash left half done.
    pub(crate) fn open(store: &Store) -> Result<Catalog, ServeError> {
        let system = |name: &str| match store.collection(name) {
            Err(Error::ReadOnly { .. }) => {
                let message = "there is none: neither a server nor an import has written to this store";
                Err(ServeError::Metadata(message.to_owned()))
            }
            collection => Ok(collection?),
        };
        let databases = system("sys/databases")?;
        let containers = system("sys/containers")?;
        let offers = system("sys/offers")?;
        let counters = system("sys/counters")?;
        let next = match counters.get(COUNTERS_ID)? {
            Some(document) => decode::<Counters>(&document, "sys/counters")?,
            None => Counters { database: 1, container: 1, offer: 1 },
        };
        let builder =
            Builder::spawn().map_err(|error| ServeError::Metadata(format!("no thread for indexes: {error}")))?;
        let mut state = State::default();
        for document in documents(&databases)? {
            let stored: StoredDatabase = decode(&document, "sys/databases")?;
            let rid = DatabaseRid(stored.rid);
            let database = Database { rid, id: stored.id, etag: document.etag, ts: document.time_ms / 1000 };
            state.insert_database(database);
        }
        for document in documents(&containers)? {
            let stored: StoredContainer = decode(&document, "sys/containers")?;
            let rid = ContainerRid { database: stored.database, container: stored.rid };
            let Some(entry) = state.databases.get(&stored.database) else {
                return Err(ServeError::Metadata(format!("container {rid} belongs to no database")));
            };
            let contents = Contents::open(store, rid, &stored.definition, &builder)?;
            let version = (document.etag, document.time_ms / 1000);
            let ranges = KeyRanges::new(&stored.definition.partition_key, stored.ranges);
            let container = Container::new(&entry.database, rid, stored.definition, ranges, version, contents);
            state.insert_container(Arc::new(container));
        }
        for document in documents(&offers)? {
            let stored: StoredOffer = decode(&document, "sys/offers")?;
            state.offers.insert(stored.rid, Arc::new(Offer::new(stored, document.etag, document.time_ms / 1000)));
        }
        let known: Vec<String> =
            state.databases.values().flat_map(|entry| entry.containers.values()).map(|c| c.rid.to_string()).collect();
        // Who only reads the store does not ask for what no container has.
        let swept = if store.is_writable() { store.collections() } else { Vec::new() };
        for name in swept {
            if Contents::owner(&name).is_some_and(|owner| !known.iter().any(|rid| rid == owner)) {
                tracing::info!(collection = %name, "dropping items of a container that was half made or half deleted");
                store.drop_collection(&name)?;
            }
        }
        Ok(Catalog {
            store: store.clone(),
            databases,
            containers,
            offers,
            counters,
            next: Mutex::new(next),
            state: RwLock::new(state),
            builder,
        })
    }

    /// Finds a database by its name or its rid.
    pub(crate) fn database(&self, name: &str) -> Result<Arc<Database>, ApiError> {
        let state = self.state.read();
        state.find(name).map(|entry| Arc::clone(&entry.database)).ok_or_else(|| no_database(name))
    }

    /// Finds a container by names or rids.
    pub(crate) fn container(&self, path: &ContainerPath) -> Result<Arc<Container>, ApiError> {
        let state = self.state.read();
        let entry = state.find(&path.database).ok_or_else(|| no_database(&path.database).substatus(OWNER_NOT_FOUND))?;
        entry.find(&path.container).map(Arc::clone).ok_or_else(|| {
            ApiError::not_found(format!(
                "Resource Not Found. There is no container {:?} in the database {:?}.",
                path.container, path.database
            ))
            .substatus(OWNER_NOT_FOUND)
        })
    }

    /// Tells whether a container that was found a moment ago is still there.
    pub(crate) fn still_has(&self, rid: ContainerRid) -> bool {
        let state = self.state.read();
        state.databases.get(&rid.database).is_some_and(|entry| entry.containers.contains_key(&rid.container))
    }

    /// All databases, oldest first.
    pub(crate) fn list_databases(&self) -> Vec<Arc<Database>> {
        self.state.read().databases.values().map(|entry| Arc::clone(&entry.database)).collect()
    }

    /// All containers of a database, oldest first.
    pub(crate) fn list_containers(&self, database: DatabaseRid) -> Vec<Arc<Container>> {
        let state = self.state.read();
        state.databases.get(&database.0).map(|entry| entry.containers.values().cloned().collect()).unwrap_or_default()
    }

    /// All offers, oldest first.
    pub(crate) fn list_offers(&self) -> Vec<Arc<Offer>> {
        self.state.read().offers.values().cloned().collect()
    }

    /// Finds an offer by its rid.
    pub(crate) fn offer(&self, rid: &str) -> Result<Arc<Offer>, ApiError> {
        let state = self.state.read();
        let number = rid.parse::<OfferRid>().ok().map(|rid| rid.0);
        number
            .and_then(|number| state.offers.get(&number))
            .cloned()
            .ok_or_else(|| ApiError::not_found(format!("There is no offer {rid:?}.")))
    }

    /// Makes a database, and its offer if throughput was asked for.
    pub(crate) fn create_database(
        &self,
        id: String,
        throughput: Option<Throughput>,
    ) -> Result<Arc<Database>, ApiError> {
        let mut next = self.next.lock();
        let taken = {
            let state = self.state.read();
            state.names.get(&id).and_then(|number| state.databases.get(number)).map(|entry| entry.database.etag)
        };
        if let Some(etag) = taken {
            return Err(ApiError::conflict(Some(etag)));
        }
        let rid = DatabaseRid(next.database);
        next.database = following(next.database, NUMBERS_MAX)?;
        let offer = throughput
            .map(|throughput| new_offer(&mut next, format!("dbs/{rid}/"), rid.to_string(), &throughput))
            .transpose()?;

        let mut batch = self.store.batch();
        batch.put(
            &self.databases,
            number_key(&[rid.0]),
            encode(&StoredDatabase { id: id.clone(), rid: rid.0 })?,
            Precondition::Absent,
        );
        self.put_counters_and_offer(&mut batch, *next, offer.as_ref())?;
        let written = batch.commit()?;
        let (etag, ts) = version(written.first())?;

        let mut state = self.state.write();
        let database = state.insert_database(Database { rid, id, etag, ts });
        state.insert_offer(offer, &written);
        Ok(database)
    }

    /// Deletes a database with all its containers.
    pub(crate) fn delete_database(&self, name: &str) -> Result<(), ApiError> {
        let _next = self.next.lock();
        let database = self.database(name)?;
        let containers = self.list_containers(database.rid);
        let mut batch = self.store.batch();
        batch.delete(&self.databases, number_key(&[database.rid.0]), Precondition::Present);
        let mut owners = vec![database.rid.to_string()];
        for container in &containers {
            batch.delete(
                &self.containers,
                number_key(&[database.rid.0, container.rid.container]),
                Precondition::Present,
            );
            owners.push(container.rid.to_string());
        }
        let offers = self.delete_offers(&mut batch, &owners);
        batch.commit()?;
        {
            let mut state = self.state.write();
            state.databases.remove(&database.rid.0);
            state.names.remove(&database.id);
            state.offers.retain(|rid, _| !offers.contains(rid));
        }
        for container in &containers {
            container.indexes.close();
            self.drop_items(container.rid);
        }
        Ok(())
    }

    /// Makes a container, and its offer unless the database's throughput is shared.
    pub(crate) fn create_container(
        &self,
        database: &str,
        definition: ContainerDefinition,
        throughput: Option<Throughput>,
    ) -> Result<Arc<Container>, ApiError> {
        let mut next = self.next.lock();
        let database = self.database(database)?;
        let (taken, shared) = {
            let state = self.state.read();
            let entry = state.databases.get(&database.rid.0).ok_or_else(|| no_database(&database.id))?;
            let taken = entry.names.get(&definition.id).and_then(|number| entry.containers.get(number)).map(|c| c.etag);
            let owner = database.rid.to_string();
            (taken, state.offers.values().any(|offer| offer.stored.owner == owner))
        };
        if let Some(etag) = taken {
            return Err(ApiError::conflict(Some(etag)));
        }
        let rid = ContainerRid { database: database.rid.0, container: next.container };
        next.container = following(next.container, NUMBERS_MAX)?;
        let throughput = throughput.or((!shared).then_some(Throughput::Fixed(400)));
        let offer = throughput
            .as_ref()
            .map(|throughput| new_offer(&mut next, self_link(rid), rid.to_string(), throughput))
            .transpose()?;

        let count = match &throughput {
            Some(throughput) => key_ranges::count_for(crate::offers::most(throughput)?),
            // It shares what its database has.
            None => 1,
        };
        let ranges = KeyRanges::new(&definition.partition_key, count);
        let contents = Contents::open(&self.store, rid, &definition, &self.builder)?;
        let mut batch = self.store.batch();
        let stored = StoredContainer { database: rid.database, rid: rid.container, definition, ranges: count };
        batch.put(&self.containers, number_key(&[rid.database, rid.container]), encode(&stored)?, Precondition::Absent);
        self.put_counters_and_offer(&mut batch, *next, offer.as_ref())?;
        let written = match batch.commit() {
            Ok(written) => written,
            Err(error) => {
                self.drop_items(rid);
                return Err(error.into());
            }
        };
        let version = version(written.first())?;
        let container = Arc::new(Container::new(&database, rid, stored.definition, ranges, version, contents));
        let mut state = self.state.write();
        state.insert_container(Arc::clone(&container));
        state.insert_offer(offer, &written);
        Ok(container)
    }

    /// Gives a container new policies.
    pub(crate) fn replace_container(&self, path: &ContainerPath, body: &[u8]) -> Result<Arc<Container>, ApiError> {
        let _next = self.next.lock();
        let current = self.container(path)?;
        let database = self.database(&path.database)?;
        let definition = metadata::container_replacement(body, &current.definition)?;
        let rid = current.rid;
        let count = u32::try_from(current.ranges.len()).map_err(|_| internal("a container has too many ranges"))?;
        let ranges = KeyRanges::new(&definition.partition_key, count);
        let stored = StoredContainer { database: rid.database, rid: rid.container, definition, ranges: count };
        let contents = Contents {
            items: current.items.clone(),
            unique: current.unique.clone(),
            indexes: Arc::clone(&current.indexes),
        };
        let mut batch = self.store.batch();
        batch.put(
            &self.containers,
            number_key(&[rid.database, rid.container]),
            encode(&stored)?,
            Precondition::Present,
        );
        let written = batch.commit()?;
        let version = version(written.first())?;
        let definition = stored.definition.clone();
        let container = Arc::new(Container::new(&database, rid, definition, ranges, version, contents.clone()));
        self.state.write().insert_container(Arc::clone(&container));
        // After a crash in between, the next start does this.
        contents.settle(&stored.definition)?;
        Ok(container)
    }

    /// Deletes a container with all its items.
    pub(crate) fn delete_container(&self, path: &ContainerPath) -> Result<(), ApiError> {
        let _next = self.next.lock();
        let container = self.container(path)?;
        let rid = container.rid;
        let mut batch = self.store.batch();
        batch.delete(&self.containers, number_key(&[rid.database, rid.container]), Precondition::Present);
        let offers = self.delete_offers(&mut batch, &[rid.to_string()]);
        batch.commit()?;
        {
            let mut state = self.state.write();
            if let Some(entry) = state.databases.get_mut(&rid.database) {
                entry.containers.remove(&rid.container);
                entry.names.remove(&container.definition.id);
            }
            state.offers.retain(|offer, _| !offers.contains(offer));
        }
        container.indexes.close();
        self.drop_items(rid);
        Ok(())
    }

    /// Gives an offer new content.
    pub(crate) fn replace_offer(&self, rid: &str, content: serde_json::Value) -> Result<Arc<Offer>, ApiError> {
        let _next = self.next.lock();
        let current = self.offer(rid)?;
        let stored = StoredOffer { content, ..current.stored.clone() };
        let mut batch = self.store.batch();
        batch.put(&self.offers, number_key(&[stored.rid]), encode(&stored)?, Precondition::Present);
        let written = batch.commit()?;
        let (etag, ts) = version(written.first())?;
        let offer = Arc::new(Offer::new(stored, etag, ts));
        self.state.write().offers.insert(offer.stored.rid, Arc::clone(&offer));
        Ok(offer)
    }

    /// The counters are the second operation of a batch and the offer, if any, its third.
    fn put_counters_and_offer(
        &self,
        batch: &mut WriteBatch<'_>,
        next: Counters,
        offer: Option<&StoredOffer>,
    ) -> Result<(), ApiError> {
        batch.put(&self.counters, COUNTERS_ID, encode(&next)?, Precondition::Any);
        if let Some(offer) = offer {
            batch.put(&self.offers, number_key(&[offer.rid]), encode(offer)?, Precondition::Absent);
        }
        Ok(())
    }

    fn delete_offers(&self, batch: &mut WriteBatch<'_>, owners: &[String]) -> Vec<u32> {
        let state = self.state.read();
        let offers: Vec<u32> = state
            .offers
            .values()
            .filter(|offer| owners.contains(&offer.stored.owner))
            .map(|offer| offer.stored.rid)
            .collect();
        for rid in &offers {
            batch.delete(&self.offers, number_key(&[*rid]), Precondition::Present);
        }
        offers
    }

    /// Nothing names these items any more, so a failure costs space until the next start and nothing else.
    fn drop_items(&self, rid: ContainerRid) {
        if let Err(error) = Contents::drop(&self.store, rid) {
            tracing::warn!(%error, container = %rid, "the items of a deleted container are still on disk");
        }
    }
}

impl State {
    fn find(&self, name: &str) -> Option<&Entry> {
        match self.names.get(name) {
            Some(number) => self.databases.get(number),
            None => self.databases.get(&name.parse::<DatabaseRid>().ok()?.0),
        }
    }

    fn insert_database(&mut self, database: Database) -> Arc<Database> {
        let database = Arc::new(database);
        self.names.insert(database.id.clone(), database.rid.0);
        let entry = Entry { database: Arc::clone(&database), containers: BTreeMap::new(), names: HashMap::new() };
        self.databases.insert(database.rid.0, entry);
        database
    }

    fn insert_container(&mut self, container: Arc<Container>) {
        if let Some(entry) = self.databases.get_mut(&container.rid.database) {
            entry.names.insert(container.definition.id.clone(), container.rid.container);
            entry.containers.insert(container.rid.container, container);
        }
    }

    fn insert_offer(&mut self, offer: Option<StoredOffer>, written: &[Option<Written>]) {
        if let (Some(stored), Some(Some(written))) = (offer, written.get(2)) {
            self.offers.insert(stored.rid, Arc::new(Offer::new(stored, written.etag, written.time_ms / 1000)));
        }
    }
}

impl Entry {
    fn find(&self, name: &str) -> Option<&Arc<Container>> {
        if let Some(number) = self.names.get(name) {
            return self.containers.get(number);
        }
        let rid: ContainerRid = name.parse().ok()?;
        self.containers.get(&rid.container).filter(|container| container.rid == rid)
    }
}

impl Container {
    fn new(
        database: &Database,
        rid: ContainerRid,
        definition: ContainerDefinition,
        ranges: KeyRanges,
        (etag, ts): (Etag, u64),
        Contents { items, unique, indexes }: Contents,
    ) -> Container {
        let name_link = format!("dbs/{}/colls/{}", database.id, definition.id);
        let content_path = HeaderValue::from_str(&rid.to_string()).ok();
        let alt_content_path = HeaderValue::from_str(&name_link).ok();
        let self_link = self_link(rid);
        Container {
            rid,
            definition,
            ranges,
            indexes,
            etag,
            ts,
            items,
            unique,
            self_link,
            name_link,
            content_path,
            alt_content_path,
        }
    }

    /// The items as of commit `seq`; `None` when that state is gone: dropped by retention, or lost to a restore.
    pub(crate) fn snapshot_at(&self, store: &Store, seq: CommitSeq) -> Result<Option<Snapshot>, Error> {
        match store.snapshot_at(seq) {
            // The snapshot can be whole for other containers and not for this one.
            Ok(snapshot) => Ok((self.items.horizon() <= snapshot.seq()).then_some(snapshot)),
            Err(Error::Invalid(_) | Error::NotRetained { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn self_link(rid: ContainerRid) -> String {
    format!("dbs/{}/colls/{rid}/", rid.database_rid())
}

fn no_database(name: &str) -> ApiError {
    ApiError::not_found(format!("Resource Not Found. There is no database {name:?}."))
}

/// Numbers as document ids: fixed width, so that their order is the order of creation.
fn number_key(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// The number to be given out after `number`.
fn following(number: u32, most: u32) -> Result<u32, ApiError> {
    if number >= most {
        return Err(internal("this store has given out all the resource ids it has"));
    }
    Ok(number + 1)
}

fn internal(message: &str) -> ApiError {
    ApiError::new(Kind::InternalServerError, message)
}

fn new_offer(
    next: &mut Counters,
    resource: String,
    owner: String,
    throughput: &Throughput,
) -> Result<StoredOffer, ApiError> {
    let rid = next.offer;
    next.offer = following(next.offer, OFFERS_MAX)?;
    Ok(StoredOffer { rid, resource, owner, content: crate::offers::content(throughput)? })
}

fn version(written: Option<&Option<Written>>) -> Result<(Etag, u64), ApiError> {
    match written {
        Some(Some(written)) => Ok((written.etag, written.time_ms / 1000)),
        _ => Err(internal("the store reported no version for a write")),
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| internal(&format!("metadata could not be written as JSON: {error}")))
}

fn decode<T: serde::de::DeserializeOwned>(document: &Document, collection: &str) -> Result<T, ServeError> {
    serde_json::from_slice(&document.body)
        .map_err(|error| ServeError::Metadata(format!("a document in {collection} is not understood: {error}")))
}

fn documents(collection: &Collection) -> Result<Vec<Document>, ServeError> {
    let mut all = Vec::new();
    for row in collection.scan(&ScanRange::all())? {
        all.push(row?.1);
    }
    Ok(all)
}
