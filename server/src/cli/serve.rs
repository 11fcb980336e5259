//! `etagdb serve`: opens a store, serves it until a signal comes, and closes it.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use etagdb::Options;
use etagdb_server::{Chaos, Config, ServeError, Server, Tls};
use tracing_subscriber::EnvFilter;

use super::signals::first_signal;
use super::{Failure, account_key, store_failure};

const EXAMPLES: &str = "\
Examples:
  Serve ./etagdb-data on http://127.0.0.1:8081, where SDK quick starts look for an emulator:
    etagdb serve

  Keep the data elsewhere, and let the system pick a free port, which the ready line names:
    etagdb serve --data /var/lib/shop --listen 127.0.0.1:0

  Let other machines in, which needs a key of your own:
    export ETAGDB_KEY=$(openssl rand -base64 48)
    etagdb serve --listen 0.0.0.0:8081

  Speak TLS, as the .NET and Java SDKs want it, and have Node and Python trust it:
    etagdb serve --tls self-signed
    export NODE_EXTRA_CA_CERTS=etagdb-data.tls/ca.pem REQUESTS_CA_BUNDLE=etagdb-data.tls/ca.pem

  Log more (error, warn, info, debug, trace):
    ETAGDB_LOG=debug etagdb serve

When it accepts connections it prints one line on standard output that starts with `etagdb ready on`; logs go to \
standard error. SIGTERM and SIGINT end it in order: accepted requests are answered and the store is closed. A second \
signal ends it at once, which loses nothing that was acknowledged.";

/// Serve a store over HTTP to Cosmos DB SDKs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory of the store; it is created if it is missing.
    #[arg(long, value_name = "DIR", default_value = "etagdb-data")]
    data: PathBuf,

    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", value_parser = parse_listen)]
    listen: SocketAddr,

    /// Account key in base64, or the environment variable ETAGDB_KEY, which other users of the machine cannot see.
    /// Without one the emulator's well-known key counts, on loopback addresses only.
    #[arg(long, value_name = "BASE64")]
    key: Option<String>,

    /// Speak TLS with a certificate made for it, kept in DIR.tls beside the store; the ready line names the file that
    /// clients have to trust (NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE, a Java trust store).
    #[arg(long, value_enum, value_name = "CERTIFICATE", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls: Option<Certificate>,

    /// Speak TLS with the certificate in this PEM file, those that lead to its authority after it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, PEM, not encrypted.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Read conditions as RFC 9110 defines them, not as Cosmos DB does: If-Match guards an upsert of an absent item too,
    /// If-None-Match guards writes, lists and If-Unmodified-Since are understood.
    #[arg(long)]
    strict: bool,

    /// Inject faults, for testing clients: those that a request asks for by the header x-etagdb-chaos, and to requests
    /// about items those named here, such as 429:250ms=0.1,drop=0.01,seed=7. Faults: 408, 412, 429, 449, 503,
    /// delay:100ms, reset, and drop, which commits and then drops the answer.
    #[arg(long, value_name = "FAULT=RATE,...", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    chaos: Option<Chaos>,

    /// How log lines are written to standard error. ETAGDB_LOG=debug adds a line per request; none has a key in it.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,

    /// What an acknowledged write survives.
    #[arg(long, value_enum, default_value_t = Durability::Sync)]
    durability: Durability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Certificate {
    /// For localhost, 127.0.0.1 and ::1, signed by an authority of its own.
    SelfSigned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// An object per line, for programs.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// A power cut: it is on disk before it is acknowledged.
    Sync,
    /// A crash of the process: a power cut can lose the last tenth of a second.
    Buffered,
}

/// Serves until a signal comes.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    start_log(args.log)?;
    let key = account_key(args.key)?;
    let key_named = if key.is_some() { "the one given" } else { "the emulator's well-known one" };
    let tls = match (args.tls, args.tls_cert, args.tls_key) {
        (Some(Certificate::SelfSigned), ..) => Some(Tls::self_signed_beside(&args.data)),
        (None, Some(certificate), Some(key)) => Some(Tls::Files { certificate, key }),
        (None, ..) => None,
    };
    let config = Config {
        listen: args.listen,
        key,
        tls: tls.clone(),
        strict: args.strict,
        chaos: args.chaos,
        ..Config::default()
    };
    if config.chaos.is_some() {
        tracing::warn!("fault injection is on: this server is for testing clients");
    }
    // Before the store, so that a command that cannot work leaves no directory behind.
    config.check().map_err(|error| Failure::Usage(error.to_string()))?;

    let durability = match args.durability {
        Durability::Sync => etagdb::Durability::Sync,
        Durability::Buffered => etagdb::Durability::Buffered,
    };
    let store = Options::default()
        .durability(durability)
        .open(&args.data)
        .map_err(|error| store_failure(&args.data, &error, "stop it first, or choose another directory with --data"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start threads: {error}"))?;
    let signal = first_signal(runtime.handle()).map_err(|error| format!("cannot catch signals: {error}"))?;
    runtime.block_on(async {
        let server = Server::bind(store.clone(), config).await.map_err(|error| failure(args.listen, &error))?;
        let address = server.local_addr();
        announce(address, &args.data, args.durability, key_named, tls.as_ref());
        let shutdown = async {
            if let Ok(name) = signal.await {
                tracing::info!("{name}: accepting no more, answering what was accepted");
            }
        };
        server.run(shutdown).await.map_err(|error| failure(address, &error))
    })?;
    // Threads that still work for a request hold the store open.
    drop(runtime);
    store.sync().map_err(|error| format!("cannot close the store in {}: {error}", args.data.display()))?;
    drop(store);
    tracing::info!("the store is closed");
    Ok(())
}

/// Tells whoever started the server that it accepts connections, and where.
fn announce(address: SocketAddr, data: &Path, durability: Durability, key: &str, tls: Option<&Tls>) {
    let durability = match durability {
        Durability::Sync => "sync",
        Durability::Buffered => "buffered",
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let trust = match tls.and_then(Tls::authority) {
        Some(authority) => format!(", trust: {}", authority.display()),
        None => String::new(),
    };
    let data = data.display();
    let line =
        format!("etagdb ready on {scheme}://{address} (data {data}, durability {durability}, key: {key}{trust})\n");
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        // Nobody reads it; that is no reason not to serve.
        tracing::warn!("cannot print the ready line: {error}");
    }
}

fn failure(address: SocketAddr, error: &ServeError) -> Failure {
    match error {
        ServeError::Config(message) => Failure::Usage(message.clone()),
        ServeError::Listen(error) if error.kind() == io::ErrorKind::AddrInUse => Failure::Failed(format!(
            "cannot listen on {address}: another program does; stop it, or choose another port with --listen"
        )),
        ServeError::Listen(error) => Failure::Failed(format!("cannot listen on {address}: {error}")),
        error => Failure::Failed(error.to_string()),
    }
}

fn start_log(format: LogFormat) -> Result<(), Failure> {
    let filter = match std::env::var("ETAGDB_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Failure::Usage(format!("ETAGDB_LOG is `{text}`: {error}; set it to error, warn, info, debug or trace"))
        })?,
        _ => EnvFilter::new("info"),
    };
    let mut filter = filter;
    for library in ["h2", "hyper", "hyper_util", "rustls", "tokio_rustls"] {
        // At their most talkative these write out headers, and a signature is in one.
        let quiet = format!("{library}=info").parse().map_err(|error| format!("cannot set up the log: {error}"))?;
        filter = filter.add_directive(quiet);
    }
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Reads an address with a port; a name is looked up.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let example = "write it as `127.0.0.1:8081`, or `[::1]:8081`";
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| format!("{error}: {example}"))?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| format!("no address has this name: {example}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(parse_listen("127.0.0.1:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!(parse_listen("localhost:8081"), Ok(SocketAddr::from(([127, 0, 0, 1], 8081))));
        assert!(parse_listen("[::1]:80").is_ok());
        for text in ["", "8081", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(parse_listen(text).unwrap_err().contains("write it as"), "{text:?}");
        }
    }
}
