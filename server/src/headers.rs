//! Request headers in: options and conditions, each read in one place and refused by name when it makes no sense.
//!
//! Owns every request header name but those of the signature. It never looks at a body or at the store.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use etagdb::{CommitSeq, Etag, Precondition};
use http::header::{AsHeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::catalog::Container;
use crate::item_key;
use crate::partition_key::{self, PartitionKey};
use crate::rid::ContainerRid;
use crate::status::{ApiError, COLLECTION_RID_MISMATCH, KEY_RANGE_GONE, Kind, SESSION_NOT_AVAILABLE};

/// Most documents on one page when the client leaves the choice to the server.
pub(crate) const PAGE_ITEMS_DEFAULT: usize = 1000;
/// Most documents on one page whatever the client asks for; a page may always be shorter than asked.
const PAGE_ITEMS_MAX: i64 = 10_000;

// What nearly every request is asked for. These names are ready for the look-up, where a text would have to be read first.
static PARTITION_KEY: HeaderName = HeaderName::from_static("x-ms-documentdb-partitionkey");
static SESSION_TOKEN: HeaderName = HeaderName::from_static("x-ms-session-token");
static INTENDED_CONTAINER: HeaderName = HeaderName::from_static("x-ms-cosmos-intended-collection-rid");
static ACTIVITY_ID: HeaderName = HeaderName::from_static("x-ms-activity-id");
static PREFER: HeaderName = HeaderName::from_static("prefer");
const PARTITION_KEY_RANGE: &str = "x-ms-documentdb-partitionkeyrangeid";

/// Storage keys: from the first on and up to the second, if there is an end.
type KeyBounds = (Vec<u8>, Option<Vec<u8>>);

/// The headers of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers<'a>(pub(crate) &'a HeaderMap);

/// What a condition header says about the version that must be current.
///
/// A header that was sent is never ignored here: a value that is no etag matches no version, so it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The header is absent.
    None,
    /// `*`: any version.
    Any,
    /// Exactly this version; [`Etag::NEVER`] for a value that can be none of ours.
    Version(Etag),
}

impl Condition {
    /// Reads a condition as it stands on the wire: quotes and all, compared character by character.
    pub(crate) fn parse(value: &[u8]) -> Condition {
        if value == b"*" {
            return Condition::Any;
        }
        let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        let etag = inner.and_then(|inner| std::str::from_utf8(inner).ok()).and_then(|text| text.parse().ok());
        Condition::Version(etag.unwrap_or(Etag::NEVER))
    }

    /// Tells whether a version that exists is the one meant. No condition names no version.
    pub(crate) fn names(self, current: Etag) -> bool {
        match self {
            Condition::None => false,
            Condition::Any => true,
            Condition::Version(etag) => Precondition::Match(etag).holds(Some(current)),
        }
    }
}

/// The part of a container's key space that a request speaks of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scope {
    /// All of it; `routed` says that the client chose so, by naming the partition key range or allowing all of them.
    Everything { routed: bool },
    /// One partition key, or the leading part of a hierarchical one.
    Key(PartitionKey),
    /// Effective partition keys from the first, up to and without the second.
    Range { start: Vec<u8>, end: Option<Vec<u8>> },
}

impl<'a> Headers<'a> {
    fn get(self, name: impl AsHeaderName) -> Option<&'a HeaderValue> {
        self.0.get(name)
    }

    /// The header as text, or a 400 that names it.
    pub(crate) fn text(self, name: impl AsHeaderName + Display + Copy) -> Result<Option<&'a str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(text) => Ok(Some(text.trim())),
                Err(_) => Err(ApiError::bad_request(format!("The value of the header '{name}' is not ASCII text."))),
            },
        }
    }

    /// A flag: SDKs write `true` and `True`.
    pub(crate) fn flag(self, name: impl AsHeaderName) -> bool {
        self.get(name).is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"true"))
    }

    pub(crate) fn is_upsert(self) -> bool {
        self.flag("x-ms-documentdb-is-upsert")
    }

    pub(crate) fn is_query(self) -> bool {
        // The Go SDK marks its queries by a header of its own.
        self.flag("x-ms-documentdb-isquery") || self.flag("x-ms-documentdb-query")
    }

    pub(crate) fn is_query_plan(self) -> bool {
        self.flag("x-ms-cosmos-is-query-plan-request")
    }

    pub(crate) fn is_batch(self) -> bool {
        self.flag("x-ms-cosmos-is-batch-request")
    }

    /// A batch that names no mode is transactional, the stricter of the two.
    pub(crate) fn batch_is_atomic(self) -> bool {
        self.get("x-ms-cosmos-batch-atomic").is_none() || self.flag("x-ms-cosmos-batch-atomic")
    }

    pub(crate) fn continues_on_error(self) -> bool {
        self.get("x-ms-cosmos-batch-continue-on-error").is_none() || self.flag("x-ms-cosmos-batch-continue-on-error")
    }

    pub(crate) fn is_change_feed(self) -> bool {
        self.get("a-im").is_some()
    }

    /// `Prefer: return=minimal`: answer a write without its body.
    pub(crate) fn wants_minimal(self) -> bool {
        self.preference("return").is_some_and(|value| value.eq_ignore_ascii_case("minimal"))
    }

    /// `Prefer: return=representation`: answer a 409 or 412 with the version that is there. Writes always are answered
    /// with what was written.
    pub(crate) fn wants_representation(self) -> bool {
        self.preference("return").is_some_and(|value| value.eq_ignore_ascii_case("representation"))
    }

    /// `Prefer: wait=SECONDS`: how long the client would rather wait than be told that there is nothing (RFC 7240,
    /// section 4.3). A preference that makes no sense is no preference.
    pub(crate) fn preferred_wait(self) -> Option<Duration> {
        self.preference("wait").and_then(|value| value.parse().ok()).map(Duration::from_secs)
    }

    /// The value of a preference; the first counts if there are several.
    fn preference(self, wanted: &str) -> Option<&'a str> {
        let values = self.0.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|part| {
            // What follows a semicolon are parameters of the preference.
            let (name, value) = part.split(';').next()?.split_once('=')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
        })
    }

    /// The condition in `name`. Two headers of one name are one value with a comma, which is the etag of nothing.
    fn condition(self, name: HeaderName) -> Condition {
        let mut values = self.0.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Condition::None,
            (Some(value), None) => Condition::parse(value.as_bytes()),
            (Some(_), Some(_)) => Condition::Version(Etag::NEVER),
        }
    }

    /// The one condition of a write.
    pub(crate) fn if_match(self) -> Condition {
        self.condition(IF_MATCH)
    }

    /// The one condition of a read.
    pub(crate) fn if_none_match(self) -> Condition {
        self.condition(IF_NONE_MATCH)
    }

    /// `If-None-Match` as sent, for feeds whose etags are positions.
    pub(crate) fn if_none_match_text(self) -> Option<&'a [u8]> {
        self.get(IF_NONE_MATCH).map(|value| value.as_bytes().trim_ascii())
    }

    /// `If-Modified-Since`. A value that is no HTTP date is ignored (RFC 9110, section 13.1.3).
    pub(crate) fn if_modified_since(self) -> Option<SystemTime> {
        self.get(IF_MODIFIED_SINCE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| httpdate::parse_http_date(text).ok())
    }

    /// Most results the client wants on this page; `None` leaves it to the server.
    pub(crate) fn page_items(self) -> Result<Option<usize>, ApiError> {
        let name = "x-ms-max-item-count";
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(count) if count > 0 => Ok(usize::try_from(count.min(PAGE_ITEMS_MAX)).ok()),
            _ => Err(ApiError::bad_request(format!(
                "The value {text:?} specified for the header '{name}' is invalid: it must be -1 or a positive integer."
            ))),
        }
    }

    pub(crate) fn continuation(self) -> Result<Option<&'a str>, ApiError> {
        Ok(self.text("x-ms-continuation")?.filter(|text| !text.is_empty()))
    }

    /// The partition key that the client sent, if it sent one.
    pub(crate) fn partition_key(self) -> Result<Option<PartitionKey>, ApiError> {
        let Some(text) = self.text(&PARTITION_KEY)? else { return Ok(None) };
        partition_key::parse_header(text).map(Some).map_err(|error| {
            ApiError::bad_request(format!("The value of the header '{}' is invalid: {error}", PARTITION_KEY.as_str()))
        })
    }

    /// What part of a container a feed or query is about.
    pub(crate) fn scope(self, container: &Container) -> Result<Scope, ApiError> {
        let definition = &container.definition.partition_key;
        let named = self.key_range(container)?;
        // A container with one range has nothing outside of it.
        let within = named.filter(|_| container.ranges.len() > 1).map(|number| container.ranges.bounds(number));
        let (start, end) = match (self.partition_key()?, within) {
            // Items of the first part of a hierarchical key can lie in several ranges, and each is asked for its own.
            (Some(key), Some(within)) if definition.is_prefix(&key) => {
                let (start, end) = item_key::epk_range(definition, &key);
                intersection((start, Some(end)), within)
            }
            (Some(key), _) => return Ok(Scope::Key(key)),
            (None, within) => match (self.effective_keys()?, within) {
                (Some(keys), Some(within)) => intersection(keys, within),
                (Some(range), None) | (None, Some(range)) => range,
                (None, None) => {
                    let routed = named.is_some() || self.flag("x-ms-documentdb-query-enablecrosspartition");
                    return Ok(Scope::Everything { routed });
                }
            },
        };
        Ok(Scope::Range { start, end })
    }

    /// The storage keys between the effective partition keys that the client gave, if it gave any.
    fn effective_keys(self) -> Result<Option<KeyBounds>, ApiError> {
        let (start, end) = (self.text("x-ms-start-epk")?, self.text("x-ms-end-epk")?);
        if start.is_none() && end.is_none() {
            return Ok(None);
        }
        item_key::epk_bounds_from_hex(start.unwrap_or(""), end.unwrap_or("FF"))
            .map(Some)
            .map_err(|error| ApiError::bad_request(format!("The effective partition key range is invalid: {error}")))
    }

    /// The number of the partition key range that the client named.
    fn key_range(self, container: &Container) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.text(PARTITION_KEY_RANGE)? else { return Ok(None) };
        // Some clients put the container's rid and a comma before the id.
        let id = text.rsplit_once(',').map_or(text, |(_, id)| id);
        match container.ranges.numbered(id) {
            Some(number) => Ok(Some(number)),
            // This is how the service says that a client's list of ranges is out of date: it reads the list again.
            None => Err(ApiError::new(
                Kind::Gone,
                format!("There is no partition key range {text:?}; the container has {}.", container.ranges.len()),
            )
            .substatus(KEY_RANGE_GONE)),
        }
    }

    /// The number of the one partition key range that a request is about, as far as its headers tell.
    pub(crate) fn range_number(self, container: &Container) -> Option<usize> {
        if container.ranges.len() == 1 {
            return Some(0);
        }
        if let Ok(Some(number)) = self.key_range(container) {
            return Some(number);
        }
        let definition = &container.definition.partition_key;
        let key = self.partition_key().ok()?.filter(|key| key.0.is_empty() || definition.is_full(key))?;
        Some(container.ranges.number_of(&item_key::partition_prefix(definition, &key)))
    }

    /// Refuses a request meant for an earlier container of the same name.
    pub(crate) fn check_container(self, rid: ContainerRid) -> Result<(), ApiError> {
        match self.text(&INTENDED_CONTAINER)? {
            Some(intended) if !intended.is_empty() && intended != rid.to_string() => Err(ApiError::bad_request(format!(
                "The request was meant for the container with the rid {intended}, but this name now belongs to {rid}."
            ))
            .substatus(COLLECTION_RID_MISMATCH)),
            _ => Ok(()),
        }
    }

    /// Refuses a read that must see more than this store has: its client has talked to another copy, or this one was
    /// restored.
    pub(crate) fn check_session(self, last: CommitSeq) -> Result<(), ApiError> {
        let Some(token) = self.text(&SESSION_TOKEN)? else { return Ok(()) };
        for part in token.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let seen = session_sequence(part).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "The session token {part:?} is invalid: expected range:version#sequence."
                ))
            })?;
            if seen > last.get() {
                let message =
                    format!("The read session is not available: it has seen {seen}, this store is at {last}.");
                return Err(ApiError::new(Kind::NotFound, message).substatus(SESSION_NOT_AVAILABLE));
            }
        }
        Ok(())
    }

    /// Throughput settings at creation: a fixed amount, or the settings of an autoscale one.
    pub(crate) fn throughput(self) -> Result<Option<Throughput>, ApiError> {
        let name = "x-ms-cosmos-offer-autopilot-settings";
        if let Some(text) = self.text(name)? {
            let settings: serde_json::Value = serde_json::from_str(text).map_err(|error| {
                ApiError::bad_request(format!("The value of the header '{name}' is invalid: {error}"))
            })?;
            return Ok(Some(Throughput::Autoscale(settings)));
        }
        let name = "x-ms-offer-throughput";
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(amount) if amount > 0 => Ok(Some(Throughput::Fixed(amount))),
            _ => Err(ApiError::bad_request(format!(
                "The value {text:?} specified for the header '{name}' is invalid: it must be a positive integer."
            ))),
        }
    }

    /// The client's name for this request, if it is a GUID.
    pub(crate) fn activity_id(self) -> Option<uuid::Uuid> {
        self.get(&ACTIVITY_ID).and_then(|value| value.to_str().ok()).and_then(|text| uuid::Uuid::try_parse(text).ok())
    }
}

/// What a new database or container is to be given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Throughput {
    Fixed(u64),
    Autoscale(serde_json::Value),
}

/// The storage keys that two ranges of them have in common.
fn intersection(one: KeyBounds, other: KeyBounds) -> KeyBounds {
    let start = one.0.max(other.0);
    let end = match (one.1, other.1) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    // Nothing in common is a range that ends where it starts.
    let end = end.map(|end| end.max(start.clone()));
    (start, end)
}

/// The sequence in one part of a session token: `range:version#sequence` with anything after a further `#`, or the
/// older `range:sequence`.
fn session_sequence(part: &str) -> Option<u64> {
    let (_, vector) = part.split_once(':')?;
    let mut pieces = vector.split('#');
    let first = pieces.next()?;
    pieces.next().unwrap_or(first).parse().ok()
}

/// Refuses a host that is missing or given twice (RFC 9112, section 3.2): two readers of such a request may differ.
pub(crate) fn check_host(parts: &http::request::Parts) -> Result<(), ApiError> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(ApiError::bad_request("The request has more than one Host header.")),
        (None, None) if parts.version == http::Version::HTTP_11 => {
            Err(ApiError::bad_request("The request has no Host header."))
        }
        _ => Ok(()),
    }
}

/// The host and port as the client named them.
pub(crate) fn authority(parts: &http::request::Parts) -> Option<&str> {
    parts
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()))
}

/// The 405 of a route that takes only `allow`.
pub(crate) fn wrong_method(method: &Method, allow: &'static str) -> ApiError {
    ApiError::new(Kind::MethodNotAllowed, format!("The method {method} is not allowed here; allowed: {allow}."))
        .allow(allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "01234567-89ab-cdef-0000-000000000029";

    #[test]
    fn conditions_are_compared_as_exact_strings() {
        let etag: Etag = ETAG.parse().unwrap();
        assert_eq!(Condition::parse(format!("\"{ETAG}\"").as_bytes()), Condition::Version(etag));
        assert_eq!(Condition::parse(b"*"), Condition::Any);
        let upper = format!("\"{}\"", ETAG.to_uppercase());
        let weak = format!("W/\"{ETAG}\"");
        for junk in [ETAG, upper.as_str(), weak.as_str(), "", "\"", "\"\"", "incorrectEtag", "123456", "\"*\""] {
            assert_eq!(Condition::parse(junk.as_bytes()), Condition::Version(Etag::NEVER), "{junk}");
        }
        assert_eq!(Condition::parse(b"\xff\xfe"), Condition::Version(Etag::NEVER));
    }

    #[test]
    fn session_tokens_of_every_shape() {
        for (token, sequence) in
            [("0:0#41", Some(41)), ("0:-1#41#3=7", Some(41)), ("0:41", Some(41)), ("41", None), ("0:0#x", None)]
        {
            assert_eq!(session_sequence(token), sequence, "{token}");
        }
    }

    #[test]
    fn page_sizes() {
        for (value, expected) in [
            ("-1", Ok(None)),
            ("7", Ok(Some(7))),
            ("9999999999", Ok(Some(10_000))),
            ("0", Err(())),
            ("-2", Err(())),
            ("many", Err(())),
        ] {
            let mut map = HeaderMap::new();
            map.insert("x-ms-max-item-count", HeaderValue::from_static(value));
            assert_eq!(Headers(&map).page_items().map_err(|_| ()), expected, "{value}");
        }
    }

    #[test]
    fn minimal_is_found_among_other_preferences() {
        for (value, expected) in
            [("return=minimal", true), ("respond-async, Return = Minimal", true), ("return=representation", false)]
        {
            let mut map = HeaderMap::new();
            map.insert("prefer", HeaderValue::from_static(value));
            assert_eq!(Headers(&map).wants_minimal(), expected, "{value}");
        }
    }
}
