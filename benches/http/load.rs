//! The load: connections that each send a request, wait for the answer, and send the next. Owns the documents, the
//! requests, which are signed beforehand, and the figures.
//!
//! Each connection has documents of its own, so that a conditional PUT is always the next version of what the same
//! connection wrote, and is never refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use etagdb_server::Signer;
use tokio::runtime::Builder;

use crate::h1::Http1;
use crate::h2::Http2;
use crate::servers::Child;

/// How many documents a connection goes round.
const DOCUMENTS: usize = 8;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// As long as any etag of etagdb, with its quotes.
pub(crate) const NO_ETAG: &str = "\"00000000-0000-0000-0000-000000000000\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Get,
    /// Replaces whatever is there.
    PutAny,
    /// Replaces the version that the connection wrote last.
    PutMatch,
}

/// A request, signed, and complete but for its condition.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The version to be replaced.
    pub(crate) if_match: Option<String>,
    pub(crate) body: Bytes,
}

/// What is needed of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) body_bytes: usize,
}

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Answers a second.
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the server for each answer.
    pub(crate) cpu: Duration,
    /// How many of the server's cores were busy.
    pub(crate) busy: f64,
}

pub(crate) struct Load {
    signer: Signer,
    date: String,
    bytes: usize,
    connections_max: usize,
    threads: usize,
}

impl Load {
    pub(crate) fn prepare(bytes: usize, connections_max: usize, threads: usize) -> Load {
        let signer = Signer::new(None).expect("the well-known key");
        Load { signer, date: httpdate::fmt_http_date(SystemTime::now()), bytes, connections_max, threads }
    }

    fn request(&self, method: &'static str, path: &str, kind: &str, link: &str, body: Bytes) -> Request {
        let headers = vec![
            ("host", "127.0.0.1".to_owned()),
            ("x-ms-date", self.date.clone()),
            ("x-ms-version", "2020-07-15".to_owned()),
            ("authorization", self.signer.authorization(method, kind, link, &self.date)),
            ("accept", "application/json".to_owned()),
            ("user-agent", "etagdb-bench".to_owned()),
        ];
        Request { method, path: path.to_owned(), headers, if_match: None, body }
    }

    /// A document with exactly the bytes that were asked for.
    fn body(&self, id: &str) -> Bytes {
        let empty = format!(r#"{{"id":"{id}","pk":"{id}","filling":""}}"#);
        let filling = "x".repeat(self.bytes.saturating_sub(empty.len()));
        Bytes::from(format!(r#"{{"id":"{id}","pk":"{id}","filling":"{filling}"}}"#))
    }

    /// The requests of one connection.
    fn requests(&self, workload: Workload, connection: usize) -> Vec<Request> {
        (0..DOCUMENTS)
            .map(|number| {
                let id = format!("doc-{connection:03}-{number}");
                let link = format!("dbs/bench/colls/docs/docs/{id}");
                let (method, body) = match workload {
                    Workload::Get => ("GET", Bytes::new()),
                    Workload::PutAny | Workload::PutMatch => ("PUT", self.body(&id)),
                };
                let mut request = self.request(method, &format!("/{link}"), "docs", &link, body);
                request.headers.push(("x-ms-documentdb-partitionkey", format!(r#"["{id}"]"#)));
                if method == "PUT" {
                    request.headers.push(("content-type", "application/json".to_owned()));
                }
                request
            })
            .collect()
    }

    /// Makes the container and all documents, and says how long the body of a GET's answer is.
    pub(crate) fn create_documents(&mut self, server: SocketAddr) -> usize {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = Http1::connect(server, &[]).await.expect("a connection");
            let database = Bytes::from_static(br#"{"id":"bench"}"#);
            let container =
                Bytes::from_static(br#"{"id":"docs","partitionKey":{"paths":["/pk"],"kind":"Hash","version":2}}"#);
            let mut requests = vec![
                self.request("POST", "/dbs", "dbs", "", database),
                self.request("POST", "/dbs/bench/colls", "colls", "dbs/bench", container),
            ];
            for document in (0..self.connections_max).flat_map(|number| self.requests(Workload::PutAny, number)) {
                let link = "dbs/bench/colls/docs";
                let mut create = self.request("POST", &format!("/{link}/docs"), "docs", link, document.body);
                let key = document.headers.into_iter().find(|(name, _)| *name == "x-ms-documentdb-partitionkey");
                create.headers.extend(key);
                requests.push(create);
            }
            for request in &requests {
                let answer = connection.send_once(request).await.expect("an answer");
                assert_eq!(answer.status, 201, "{} {} was refused", request.method, request.path);
            }
            let get = self.requests(Workload::Get, 0).remove(0);
            connection.send_once(&get).await.expect("an answer").body_bytes
        })
    }

    /// Sends so many requests, one after another.
    pub(crate) fn send(&mut self, server: SocketAddr, protocol: Protocol, workload: Workload, requests: usize) {
        self.date = httpdate::fmt_http_date(SystemTime::now());
        on_thread(server, protocol, workload, vec![self.requests(workload, 0)], End::After(requests));
    }

    /// Has so many connections ask for so long.
    pub(crate) fn run(
        &mut self,
        server: &Child,
        protocol: Protocol,
        workload: Workload,
        connections: usize,
        seconds: f64,
    ) -> Figures {
        // Signatures are good for a quarter of an hour.
        self.date = httpdate::fmt_http_date(SystemTime::now());
        let from = Instant::now() + WARM_UP;
        let until = from + Duration::from_secs_f64(seconds);
        let address = server.address();
        let of_threads: Vec<Vec<Vec<Request>>> = (0..self.threads)
            .map(|thread| {
                let own = (thread..connections).step_by(self.threads);
                own.map(|connection| self.requests(workload, connection)).collect()
            })
            .collect();
        let (mut nanos, cpu) = std::thread::scope(|scope| {
            let threads: Vec<_> = of_threads
                .into_iter()
                .map(|own| scope.spawn(move || on_thread(address, protocol, workload, own, End::At { from, until })))
                .collect();
            std::thread::sleep(from.saturating_duration_since(Instant::now()));
            let before = server.cpu_time();
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            let cpu = server.cpu_time() - before;
            let nanos: Vec<u64> =
                threads.into_iter().flat_map(|thread| thread.join().expect("a load without errors")).collect();
            (nanos, cpu)
        });
        nanos.sort_unstable();
        let at = |part: f64| {
            let index = ((nanos.len() as f64 * part) as usize).min(nanos.len().saturating_sub(1));
            Duration::from_nanos(nanos.get(index).copied().unwrap_or_default())
        };
        Figures {
            rate: nanos.len() as f64 / seconds,
            p50: at(0.5),
            p99: at(0.99),
            cpu: cpu / u32::try_from(nanos.len().max(1)).unwrap_or(u32::MAX),
            busy: cpu.as_secs_f64() / seconds,
        }
    }
}

/// When a connection stops.
#[derive(Debug, Clone, Copy)]
enum End {
    /// At this moment; what was sent before the first is not counted.
    At { from: Instant, until: Instant },
    /// After so many requests.
    After(usize),
}

/// Keeps a thread's share of the connections busy. Returns how long each counted answer took.
fn on_thread(
    server: SocketAddr,
    protocol: Protocol,
    workload: Workload,
    connections: Vec<Vec<Request>>,
    end: End,
) -> Vec<u64> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let all: Vec<_> = connections
            .into_iter()
            .map(|requests| tokio::spawn(on_connection(server, protocol, workload, Arc::new(requests), end)))
            .collect();
        let mut nanos = Vec::new();
        for connection in all {
            nanos.extend(connection.await.expect("a connection without errors"));
        }
        nanos
    })
}

enum Connection {
    Http1(Http1),
    Http2(Http2),
}

impl Connection {
    async fn send(&mut self, number: usize, if_match: Option<&str>) -> Answer {
        let answer = match self {
            Connection::Http1(connection) => connection.send(number, if_match).await,
            Connection::Http2(connection) => connection.send(number, if_match).await,
        };
        answer.expect("an answer")
    }
}

async fn on_connection(
    server: SocketAddr,
    protocol: Protocol,
    workload: Workload,
    requests: Arc<Vec<Request>>,
    end: End,
) -> Vec<u64> {
    let count = requests.len();
    let mut etags: Vec<Option<String>> = vec![None; count];
    let is_conditional = workload == Workload::PutMatch;
    let with_condition: Vec<Request> = requests
        .iter()
        .cloned()
        .map(|request| Request { if_match: is_conditional.then(|| NO_ETAG.to_owned()), ..request })
        .collect();
    let mut connection = match protocol {
        Protocol::Http1 => Http1::connect(server, &with_condition).await.map(Connection::Http1),
        Protocol::Http2 => Http2::connect(server, &with_condition).await.map(Connection::Http2),
    }
    .expect("a connection");
    if is_conditional {
        // The versions to begin with: one unconditional write each.
        let mut first = Http1::connect(server, &requests).await.expect("a connection");
        for (number, etag) in etags.iter_mut().enumerate() {
            *etag = first.send(number, None).await.expect("an answer").etag;
        }
    }
    let mut nanos = Vec::with_capacity(1 << 16);
    for sent in 0.. {
        let number = sent % count;
        let begun = Instant::now();
        let (is_over, is_counted) = match end {
            End::At { from, until } => (begun >= until, begun >= from),
            End::After(requests) => (sent >= requests, true),
        };
        if is_over {
            break;
        }
        let answer = connection.send(number, etags[number].as_deref().filter(|_| is_conditional)).await;
        assert_eq!(answer.status, 200, "{} {}", requests[number].method, requests[number].path);
        if is_conditional {
            etags[number] = answer.etag;
        }
        if is_counted {
            nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }
    nanos
}
