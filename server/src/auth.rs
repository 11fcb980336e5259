//! Master-key signatures: checking those of requests, and making them for requests of our own.
//!
//! Owns the signed text, the form of the `authorization` header and the window of time a signature is good for. It never
//! decides what a request signs (the caller names the resource) and never reads a clock.
//!
//! The signed text is, in this order and each followed by a line feed: the method, the resource type, the resource link,
//! `x-ms-date` and `date`; all in lower case except the link. Neither the link's case nor its characters are changed.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;
use smallvec::SmallVec;

/// How far a request's date may lie before or after the server's.
const DATE_WINDOW: Duration = Duration::from_secs(15 * 60);

/// Room on the stack for an authorization header, and for a signature while it is decoded. Longer ones take the heap.
const HEADER_ROOM: usize = 128;
const SIGNATURE_ROOM: usize = 36;

/// Everything but the characters that a URI never needs to escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The key that signs every request.
#[derive(Clone)]
pub(crate) struct MasterKey(Hmac<Sha256>);

impl MasterKey {
    /// The key that every emulator of the service accepts, and every SDK's quick start uses. It is public: it protects nothing.
    pub(crate) const EMULATOR: &'static str =
        "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

    /// Reads a key as account pages and connection strings write it.
    pub(crate) fn from_base64(text: &str) -> Result<MasterKey, AuthError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|error| AuthError(format!("the account key is not base64: {error}")))?;
        if bytes.is_empty() {
            return Err(AuthError("the account key is empty".to_owned()));
        }
        Hmac::new_from_slice(&bytes)
            .map(MasterKey)
            .map_err(|error| AuthError(format!("the account key cannot be used: {error}")))
    }

    fn mac(&self, signed_text: &str) -> Hmac<Sha256> {
        self.0.clone().chain_update(signed_text.as_bytes())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Why a request is not authorized, or a key not usable, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthError(String);

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthError {}

/// Checks a request's signature, in time that does not depend on where it is wrong, and that its date is within 15 minutes of `now`.
///
/// `resource_link` is the link as the client signed it: `dbs/x/colls/c` for a POST to that container's items, or the
/// lower-case resource id alone where the client addresses by resource ids. `authorization` is the header as it arrived.
#[expect(clippy::too_many_arguments, reason = "each is one line of the signed text, or what to compare it with")]
pub(crate) fn verify(
    key: &MasterKey,
    method: &str,
    resource_type: &str,
    resource_link: &str,
    x_ms_date: Option<&str>,
    date: Option<&str>,
    authorization: &str,
    now: SystemTime,
) -> Result<(), AuthError> {
    let signature = parse_authorization(authorization)?;
    let sent = x_ms_date
        .or(date)
        .ok_or_else(|| AuthError("the request has no `x-ms-date` header, which its signature must cover".to_owned()))?;
    check_date(sent, now)?;
    let text = signed_text(method, resource_type, resource_link, x_ms_date.unwrap_or(""), date.unwrap_or(""));
    key.mac(&text).verify_slice(&signature).map_err(|_| {
        AuthError(format!(
            "the signature does not match. The server signed `{}` with its own key; check the account key and that the \
             authorization header covers the same text",
            text.replace('\n', "\\n")
        ))
    })
}

/// Returns the `authorization` header for a request that sends `date` as `x-ms-date`.
pub(crate) fn sign(key: &MasterKey, method: &str, resource_type: &str, resource_link: &str, date: &str) -> String {
    let text = signed_text(method, resource_type, resource_link, date, "");
    let signature = STANDARD.encode(key.mac(&text).finalize().into_bytes());
    utf8_percent_encode(&format!("type=master&ver=1.0&sig={signature}"), ESCAPED).to_string()
}

fn signed_text(method: &str, resource_type: &str, resource_link: &str, x_ms_date: &str, date: &str) -> String {
    let mut text = String::with_capacity(96 + resource_link.len());
    for (part, keeps_case) in
        [(method, false), (resource_type, false), (resource_link, true), (x_ms_date, false), (date, false)]
    {
        let from = text.len();
        text.push_str(part);
        if let (false, Some(part)) = (keeps_case, text.get_mut(from..)) {
            part.make_ascii_lowercase();
        }
        text.push('\n');
    }
    text
}

/// Takes `type=master&ver=1.0&sig=...` apart, percent-encoded or not, and returns the bytes of the signature.
fn parse_authorization(header: &str) -> Result<SmallVec<[u8; SIGNATURE_ROOM]>, AuthError> {
    let malformed = |what: &str| {
        AuthError(format!("the authorization header {what}; it should be `type=master&ver=1.0&sig=...`, URL-encoded"))
    };
    let mut decoded: SmallVec<[u8; HEADER_ROOM]> = SmallVec::new();
    decoded.extend(percent_decode_str(header));
    let decoded = std::str::from_utf8(&decoded).map_err(|_| malformed("is not UTF-8"))?;

    let (mut kind, mut version, mut signature) = (None, None, None);
    for field in decoded.split('&') {
        // A signature ends in `=`, so only the first one separates.
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("ver", value)) => version = Some(value),
            Some(("sig", value)) => signature = Some(value),
            _ => return Err(malformed("has a part that is neither `type`, `ver` nor `sig`")),
        }
    }
    match kind {
        Some("master") => {}
        Some("") | None => return Err(malformed("names no `type`")),
        Some(other) => {
            return Err(AuthError(format!(
                "authorization type `{other}` is not supported; sign with the account key (`type=master`)"
            )));
        }
    }
    match version {
        Some("1.0") => {}
        Some(other) => return Err(AuthError(format!("authorization version `{other}` is not supported, only `1.0`"))),
        None => return Err(malformed("names no `ver`")),
    }
    let signature = signature.ok_or_else(|| malformed("has no `sig`"))?;
    let mut bytes: SmallVec<[u8; SIGNATURE_ROOM]> =
        SmallVec::from_elem(0, base64::decoded_len_estimate(signature.len()));
    let length =
        STANDARD.decode_slice(signature, &mut bytes).map_err(|_| malformed("has a `sig` that is not base64"))?;
    bytes.truncate(length);
    Ok(bytes)
}

fn check_date(sent: &str, now: SystemTime) -> Result<(), AuthError> {
    // Most are written as they should be.
    let date = httpdate::parse_http_date(sent).or_else(|_| httpdate::parse_http_date(&canonical_case(sent)));
    let date = date.map_err(|_| {
        AuthError(format!("the request's date `{sent}` is not of the form `Tue, 01 Nov 1994 08:12:31 GMT`"))
    })?;
    let distance = now.duration_since(date).unwrap_or_else(|error| error.duration());
    if distance > DATE_WINDOW {
        return Err(AuthError(format!(
            "the authorization token is not valid at the current time: the request's date is {sent}, the server's time is {}, \
             and they may differ by 15 minutes at most",
            httpdate::fmt_http_date(now)
        )));
    }
    Ok(())
}

/// Some SDKs send the date in the lower case they sign. Dates are written `Sat, 22 Nov 2025 02:02:00 GMT`.
fn canonical_case(date: &str) -> String {
    let mut previous_is_letter = false;
    let mut canonical: String = date
        .trim()
        .chars()
        .map(|c| {
            let c = if previous_is_letter { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            previous_is_letter = c.is_ascii_alphabetic();
            c
        })
        .collect();
    if canonical.ends_with("Gmt") {
        canonical.truncate(canonical.len() - "Gmt".len());
        canonical.push_str("GMT");
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Thu, 27 Apr 2017 00:51:12 GMT";

    fn key() -> MasterKey {
        MasterKey::from_base64(
            "dsZQi3KtZmCv1ljt3VNWNm7sQUF1y5rJfC6kv5JiwvW0EndXdDku/dkKBp8/ufDToSxLzR4y+O/0H/t4bQtVNw==",
        )
        .unwrap()
    }

    fn at(seconds_from_date: i64) -> SystemTime {
        let date = httpdate::parse_http_date(DATE).unwrap();
        let distance = Duration::from_secs(seconds_from_date.unsigned_abs());
        if seconds_from_date < 0 { date - distance } else { date + distance }
    }

    fn verify_at(now: SystemTime, authorization: &str) -> Result<(), AuthError> {
        verify(&key(), "GET", "dbs", "dbs/ToDoList", Some(DATE), None, authorization, now)
    }

    #[test]
    fn signature_of_the_rest_documentation_is_made_and_accepted() {
        let header = sign(&key(), "GET", "dbs", "dbs/ToDoList", DATE);
        assert_eq!(header, "type%3Dmaster%26ver%3D1.0%26sig%3Dc09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu%2Bc%2Bc%3D");
        assert_eq!(verify_at(at(0), &header), Ok(()));
        assert_eq!(
            verify_at(at(0), "type=master&ver=1.0&sig=c09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu+c+c="),
            Ok(()),
            "not encoded"
        );
        assert_eq!(
            verify_at(
                at(0),
                &header.to_ascii_lowercase().replace(
                    "c09pevjrgp2uqrkr934kfbtqhbyc7tvr3ohyqlu%2bc%2bc",
                    "c09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu%2bc%2bc"
                )
            ),
            Ok(())
        );
    }

    #[test]
    fn anything_else_signed_is_refused() {
        let header = sign(&key(), "GET", "dbs", "dbs/ToDoList", DATE);
        let verify_as = |method, resource_type, link, date: Option<&str>| {
            verify(&key(), method, resource_type, link, Some(DATE), date, &header, at(0))
        };
        assert_eq!(verify_as("get", "DBS", "dbs/ToDoList", None), Ok(()));
        assert!(verify_as("PUT", "dbs", "dbs/ToDoList", None).is_err());
        assert!(verify_as("GET", "colls", "dbs/ToDoList", None).is_err());
        assert!(
            verify_as("GET", "dbs", "dbs/todolist", None)
                .unwrap_err()
                .to_string()
                .contains("`get\\ndbs\\ndbs/todolist\\n")
        );
        assert!(verify_as("GET", "dbs", "dbs/ToDoList", Some(DATE)).is_err(), "`date` is part of the signed text");
        let other = MasterKey::from_base64(MasterKey::EMULATOR).unwrap();
        assert!(verify(&other, "GET", "dbs", "dbs/ToDoList", Some(DATE), None, &header, at(0)).is_err());
    }

    #[test]
    fn dates_count_fifteen_minutes_either_side() {
        let header = sign(&key(), "GET", "dbs", "dbs/ToDoList", DATE);
        for seconds in [-900, -1, 0, 1, 900] {
            assert_eq!(verify_at(at(seconds), &header), Ok(()), "{seconds}");
        }
        for seconds in [-901, 901, 86_400 * 400] {
            let refusal = verify_at(at(seconds), &header).unwrap_err().to_string();
            assert!(refusal.contains(&httpdate::fmt_http_date(at(seconds))), "names the server's time: {refusal}");
        }
    }

    #[test]
    fn dates_are_read_in_any_case() {
        for date in [DATE.to_ascii_lowercase(), DATE.to_ascii_uppercase(), DATE.to_owned()] {
            let header = sign(&key(), "GET", "", "", &date);
            assert_eq!(verify(&key(), "GET", "", "", Some(&date), None, &header, at(5)), Ok(()), "{date}");
        }
        let missing = verify(&key(), "GET", "", "", None, None, &sign(&key(), "GET", "", "", DATE), at(0));
        assert!(missing.unwrap_err().to_string().contains("x-ms-date"));
        let unreadable = verify(&key(), "GET", "", "", Some("now"), None, &sign(&key(), "GET", "", "", "now"), at(0));
        assert!(unreadable.unwrap_err().to_string().contains("`now`"));
    }

    #[test]
    fn a_plain_date_header_serves_when_it_is_the_only_one() {
        let text = signed_text("GET", "dbs", "", "", DATE);
        let header = format!("type=master&ver=1.0&sig={}", STANDARD.encode(key().mac(&text).finalize().into_bytes()));
        assert_eq!(verify(&key(), "GET", "dbs", "", None, Some(DATE), &header, at(0)), Ok(()));
    }

    #[test]
    fn malformed_headers_say_what_is_wrong() {
        for (header, part) in [
            ("", "neither"),
            ("Bearer abc", "neither"),
            ("type=master", "`ver`"),
            ("ver=1.0&sig=AA==", "`type`"),
            ("type=master&ver=1.0", "`sig`"),
            ("type=master&ver=2.0&sig=AA==", "`2.0`"),
            ("type=resource&ver=1.0&sig=AA==", "`resource`"),
            ("type%3daad%26ver%3d1.0%26sig%3dx", "`aad`"),
            ("type=master&ver=1.0&sig=*", "base64"),
            ("%ff", "UTF-8"),
            ("type=master&ver=1.0&sig=", "does not match"),
        ] {
            let refusal = verify_at(at(0), header).unwrap_err().to_string();
            assert!(refusal.contains(part), "{header}: {refusal}");
        }
    }

    #[test]
    fn keys_are_checked_and_never_printed() {
        assert!(MasterKey::from_base64("not base64!").is_err());
        assert!(MasterKey::from_base64("").is_err());
        assert_eq!(format!("{:?}", MasterKey::from_base64(MasterKey::EMULATOR).unwrap()), "MasterKey(..)");
    }

    proptest! {
        #[test]
        fn what_is_signed_is_accepted(method in "[A-Z]{3,6}", kind in "[a-z]{0,6}", link in ".{0,40}") {
            let header = sign(&key(), &method, &kind, &link, DATE);
            prop_assert_eq!(verify(&key(), &method, &kind, &link, Some(DATE), None, &header, at(60)), Ok(()));
        }

        #[test]
        fn any_header_is_read_without_a_panic(header in ".{0,60}", date in ".{0,40}") {
            prop_assert!(verify(&key(), "GET", "", "", Some(&date), Some(&header), &header, at(0)).is_err());
            let prefixed = format!("type=master&ver=1.0&{header}");
            prop_assert!(verify_at(at(0), &prefixed).is_err());
        }
    }
}
