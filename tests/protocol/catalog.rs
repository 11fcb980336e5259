//! Databases, containers and offers: their life, what is read back, and what a restart or a crash leaves.

use serde_json::{Value, json};

use crate::support::{Client, Host};

const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

fn rid(value: &Value) -> String {
    value["_rid"].as_str().expect("a rid").to_owned()
}

#[test]
fn a_container_is_read_back_with_the_services_defaults() {
    let host = Host::start();
    let mut client = host.with_container();
    let read = client.get("/dbs/d/colls/c", &[]).expect_status(200);
    let container = read.json();
    assert_eq!(container["_etag"], read.etag());
    assert_eq!(container["partitionKey"], json!({"paths": ["/pk"], "kind": "Hash", "version": 2}));
    assert_eq!(container["indexingPolicy"]["indexingMode"], "consistent");
    assert_eq!(container["indexingPolicy"]["excludedPaths"], json!([{"path": "/\"_etag\"/?"}]));
    assert_eq!(container["geospatialConfig"]["type"], "Geography");
    assert!(container.get("defaultTtl").is_none());
    let first = json!({"id": "one", "partitionKey": {"paths": ["/pk"], "kind": "Hash"}, "defaultTtl": -1});
    let first = client.post("/dbs/d/colls", &[], &first).expect_status(201).json();
    assert!(first["partitionKey"].get("version").is_none(), "a version that was not asked for is not shown: {first}");
    assert_eq!(first["defaultTtl"], -1);
    let mut changed = first.clone();
    changed["defaultTtl"] = json!(60);
    let replaced = client.put("/dbs/d/colls/one", &[], &changed).expect_status(200).json();
    assert_eq!((&replaced["defaultTtl"], &replaced["_rid"]), (&json!(60), &first["_rid"]));
    assert_ne!(replaced["_etag"], first["_etag"]);
}

#[test]
fn everything_is_there_after_a_restart() {
    let host = Host::start();
    let mut client = host.with_container();
    client.post("/dbs", &[("x-ms-offer-throughput", "700")], &json!({"id": "shared"})).expect_status(201);
    let etag = client.create(&json!({"id": "a", "pk": "p", "n": 1.50})).expect_status(201).etag();
    let before: Vec<Vec<u8>> = paths().map(|path| client.get(path, &[KEY]).expect_status(200).body).collect();
    drop(client);
    let host = host.restart();
    let mut client = host.connect();
    let after: Vec<Vec<u8>> = paths().map(|path| client.get(path, &[KEY]).expect_status(200).body).collect();
    assert_eq!(before, after, "every byte is the same");
    client.put("/dbs/d/colls/c/docs/a", &[KEY, ("if-match", &etag)], &json!({"id": "a", "pk": "p"})).expect_status(200);
}

fn paths() -> impl Iterator<Item = &'static str> {
    ["/dbs", "/dbs/d/colls", "/dbs/d/colls/c", "/dbs/d/colls/c/docs/a", "/dbs/d/colls/c/pkranges", "/offers"]
        .into_iter()
}

#[test]
fn rids_are_never_given_out_twice() {
    let host = Host::start();
    let mut client = host.connect();
    let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    let mut seen = Vec::new();
    let make = |client: &mut Client, seen: &mut Vec<String>| {
        seen.push(rid(&client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201).json()));
        seen.push(rid(&client.post("/dbs/d/colls", &[], &container).expect_status(201).json()));
        client.delete("/dbs/d/colls/c", &[]).expect_status(204);
        seen.push(rid(&client.post("/dbs/d/colls", &[], &container).expect_status(201).json()));
        client.delete("/dbs/d", &[]).expect_status(204);
    };
    make(&mut client, &mut seen);
    drop(client);
    let host = host.restart();
    make(&mut host.connect(), &mut seen);
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all);
}

#[test]
fn deleting_takes_the_items_along() {
    let mut host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    client.delete("/dbs/d/colls/c", &[]).expect_status(204);
    client.get("/dbs/d/colls/c", &[]).expect_status(404);
    let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(404);
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    client.delete("/dbs/d", &[]).expect_status(204);
    assert_eq!(client.get("/offers", &[]).json()["_count"], 0, "offers go with what they are for");
    drop(client);
    host.shut_down();
    assert_eq!(item_collections(&host.store_path()), Vec::<String>::new());
}

/// The names of the item collections in a store that no server has open.
fn item_collections(path: &std::path::Path) -> Vec<String> {
    let store = etagdb::Store::open(path).expect("the store is free after a shutdown");
    store.collections().into_iter().filter(|name| name.starts_with("docs/")).collect()
}

#[test]
fn items_that_a_crash_orphaned_are_swept_at_the_start() {
    let mut host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    drop(client);
    host.shut_down();
    // What a crash between the two steps of making a container leaves.
    let path = host.store_path();
    let store = etagdb::Store::open(&path).expect("the store is free after a shutdown");
    let orphan = store.collection("docs/AAAAAYAAAGM=").expect("an orphan");
    orphan.put("x", "{}", etagdb::Precondition::Any).expect("an item in it");
    drop((orphan, store));
    let mut host = host.restart();
    host.connect().get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    host.shut_down();
    assert_eq!(item_collections(&path).len(), 1, "only the container's own items are left");
}

#[test]
fn throughput_is_kept_per_database_or_container() {
    let host = Host::start();
    let mut client = host.with_container();
    let container = client.get("/dbs/d/colls/c", &[]).json();
    let link = container["_self"].as_str().expect("a self link");
    let query = json!({"query": "SELECT * FROM root r WHERE r.resource = @link", "parameters": [{"name": "@link", "value": link}]});
    let found = client.post("/offers", &[("x-ms-documentdb-isquery", "true")], &query).expect_status(200).json();
    let mut offer = found["Offers"][0].clone();
    assert_eq!(offer["content"]["offerThroughput"], 400, "{found}");
    assert_eq!((&offer["offerResourceId"], &offer["offerVersion"]), (&container["_rid"], &json!("V2")));
    offer["content"]["offerThroughput"] = json!(900);
    let path = format!("/{}", offer["_self"].as_str().expect("a self link"));
    client.put(&path, &[], &offer).expect_status(200);
    assert_eq!(client.get(&path, &[]).expect_status(200).json()["content"]["offerThroughput"], 900);
    client.put(&path, &[], &json!({})).expect_error(400, "BadRequest", "offerThroughput");
    let settings = ("x-ms-cosmos-offer-autopilot-settings", r#"{"maxThroughput":4000}"#);
    client.post("/dbs", &[settings], &json!({"id": "auto"})).expect_status(201);
    let offers = client.get("/offers", &[]).json();
    assert_eq!(offers["Offers"][1]["content"]["offerAutopilotSettings"]["maxThroughput"], 4000, "{offers}");
}

#[test]
fn key_ranges_are_told_once() {
    let host = Host::start();
    let mut client = host.with_container();
    let path = "/dbs/d/colls/c/pkranges";
    let ranges = client.get(path, &[("a-im", "Incremental Feed")]).expect_status(200);
    let first = &ranges.json()["PartitionKeyRanges"][0];
    assert_eq!((&first["id"], &first["minInclusive"], &first["maxExclusive"]), (&json!("0"), &json!(""), &json!("FF")));
    let again = client.get(path, &[("if-none-match", &ranges.etag())]).expect_status(304);
    assert_eq!(again.etag(), ranges.etag());
    client.expect_alive();
}

#[test]
fn figures_are_given_when_asked_for() {
    let host = Host::start();
    let mut client = host.with_container();
    for id in ["a", "b", "c"] {
        client.create(&json!({"id": id, "pk": "p"})).expect_status(201);
    }
    let asked =
        [("x-ms-documentdb-populatepartitionstatistics", "True"), ("x-ms-documentdb-populatequotainfo", "True")];
    let read = client.get("/dbs/d/colls/c", &asked).expect_status(200);
    assert_eq!(read.json()["statistics"][0]["documentCount"], 3);
    assert!(read.header("x-ms-resource-usage").is_some_and(|usage| usage.contains("documentsCount=3;")));
    assert!(client.get("/dbs/d/colls/c", &[]).json().get("statistics").is_none());
}

#[test]
fn an_importer_and_the_server_agree() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let path = data.path().join("store");
    let store = etagdb::Store::open(&path).expect("a store");
    let paths = ["/pk".to_owned()];
    let container = etagdb_server::LocalContainer::open(&store, "d", "c", &paths).expect("a container");
    let first = container.upsert(br#"{"id":"a","pk":"p","n":1}"#).expect("an upsert");
    let second = container.upsert(br#"{"id":"a","pk":"p","n":2}"#).expect("an upsert");
    assert_eq!((first.created, second.created), (true, false));
    assert!(matches!(container.upsert(b"{}"), Err(etagdb_server::ImportError::Refused(_))));
    let other = etagdb_server::LocalContainer::open(&store, "d", "c", &["/other".to_owned()]);
    assert!(matches!(other, Err(etagdb_server::ImportError::Refused(_))));
    drop((container, store));
    let host = Host::over(data);
    let read = host.connect().get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    assert_eq!((read.json()["n"].clone(), read.etag()), (json!(2), second.etag));
}
