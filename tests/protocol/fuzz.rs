//! Requests put together at random from plausible and implausible pieces. Whatever they are, the answer is no failure of
//! the server's own, its error is JSON with a message, and the connection goes on.

use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::{Value, json};

use crate::support::{Client, Host};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const SEGMENTS: [&str; 21] = [
    "dbs",
    "d",
    "colls",
    "c",
    "docs",
    "a",
    "pkranges",
    "offers",
    "AAAA",
    "AAAAAQ==",
    "AAAAAYAAAAE=",
    "%00",
    "%F0%9F%A6%80",
    "%2F",
    "%25",
    "conflicts",
    "operations",
    "partitionkeydelete",
    "sprocs",
    "..",
    "%E2%80%8B",
];

const HEADERS: [&str; 24] = [
    "x-ms-documentdb-partitionkey",
    "x-ms-documentdb-partitionkeyrangeid",
    "x-ms-start-epk",
    "x-ms-end-epk",
    "x-ms-documentdb-isquery",
    "x-ms-documentdb-query-enablecrosspartition",
    "x-ms-documentdb-is-upsert",
    "x-ms-cosmos-is-query-plan-request",
    "x-ms-cosmos-is-batch-request",
    "x-ms-cosmos-batch-atomic",
    "x-ms-cosmos-batch-continue-on-error",
    "x-ms-max-item-count",
    "x-ms-continuation",
    "x-ms-session-token",
    "x-ms-cosmos-intended-collection-rid",
    "x-ms-offer-throughput",
    "x-ms-cosmos-offer-autopilot-settings",
    "x-ms-activity-id",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "a-im",
    "prefer",
    "x-ms-documentdb-populatequerymetrics",
];

const VALUES: [&str; 27] = [
    "",
    "true",
    "True",
    "false",
    "0",
    "-1",
    "1",
    "18446744073709551616",
    "*",
    "\"x\"",
    "[]",
    "[{}]",
    "[null]",
    "[\"p\"]",
    "[\"p\",\"q\"]",
    "[1e999]",
    "[[[[",
    "{\"maxThroughput\":-1}",
    "3F",
    "FF",
    "Incremental Feed",
    "return=minimal",
    "Fri, 01 Jan 2100 00:00:00 GMT",
    "0:0#1",
    "0:0#99999999999999999999",
    "AQEAAAAAAAAAAA",
    "\u{1F980}",
];

const BODIES: [&str; 20] = [
    "",
    "null",
    "[]",
    "{}",
    r#"{"id":"a","pk":"p"}"#,
    r#"{"id":"a","pk":"p","ttl":-1,"n":1e400}"#,
    r#"{"id":"a","id":"b","pk":"p"}"#,
    r#"{"id":"\ud800","pk":"p"}"#,
    r#"{"id":"d"}"#,
    r#"{"id":"c","partitionKey":{"paths":["/pk"],"kind":"Hash","version":2}}"#,
    r#"{"id":"c2","partitionKey":{"paths":["/a","/b"],"kind":"MultiHash","version":2},"defaultTtl":5}"#,
    r#"{"query":"SELECT * FROM c","parameters":[{"name":"@x"}]}"#,
    r#"{"query":"SELECT VALUE SUM(c.n) / 0 FROM c GROUP BY c.pk ORDER BY c.n OFFSET 1 LIMIT 1"}"#,
    r#"{"query":"SELECT * FROM c WHERE ((((((((((c.a"}"#,
    r#"[{"operationType":"Create","resourceBody":{"id":"a","pk":"p"}},{"operationType":"Read","id":"a"}]"#,
    r#"[{"operationType":"Replace","id":"a","resourceBody":{"id":"b","pk":"p"},"ifMatch":"*","partitionKey":"[\"p\"]"}]"#,
    r#"[{"op":"set","path":"/x/y/z","value":1}]"#,
    r#"[{"op":"add","path":"/list/-","value":[]},{"op":"incr","path":"/n","value":1e308}]"#,
    r#"{"condition":"from c where c.n > 1","operations":[{"op":"remove","path":"/n"}]}"#,
    r#"{"content":{"offerThroughput":500}}"#,
];

/// One request, before it is signed.
#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn paths() -> impl Strategy<Value = String> {
    let known = select(vec!["/", "/dbs", "/dbs/d", "/dbs/d/colls", "/dbs/d/colls/c", "/offers", "/health", "/metrics"]);
    let items = select(vec!["/dbs/d/colls/c/docs", "/dbs/d/colls/c/docs/a", "/dbs/d/colls/c/pkranges"]);
    let random = vec(select(&SEGMENTS[..]), 0..8).prop_map(|segments| format!("/{}", segments.join("/")));
    prop_oneof![2 => known.prop_map(str::to_owned), 5 => items.prop_map(str::to_owned), 3 => random]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let known = select(&BODIES[..]).prop_map(|body| body.as_bytes().to_vec());
    // A good body with one byte changed or the rest cut off, text or Cosmos's binary JSON.
    let changed = (select(&BODIES[..]), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    let changed = changed.prop_map(|(body, at, byte, cut)| {
        let mut body = body.as_bytes().to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
            if cut {
                body.truncate(at);
            }
        }
        body
    });
    let binary = vec(any::<u8>(), 0..64).prop_map(|mut bytes| {
        bytes.insert(0, 0x80);
        bytes
    });
    prop_oneof![4 => known, 3 => changed, 1 => binary]
}

fn requests() -> impl Strategy<Value = Request> {
    let header =
        (select(&HEADERS[..]), prop_oneof![5 => select(&VALUES[..]).prop_map(str::to_owned), 1 => "[ -~]{0,40}"]);
    (select(&METHODS[..]), paths(), vec(header, 0..6), bodies()).prop_map(|(method, path, headers, body)| Request {
        method,
        path,
        headers,
        body,
    })
}

fn check(client: &mut Client, request: &Request) -> Result<(), TestCaseError> {
    let mut headers: Vec<(&str, &str)> = vec![("x-ms-documentdb-partitionkey", "[\"p\"]")];
    headers.retain(|(name, _)| !request.headers.iter().any(|(other, _)| other == name));
    headers.extend(request.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let answer = client.send(request.method, &request.path, &headers, &request.body);
    prop_assert!(answer.status < 500 || answer.status == 501, "{answer:?}");
    if answer.status >= 400 {
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(body["code"].is_string() && body["message"].is_string(), "{body}");
    }
    if request.method == "DELETE" || answer.status == 404 {
        // The database may be gone by now; the next requests should find one.
        client.post("/dbs", &[], &json!({"id": "d"}));
        let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
        client.post("/dbs/d/colls", &[], &container);
    }
    Ok(())
}

#[test]
fn no_request_makes_the_server_fail() {
    let host = Host::start();
    let client = Mutex::new(host.with_container());
    let mut runner = TestRunner::new(Cases { cases: 5_000, failure_persistence: None, ..Cases::default() });
    let outcome = runner.run(&requests(), |request| {
        let mut client = client.lock().unwrap_or_else(|poisoned| {
            // A panic in the client means a broken connection: shrinking goes on with a fresh one.
            let mut client = poisoned.into_inner();
            *client = host.connect();
            client
        });
        check(&mut client, &request)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    host.connect().expect_alive();
}
