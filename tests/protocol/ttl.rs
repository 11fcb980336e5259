//! Time to live over HTTP: a container's `defaultTtl` and an item's `ttl`, by a clock that the tests turn.

use serde_json::{Value, json};

use crate::support::{Client, Clock, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

fn definition(default: Option<i64>) -> Value {
    let mut definition = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    if let Some(default) = default {
        definition["defaultTtl"] = default.into();
    }
    definition
}

fn container(host: &Host, default: Option<i64>) -> Client {
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    client.post("/dbs/d/colls", &[], &definition(default)).expect_status(201);
    client
}

fn create(client: &mut Client, id: &str, ttl: Option<i64>) {
    let mut item = json!({"id": id, "pk": "p"});
    if let Some(ttl) = ttl {
        item["ttl"] = ttl.into();
    }
    client.create(&item).expect_status(201);
}

/// The ids of the items that are there, which every way of reading must agree on.
fn there(client: &mut Client) -> Vec<String> {
    let ids = |body: Value| -> Vec<String> {
        let list = body["Documents"].as_array().expect("a list").iter();
        list.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    let listed = ids(client.get(ITEMS, &[]).expect_status(200).json());
    let queried = ids(client.query("SELECT c.id FROM c WHERE c.pk = 'p'", &[]).expect_status(200).json());
    assert_eq!(listed, queried);
    for id in ["stays", "short", "default"] {
        let status = if listed.iter().any(|found| found == id) { 200 } else { 404 };
        client.get(&format!("{ITEMS}/{id}"), &[KEY]).expect_status(status);
    }
    listed
}

#[test]
fn items_expire_as_their_container_and_they_themselves_say() {
    for (default, after_a_minute, after_an_hour) in [
        (None, vec!["default", "short", "stays"], vec!["default", "short", "stays"]),
        (Some(-1), vec!["default", "stays"], vec!["default", "stays"]),
        (Some(3600), vec!["default", "stays"], vec!["stays"]),
    ] {
        let clock = Clock::new();
        let host = Host::timed(clock.clone());
        let mut client = container(&host, default);
        create(&mut client, "default", None);
        create(&mut client, "short", Some(60));
        create(&mut client, "stays", Some(-1));
        assert_eq!(there(&mut client), ["default", "short", "stays"]);
        clock.pass(59);
        assert_eq!(there(&mut client), ["default", "short", "stays"]);
        clock.pass(1);
        assert_eq!(there(&mut client), after_a_minute, "{default:?}");
        clock.pass(3540);
        assert_eq!(there(&mut client), after_an_hour, "{default:?}");
    }
}

#[test]
fn an_expired_item_is_absent_for_every_write() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host, Some(10));
    create(&mut client, "a", None);
    let etag = client.get(&format!("{ITEMS}/a"), &[KEY]).etag();
    clock.pass(10);
    let path = format!("{ITEMS}/a");
    let item = json!({"id": "a", "pk": "p"});
    client.put(&path, &[KEY], &item).expect_status(404);
    client.put(&path, &[KEY, ("if-match", &etag)], &item).expect_status(404);
    client.delete(&path, &[KEY]).expect_status(404);
    let patch = json!([{"op": "set", "path": "/n", "value": 1}]);
    client.send("PATCH", &path, &[KEY], patch.to_string().as_bytes()).expect_status(404);
    let upserted = client.post(ITEMS, &[KEY, ("x-ms-documentdb-is-upsert", "true"), ("if-match", &etag)], &item);
    assert_ne!(upserted.expect_status(201).etag(), etag);
    clock.pass(10);
    create(&mut client, "a", None);
}

#[test]
fn every_write_begins_the_items_life_anew() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host, Some(-1));
    let path = format!("{ITEMS}/short");
    create(&mut client, "short", Some(10));
    clock.pass(9);
    client.put(&path, &[KEY], &json!({"id": "short", "pk": "p", "ttl": 10})).expect_status(200);
    clock.pass(9);
    let patch = json!([{"op": "set", "path": "/ttl", "value": 100}]);
    client.send("PATCH", &path, &[KEY], patch.to_string().as_bytes()).expect_status(200);
    clock.pass(99);
    assert_eq!(there(&mut client), ["short"]);
    let remove = json!([{"op": "remove", "path": "/ttl"}]);
    client.send("PATCH", &path, &[KEY], remove.to_string().as_bytes()).expect_status(200);
    clock.pass(100_000);
    assert_eq!(there(&mut client), ["short"]);
    let wrong = json!([{"op": "set", "path": "/ttl", "value": 0}]);
    client.send("PATCH", &path, &[KEY], wrong.to_string().as_bytes()).expect_error(400, "BadRequest", "ttl");
    let batch = json!([{"operationType": "Upsert", "resourceBody": {"id": "short", "pk": "p", "ttl": 5}}]);
    client.post(ITEMS, &[KEY, ("x-ms-cosmos-is-batch-request", "True")], &batch).expect_status(200);
    clock.pass(5);
    assert!(there(&mut client).is_empty());
}

#[test]
fn a_containers_default_can_be_changed_and_outlives_a_restart() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host, None);
    create(&mut client, "short", Some(60));
    create(&mut client, "default", None);
    clock.pass(100);
    assert_eq!(there(&mut client), ["default", "short"]);
    let put = |client: &mut Client, default| client.put("/dbs/d/colls/c", &[], &definition(default)).expect_status(200);
    assert_eq!(put(&mut client, Some(1000)).json()["defaultTtl"], json!(1000));
    assert_eq!(there(&mut client), ["default"]);
    clock.pass(900);
    assert!(there(&mut client).is_empty());
    create(&mut client, "default", None);
    drop(client);
    // The clock of the next server is the system's, and far from the item's end.
    let host = host.restart();
    let mut client = host.connect();
    assert_eq!(client.get("/dbs/d/colls/c", &[]).json()["defaultTtl"], json!(1000));
    assert_eq!(there(&mut client), ["default"]);
    assert!(put(&mut client, None).json().get("defaultTtl").is_none());
}

#[test]
fn the_feed_of_all_versions_tells_what_expired() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host, Some(10));
    let full = ("a-im", "Full-Fidelity Feed");
    let start = client.get(ITEMS, &[full, ("if-none-match", "*")]).expect_status(304).etag();
    create(&mut client, "a", None);
    clock.pass(10);
    let latest = client.get(ITEMS, &[("a-im", "Incremental Feed")]);
    latest.expect_status(304);
    // The expiry is a commit of its own, made at the latest before the next write of the same item.
    create(&mut client, "a", None);
    let told = client.get(ITEMS, &[full, ("if-none-match", &start)]).expect_status(200).json();
    let told = told["Documents"].as_array().expect("a list");
    let kinds: Vec<_> = told.iter().map(|entry| &entry["metadata"]["operationType"]).collect();
    assert_eq!(kinds, ["create", "delete", "create"]);
    assert_eq!(told[1]["metadata"]["timeToLiveExpired"], json!(true));
    assert_eq!((&told[1]["metadata"]["id"], &told[1]["previous"]["id"]), (&json!("a"), &json!("a")));
}

#[test]
fn a_change_feed_policy_decides_how_long_versions_are_kept() {
    for (minutes, status) in [(None, 400), (Some(60), 200)] {
        let clock = Clock::new();
        let host = Host::timed(clock.clone());
        let mut client = host.connect();
        client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
        let mut definition = definition(None);
        if let Some(minutes) = minutes {
            definition["changeFeedPolicy"] = json!({ "retentionDuration": minutes });
        }
        client.post("/dbs/d/colls", &[], &definition).expect_status(201);
        let full = ("a-im", "Full-Fidelity Feed");
        let start = client.get(ITEMS, &[full, ("if-none-match", "*")]).expect_status(304).etag();
        create(&mut client, "a", None);
        for _ in 0..3 {
            client.put(&format!("{ITEMS}/a"), &[KEY], &json!({"id": "a", "pk": "p"})).expect_status(200);
        }
        clock.pass(30 * 60);
        // What is too old is dropped in the background, and a server that starts anew has done so before long; the
        // test drops it itself.
        let host = host.restart_trimmed(clock.clone());
        host.connect().get(ITEMS, &[full, ("if-none-match", &start)]).expect_status(status);
    }
}
