//! Which resource a path names, read by position.
//!
//! Owns the shape of every path and the text that its signature covers. A database may be called `colls` and an item
//! `dbs`: what a segment means follows from its place alone. It does not know whether the resource exists.

use percent_encoding::percent_decode_str;

use crate::explorer::{self, View};
use crate::status::{ApiError, Kind};

/// A resource, by the names or rids in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`
    Account,
    /// `/health`
    Health,
    /// `/metrics`
    Metrics,
    /// `/_explorer` and below
    Explorer(View),
    /// `/_etagdb/checkpoint`
    Checkpoint,
    /// `/dbs`
    Databases,
    /// `/dbs/{db}`
    Database(String),
    /// `/dbs/{db}/colls`
    Containers(String),
    /// `/dbs/{db}/colls/{c}` and below
    Container(ContainerPath, Part),
    /// `/offers`
    Offers,
    /// `/offers/{rid}`
    Offer(String),
    /// A resource that this server leaves out on purpose, by its name for people.
    LeftOut(&'static str),
}

/// The two names above every item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerPath {
    pub(crate) database: String,
    pub(crate) container: String,
}

/// What of a container is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// The container itself.
    Itself,
    /// `/docs`
    Items,
    /// `/docs/{id}`
    Item(String),
    /// `/pkranges`
    Ranges,
    /// `/conflicts`
    Conflicts,
    /// `/conflicts/{id}`
    Conflict(String),
    /// `/operations/partitionkeydelete`
    PartitionKeyDelete,
}

/// A path that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) route: Route,
    /// Every (resource type, resource link) that a client may have signed for this path; see [`signatures`].
    pub(crate) signatures: Vec<(String, String)>,
}

/// Reads a path. Slashes at its end change nothing: the Python SDK ends every path with one.
///
/// No route takes a query, but the JavaScript SDK sends the question mark of an item's id as it is: after an item's path,
/// what looks like a query is the rest of the id. Elsewhere it means nothing.
///
/// # Errors
///
/// 404 for a path that is no route, 400 for a segment that is not percent-encoded UTF-8.
pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Target, ApiError> {
    let trimmed = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    let mut raw: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
    let whole_id;
    if let (["dbs", _, "colls", _, "docs", id], Some(query)) = (raw.as_slice(), query) {
        whole_id = format!("{id}?{query}");
        raw[5] = &whole_id;
    }
    let mut segments = Vec::with_capacity(raw.len());
    for segment in &raw {
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| {
            ApiError::bad_request(format!("The path segment {segment:?} is not percent-encoded UTF-8."))
        })?;
        segments.push(decoded);
    }
    let decoded: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if decoded.iter().any(|segment| segment.is_empty()) {
        return Err(unknown(path));
    }
    let route = route(&decoded).ok_or_else(|| unknown(path))?;
    Ok(Target { signatures: signatures(&decoded, &raw), route })
}

fn unknown(path: &str) -> ApiError {
    ApiError::new(Kind::NotFound, format!("There is no resource at the path {path:?}."))
}

fn route(segments: &[&str]) -> Option<Route> {
    Some(match *segments {
        [] => Route::Account,
        ["health"] => Route::Health,
        ["metrics"] => Route::Metrics,
        [explorer::PREFIX, ref rest @ ..] => Route::Explorer(View::parse(rest)?),
        ["_etagdb", "checkpoint"] => Route::Checkpoint,
        ["offers"] => Route::Offers,
        ["offers", rid] => Route::Offer(rid.to_owned()),
        ["dbs"] => Route::Databases,
        ["dbs", db] => Route::Database(db.to_owned()),
        ["dbs", db, "colls"] => Route::Containers(db.to_owned()),
        ["dbs", db, "colls", container, ref rest @ ..] => {
            let part = match *rest {
                [] => Part::Itself,
                ["docs"] => Part::Items,
                ["docs", id] => Part::Item(id.to_owned()),
                ["pkranges"] => Part::Ranges,
                ["conflicts"] => Part::Conflicts,
                ["conflicts", id] => Part::Conflict(id.to_owned()),
                ["operations", "partitionkeydelete"] => Part::PartitionKeyDelete,
                [kind, ..] => return left_out(kind).map(Route::LeftOut),
            };
            Route::Container(ContainerPath { database: db.to_owned(), container: container.to_owned() }, part)
        }
        ["dbs", _, kind, ..] | [kind, ..] => return left_out(kind).map(Route::LeftOut),
    })
}

/// Names a feature of the service that this server does not have, by its path segment.
fn left_out(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "users" => "users",
        "permissions" => "permissions",
        "sprocs" => "stored procedures",
        "triggers" => "triggers",
        "udfs" => "user-defined functions",
        "addresses" => "direct mode",
        "clientencryptionkeys" => "client encryption keys",
        "operations" => "distributed transactions",
        "clientconfigs" => "client telemetry configuration",
        _ => return None,
    })
}

/// What clients sign for a path: the resource type, and the link of the resource, or of its parent where the path ends
/// with a type.
///
/// Three spellings are in use: the names decoded; the path as it was sent; and for paths made of rids the last rid
/// alone in lower case. All three are texts that only the key's holder could have signed for this very path.
fn signatures(segments: &[&str], raw: &[&str]) -> Vec<(String, String)> {
    let (kinds, link_length): (Vec<&str>, usize) = match segments {
        [] => (vec![""], 0),
        // Clients sign the container, and disagree on the type.
        ["dbs", _, "colls", _, "operations", _] => (vec!["partitionkey", "colls", "docs"], 4),
        _ if segments.len() % 2 == 1 => (vec![segments[segments.len() - 1]], segments.len() - 1),
        _ => (vec![segments[segments.len() - 2]], segments.len()),
    };
    let mut links = vec![segments[..link_length].join("/")];
    let sent = raw[..link_length].join("/");
    if sent != links[0] {
        links.push(sent);
    }
    if let Some(last) = segments[..link_length].last() {
        links.push(last.to_ascii_lowercase());
    }
    kinds.iter().flat_map(|kind| links.iter().map(|link| ((*kind).to_owned(), link.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(database: &str, container: &str, id: &str) -> Route {
        let path = ContainerPath { database: database.to_owned(), container: container.to_owned() };
        Route::Container(path, Part::Item(id.to_owned()))
    }

    #[test]
    fn a_segment_means_what_its_place_says() {
        assert_eq!(parse("/dbs/colls/colls/docs/docs/dbs", None).unwrap().route, item("colls", "docs", "dbs"));
        assert_eq!(parse("/dbs/x/colls/c/docs/a/", None).unwrap().route, item("x", "c", "a"));
        assert_eq!(parse("/", None).unwrap().route, Route::Account);
        assert_eq!(parse("/dbs/", None).unwrap().route, Route::Databases);
    }

    #[test]
    fn segments_are_decoded_after_they_are_split() {
        assert_eq!(parse("/dbs/x/colls/c/docs/a%2Fb%3F%25%C3%A9", None).unwrap().route, item("x", "c", "a/b?%é"));
        let error = parse("/dbs/x/colls/c/docs/%ff%fe", None).unwrap_err();
        assert_eq!(error.kind, Kind::BadRequest);
    }

    #[test]
    fn a_question_mark_belongs_to_the_items_id() {
        let target = parse("/dbs/x/colls/c/docs/who", Some("%20is?")).unwrap();
        assert_eq!(target.route, item("x", "c", "who? is?"));
        assert!(target.signatures.contains(&("docs".to_owned(), "dbs/x/colls/c/docs/who? is?".to_owned())));
        assert_eq!(parse("/dbs/x/colls/c/docs/who", Some("")).unwrap().route, item("x", "c", "who?"));
        assert_eq!(parse("/dbs/x", Some("y=1")).unwrap().route, Route::Database("x".to_owned()));
    }

    #[test]
    fn unknown_paths_and_left_out_features() {
        for path in
            ["/nothing", "/dbs//colls", "/dbs/x/y", "/dbs/x/colls/c/docs/a/b", "/health/x", "dbs/x/colls/c/what"]
        {
            assert_eq!(parse(path, None).map(|target| target.route).unwrap_err().kind, Kind::NotFound, "{path}");
        }
        assert_eq!(parse("/dbs/x/colls/c/sprocs/p", None).unwrap().route, Route::LeftOut("stored procedures"));
        assert_eq!(parse("/dbs/x/users", None).unwrap().route, Route::LeftOut("users"));
    }

    #[test]
    fn a_signature_covers_the_resource_or_its_parent() {
        let signed = |path| parse(path, None).unwrap().signatures.swap_remove(0);
        let pair = |kind: &str, link: &str| (kind.to_owned(), link.to_owned());
        assert_eq!(signed("/"), pair("", ""));
        assert_eq!(signed("/dbs/"), pair("dbs", ""));
        assert_eq!(signed("/dbs/x"), pair("dbs", "dbs/x"));
        assert_eq!(signed("/dbs/x/colls/c/docs"), pair("docs", "dbs/x/colls/c"));
        assert_eq!(signed("/dbs/x/colls/c/docs/A%20b"), pair("docs", "dbs/x/colls/c/docs/A b"));
        assert_eq!(signed("/dbs/x/colls/c/pkranges/"), pair("pkranges", "dbs/x/colls/c"));
        let rids = parse("/dbs/Ab==/colls/Cd==/docs", None).unwrap().signatures;
        assert!(rids.contains(&pair("docs", "cd==")));
        let delete = parse("/dbs/x/colls/c/operations/partitionkeydelete", None).unwrap().signatures;
        assert!(delete.contains(&pair("partitionkey", "dbs/x/colls/c")));
    }
}
