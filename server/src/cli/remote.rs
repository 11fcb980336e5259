//! A container of a running server, as an import's destination: upserts over HTTP, tried again while the server is busy
//! or away.
//!
//! An upsert whose answer was lost is simply sent again: the same document under the same id is the same state.

use std::error::Error as _;
use std::path;
use std::time::{Duration, Instant, SystemTime};

use etagdb_server::Signer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::destination::{Destination, Stored, UpsertError};
use super::document::{Document, Path};

/// The protocol version that the current JavaScript, Python and Rust SDKs send.
const API_VERSION: &str = "2020-07-15";

/// The first pause before a request is sent again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause before a request is sent again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What stays as it is in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a server is and how to speak to it.
#[derive(Debug)]
pub(super) struct Server {
    /// Its address, such as `http://127.0.0.1:8081`.
    pub(super) url: Url,
    /// The account key.
    pub(super) signer: Signer,
    /// Authorities to trust instead of the system's.
    pub(super) authorities: Vec<Certificate>,
    /// How long one document is tried before the import gives up.
    pub(super) retry_for: Duration,
}

/// A container of a running server.
pub(super) struct Remote {
    runtime: Handle,
    client: Client,
    server: Server,
    database: String,
    container: String,
    documents: Url,
    stopped: watch::Receiver<bool>,
}

/// Reads a server's address.
///
/// # Errors
/// Says what an address looks like.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}: write it as `http://127.0.0.1:8081`"))?;
    match url.scheme() {
        "http" | "https" => {}
        _ => return Err("write it as `http://127.0.0.1:8081`".into()),
    }
    if url.host().is_none() || url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
        return Err("give only scheme, host and port, as in `http://127.0.0.1:8081`".into());
    }
    Ok(url)
}

/// Why a request was not answered with success.
pub(super) enum Refusal {
    /// Worth another try, perhaps after the pause the server asks for.
    Busy { pause: Option<Duration>, reason: String },
    /// The server says no.
    Status { status: StatusCode, message: String },
}

impl Server {
    /// A client for it whose answers may take so long.
    ///
    /// # Errors
    /// One line for the user.
    pub(super) fn client(&self, timeout: Duration) -> Result<Client, String> {
        // Already done is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("etagdb/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(5))
            // The server was named by its address; a proxy for the web knows nothing about it.
            .no_proxy();
        // A system without authorities is no obstacle to clear text.
        let client = match self.url.scheme() {
            "https" if self.authorities.is_empty() => client,
            _ => client.tls_certs_only(self.authorities.iter().cloned()),
        };
        client.build().map_err(|error| format!("cannot set up an HTTP client: {error}"))
    }

    /// A signed request about a resource: its type, and its link or, where a POST goes to a list, its parent's.
    pub(super) fn request(
        &self,
        client: &Client,
        method: Method,
        url: Url,
        (resource_type, link): (&str, &str),
    ) -> RequestBuilder {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let authorization = self.signer.authorization(method.as_str(), resource_type, link, &date);
        client
            .request(method, url)
            .header("authorization", authorization)
            .header("x-ms-date", date)
            .header("x-ms-version", API_VERSION)
            .header("accept", "application/json")
    }

    /// A signed request for a path made of `segments`, not percent-encoded.
    pub(super) fn request_for(&self, client: &Client, method: Method, segments: &[&str]) -> RequestBuilder {
        // A path that ends with a type signs that type and what is before it, any other one its last type and all of it.
        let (kind, link) = match segments {
            [parent @ .., kind] if segments.len() % 2 == 1 => (*kind, parent),
            [.., kind, _] => (*kind, segments),
            _ => ("", segments),
        };
        self.request(client, method, join(&self.url, &path(segments)), (kind, &link.join("/")))
    }

    /// The address of the items of a container, and the link that requests to it are signed with.
    pub(super) fn items(&self, database: &str, container: &str) -> (Url, String) {
        let path = format!("dbs/{}/colls/{}/docs", segment(database), segment(container));
        (join(&self.url, &path), format!("dbs/{database}/colls/{container}"))
    }

    /// Says what a refusal means to the user.
    pub(super) fn explain(&self, refusal: Refusal) -> String {
        let url = self.url.as_str().trim_end_matches('/');
        match refusal {
            Refusal::Busy { reason, .. } => format!("{url} does not answer: {reason}"),
            Refusal::Status { status: StatusCode::UNAUTHORIZED, .. } => {
                format!("{url} refuses the account key: give the one it was started with by --key or ETAGDB_KEY")
            }
            Refusal::Status { status, message } => format!("{url} answers {}: {message}", status.as_u16()),
        }
    }
}

/// Reads certificates of authorities, in PEM.
///
/// # Errors
/// One line for the user.
pub(super) fn read_authorities(file: &path::Path) -> Result<Vec<Certificate>, String> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    let certificates = read.and_then(|pem| Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()));
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it holds no certificate in PEM".to_owned()),
        other => other,
    }
    .map_err(|why| format!("cannot use {} as certificates to trust: {why}", file.display()))
}

impl Remote {
    /// Connects to `database` and `container`, creating them with `partition_key` if they are missing.
    ///
    /// # Errors
    /// One line for the user.
    pub(super) fn open(
        runtime: Handle,
        server: Server,
        (database, container): (&str, &str),
        partition_key: &[Path],
        stopped: watch::Receiver<bool>,
    ) -> Result<Remote, String> {
        let client = server.client(ANSWER_TIMEOUT)?;
        let (documents, _) = server.items(database, container);
        let (database, container) = (database.to_owned(), container.to_owned());
        let remote = Remote { runtime, client, server, database, container, documents, stopped };
        remote.runtime.block_on(remote.prepare(partition_key))?;
        Ok(remote)
    }

    /// Makes sure that the container exists and has this partition key.
    async fn prepare(&self, partition_key: &[Path]) -> Result<(), String> {
        let paths: Vec<&str> = partition_key.iter().map(Path::as_str).collect();
        if self.read_container(&paths).await? {
            return Ok(());
        }
        let database = json!({ "id": self.database });
        self.create("dbs", "dbs", "", &database).await?;
        let kind = if paths.len() > 1 { "MultiHash" } else { "Hash" };
        let partition_key = json!({ "paths": paths, "kind": kind, "version": 2 });
        let container = json!({ "id": self.container, "partitionKey": partition_key });
        let path = format!("dbs/{}/colls", segment(&self.database));
        self.create(&path, "colls", &format!("dbs/{}", self.database), &container).await?;
        // Somebody else may have been first.
        match self.read_container(&paths).await? {
            true => Ok(()),
            false => Err(format!("container {} was dropped while the import began", self.container)),
        }
    }

    /// Looks whether the container exists; it must have this partition key.
    async fn read_container(&self, paths: &[&str]) -> Result<bool, String> {
        #[derive(Deserialize)]
        struct Container {
            #[serde(rename = "partitionKey")]
            partition_key: Definition,
        }
        #[derive(Deserialize)]
        struct Definition {
            paths: Vec<String>,
        }
        let path = format!("dbs/{}/colls/{}", segment(&self.database), segment(&self.container));
        let link = format!("dbs/{}/colls/{}", self.database, self.container);
        let request = self.request(Method::GET, join(&self.server.url, &path), "colls", &link);
        let response = match answer(request).await {
            Ok(response) => response,
            Err(Refusal::Status { status: StatusCode::NOT_FOUND, .. }) => return Ok(false),
            Err(refusal) => return Err(self.explain(refusal)),
        };
        let body = response.bytes().await.map_err(|error| self.explain(unanswered(&error)))?;
        let found: Container = serde_json::from_slice(&body)
            .map_err(|error| format!("{} does not answer as a Cosmos DB server does: {error}", self.server.url))?;
        if found.partition_key.paths != paths {
            return Err(format!(
                "container {} exists with the partition key {}, not {}: use `--partition-key {}` or another container",
                self.container,
                found.partition_key.paths.join(","),
                paths.join(","),
                found.partition_key.paths.join(",")
            ));
        }
        Ok(true)
    }

    /// Creates a database or container, unless it is there already.
    async fn create(&self, path: &str, kind: &str, link: &str, body: &serde_json::Value) -> Result<(), String> {
        let request = self.request(Method::POST, join(&self.server.url, path), kind, link).json(body);
        match answer(request).await {
            Ok(_) | Err(Refusal::Status { status: StatusCode::CONFLICT, .. }) => Ok(()),
            Err(refusal) => Err(self.explain(refusal)),
        }
    }

    fn request(&self, method: Method, url: Url, resource_type: &str, link: &str) -> RequestBuilder {
        self.server.request(&self.client, method, url, (resource_type, link))
    }

    fn explain(&self, refusal: Refusal) -> String {
        self.server.explain(refusal)
    }

    async fn send(&self, document: &Document) -> Result<Stored, UpsertError> {
        let link = format!("dbs/{}/colls/{}", self.database, self.container);
        let mut stopped = self.stopped.clone();
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let request = self
                .request(Method::POST, self.documents.clone(), "docs", &link)
                .header("content-type", "application/json")
                .header("x-ms-documentdb-is-upsert", "True")
                .header("x-ms-documentdb-partitionkey", &document.partition_key)
                .header("prefer", "return=minimal")
                .body(document.text.clone());
            let refusal = match answer(request).await {
                Ok(response) => return self.stored(&response),
                Err(refusal) => refusal,
            };
            let asked = match refusal {
                Refusal::Busy { .. } if begun.elapsed() >= self.server.retry_for => {
                    let seconds = self.server.retry_for.as_secs();
                    return Err(UpsertError::Failed(format!("{} (tried for {seconds} s)", self.explain(refusal))));
                }
                Refusal::Busy { pause, .. } => pause,
                Refusal::Status { status, message } if is_about_the_document(status) => {
                    return Err(UpsertError::Refused(message));
                }
                Refusal::Status { .. } => return Err(UpsertError::Failed(self.explain(refusal))),
            };
            tokio::select! {
                () = tokio::time::sleep(asked.unwrap_or(pause).min(PAUSE_MAX)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return Err(UpsertError::Stopped),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn stored(&self, response: &Response) -> Result<Stored, UpsertError> {
        let created = response.status() == StatusCode::CREATED;
        match response.headers().get("etag").and_then(|etag| etag.to_str().ok()) {
            Some(etag) => Ok(Stored { created, etag: etag.to_owned() }),
            None => Err(UpsertError::Failed(format!("{} acknowledges a document without an etag", self.server.url))),
        }
    }
}

impl Destination for Remote {
    fn upsert(&self, document: &Document) -> Result<Stored, UpsertError> {
        self.runtime.block_on(self.send(document))
    }
}

/// Sends a request once, and sorts what comes back.
pub(super) async fn answer(request: RequestBuilder) -> Result<Response, Refusal> {
    let response = request.send().await.map_err(|error| unanswered(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let pause = response.headers().get("x-ms-retry-after-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.bytes().await.unwrap_or_default();
    let message = message_of(&body);
    match status.as_u16() {
        408 | 429 | 449 | 502 | 503 | 504 => Err(Refusal::Busy {
            pause: pause.map(Duration::from_millis),
            reason: format!("{}: {message}", status.as_u16()),
        }),
        _ => Err(Refusal::Status { status, message }),
    }
}

/// Whether an answer is about this document and not about the server, the key or the container.
fn is_about_the_document(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::PAYLOAD_TOO_LARGE)
}

pub(super) fn unanswered(error: &reqwest::Error) -> Refusal {
    // The outer errors say only that a request failed; the innermost one says why.
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|error| error.source()) {
        cause = Some(inner);
    }
    let reason = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        cause.map_or_else(|| error.to_string(), ToString::to_string)
    };
    Refusal::Busy { pause: None, reason }
}

/// Reads the first line of the `message` of an error's body.
pub(super) fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.message.lines().next().unwrap_or_default().to_owned(),
        Err(_) => "no message".to_owned(),
    }
}

/// The path made of segments that are not percent-encoded yet.
pub(super) fn path(segments: &[&str]) -> String {
    segments.iter().map(|name| format!("/{}", segment(name))).collect()
}

fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse_url("http://127.0.0.1:8081").unwrap().as_str(), "http://127.0.0.1:8081/");
        assert!(parse_url("http://localhost:8081/").is_ok() && parse_url("https://localhost:8081").is_ok());
        for text in ["127.0.0.1:8081", "ftp://x", "http://x/dbs", "http://u@x", "http://x/?a"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_one_segment_of_the_path() {
        let base = parse_url("http://127.0.0.1:8081").unwrap();
        let url = join(&base, &format!("dbs/{}/colls", segment("a b/%ü")));
        assert_eq!(url.as_str(), "http://127.0.0.1:8081/dbs/a%20b%2F%25%C3%BC/colls");
    }

    #[test]
    fn the_message_of_an_error_is_one_line() {
        assert_eq!(message_of(b"{\"code\":\"BadRequest\",\"message\":\"no\\nActivityId: 1\"}"), "no");
        assert_eq!(message_of(b"<html>"), "no message");
    }
}
