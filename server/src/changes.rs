//! The change feed of a container, latest versions only: each item once, in the order of its last write.
//!
//! Owns the positions a client carries: a position is the commit it has seen everything up to. The feed is found by
//! looking over the items, because the store keeps no list of changes for readers yet; when nothing at all was written
//! since the position, which is what most polls find, it looks at none. Deletes do not show, and all-versions mode is
//! refused.

use std::collections::BinaryHeap;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use etagdb::CommitSeq;
use http::StatusCode;
use serde_json::json;

use crate::catalog::Container;
use crate::feed::{self, Page};
use crate::headers::Headers;
use crate::service::{Reply, Service};
use crate::status::{ApiError, Kind};
use crate::wire::Version;

/// Where a reader begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// After this commit; 0 is the beginning.
    After(CommitSeq),
    Now,
    /// Seconds since 1970.
    Time(u64),
}

pub(crate) fn read(service: &Service, container: &Container, headers: Headers<'_>) -> Result<Reply, ApiError> {
    let mode = headers.text("a-im")?.unwrap_or_default();
    if !mode.eq_ignore_ascii_case("incremental feed") {
        return Err(ApiError::bad_request(format!(
            "The change feed mode {mode:?} is not supported: only 'Incremental Feed', the latest version of each item."
        )));
    }
    headers.check_session(service.store.last_commit())?;
    let range = feed::range(container, &headers.scope(container)?)?;
    let mut page = Page::new(headers)?;
    let snapshot = service.store.snapshot();
    let newest = snapshot.seq();
    let (after, since) = match start(headers)? {
        Start::After(seq) if seq > newest => {
            return Err(ApiError::bad_request(format!(
                "The change feed position {seq} is ahead of this store, which is at {newest}: it was read from another \
                 store, or this one was restored. Begin again."
            )));
        }
        Start::After(seq) => (seq, 0),
        Start::Now => (newest, 0),
        Start::Time(seconds) => (CommitSeq::default(), seconds),
    };

    // The oldest changes, newest on top: one more than a page holds, to know whether there are more.
    let mut oldest: BinaryHeap<(CommitSeq, Bytes)> = BinaryHeap::new();
    if after < newest {
        for row in snapshot.scan(&container.items, &range)? {
            let (key, document) = row?;
            if document.seq > after && document.time_ms / 1000 >= since {
                oldest.push((document.seq, key));
                if oldest.len() > page.items_max() {
                    oldest.pop();
                    page.note_more();
                }
            }
        }
    }
    let mut reached = newest;
    let wrapped = headers.text("x-ms-cosmos-changefeed-wire-format-version")?.is_some();
    for (seq, key) in oldest.into_sorted_vec() {
        if page.is_full() {
            page.note_more();
            break;
        }
        let document = snapshot.get(&container.items, &key)?.ok_or_else(|| {
            ApiError::new(
                Kind::InternalServerError,
                "an item of the change feed is not in the snapshot it was found in",
            )
        })?;
        page.push(entry(container, &Version::of(&document), wrapped));
        reached = seq;
    }
    // With nothing left behind, the position is as new as the snapshot, so that the next poll is cheap.
    let position = if page.has_more() { reached } else { newest };
    let reply = if page.len() == 0 {
        Reply::empty(StatusCode::NOT_MODIFIED).container(container, newest, newest)
    } else {
        page.reply(service, container, "Documents", None)
    };
    Ok(reply.header("etag", &format!("\"{position}\"")))
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
            Some(time) => Ok(Start::Time(time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()))),
            None => Ok(Start::After(CommitSeq::default())),
        },
    }
}

/// One change: the item as it is, or wrapped as clients of the newer wire format want it.
fn entry(container: &Container, version: &Version, wrapped: bool) -> Vec<u8> {
    let item = version.render(container);
    if !wrapped {
        return item;
    }
    let metadata = json!({ "lsn": version.seq.get(), "crts": version.time_ms / 1000 }).to_string();
    [b"{\"current\":".as_slice(), &item, b",\"metadata\":", metadata.as_bytes(), b"}"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn where_a_reader_begins() {
        for (name, value, expected) in [
            ("x-other", "1", Some(Start::After(CommitSeq::default()))),
            ("if-none-match", "*", Some(Start::Now)),
            ("if-none-match", "\"41\"", Some(Start::After(CommitSeq::new(41)))),
            ("if-none-match", "41", Some(Start::After(CommitSeq::new(41)))),
            ("if-none-match", "\"x\"", None),
            ("if-modified-since", "Thu, 01 Jan 1970 00:01:00 GMT", Some(Start::Time(60))),
        ] {
            let mut map = HeaderMap::new();
            map.insert(name, HeaderValue::from_static(value));
            assert_eq!(start(Headers(&map)).ok(), expected, "{name}: {value}");
        }
    }
}
