//! What a browser must not be talked into. Owns two checks of a request's head, and decides nothing about who holds
//! which key: signatures are the service's business.

use std::net::IpAddr;

use http::request::Parts;

use crate::headers;
use crate::status::{ApiError, Kind};

/// Ends of names that no public name server answers for (RFC 6761, RFC 6762, and the reserved `internal`).
const PRIVATE_ENDS: [&str; 4] = [".localhost", ".local", ".internal", ".test"];

/// Refuses a public name as this server's own, for a server whose key everybody knows.
///
/// A page of any site can have its own name resolved to 127.0.0.1 (DNS rebinding), is then of the same origin as this
/// server in the browser's eyes, and could sign with the well-known key. The `Host` header still has that name. Addresses,
/// names of one label and private names cannot be rebound by a stranger.
pub(crate) fn check_name(parts: &Parts) -> Result<(), ApiError> {
    let Some(authority) = headers::authority(parts) else { return Ok(()) };
    if is_private(authority) {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Forbidden,
        format!(
            "This server is not called {authority:?}: with the emulator's well-known key it answers to addresses, \
             localhost and private names only, so that no web site can reach it through a name of its own."
        ),
    ))
}

fn is_private(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_private = |name: String| PRIVATE_ENDS.iter().any(|end| name.ends_with(end));
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || is_private(name.to_ascii_lowercase())
}

/// Refuses what a browser says comes from another site's page. Such a request could not be signed either; this says so
/// before anybody looks at signatures.
pub(crate) fn check_site(parts: &Parts) -> Result<(), ApiError> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let is_foreign = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin_host = text("origin").map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    let is_elsewhere = origin_host.is_some_and(|host| Some(host) != headers::authority(parts));
    if is_foreign || is_elsewhere {
        return Err(ApiError::new(Kind::Forbidden, "The server answers its own page only, not that of another site."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().uri("/_explorer/api/stats");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_name_that_a_stranger_can_point_here_is_refused() {
        for host in ["evil.example:8081", "127.0.0.1.nip.io", "localhost.evil.com", "evil.example.", "a.b:c"] {
            let refused = check_name(&request(&[("host", host)])).unwrap_err();
            assert_eq!(refused.kind, Kind::Forbidden, "{host}");
            assert!(refused.message.contains(host), "{}", refused.message);
        }
        for host in [
            "127.0.0.1:8081",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "[::1]:8081",
            "cosmos:8081",
            "a.localhost:1",
            "host.docker.internal:8081",
        ] {
            assert!(check_name(&request(&[("host", host)])).is_ok(), "{host}");
        }
    }

    #[test]
    fn the_page_of_another_site_is_refused() {
        let own = ("host", "127.0.0.1:8081");
        for headers in [
            [own, ("sec-fetch-site", "cross-site")],
            [own, ("sec-fetch-site", "same-site")],
            [own, ("origin", "https://evil.example")],
            [own, ("origin", "http://127.0.0.1:9999")],
            [own, ("origin", "null")],
        ] {
            assert_eq!(check_site(&request(&headers)).unwrap_err().kind, Kind::Forbidden, "{headers:?}");
        }
        for headers in
            [[own, ("sec-fetch-site", "same-origin")], [own, ("origin", "http://127.0.0.1:8081")], [own, own]]
        {
            assert!(check_site(&request(&headers)).is_ok(), "{headers:?}");
        }
    }
}
