//! Reads of the past over HTTP: an item, a feed and a query as of an etag, a commit or a time; an item's versions.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Answer, Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const VERSIONS: (&str, &str) = ("x-etagdb-versions", "true");

fn item(n: u32) -> Value {
    json!({"id": "a", "pk": "p", "n": n})
}

/// Creates, replaces, deletes and creates an item again. Returns the answers of the three writes of a body.
fn four_versions(client: &mut Client) -> [Answer; 3] {
    let first = client.create(&item(1)).expect_status(201);
    let second = client.put(ITEM, &[KEY], &item(2)).expect_status(200);
    client.delete(ITEM, &[KEY]).expect_status(204);
    [first, second, client.create(&item(3)).expect_status(201)]
}

fn as_of(client: &mut Client, value: &str) -> Answer {
    client.get(ITEM, &[KEY, ("x-etagdb-as-of", value)])
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {header}: {answer:?}"))
}

#[test]
fn an_item_is_read_as_of_each_of_its_etags() {
    let host = Host::start();
    let mut client = host.with_container();
    for written in four_versions(&mut client) {
        let read = as_of(&mut client, &written.etag()).expect_status(200);
        assert_eq!((read.etag(), read.json()), (written.etag(), written.json()), "system properties included");
    }
    // The same after a restart: it is on disk, not in memory.
    let host = host.restart();
    let mut client = host.connect();
    let versions = client.get(ITEM, &[KEY, VERSIONS]).expect_status(200).json();
    let first = versions["Versions"][3]["_etag"].as_str().expect("an etag").to_owned();
    assert_eq!(as_of(&mut client, &first).expect_status(200).json()["n"], 1);
}

#[test]
fn an_item_is_read_as_of_a_commit() {
    let host = Host::start();
    let mut client = host.with_container();
    let [first, second, third] = four_versions(&mut client).map(|written| number(&written, "x-ms-item-lsn"));
    for (seq, expected) in
        [(first - 1, None), (first, Some(1)), (second, Some(2)), (second + 1, None), (third, Some(3))]
    {
        let read = as_of(&mut client, &seq.to_string());
        match expected {
            Some(n) => assert_eq!(read.expect_status(200).json()["n"], n, "as of {seq}"),
            None => drop(read.expect_error(404, "NotFound", "does not exist")),
        }
    }
    as_of(&mut client, &(third + 1).to_string()).expect_error(400, "BadRequest", "commit");
}

#[test]
fn an_item_is_read_as_of_a_time() {
    let host = Host::start();
    let mut client = host.with_container();
    let [.., last] = four_versions(&mut client);
    for time in ["1999-12-31T23:59:59.999Z", "Fri, 31 Dec 1999 23:59:59 GMT"] {
        as_of(&mut client, time).expect_error(404, "NotFound", "does not exist");
    }
    as_of(&mut client, "2999-01-01T00:00:00Z").expect_error(400, "BadRequest", "still to come");
    // The list of versions says to the millisecond when each was written; the newest of that moment is read.
    let versions = client.get(ITEM, &[KEY, VERSIONS]).expect_status(200).json();
    let millis = versions["Versions"][0]["timeMs"].as_u64().expect("milliseconds");
    let read = as_of(&mut client, &rfc3339(millis)).expect_status(200);
    assert_eq!((read.etag(), read.json()), (last.etag(), last.json()));
}

/// A time as RFC 3339 writes it, made of what HTTP writes: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn rfc3339(millis: u64) -> String {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(millis));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + months.iter().position(|month| *month == &text[8..11]).expect("a month");
    format!("{}-{month:02}-{}T{}.{:03}Z", &text[12..16], &text[5..7], &text[17..25], millis % 1000)
}

#[test]
fn conditions_are_judged_against_the_version_that_is_read() {
    let host = Host::start();
    let mut client = host.with_container();
    let [first, _, third] = four_versions(&mut client);
    let at = ("x-etagdb-as-of", &*first.etag());
    client.get(ITEM, &[KEY, at, ("if-none-match", &first.etag())]).expect_status(304);
    client.get(ITEM, &[KEY, at, ("if-none-match", &third.etag())]).expect_status(200);
}

#[test]
fn the_list_of_versions_has_every_write_and_delete_newest_first() {
    let host = Host::start();
    let mut client = host.with_container();
    let [first, second, third] = four_versions(&mut client);
    let answer = client.get(ITEM, &[KEY, VERSIONS]).expect_status(200);
    let list = answer.json();
    assert_eq!((list["_count"].clone(), answer.header("x-ms-item-count")), (json!(4), Some("4")));
    let entries = list["Versions"].as_array().expect("versions");
    let etags: Vec<&str> = entries.iter().map(|entry| entry["_etag"].as_str().expect("an etag")).collect();
    assert_eq!((etags[0], etags[2], etags[3]), (&*third.etag(), &*second.etag(), &*first.etag()));
    let deleted: Vec<bool> = entries.iter().map(|entry| entry["deleted"] == json!(true)).collect();
    assert_eq!(deleted, [false, true, false, false]);
    // As of the deletion there is nothing to read.
    as_of(&mut client, etags[1]).expect_status(404);
    for pair in entries.windows(2) {
        assert_eq!(pair[0]["previousLsn"], pair[1]["_lsn"], "each names the one before it");
    }
    assert_eq!(entries[3]["previousLsn"], json!(null));
    assert_eq!(entries[1]["bodyBytes"], 0);
    // Also of an item that is not there any more, and not of one that never was.
    client.delete(ITEM, &[KEY]).expect_status(204);
    assert_eq!(client.get(ITEM, &[KEY, VERSIONS]).expect_status(200).json()["_count"], 5);
    client.get("/dbs/d/colls/c/docs/never", &[KEY, VERSIONS]).expect_error(404, "NotFound", "never existed");
}

#[test]
fn the_list_of_versions_comes_in_pages() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item(0)).expect_status(201);
    for n in 1..7 {
        client.put(ITEM, &[KEY], &item(n)).expect_status(200);
    }
    let size = ("x-ms-max-item-count", "3");
    let mut answer = client.get(ITEM, &[KEY, VERSIONS, size]).expect_status(200);
    let mut seen = Vec::new();
    loop {
        let page = answer.json()["Versions"].as_array().expect("versions").clone();
        seen.extend(page.iter().map(|entry| entry["_lsn"].as_u64().expect("a sequence")));
        let Some(token) = answer.header("x-ms-continuation").map(str::to_owned) else { break };
        // A write between the pages does not show, and moves nothing.
        client.put(ITEM, &[KEY], &item(100)).expect_status(200);
        answer = client.get(ITEM, &[KEY, VERSIONS, size, ("x-ms-continuation", &token)]).expect_status(200);
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
}

#[test]
fn feeds_and_queries_read_one_state_of_the_past() {
    let host = Host::start();
    let mut client = host.with_container();
    for id in 0..5 {
        client.create(&json!({"id": id.to_string(), "pk": "p", "n": id})).expect_status(201);
    }
    let then = client.get(ITEMS, &[]).expect_status(200);
    let seq = number(&then, "lsn").to_string();
    client.delete("/dbs/d/colls/c/docs/0", &[KEY]).expect_status(204);
    client.put("/dbs/d/colls/c/docs/1", &[KEY], &json!({"id": "1", "pk": "p", "n": 100})).expect_status(200);
    client.create(&json!({"id": "9", "pk": "p", "n": 9})).expect_status(201);
    let at = ("x-etagdb-as-of", seq.as_str());
    assert_eq!(client.get(ITEMS, &[at]).expect_status(200).json(), then.json());
    // Page by page, the header repeated or not.
    let size = ("x-ms-max-item-count", "2");
    let page = client.get(ITEMS, &[at, size]).expect_status(200);
    let token = page.header("x-ms-continuation").expect("more pages").to_owned();
    let next = client.get(ITEMS, &[size, ("x-ms-continuation", &token)]).expect_status(200);
    assert_eq!(next.json()["Documents"], json!(then.json()["Documents"].as_array().expect("items")[2..4]));
    for (query, past, now) in [
        ("SELECT VALUE c.n FROM c WHERE c.id = '1'", json!([1]), json!([100])),
        ("SELECT VALUE SUM(c.n) FROM c", json!([10]), json!([118])),
        ("SELECT VALUE c.n FROM c ORDER BY c.n DESC", json!([4, 3, 2, 1, 0]), json!([100, 9, 4, 3, 2])),
    ] {
        assert_eq!(client.query(query, &[at]).expect_status(200).json()["Documents"], past, "{query}");
        assert_eq!(client.query(query, &[]).expect_status(200).json()["Documents"], now, "{query}");
    }
}

#[test]
fn what_is_no_state_of_this_store_is_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&item(1)).expect_status(201).etag();
    let other = client.create(&json!({"id": "b", "pk": "p"})).expect_status(201).etag();
    as_of(&mut client, &other).expect_error(404, "NotFound", "names no version of this item");
    let foreign = "\"01234567-89ab-cdef-0000-000000000029\"";
    as_of(&mut client, foreign).expect_error(404, "NotFound", "names no version of this item");
    client.get(ITEMS, &[("x-etagdb-as-of", foreign)]).expect_error(400, "BadRequest", "etag");
    for junk in ["", "now", etag.trim_matches('"'), "\"x\"", "1.5"] {
        as_of(&mut client, junk).expect_error(400, "BadRequest", "x-etagdb-as-of");
        client.expect_alive();
    }
    let at = ("x-etagdb-as-of", etag.as_str());
    client.put(ITEM, &[KEY, at], &item(2)).expect_error(400, "BadRequest", "x-etagdb-as-of");
    client.post(ITEMS, &[KEY, at], &item(2)).expect_error(400, "BadRequest", "x-etagdb-as-of");
    client.delete(ITEM, &[KEY, at]).expect_error(400, "BadRequest", "x-etagdb-as-of");
    client.get(ITEMS, &[at, ("a-im", "Incremental Feed")]).expect_error(400, "BadRequest", "x-etagdb-as-of");
    client.get(ITEM, &[KEY, at, VERSIONS]).expect_error(400, "BadRequest", "x-etagdb-versions");
    assert_eq!(client.get(ITEM, &[KEY]).etag(), etag, "nothing was written");
}
