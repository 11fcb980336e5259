//! Signing requests to a server, for clients in Rust that are no SDK, such as `etagdb import`.

use std::fmt;

use crate::ServeError;
use crate::auth::{self, MasterKey};

/// Makes `authorization` headers with an account key.
///
/// # Examples
///
/// ```
/// let signer = etagdb_server::Signer::new(None)?;
/// let date = "Thu, 27 Apr 2017 00:51:12 GMT";
/// // Sent together with the headers `x-ms-date: {date}` and `x-ms-version: 2020-07-15`.
/// let header = signer.authorization("POST", "docs", "dbs/shop/colls/carts", date);
/// assert!(header.starts_with("type%3Dmaster%26ver%3D1.0%26sig%3D"));
/// # Ok::<(), etagdb_server::ServeError>(())
/// ```
#[derive(Clone)]
pub struct Signer(MasterKey);

impl Signer {
    /// Takes a base64 account key; `None` means the emulator's well-known key.
    ///
    /// # Errors
    ///
    /// [`ServeError::Config`] when the key is not base64.
    pub fn new(key: Option<&str>) -> Result<Signer, ServeError> {
        let key = MasterKey::from_base64(key.unwrap_or(MasterKey::EMULATOR));
        key.map(Signer).map_err(|error| ServeError::Config(error.to_string()))
    }

    /// Signs a request: its method, the type of the resource (`dbs`, `colls`, `docs`, ...), the link of the resource,
    /// or of its parent where a POST goes to a list, not percent-encoded, and the `x-ms-date` that it is sent with.
    pub fn authorization(&self, method: &str, resource_type: &str, resource_link: &str, date: &str) -> String {
        auth::sign(&self.0, method, resource_type, resource_link, date)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        f.write_str("Signer(..)")
    }
}
