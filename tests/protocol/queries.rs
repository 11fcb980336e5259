//! Queries over HTTP beyond their pages: plans for clients that merge, computed properties, what a query cost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";

const PLAN: [(&str, &str); 2] = [("x-ms-cosmos-is-query-plan-request", "True"), ("x-ms-documentdb-isquery", "True")];
const FEATURES: &str = "x-ms-cosmos-supported-query-features";

/// A container whose items lie in several partition key ranges.
fn spread(host: &Host) -> Client {
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let definition = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/d/colls", &[("x-ms-offer-throughput", "18000")], &definition).expect_status(201);
    for index in 0..20 {
        client
            .create(&json!({"id": format!("i{index:02}"), "pk": format!("p{index}"), "n": index % 5}))
            .expect_status(201);
    }
    client
}

fn plan(client: &mut Client, text: &str, features: &str) -> Value {
    let headers = [PLAN[0], PLAN[1], (FEATURES, features)];
    client.post(ITEMS, &headers, &json!({"query": text})).expect_status(200).json()
}

#[test]
fn a_query_that_must_be_merged_is_left_to_the_client_when_there_are_several_ranges() {
    let host = Host::start();
    let mut client = spread(&host);
    for text in [
        "SELECT * FROM c ORDER BY c.n",
        "SELECT VALUE COUNT(1) FROM c",
        "SELECT DISTINCT c.n FROM c",
        "SELECT TOP 3 * FROM c",
        "SELECT * FROM c OFFSET 1 LIMIT 2",
        "SELECT c.n FROM c GROUP BY c.n",
    ] {
        let refused = client.query(text, &[]).expect_status(400).expect_substatus("1004");
        let info: Value =
            serde_json::from_str(refused.json()["additionalErrorInfo"].as_str().expect(text)).expect(text);
        assert!(info["queryInfo"].is_object(), "{text}");
        // One partition key, or one range, is for the server.
        client.query(text, &[("x-ms-documentdb-partitionkey", "[\"p1\"]")]).expect_status(200);
        client.query(text, &[("x-ms-documentdb-partitionkeyrangeid", "0")]).expect_status(200);
    }
    client.query("SELECT COUNT(1) + 1 FROM c", &[]).expect_error(400, "BadRequest", "does not support");
    client.query("SELECT 1 + 1 AS two", &[]).expect_status(200);
}

#[test]
fn the_rewritten_query_asked_of_each_range_and_merged_is_the_answer() {
    let host = Host::start();
    let mut client = spread(&host);
    let info = plan(&mut client, "SELECT c.id FROM c WHERE c.n > 1 ORDER BY c.n DESC", "OrderBy")["queryInfo"].clone();
    assert_eq!((&info["orderBy"], &info["orderByExpressions"]), (&json!(["Descending"]), &json!(["c.n"])));
    let rewritten = info["rewrittenQuery"].as_str().expect("text");
    let rewritten = rewritten.replace("{documentdb-formattableorderbyquery-filter}", "true");
    let mut merged = Vec::new();
    for range in ["0", "1", "2"] {
        let part =
            client.query(&rewritten, &[("x-ms-documentdb-partitionkeyrangeid", range)]).expect_status(200).json();
        let keys: Vec<i64> = part["Documents"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| {
                merged.push(row["payload"]["id"].clone());
                assert!(row["_rid"].is_string());
                row["orderByItems"][0]["item"].as_i64().expect("a number")
            })
            .collect();
        assert!(keys.is_sorted_by(|a, b| a >= b), "{keys:?}");
    }
    assert_eq!(merged.len(), 12);
    let one = plan(&mut client, "SELECT * FROM c WHERE c.pk = 'p1'", "");
    assert_eq!(one["queryRanges"][0]["min"], one["queryRanges"][0]["max"]);
    let headers = [PLAN[0], PLAN[1], (FEATURES, "OrderBy, Aggregate")];
    let grouped = json!({"query": "SELECT c.n FROM c GROUP BY c.n"});
    client.post(ITEMS, &headers, &grouped).expect_error(400, "BadRequest", "GroupBy");
    assert_eq!(
        plan(&mut client, "SELECT c.n FROM c GROUP BY c.n", "GroupBy")["queryInfo"]["groupByExpressions"],
        json!(["c.n"])
    );
}

#[test]
fn computed_properties_are_kept_and_can_be_queried() {
    let host = Host::start();
    let mut client = host.with_container();
    let mut definition = client.get("/dbs/d/colls/c", &[]).expect_status(200).json();
    let properties = json!([{"name": "lower", "query": "SELECT VALUE LOWER(c.name) FROM c"}]);
    definition["computedProperties"] = properties.clone();
    let changed = client.put("/dbs/d/colls/c", &[], &definition).expect_status(200).json();
    assert_eq!(changed["computedProperties"], properties);
    client.create(&json!({"id": "a", "pk": "p", "name": "ANA"})).expect_status(201);
    let found = client.query("SELECT c.id, c.lower FROM c WHERE c.lower = 'ana'", &[]).expect_status(200).json();
    assert_eq!(found["Documents"], json!([{"id": "a", "lower": "ana"}]));
    let whole = client.query("SELECT * FROM c", &[]).expect_status(200).json();
    assert_eq!(whole["Documents"][0].get("lower"), None);
    definition["computedProperties"] = json!([{"name": "lower", "query": "SELECT * FROM c"}]);
    let wrong = client.put("/dbs/d/colls/c", &[], &definition);
    wrong.expect_error(400, "BadRequest", "One of the specified inputs is invalid");
    definition.as_object_mut().expect("an object").remove("computedProperties");
    let without = client.put("/dbs/d/colls/c", &[], &definition).expect_status(200).json();
    assert_eq!(without.get("computedProperties"), None);
    assert_eq!(client.query("SELECT * FROM c WHERE c.lower = 'ana'", &[]).expect_status(200).json()["_count"], 0);
}

#[test]
fn a_query_is_charged_for_what_it_reads_and_says_so_when_asked() {
    let host = Host::start();
    let mut client = host.with_container();
    for index in 0..50 {
        client
            .create(&json!({"id": format!("i{index}"), "pk": format!("p{}", index % 5), "n": index}))
            .expect_status(201);
    }
    let asked = [("x-ms-documentdb-populatequerymetrics", "true"), ("x-ms-cosmos-populateindexmetrics", "true")];
    let mut cost = |text: &str, scope: Option<&str>| {
        let mut headers = asked.to_vec();
        headers.extend(scope.map(|key| ("x-ms-documentdb-partitionkey", key)));
        let answer = client.query(text, &headers).expect_status(200);
        let metrics = answer.header("x-ms-documentdb-query-metrics").expect("metrics").to_owned();
        assert!(answer.header("x-ms-cosmos-index-utilization").is_some());
        let of = |name: &str| -> f64 {
            let pair = metrics.split(';').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
            pair.expect(name).1.parse().expect(name)
        };
        let charge: f64 = answer.header("x-ms-request-charge").expect("a charge").parse().expect("a number");
        (charge, of("retrievedDocumentCount"), of("outputDocumentCount"))
    };
    let (all, read, given) = cost("SELECT * FROM c", None);
    assert_eq!((read, given), (50.0, 50.0));
    let (key, read, _) = cost("SELECT * FROM c", Some("[\"p1\"]"));
    assert_eq!(read, 10.0);
    let (one, read, _) = cost("SELECT * FROM c WHERE c.id = 'i1' AND c.pk = 'p1'", None);
    assert_eq!(read, 1.0);
    assert!(one < key && key < all, "{one} {key} {all}");
    // Counting looks into no document.
    let (counted, read, given) = cost("SELECT VALUE COUNT(1) FROM c", None);
    assert_eq!((read, given), (0.0, 1.0));
    assert!(counted < all);
}

#[test]
fn a_token_of_a_partition_key_serves_for_its_range_of_effective_keys() {
    let host = Host::start();
    let mut client = host.with_container();
    for index in 0..6 {
        client.create(&json!({"id": format!("i{index}"), "pk": "p"})).expect_status(201);
    }
    let text = "SELECT * FROM c WHERE c.pk = 'p'";
    let epk = plan(&mut client, text, "")["queryRanges"][0]["min"].as_str().expect("a bound").to_owned();
    let end = format!("{epk}FF");
    let effective = [("x-ms-start-epk", epk.as_str()), ("x-ms-end-epk", end.as_str()), ("x-ms-max-item-count", "2")];
    let first = client.query("SELECT * FROM c", &effective).expect_status(200);
    let token = first.header("x-ms-continuation").expect("more").to_owned();
    let rest = client
        .query("SELECT * FROM c", &[("x-ms-documentdb-partitionkey", "[\"p\"]"), ("x-ms-continuation", &token)])
        .expect_status(200);
    assert_eq!((first.json()["_count"].as_u64(), rest.json()["_count"].as_u64()), (Some(2), Some(4)));
    let other =
        client.query("SELECT * FROM c", &[("x-ms-documentdb-partitionkey", "[\"q\"]"), ("x-ms-continuation", &token)]);
    other.expect_error(400, "BadRequest", "another");
}

/// The specification of the index that a query used, and the ids that it found.
fn found_by(client: &mut Client, text: &str) -> (String, Vec<String>) {
    let answer = client.query(text, &[("x-ms-cosmos-populateindexmetrics", "true")]).expect_status(200);
    let used = STANDARD.decode(answer.header("x-ms-cosmos-index-utilization").expect("told")).expect("base64");
    let used: Value = serde_json::from_slice(&used).expect("JSON");
    let single = &used["UtilizedSingleIndexes"][0]["IndexSpec"];
    let index = if single.is_null() {
        used["UtilizedCompositeIndexes"][0]["IndexSpecs"].to_string()
    } else {
        single.to_string()
    };
    let items = answer.json()["Documents"].as_array().expect("a list").clone();
    (index, items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect())
}

#[test]
fn an_index_follows_every_kind_of_write_and_survives_a_restart() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let definition = json!({
        "id": "c",
        "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2},
        "indexingPolicy": {
            "includedPaths": [{"path": "/n/?"}],
            "excludedPaths": [{"path": "/*"}],
            "compositeIndexes": [[{"path": "/n", "order": "ascending"}, {"path": "/m", "order": "ascending"}]],
        },
    });
    client.post("/dbs/d/colls", &[], &definition).expect_status(201);
    for index in 0..8 {
        client.create(&json!({"id": format!("i{index}"), "pk": "p", "n": index % 2, "m": -index})).expect_status(201);
    }
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    let moved = json!({"id": "i1", "pk": "p", "n": 7});
    client.put(&format!("{ITEMS}/i1"), &[key], &moved).expect_status(200);
    client.put(&format!("{ITEMS}/i3"), &[key], &json!({"id": "renamed", "pk": "p", "n": 7})).expect_status(200);
    let patch = json!({"operations": [{"op": "set", "path": "/n", "value": 7}]});
    client.send("PATCH", &format!("{ITEMS}/i5"), &[key], patch.to_string().as_bytes()).expect_status(200);
    client.delete(&format!("{ITEMS}/i7"), &[key]).expect_status(204);
    let batch = json!([
        {"operationType": "Create", "resourceBody": {"id": "b1", "pk": "p", "n": 7}},
        {"operationType": "Delete", "id": "b1"},
        {"operationType": "Upsert", "resourceBody": {"id": "b1", "pk": "p", "n": 7}},
    ]);
    let flags = [key, ("x-ms-cosmos-is-batch-request", "true"), ("x-ms-cosmos-batch-atomic", "true")];
    client.post(ITEMS, &flags, &batch).expect_status(200);
    let check = |client: &mut Client| {
        let (index, ids) = found_by(client, "SELECT * FROM c WHERE c.n = 7");
        assert_eq!((index.as_str(), ids), ("\"/n/?\"", ["b1", "i1", "i5", "renamed"].map(str::to_owned).to_vec()));
        let (index, ids) = found_by(client, "SELECT * FROM c WHERE c.n = 1");
        assert_eq!((index.as_str(), ids.len()), ("\"/n/?\"", 0));
        let (index, ids) = found_by(client, "SELECT * FROM c WHERE c.n = 0 ORDER BY c.m DESC");
        assert_eq!(
            (index.as_str(), ids),
            ("[\"/n ASC\",\"/m ASC\"]", ["i0", "i2", "i4", "i6"].map(str::to_owned).to_vec())
        );
    };
    check(&mut client);
    drop(client);
    let host = host.restart();
    let mut client = host.connect();
    check(&mut client);
    client.delete("/dbs/d/colls/c", &[]).expect_status(204);
    client.post("/dbs/d/colls", &[], &definition).expect_status(201);
    assert_eq!(found_by(&mut client, "SELECT * FROM c WHERE c.n = 7").1, Vec::<String>::new());
}
