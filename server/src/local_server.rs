//! The server without its socket, in this process: what the command line asks when it is given a directory.
//!
//! Owns the public type. A request takes the way of one that came by HTTP, but for its signature: who has the directory
//! needs no key.

use std::sync::Arc;

use bytes::Bytes;
use etagdb::Store;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};

use crate::auth::MasterKey;
use crate::config::{Config, ServeError};
use crate::routes;
use crate::service::{self, Reply, Service};
use crate::threads::Threads;
use crate::writes;

/// Most threads that judge writes at once.
const JUDGES_MAX: usize = 16;

/// A server in this process, without a socket. Usable from many threads at once.
///
/// Only one catalog may be at work on a store: do not open one on a store that a [`Server`](crate::Server) serves.
///
/// # Examples
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let store = etagdb::Store::open(dir.path().join("data"))?;
/// let server = etagdb_server::LocalServer::open(store)?;
/// let request = http::Request::post("/dbs").body(r#"{"id":"shop"}"#.into())?;
/// assert_eq!(server.answer(request).status(), 201);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalServer {
    service: Arc<Service>,
    /// Where writes wait for the disk.
    runtime: Runtime,
    judges: Threads,
}

impl LocalServer {
    /// Puts a server on a store.
    ///
    /// # Errors
    ///
    /// [`ServeError::Store`] when the store does not do its part, [`ServeError::Metadata`] when what it says of
    /// databases and containers makes no sense, [`ServeError::Config`] when there can be no threads.
    pub fn open(store: Store) -> Result<LocalServer, ServeError> {
        let config = Config::default();
        let key = MasterKey::from_base64(MasterKey::EMULATOR).map_err(|error| ServeError::Config(error.to_string()))?;
        let runtime = Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.map_err(|error| ServeError::Config(format!("cannot start threads: {error}")))?;
        let service = Arc::new(Service::open(store, key, &config)?);
        Ok(LocalServer { service, runtime, judges: Threads::new(JUDGES_MAX) })
    }

    /// Answers a request; waits for the disk where it has to, so it is not for threads of an asynchronous runtime.
    /// `Prefer: wait` is not looked at.
    pub fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        let reply = match routes::parse(parts.uri.path(), parts.uri.query()) {
            Ok(target) => {
                let request = Arc::new(service::Request { route: target.route, parts, body });
                if writes::is_one(&request) {
                    self.runtime.block_on(writes::answer(&self.service, &self.judges, &request))
                } else {
                    self.service.execute(&request)
                }
            }
            Err(error) => self.service.refuse(&parts, error),
        };
        let Reply { status, headers, body, rest, .. } = reply;
        let body = if rest.is_empty() { body } else { [&body[..], &rest[..]].concat().into() };
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}
