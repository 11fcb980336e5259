//! The change feed of a container, in both of its modes: the latest version of each item, and every version and delete.
//!
//! Owns the positions a client carries and the two forms of an entry. A position is the commit that the client has seen
//! everything up to, so it needs nothing remembered here and outlives a restart. What happened is told by the store's own
//! feed, which keeps the writes of one batch together on one page.
//!
//! A client that says `Prefer: wait=SECONDS` is answered when something has happened, or after that time. Nobody polls
//! for it and no thread waits: the answer that nothing is new carries a future, and the listener waits for that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{ChangeKind, CommitSeq, Error, FeedEntry, FeedMode, FeedStart};
use http::StatusCode;
use serde_json::{Value, json};

use crate::catalog::Container;
use crate::feed::{self, PAGE_BYTES_MAX, PAGE_TIME_MAX, Page};
use crate::headers::Headers;
use crate::item_key;
use crate::items::Item;
use crate::service::{Reply, Service, Wait};
use crate::status::ApiError;
use crate::wire::Version;

/// Longest wait for something to happen, whatever the client prefers. Shorter than clients and proxies wait for answers.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Asks for every item in an envelope, in the mode that has flat items too.
const WIRE_FORMAT: &str = "x-ms-cosmos-changefeed-wire-format-version";

/// Where a reader begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// After this commit; 0 is the beginning.
    After(CommitSeq),
    Now,
    Time(SystemTime),
}

pub(crate) fn read(service: &Service, container: &Container, headers: Headers<'_>) -> Result<Reply, ApiError> {
    read_within(service, container, headers, PAGE_TIME_MAX)
}

fn read_within(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    page_time: Duration,
) -> Result<Reply, ApiError> {
    let mode = mode(headers)?;
    headers.check_session(service.store.last_commit())?;
    let range = feed::range(container, &headers.scope(container)?)?;
    let mut page = Page::new(headers)?;
    let start = match start(headers)? {
        Start::Now => FeedStart::Now,
        Start::After(seq) => FeedStart::After(seq),
        // Nothing has happened in the future.
        Start::Time(time) if time > SystemTime::now() => FeedStart::Now,
        Start::Time(time) => FeedStart::Since(time),
    };
    let mut changes = container
        .items
        .changes(mode, start)
        .map_err(|error| refusal(error, container))?
        .ids(range)
        .page_entries(page.items_max())
        .page_bytes(PAGE_BYTES_MAX)
        .page_time(page_time);
    let told = changes.read().map_err(|error| refusal(error, container))?;
    let wrapped = headers.text(WIRE_FORMAT)?.is_some();
    for entry in &told.entries {
        page.push(match mode {
            FeedMode::All => full_entry(container, entry),
            FeedMode::Latest => latest_entry(container, entry, wrapped),
        });
    }
    // A page that ended by its time is no sign that nothing is new: its client is to go on at once.
    let reply = if told.is_empty() && told.is_end {
        let mut reply = Reply::empty(StatusCode::NOT_MODIFIED).container(container, told.position, told.position);
        reply.wait = headers
            .preferred_wait()
            .map(|time| Wait { ready: changes.ready(), time: time.min(WAIT_MAX) })
            .filter(|wait| !wait.time.is_zero());
        reply
    } else {
        page.reply(service, container, "Documents", None)
    };
    Ok(reply.header("etag", &format!("\"{}\"", told.position)))
}

/// Which feed the client wants. Every version is told from now on or from where a client has been, never from the
/// beginning or a time: the service has not kept it since then, and clients are not made for it.
fn mode(headers: Headers<'_>) -> Result<FeedMode, ApiError> {
    match headers.text("a-im")?.unwrap_or_default() {
        mode if mode.eq_ignore_ascii_case("incremental feed") => Ok(FeedMode::Latest),
        mode if mode.eq_ignore_ascii_case("full-fidelity feed") => match headers.if_none_match_text() {
            Some(_) => Ok(FeedMode::All),
            None => Err(ApiError::bad_request(
                "The change feed with all versions and deletes starts from now ('If-None-Match: *') or from a \
                 continuation, not from the beginning or a point in time.",
            )),
        },
        mode => Err(ApiError::bad_request(format!(
            "The change feed mode {mode:?} is not supported, only 'Incremental Feed' and 'Full-Fidelity Feed'."
        ))),
    }
}

/// Says what a position that cannot be read from means to a client.
fn refusal(error: Error, container: &Container) -> ApiError {
    match error {
        Error::Invalid(why) => ApiError::bad_request(format!(
            "The change feed of {} cannot be read from here: {why}. The position may be ahead of this store because it \
             is of another one, or because this one was restored. Begin again.",
            container.name_link
        )),
        Error::NotRetained { asked, oldest } => ApiError::bad_request(format!(
            "The change feed with all versions and deletes no longer holds what came after {asked}: the oldest position \
             that is kept is {oldest}. Begin again."
        )),
        error => error.into(),
    }
}

fn start(headers: Headers<'_>) -> Result<Start, ApiError> {
    match headers.if_none_match_text() {
        Some(b"*") => Ok(Start::Now),
        Some(text) => {
            let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
            let number = std::str::from_utf8(inner).ok().and_then(|text| text.parse().ok());
            number.map(|number| Start::After(CommitSeq::new(number))).ok_or_else(|| {
                ApiError::bad_request("The value of 'If-None-Match' is not a position of this change feed.")
            })
        }
        None => match headers.if_modified_since() {
            Some(time) => Ok(Start::Time(time.max(UNIX_EPOCH))),
            None => Ok(Start::After(CommitSeq::default())),
        },
    }
}

/// A change in the mode of latest versions: the item as it is, or in an envelope as the newer wire format wants it.
fn latest_entry(container: &Container, entry: &FeedEntry, wrapped: bool) -> Vec<u8> {
    let item = entry.document.as_ref().map_or_else(|| b"{}".to_vec(), |found| Version::of(found).render(container));
    if !wrapped {
        return item;
    }
    let metadata = json!({ "lsn": entry.seq.get(), "crts": entry.time_ms / 1000 });
    envelope(&item, None, &metadata)
}

/// A change in the mode of all versions and deletes.
fn full_entry(container: &Container, entry: &FeedEntry) -> Vec<u8> {
    let mut metadata = json!({
        "operationType": match entry.kind {
            ChangeKind::Created => "create",
            ChangeKind::Deleted | ChangeKind::Expired => "delete",
            _ => "replace",
        },
        "lsn": entry.seq.get(),
        "crts": entry.time_ms / 1000,
    });
    let previous = entry.previous.as_ref().and_then(|previous| previous.document.as_ref()).map(Version::of);
    if let Some(previous) = &previous {
        metadata["previousImageLSN"] = previous.seq.get().into();
    }
    if entry.document.is_none() {
        metadata["timeToLiveExpired"] = (entry.kind == ChangeKind::Expired).into();
        metadata["id"] = item_key::id_of_key(&entry.id).into();
        // The key is in the item; of one that is no longer kept it is left out.
        let key = previous.as_ref().and_then(|version| Item::parse(&version.body).ok()?.own_key(container).ok());
        let key = key.and_then(|key| serde_json::from_str::<Value>(&key.to_header()).ok());
        if let Some(key) = key {
            metadata["partitionKey"] = key;
        }
    }
    let current = entry.document.as_ref().map_or_else(|| b"{}".to_vec(), |found| Version::of(found).render(container));
    envelope(&current, previous.map(|version| version.render(container)).as_deref(), &metadata)
}

fn envelope(current: &[u8], previous: Option<&[u8]>, metadata: &Value) -> Vec<u8> {
    let metadata = metadata.to_string();
    let mut out = Vec::with_capacity(current.len() + previous.map_or(0, <[u8]>::len) + metadata.len() + 48);
    out.extend_from_slice(b"{\"current\":");
    out.extend_from_slice(current);
    if let Some(previous) = previous {
        out.extend_from_slice(b",\"previous\":");
        out.extend_from_slice(previous);
    }
    out.extend_from_slice(b",\"metadata\":");
    out.extend_from_slice(metadata.as_bytes());
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::Fixture;
    use http::{HeaderMap, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.insert(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn where_a_reader_begins() {
        for (name, value, expected) in [
            ("x-other", "1", Some(Start::After(CommitSeq::default()))),
            ("if-none-match", "*", Some(Start::Now)),
            ("if-none-match", "\"41\"", Some(Start::After(CommitSeq::new(41)))),
            ("if-none-match", "41", Some(Start::After(CommitSeq::new(41)))),
            ("if-none-match", "\"x\"", None),
            (
                "if-modified-since",
                "Thu, 01 Jan 1970 00:01:00 GMT",
                Some(Start::Time(UNIX_EPOCH + Duration::from_secs(60))),
            ),
        ] {
            assert_eq!(start(Headers(&headers(&[(name, value)]))).ok(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn all_versions_are_told_from_now_or_a_position() {
        let mode = |pairs: &[_]| mode(Headers(&headers(pairs))).ok();
        let full = ("a-im", "Full-Fidelity Feed");
        assert_eq!(mode(&[full, ("if-none-match", "*")]), Some(FeedMode::All));
        assert_eq!(mode(&[full, ("if-none-match", "\"7\"")]), Some(FeedMode::All));
        assert_eq!(mode(&[full]), None);
        assert_eq!(mode(&[full, ("if-modified-since", "Thu, 01 Jan 1970 00:01:00 GMT")]), None);
        assert_eq!(mode(&[("a-im", "incremental feed")]), Some(FeedMode::Latest));
        assert_eq!(mode(&[("a-im", "feed")]), None);
    }

    /// A page that was given no time has perhaps found nothing for its reader, and knows of more: that is an empty page
    /// and a position further on, and not the 304 that tells an SDK to stop.
    #[test]
    fn a_page_without_entries_that_is_not_the_end_is_no_304() {
        let fixture = Fixture::new();
        fixture.make("c", &json!({}));
        for number in 0..300 {
            fixture.write("c", &json!({"id": number.to_string(), "pk": "q"}), false);
        }
        fixture.write("c", &json!({"id": "a", "pk": "p"}), false);
        let container = fixture.container("c");
        let mut headers = headers(&[("a-im", "Incremental Feed"), ("x-ms-documentdb-partitionkey", "[\"p\"]")]);
        let (mut empty, mut ids) = (0, Vec::new());
        loop {
            let page = read_within(&fixture.service, &container, Headers(&headers), Duration::ZERO).unwrap();
            let position = page.headers.get("etag").unwrap().clone();
            let before = headers.insert("if-none-match", position.clone());
            if page.status == StatusCode::NOT_MODIFIED {
                break;
            }
            assert_eq!(page.status, StatusCode::OK);
            assert_ne!(before, Some(position), "the reader gets on");
            let body: Value = serde_json::from_slice(&page.body).unwrap();
            let found = body["Documents"].as_array().unwrap();
            assert_eq!(body["_count"], found.len());
            empty += u32::from(found.is_empty());
            ids.extend(found.iter().map(|item| item["id"].clone()));
        }
        assert!(empty > 0, "no page was without entries");
        assert_eq!(ids, [json!("a")]);
    }

    #[test]
    fn an_envelope_is_json() {
        let whole = envelope(b"{\"a\":1}", Some(b"{}"), &json!({"lsn": 1}));
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole, json!({"current": {"a": 1}, "previous": {}, "metadata": {"lsn": 1}}));
    }
}
