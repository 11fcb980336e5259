//! What operators see: figures that are right and well-formed, and logs that give nothing away.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const UPSERT: (&str, &str) = ("x-ms-documentdb-is-upsert", "true");
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "true");

fn item(n: u32) -> Value {
    json!({"id": "a", "pk": "p", "n": n})
}

/// The figures, each by its name and labels, after a check of the format (Prometheus text, version 0.0.4).
fn figures(client: &mut Client) -> HashMap<String, f64> {
    let answer = client.get("/metrics", &[]).expect_status(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let text = answer.text();
    assert!(text.ends_with('\n'));
    let mut figures = HashMap::new();
    let (mut family, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("words");
            assert!(!words.is_empty());
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(helped, name, "what it is comes first");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = name.to_owned();
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(name.starts_with(&family), "{line} is not of {family}");
            assert!(figures.insert(name.to_owned(), value).is_none(), "{line} is there twice");
        }
    }
    figures
}

fn requests(operation: &str, status: u16) -> String {
    format!("etagdb_http_requests_total{{operation=\"{operation}\",status=\"{status}\"}}")
}

#[test]
fn every_answer_is_counted_by_operation_and_status() {
    let host = Host::start();
    let mut client = host.with_container();
    let stale = ("if-match", "\"x\"");
    client.create(&item(1)).expect_status(201);
    client.create(&item(1)).expect_status(409);
    client.post(ITEMS, &[KEY, UPSERT], &item(2)).expect_status(200);
    client.put(ITEM, &[KEY, stale], &item(3)).expect_status(412);
    client.put(ITEM, &[KEY], &item(3)).expect_status(200);
    for _ in 0..3 {
        client.get(ITEM, &[KEY]).expect_status(200);
    }
    client.get("/dbs/d/colls/c/docs/none", &[KEY]).expect_status(404);
    client.send("PATCH", ITEM, &[KEY], br#"[{"op":"incr","path":"/n","value":1}]"#).expect_status(200);
    client.query("SELECT * FROM c", &[]).expect_status(200);
    client.get(ITEMS, &[]).expect_status(200);
    client.get(ITEMS, &[("a-im", "Incremental Feed")]).expect_status(200);
    let batch = json!([{"operationType": "Create", "resourceBody": item(1)}]);
    client.post(ITEMS, &[KEY, BATCH], &batch).expect_status(207);
    client.get("/nothing", &[]).expect_status(404);
    client.get("/dbs", &[("authorization", "junk")]).expect_status(401);
    client.delete(ITEM, &[KEY]).expect_status(204);
    let named = ("idempotency-key", "k");
    client.post(ITEMS, &[KEY, named], &item(1)).expect_status(201);
    client.post(ITEMS, &[KEY, named], &item(1)).expect_status(201);

    let figures = figures(&mut client);
    for (operation, status, count) in [
        ("create", 201, 3.0),
        ("create", 409, 1.0),
        ("upsert", 200, 1.0),
        ("replace", 412, 1.0),
        ("replace", 200, 1.0),
        ("read", 200, 3.0),
        ("read", 404, 1.0),
        ("patch", 200, 1.0),
        ("query", 200, 1.0),
        ("list", 200, 1.0),
        ("changes", 200, 1.0),
        ("batch", 207, 1.0),
        ("unknown", 404, 1.0),
        ("unknown", 401, 1.0),
        ("delete", 204, 1.0),
        ("containers", 201, 1.0),
    ] {
        assert_eq!(figures.get(&requests(operation, status)), Some(&count), "{operation} {status}: {figures:?}");
    }
    assert_eq!(figures["etagdb_conflicts_total{kind=\"exists\"}"], 2.0, "one of them in a batch");
    assert_eq!(figures["etagdb_conflicts_total{kind=\"precondition\"}"], 1.0);
    assert_eq!(figures["etagdb_idempotent_replays_total"], 1.0);
    assert_eq!(figures["etagdb_http_request_seconds_count{operation=\"read\"}"], 4.0);
    assert_eq!(figures["etagdb_http_request_seconds_bucket{operation=\"read\",le=\"+Inf\"}"], 4.0);
    assert_eq!(figures["etagdb_http_connections"], 1.0);
}

#[test]
fn the_stores_figures_move_with_it() {
    let host = Host::start();
    let mut client = host.with_container();
    let before = figures(&mut client);
    client.create(&item(1)).expect_status(201);
    client.get(ITEM, &[KEY]).expect_status(200);
    let after = figures(&mut client);
    for name in [
        "etagdb_last_commit",
        "etagdb_commits_total",
        "etagdb_commit_groups_total",
        "etagdb_commit_groups_seconds_total",
        "etagdb_commit_group_size_count",
        "etagdb_sync_seconds_sum",
        "etagdb_document_cache_hits_total",
    ] {
        assert!(after[name] > before[name], "{name}: {} and then {}", before[name], after[name]);
    }
    assert_eq!((after["etagdb_writable"], after["etagdb_pins{kind=\"snapshot\"}"]), (1.0, 0.0));
    for name in ["etagdb_watermark", "etagdb_watermark_age_seconds", "etagdb_versions", "etagdb_versions_bytes"] {
        assert!(after[name] >= 0.0, "{name}");
    }
}

/// With the log at its most talkative, in clear text and over HTTP/2.
#[test]
fn the_log_says_what_was_done_and_gives_nothing_away() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("log");
    let key = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
    let shell = format!("exec 2>'{}'; export ETAGDB_LOG=trace", log.display());
    let served = Served::start_under(&shell, &["--log", "json", "--key", key]);
    let mut client = Client::of(served.address());
    client.make_container();
    client.create(&json!({"id": "a", "pk": "p", "card": "4929 1234"})).expect_status(201);
    let request = client.request("GET", ITEM, &[KEY, ("x-other", "a password")], b"");
    let request = String::from_utf8(request).expect("text");
    let signature = request.lines().find_map(|line| line.strip_prefix("authorization: ")).expect("a signature");
    client.raw(request.as_bytes());
    client.answer("GET").expect_status(200);
    over_http2(served.address(), signature);
    assert!(served.stop().success());
    let text = std::fs::read_to_string(&log).expect("the log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let read = lines.iter().find(|line| line["operation"] == "read").expect("the read is logged");
    assert_eq!((&read["status"], &read["path"], &read["method"]), (&json!(200), &json!(ITEM), &json!("GET")));
    assert!(read["activity"].is_string() && read["micros"].is_u64(), "{read}");
    for secret in [&key[..20], signature, "sig%3D", "sig=", "4929 1234", "a password"] {
        assert!(!text.contains(secret), "{secret:?} is in the log");
    }
}

/// Sends one request over HTTP/2, whose library has much to say at that level.
fn over_http2(address: std::net::SocketAddr, authorization: &str) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let driving = tokio::spawn(connection);
        let request = http::Request::get(format!("http://{address}/dbs"))
            .header("authorization", authorization)
            .header("x-other", "a password")
            .body(())
            .expect("a request");
        let (response, _) = requests.send_request(request, true).expect("the request is sent");
        assert_eq!(response.await.expect("an answer").status(), 401, "the signature is of another path");
        drop(requests);
        driving.await.expect("the connection ends").ok();
    });
}
