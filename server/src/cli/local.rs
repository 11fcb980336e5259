//! A container of a store in a directory, as an import's destination.

use std::path;

use etagdb::Options;
use etagdb_server::{ImportError, LocalContainer, ServeError};

use super::destination::{Destination, Stored, UpsertError};
use super::document::{Document, Path};
use super::{Failure, store_failure};

/// A container in this process. The store closes when this goes.
#[derive(Debug)]
pub(super) struct Local(LocalContainer);

impl Local {
    /// Opens `container` in the store in `data`, creating what is missing.
    pub(super) fn open(
        data: &path::Path,
        database: &str,
        container: &str,
        partition_key: &[Path],
    ) -> Result<Local, Failure> {
        let store = Options::default().open(data).map_err(|error| {
            store_failure(data, &error, "if that is a server, import with --url; or else stop it first")
        })?;
        let paths: Vec<String> = partition_key.iter().map(|path| path.as_str().to_owned()).collect();
        match LocalContainer::open(&store, database, container, &paths) {
            Ok(container) => Ok(Local(container)),
            Err(error) => Err(Failure::Failed(explain(&error))),
        }
    }
}

impl Destination for Local {
    fn upsert(&self, document: &Document) -> Result<Stored, UpsertError> {
        match self.0.upsert(&document.text) {
            Ok(upserted) => Ok(Stored { created: upserted.created, etag: upserted.etag }),
            Err(ImportError::Refused(reason)) => Err(UpsertError::Refused(reason)),
            Err(error) => Err(UpsertError::Failed(explain(&error))),
        }
    }
}

pub(super) fn explain(error: &ImportError) -> String {
    match error {
        ImportError::Failed(ServeError::Store(error)) => error.to_string(),
        ImportError::Failed(ServeError::Metadata(message)) => message.clone(),
        error => error.to_string(),
    }
}
