//! The explorer at `/_explorer`: a page that shows what is in the store, and the few answers it needs that Cosmos DB's
//! protocol has no route for.
//!
//! Owns the paths below `/_explorer` and the headers of their answers. It keeps no session and grants nothing: the page
//! is the same for everybody and holds no data, and every request that reads or writes data, here and on the protocol's
//! own routes, carries a signature that the page makes with the account key in the browser. So there is no cookie for
//! another site to ride on, and another user of the machine needs the key as much as anybody.

mod api;
mod assets;
mod guard;
mod hot;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use crate::headers::{self, Headers};
use crate::query_route;
use crate::routes::ContainerPath;
use crate::service::{Reply, Service};
use crate::status::ApiError;
pub(crate) use guard::check_name;
pub(crate) use hot::HotKeys;

/// The segment that all paths here begin with.
pub(crate) const PREFIX: &str = "_explorer";

/// What no answer here goes without. Scripts and styles come from this server's files alone; no text can become markup
/// (Trusted Types with no policy refuse every string that would); nobody may frame the page.
const SECURITY: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// A path below `/_explorer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// A file of the page, by its name; the page itself is the empty one.
    File(String),
    /// `/api/stats`: figures of the store and the server.
    Stats,
    /// `/api/space`: what every container holds.
    Space,
    /// `/api/space/{db}/{c}`: what one container holds.
    SpaceOf(String, String),
    /// `/api/query/{db}/{c}`: a query over all of a container, merged here whatever its number of key ranges.
    Query(String, String),
}

impl View {
    /// Reads the segments after `_explorer`.
    pub(crate) fn parse(segments: &[&str]) -> Option<View> {
        Some(match *segments {
            [] => View::File(String::new()),
            ["api", "stats"] => View::Stats,
            ["api", "space"] => View::Space,
            ["api", "query", database, container] => View::Query(database.to_owned(), container.to_owned()),
            ["api", "space", database, container] => View::SpaceOf(database.to_owned(), container.to_owned()),
            [name] if assets::find(name).is_some() => View::File(name.to_owned()),
            _ => return None,
        })
    }

    /// Whether anybody who reaches the server may have it.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self, View::File(_))
    }
}

/// Answers a request below `/_explorer`.
pub(crate) fn answer(service: &Service, view: &View, parts: &Parts, body: &Bytes) -> Result<Reply, ApiError> {
    let method = if matches!(view, View::Query(..)) { Method::POST } else { Method::GET };
    if parts.method != method {
        let allowed = if method == Method::POST { "POST" } else { "GET" };
        return Err(headers::wrong_method(&parts.method, allowed));
    }
    if !view.is_public() {
        guard::check_site(parts)?;
    }
    let reply = match view {
        View::File(name) => file(name, parts)?,
        View::Stats => uncached(&api::stats(service)),
        View::Space => uncached(&api::space(service)),
        View::SpaceOf(database, container) => uncached(&api::space_of(service, database, container)?),
        View::Query(database, container) => {
            let path = ContainerPath { database: database.clone(), container: container.clone() };
            let container = service.catalog.container(&path)?;
            query_route::whole(service, &container, Headers(&parts.headers), body)?
        }
    };
    Ok(SECURITY.iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
}

fn uncached(value: &serde_json::Value) -> Reply {
    Reply::value(StatusCode::OK, value).header("cache-control", "no-store")
}

/// A file of the page. Browsers keep it and ask each time whether it has changed, so that a new server is never shown
/// through an old page.
fn file(name: &str, parts: &Parts) -> Result<Reply, ApiError> {
    let asset = assets::find(name).ok_or_else(|| ApiError::not_found("The explorer has no such file."))?;
    let etag = asset.etag();
    let known = parts.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut reply =
        if is_known { Reply::empty(StatusCode::NOT_MODIFIED) } else { Reply::json(StatusCode::OK, asset.bytes) };
    if !is_known {
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    }
    reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        reply.headers.insert(ETAG, etag);
    }
    Ok(reply)
}
