//! Clients that mean harm, or might as well: slow ones, silent ones, endless ones, and floods. The server stays up, its
//! memory bounded, and other clients are served meanwhile.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use etagdb_server::Config;
use serde_json::json;

use crate::served::Served;
use crate::support::{Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
/// What a flood may add to the server's memory. The floods below would take many times that if they were not bounded.
const GROWTH_MAX: u64 = 256 * 1024 * 1024;

/// A head that announces a body of so many bytes, and no byte of it.
fn head_only(client: &Client, bytes: usize) -> Vec<u8> {
    let head = String::from_utf8(client.request("POST", ITEMS, &[KEY], b"")).expect("text");
    head.replacen("content-length: 0", &format!("content-length: {bytes}"), 1).into_bytes()
}

/// With places for one request, bodies that do not come take none.
#[test]
fn a_client_that_is_slow_to_send_its_body_keeps_nobody_waiting() {
    let host = Host::start_with(Config { requests_max: 1, ..Config::default() });
    let mut client = host.with_container();
    let slow: Vec<Client> = (0..50)
        .map(|_| {
            let mut slow = host.connect();
            slow.raw(&head_only(&slow, 20_000));
            slow
        })
        .collect();
    for number in 0..10 {
        let id = number.to_string();
        client.create(&json!({"id": id, "pk": "p"})).expect_status(201);
        client.get(&format!("{ITEMS}/{id}"), &[KEY]).expect_status(200);
    }
    drop(slow);
    client.expect_alive();
}

#[test]
fn heads_that_come_drop_by_drop_are_given_up_and_nobody_waits() {
    let host = Host::start_with(Config { header_timeout: Duration::from_millis(50), ..Config::default() });
    let mut client = host.with_container();
    let mut slow: Vec<Client> = (0..300)
        .map(|_| {
            let mut slow = host.connect();
            slow.raw(b"GET /dbs HTTP/1.1\r\nhost: x\r\nx-");
            slow
        })
        .collect();
    client.expect_alive();
    slow.iter_mut().for_each(Client::expect_closed);
    client.expect_alive();
}

/// Without an announced length there is nothing to refuse at once; what comes is counted and ends the connection.
#[test]
fn a_chunked_body_without_end_is_cut_off() {
    let served = Served::start();
    let mut client = Client::of(served.address());
    client.make_container();
    let before = served.resident_bytes();
    let head = String::from_utf8(client.request("POST", ITEMS, &[KEY], b"")).expect("text");
    let head = head.replacen("content-length: 0", "transfer-encoding: chunked", 1);
    let mut stream = TcpStream::connect(served.address()).expect("a connection");
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    // The server has to stop reading long before a gigabyte.
    let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 1024, "it read all of it");
    client.expect_alive();
    assert!(served.resident_bytes() < before + GROWTH_MAX);
    assert!(served.stop().success());
}

#[test]
fn ten_thousand_idle_connections_take_little_and_stop_nobody() {
    let served = Served::start_under("ulimit -n 20000 2>/dev/null", &[]);
    let mut client = Client::of(served.address());
    client.make_container();
    let before = served.resident_bytes();
    let mut crowd = Vec::new();
    for number in 0..10_000 {
        match TcpStream::connect(served.address()) {
            Ok(stream) => crowd.push(stream),
            Err(error) => {
                // This process may hold fewer files than that. What it can hold is more than the server admits.
                assert!(number > 900, "only {number} connections: {error}");
                eprintln!("SKIPPED IN PART: {number} connections instead of 10,000: {error}");
                break;
            }
        }
        // Also to let the server take what the system has queued for it, which is not much.
        if number % 100 == 0 {
            client.expect_alive();
        }
    }
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    assert!(served.resident_bytes() < before + GROWTH_MAX, "{} and then {}", before, served.resident_bytes());
    drop(crowd);
    client.expect_alive();
    assert!(served.stop().success());
}

/// CVE-2023-44487: requests that are reset as soon as they are made, as fast as the connection takes them.
#[test]
fn a_flood_of_http_2_resets_ends_its_own_connection_only() {
    let served = Served::start();
    let mut client = Client::of(served.address());
    client.make_container();
    let before = served.resident_bytes();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sent: usize = runtime.block_on(async {
        let mut sent = 0;
        for _ in 0..4 {
            sent += reset_flood(served.address(), 20_000).await;
        }
        sent
    });
    assert!(sent < 4 * 20_000, "nothing stopped the flood");
    client.expect_alive();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    assert!(served.resident_bytes() < before + GROWTH_MAX);
    assert!(served.stop().success());
}

/// Makes requests on one connection and resets each at once. Returns how many the server took before it ended that.
async fn reset_flood(address: SocketAddr, requests: usize) -> usize {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for number in 0..requests {
        let Ok(mut ready) = send.clone().ready().await else { return number };
        let request = http::Request::get(format!("http://{address}/dbs")).body(()).expect("a request");
        let Ok((_, mut stream)) = ready.send_request(request, false) else { return number };
        stream.send_reset(h2::Reason::CANCEL);
        if driving.is_finished() {
            return number;
        }
        tokio::task::yield_now().await;
    }
    requests
}

/// Many streams of one connection, each with a body that never comes: they are bounded, and so is what they hold.
#[test]
fn streams_that_never_end_do_not_add_up() {
    let host = Host::start_with(Config { body_timeout: Duration::from_millis(200), ..Config::default() });
    let mut client = host.with_container();
    let request = String::from_utf8(client.request("POST", ITEMS, &[KEY], b"")).expect("text");
    let header = |name: &str| {
        let found = request.lines().find_map(|line| line.strip_prefix(name)).expect("a header");
        found.trim_start_matches(": ").to_owned()
    };
    let (date, signature) = (header("x-ms-date"), header("authorization"));
    let address = host.address();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut open = Vec::new();
        for _ in 0..200 {
            let mut ready = send.clone().ready().await.expect("a connection that takes requests");
            let request = http::Request::post(format!("http://{address}{ITEMS}"))
                .header("x-ms-date", &date)
                .header("authorization", &signature)
                .header(KEY.0, KEY.1)
                .body(())
                .expect("a request");
            open.push(ready.send_request(request, false).expect("a stream"));
        }
        for (response, _sending) in open {
            assert_eq!(response.await.expect("an answer").status(), 408, "a body that does not come is given up");
        }
    });
    client.expect_alive();
}
