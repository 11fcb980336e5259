//! Queries over a container of a store in this process, without a socket: for programs.
//!
//! Owns the public type. A query passes through the same steps as one that comes by HTTP, but for the partition key
//! ranges: nothing is left to a client to merge.

use etagdb::Store;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::as_of;
use crate::auth::MasterKey;
use crate::catalog::Container;
use crate::config::{Config, ServeError};
use crate::headers::Headers;
use crate::local::ImportError;
use crate::query_route;
use crate::routes::ContainerPath;
use crate::service::Service;
use crate::status::ApiError;

/// A container of a store in this process, for reading.
///
/// Only one catalog may be at work on a store: do not open one on a store that a [`Server`](crate::Server) serves.
#[derive(Debug)]
pub struct LocalReader {
    service: Service,
    container: std::sync::Arc<Container>,
}

/// The results of one query, page by page: an iterator over lists of JSON values.
#[derive(Debug)]
pub struct QueryPages<'a> {
    reader: &'a LocalReader,
    body: Vec<u8>,
    headers: HeaderMap,
    done: bool,
}

impl LocalReader {
    /// Opens a container that is there.
    ///
    /// # Errors
    ///
    /// [`ImportError::Refused`] for one that is not; [`ImportError::Failed`] when the store does not do its part.
    pub fn open(store: Store, database: &str, container: &str) -> Result<LocalReader, ImportError> {
        let failed = |message: String| ImportError::Failed(ServeError::Metadata(message));
        let key = MasterKey::from_base64(MasterKey::EMULATOR).map_err(|error| failed(error.to_string()))?;
        let service = Service::open(store, key, &Config::default()).map_err(ImportError::Failed)?;
        let path = ContainerPath { database: database.to_owned(), container: container.to_owned() };
        let container = service.catalog.container(&path).map_err(ImportError::from)?;
        Ok(LocalReader { service, container })
    }

    /// Begins a query. Parameter names include the at sign. `at` reads the past: a commit sequence, a time or an etag.
    ///
    /// # Errors
    ///
    /// [`ImportError::Refused`] for an `at` that no header could hold. What is wrong with the query is said with its
    /// first page.
    pub fn query(
        &self,
        text: &str,
        parameters: &[(String, Value)],
        at: Option<&str>,
    ) -> Result<QueryPages<'_>, ImportError> {
        let parameters: Vec<Value> =
            parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let mut headers = HeaderMap::new();
        if let Some(at) = at {
            let value = HeaderValue::from_str(at)
                .map_err(|_| ImportError::Refused(format!("{at:?} is neither a commit, a time nor an etag")))?;
            headers.insert(as_of::AS_OF, value);
        }
        let body = json!({ "query": text, "parameters": parameters }).to_string().into_bytes();
        Ok(QueryPages { reader: self, body, headers, done: false })
    }
}

impl QueryPages<'_> {
    fn page(&mut self) -> Result<Vec<Value>, ApiError> {
        let LocalReader { service, container } = self.reader;
        let reply = query_route::whole(service, container, Headers(&self.headers), &self.body)?;
        match reply.headers.get("x-ms-continuation") {
            Some(token) => {
                self.headers.insert("x-ms-continuation", token.clone());
            }
            None => self.done = true,
        }
        let unreadable = |error: serde_json::Error| ApiError::bad_request(format!("a page is not JSON: {error}"));
        let mut answer: Value = serde_json::from_slice(&reply.body).map_err(unreadable)?;
        Ok(match answer["Documents"].take() {
            Value::Array(results) => results,
            _ => Vec::new(),
        })
    }
}

impl Iterator for QueryPages<'_> {
    type Item = Result<Vec<Value>, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let page = self.page().map_err(ImportError::from);
        self.done |= page.is_err();
        Some(page)
    }
}
