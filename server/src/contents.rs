//! What a container has in the store: the collection of its items, the one of the guards of its unique keys, and the one
//! of the entries of its indexes.
//!
//! Owns the names of these collections, `docs/<container rid>`, `unique/<container rid>` and `index/<container rid>`, and
//! what the store is told about them. Which containers there are is the catalog's.

use std::sync::Arc;

use etagdb::{Collection, Error, Store};

use crate::index::{Builder, Indexes};
use crate::metadata::{self, ContainerDefinition};
use crate::rid::ContainerRid;
use crate::ttl;
use crate::unique::{self, UniqueKeys};

const ITEMS_PREFIX: &str = "docs/";
const GUARDS_PREFIX: &str = "unique/";
const ENTRIES_PREFIX: &str = "index/";
const PREFIXES: [&str; 3] = [ITEMS_PREFIX, GUARDS_PREFIX, ENTRIES_PREFIX];

/// The collections of one container.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) items: Collection,
    /// `None` without unique keys.
    pub(crate) unique: Option<Arc<UniqueKeys>>,
    pub(crate) indexes: Arc<Indexes>,
}

impl Contents {
    /// Opens what a container has, and makes what it does not have yet. What its indexes lack comes about on the
    /// builder's thread. Of a store that is only read nothing is changed.
    pub(crate) fn open(
        store: &Store,
        rid: ContainerRid,
        definition: &ContainerDefinition,
        builder: &Builder,
    ) -> Result<Contents, Error> {
        let keys =
            unique::parse(definition.unique_key_policy.as_ref()).map_err(|error| Error::Invalid(error.message))?;
        let items = store.collection(&format!("{ITEMS_PREFIX}{rid}"))?;
        let unique = if keys.is_empty() {
            None
        } else {
            Some(Arc::new(UniqueKeys::new(keys, store.collection(&format!("{GUARDS_PREFIX}{rid}"))?)))
        };
        let indexes = Indexes::new(store, &items, format!("{ENTRIES_PREFIX}{rid}"), builder);
        let contents = Contents { items, unique, indexes };
        if store.is_writable() {
            contents.settle(definition)?;
        } else {
            contents.indexes.show()?;
        }
        Ok(contents)
    }

    /// Tells the store what a container's definition asks of it: when items expire, for how long what they were is kept,
    /// and which indexes there are.
    pub(crate) fn settle(&self, definition: &ContainerDefinition) -> Result<(), Error> {
        let ttl = ttl::of_collection(definition.default_ttl);
        let retention = metadata::retention(definition);
        let guards = self.unique.as_ref().map(|unique| &unique.guards);
        for collection in std::iter::once(&self.items).chain(guards) {
            if collection.ttl() != ttl {
                collection.set_ttl(ttl)?;
            }
            if collection.retention() != retention {
                collection.set_retention(retention)?;
            }
        }
        // An entry goes with its item, not by a time of its own.
        self.indexes.settle(&definition.indexing_policy, retention)
    }

    /// The items that the entries in a collection are of, and these entries, if it holds any.
    pub(crate) fn indexed(store: &Store, name: &str) -> Option<(Collection, Collection)> {
        let rid = name.strip_prefix(ENTRIES_PREFIX)?;
        Some((store.existing_collection(&format!("{ITEMS_PREFIX}{rid}"))?, store.existing_collection(name)?))
    }

    /// Drops all that a container had.
    pub(crate) fn drop(store: &Store, rid: ContainerRid) -> Result<(), Error> {
        for prefix in PREFIXES {
            store.drop_collection(&format!("{prefix}{rid}"))?;
        }
        Ok(())
    }

    /// The rid of the container that a collection is of, in text, if it is of one.
    pub(crate) fn owner(name: &str) -> Option<&str> {
        PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))
    }
}
