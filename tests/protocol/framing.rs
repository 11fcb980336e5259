//! Requests whose end two readers of the same bytes may see in different places: each is refused, and what comes behind
//! it on its connection is never taken for a request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::{Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

/// What a server says that refuses a head before this project's code sees it.
const WORDLESS: &str = "";

/// A signed request with something in its text changed.
fn changed(client: &Client, method: &str, path: &str, headers: &[(&str, &str)], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(client.request(method, path, headers, b"")).expect("text");
    assert!(text.contains(from), "{from:?} is not in {text:?}");
    text.replacen(from, to, 1).into_bytes()
}

/// Sends bytes on a connection of their own, and behind them a request that would do harm. Returns all that is answered.
fn ask(host: &Host, bytes: &[u8]) -> String {
    let mut client = host.connect();
    let harm = client.request("DELETE", "/dbs/d", &[], b"");
    client.raw(&[bytes, &harm].concat());
    client.close_sending();
    String::from_utf8(client.read_to_end()).expect("text")
}

/// Checks that one answer came, the last of its connection, and that it says what was wrong.
fn expect_refused(answer: &str, part: &str) {
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(answer.contains(part), "{answer}");
    if part != WORDLESS {
        assert!(answer.contains("\"code\":\"BadRequest\""), "{answer}");
    }
}

#[test]
fn a_line_that_ends_without_cr_is_refused_wherever_it_is() {
    let host = Host::start();
    let client = host.with_container();
    for (from, to) in [
        ("GET", "\nGET"),
        (" HTTP/1.1\r\n", " HTTP/1.1\n"),
        ("host: 127.0.0.1\r\n", "host: 127.0.0.1\n"),
        ("content-length: 0\r\n\r\n", "content-length: 0\n\r\n"),
        ("content-length: 0\r\n\r\n", "content-length: 0\r\n\n"),
        ("content-length: 0\r\n\r\n", "content-length: 0\n\n"),
        ("host: 127.0.0.1\r\n", "host: 127.0.0.1\r\nx-a: b\nx-c: d\r\n"),
    ] {
        expect_refused(&ask(&host, &changed(&client, "GET", "/dbs", &[], from, to)), "ends with LF instead of CR LF");
    }
    host.connect().get("/dbs/d", &[]).expect_status(200);
}

#[test]
fn a_bare_line_feed_that_comes_alone_is_found() {
    let host = Host::start();
    let mut client = host.with_container();
    client.expect_alive();
    let request = changed(&client, "GET", "/dbs", &[], "x-ms-date", "x-a: b\nx-ms-date");
    for byte in &request {
        client.raw(std::slice::from_ref(byte));
    }
    let answer = client.answer("GET").expect_error(400, "BadRequest", "LF");
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_closed();
}

#[test]
fn more_than_one_length_is_refused() {
    let host = Host::start();
    let client = host.with_container();
    let item = json!({"id": "a", "pk": "p"}).to_string();
    let chunks = format!("{:x}\r\n{item}\r\n0\r\n\r\n", item.len());
    for (lengths, body) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", &chunks),
        ("transfer-encoding: chunked\r\ncontent-length: 5", &chunks),
        ("transfer-encoding: chunked\r\nTransfer-Encoding: chunked", &chunks),
        (&format!("content-length: {0}\r\ncontent-length: {0}", item.len()), &item),
    ] {
        let head = changed(&client, "POST", ITEMS, &[KEY], "content-length: 0", lengths);
        expect_refused(&ask(&host, &[head.as_slice(), body.as_bytes()].concat()), "more than one header that says how");
    }
    let head = changed(&client, "POST", ITEMS, &[KEY], "content-length: 0", "transfer-encoding: gzip, chunked");
    expect_refused(
        &ask(&host, &[head.as_slice(), chunks.as_bytes()].concat()),
        "'Transfer-Encoding' must be 'chunked'",
    );
    let mut client = host.connect();
    client.get("/dbs/d", &[]).expect_status(200);
    assert_eq!(client.get(ITEMS, &[]).json()["_count"], 0, "nothing of it was written");
}

/// These are refused by hyper, which says so in the status alone.
#[test]
fn heads_that_are_no_http_are_refused() {
    let host = Host::start();
    let client = host.with_container();
    for (from, to) in [
        ("content-length: 0", "content-length: +3"),
        ("content-length: 0", "content-length: -3"),
        ("content-length: 0", "content-length: 3, 3"),
        ("content-length: 0", "content-length: 0x3"),
        ("content-length: 0", "content-length:"),
        ("content-length: 0", "content-length: 99999999999999999999999"),
        ("content-length: 0", "content-length: 3\r\ncontent-length: 4"),
        ("content-length: 0", "transfer-encoding: gzip"),
        ("content-length: 0", "transfer-encoding: chunked, gzip"),
        // Folded, as HTTP once allowed.
        ("host: 127.0.0.1", "host: 127.0.0.1\r\n folded"),
        ("host: 127.0.0.1", "host: 127.0.0.1\r\n\tfolded"),
        ("host:", "host :"),
        ("content-length:", "content-length :"),
        ("host: 127.0.0.1", "host: 127.0.0.1\r\nno colon"),
        ("host: 127.0.0.1", "host: 127.0.0.1\r\nx-nul: \0"),
        ("host: 127.0.0.1", "host: 127.0.0.1\r\nx-cr: a\rb"),
        ("POST ", "POST  "),
        ("POST ", "PO ST "),
        ("HTTP/1.1", "HTTP/1.2"),
        ("HTTP/1.1", "HTTP/2.0"),
    ] {
        let answer = ask(&host, &changed(&client, "POST", ITEMS, &[KEY], from, to));
        // Two lengths that differ are found here as well; who answers is not the point.
        expect_refused(&answer, WORDLESS);
    }
    // RFC 9112, section 6.1: HTTP/1.0 has no transfer codings.
    let text = changed(&client, "POST", ITEMS, &[KEY], "content-length: 0", "transfer-encoding: chunked");
    let old = String::from_utf8(text).expect("text").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let answer = ask(&host, old.as_bytes());
    assert!(answer.starts_with("HTTP/1.0 400") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    host.connect().get("/dbs/d", &[]).expect_status(200);
}

/// RFC 9112, section 3.2. The end of such a request is in no doubt, so its connection goes on.
#[test]
fn a_request_with_no_host_or_two_is_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    for (to, part) in [
        ("", "no Host header"),
        ("host: 127.0.0.1\r\nhost: 127.0.0.1\r\n", "more than one Host header"),
        ("host: 127.0.0.1\r\nHost: elsewhere\r\n", "more than one Host header"),
    ] {
        let request = changed(&client, "GET", "/dbs", &[], "host: 127.0.0.1\r\n", to);
        client.raw(&request);
        client.answer("GET").expect_error(400, "BadRequest", part);
        client.expect_alive();
    }
}

/// Requests in a row, in one piece: those before the bad one are answered, it is refused, and none behind it is looked at.
#[test]
fn of_pipelined_requests_those_before_the_bad_one_are_answered() {
    let host = Host::start();
    let mut client = host.with_container();
    let create =
        |id: &str| client.request("POST", ITEMS, &[KEY], format!("{{\n\"id\":\"{id}\",\n\"pk\":\"p\"}}").as_bytes());
    let bad = changed(&client, "GET", "/dbs", &[], "x-ms-date", "x-a: b\nx-ms-date");
    let harm = client.request("DELETE", "/dbs/d", &[], b"");
    let all = [create("a"), create("b"), bad, harm].concat();
    client.raw(&all);
    client.answer("POST").expect_status(201);
    client.answer("POST").expect_status(201);
    client.answer("GET").expect_error(400, "BadRequest", "LF");
    client.expect_closed();
    let mut client = host.connect();
    assert_eq!(client.get(ITEMS, &[]).expect_status(200).json()["_count"], 2);
}

/// What looks like the worst of heads is a body here, announced or in chunks, and the connection goes on.
#[test]
fn bodies_may_hold_anything() {
    let host = Host::start();
    let mut client = host.with_container();
    let text = "\n\n\r\n\r\nGET / HTTP/1.1\ncontent-length: 3\ntransfer-encoding: chunked\n\n0\r\n\r\n";
    for id in ["a", "b", "c"] {
        let item = format!("{{\n\"id\": \"{id}\",\n\n\"pk\": \"p\", \"text\": {}\n}}\n", json!(text));
        client.send("POST", ITEMS, &[KEY], item.as_bytes()).expect_status(201);
        // Not JSON, and refused as that, not as a head.
        client.send("POST", ITEMS, &[KEY], text.as_bytes()).expect_error(400, "BadRequest", "JSON");
        let mut chunked = changed(
            &client,
            "PUT",
            &format!("{ITEMS}/{id}"),
            &[KEY],
            "content-length: 0",
            "transfer-encoding: chunked",
        );
        for chunk in item.as_bytes().chunks(7) {
            chunked.extend_from_slice(format!("{:X};x=\"y\"\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
        client.raw(&chunked);
        client.answer("PUT").expect_status(200);
        let read = client.get(&format!("{ITEMS}/{id}"), &[KEY]).expect_status(200);
        assert_eq!(read.json()["text"], text);
    }
}

/// The preface of HTTP/2 begins like a head; what is no preface in the end is no request either.
#[test]
fn half_a_preface_of_http_2_leads_nowhere() {
    let host = Host::start();
    for junk in ["PRI * HTTP/2.0\r\n\r\nSM\n\n", "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\n\n"] {
        let mut stream = TcpStream::connect(host.address()).expect("a connection");
        stream.write_all(junk.as_bytes()).expect("the bytes are taken");
        let mut answer = Vec::new();
        // A reset is an end as well.
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    host.connect().expect_alive();
}
