//! What a caller may set about the server, and the check that the settings are safe together.
//!
//! Owns [`Config`] and [`ServeError`]. It never opens a socket and never reads the environment: that is the business of
//! `http.rs` and of the command line.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::auth::MasterKey;
use crate::chaos::Chaos;
use crate::tls::Tls;

/// The largest request body that is taken, in bytes: the service's limit for one item, and for one batch.
///
/// A body of exactly this size is accepted; one byte more is answered with 413.
pub(crate) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Settings of a [`Server`](crate::Server).
///
/// [`Config::default`] listens on `127.0.0.1:8081`, accepts the well-known key of the Cosmos DB emulator and has limits
/// that suit one machine.
#[derive(Clone)]
pub struct Config {
    /// Address to listen on. Port 0 picks a free one; ask [`Server::local_addr`](crate::Server::local_addr) which.
    pub listen: SocketAddr,
    /// Account key, base64. `None` means the emulator's well-known key, which everybody knows: it is refused for any
    /// address that is not loopback.
    pub key: Option<String>,
    /// The certificate to show, if the port is to speak TLS, and nothing else. Default `None`: clear text.
    pub tls: Option<Tls>,
    /// Whether conditions mean what RFC 9110 says, instead of what the service makes of them: `If-Match` guards an upsert
    /// of an absent item too, `If-None-Match` guards writes, lists and weak tags are understood, and so is
    /// `If-Unmodified-Since`. Default false.
    pub strict: bool,
    /// Faults to inject, for testing clients. Default `None`: none, and no request can ask for one.
    pub chaos: Option<Chaos>,
    /// Longest time from the first byte of a request's head to its last. Default 10 s.
    pub header_timeout: Duration,
    /// Longest time for a request's body to arrive completely. Default 30 s.
    pub body_timeout: Duration,
    /// How long a connection may stay open with no request under way. Default 120 s.
    pub idle_timeout: Duration,
    /// How long a shutdown waits for accepted requests to be answered. Default 30 s.
    pub shutdown_timeout: Duration,
    /// Most connections open at once; a further one is told 503 and closed. Default 4,096; fewer where the system allows
    /// too few open files, because the store must not run out of them.
    pub connections_max: usize,
    /// Most requests worked on at once, each on a thread that may block; further ones wait. Writes of items that wait for
    /// the disk, and feeds that wait for news, do not count: they have no thread. Bodies, also those still arriving,
    /// take at most so many times 2 MiB of memory. Default 256.
    pub requests_max: usize,
}

impl fmt::Debug for Config {
    /// Everything but the key, which has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("key", &self.key.as_ref().map(|_| "(set)"))
            .field("tls", &self.tls)
            .field("strict", &self.strict)
            .field("chaos", &self.chaos)
            .field("header_timeout", &self.header_timeout)
            .field("body_timeout", &self.body_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("connections_max", &self.connections_max)
            .field("requests_max", &self.requests_max)
            .finish()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            key: None,
            tls: None,
            strict: false,
            chaos: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            shutdown_timeout: Duration::from_secs(30),
            connections_max: 4096,
            requests_max: 256,
        }
    }
}

impl Config {
    /// Checks the settings against each other, as [`Server::bind`](crate::Server::bind) will, before a store is opened.
    ///
    /// # Errors
    ///
    /// [`ServeError::Config`] says which setting to change.
    pub fn check(&self) -> Result<(), ServeError> {
        self.validate().map(drop)
    }

    fn key_text(&self) -> &str {
        // Trimmed as the key's reader trims it, so that a space does not make the well-known key look like another.
        self.key.as_deref().map_or(MasterKey::EMULATOR, str::trim)
    }

    /// Whether the key is the emulator's, which everybody knows.
    pub(crate) fn has_known_key(&self) -> bool {
        self.key_text() == MasterKey::EMULATOR
    }

    /// Checks the settings against each other and returns the key that signatures are verified with.
    ///
    /// # Errors
    ///
    /// [`ServeError::Config`] when the well-known key would be served beyond loopback, when the key is not base64, or
    /// when a limit is zero.
    pub(crate) fn validate(&self) -> Result<MasterKey, ServeError> {
        if self.has_known_key() && !self.listen.ip().is_loopback() {
            return Err(ServeError::Config(format!(
                "refusing to listen on {} with the emulator's well-known key: set a key of your own, or listen on a \
                 loopback address",
                self.listen
            )));
        }
        for (name, zero) in [
            ("connections_max", self.connections_max == 0),
            ("requests_max", self.requests_max == 0),
            ("header_timeout", self.header_timeout.is_zero()),
            ("body_timeout", self.body_timeout.is_zero()),
            ("idle_timeout", self.idle_timeout.is_zero()),
        ] {
            if zero {
                return Err(ServeError::Config(format!("{name} must be greater than zero")));
            }
        }
        MasterKey::from_base64(self.key_text())
            .map_err(|error| ServeError::Config(format!("the account key is not usable: {error}")))
    }
}

/// Why a server could not start or had to stop.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings contradict each other. Nothing was started; correct them.
    Config(String),
    /// The certificate or its key cannot be used, or not be made. Nothing was started.
    Tls(String),
    /// The listening socket failed. Nothing was started, or the server stopped accepting.
    Listen(std::io::Error),
    /// The store could not be read or prepared. Nothing was started.
    Store(etagdb::Error),
    /// The store holds metadata that this version does not understand, or that contradicts itself.
    Metadata(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Config(message) => write!(f, "{message}"),
            ServeError::Tls(message) => write!(f, "cannot speak TLS: {message}"),
            ServeError::Listen(error) => write!(f, "cannot listen: {error}"),
            ServeError::Store(error) => write!(f, "cannot use the store: {error}"),
            ServeError::Metadata(message) => write!(f, "cannot read the store's metadata: {message}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Listen(error) => Some(error),
            ServeError::Store(error) => Some(error),
            ServeError::Config(_) | ServeError::Tls(_) | ServeError::Metadata(_) => None,
        }
    }
}

impl From<etagdb::Error> for ServeError {
    fn from(error: etagdb::Error) -> ServeError {
        ServeError::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_key_is_refused_beyond_loopback() {
        let everywhere = Config { listen: "0.0.0.0:8081".parse().unwrap(), ..Config::default() };
        assert!(everywhere.validate().unwrap_err().to_string().contains("well-known key"));
        let named = Config { key: Some(MasterKey::EMULATOR.to_owned()), ..everywhere.clone() };
        assert!(named.validate().is_err(), "naming the key does not make it secret");
        let spaced = Config { key: Some(format!(" {}\n", MasterKey::EMULATOR)), ..everywhere.clone() };
        assert!(spaced.validate().is_err(), "nor does a space");
        let own = Config { key: Some("c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ==".to_owned()), ..everywhere };
        assert!(own.validate().is_ok());
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn a_key_is_not_shown() {
        let config = Config { key: Some("c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ==".to_owned()), ..Config::default() };
        assert!(!format!("{config:?}").contains("c2VjcmV0"), "{config:?}");
    }

    #[test]
    fn a_key_that_is_not_base64_and_a_zero_limit_are_named() {
        let key = Config { key: Some("not base64!".to_owned()), ..Config::default() };
        assert!(key.validate().unwrap_err().to_string().contains("account key"));
        let limit = Config { requests_max: 0, ..Config::default() };
        assert!(limit.validate().unwrap_err().to_string().contains("requests_max"));
    }
}
