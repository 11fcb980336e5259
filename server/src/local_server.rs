//! The server without its socket, in this process: what the command line asks when it is given a directory.
//!
//! Owns the public type. A request takes the way of one that came by HTTP, but for its signature: who has the directory
//! needs no key.

use bytes::Bytes;
use etagdb::Store;
use http::{Request, Response};

use crate::auth::MasterKey;
use crate::config::{Config, ServeError};
use crate::routes;
use crate::service::{Reply, Service};

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
    service: Service,
}

impl LocalServer {
    /// Puts a server on a store.
    ///
    /// # Errors
    ///
    /// [`ServeError::Store`] when the store does not do its part, [`ServeError::Metadata`] when what it says of
    /// databases and containers makes no sense.
    pub fn open(store: Store) -> Result<LocalServer, ServeError> {
        let config = Config::default();
        let key = MasterKey::from_base64(MasterKey::EMULATOR).map_err(|error| ServeError::Config(error.to_string()))?;
        Ok(LocalServer { service: Service::open(store, key, &config)? })
    }

    /// Answers a request; waits for the disk where it has to. `Prefer: wait` is not looked at.
    pub fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        let reply = match routes::parse(parts.uri.path(), parts.uri.query()) {
            Ok(target) => self.service.execute(&target.route, &parts, &body),
            Err(error) => self.service.refuse(&parts, error),
        };
        let Reply { status, headers, body, .. } = reply;
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}
