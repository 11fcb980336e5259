//! The conditions of RFC 9110, section 13, for a server that was asked to be strict about them.
//!
//! Owns the reading of `If-Match`, `If-None-Match`, `If-Modified-Since` and `If-Unmodified-Since` as the standard defines
//! them, and the order in which they are evaluated (section 13.2.2). It applies nothing: `operations` does. By default
//! the server follows the service instead, which knows one condition per request; see `headers::Condition`.

use std::time::{SystemTime, UNIX_EPOCH};

use etagdb::{Etag, Precondition};

use crate::headers::Headers;
use crate::status::ApiError;
use crate::wire::Version;

/// All conditions of one request, or of one operation of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    /// Seconds since 1970.
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever there is.
    Any,
    List(Vec<Tag>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// [`Etag::NEVER`] for a tag that is none of ours.
    etag: Etag,
}

/// What conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evaluated {
    Proceed,
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Conditions {
    /// Those in a request's headers.
    ///
    /// # Errors
    ///
    /// 400 for an entity tag that cannot be read: a guard that nobody understands must not be passed. A date that cannot
    /// be read is ignored, as the standard demands.
    pub(crate) fn of_request(headers: Headers<'_>) -> Result<Conditions, ApiError> {
        let tags = |name| Tags::parse(name, headers.0.get_all(name).iter().map(http::HeaderValue::as_bytes));
        let date = |name| {
            let text = headers.0.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| httpdate::parse_http_date(text.trim()).ok()).map(seconds)
        };
        Ok(Conditions {
            if_match: tags("if-match")?,
            if_none_match: tags("if-none-match")?,
            if_modified_since: date("if-modified-since"),
            if_unmodified_since: date("if-unmodified-since"),
        })
    }

    /// Those of an operation in a batch.
    ///
    /// # Errors
    ///
    /// As for a request.
    pub(crate) fn of_operation(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Conditions, ApiError> {
        Ok(Conditions {
            if_match: Tags::parse("ifMatch", if_match.map(str::as_bytes))?,
            if_none_match: Tags::parse("ifNoneMatch", if_none_match.map(str::as_bytes))?,
            ..Conditions::default()
        })
    }

    /// Evaluates them against the version that is there (section 13.2.2, steps 1 to 4).
    pub(crate) fn evaluate(&self, current: Option<&Version>, is_read: bool) -> Evaluated {
        let modified = current.map(|version| version.time_ms / 1000);
        let holds = match (&self.if_match, self.if_unmodified_since, modified) {
            (Some(tags), ..) => tags.match_strongly(current),
            (None, Some(since), Some(modified)) => modified <= since,
            (None, ..) => true,
        };
        if !holds {
            return Evaluated::Failed;
        }
        match (&self.if_none_match, self.if_modified_since, modified) {
            (Some(tags), ..) if tags.match_weakly(current) => {
                if is_read {
                    Evaluated::NotModified
                } else {
                    Evaluated::Failed
                }
            }
            (None, Some(since), Some(modified)) if is_read && modified <= since => Evaluated::NotModified,
            _ => Evaluated::Proceed,
        }
    }
}

impl Tags {
    /// Reads the header's lines, which are one list; `None` when there is no line.
    fn parse<'a>(name: &str, lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Tags>, ApiError> {
        let mut list = Vec::new();
        let (mut any, mut there) = (false, false);
        for line in lines {
            there = true;
            let mut rest = line.trim_ascii();
            if rest == b"*" {
                any = true;
                continue;
            }
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix(b",") {
                    rest = after.trim_ascii_start();
                    continue;
                }
                let (tag, after) = Tag::parse(rest).ok_or_else(|| unreadable(name, line))?;
                list.push(tag);
                rest = after.trim_ascii_start();
                if !rest.is_empty() && !rest.starts_with(b",") {
                    return Err(unreadable(name, line));
                }
            }
        }
        match (there, any, list.is_empty()) {
            (false, ..) => Ok(None),
            (true, true, true) => Ok(Some(Tags::Any)),
            (true, false, false) => Ok(Some(Tags::List(list))),
            // Nothing at all, or `*` among others.
            _ => Err(unreadable(name, if any { b"*, ..." } else { b"" })),
        }
    }

    /// For `If-Match`: a weak tag equals nothing (section 8.8.3.2).
    fn match_strongly(&self, current: Option<&Version>) -> bool {
        self.any(current, |tag| !tag.weak)
    }

    /// For `If-None-Match`: weak or not makes no difference.
    fn match_weakly(&self, current: Option<&Version>) -> bool {
        self.any(current, |_| true)
    }

    fn any(&self, current: Option<&Version>, counts: impl Fn(&Tag) -> bool) -> bool {
        let Some(current) = current else { return false };
        match self {
            Tags::Any => true,
            Tags::List(tags) => {
                tags.iter().any(|tag| counts(tag) && Precondition::Match(tag.etag).holds(Some(current.etag)))
            }
        }
    }
}

impl Tag {
    /// Reads one entity tag, and returns what follows it.
    fn parse(text: &[u8]) -> Option<(Tag, &[u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.strip_prefix(b"\"")?;
        let end = text.iter().position(|byte| *byte == b'"')?;
        let (inner, after) = (text.get(..end)?, text.get(end + 1..)?);
        // Visible characters but the quote, and what is beyond ASCII.
        if inner.iter().any(|byte| *byte < 0x21 || *byte == 0x7F) {
            return None;
        }
        let etag = std::str::from_utf8(inner).ok().and_then(|text| text.parse().ok()).unwrap_or(Etag::NEVER);
        Some((Tag { weak, etag }, after))
    }
}

fn unreadable(name: &str, value: &[u8]) -> ApiError {
    let shown: String = String::from_utf8_lossy(value).chars().take(100).collect();
    ApiError::bad_request(format!(
        "The condition '{name}' cannot be read: {shown:?} is neither * nor a list of entity tags in quotes."
    ))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use etagdb::CommitSeq;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    const CURRENT: &str = "01234567-89ab-cdef-0000-000000000029";
    const STALE: &str = "01234567-89ab-cdef-0000-000000000028";

    type Header<'a> = (&'static str, &'a str);

    fn version() -> Version {
        let (seq, created) = (CommitSeq::new(9), CommitSeq::new(7));
        let body = bytes::Bytes::from_static(b"{}");
        Version { body, etag: CURRENT.parse().unwrap(), seq, created, time_ms: 1_000_000_999 }
    }

    fn conditions(headers: &[Header<'_>]) -> Result<Conditions, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Conditions::of_request(Headers(&map))
    }

    #[test]
    fn lists_are_read_as_the_standard_writes_them() {
        let (e, s) = (format!("\"{CURRENT}\""), format!("\"{STALE}\""));
        let matches = |value: &str| {
            let conditions = conditions(&[("if-match", value)]).unwrap();
            conditions.evaluate(Some(&version()), false) == Evaluated::Proceed
        };
        for value in [
            e.clone(),
            format!("{s}, {e}"),
            format!("{e},{s}"),
            format!(" ,, {s} ,\t{e} , "),
            format!("\"a,b\", {e}"),
            "*".to_owned(),
            " * ".to_owned(),
        ] {
            assert!(matches(&value), "{value}");
        }
        for value in [
            s.clone(),
            format!("W/{e}"),
            "\"\"".to_owned(),
            "\"é\"".to_owned(),
            format!("\"{}\"", CURRENT.to_uppercase()),
        ] {
            assert!(!matches(&value), "{value}");
        }
        for value in ["", ",", CURRENT, "\"", "\"a", "\"a\" \"b\"", "*, \"a\"", "w/\"a\"", "W/", "\"a b\"", "abc"] {
            assert!(conditions(&[("if-match", value)]).is_err(), "{value}");
            assert!(conditions(&[("if-none-match", value)]).is_err(), "{value}");
        }
        // Two lines are one list.
        let two = conditions(&[("if-match", &s), ("if-match", &e)]).unwrap();
        assert_eq!(two.evaluate(Some(&version()), false), Evaluated::Proceed);
        assert!(conditions(&[("if-match", "*"), ("if-match", &e)]).is_err());
    }

    #[test]
    fn the_order_of_evaluation() {
        let (e, s) = (format!("\"{CURRENT}\""), format!("\"{STALE}\""));
        // The version is of 1,000,000 seconds after 1970.
        let (before, same) = ("Mon, 12 Jan 1970 13:46:39 GMT", "Mon, 12 Jan 1970 13:46:40 GMT");
        let (proceed, not_modified, failed) = (Evaluated::Proceed, Evaluated::NotModified, Evaluated::Failed);
        let cases: [(&[Header<'_>], Evaluated, Evaluated); 14] = [
            (&[], proceed, proceed),
            (&[("if-match", &e), ("if-unmodified-since", before)], proceed, proceed),
            (&[("if-match", &s), ("if-unmodified-since", same)], failed, failed),
            (&[("if-unmodified-since", before)], failed, failed),
            (&[("if-unmodified-since", same)], proceed, proceed),
            (&[("if-unmodified-since", "yesterday")], proceed, proceed),
            (&[("if-none-match", &e)], not_modified, failed),
            (&[("if-none-match", "*")], not_modified, failed),
            (&[("if-none-match", &s), ("if-modified-since", same)], proceed, proceed),
            (&[("if-modified-since", same)], not_modified, proceed),
            (&[("if-modified-since", before)], proceed, proceed),
            (&[("if-match", &e), ("if-none-match", &e)], not_modified, failed),
            (&[("if-match", &s), ("if-none-match", &e)], failed, failed),
            (&[("if-unmodified-since", same), ("if-modified-since", same)], not_modified, proceed),
        ];
        for (headers, read, write) in cases {
            let conditions = conditions(headers).unwrap();
            assert_eq!(conditions.evaluate(Some(&version()), true), read, "read with {headers:?}");
            assert_eq!(conditions.evaluate(Some(&version()), false), write, "write with {headers:?}");
        }
        // Of what is not there, only If-Match says anything.
        for (headers, expected) in [
            (&[("if-match", e.as_str())], failed),
            (&[("if-match", "*")], failed),
            (&[("if-none-match", "*")], proceed),
            (&[("if-unmodified-since", before)], proceed),
            (&[("if-modified-since", same)], proceed),
        ] {
            assert_eq!(conditions(headers).unwrap().evaluate(None, false), expected, "{headers:?}");
        }
    }
}
