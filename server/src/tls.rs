//! TLS: which certificate the server shows, and the making of one for development.
//!
//! Owns [`Tls`] and the files of `self-signed`. Protocol versions and cipher suites are rustls's defaults (TLS 1.2 and
//! 1.3); HTTP/2 and HTTP/1.1 are both offered by ALPN. Nothing here logs a key.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::ServeError;

/// What the certificate of `self-signed` is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it is valid: as long as the most particular clients allow (macOS, 825 days).
const VALID: Duration = DAY.saturating_mul(820);
/// At this age it is made anew.
const RENEWED: Duration = DAY.saturating_mul(730);

/// Where the server's certificate and private key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// A certificate for `localhost`, `127.0.0.1` and `::1`, made when the directory has none, or an old one.
    ///
    /// It is signed by an authority of its own, whose certificate is [`ca.pem`](Tls::authority) and whose key is thrown
    /// away: a client that trusts the file trusts this one server, and nobody can make another certificate for it.
    SelfSigned {
        /// Where `ca.pem`, `server.pem` and `server-key.pem` are kept.
        directory: PathBuf,
    },
    /// Files in PEM.
    Files {
        /// The server's certificate, and after it those that lead to the one clients trust.
        certificate: PathBuf,
        /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
        key: PathBuf,
    },
}

impl Tls {
    /// A certificate for development, kept beside the store in `data`: in `etagdb-data.tls` for `etagdb-data`.
    pub fn self_signed_beside(data: &Path) -> Tls {
        let mut directory = data.as_os_str().to_owned();
        directory.push(".tls");
        Tls::SelfSigned { directory: directory.into() }
    }

    /// The file that clients have to trust, in PEM, if the server makes it: `NODE_EXTRA_CA_CERTS`, `REQUESTS_CA_BUNDLE`
    /// and `SSL_CERT_FILE` take it, and `keytool -importcert` puts it into a Java trust store.
    pub fn authority(&self) -> Option<PathBuf> {
        match self {
            Tls::SelfSigned { directory } => Some(directory.join("ca.pem")),
            Tls::Files { .. } => None,
        }
    }

    /// Reads the certificate and key, making them where that is asked for.
    pub(crate) fn prepare(&self) -> Result<Arc<ServerConfig>, ServeError> {
        match self {
            Tls::Files { certificate, key } => prepare(certificate, key).map_err(ServeError::Tls),
            Tls::SelfSigned { directory } => {
                let files = || prepare(&directory.join("server.pem"), &directory.join("server-key.pem"));
                if is_fresh(&directory.join("ca.pem"))
                    && let Ok(prepared) = files()
                {
                    return Ok(prepared);
                }
                make(directory).map_err(|why| {
                    ServeError::Tls(format!("cannot make a certificate in {}: {why}", directory.display()))
                })?;
                files().map_err(ServeError::Tls)
            }
        }
    }
}

fn prepare(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let unreadable = |path: &Path, why: &dyn std::fmt::Display| format!("cannot use {}: {why}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificate, &error))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| unreadable(certificate, &format!("with the key {}: {error}", key.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Tells whether a file is there and young enough.
fn is_fresh(path: &Path) -> bool {
    let made = path.metadata().and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age < RENEWED))
}

/// Makes an authority and a certificate that it signs. The authority's key is never written.
fn make(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // A little earlier than now: the client's clock may be behind.
    let (from, until) = (SystemTime::now() - DAY, SystemTime::now() + VALID);
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "etagdb development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (from.into(), until.into());
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);

    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Without it, checks as strict as those of Python 3.13 fail.
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (from.into(), until.into());
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;

    fs::create_dir_all(directory)?;
    write(&directory.join("server-key.pem"), &key.serialize_pem(), 0o600)?;
    write(&directory.join("server.pem"), &certificate.pem(), 0o644)?;
    // Last, because it is the one that is looked for.
    write(&directory.join("ca.pem"), &authority.pem(), 0o644)?;
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    // A file that is there keeps its mode, whatever is asked for now.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn message(error: Option<ServeError>) -> String {
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_certificate_is_made_once_and_made_again_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::self_signed_beside(&dir.path().join("data"));
        let authority = tls.authority().unwrap();
        assert_eq!(authority, dir.path().join("data.tls/ca.pem"));
        let read = || fs::read_to_string(&authority).unwrap();
        tls.prepare().unwrap();
        let first = read();
        tls.prepare().unwrap();
        assert_eq!(read(), first, "what clients trust stays what it is");
        let key = dir.path().join("data.tls/server-key.pem");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600, "the key is its owner's alone");
        fs::write(&key, "damaged").unwrap();
        tls.prepare().unwrap();
        assert_ne!(read(), first);
        let old = fs::File::options().append(true).open(&authority).unwrap();
        old.set_modified(SystemTime::now() - RENEWED).unwrap();
        let second = read();
        tls.prepare().unwrap();
        assert_ne!(read(), second, "an old one is made again");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let [one, other] = ["one", "other"].map(path);
        make(&one).unwrap();
        make(&other).unwrap();
        let tls = |certificate: PathBuf, key: PathBuf| message(Tls::Files { certificate, key }.prepare().err());
        assert_eq!(tls(one.join("server.pem"), one.join("server-key.pem")), "");
        assert!(tls(path("none.pem"), one.join("server-key.pem")).contains("none.pem"));
        assert!(tls(one.join("server.pem"), path("none.pem")).contains("none.pem"));
        assert!(tls(one.join("server-key.pem"), one.join("server-key.pem")).contains("no certificate"));
        assert!(tls(one.join("server.pem"), one.join("server.pem")).contains("server.pem"));
        assert!(tls(one.join("server.pem"), other.join("server-key.pem")).contains("server-key.pem"), "not its key");
    }
}
