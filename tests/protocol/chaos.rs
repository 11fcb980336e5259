//! Fault injection: each fault does what it says and no more, and none can be had from a server that was not asked to.

use std::io::ErrorKind;

use etagdb_server::Config;
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

fn item(n: u32) -> Value {
    json!({"id": "a", "pk": "p", "n": n})
}

fn host(chaos: &str) -> Host {
    let chaos = Some(chaos.parse().expect("faults"));
    Host::start_with(Config { chaos, ..Config::default() })
}

fn fault(name: &str) -> (&str, &str) {
    ("x-etagdb-chaos", name)
}

#[test]
fn without_the_setting_the_header_means_nothing() {
    let host = Host::start();
    let mut client = host.with_container();
    for name in ["503", "429", "delay:60000ms", "reset", "drop", "junk"] {
        let answer = client.post(ITEMS, &[KEY, fault(name), ("x-ms-documentdb-is-upsert", "true")], &item(1));
        assert!(answer.status == 200 || answer.status == 201, "{answer:?}");
        assert_eq!(answer.header("x-etagdb-chaos"), None);
    }
}

#[test]
fn a_refusal_on_request_carries_nothing_out() {
    let host = host("");
    let mut client = host.with_container();
    for (name, status, code) in [
        ("408", 408, "RequestTimeout"),
        ("412", 412, "PreconditionFailed"),
        ("429", 429, "TooManyRequests"),
        ("449", 449, "RetryWith"),
        ("503", 503, "ServiceUnavailable"),
    ] {
        let answer = client.post(ITEMS, &[KEY, fault(name)], &item(1)).expect_error(status, code, "Fault injection");
        assert!(answer.header("x-etagdb-chaos").is_some_and(|shown| shown.starts_with(name)), "{answer:?}");
        let wait = matches!(status, 429 | 449).then_some("10");
        assert_eq!(answer.header("x-ms-retry-after-ms"), wait);
        client.get(ITEM, &[KEY]).expect_status(404);
    }
    let answer = client.get("/dbs", &[fault("429:250ms")]).expect_status(429).expect_substatus("3200");
    assert_eq!(answer.header("x-ms-retry-after-ms"), Some("250"));
    client.get("/dbs", &[fault("junk")]).expect_error(400, "BadRequest", "x-etagdb-chaos");
    // Who may not ask for anything may not ask for a fault either.
    client.get("/dbs", &[fault("503"), ("authorization", "junk")]).expect_status(401);
    client.get("/health", &[]).expect_status(200);
}

#[test]
fn a_delayed_request_is_carried_out() {
    let host = host("");
    let mut client = host.with_container();
    let answer = client.post(ITEMS, &[KEY, fault("delay:1ms")], &item(1)).expect_status(201);
    assert_eq!(answer.header("x-etagdb-chaos"), Some("delay:1ms"));
    assert_eq!(client.get(ITEM, &[KEY]).etag(), answer.etag());
}

#[test]
fn a_reset_carries_nothing_out_and_a_drop_does() {
    let host = host("");
    let mut client = host.with_container();
    for (name, n, before, after) in [("reset", 1, 404, 404), ("drop", 2, 404, 200)] {
        client.get(ITEM, &[KEY]).expect_status(before);
        let mut victim = host.connect();
        let request = victim.request("POST", ITEMS, &[KEY, fault(name)], item(n).to_string().as_bytes());
        victim.raw(&request);
        assert_eq!(victim.read_failure(), Some(ErrorKind::ConnectionReset), "{name}: no answer, and no orderly close");
        client.get(ITEM, &[KEY]).expect_status(after);
    }
    assert_eq!(client.get(ITEM, &[KEY]).json()["n"], 2);
}

/// What the guard is for: the client does not know whether its write was done, asks again, and it was done once.
#[test]
fn a_write_whose_answer_was_dropped_is_answered_when_it_is_sent_again() {
    let host = host("");
    let mut client = host.with_container();
    let named = ("idempotency-key", "k");
    let mut victim = host.connect();
    let request = victim.request("POST", ITEMS, &[KEY, named, fault("drop")], item(1).to_string().as_bytes());
    victim.raw(&request);
    assert_eq!(victim.read_failure(), Some(ErrorKind::ConnectionReset));
    let current = client.get(ITEM, &[KEY]).expect_status(200).etag();
    let again = client.post(ITEMS, &[KEY, named], &item(1)).expect_status(201);
    assert_eq!((again.etag(), again.header("idempotency-replayed")), (current, Some("true")));
}

#[test]
fn rates_are_for_requests_about_items() {
    let host = host("412=1");
    let mut client = host.with_container();
    client.get("/dbs/d/colls/c", &[]).expect_status(200);
    client.get("/dbs/d/colls/c/pkranges", &[]).expect_status(200);
    client.create(&item(1)).expect_error(412, "PreconditionFailed", "Fault injection");
    client.get(ITEM, &[KEY]).expect_status(412);
    client.get("/health", &[]).expect_status(200);
    client.get("/metrics", &[]).expect_status(200);
}

#[test]
fn a_fraction_of_requests_is_refused() {
    let host = host("503=0.5,seed=1");
    let mut client = host.with_container();
    let statuses: Vec<u16> = (0..100).map(|_| client.get(ITEM, &[KEY]).status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!((20..80).contains(&refused), "{refused} of 100");
    assert!(statuses.iter().all(|status| matches!(status, 404 | 503)), "{statuses:?}");
}

#[test]
fn the_flag_turns_it_on_with_rates_or_without() {
    for (flag, status, asked) in [("--chaos", 404, 503), ("--chaos=412=1", 412, 503)] {
        let served = Served::start_with(&[flag]);
        let mut client = Client::of(served.address());
        client.make_container();
        client.get(ITEM, &[KEY]).expect_status(status);
        client.get(ITEM, &[KEY, fault("503")]).expect_status(asked);
        assert!(served.stop().success());
    }
}
