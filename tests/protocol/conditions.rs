//! Optimistic concurrency over HTTP: every operation with every condition, on an item that is there and one that is not.

use serde_json::{Value, json};

use crate::support::{Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

fn body() -> Value {
    json!({"id": "a", "pk": "p", "n": 1})
}

/// An operation, and the statuses it has for each condition: none, the current etag, a stale one, junk, `*`.
struct Row {
    name: &'static str,
    send: fn(&mut Client, Option<(&str, &str)>) -> u16,
    header: &'static str,
    present: [u16; 5],
    absent: [u16; 5],
}

fn with<'a>(headers: &[(&'a str, &'a str)], condition: Option<(&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    headers.iter().copied().chain(condition).collect()
}

fn read(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    client.get(ITEM, &with(&[KEY], condition)).status
}

fn create(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    client.post(ITEMS, &with(&[KEY], condition), &body()).status
}

fn upsert(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    client.post(ITEMS, &with(&[KEY, ("x-ms-documentdb-is-upsert", "True")], condition), &body()).status
}

fn replace(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    client.put(ITEM, &with(&[KEY], condition), &body()).status
}

fn delete(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    client.delete(ITEM, &with(&[KEY], condition)).status
}

fn patch(client: &mut Client, condition: Option<(&str, &str)>) -> u16 {
    let operations = json!([{"op": "set", "path": "/n", "value": 2}]).to_string();
    client.send("PATCH", ITEM, &with(&[KEY], condition), operations.as_bytes()).status
}

#[test]
fn every_operation_with_every_condition() {
    let guarded = |name, send, done| Row {
        name,
        send,
        header: "if-match",
        present: [done, done, 412, 412, done],
        absent: [404; 5],
    };
    let unguarded =
        |name, send, header, present, absent| Row { name, send, header, present: [present; 5], absent: [absent; 5] };
    let rows = [
        Row { name: "read", send: read, header: "if-none-match", present: [200, 304, 200, 200, 304], absent: [404; 5] },
        unguarded("read", read, "if-match", 200, 404),
        unguarded("create", create, "if-match", 409, 201),
        unguarded("create", create, "if-none-match", 409, 201),
        guarded("replace", replace as fn(&mut Client, Option<(&str, &str)>) -> u16, 200),
        unguarded("replace", replace, "if-none-match", 200, 404),
        guarded("delete", delete, 204),
        unguarded("delete", delete, "if-none-match", 204, 404),
        guarded("patch", patch, 200),
        unguarded("patch", patch, "if-none-match", 200, 404),
        Row { name: "upsert", send: upsert, header: "if-match", present: [200, 200, 412, 412, 200], absent: [201; 5] },
        unguarded("upsert", upsert, "if-none-match", 200, 201),
    ];
    let host = Host::start();
    let mut client = host.with_container();
    for row in &rows {
        for present in [true, false] {
            for (column, expected) in (if present { row.present } else { row.absent }).into_iter().enumerate() {
                client.delete(ITEM, &[KEY]);
                let stale = client.create(&body()).expect_status(201).etag();
                let current = client.put(ITEM, &[KEY], &body()).expect_status(200).etag();
                if !present {
                    client.delete(ITEM, &[KEY]).expect_status(204);
                }
                let value =
                    [None, Some(current.as_str()), Some(stale.as_str()), Some("incorrectEtag"), Some("*")][column];
                let status = (row.send)(&mut client, value.map(|value| (row.header, value)));
                assert_eq!(status, expected, "{} with {}: {value:?}, item there: {present}", row.name, row.header);
            }
        }
    }
}

#[test]
fn an_etag_is_compared_as_the_string_it_was_sent_as() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "quotes are part of it: {etag}");
    let bare = etag.trim_matches('"').to_owned();
    let variants = [
        bare.clone(),
        etag.to_uppercase(),
        format!("W/{etag}"),
        format!("{etag}, {etag}"),
        format!("\"{}\"", "0".repeat(36)),
        "\"".to_owned(),
        "é".to_owned(),
        "x".repeat(5000),
    ];
    for junk in &variants {
        client.put(ITEM, &[KEY, ("if-match", junk)], &body()).expect_error(412, "PreconditionFailed", "pre-condition");
        client.get(ITEM, &[KEY, ("if-none-match", junk)]).expect_status(200);
    }
    client.put(ITEM, &[KEY, ("if-match", &etag), ("if-match", &etag)], &body()).expect_status(412);
    client.put(ITEM, &[KEY, ("if-match", &etag)], &body()).expect_status(200);
}

#[test]
fn a_refusal_names_the_current_etag() {
    let host = Host::start();
    let mut client = host.with_container();
    let stale = client.create(&body()).expect_status(201).etag();
    let current = client.put(ITEM, &[KEY], &body()).expect_status(200).etag();
    let conflict = client.create(&body()).expect_error(409, "Conflict", "already exists");
    assert_eq!(conflict.etag(), current);
    let refused = client.put(ITEM, &[KEY, ("if-match", &stale)], &body()).expect_status(412);
    assert_eq!(refused.etag(), current);
    assert!(refused.header("x-ms-session-token").is_some());
    let condition =
        json!({"condition": "from c where c.n = 7", "operations": [{"op": "set", "path": "/n", "value": 8}]});
    let refused = client.send("PATCH", ITEM, &[KEY], condition.to_string().as_bytes()).expect_status(412);
    assert_eq!(refused.etag(), current);
}

#[test]
fn every_write_has_a_new_etag_and_the_body_says_the_same_as_the_header() {
    let host = Host::start();
    let mut client = host.with_container();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let created = client.create(&body()).expect_status(201);
        assert_eq!(created.json()["_etag"], created.etag());
        seen.push(created.etag());
        let replaced = client.put(ITEM, &[KEY], &body()).expect_status(200);
        assert_eq!(replaced.json()["_etag"], replaced.etag());
        seen.push(replaced.etag());
        client.delete(ITEM, &[KEY]).expect_status(204);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "delete and recreate give no etag a second time");
}

#[test]
fn not_modified_has_no_body_and_keeps_its_headers() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let read = client.get(ITEM, &[KEY, ("if-none-match", &etag)]).expect_status(304);
    assert_eq!((read.etag(), read.header("content-length")), (etag.clone(), None));
    assert!(read.header("x-ms-session-token").is_some());
    client.expect_alive();
}

#[test]
fn if_modified_since_counts_only_without_if_none_match() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let later = ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT");
    client.get(ITEM, &[KEY, later]).expect_status(304);
    client.get(ITEM, &[KEY, ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")]).expect_status(200);
    client.get(ITEM, &[KEY, ("if-modified-since", "yesterday")]).expect_status(200);
    client.get(ITEM, &[KEY, later, ("if-none-match", "\"other\"")]).expect_status(200);
    client
        .get(ITEM, &[KEY, ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT"), ("if-none-match", &etag)])
        .expect_status(304);
}

#[test]
fn databases_and_containers_take_no_notice_of_conditions() {
    let host = Host::start();
    let mut client = host.with_container();
    let random = ("if-match", "\"9c1ed2f0-0000-0000-0000-000000000000\"");
    client.get("/dbs/d", &[random]).expect_status(200);
    let container =
        json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}, "defaultTtl": 60});
    client.put("/dbs/d/colls/c", &[random], &container).expect_status(200);
    client.delete("/dbs/d/colls/c", &[random]).expect_status(204);
    client.delete("/dbs/d", &[random]).expect_status(204);
}

#[test]
fn one_of_many_writers_with_the_same_etag_wins() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|_| {
                let (host, etag) = (&host, &etag);
                scope.spawn(move || host.connect().put(ITEM, &[KEY, ("if-match", etag)], &body()).status)
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
}

#[test]
fn minimal_answers_have_the_etag_and_no_body() {
    let host = Host::start();
    let mut client = host.with_container();
    let minimal = ("prefer", "return=minimal");
    let created = client.post(ITEMS, &[KEY, minimal], &body()).expect_status(201);
    assert_eq!((created.body.len(), created.header("content-type")), (0, None));
    let replaced = client.put(ITEM, &[KEY, minimal, ("if-match", &created.etag())], &body()).expect_status(200);
    assert!(replaced.body.is_empty());
    assert_ne!(replaced.etag(), created.etag());
}
