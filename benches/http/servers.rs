//! The servers under test, each a process of its own: etagdb over a new store, and the same HTTP stack with a constant.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use etagdb::{Durability, Options};
use etagdb_server::{Config, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// What a server does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// etagdb, answering writes after their sync.
    Sync,
    /// etagdb, answering writes before it.
    Buffered,
    /// So many bytes, whatever is asked.
    Constant(usize),
}

/// A server at work, ended when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    address: SocketAddr,
}

impl Child {
    /// Starts this program again as a server with so many threads, on these cores.
    pub(crate) fn start(kind: Kind, threads: usize, cores: Option<&str>) -> Child {
        let pinned = cores.map(|cores| ["taskset".to_owned(), "-c".to_owned(), cores.to_owned()]);
        Child::start_under(pinned.as_ref().map_or(&[], |words| &words[..]), kind, threads)
    }

    /// Starts this program again as a server with so many threads, by way of another program.
    pub(crate) fn start_under(other: &[String], kind: Kind, threads: usize) -> Child {
        let own = std::env::current_exe().expect("the path of this program");
        let mut command = match other {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own);
                command
            }
            [] => Command::new(own),
        };
        let kind = match kind {
            Kind::Sync => "sync".to_owned(),
            Kind::Buffered => "buffered".to_owned(),
            Kind::Constant(bytes) => bytes.to_string(),
        };
        command.args(["serve", &kind, &threads.to_string()]);
        // It ends when its input does, so that it cannot outlive this process.
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a server that starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its address");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("not an address: {line:?}"));
        Child { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time used so far, in user and system mode.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // The fields after the name, which is in parentheses; in ticks of a hundredth of a second.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // However it ends, its figures have been taken.
        let _ = self.process.wait();
    }
}

/// Runs as a server: `sync`, `buffered` or a number of bytes, and how many threads.
pub(crate) fn serve(arguments: &[String]) {
    let [kind, threads] = arguments else { panic!("serve needs a kind and a number of threads") };
    let threads = threads.parse().expect("a number of threads");
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime");
    match kind.as_str() {
        "sync" => runtime.block_on(store(Durability::Sync)),
        "buffered" => runtime.block_on(store(Durability::Buffered)),
        bytes => runtime.block_on(constant(bytes.parse().expect("a number of bytes"))),
    }
}

fn announce(address: SocketAddr) {
    println!("{address}");
    std::io::stdout().flush().expect("somebody reads the address");
}

/// Ends with the input of this process.
async fn input_ends() {
    let reading = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    // A reading that fails has ended, too.
    let _ = reading.await;
}

async fn store(durability: Durability) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Options::default().durability(durability).open(dir.path().join("store")).expect("a store");
    let config = Config { listen: "127.0.0.1:0".parse().expect("an address"), ..Config::default() };
    let server = Server::bind(store, config).await.expect("a bound server");
    announce(server.local_addr());
    server.run(input_ends()).await.expect("a server that runs");
}

/// hyper as etagdb sets it up, and nothing behind it.
async fn constant(bytes: usize) {
    let body = Bytes::from(vec![b'x'; bytes]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    announce(listener.local_addr().expect("an address"));
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let body = body.clone();
            tokio::spawn(async move {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(120))
                    .max_buf_size(64 * 1024);
                builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(64 * 1024);
                let service = service_fn(move |request| answer(request, body.clone()));
                // The load closes connections in the middle of things.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = input_ends() => {}
    }
}

async fn answer(request: hyper::Request<Incoming>, body: Bytes) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    // A PUT's body is read as etagdb reads it.
    let _ = request.into_body().collect().await;
    let mut response = hyper::Response::new(Full::new(body));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    // The load takes the etag of each answer for its next condition; this one never changes.
    let etag = http::HeaderValue::from_static("\"00000000-0000-0000-0000-000000000000\"");
    response.headers_mut().insert(http::header::ETAG, etag);
    Ok(response)
}
