//! Reading the past over HTTP: which state a request asks for, and the list of an item's versions.
//!
//! Owns the header `x-etagdb-as-of` and its three spellings, and the header `x-etagdb-versions` with the shape of its
//! answer. The service has neither, so an SDK that sends none of them notices nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{AsOf, CommitSeq, Error, Snapshot};
use http::HeaderName;
use serde_json::json;

use crate::catalog::Container;
use crate::continuation::{Position, Token};
use crate::feed::Page;
use crate::headers::Headers;
use crate::operations::Operation;
use crate::service::{Reply, Service};
use crate::status::ApiError;
use crate::wire::{self, Version};

/// Names a state of the past.
pub(crate) static AS_OF: HeaderName = HeaderName::from_static("x-etagdb-as-of");
/// Asks for the list of an item's versions.
static VERSIONS: HeaderName = HeaderName::from_static("x-etagdb-versions");

/// The state that a request asks for, if it asks for one.
pub(crate) fn requested(headers: Headers<'_>) -> Result<Option<AsOf>, ApiError> {
    let Some(text) = headers.text(&AS_OF)? else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "The value {text:?} specified for the header '{AS_OF}' is invalid: it must be an etag in quotes, a commit \
             sequence, or a time such as 2026-02-28T12:00:00.5Z or Sat, 28 Feb 2026 12:00:00 GMT."
        ))
    })
}

/// Whether a request asks for the list of an item's versions.
pub(crate) fn asks_for_versions(headers: Headers<'_>) -> bool {
    headers.flag(&VERSIONS)
}

/// Refuses what cannot be done in the past.
pub(crate) fn refuse(headers: Headers<'_>, what: &str) -> Result<(), ApiError> {
    for name in [&AS_OF, &VERSIONS] {
        if headers.text(name)?.is_some() {
            return Err(ApiError::bad_request(format!("The header '{name}' is understood on reads, not on {what}.")));
        }
    }
    Ok(())
}

/// The state a feed or query is to read: the one asked for, or else the present one.
pub(crate) fn snapshot(service: &Service, headers: Headers<'_>) -> Result<Snapshot, ApiError> {
    match requested(headers)? {
        None => Ok(service.store.snapshot()),
        Some(as_of) => service.store.snapshot_at(as_of).map_err(about_the_past),
    }
}

/// The item as it was.
pub(crate) fn version(container: &Container, key: &[u8], as_of: AsOf) -> Result<Option<Version>, ApiError> {
    match (container.items.get_as_of(key, as_of), as_of) {
        (Ok(document), _) => Ok(document.as_ref().map(Version::of)),
        // An etag of another item, another store, or nobody's.
        (Err(Error::Invalid(_)), AsOf::Etag(etag)) => {
            Err(ApiError::not_found(format!("The etag \"{etag}\" names no version of this item.")))
        }
        (Err(error), _) => Err(about_the_past(error)),
    }
}

fn about_the_past(error: Error) -> ApiError {
    match error {
        Error::NotRetained { asked, oldest } => ApiError::not_found(format!(
            "What was there at commit {asked} is no longer kept; the oldest state that can be read is that of {oldest}."
        )),
        error => error.into(),
    }
}

/// The versions of an item, newest first, those of deletions included, as far as they are kept.
pub(crate) fn versions(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    operation: &Operation,
) -> Result<Reply, ApiError> {
    if headers.text(&AS_OF)?.is_some() {
        return Err(ApiError::bad_request(format!(
            "The headers '{AS_OF}' and '{VERSIONS}' ask for different things; send one of them."
        )));
    }
    let what = [b"versions\0", operation.key.as_slice()].concat();
    let below = match headers.continuation()?.map(|text| Token::decode(text, &what)).transpose()? {
        None => None,
        Some(Token { seq, position: Position::Offset(_) }) => Some(seq),
        Some(_) => return Err(ApiError::bad_request("The continuation token is invalid: it belongs to another list.")),
    };
    let mut page = Page::new(headers)?;
    let mut continuation = None;
    let mut last = CommitSeq::default();
    for version in container.items.history(&operation.key)? {
        let version = version?;
        if operation.created.is_some_and(|created| version.created != created)
            || below.is_some_and(|below| version.seq >= below)
        {
            continue;
        }
        if page.is_full() {
            continuation = Some(Token { seq: last, position: Position::Offset(0) }.encode(&what));
            break;
        }
        last = version.seq;
        let entry = json!({
            "_etag": wire::quoted(version.etag),
            "_lsn": version.seq.get(),
            "_ts": version.time_ms / 1000,
            "timeMs": version.time_ms,
            "bodyBytes": version.body_bytes,
            "deleted": version.tombstone,
            "previousLsn": version.previous.map(CommitSeq::get),
        });
        page.push(entry.to_string().into_bytes());
    }
    if page.len() == 0 && below.is_none() {
        return Err(ApiError::not_found("Entity with the specified id never existed in the system."));
    }
    Ok(page.reply(service, container, "Versions", continuation))
}

/// Reads the header's value: an etag with its quotes, a commit sequence, a time in RFC 3339 or as HTTP writes it.
fn parse(text: &str) -> Option<AsOf> {
    if let Some(inner) = text.strip_prefix('"') {
        return inner.strip_suffix('"')?.parse().ok().map(AsOf::Etag);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(|number| AsOf::Commit(CommitSeq::new(number)));
    }
    rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok()).map(AsOf::Time)
}

/// Reads a time such as `2026-02-28T12:00:00.5+01:00` (RFC 3339). None before 1970: there are no commits of then.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|byte| marks.contains(byte));
    let marks = [(4, b"-".as_slice()), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
    if !marks.iter().all(|(at, known)| mark(*at, known)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is the first of the next minute here, as it is for the system's clock.
    if !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept: String = fraction.get(..digits.min(9))?.chars().chain(std::iter::repeat('0')).take(9).collect();
        nanos = kept.parse().ok().filter(|_| digits > 0)?;
        rest = fraction.get(digits..)?;
    }
    let offset = match *rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at..at + 2)?, number(at + 3..at + 5)?);
            let minutes = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            if sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day);
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that a leap day ends one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 1 March of the year 0 and 1 January 1970.
    year * 365 + leap_days + (153 * months + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings() {
        let etag = "01234567-89ab-cdef-0000-000000000029";
        assert_eq!(parse(&format!("\"{etag}\"")), Some(AsOf::Etag(etag.parse().unwrap())));
        assert_eq!(parse("41"), Some(AsOf::Commit(CommitSeq::new(41))));
        let time = |seconds, nanos| Some(AsOf::Time(UNIX_EPOCH + Duration::new(seconds, nanos)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), time(784_111_777, 0));
        assert_eq!(parse("1994-11-06T08:49:37Z"), time(784_111_777, 0));
        for junk in ["", etag, "\"41\"", "\"", "-1", "99999999999999999999", "yesterday", "W/\"x\"", "*"] {
            assert_eq!(parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn times_are_read_to_the_nanosecond_and_with_their_offset() {
        let read = |text| rfc3339(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap());
        let at = |seconds, nanos| Some(Duration::new(seconds, nanos));
        assert_eq!(read("1970-01-01T00:00:00Z"), at(0, 0));
        assert_eq!(read("2000-02-29T12:00:00.25Z"), at(951_825_600, 250_000_000));
        assert_eq!(read("2000-03-01T00:00:00+01:30"), at(951_863_400, 0));
        assert_eq!(read("2026-11-22 04:56:29.1234567891-00:30"), at(1_795_325_189, 123_456_789));
        assert_eq!(read("2016-12-31T23:59:60Z"), at(1_483_228_800, 0));
        for junk in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01",
            "+026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:0éZ",
        ] {
            assert_eq!(read(junk), None, "{junk}");
        }
    }

    #[test]
    fn days_agree_with_another_reader_of_dates() {
        for days in (0..60_000).step_by(17) {
            let time = UNIX_EPOCH + Duration::from_secs(days * 86_400);
            let text = httpdate::fmt_http_date(time);
            // Sun, 06 Nov 1994 08:49:37 GMT
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = 1 + months.iter().position(|month| *month == &text[8..11]).unwrap();
            let iso = format!("{}-{month:02}-{}T00:00:00Z", &text[12..16], &text[5..7]);
            assert_eq!(rfc3339(&iso), Some(time), "{iso}");
        }
    }
}
