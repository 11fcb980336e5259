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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use etagdb::Options;
    use serde_json::{Value, json};

    use super::*;

    fn ask(server: &LocalServer, method: &str, path: &str, body: &Value, query: bool) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if query {
            request = request
                .header("x-ms-documentdb-isquery", "true")
                .header("x-ms-documentdb-query-enablecrosspartition", "true")
                .header("content-type", "application/query+json");
        }
        let request = request.header("x-ms-documentdb-partitionkey", "[1]").body(body.to_string().into()).unwrap();
        let answer = server.answer(request);
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// With indexes that are built, records of requests that are not looked at any more, and what a container left.
    #[test]
    fn a_store_that_is_open_for_reading_is_read_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let open = |path: &Path, read_only| Options::default().read_only(read_only).open(path).unwrap();
        let query = json!({ "query": "SELECT VALUE c.id FROM c WHERE c.a = 1 ORDER BY c.b DESC", "parameters": [] });
        let documents = "/dbs/d/colls/c/docs";
        let store = open(&path, false);
        store.collection("sys/idempotency/1").unwrap();
        store.collection("docs/AAAAAAAAAAA=").unwrap();
        let before = store.collections();
        {
            let server = LocalServer::open(store).unwrap();
            let names = server.service.store.collections();
            assert!(before.iter().all(|name| !names.contains(name)), "both are swept away: {names:?}");
            assert_eq!(ask(&server, "POST", "/dbs", &json!({ "id": "d" }), false).0, 201);
            let indexes = json!([[{ "path": "/a", "order": "ascending" }, { "path": "/b", "order": "descending" }]]);
            let container = json!({
                "id": "c",
                "partitionKey": { "paths": ["/pk"], "kind": "Hash", "version": 2 },
                "indexingPolicy": { "compositeIndexes": indexes },
            });
            assert_eq!(ask(&server, "POST", "/dbs/d/colls", &container, false).0, 201);
            for n in 0..20 {
                let item = json!({ "id": n.to_string(), "pk": 1, "a": n % 2, "b": n });
                assert_eq!(ask(&server, "POST", documents, &item, false).0, 201);
            }
            assert_eq!(ask(&server, "POST", documents, &query, true).1["_count"], 10);
        }
        let store = open(&path, false);
        before.iter().for_each(|name| drop(store.collection(name).unwrap()));
        drop(store);

        let server = LocalServer::open(open(&path, true)).unwrap();
        let (status, answer) = ask(&server, "POST", documents, &query, true);
        assert_eq!((status, &answer["_count"], &answer["Documents"][0]), (200, &json!(10), &json!("19")), "{answer}");
        assert_eq!(ask(&server, "GET", &format!("{documents}/3"), &Value::Null, false).1["b"], 3);
        let (status, answer) = ask(&server, "POST", documents, &json!({ "id": "x", "pk": 1 }), false);
        assert!(status >= 500 && answer["message"].as_str().unwrap().contains("opened read-only"), "{status} {answer}");
        let names = server.service.store.collections();
        assert!(before.iter().all(|name| names.contains(name)), "{names:?}");
    }

    #[test]
    fn a_store_that_no_server_wrote_to_has_nothing_to_read_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path().join("data")).unwrap());
        let store = Options::default().read_only(true).open(dir.path().join("data")).unwrap();
        let error = LocalServer::open(store).unwrap_err().to_string();
        assert!(error.contains("neither a server nor an import has written to this store"), "{error}");
    }
}
