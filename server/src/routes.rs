//! Which resource a path names, read by position.
//!
//! Owns the shape of every path and the text that its signature covers. A database may be called `colls` and an item
//! `dbs`: what a segment means follows from its place alone. It does not know whether the resource exists.

use std::borrow::Cow;
use std::iter;

use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

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
pub(crate) struct Target<'a> {
    pub(crate) route: Route,
    pub(crate) signed: Signed<'a>,
}

/// What clients may have signed for a path: the resource type, and the link of the resource, or of its parent where the
/// path ends with a type.
///
/// Three spellings of the link are in use: the names decoded; the path as it was sent; and for paths made of rids the
/// last rid alone in lower case. All three are texts that only the key's holder could have signed for this very path.
/// Nearly every client signs the first, so the others are made only when they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed<'a> {
    kind: Cow<'a, str>,
    /// What other clients take for the type.
    other_kinds: &'static [&'static str],
    /// With the names decoded.
    link: Cow<'a, str>,
    /// As it was sent, if that is another.
    sent: Option<String>,
    /// Where in the link its last name begins, if it has one.
    last: Option<usize>,
}

/// The names in a path. Those of items are fewer than this.
type Names<'a> = SmallVec<[&'a str; 8]>;

/// Reads a path. Slashes at its end change nothing: the Python SDK ends every path with one.
///
/// No route takes a query, but the JavaScript SDK sends the question mark of an item's id as it is: after an item's path,
/// what looks like a query is the rest of the id. Elsewhere it means nothing.
///
/// # Errors
///
/// 404 for a path that is no route, 400 for a segment that is not percent-encoded UTF-8.
pub(crate) fn parse<'a>(path: &'a str, query: Option<&str>) -> Result<Target<'a>, ApiError> {
    let trimmed = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    let names: Names<'a> = if trimmed.is_empty() { Names::new() } else { trimmed.split('/').collect() };
    if query.is_none() && !trimmed.contains('%') {
        // What was sent is what is meant.
        let route = known_route(path, &names)?;
        let (kind, other_kinds, length) = signed_part(&names);
        let end = names[..length].iter().map(|name| name.len() + 1).sum::<usize>().saturating_sub(1);
        let last = names[..length].last().map(|name| end - name.len());
        let link = Cow::Borrowed(&trimmed[..end]);
        return Ok(Target { route, signed: Signed { kind: kind.into(), other_kinds, link, sent: None, last } });
    }
    let whole_id;
    let mut sent: Names<'_> = names.iter().copied().collect();
    if let (["dbs", _, "colls", _, "docs", id], Some(query)) = (sent.as_slice(), query) {
        whole_id = format!("{id}?{query}");
        sent[5] = &whole_id;
    }
    let mut decoded = Vec::with_capacity(sent.len());
    for name in &sent {
        decoded.push(
            percent_decode_str(name).decode_utf8().map_err(|_| {
                ApiError::bad_request(format!("The path segment {name:?} is not percent-encoded UTF-8."))
            })?,
        );
    }
    let names: Names<'_> = decoded.iter().map(AsRef::as_ref).collect();
    let route = known_route(path, &names)?;
    let (kind, other_kinds, length) = signed_part(&names);
    let (link, sent) = (names[..length].join("/"), sent[..length].join("/"));
    let last = names[..length].last().map(|name| link.len() - name.len());
    let sent = (sent != link).then_some(sent);
    let signed = Signed { kind: kind.to_owned().into(), other_kinds, link: link.into(), sent, last };
    Ok(Target { route, signed })
}

fn known_route(path: &str, names: &[&str]) -> Result<Route, ApiError> {
    if names.iter().any(|name| name.is_empty()) {
        return Err(unknown(path));
    }
    route(names).ok_or_else(|| unknown(path))
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

/// The resource type that clients sign for a path, what some take for it instead, and how many names the link has.
fn signed_part<'a>(names: &[&'a str]) -> (&'a str, &'static [&'static str], usize) {
    match *names {
        [] => ("", &[], 0),
        // Clients sign the container, and disagree on the type.
        ["dbs", _, "colls", _, "operations", _] => ("partitionkey", &["colls", "docs"], 4),
        [.., kind] if names.len() % 2 == 1 => (kind, &[], names.len() - 1),
        [.., kind, _] => (kind, &[], names.len()),
        [kind] => (kind, &[], 0),
    }
}

impl Signed<'_> {
    /// Every resource type and link that a client may have signed, the likeliest first.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let kinds = iter::once(&*self.kind).chain(self.other_kinds.iter().copied());
        kinds.flat_map(|kind| self.links().map(move |link| (kind, link)))
    }

    fn links(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let as_sent = self.sent.iter().map(|sent| Cow::Borrowed(sent.as_str()));
        let last = self.last.iter().map(|&last| Cow::Owned(self.link[last..].to_ascii_lowercase()));
        iter::once(Cow::Borrowed(&*self.link)).chain(as_sent).chain(last)
    }
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
        assert!(target.signed.texts().any(|text| text == ("docs", "dbs/x/colls/c/docs/who? is?".into())));
        assert!(target.signed.texts().any(|text| text == ("docs", "dbs/x/colls/c/docs/who?%20is?".into())));
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
        let all = |path| -> Vec<(String, String)> {
            let target = parse(path, None).unwrap();
            target.signed.texts().map(|(kind, link)| (kind.to_owned(), link.into_owned())).collect()
        };
        let signed = |path| all(path).swap_remove(0);
        let pair = |kind: &str, link: &str| (kind.to_owned(), link.to_owned());
        assert_eq!(signed("/"), pair("", ""));
        assert_eq!(signed("/dbs/"), pair("dbs", ""));
        assert_eq!(signed("/dbs/x"), pair("dbs", "dbs/x"));
        assert_eq!(signed("/dbs/x/colls/c/docs"), pair("docs", "dbs/x/colls/c"));
        assert_eq!(signed("/dbs/x/colls/c/docs/A%20b"), pair("docs", "dbs/x/colls/c/docs/A b"));
        assert_eq!(signed("/dbs/x/colls/c/pkranges/"), pair("pkranges", "dbs/x/colls/c"));
        assert_eq!(all("/dbs/Ab==/colls/Cd==/docs"), [pair("docs", "dbs/Ab==/colls/Cd=="), pair("docs", "cd==")]);
        assert_eq!(all("/dbs/X%59/colls")[1..], [pair("colls", "dbs/X%59"), pair("colls", "xy")]);
        let delete = all("/dbs/x/colls/C/operations/partitionkeydelete");
        let kinds = ["partitionkey", "colls", "docs"];
        assert_eq!(delete, kinds.map(|kind| [pair(kind, "dbs/x/colls/C"), pair(kind, "c")]).concat());
    }
}
