//! A server whose disk takes its time: while the sync of a write's log waits, nobody is told of the write.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use serde_json::json;

use crate::histories::web::{Connection, Reply};
use crate::recorder::{compile, memory_dir};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const ITEM: &str = "/dbs/d/colls/c/docs/a";
const OTHER: &str = "/dbs/d/colls/c/docs/other";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const NAMED: (&str, &str) = ("idempotency-key", "k");
/// How many other requests are answered while an answer must not come: many times as long as it would take to come.
const OTHERS: usize = 500;

/// The shim, compiled once a run.
fn shim() -> &'static Path {
    static SHIM: OnceLock<&'static Path> = OnceLock::new();
    SHIM.get_or_init(|| compile("hold", &["-shared", "-fPIC"]))
}

/// A server whose next sync of a log waits until it is told how to end.
struct Held {
    child: Child,
    says: BufReader<ChildStdout>,
    orders: ChildStdin,
    address: SocketAddr,
    hold: PathBuf,
    data: tempfile::TempDir,
}

impl Held {
    fn start() -> Held {
        Held::over(memory_dir())
    }

    fn over(data: tempfile::TempDir) -> Held {
        let hold = data.path().join("hold");
        let mut child = Command::new(crate::binary::find())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path().join("store"))
            .env("LD_PRELOAD", shim())
            .env("HOLD", &hold)
            .env("ETAGDB_LOG", "error")
            .env_remove("ETAGDB_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut says = BufReader::new(child.stdout.take().expect("piped"));
        let orders = child.stdin.take().expect("piped");
        let mut ready = String::new();
        says.read_line(&mut ready).expect("a line");
        let address = ready.split_once("http://").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("not a ready line: {ready:?}"));
        Held { child, says, orders, address, hold, data }
    }

    /// SIGKILL, and another one over the same store.
    fn kill_and_start(mut self) -> Held {
        self.kill();
        let data = std::mem::replace(&mut self.data, memory_dir());
        Held::over(data)
    }

    fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address).expect("a connection")
    }

    fn with_container(&self) -> Connection {
        let mut connection = self.connect();
        let mut make = |path, body: serde_json::Value| {
            let named = ("idempotency-key", "other");
            let headers = if path == ITEMS { vec![KEY, named] } else { vec![] };
            let made = connection.ask("POST", path, &headers, &body.to_string()).expect("an answer");
            assert_eq!(made.status, 201, "{made:?}");
        };
        make("/dbs", json!({"id": "d"}));
        make("/dbs/d/colls", json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}}));
        // Named, because the first such write of a period makes a collection, which is synced by itself.
        make(ITEMS, json!({"id": "other", "pk": "p"}));
        connection
    }

    /// Sends the named write, from a thread of its own.
    fn write(&self) -> Receiver<Reply> {
        let mut connection = self.connect();
        let (sender, reply) = channel();
        thread::spawn(move || {
            let body = json!({"id": "a", "pk": "p"}).to_string();
            let written = connection.ask("POST", ITEMS, &[KEY, NAMED], &body);
            sender.send(written.expect("an answer")).ok();
        });
        reply
    }

    fn hold(&self) {
        fs::write(&self.hold, "").expect("a file");
    }

    /// Waits until a sync waits.
    fn is_held(&mut self) {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        assert_eq!(line, "held\n");
    }

    /// Ends the sync that waits; later ones do not wait.
    fn go_on(&mut self, order: &[u8]) {
        fs::remove_file(&self.hold).expect("a file");
        self.orders.write_all(order).expect("the server runs");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Checks that others are served for a good while, and that nobody is told of the write meanwhile.
fn expect_silence(connection: &mut Connection, replies: &[&Receiver<Reply>]) {
    for _ in 0..OTHERS {
        assert_eq!(connection.ask("GET", OTHER, &[KEY], "").expect("an answer").status, 200);
    }
    for reply in replies {
        let early = reply.try_recv();
        assert!(matches!(early, Err(TryRecvError::Empty)), "answered before it was on disk: {early:?}");
    }
}

/// A server that was sent the named write twice while the sync of the first waits, and has told nobody; who else asked it;
/// and where both answers will come.
fn written_twice_and_held() -> (Held, Connection, [Receiver<Reply>; 2]) {
    let mut server = Held::start();
    let mut connection = server.with_container();
    server.hold();
    let first = server.write();
    server.is_held();
    let second = server.write();
    expect_silence(&mut connection, &[&first, &second]);
    (server, connection, [first, second])
}

#[test]
fn a_repeat_is_not_answered_before_the_first_request_is_durable() {
    let (mut server, _connection, replies) = written_twice_and_held();
    server.go_on(b"d");
    let replies = replies.map(|reply| reply.recv().expect("an answer"));
    assert_eq!(replies.each_ref().map(|reply| reply.status), [201, 201], "{replies:?}");
    assert_eq!(replies[0].etag(), replies[1].etag());
    assert_eq!(replies.each_ref().map(|reply| reply.header("idempotency-replayed")), [None, Some("true")]);
}

/// A repeat that was told of the first one's success would have been told of a write that is not there after a power cut.
#[test]
fn a_repeat_of_a_request_whose_sync_fails_fails_as_well() {
    let (mut server, mut connection, replies) = written_twice_and_held();
    server.go_on(b"f");
    for reply in replies {
        let reply = reply.recv().expect("an answer");
        assert!(matches!(reply.status, 408 | 503), "neither done nor refused: {reply:?}");
    }
    // No more writes, and who asks is told; reads go on.
    let refused = connection.ask("POST", ITEMS, &[KEY], &json!({"id": "b", "pk": "p"}).to_string()).expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    let health = connection.ask("GET", "/health", &[], "").expect("an answer");
    assert_eq!(health.status, 503, "{health:?}");
    assert_eq!(health.json()["status"], "read-only");
    assert!(health.json()["sinceMs"].is_u64(), "{}", health.json());
    assert_eq!(connection.ask("GET", OTHER, &[KEY], "").expect("an answer").status, 200);
    let log = BufReader::new(server.child.stderr.take().expect("piped"));
    let told = log.lines().map_while(Result::ok).find(|line| line.contains("takes no more writes"));
    assert!(told.is_some_and(|line| line.contains("Input/output error")), "the log says why");
    // Whatever became of it: sent again, it is done, and once.
    let server = server.kill_and_start();
    let again = server.write().recv().expect("an answer");
    assert_eq!(again.status, 201, "{again:?}");
    let read = server.connect().ask("GET", ITEM, &[KEY, ("x-etagdb-versions", "true")], "").expect("an answer");
    assert_eq!(read.json()["_count"], 1);
}
