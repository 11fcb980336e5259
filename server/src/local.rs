//! A container opened in this process, without a socket: what `etagdb import --data` writes to.
//!
//! Owns the public types around it. Items pass through the same checks and the same step as those of a request.

use std::fmt;
use std::sync::Arc;

use etagdb::Store;

use crate::catalog::{Catalog, Container};
use crate::config::ServeError;
use crate::headers::Condition;
use crate::item_key;
use crate::items::Item;
use crate::metadata;
use crate::operations::{Action, Operation, Outcome};
use crate::routes::ContainerPath;
use crate::run::{Mode, Run};
use crate::status::{ApiError, Kind};
use crate::wire;

/// A container of a store in this process. Usable from many threads at once; its writes share their waits for the disk.
///
/// Only one catalog may be at work on a store: do not open a `LocalContainer` on a store that a
/// [`Server`](crate::Server) serves.
#[derive(Debug)]
pub struct LocalContainer {
    store: Store,
    container: Arc<Container>,
}

/// What an upsert did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upserted {
    /// True if there was no item with this id and partition key before.
    pub created: bool,
    /// The item's etag as the wire carries it, quotes included.
    pub etag: String,
}

/// Why a container could not be opened, or an item not written.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// The item or the container's definition was refused. Nothing was written; correct it.
    Refused(String),
    /// The store failed. [`ServeError::Store`] holds the cause, which says whether anything was written.
    Failed(ServeError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Refused(message) => f.write_str(message),
            ImportError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Refused(_) => None,
            ImportError::Failed(error) => Some(error),
        }
    }
}

impl From<ApiError> for ImportError {
    fn from(error: ApiError) -> ImportError {
        let status = error.kind.status();
        if status.is_client_error() && error.kind != Kind::RequestTimeout {
            ImportError::Refused(error.message)
        } else {
            ImportError::Failed(ServeError::Metadata(error.message))
        }
    }
}

impl LocalContainer {
    /// Opens a container, making it and its database if they are missing. `paths` are the paths of the partition key,
    /// such as `/city`; more than one make it hierarchical.
    ///
    /// # Errors
    ///
    /// [`ImportError::Refused`] for names or paths that no container can have, and for a container that is there with
    /// another partition key; [`ImportError::Failed`] when the store does not do its part.
    pub fn open(
        store: &Store,
        database: &str,
        container: &str,
        paths: &[String],
    ) -> Result<LocalContainer, ImportError> {
        let catalog = Catalog::open(store).map_err(ImportError::Failed)?;
        let kind = if paths.len() > 1 { "MultiHash" } else { "Hash" };
        let body = serde_json::json!({
            "id": container,
            "partitionKey": { "paths": paths, "kind": kind, "version": 2 },
        });
        let definition = metadata::container(body.to_string().as_bytes())?;
        if let Err(error) = catalog.database(database) {
            if error.kind != Kind::NotFound {
                return Err(error.into());
            }
            let id = metadata::database_id(serde_json::json!({ "id": database }).to_string().as_bytes())?;
            catalog.create_database(id, None)?;
        }
        let path = ContainerPath { database: database.to_owned(), container: container.to_owned() };
        let container = match catalog.container(&path) {
            Ok(found) => {
                if !found.definition.partition_key.paths().eq(definition.partition_key.paths()) {
                    let there = found.definition.partition_key.paths().map(|names| format!("/{}", names.join("/")));
                    return Err(ImportError::Refused(format!(
                        "container {} exists with the partition key {}, not {}",
                        path.container,
                        there.collect::<Vec<_>>().join(", "),
                        paths.join(", ")
                    )));
                }
                found
            }
            Err(error) if error.kind == Kind::NotFound => catalog.create_container(database, definition, None)?,
            Err(error) => return Err(error.into()),
        };
        Ok(LocalContainer { store: store.clone(), container })
    }

    /// Writes one item, whether it exists or not, under the partition key that it holds itself. Durable as the store's
    /// options say when it returns; blocks for that, so it is not for asynchronous code.
    ///
    /// # Errors
    ///
    /// [`ImportError::Refused`] for something that is no item; [`ImportError::Failed`] when the store does not do its
    /// part.
    pub fn upsert(&self, json: &[u8]) -> Result<Upserted, ImportError> {
        let item = Item::parse(json)?;
        let definition = &self.container.definition.partition_key;
        let key = item_key::item_key(definition, &item.own_key(&self.container)?, &item.id);
        let action = Action::Upsert { body: item.stored, if_match: Condition::None };
        let operation = Operation { key, created: None, action };
        let run = Run {
            store: self.store.clone(),
            container: Arc::clone(&self.container),
            operations: vec![Ok(operation)],
            mode: Mode::AllOrNothing,
            guard: None,
        };
        let mut ran = run.run_blocking()?;
        match ran.outcomes.pop() {
            Some(Outcome::Item(status, version)) => {
                Ok(Upserted { created: status == http::StatusCode::CREATED, etag: wire::quoted(version.etag) })
            }
            Some(Outcome::Refused(error)) => Err(error.into()),
            _ => Err(ImportError::Failed(ServeError::Metadata("an upsert ended without an item".to_owned()))),
        }
    }
}
