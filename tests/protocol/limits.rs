//! Limits: of bodies, heads, connections and patience. What is beyond one is refused; what is just within is served.

use std::time::Duration;

use etagdb_server::Config;
use serde_json::json;

use crate::served::Served;
use crate::support::{Client, Host};

const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const ITEMS: &str = "/dbs/d/colls/c/docs";
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// An item whose JSON has exactly this many bytes.
fn item_of(bytes: usize) -> Vec<u8> {
    let empty = json!({"id": "a", "pk": "p", "x": ""}).to_string().len();
    let item = json!({"id": "a", "pk": "p", "x": "y".repeat(bytes - empty)}).to_string();
    assert_eq!(item.len(), bytes);
    item.into_bytes()
}

fn chunked(client: &Client, body: &[u8]) -> Vec<u8> {
    let head = String::from_utf8(client.request("POST", ITEMS, &[KEY], b"")).expect("text");
    let head = head.replacen("content-length: 0", "transfer-encoding: chunked", 1);
    let mut request = head.into_bytes();
    for piece in body.chunks(64 * 1024) {
        request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[test]
fn an_item_of_two_mebibytes_is_taken_and_one_byte_more_is_not() {
    let host = Host::start();
    let mut client = host.with_container();
    let (largest, larger) = (item_of(BODY_BYTES_MAX), item_of(BODY_BYTES_MAX + 1));
    client.send("POST", ITEMS, &[KEY], &larger).expect_error(413, "RequestEntityTooLarge", "too large");
    client.expect_alive();
    client.send("POST", ITEMS, &[KEY], &largest).expect_status(201);
    let read = client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    assert!(read.body.len() > BODY_BYTES_MAX, "an item is not cut");
    client.delete("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(204);
    // The same without a length announced.
    let request = chunked(&client, &larger);
    client.raw(&request);
    client.answer("POST").expect_error(413, "RequestEntityTooLarge", "too large");
    client.expect_alive();
    let request = chunked(&client, &largest);
    client.raw(&request);
    client.answer("POST").expect_status(201);
}

#[test]
fn a_patch_cannot_grow_an_item_beyond_the_limit() {
    let host = Host::start();
    let mut client = host.with_container();
    client.send("POST", ITEMS, &[KEY], &item_of(BODY_BYTES_MAX - 100)).expect_status(201);
    let patch = json!([{"op": "add", "path": "/more", "value": "z".repeat(200)}]).to_string();
    let answer = client.send("PATCH", "/dbs/d/colls/c/docs/a", &[KEY], patch.as_bytes());
    answer.expect_error(413, "RequestEntityTooLarge", "too large");
    client.expect_alive();
}

/// Counted and weighed as a whole, in both kinds of batch; what is too much is refused as a whole.
#[test]
fn a_batch_of_a_hundred_operations_and_two_mebibytes_is_taken_and_no_more() {
    let host = Host::start();
    let mut client = host.with_container();
    let create = |number: usize, bytes: usize| {
        let item = json!({"id": number.to_string(), "pk": "p", "x": "y".repeat(bytes)});
        json!({"operationType": "Create", "partitionKey": "[\"p\"]", "resourceBody": item})
    };
    let batch = ("x-ms-cosmos-is-batch-request", "true");
    let atomic = [KEY, batch];
    let bulk = [batch, ("x-ms-cosmos-batch-atomic", "false")];
    for (round, headers) in [atomic, bulk].iter().enumerate() {
        let many = |count: usize| json!((0..count).map(|at| create(1_000 * round + at, 0)).collect::<Vec<_>>());
        client.post(ITEMS, headers, &many(101)).expect_error(400, "BadRequest", "more operations than");
        // With two operations of this, the rest is what the array and the operations around the items take.
        let around = json!([create(1_000 * round + 500, 0), create(1_000 * round + 501, 0)]).to_string().len();
        let heavy = |bytes: usize| {
            let half = (bytes - around) / 2;
            let operations = [create(1_000 * round + 500, half), create(1_000 * round + 501, bytes - around - half)];
            let body = json!(operations).to_string();
            assert_eq!(body.len(), bytes);
            body.into_bytes()
        };
        let refused = client.send("POST", ITEMS, headers, &heavy(BODY_BYTES_MAX + 1));
        refused.expect_error(413, "RequestEntityTooLarge", "too large");
        let before = client.get(ITEMS, &[("x-ms-max-item-count", "-1")]).json()["_count"].clone();
        assert_eq!(before, if round == 0 { 0 } else { 102 }, "nothing of it was written");
        client.post(ITEMS, headers, &many(100)).expect_status(200);
        client.send("POST", ITEMS, headers, &heavy(BODY_BYTES_MAX)).expect_status(200);
        client.delete(&format!("{ITEMS}/{}", 1_000 * round + 500), &[KEY]).expect_status(204);
        client.delete(&format!("{ITEMS}/{}", 1_000 * round + 501), &[KEY]).expect_status(204);
        // Small ones in their place, so that the list stays within a page.
        client.post(ITEMS, headers, &json!([create(1_000 * round + 500, 0), create(1_000 * round + 501, 0)]));
    }
}

#[test]
fn a_body_that_is_much_too_large_ends_the_connection_and_no_other() {
    let host = Host::start();
    let mut other = host.with_container();
    let mut client = host.connect();
    let head = String::from_utf8(client.request("POST", ITEMS, &[KEY], b"")).expect("text");
    client.raw(head.replacen("content-length: 0", "content-length: 1000000000", 1).as_bytes());
    let answer = client.answer("POST").expect_error(413, "RequestEntityTooLarge", "too large");
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_closed();
    other.expect_alive();
}

#[test]
fn a_head_beyond_the_limit_is_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    let request = client.request("GET", "/dbs", &[("x-long", &"x".repeat(200_000))], b"");
    client.raw(&request);
    client.answer("GET").expect_status(431);
    let mut client = host.connect();
    let many: Vec<(String, String)> = (0..200).map(|index| (format!("x-{index}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = client.request("GET", "/dbs", &many, b"");
    client.raw(&request);
    client.answer("GET").expect_status(431);
    host.connect().expect_alive();
}

#[test]
fn a_connection_beyond_the_limit_is_told_so() {
    let host = Host::start_with(Config { connections_max: 2, ..Config::default() });
    let (mut first, mut second) = (host.connect(), host.connect());
    first.expect_alive();
    second.expect_alive();
    let mut third = host.connect();
    let refused = third.answer("GET").expect_status(503);
    assert_eq!(refused.json()["code"], "ServiceUnavailable");
    third.expect_closed();
    first.expect_alive();
}

/// A store that finds no descriptor for its next file takes no more writes, so connections must leave it some.
#[test]
fn connections_do_not_take_the_descriptors_of_the_store() {
    let served = Served::start_under("ulimit -n 700", &[]);
    let mut first = Client::of(served.address());
    first.make_container();
    let mut crowd: Vec<Client> = (0..400).map(|_| Client::of(served.address())).collect();
    // The last ones were too many. They are closed; some of them, not all in a flood, are told why.
    crowd.drain(300..).for_each(|mut client| {
        let told = client.read_to_end();
        assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&told));
    });
    for number in 0..20 {
        first.create(&json!({"id": number.to_string(), "pk": "p"})).expect_status(201);
    }
    drop(crowd);
    first.expect_alive();
    assert!(served.stop().success());
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let host = Host::start_with(Config { header_timeout: Duration::from_millis(50), ..Config::default() });
    let mut client = host.connect();
    client.raw(b"GET /dbs HTTP/1.1\r\nhost: x\r\nx-slow: ");
    client.expect_closed();
    host.connect().expect_alive();
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let host = Host::start_with(Config { body_timeout: Duration::from_millis(50), ..Config::default() });
    let mut client = host.connect();
    let head = String::from_utf8(client.request("POST", "/dbs", &[], b"")).expect("text");
    client.raw(head.replacen("content-length: 0", "content-length: 100", 1).as_bytes());
    let answer = client.answer("POST").expect_error(408, "RequestTimeout", "body");
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_closed();
    host.connect().expect_alive();
}

#[test]
fn a_silent_connection_is_closed() {
    let host = Host::start_with(Config { idle_timeout: Duration::from_millis(50), ..Config::default() });
    let mut never = host.connect();
    let mut once = host.connect();
    once.expect_alive();
    never.expect_closed();
    once.expect_closed();
    host.connect().expect_alive();
}

#[test]
fn bytes_that_are_no_http_end_only_their_own_connection() {
    let host = Host::start();
    let mut good = host.with_container();
    for junk in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"POST /dbs HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc",
        b"POST /dbs HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"POST /dbs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut client = host.connect();
        client.raw(junk);
        client.close_sending();
        client.read_to_end();
        good.expect_alive();
    }
}

#[test]
fn what_was_accepted_is_answered_before_the_server_stops() {
    let mut host = Host::start();
    let mut client = host.with_container();
    let request = client.request("POST", ITEMS, &[KEY], &item_of(1024));
    let (start, rest) = request.split_at(request.len() - 10);
    client.raw(start);
    // A second connection proves that the server is at work on more than the first one's bytes.
    host.connect().expect_alive();
    host.ask_to_stop();
    client.raw(rest);
    client.answer("POST").expect_status(201);
    client.expect_closed();
    host.shut_down();
    let host = host.restart();
    let mut client = host.connect();
    client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
}
