//! Answers: status, headers and body, before the listener writes them.
//!
//! Owns [`Reply`], and the headers that every answer about items has. These are made for every request, so their names
//! are constants, numbers and etags are written straight into their values, and the table that holds them is one that an
//! earlier request is done with. What an answer says is its maker's business.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use etagdb::{CommitSeq, Etag};
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::catalog::Container;
use crate::chaos::{self, Fault};
use crate::status::ApiError;
use crate::wire;

const CONTENT_PATH: HeaderName = HeaderName::from_static("x-ms-content-path");
const ALT_CONTENT_PATH: HeaderName = HeaderName::from_static("x-ms-alt-content-path");
const LSN: HeaderName = HeaderName::from_static("lsn");
const ITEM_LSN: HeaderName = HeaderName::from_static("x-ms-item-lsn");
const RANGE_ID: HeaderName = HeaderName::from_static("x-ms-documentdb-partitionkeyrangeid");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-ms-session-token");
/// Two numbers of up to twenty digits, and what stands between them.
const SESSION_TOKEN_BYTES_MAX: usize = 20 + 3 + 20;
/// Header fields of an ordinary answer, with some room.
const FIELDS: usize = 16;
/// How many tables of header fields a thread keeps for answers to come.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the table of a request that is done, for an answer to come. It is as large as the limit of fields allows.
pub(crate) fn recycle(mut headers: HeaderMap) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            headers.clear();
            spare.push(headers);
        }
    });
}

/// An answer, complete but for the socket.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Comes after the body: what an item gets behind the bytes that are stored of it.
    pub(crate) rest: Bytes,
    /// Up to which commit an answer about a container's items has seen.
    pub(crate) seen: Option<CommitSeq>,
    /// Set when the client would rather wait for another answer.
    pub(crate) wait: Option<Wait>,
}

/// How long to wait, and for what, before a request is tried again.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) ready: etagdb::Ready,
    pub(crate) time: Duration,
}

impl Reply {
    pub(crate) fn empty(status: StatusCode) -> Reply {
        let headers = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| HeaderMap::with_capacity(FIELDS));
        Reply { status, headers, body: Bytes::new(), rest: Bytes::new(), seen: None, wait: None }
    }

    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
        let mut reply = Reply::empty(status);
        reply.body = body.into();
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply
    }

    pub(crate) fn value(status: StatusCode, value: &Value) -> Reply {
        Reply::json(status, value.to_string())
    }

    /// One version of an item. Its stored bytes are sent as they are, not copied.
    pub(crate) fn item(status: StatusCode, container: &Container, version: &wire::Version) -> Reply {
        let (stored, rest) = version.parts(container);
        let mut reply = Reply::json(status, stored);
        reply.rest = rest.into();
        reply
    }

    /// Adds a header. A value that no header can hold, such as a name with a line end in it, is left out.
    pub(crate) fn header(self, name: &'static str, value: &str) -> Reply {
        self.field(HeaderName::from_static(name), value)
    }

    fn field(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn number(mut self, name: HeaderName, value: u64) -> Reply {
        self.headers.insert(name, HeaderValue::from(value));
        self
    }

    pub(crate) fn etag(mut self, etag: Etag) -> Reply {
        // As `wire::quoted` writes it.
        let mut text = [b'"'; Etag::TEXT_BYTES + 2];
        text[1..=Etag::TEXT_BYTES].copy_from_slice(etag.write_to(&mut [0; Etag::TEXT_BYTES]).as_bytes());
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            self.headers.insert(ETAG, value);
        }
        self
    }

    /// Names the commit that last wrote the item.
    pub(crate) fn item_lsn(self, seq: CommitSeq) -> Reply {
        self.number(ITEM_LSN, seq.get())
    }

    /// What every answer about a container's items says: where they are, and up to which commit it has seen.
    pub(crate) fn container(mut self, container: &Container, lsn: CommitSeq, seen: CommitSeq) -> Reply {
        self.seen = Some(seen);
        let paths = [(CONTENT_PATH, &container.content_path), (ALT_CONTENT_PATH, &container.alt_content_path)];
        for (name, value) in paths {
            if let Some(value) = value {
                self.headers.insert(name, value.clone());
            }
        }
        self.number(LSN, lsn.get())
    }

    /// Says which partition key range has been seen up to which commit: the one that the request was about, or all.
    pub(crate) fn placed(self, container: &Container, number: Option<usize>) -> Reply {
        let Some(seen) = self.seen else { return self };
        match number {
            Some(number) => {
                let mut token = [0; SESSION_TOKEN_BYTES_MAX];
                let mut rest = &mut token[..];
                // There is room for two numbers of any size.
                let _ = write!(rest, "{number}:0#{seen}");
                let length = SESSION_TOKEN_BYTES_MAX - rest.len();
                let mut reply = self.number(RANGE_ID, number as u64);
                if let Ok(token) = HeaderValue::from_bytes(&token[..length]) {
                    reply.headers.insert(SESSION_TOKEN, token);
                }
                reply
            }
            None => {
                let tokens: Vec<String> =
                    (0..container.ranges.len()).map(|number| format!("{number}:0#{seen}")).collect();
                // Clients look for a range that they know; any will do.
                self.number(RANGE_ID, 0).field(SESSION_TOKEN, &tokens.join(","))
            }
        }
    }

    /// Says that the request had been carried out before.
    pub(crate) fn recalled(self, recalled: bool) -> Reply {
        if recalled { self.header("idempotency-replayed", "true") } else { self }
    }

    /// `Prefer: return=minimal`: the headers, with nothing behind them.
    pub(crate) fn minimal(mut self, minimal: bool) -> Reply {
        if minimal {
            (self.body, self.rest) = (Bytes::new(), Bytes::new());
            self.headers.remove(CONTENT_TYPE);
        }
        self
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Reply {
        let mut reply = Reply::json(error.kind.status(), error.body());
        if error.substatus != 0 {
            reply = reply.header("x-ms-substatus", &error.substatus.to_string());
        }
        if let Some(methods) = error.allow {
            reply = reply.header("allow", methods);
        }
        if let Some(fault) = error.fault {
            reply = reply.header(chaos::HEADER, &fault.to_string());
            if let Fault::Refuse(_, Some(wait)) = *fault {
                reply = reply.header("x-ms-retry-after-ms", &wait.as_millis().to_string());
            }
        }
        match error.etag {
            Some(etag) => reply.etag(etag),
            None => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_written_as_everywhere_else() {
        let etag: Etag = "01234567-89ab-cdef-0000-000000000029".parse().unwrap();
        assert_eq!(Reply::empty(StatusCode::OK).etag(etag).headers[ETAG], wire::quoted(etag));
        assert_eq!(Reply::empty(StatusCode::OK).etag(Etag::NEVER).headers[ETAG], wire::quoted(Etag::NEVER));
    }

    #[test]
    fn nothing_of_a_request_is_left_in_the_answer_to_another() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("secret"));
        recycle(headers);
        assert!(Reply::empty(StatusCode::OK).headers.is_empty());
    }
}
