//! Where a command finds its containers: a store in a directory or a running server, asked in the same words.
//!
//! Owns the flags that say which of the two it is, and how a request gets there. What is asked is the commands' business.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::ArgGroup;
use etagdb::{Etag, Options, Store};
use etagdb_server::{LocalServer, ServeError, Signer};
use http::{HeaderMap, Request, StatusCode};
use reqwest::{Client, Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::remote::{self, Refusal, Server, answer, message_of, unanswered};
use super::{Failure, account_key, store_failure};

/// The server itself gives up a page after a minute; a checkpoint on another disk takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// The flags that say where a command finds its containers.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("place").required(true).args(["data", "url"]))]
pub(super) struct Args {
    /// Directory of the store, which no server may have open.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

/// The flags that say which server a command speaks to; for commands that have a `--data`, too.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// Address of a running server, such as http://127.0.0.1:8081.
    #[arg(long, value_name = "URL", value_parser = remote::parse_url)]
    pub(super) url: Option<Url>,

    /// Account key of the server in base64, or the environment variable ETAGDB_KEY; without one the emulator's.
    #[arg(long, value_name = "BASE64", conflicts_with = "data")]
    key: Option<String>,

    /// Trust only the authorities in this file of certificates in PEM: for `serve --tls self-signed` the file that its ready line names.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    ca: Option<PathBuf>,
}

/// The flags that name a container.
#[derive(Debug, clap::Args)]
pub(super) struct ContainerArgs {
    #[command(flatten)]
    pub(super) place: Args,

    /// Name of the database.
    #[arg(long, value_name = "NAME")]
    pub(super) database: String,

    /// Name of the container.
    #[arg(long, value_name = "NAME")]
    pub(super) container: String,
}

impl ContainerArgs {
    /// The path of the container, or of something in it.
    pub(super) fn path<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["dbs", self.database.as_str(), "colls", self.container.as_str()], more].concat()
    }
}

/// What a command does with the store of `--data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads it: nothing in its directory is changed, and others may read it meanwhile.
    Read,
    Write,
    /// Writes to it, and makes it if it is missing.
    Create,
}

/// A store in this process, or a running server.
pub(super) enum Place {
    Local(Box<LocalServer>),
    Remote { server: Box<Server>, client: Client, runtime: Runtime },
}

/// A request: its path is made of `segments`, not percent-encoded.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) segments: &'a [&'a str],
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Bytes,
}

/// What came back, if that was a success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl ServerArgs {
    /// The server, if one is named, and how long a document is tried there.
    pub(super) fn server(&self, retry_for: Duration) -> Result<Option<Server>, Failure> {
        let Some(url) = self.url.clone() else { return Ok(None) };
        let key = account_key(self.key.clone())?;
        let signer = Signer::new(key.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
        let authorities = self.ca.as_deref().map(remote::read_authorities).transpose()?.unwrap_or_default();
        Ok(Some(Server { url, signer, authorities, retry_for }))
    }
}

impl Args {
    /// Opens the store for reading, or makes ready to speak to the server.
    pub(super) fn open(&self) -> Result<Place, Failure> {
        self.open_with(ANSWER_TIMEOUT, Access::Read)
    }

    /// The same, with the time that one answer of a server may take.
    pub(super) fn open_with(&self, timeout: Duration, access: Access) -> Result<Place, Failure> {
        match (&self.data, self.server.server(Duration::ZERO)?) {
            (Some(_), _) => {
                let store = self.open_store(access)?;
                let server = LocalServer::open(store).map_err(|error| match error {
                    ServeError::Store(error) => error.to_string(),
                    error => error.to_string(),
                })?;
                Ok(Place::Local(Box::new(server)))
            }
            (None, Some(server)) => {
                let client = server.client(timeout)?;
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.map_err(|error| format!("cannot start an HTTP client: {error}"))?;
                Ok(Place::Remote { server: Box::new(server), client, runtime })
            }
            // clap asks for one of the two.
            (None, None) => Err(Failure::Usage("--data or --url is missing".into())),
        }
    }

    /// Opens the store of `--data`.
    pub(super) fn open_store(&self, access: Access) -> Result<Store, Failure> {
        let Some(data) = &self.data else {
            return Err(Failure::Usage("--data is missing".into()));
        };
        let options = Options::default().create_if_missing(access == Access::Create).read_only(access == Access::Read);
        options.open(data).map_err(|error| {
            store_failure(data, &error, "if that is a server, ask it with --url; or else stop it first")
        })
    }
}

impl Place {
    /// Sends a request once.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        match self {
            Place::Local(server) => {
                let mut request = Request::builder().method(ask.method.clone()).uri(remote::path(ask.segments));
                for (name, value) in ask.headers {
                    request = request.header(*name, *value);
                }
                let refused = |message: String| Refusal::Status { status: StatusCode::BAD_REQUEST, message };
                let request = request.body(ask.body.clone()).map_err(|error| refused(error.to_string()))?;
                let (parts, body) = server.answer(request).into_parts();
                match parts.status.is_success() {
                    true => Ok(Answer { headers: parts.headers, body }),
                    false => Err(Refusal::Status { status: parts.status, message: message_of(&body) }),
                }
            }
            Place::Remote { server, client, runtime } => runtime.block_on(async {
                let mut request = server.request_for(client, ask.method.clone(), ask.segments).body(ask.body.clone());
                for (name, value) in ask.headers {
                    request = request.header(*name, *value);
                }
                let response = answer(request).await?;
                let headers = response.headers().clone();
                let body = response.bytes().await.map_err(|error| unanswered(&error))?;
                Ok(Answer { headers, body })
            }),
        }
    }

    /// Reads what is at a path.
    pub(super) fn get(&self, segments: &[&str], headers: &[(&'static str, &str)]) -> Result<Answer, Refusal> {
        self.ask(&Ask { method: Method::GET, segments, headers, body: Bytes::new() })
    }

    /// Says what a refusal means to the user.
    pub(super) fn explain(&self, refusal: Refusal) -> Failure {
        Failure::Failed(match (self, refusal) {
            (Place::Remote { server, .. }, refusal) => server.explain(refusal),
            (Place::Local(_), Refusal::Status { message, .. } | Refusal::Busy { reason: message, .. }) => message,
        })
    }

    /// Reads a JSON answer.
    pub(super) fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::Failed(format!("the answer is not what a server of etagdb says: {error}")))
    }

    /// Gets a JSON value.
    pub(super) fn value(&self, segments: &[&str]) -> Result<Value, Failure> {
        let answer = self.get(segments, &[]).map_err(|refusal| self.explain(refusal))?;
        self.read(&answer)
    }
}

/// What `--at` says, as the header that asks for the past has it: an etag may come without its quotes.
pub(super) fn as_of(at: &str) -> String {
    match at.parse::<Etag>() {
        Ok(etag) => format!("\"{etag}\""),
        Err(_) => at.to_owned(),
    }
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
