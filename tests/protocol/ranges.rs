//! Containers with several partition key ranges: the list of them, and requests that name one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const RANGES: &str = "/dbs/d/colls/c/pkranges";
const RANGE_ID: &str = "x-ms-documentdb-partitionkeyrangeid";

/// Makes the database `d` and in it the container `c`, with this much throughput.
fn container(client: &mut Client, throughput: &str, paths: &[&str]) {
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let kind = if paths.len() == 1 { "Hash" } else { "MultiHash" };
    let container = json!({"id": "c", "partitionKey": {"paths": paths, "kind": kind, "version": 2}});
    client.post("/dbs/d/colls", &[("x-ms-offer-throughput", throughput)], &container).expect_status(201);
}

/// The ranges as (id, first key, end).
fn ranges(client: &mut Client) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = client.get(RANGES, &[]).expect_status(200).json();
    let list = list["PartitionKeyRanges"].as_array().expect("a list").clone();
    list.iter().map(|range| (text(&range["id"]), text(&range["minInclusive"]), text(&range["maxExclusive"]))).collect()
}

fn ids(answer: Answer) -> BTreeSet<String> {
    let body = answer.expect_status(200).json();
    let list = body["Documents"].as_array().expect("a list");
    list.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn throughput_at_creation_decides_how_many_ranges_there_are() {
    for (throughput, count) in [("400", 1), ("10000", 1), ("11000", 2), ("30000", 5)] {
        let host = Host::start();
        let mut client = host.connect();
        container(&mut client, throughput, &["/pk"]);
        let ranges = ranges(&mut client);
        assert_eq!(ranges.len(), count, "{throughput}");
        assert_eq!((ranges[0].1.as_str(), ranges[count - 1].2.as_str()), ("", "FF"));
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].2, pair[1].1, "no gap and no overlap");
        }
        let etag = client.get(RANGES, &[]).etag();
        client.get(RANGES, &[("if-none-match", &etag)]).expect_status(304);
    }
}

#[test]
fn autoscale_counts_by_its_most_and_a_container_keeps_its_ranges() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let definition = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    let settings = [("x-ms-cosmos-offer-autopilot-settings", r#"{"maxThroughput":18000}"#)];
    client.post("/dbs/d/colls", &settings, &definition).expect_status(201);
    let made = ranges(&mut client);
    assert_eq!(made.len(), 3);
    client.put("/dbs/d/colls/c", &[], &definition).expect_status(200);
    assert_eq!(ranges(&mut client), made);
    drop(client);
    let host = host.restart();
    assert_eq!(ranges(&mut host.connect()), made);
}

fn token_of(answer: Answer) -> String {
    answer.header("x-ms-continuation").expect("there is more").to_owned()
}

#[test]
fn the_ranges_together_hold_every_item_once() {
    let host = Host::start();
    let mut client = host.connect();
    container(&mut client, "18000", &["/pk"]);
    let all: BTreeSet<String> = (0..60).map(|index| format!("i{index}")).collect();
    let mut written_to: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 3];
    for id in &all {
        let made = client.create(&json!({"id": id, "pk": id, "n": 1})).expect_status(201);
        let number: usize = made.header(RANGE_ID).expect("a range").parse().expect("a number");
        let token = made.header("x-ms-session-token").expect("a session");
        assert!(token.starts_with(&format!("{number}:0#")), "{token} is of range {number}");
        written_to[number].insert(id.clone());
        let read = client.get(&format!("{ITEMS}/{id}"), &[("x-ms-documentdb-partitionkey", &json!([id]).to_string())]);
        assert_eq!(read.expect_status(200).header(RANGE_ID), Some(number.to_string().as_str()));
    }
    for (number, expected) in written_to.iter().enumerate() {
        assert!(!expected.is_empty(), "60 keys fall into all three ranges");
        let number = number.to_string();
        let range = [(RANGE_ID, number.as_str())];
        let feed = client.get(ITEMS, &range);
        assert_eq!(feed.header(RANGE_ID), Some(number.as_str()));
        assert_eq!(&ids(feed), expected);
        assert_eq!(&ids(client.get(ITEMS, &[range[0], ("a-im", "Incremental Feed")])), expected);
        assert_eq!(&ids(client.query("SELECT * FROM c WHERE c.n = 1", &range)), expected);
        let count = client.query("SELECT VALUE COUNT(1) FROM c", &range).expect_status(200).json();
        assert_eq!(count["Documents"], json!([expected.len()]));
    }
    // Without a range the server reads all of them, and says up to where for each.
    let answer = client.query("SELECT * FROM c", &[]);
    let token = answer.header("x-ms-session-token").expect("a session");
    assert_eq!(token.split(',').map(|part| &part[..4]).collect::<Vec<_>>(), ["0:0#", "1:0#", "2:0#"]);
    client.get(ITEMS, &[("x-ms-session-token", token)]).expect_status(200);
    // A page of it ends where a range does.
    let mut found = ids(answer);
    assert_eq!(found, written_to[0]);
    let mut continuation = token_of(client.query("SELECT * FROM c", &[]));
    for (number, expected) in written_to.iter().enumerate().skip(1) {
        let answer = client.query("SELECT * FROM c", &[("x-ms-continuation", &continuation)]);
        continuation = answer.header("x-ms-continuation").unwrap_or_default().to_owned();
        assert_eq!(continuation.is_empty(), number + 1 == written_to.len());
        let page = ids(answer);
        assert_eq!(&page, expected);
        found.extend(page);
    }
    assert_eq!(found, all);
    let statistics = client
        .get("/dbs/d/colls/c", &[("x-ms-documentdb-populatepartitionstatistics", "true")])
        .expect_status(200)
        .json();
    let counts: Vec<_> =
        statistics["statistics"].as_array().expect("a list").iter().map(|r| &r["documentCount"]).collect();
    assert_eq!(json!(counts), json!(written_to.iter().map(BTreeSet::len).collect::<Vec<_>>()));
}

#[test]
fn effective_keys_and_hierarchical_prefixes_are_read_within_the_range_named() {
    let host = Host::start();
    let mut client = host.connect();
    container(&mut client, "18000", &["/tenant", "/user"]);
    for tenant in 0..8 {
        for user in 0..3 {
            let (tenant, user) = (format!("t{tenant}"), format!("u{user}"));
            let key = json!([tenant, user]).to_string();
            let item = json!({"id": format!("{tenant}{user}"), "tenant": tenant, "user": user});
            client.post(ITEMS, &[("x-ms-documentdb-partitionkey", &key)], &item).expect_status(201);
        }
    }
    let list = ranges(&mut client);
    let mut met = 0;
    for tenant in 0..8 {
        let prefix = json!([format!("t{tenant}")]).to_string();
        let whole = ids(client.get(ITEMS, &[("x-ms-documentdb-partitionkey", &prefix)]));
        assert_eq!(whole.len(), 3);
        let feed = ("a-im", "Incremental Feed");
        assert_eq!(ids(client.get(ITEMS, &[feed, ("x-ms-documentdb-partitionkey", &prefix)])), whole);
        let parts: Vec<_> = list
            .iter()
            .map(|(id, ..)| ids(client.get(ITEMS, &[("x-ms-documentdb-partitionkey", &prefix), (RANGE_ID, id)])))
            .collect();
        assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 3, "no item is in two ranges");
        assert_eq!(parts.into_iter().flatten().collect::<BTreeSet<_>>(), whole);
    }
    for (id, min, max) in &list {
        let own = ids(client.get(ITEMS, &[(RANGE_ID, id)]));
        met += own.len();
        let keys = [("x-ms-start-epk", min.as_str()), ("x-ms-end-epk", max.as_str())];
        assert_eq!(ids(client.get(ITEMS, &keys)), own);
        // Change feeds take the same scopes.
        let feed = ("a-im", "Incremental Feed");
        for headers in [&[feed, keys[0], keys[1]][..], &[feed, keys[0], keys[1], (RANGE_ID, id)]] {
            let told = client.get(ITEMS, headers);
            let told = if told.status == 304 { BTreeSet::new() } else { ids(told) };
            assert_eq!(told, own);
        }
        assert_eq!(ids(client.get(ITEMS, &[keys[0], keys[1], (RANGE_ID, id)])), own);
        for (other, ..) in list.iter().filter(|(other, ..)| other != id) {
            assert!(ids(client.get(ITEMS, &[keys[0], keys[1], (RANGE_ID, other)])).is_empty());
        }
    }
    assert_eq!(met, 24);
}

#[test]
fn a_range_that_is_not_there_is_gone() {
    let host = Host::start();
    let mut client = host.connect();
    container(&mut client, "11000", &["/pk"]);
    for id in ["2", "x", "01", "-1"] {
        let gone = client.get(ITEMS, &[(RANGE_ID, id)]);
        gone.expect_error(410, "Gone", "partition key range").expect_substatus("1002");
    }
    // Some clients put the container's rid before the number.
    let rid = client.get("/dbs/d/colls/c", &[]).json()["_rid"].as_str().expect("a rid").to_owned();
    client.get(ITEMS, &[(RANGE_ID, &format!("{rid},1"))]).expect_status(200);
    client.expect_alive();
}

#[test]
fn a_client_that_asks_for_it_has_the_ranges_merged() {
    let host = Host::start();
    let mut client = host.connect();
    container(&mut client, "30000", &["/pk"]);
    for number in 0..40 {
        let key = format!("[\"p{number}\"]");
        let item = json!({"id": number.to_string(), "pk": format!("p{number}"), "n": number});
        client.post(ITEMS, &[("x-ms-documentdb-partitionkey", &key)], &item).expect_status(201);
    }
    let text = "SELECT TOP 3 VALUE c.n FROM c ORDER BY c.n DESC";
    client.query(text, &[]).expect_status(400).expect_substatus("1004");
    let merged = client.query(text, &[("x-etagdb-merge", "true")]).expect_status(200).json();
    assert_eq!(merged["Documents"], json!([39, 38, 37]));
}
