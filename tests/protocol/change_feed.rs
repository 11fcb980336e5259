//! The change feed over HTTP: both modes, where they start and go on, and waiting for the next change.

use std::thread;

use etagdb_server::Config;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Clock, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const FULL: (&str, &str) = ("a-im", "Full-Fidelity Feed");
const LATEST: (&str, &str) = ("a-im", "Incremental Feed");
const NOW: (&str, &str) = ("if-none-match", "*");

fn documents(answer: &Answer) -> Vec<Value> {
    answer.json()["Documents"].as_array().expect("documents").clone()
}

fn ids(answer: &Answer) -> Vec<String> {
    documents(answer).iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

/// Creates `i00` to `i04` with the partition keys p0, p1, p2, p0, p1.
fn fill(client: &mut Client) {
    for index in 0..5 {
        client
            .create(&json!({"id": format!("i{index:02}"), "pk": format!("p{}", index % 3), "n": index}))
            .expect_status(201);
    }
}

#[test]
fn the_change_feed_shows_each_item_once_in_the_order_of_its_last_write() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client);
    let feed = ("a-im", "Incremental Feed");
    let key = ("x-ms-documentdb-partitionkey", "[\"p1\"]");
    client.put("/dbs/d/colls/c/docs/i01", &[key], &json!({"id": "i01", "pk": "p1", "n": 9})).expect_status(200);
    client.delete("/dbs/d/colls/c/docs/i04", &[key]).expect_status(204);
    let mut seen = Vec::new();
    let mut position: Option<String> = None;
    loop {
        let mut headers = vec![feed, ("x-ms-max-item-count", "2")];
        headers.extend(position.as_deref().map(|position| ("if-none-match", position)));
        let answer = client.get(ITEMS, &headers);
        position = Some(answer.etag());
        if answer.status == 304 {
            break;
        }
        seen.extend(ids(&answer.expect_status(200)));
    }
    assert_eq!(seen, ["i00", "i02", "i03", "i01"]);
    let position = position.expect("a position");
    client.get(ITEMS, &[feed, ("if-none-match", "*")]).expect_status(304);
    client.create(&json!({"id": "new", "pk": "p1"})).expect_status(201);
    let next = client.get(ITEMS, &[feed, ("if-none-match", &position)]).expect_status(200);
    assert_eq!(ids(&next), ["new"]);
    let one = client.get(ITEMS, &[feed, key]).expect_status(200);
    assert_eq!(ids(&one), ["i01", "new"]);
    let wire = ("x-ms-cosmos-changefeed-wire-format-version", "2021-09-15");
    let wrapped = client.get(ITEMS, &[feed, wire, ("if-none-match", &position)]).expect_status(200).json();
    assert_eq!(wrapped["Documents"][0]["current"]["id"], "new");
    let future = ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT");
    client.get(ITEMS, &[feed, future]).expect_status(304);
    client.get(ITEMS, &[feed, ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")]).expect_status(200);
    client.get(ITEMS, &[feed, ("if-none-match", "junk")]).expect_error(400, "BadRequest", "position");
    client.get(ITEMS, &[feed, ("if-none-match", "\"99999\"")]).expect_error(400, "BadRequest", "ahead");
    client.get(ITEMS, &[("a-im", "Feed")]).expect_error(400, "BadRequest", "'Incremental Feed'");
}

/// An entry without what differs from run to run.
fn outline(entry: &Value) -> Value {
    let metadata = &entry["metadata"];
    json!([metadata["operationType"], entry["current"]["n"], entry["previous"]["n"]])
}

#[test]
fn all_versions_and_deletes_are_told_with_what_was_before() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "before", "pk": "p"})).expect_status(201);
    let start = client.get(ITEMS, &[FULL, NOW]).expect_status(304).etag();
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    let path = "/dbs/d/colls/c/docs/a";
    let created = client.create(&json!({"id": "a", "pk": "p", "n": 1})).expect_status(201);
    let replaced = client.put(path, &[key], &json!({"id": "a", "pk": "p", "n": 2})).expect_status(200);
    client.delete(path, &[key]).expect_status(204);
    client.create(&json!({"id": "a", "pk": "p", "n": 3})).expect_status(201);
    client.create(&json!({"id": "b", "pk": "q", "n": 4})).expect_status(201);

    let told = client.get(ITEMS, &[FULL, ("if-none-match", &start)]).expect_status(200);
    let entries = documents(&told);
    assert_eq!(
        entries.iter().map(outline).collect::<Vec<_>>(),
        [
            json!(["create", 1, null]),
            json!(["replace", 2, 1]),
            json!(["delete", null, 2]),
            json!(["create", 3, null]),
            json!(["create", 4, null])
        ]
    );
    assert_eq!(entries[0]["current"], created.json(), "the version as the write answered it");
    assert_eq!(entries[1]["previous"], created.json());
    assert_eq!(entries[2]["previous"], replaced.json());
    assert_eq!(entries[2]["current"], json!({}));
    let metadata = &entries[2]["metadata"];
    assert_eq!((&metadata["id"], &metadata["partitionKey"]), (&json!("a"), &json!(["p"])));
    assert_eq!(metadata["timeToLiveExpired"], json!(false));
    assert_eq!(metadata["previousImageLSN"], entries[1]["metadata"]["lsn"]);
    assert!(metadata["crts"].as_u64().expect("seconds") > 1_700_000_000);
    let numbers: Vec<u64> = entries.iter().map(|entry| entry["metadata"]["lsn"].as_u64().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    // One partition key alone, in pages, going on after a restart.
    let mut position = start;
    let mut seen = Vec::new();
    drop(client);
    let mut host = host;
    loop {
        host = host.restart();
        let headers = [FULL, key, ("if-none-match", position.as_str()), ("x-ms-max-item-count", "3")];
        let page = host.connect().get(ITEMS, &headers);
        position = page.etag();
        if page.status == 304 {
            break;
        }
        seen.extend(documents(&page).iter().map(outline));
    }
    assert_eq!(json!(seen), json!([["create", 1, null], ["replace", 2, 1], ["delete", null, 2], ["create", 3, null]]));
}

#[test]
fn all_versions_start_from_now_or_a_position_only() {
    let host = Host::start();
    let mut client = host.with_container();
    client.get(ITEMS, &[FULL]).expect_error(400, "BadRequest", "starts from now");
    let time = ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT");
    client.get(ITEMS, &[FULL, time]).expect_error(400, "BadRequest", "starts from now");
    client.get(ITEMS, &[FULL, ("if-none-match", "\"99999\"")]).expect_error(400, "BadRequest", "ahead");
    client.get(ITEMS, &[FULL, NOW]).expect_status(304);
}

#[test]
fn the_writes_of_a_batch_are_told_on_one_page() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let batch: Vec<Value> = (0..4)
        .map(|n| json!({"operationType": "Create", "resourceBody": {"id": format!("b{n}"), "pk": "p"}}))
        .collect();
    let headers = [("x-ms-documentdb-partitionkey", "[\"p\"]"), ("x-ms-cosmos-is-batch-request", "True")];
    client.post(ITEMS, &headers, &json!(batch)).expect_status(200);
    let first = client.get(ITEMS, &[LATEST, ("x-ms-max-item-count", "2")]).expect_status(200);
    assert_eq!(ids(&first), ["a"]);
    let position = first.etag();
    let second = client.get(ITEMS, &[LATEST, ("if-none-match", &position), ("x-ms-max-item-count", "2")]);
    assert_eq!(ids(&second.expect_status(200)), ["b0", "b1", "b2", "b3"]);
}

/// What others did, and what is gone again, is nothing new, and yet it is behind the reader: the 304 has a new position,
/// from which the next change is found, and from which all versions tell what the latest ones did not show.
#[test]
fn a_304_for_changes_that_are_none_of_the_readers_moves_his_position() {
    let host = Host::start();
    let mut client = host.with_container();
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let start = client.get(ITEMS, &[LATEST, key]).expect_status(200).etag();
    for number in 0..5 {
        client.create(&json!({"id": format!("x{number}"), "pk": "q"})).expect_status(201);
    }
    client.create(&json!({"id": "gone", "pk": "p"})).expect_status(201);
    client.delete("/dbs/d/colls/c/docs/gone", &[key]).expect_status(204);
    let dry = client.get(ITEMS, &[LATEST, key, ("if-none-match", &start)]).expect_status(304);
    assert!(dry.body.is_empty());
    let moved = dry.etag();
    assert_ne!(moved, start);
    let again = client.get(ITEMS, &[LATEST, key, ("if-none-match", &moved)]).expect_status(304);
    assert_eq!(again.etag(), moved, "nothing has happened since");
    let told = client.get(ITEMS, &[FULL, key, ("if-none-match", &start)]).expect_status(200);
    assert_eq!(documents(&told).len(), 2, "made and deleted");
    client.get(ITEMS, &[FULL, key, ("if-none-match", &moved)]).expect_status(304);
    client.create(&json!({"id": "b", "pk": "p"})).expect_status(201);
    for position in [&start, &moved] {
        assert_eq!(ids(&client.get(ITEMS, &[LATEST, key, ("if-none-match", position)]).expect_status(200)), ["b"]);
    }
}

/// A reader whose position is before what retention dropped: the latest versions are all still there.
#[test]
fn what_retention_dropped_is_no_gap_among_the_latest_versions() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = host.with_container();
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    client.create(&json!({"id": "a", "pk": "p", "n": 0})).expect_status(201);
    let start = client.get(ITEMS, &[LATEST]).expect_status(200).etag();
    for n in 1..4 {
        client.put("/dbs/d/colls/c/docs/a", &[key], &json!({"id": "a", "pk": "p", "n": n})).expect_status(200);
    }
    client.create(&json!({"id": "gone", "pk": "p"})).expect_status(201);
    client.delete("/dbs/d/colls/c/docs/gone", &[key]).expect_status(204);
    clock.pass(24 * 60 * 60);
    drop(client);
    let host = host.restart_trimmed(clock);
    assert!(host.store().horizon().get() > 0, "nothing was dropped");
    let mut client = host.connect();
    let since = ("if-none-match", start.as_str());
    let page = client.get(ITEMS, &[LATEST, since]).expect_status(200);
    assert_eq!(documents(&page).iter().map(|item| item["n"].clone()).collect::<Vec<_>>(), [json!(3)]);
    client.get(ITEMS, &[LATEST, ("if-none-match", &page.etag())]).expect_status(304);
    client.get(ITEMS, &[FULL, since]).expect_error(400, "BadRequest", "no longer holds");
}

#[test]
fn a_client_that_prefers_to_wait_is_answered_by_the_next_change() {
    // One request at a time: those that wait must not count, or the write would never get its turn.
    let host = Host::start_with(Config { requests_max: 1, ..Config::default() });
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let position = client.get(ITEMS, &[LATEST]).etag();
    let other = ("x-ms-documentdb-partitionkey", "[\"q\"]");
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    let mut waiting: Vec<Client> = (0..20).map(|_| host.connect()).collect();
    for waiter in &mut waiting {
        let headers = [LATEST, key, ("if-none-match", position.as_str()), ("prefer", "wait=60")];
        let request = waiter.request("GET", ITEMS, &headers, b"");
        waiter.raw(&request);
    }
    // A change of another partition key is none for these.
    client.create(&json!({"id": "x", "pk": "q"})).expect_status(201);
    client.create(&json!({"id": "b", "pk": "p"})).expect_status(201);
    for mut waiter in waiting {
        assert_eq!(ids(&waiter.answer("GET").expect_status(200)), ["b"]);
    }
    assert_eq!(ids(&client.get(ITEMS, &[LATEST, other]).expect_status(200)), ["x"]);
}

#[test]
fn waiting_from_now_on_begins_when_it_was_asked_for() {
    let host = Host::start();
    let mut client = host.with_container();
    let mut waiter = host.connect();
    for mode in [LATEST, FULL] {
        waiter = thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                waiter.get(ITEMS, &[mode, NOW, ("prefer", "respond-async, wait=60")]).expect_status(200);
                waiter
            });
            let mut count = 0;
            while !waiting.is_finished() {
                count += 1;
                client.create(&json!({"id": format!("{}{count}", mode.1), "pk": "p"})).expect_status(201);
            }
            waiting.join().expect("the one who waits is told of a change")
        });
    }
}

#[test]
fn waiting_ends_after_its_time_with_the_position_kept() {
    let host = Host::start();
    let mut client = host.with_container();
    let start = client.get(ITEMS, &[LATEST, NOW]).expect_status(304).etag();
    for wait in ["wait=1", "wait=0", "wait=soon", "wait"] {
        let answer = client.get(ITEMS, &[LATEST, ("if-none-match", &start), ("prefer", wait)]).expect_status(304);
        assert_eq!(answer.etag(), start);
    }
}

#[test]
fn a_container_that_is_deleted_ends_waiting() {
    let host = Host::start();
    let mut client = host.with_container();
    let position = client.get(ITEMS, &[LATEST, NOW]).expect_status(304).etag();
    let mut waiter = host.connect();
    let request = waiter.request("GET", ITEMS, &[LATEST, ("if-none-match", &position), ("prefer", "wait=60")], b"");
    waiter.raw(&request);
    client.delete("/dbs/d/colls/c", &[]).expect_status(204);
    waiter.answer("GET").expect_error(404, "NotFound", "container").expect_substatus("1003");
}

#[test]
fn a_containers_change_feed_policy_is_kept() {
    let host = Host::start();
    let mut client = host.with_container();
    let mut container = json!({"id": "kept", "partitionKey": {"paths": ["/pk"], "kind": "Hash"}});
    container["changeFeedPolicy"] = json!({"retentionDuration": 10});
    let made = client.post("/dbs/d/colls", &[], &container).expect_status(201).json();
    assert_eq!(made["changeFeedPolicy"], json!({"retentionDuration": 10}));
    for wrong in [json!({}), json!({"retentionDuration": "PT1H"}), json!(7)] {
        container["changeFeedPolicy"] = wrong;
        client.post("/dbs/d/colls", &[], &container).expect_error(400, "BadRequest", "changeFeedPolicy");
    }
}
