//! From a whole request to a whole answer: who may ask, which operation it is, and the headers every answer has.
//!
//! Owns the dispatch by route and method. It is plain blocking code: the listener calls it on a thread
//! that may wait for the disk. What an operation does is in the module of its resource.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use etagdb::{CommitSeq, Store};
use http::header::{AUTHORIZATION, CONTENT_LOCATION, CONTENT_TYPE, DATE, ETAG};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::auth::{self, MasterKey};
use crate::catalog::{Catalog, Container};
use crate::config::{Config, ServeError};
use crate::explorer::{self, HotKeys};
use crate::headers::{self, Headers, Throughput};
use crate::health;
use crate::idempotency::{self, Guard, Idempotency};
use crate::metrics::Metrics;
pub(crate) use crate::reply::{Reply, Wait};
use crate::routes::{self, ContainerPath, Part, Route, Signed};
use crate::status::{ApiError, Kind};
use crate::tls::Tls;
use crate::{as_of, changes, checkpoint, feed, items, metadata, offers, query_route, wire};

/// The version of the protocol that answers follow.
const PROTOCOL_VERSION: HeaderValue = HeaderValue::from_static("2020-07-15");
static X_MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");
const VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const ACTIVITY_ID: HeaderName = HeaderName::from_static("x-ms-activity-id");
const REQUEST_CHARGE: HeaderName = HeaderName::from_static("x-ms-request-charge");

/// A request, whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) route: Route,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
}

/// The server without its socket.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    idempotency: Arc<Idempotency>,
    key: MasterKey,
    /// How clients reach this server: `http` or `https`.
    scheme: &'static str,
    /// Whether who calls this server `localhost` is told its address.
    by_address: bool,
    /// Whether conditions are those of RFC 9110.
    pub(crate) strict: bool,
    /// Whether it listens on loopback: `/metrics` is answered without a signature then, and checkpoints are made.
    is_local: bool,
    activities: Activities,
    pub(crate) metrics: Metrics,
    /// The items that refused operations were about.
    pub(crate) hot: HotKeys,
    /// Whether the key is the one that everybody knows.
    is_key_known: bool,
}

/// Names for requests whose clients give them none: one random number for the process, and a count. To ask the system
/// for randomness each time costs as much as reading a request from its socket.
#[derive(Debug)]
struct Activities {
    random: u128,
    count: AtomicU64,
}

impl Activities {
    fn new() -> Activities {
        Activities { random: Uuid::new_v4().as_u128(), count: AtomicU64::new(0) }
    }

    fn next(&self) -> Uuid {
        // Each gets a number of its own, and nothing else is ordered by it.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        uuid::Builder::from_random_bytes((self.random ^ u128::from(count)).to_be_bytes()).into_uuid()
    }
}

impl Service {
    pub(crate) fn open(store: Store, key: MasterKey, config: &Config) -> Result<Service, ServeError> {
        let catalog = Catalog::open(&store)?;
        let idempotency = Arc::new(Idempotency::open(&store, unix_ms())?);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let is_local = config.listen.ip().is_loopback();
        let strict = config.strict;
        let by_address = config.listen.is_ipv4() && matches!(config.tls, None | Some(Tls::SelfSigned { .. }));
        Ok(Service {
            store,
            catalog,
            idempotency,
            key,
            scheme,
            by_address,
            strict,
            is_local,
            activities: Activities::new(),
            metrics: Metrics::new(),
            hot: HotKeys::default(),
            is_key_known: config.has_known_key(),
        })
    }

    /// Says what a request's head asks for, if its sender may ask.
    pub(crate) fn admit(&self, parts: &Parts) -> Result<Route, ApiError> {
        headers::check_host(parts)?;
        if self.is_key_known {
            explorer::check_name(parts)?;
        }
        let target = routes::parse(parts.uri.path(), parts.uri.query())?;
        let open = match &target.route {
            Route::Health => true,
            Route::Metrics => self.is_local,
            Route::Explorer(view) => view.is_public(),
            _ => false,
        };
        if !open {
            self.authorize(parts, &target.signed)?;
        }
        Ok(target.route)
    }

    fn authorize(&self, parts: &Parts, signed: &Signed<'_>) -> Result<(), ApiError> {
        let refuse = |message: String| ApiError::new(Kind::Unauthorized, message);
        let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(authorization) = text(&AUTHORIZATION) else {
            return Err(refuse(
                "Required Header authorization is missing. Ensure a valid Authorization token is passed.".into(),
            ));
        };
        let now = SystemTime::now();
        let mut first = None;
        let (x_ms_date, date) = (text(&X_MS_DATE), text(&DATE));
        for (kind, link) in signed.texts() {
            let method = parts.method.as_str();
            match auth::verify(&self.key, method, kind, &link, x_ms_date, date, authorization, now) {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        let why = first.map_or_else(|| "the path signs nothing".to_owned(), |error| error.to_string());
        Err(refuse(format!("The input authorization token can't serve the request: {why}.")))
    }

    /// Answers a request that never got to an operation.
    pub(crate) fn refuse(&self, parts: &Parts, error: ApiError) -> Reply {
        self.finish(parts, error.into())
    }

    /// Answers a request that is no write of items.
    pub(crate) fn execute(&self, request: &Request) -> Reply {
        let Request { route, parts, body } = request;
        let reply = self.dispatch(route, parts, body).unwrap_or_else(Reply::from);
        self.finish(parts, reply)
    }

    /// Answers the read of an item that is in memory, without waiting for anything. `None` for every other request.
    pub(crate) fn execute_in_memory(&self, request: &Request) -> Option<Reply> {
        let Request { route, parts, .. } = request;
        let Route::Container(path, Part::Item(id)) = route else { return None };
        if parts.method != Method::GET {
            return None;
        }
        let headers = Headers(&parts.headers);
        let container = self.catalog.container(path).ok()?;
        headers.check_container(container.rid).ok()?;
        let reply = items::read_in_memory(self, &container, id, headers)?;
        let reply = reply.placed(&container, headers.range_number(&container));
        Some(self.finish(parts, reply))
    }

    /// The container that a route names, if it is the one that the client means.
    pub(crate) fn container_of(&self, route: &Route, headers: Headers<'_>) -> Result<Arc<Container>, ApiError> {
        let Route::Container(path, _) = route else {
            return Err(ApiError::new(Kind::InternalServerError, "something else was taken for a container"));
        };
        let container = self.catalog.container(path)?;
        headers.check_container(container.rid)?;
        Ok(container)
    }

    /// What makes a write happen once, if its request names itself.
    pub(crate) fn guard(
        &self,
        container: &Container,
        method: &Method,
        part: &Part,
        headers: Headers<'_>,
        body: &[u8],
    ) -> Result<Option<Guard>, ApiError> {
        self.idempotency.guard(container, method, part, headers, body, unix_ms())
    }

    /// Adds what every answer carries.
    pub(crate) fn finish(&self, parts: &Parts, mut reply: Reply) -> Reply {
        if matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            reply = reply.minimal(true);
        }
        if reply.seen.is_some()
            && parts.method == Method::GET
            && reply.status.as_u16() < 400
            && let Ok(path) = HeaderValue::from_str(parts.uri.path())
        {
            reply.headers.insert(CONTENT_LOCATION, path);
        }
        let activity = Headers(&parts.headers).activity_id().unwrap_or_else(|| self.activities.next());
        let mut text = [0; Hyphenated::LENGTH];
        if let Ok(activity) = HeaderValue::from_str(activity.hyphenated().encode_lower(&mut text)) {
            reply.headers.insert(ACTIVITY_ID, activity);
        }
        reply.headers.entry(REQUEST_CHARGE).or_insert(HeaderValue::from_static("1"));
        reply.headers.insert(VERSION, PROTOCOL_VERSION);
        reply
    }

    fn dispatch(&self, route: &Route, parts: &Parts, body: &Bytes) -> Result<Reply, ApiError> {
        let headers = Headers(&parts.headers);
        let method = &parts.method;
        let of_items = matches!(route, Route::Container(_, part) if *part != Part::Itself);
        if !of_items && *method != Method::GET && !headers.is_query() {
            idempotency::refuse(headers)?;
        }
        match route {
            Route::Account => match *method {
                Method::GET => {
                    let authority = headers::authority(parts).unwrap_or("localhost");
                    // `localhost` is more than one address, and this server listens on one of them. A certificate of
                    // somebody's own may name `localhost` alone.
                    let authority = match authority.strip_prefix("localhost") {
                        Some(port) if self.by_address && (port.is_empty() || port.starts_with(':')) => {
                            &format!("127.0.0.1{port}")
                        }
                        _ => authority,
                    };
                    Ok(Reply::value(StatusCode::OK, &wire::account(self.scheme, authority)))
                }
                _ => Err(headers::wrong_method(method, "GET")),
            },
            Route::Health => match *method {
                Method::GET => Ok(health::reply(&self.store.health())),
                _ => Err(headers::wrong_method(method, "GET")),
            },
            Route::Metrics => match *method {
                Method::GET => Ok(self.figures()),
                _ => Err(headers::wrong_method(method, "GET")),
            },
            Route::Explorer(view) => explorer::answer(self, view, parts, body),
            Route::Checkpoint => checkpoint::answer(&self.store, self.is_local, parts, body),
            Route::Databases => self.databases(method, headers, body),
            Route::Database(name) => self.database(method, name),
            Route::Containers(database) => self.containers(method, database, headers, body),
            Route::Container(path, part) => self.container(method, path, part, headers, body),
            Route::Offers => self.offers(method, headers, body),
            Route::Offer(rid) => match *method {
                Method::GET => self.catalog.offer(rid).map(|offer| offer_reply(&offer)),
                Method::PUT => {
                    let content = offers::replacement(body)?;
                    self.catalog.replace_offer(rid, content).map(|offer| offer_reply(&offer))
                }
                _ => Err(headers::wrong_method(method, "GET, PUT")),
            },
            Route::LeftOut(what) => Err(ApiError::new(
                Kind::NotImplemented,
                format!("This server has no {what}: the feature is left out of etagdb on purpose."),
            )),
        }
    }

    fn databases(&self, method: &Method, headers: Headers<'_>, body: &Bytes) -> Result<Reply, ApiError> {
        let list = || -> Vec<(u64, Value)> {
            let all = self.catalog.list_databases();
            all.iter().map(|database| (u64::from(database.rid.0), wire::database(database))).collect()
        };
        match *method {
            Method::GET => query_route::list(self, "Databases", "", headers, list()),
            Method::POST if headers.is_query() => query_route::over(self, "Databases", "", headers, body, list()),
            Method::POST => {
                let database = self.catalog.create_database(metadata::database_id(body)?, headers.throughput()?)?;
                let reply = Reply::value(StatusCode::CREATED, &wire::database(&database)).etag(database.etag);
                Ok(reply.minimal(headers.wants_minimal()))
            }
            _ => Err(headers::wrong_method(method, "GET, POST")),
        }
    }

    fn database(&self, method: &Method, name: &str) -> Result<Reply, ApiError> {
        match *method {
            Method::GET => {
                let database = self.catalog.database(name)?;
                Ok(Reply::value(StatusCode::OK, &wire::database(&database)).etag(database.etag))
            }
            Method::DELETE => {
                self.catalog.delete_database(name)?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            _ => Err(headers::wrong_method(method, "GET, DELETE")),
        }
    }

    fn containers(&self, method: &Method, name: &str, headers: Headers<'_>, body: &Bytes) -> Result<Reply, ApiError> {
        let database = self.catalog.database(name)?;
        let rid = database.rid.to_string();
        let list = || -> Vec<(u64, Value)> {
            let all = self.catalog.list_containers(database.rid);
            all.iter().map(|container| (u64::from(container.rid.container), wire::container(container))).collect()
        };
        let kind = "DocumentCollections";
        match *method {
            Method::GET => query_route::list(self, kind, &rid, headers, list()),
            Method::POST if headers.is_query() => query_route::over(self, kind, &rid, headers, body, list()),
            Method::POST => {
                let definition = metadata::container(body)?;
                let throughput: Option<Throughput> = headers.throughput()?;
                let container = self.catalog.create_container(name, definition, throughput)?;
                Ok(container_reply(StatusCode::CREATED, &container).minimal(headers.wants_minimal()))
            }
            _ => Err(headers::wrong_method(method, "GET, POST")),
        }
    }

    fn container(
        &self,
        method: &Method,
        path: &ContainerPath,
        part: &Part,
        headers: Headers<'_>,
        body: &Bytes,
    ) -> Result<Reply, ApiError> {
        if *part == Part::Itself {
            return match *method {
                Method::GET => items::describe(self, &*self.catalog.container(path).map_err(itself)?, headers),
                Method::PUT => {
                    let container = self.catalog.replace_container(path, body).map_err(itself)?;
                    Ok(container_reply(StatusCode::OK, &container).minimal(headers.wants_minimal()))
                }
                Method::DELETE => {
                    self.catalog.delete_container(path).map_err(itself)?;
                    Ok(Reply::empty(StatusCode::NO_CONTENT))
                }
                _ => Err(headers::wrong_method(method, "GET, PUT, DELETE")),
            };
        }
        let container = self.catalog.container(path)?;
        headers.check_container(container.rid)?;
        let reply = self.part(method, &container, part, headers, body);
        let reply = reply.or_else(|error| self.about_container(&container, headers, error))?;
        Ok(reply.placed(&container, headers.range_number(&container)))
    }

    fn part(
        &self,
        method: &Method,
        container: &Arc<Container>,
        part: &Part,
        headers: Headers<'_>,
        body: &Bytes,
    ) -> Result<Reply, ApiError> {
        let reads = match part {
            Part::Items => (*method == Method::GET && !headers.is_change_feed()) || headers.is_query(),
            Part::Item(_) => *method == Method::GET,
            _ => false,
        };
        if !reads {
            as_of::refuse(headers, "writes, change feeds and lists")?;
        }
        let writes = *method != Method::GET && !headers.is_query() && !headers.is_query_plan();
        if writes {
            idempotency::refuse(headers)?;
        }
        match part {
            Part::Itself => Err(ApiError::new(Kind::InternalServerError, "a container was taken for a part of itself")),
            Part::Items => match *method {
                Method::GET if headers.is_change_feed() => changes::read(self, container, headers),
                Method::GET => feed::read(self, container, headers),
                // A plan request is a POST with a query's headers, and a query one with a create's: the order matters.
                Method::POST if headers.is_query_plan() => query_route::plan(container, headers, body),
                Method::POST if headers.is_query() => query_route::items(self, container, headers, body),
                // What else is posted are items, and they went another way.
                _ => Err(headers::wrong_method(method, "GET, POST")),
            },
            Part::Item(id) => match *method {
                Method::GET => items::read(self, container, id, headers),
                _ => Err(headers::wrong_method(method, "GET, PUT, PATCH, DELETE")),
            },
            Part::Ranges => match *method {
                Method::GET => Ok(feed::key_ranges(self, container, headers)),
                _ => Err(headers::wrong_method(method, "GET")),
            },
            Part::Conflicts => match *method {
                Method::GET => query_route::list(self, "Conflicts", &container.rid.to_string(), headers, Vec::new()),
                Method::POST if headers.is_query() => query_route::conflicts(self, container, headers, body),
                _ => Err(headers::wrong_method(method, "GET, POST")),
            },
            // One region has no conflicts to list, read or settle.
            Part::Conflict(_) => match *method {
                Method::GET | Method::DELETE => {
                    Err(ApiError::not_found("There are no conflicts: the account has one region."))
                }
                _ => Err(headers::wrong_method(method, "GET, DELETE")),
            },
            Part::PartitionKeyDelete => match *method {
                Method::POST => items::delete_partition(self, container, headers),
                _ => Err(headers::wrong_method(method, "POST")),
            },
        }
    }

    /// Counts an operation that was refused, and if it was for what was there, on which item.
    pub(crate) fn count_refusal(&self, container: &Container, error: &ApiError) {
        self.metrics.refused(error.kind.status());
        if let (Kind::Conflict | Kind::PreconditionFailed, Some(key)) = (error.kind, &error.key) {
            let last = error.current.as_ref().map_or(CommitSeq::default(), |current| current.seq);
            self.hot.refused(container.rid, key, last);
        }
    }

    /// Completes an error of an operation inside a container: clients read their session from refusals too. The store's
    /// complaint about a dropped collection becomes what it means, a container that was deleted meanwhile.
    pub(crate) fn about_container(
        &self,
        container: &Container,
        headers: Headers<'_>,
        mut error: ApiError,
    ) -> Result<Reply, ApiError> {
        if !self.catalog.still_has(container.rid) {
            let gone = format!("Resource Not Found. The container {:?} was deleted.", container.definition.id);
            return Err(ApiError::not_found(gone).substatus(crate::status::OWNER_NOT_FOUND));
        }
        self.count_refusal(container, &error);
        let last = self.store.last_commit();
        let shown = error.current.take().filter(|_| headers.wants_representation());
        let body = shown.map(|current| error.body_showing(&current.render(container)));
        let mut reply = Reply::from(error).container(container, last, last);
        if let Some(body) = body {
            reply.body = body.into();
            reply = reply.header("preference-applied", "return=representation");
        }
        Ok(reply)
    }

    fn offers(&self, method: &Method, headers: Headers<'_>, body: &Bytes) -> Result<Reply, ApiError> {
        let list = || -> Vec<(u64, Value)> {
            self.catalog.list_offers().iter().map(|offer| (u64::from(offer.stored.rid), offer.json())).collect()
        };
        match *method {
            Method::GET => query_route::list(self, "Offers", "", headers, list()),
            Method::POST if headers.is_query() => query_route::over(self, "Offers", "", headers, body, list()),
            _ => Err(headers::wrong_method(method, "GET, POST")),
        }
    }

    /// Figures in Prometheus text.
    fn figures(&self) -> Reply {
        let mut reply = Reply::json(StatusCode::OK, self.metrics.render(&self.store));
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        reply
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// A container asked for as such is missing itself, not the owner of something.
fn itself(mut error: ApiError) -> ApiError {
    if error.substatus == crate::status::OWNER_NOT_FOUND {
        error.substatus = 0;
    }
    error
}

pub(crate) fn container_reply(status: StatusCode, container: &Container) -> Reply {
    Reply::value(status, &wire::container(container))
        .etag(container.etag)
        .header(
            "x-ms-alt-content-path",
            container.name_link.rsplit_once("/colls/").map_or("", |(database, _)| database),
        )
        .header("x-ms-documentdb-collection-index-transformation-progress", &container.indexes.progress().to_string())
}

fn offer_reply(offer: &offers::Offer) -> Reply {
    let mut reply = Reply::value(StatusCode::OK, &offer.json());
    if let Ok(etag) = HeaderValue::from_str(&wire::quoted(offer.etag)) {
        reply.headers.insert(ETAG, etag);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_different_names() {
        let activities = Activities::new();
        let names: std::collections::HashSet<Uuid> = (0..1_000).map(|_| activities.next()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|name| name.get_version_num() == 4));
    }
}
