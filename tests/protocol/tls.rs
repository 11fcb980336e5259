//! TLS: both HTTP versions by ALPN, certificates that clients check, and peers that speak something else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etagdb_server::{Config, ServeError, Server, Tls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::served::Served;
use crate::support::{Client, Host};

/// A connection over TLS that trusts one authority and nothing else. Fails as the handshake does.
fn connect(
    address: std::net::SocketAddr,
    name: &str,
    authority: &Path,
    protocols: &[&[u8]],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A signed request for the account, and all of its answer.
fn account(stream: &mut StreamOwned<ClientConnection, TcpStream>, signer: &Client) -> String {
    let request = signer.request("GET", "/", &[("connection", "close")], b"");
    stream.write_all(&request).expect("the request is taken");
    let mut answer = Vec::new();
    // The server may end the connection without saying good-bye, which is all the same after a whole answer.
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).expect("text")
}

/// A server that shows a certificate of its own, and the directory it is in.
fn host() -> (Host, tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = Tls::self_signed_beside(&directory.path().join("data"));
    let authority = tls.authority().expect("a file to trust");
    (Host::start_with(Config { tls: Some(tls), ..Config::default() }), directory, authority)
}

#[test]
fn a_client_that_trusts_the_file_is_served_by_every_name() {
    let (host, _directory, authority) = host();
    let signer = Client::of(host.address());
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut stream = connect(host.address(), name, &authority, &[b"http/1.1"]).expect(name);
        let answer = account(&mut stream, &signer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"databaseAccountEndpoint\":\"https://127.0.0.1/\""), "{answer}");
    }
    let error = connect(host.address(), "example.com", &authority, &[]).expect_err("another name");
    assert!(error.to_string().contains("name"), "{error}");
}

/// The look at raw heads is a look at what TLS protects.
#[test]
fn a_bare_line_feed_is_refused_here_too() {
    let (host, _directory, authority) = host();
    let mut stream = connect(host.address(), "localhost", &authority, &[b"http/1.1"]).expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\nx-a: b\r\n\r\n").expect("the request is taken");
    let mut answer = Vec::new();
    // As in `account`.
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("LF instead of CR LF"), "{answer}");
}

#[test]
fn a_client_that_trusts_something_else_gives_up() {
    let (host, _directory, _) = host();
    let (_other_host, _other_directory, other) = self::host();
    let error = connect(host.address(), "localhost", &other, &[]).expect_err("another authority");
    assert!(error.to_string().contains("certificate"), "{error}");
    // And the server goes on.
    connect(host.address(), "localhost", &self::host().2, &[]).expect_err("nor this one");
}

#[test]
fn the_http_version_is_agreed_on_in_the_handshake() {
    let (host, _directory, authority) = host();
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (offered, agreed) in
        [(both, Some(&b"h2"[..])), (&both[..1], Some(b"h2")), (&both[1..], Some(b"http/1.1")), (&[], None)]
    {
        let stream = connect(host.address(), "localhost", &authority, offered).expect("a connection");
        assert_eq!(stream.conn.alpn_protocol(), agreed);
    }
    connect(host.address(), "localhost", &authority, &[b"spdy/1"]).expect_err("nothing in common");
}

#[test]
fn a_client_without_tls_is_told_so() {
    let (host, _directory, authority) = host();
    let mut client = Client::of(host.address());
    client.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = client.answer("GET").expect_status(400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    client.expect_closed();
    // Bytes that are neither end their own connection only.
    let mut junk = Client::of(host.address());
    junk.raw(b"\0\0\0\0\0\0\0\0");
    junk.close_sending();
    junk.read_to_end();
    connect(host.address(), "localhost", &authority, &[]).expect("a connection");
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = Some(Tls::self_signed_beside(&directory.path().join("data")));
    let host = Host::start_with(Config { tls, header_timeout: Duration::from_millis(50), ..Config::default() });
    let mut silent = Client::of(host.address());
    silent.expect_closed();
    let mut slow = Client::of(host.address());
    slow.raw(b"\x16\x03\x01");
    slow.expect_closed();
}

#[test]
fn a_handshake_does_not_hold_up_a_shutdown() {
    let (mut host, _directory, _authority) = host();
    let mut silent = Client::of(host.address());
    silent.raw(b"\x16");
    host.shut_down();
    silent.expect_closed();
}

#[test]
fn a_certificate_of_ones_own_is_shown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // The self-signed one is as good as any for this.
    let made = Served::start_with(&["--tls", "self-signed"]);
    let from = made.authority().parent().expect("a directory").to_owned();
    for file in ["ca.pem", "server.pem", "server-key.pem"] {
        std::fs::copy(from.join(file), directory.path().join(file)).expect("a copy");
    }
    drop(made);
    let path = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let served = Served::start_with(&["--tls-cert", &path("server.pem"), "--tls-key", &path("server-key.pem")]);
    assert!(served.url().starts_with("https://127.0.0.1:"), "{}", served.url());
    let mut stream = connect(served.address(), "localhost", &directory.path().join("ca.pem"), &[]).expect("connection");
    let answer = account(&mut stream, &Client::of(served.address()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(served.stop().success());
}

#[test]
fn files_that_are_not_there_stop_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = Tls::Files { certificate: directory.path().join("none.pem"), key: directory.path().join("key.pem") };
    let store = etagdb::Store::open(directory.path().join("store")).expect("a store");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config = Config { tls: Some(tls), listen, ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(Server::bind(store, config)) {
        Err(ServeError::Tls(message)) => assert!(message.contains("none.pem"), "{message}"),
        other => panic!("{other:?}"),
    }
}
