//! A server in this process on a free port, and a client that shows every byte: one socket, one request after another.
//!
//! The client is written by hand on purpose. A test that says "the same connection answers the next request" must own the
//! connection, and a test of bad input must be able to send it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use etagdb_server::{Config, Server, Signer};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far longer than any answer takes: reaching it means that the server hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a store of its own.
pub(crate) struct Host {
    runtime: Runtime,
    address: SocketAddr,
    /// Until the server is stopped: nobody else may hold the store open then.
    store: Option<etagdb::Store>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    data: Option<tempfile::TempDir>,
}

impl Host {
    /// Starts a server over an empty store.
    pub(crate) fn start() -> Host {
        Host::start_with(Config::default())
    }

    /// Starts a server over an empty store, with these settings but a free port.
    pub(crate) fn start_with(config: Config) -> Host {
        Host::open(tempfile::tempdir().expect("a temporary directory"), config)
    }

    /// Starts a server over the store in a directory's `store`.
    pub(crate) fn over(data: tempfile::TempDir) -> Host {
        Host::open(data, Config::default())
    }

    /// Starts a server over an empty store that takes the time from this clock.
    pub(crate) fn timed(clock: impl etagdb::Clock) -> Host {
        let options = etagdb::Options::default().clock(clock);
        Host::open_with(tempfile::tempdir().expect("a temporary directory"), Config::default(), options)
    }

    fn open(data: tempfile::TempDir, config: Config) -> Host {
        Host::open_with(data, config, etagdb::Options::default())
    }

    fn open_with(data: tempfile::TempDir, config: Config, options: etagdb::Options) -> Host {
        let runtime = Runtime::new().expect("a runtime");
        let store = options.open(data.path().join("store")).expect("a store");
        let config = Config { listen: "127.0.0.1:0".parse().expect("an address"), ..config };
        let server = runtime.block_on(Server::bind(store.clone(), config)).expect("a bound server");
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let running = runtime.spawn(async move {
            let shutdown = async {
                // A dropped sender means stop as well.
                stopped.await.ok();
            };
            server.run(shutdown).await.expect("the server runs to its end");
        });
        Host { runtime, address, store: Some(store), stop: Some(stop), running: Some(running), data: Some(data) }
    }

    /// Stops the server and starts another over the same store.
    pub(crate) fn restart(mut self) -> Host {
        self.shut_down();
        let data = self.data.take().expect("the store's directory");
        drop(self);
        Host::open(data, Config::default())
    }

    /// The same with this clock, after what is too old by it was dropped.
    pub(crate) fn restart_trimmed(mut self, clock: impl etagdb::Clock + Clone) -> Host {
        self.shut_down();
        let data = self.data.take().expect("the store's directory");
        drop(self);
        let options = || etagdb::Options::default().clock(clock.clone());
        let store = options().open(data.path().join("store")).expect("a store");
        store.run_maintenance().expect("maintenance");
        drop(store);
        Host::open_with(data, Config::default(), options())
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) fn shut_down(&mut self) {
        self.ask_to_stop();
        self.store = None;
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running).expect("the server did not panic");
            self.wait_for_the_store();
        }
    }

    /// Waits until the store is closed: a thread that has just answered may be the last that has it. Not for ever, for the
    /// test may have it, too.
    fn wait_for_the_store(&self) {
        let Some(data) = &self.data else { return };
        let Ok(lock) = std::fs::File::open(data.path().join("store/LOCK")) else { return };
        for _ in 0..500 {
            if lock.try_lock().is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's store, to do what no request can.
    pub(crate) fn store(&self) -> &etagdb::Store {
        self.store.as_ref().expect("a server that runs")
    }

    /// Where the store is.
    pub(crate) fn store_path(&self) -> std::path::PathBuf {
        self.data.as_ref().expect("the store's directory").path().join("store")
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> Client {
        Client::of(self.address)
    }

    /// Opens a connection, and makes the database `d` and in it the container `c` with the partition key `/pk`.
    pub(crate) fn with_container(&self) -> Client {
        let mut client = self.connect();
        client.make_container();
        client
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// The time at the start of the test, and the seconds that have been let pass since.
#[derive(Clone)]
pub(crate) struct Clock(SystemTime, Arc<AtomicU64>);

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock(SystemTime::now(), Arc::default())
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.1.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl etagdb::Clock for Clock {
    fn now(&self) -> SystemTime {
        self.0 + Duration::from_secs(self.1.load(Ordering::SeqCst))
    }
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    signer: Signer,
}

impl Client {
    /// Opens a connection to the server at an address.
    pub(crate) fn of(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write time-out");
        stream.set_nodelay(true).expect("no delay");
        Client { stream: BufReader::new(stream), signer: Signer::new(None).expect("the well-known key") }
    }

    /// Makes the database `d` and in it the container `c` with the partition key `/pk`.
    pub(crate) fn make_container(&mut self) {
        self.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
        let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
        self.post("/dbs/d/colls", &[], &container).expect_status(201);
    }

    /// Sends a signed request with these headers and reads the answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = self.request(method, path, headers, body);
        self.raw(&request);
        self.answer(method)
    }

    pub(crate) fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"")
    }

    pub(crate) fn delete(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("DELETE", path, headers, b"")
    }

    pub(crate) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", path, headers, body.to_string().as_bytes())
    }

    pub(crate) fn put(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("PUT", path, headers, body.to_string().as_bytes())
    }

    /// Creates an item in `/dbs/d/colls/c` under the partition key that its `pk` gives.
    pub(crate) fn create(&mut self, item: &Value) -> Answer {
        let key = key_of(item);
        self.post("/dbs/d/colls/c/docs", &[("x-ms-documentdb-partitionkey", &key)], item)
    }

    /// Runs a query over `/dbs/d/colls/c`, all partitions.
    pub(crate) fn query(&mut self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("x-ms-documentdb-isquery", "true"),
            ("x-ms-documentdb-query-enablecrosspartition", "true"),
            ("content-type", "application/query+json"),
        ];
        all.extend_from_slice(headers);
        self.post("/dbs/d/colls/c/docs", &all, &json!({ "query": text }))
    }

    /// The bytes of a signed request.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let (kind, link) = signed_resource(path);
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-ms-date: {date}\r\n");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            let signature = self.signer.authorization(method, &kind, &link, &date);
            head.push_str(&format!("authorization: {signature}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        [head.as_bytes(), body].concat()
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server takes what is sent");
    }

    /// Reads one answer to a request with this method.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if method != "HEAD" && status != 204 && status != 304 {
            let length = answer.header("content-length").expect("an answer with a length");
            answer.body = vec![0; length.parse().expect("a length in bytes")];
            self.stream.read_exact(&mut answer.body).expect("the whole body");
        }
        answer
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is a close too: it is what a peer gets whose last bytes were not read.
        if self.stream.read_to_end(&mut rest).is_ok() {
            assert_eq!(String::from_utf8_lossy(&rest), "", "the connection is closed without another word");
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close_sending(&mut self) {
        // The server may have closed already.
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).ok();
    }

    /// Reads whatever comes until the server closes the connection.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).ok();
        rest
    }

    /// How reading fails; `None` for a close in good order. Bytes that come before that are a failure of the test.
    pub(crate) fn read_failure(&mut self) -> Option<std::io::ErrorKind> {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        assert_eq!(String::from_utf8_lossy(&rest), "", "nothing was to be answered");
        read.err().map(|error| error.kind())
    }

    /// Asks something harmless on the same connection.
    pub(crate) fn expect_alive(&mut self) {
        self.get("/dbs", &[]).expect_status(200);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("an answer");
        assert!(read > 0, "the server closed the connection instead of answering");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The etag header, which must be there.
    pub(crate) fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no etag in {self:?}")).to_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// Checks the status and the shape of an error: JSON with the code's text and a string message that names `part`.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str, part: &str) -> Answer {
        let answer = self.expect_status(status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body = answer.json();
        assert_eq!(body["code"], code, "{body}");
        let message = body["message"].as_str().unwrap_or_else(|| panic!("the message is no string: {body}"));
        assert!(message.contains(part), "the message does not name {part:?}: {message}");
        for header in ["x-ms-activity-id", "x-ms-request-charge"] {
            assert!(answer.header(header).is_some(), "{header} is missing: {answer:?}");
        }
        answer
    }

    #[track_caller]
    pub(crate) fn expect_substatus(self, substatus: &str) -> Answer {
        assert_eq!(self.header("x-ms-substatus"), Some(substatus), "{self:?}");
        self
    }
}

/// The partition key header of an item with the property `pk`.
pub(crate) fn key_of(item: &Value) -> String {
    match item.get("pk") {
        Some(key) => json!([key]).to_string(),
        None => "[{}]".to_owned(),
    }
}

/// What a client signs for a path: type and link.
fn signed_resource(path: &str) -> (String, String) {
    let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
    if segments.len() == 6 && segments[4] == "operations" {
        return ("partitionkey".to_owned(), segments[..4].join("/"));
    }
    match segments.len() {
        0 => (String::new(), String::new()),
        odd if odd % 2 == 1 => (segments[odd - 1].clone(), segments[..odd - 1].join("/")),
        even => (segments[even - 2].clone(), segments.join("/")),
    }
}

fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
