//! Read feeds and queries: pages, continuation tokens, partition keys and ranges of them.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";

fn ids(values: &[Value]) -> Vec<String> {
    values.iter().map(|value| value["id"].as_str().expect("an id").to_owned()).collect()
}

/// Reads page after page until there is no continuation.
fn pages(size: &str, mut page: impl FnMut(&[(&str, &str)]) -> Answer) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut headers = vec![("x-ms-max-item-count", size)];
        headers.extend(token.as_deref().map(|token| ("x-ms-continuation", token)));
        let answer = page(&headers).expect_status(200);
        let values = answer.json()["Documents"].as_array().expect("documents").clone();
        assert_eq!(answer.header("x-ms-item-count"), Some(values.len().to_string().as_str()));
        all.push(values);
        match answer.header("x-ms-continuation") {
            Some(next) => {
                assert!(next.len() < 1024, "SDKs allow a token a kilobyte");
                token = Some(next.to_owned());
            }
            None => return all,
        }
    }
}

fn fill(client: &mut Client, count: usize) {
    for index in 0..count {
        client
            .create(
                &json!({"id": format!("i{index:02}"), "pk": format!("p{}", index % 3), "n": index, "list": [1, 2, 3]}),
            )
            .expect_status(201);
    }
}

#[test]
fn pages_are_full_until_the_last_and_the_last_has_no_token() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 10);
    for (size, expected) in
        [("3", vec![3, 3, 3, 1]), ("5", vec![5, 5]), ("10", vec![10]), ("11", vec![10]), ("-1", vec![10])]
    {
        let read = pages(size, |headers| client.get(ITEMS, headers));
        assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), expected, "pages of {size}");
        let mut all = ids(&read.concat());
        all.sort();
        assert_eq!(all, (0..10).map(|index| format!("i{index:02}")).collect::<Vec<_>>());
    }
    let empty =
        pages("3", |headers| client.get(ITEMS, &[headers, &[("x-ms-documentdb-partitionkey", "[\"none\"]")]].concat()));
    assert_eq!(empty, [Vec::<Value>::new()]);
}

#[test]
fn all_pages_are_of_one_commit_whatever_is_written_between() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 9);
    let mut other = host.connect();
    let mut round = 0;
    let read = pages("2", |headers| {
        let answer = client.get(ITEMS, headers);
        round += 1;
        other.create(&json!({"id": format!("new{round}"), "pk": "p0"})).expect_status(201);
        other.delete("/dbs/d/colls/c/docs/i04", &[("x-ms-documentdb-partitionkey", "[\"p1\"]")]);
        answer
    });
    let mut all = ids(&read.concat());
    all.sort();
    assert_eq!(all, (0..9).map(|index| format!("i{index:02}")).collect::<Vec<_>>());
}

#[test]
fn a_token_of_a_state_that_retention_dropped_goes_on_in_the_present() {
    let mut host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 6);
    let size = ("x-ms-max-item-count", "4");
    let first = client.get(ITEMS, &[size]).expect_status(200);
    let token = first.header("x-ms-continuation").expect("a token").to_owned();
    let sorted = "SELECT VALUE c.n FROM c ORDER BY c.n";
    let query_token = client.query(sorted, &[size]).header("x-ms-continuation").expect("a token").to_owned();
    let upsert = [("x-ms-documentdb-is-upsert", "true"), ("x-ms-documentdb-partitionkey", "[\"p2\"]")];
    client.post(ITEMS, &upsert, &json!({"id": "i05", "pk": "p2", "n": 50})).expect_status(200);
    drop(client);
    host.shut_down();
    {
        let store = etagdb::Store::open(host.store_path()).expect("open");
        for name in store.collections() {
            let retention = etagdb::Retention::age(std::time::Duration::ZERO);
            store.collection(&name).expect("collection").set_retention(retention).expect("set");
        }
        store.run_maintenance().expect("maintenance");
        assert!(store.horizon().get() > 0, "nothing was dropped");
    }
    let host = host.restart();
    let mut client = host.connect();
    let mut all = first.json()["Documents"].as_array().expect("documents").clone();
    let rest = client.get(ITEMS, &[("x-ms-continuation", &token)]).expect_status(200).json();
    all.extend(rest["Documents"].as_array().expect("documents").iter().cloned());
    let mut all = ids(&all);
    all.sort();
    assert_eq!(all, ["i00", "i01", "i02", "i03", "i04", "i05"]);
    let rest = client.query(sorted, &[("x-ms-continuation", &query_token)]).expect_status(200).json();
    assert_eq!(rest["Documents"], json!([4, 50]));
}

#[test]
fn a_token_survives_a_restart_and_serves_only_what_it_was_made_for() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 6);
    let first = client.get(ITEMS, &[("x-ms-max-item-count", "4")]).expect_status(200);
    let token = first.header("x-ms-continuation").expect("a token").to_owned();
    let query = client.query("SELECT * FROM c WHERE c.n >= 0", &[("x-ms-max-item-count", "4")]).expect_status(200);
    let query_token = query.header("x-ms-continuation").expect("a token").to_owned();
    drop(client);
    let host = host.restart();
    let mut client = host.connect();
    let rest = client.get(ITEMS, &[("x-ms-continuation", &token)]).expect_status(200).json();
    assert_eq!(rest["_count"], 2);
    let rest =
        client.query("SELECT * FROM c WHERE c.n >= 0", &[("x-ms-continuation", &query_token)]).expect_status(200);
    assert_eq!(rest.json()["_count"], 2);
    for wrong in [
        client.query("SELECT * FROM c WHERE c.n >= 1", &[("x-ms-continuation", &query_token)]),
        client.query("SELECT * FROM c ORDER BY c.n", &[("x-ms-continuation", &query_token)]),
        client.get(ITEMS, &[("x-ms-continuation", &query_token)]),
        client.get(ITEMS, &[("x-ms-continuation", &token), ("x-ms-documentdb-partitionkey", "[\"p0\"]")]),
        client.get("/dbs", &[("x-ms-continuation", &token)]),
    ] {
        wrong.expect_error(400, "BadRequest", "continuation");
    }
    client.expect_alive();
}

#[test]
fn lists_of_resources_have_pages_too() {
    let host = Host::start();
    let mut client = host.connect();
    for id in ["a", "b", "c"] {
        client.post("/dbs", &[], &json!({ "id": id })).expect_status(201);
    }
    let first = client.get("/dbs", &[("x-ms-max-item-count", "2")]).expect_status(200);
    assert_eq!(ids(first.json()["Databases"].as_array().expect("a list")), ["a", "b"]);
    let token = first.header("x-ms-continuation").expect("a token").to_owned();
    client.delete("/dbs/a", &[]).expect_status(204);
    let second = client.get("/dbs", &[("x-ms-continuation", &token)]).expect_status(200);
    assert_eq!(ids(second.json()["Databases"].as_array().expect("a list")), ["c"]);
    let query =
        json!({"query": "SELECT * FROM root r WHERE r.id = @id", "parameters": [{"name": "@id", "value": "b"}]});
    let found = client.post("/dbs", &[("x-ms-documentdb-isquery", "True")], &query).expect_status(200).json();
    assert_eq!((found["_count"].clone(), found["Databases"][0]["id"].clone()), (json!(1), json!("b")));
}

#[test]
fn queries_of_every_kind_have_pages() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 10);
    for (query, count) in [
        ("SELECT * FROM c", 10),
        ("SELECT c.id FROM c WHERE c.n >= 4", 6),
        ("SELECT c.id FROM c ORDER BY c.n DESC", 10),
        ("SELECT DISTINCT c.pk, c.pk AS id FROM c", 3),
        ("SELECT TOP 4 c.id FROM c", 4),
        ("SELECT c.id FROM c ORDER BY c.n OFFSET 2 LIMIT 5", 5),
        ("SELECT c.id, t FROM c JOIN t IN c.list", 30),
    ] {
        let read = pages("4", |headers| client.query(query, headers));
        assert!(read.iter().all(|page| page.len() <= 4), "{query}");
        assert_eq!(read.concat().len(), count, "{query}");
    }
    let ordered = pages("3", |headers| client.query("SELECT c.id FROM c ORDER BY c.n DESC", headers));
    assert_eq!(ids(&ordered.concat()), (0..10).rev().map(|index| format!("i{index:02}")).collect::<Vec<_>>());
    assert_eq!(client.query("SELECT VALUE COUNT(1) FROM c", &[]).json()["Documents"], json!([10]));
}

#[test]
fn a_query_that_names_its_partition_key_needs_no_permission() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 6);
    let query = |client: &mut Client, text: &str, headers: &[(&str, &str)]| {
        let headers = [&[("x-ms-documentdb-isquery", "true")], headers].concat();
        client.post(ITEMS, &headers, &json!({ "query": text }))
    };
    let found = query(&mut client, "SELECT * FROM c WHERE c.pk = 'p1'", &[]).expect_status(200).json();
    assert_eq!(found["_count"], 2);
    let found = query(&mut client, "SELECT * FROM c WHERE c.pk = 'p1' AND c.id = 'i04'", &[]).expect_status(200).json();
    assert_eq!(found["_count"], 1);
    let asked = ("x-ms-documentdb-populatequerymetrics", "true");
    let one = query(&mut client, "SELECT * FROM c WHERE c.pk = 'p1' AND c.id = 'i04'", &[asked]).expect_status(200);
    let metrics = one.header("x-ms-documentdb-query-metrics").expect("metrics");
    assert!(metrics.contains("retrievedDocumentCount=1;"), "only the item itself is read: {metrics}");
    let found =
        query(&mut client, "SELECT * FROM c", &[("x-ms-documentdb-partitionkey", "[\"p2\"]")]).expect_status(200);
    assert_eq!(found.json()["_count"], 2);
    let found =
        query(&mut client, "SELECT * FROM c", &[("x-ms-documentdb-partitionkeyrangeid", "0")]).expect_status(200);
    assert_eq!(found.json()["_count"], 6);
    query(&mut client, "SELECT * FROM c WHERE c.n = 1", &[]).expect_error(400, "BadRequest", "Cross partition query");
}

#[test]
fn undefined_null_and_empty_partition_keys_are_different() {
    let host = Host::start();
    let mut client = host.with_container();
    let key = |text| ("x-ms-documentdb-partitionkey", text);
    client.post(ITEMS, &[key("[{}]")], &json!({"id": "a", "which": "undefined"})).expect_status(201);
    client.post(ITEMS, &[key("[null]")], &json!({"id": "a", "pk": null, "which": "null"})).expect_status(201);
    client.post(ITEMS, &[key("[]")], &json!({"id": "a", "which": "none"})).expect_status(201);
    client.post(ITEMS, &[key("[\"\"]")], &json!({"id": "a", "pk": "", "which": "empty"})).expect_status(201);
    client.post(ITEMS, &[key("[0]")], &json!({"id": "a", "pk": 0, "which": "zero"})).expect_status(201);
    client.post(ITEMS, &[key("[false]")], &json!({"id": "a", "pk": false, "which": "false"})).expect_status(201);
    for (text, which) in [
        ("[{}]", "undefined"),
        ("[null]", "null"),
        ("[]", "none"),
        ("[\"\"]", "empty"),
        ("[0]", "zero"),
        ("[-0.0]", "zero"),
        ("[false]", "false"),
    ] {
        let read = client.get("/dbs/d/colls/c/docs/a", &[key(text)]).expect_status(200).json();
        assert_eq!(read["which"], which, "{text}");
        let listed = client.get(ITEMS, &[key(text)]).json();
        assert_eq!(
            (listed["_count"].clone(), listed["Documents"][0]["which"].clone()),
            (json!(1), json!(which)),
            "{text}"
        );
    }
}

#[test]
fn hierarchical_keys_are_addressed_whole_and_listed_by_their_beginning() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let container = json!({"id": "c", "partitionKey": {"paths": ["/a", "/b"], "kind": "MultiHash", "version": 2}});
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    let key = |text| ("x-ms-documentdb-partitionkey", text);
    for (text, item) in [
        ("[\"x\",\"1\"]", json!({"id": "i", "a": "x", "b": "1"})),
        ("[\"x\",\"2\"]", json!({"id": "i", "a": "x", "b": "2"})),
        ("[\"y\",\"1\"]", json!({"id": "i", "a": "y", "b": "1"})),
    ] {
        client.post(ITEMS, &[key(text)], &item).expect_status(201);
        client.get("/dbs/d/colls/c/docs/i", &[key(text)]).expect_status(200);
    }
    client
        .get("/dbs/d/colls/c/docs/i", &[key("[\"x\"]")])
        .expect_error(400, "BadRequest", "Partition key")
        .expect_substatus("1001");
    assert_eq!(client.get(ITEMS, &[key("[\"x\"]")]).expect_status(200).json()["_count"], 2);
    assert_eq!(client.get(ITEMS, &[key("[\"x\",\"2\"]")]).expect_status(200).json()["_count"], 1);
    let found = client.post(
        ITEMS,
        &[("x-ms-documentdb-isquery", "true")],
        &json!({"query": "SELECT * FROM c WHERE c.a = 'x' AND c.b = '2'"}),
    );
    assert_eq!(found.expect_status(200).json()["_count"], 1);
}

#[test]
fn ranges_of_effective_keys_tile_the_container() {
    let host = Host::start();
    let mut client = host.with_container();
    fill(&mut client, 12);
    let mut all = Vec::new();
    for (start, end) in [("", "1F"), ("1F", "2A"), ("2A", "FF")] {
        let headers = [("x-ms-start-epk", start), ("x-ms-end-epk", end), ("x-ms-documentdb-partitionkeyrangeid", "0")];
        let listed = client.get(ITEMS, &headers).expect_status(200).json();
        all.extend(ids(listed["Documents"].as_array().expect("documents")));
    }
    all.sort();
    assert_eq!(all, (0..12).map(|index| format!("i{index:02}")).collect::<Vec<_>>());
}

#[test]
fn a_plan_is_the_query_itself_and_makes_no_item() {
    let host = Host::start();
    let mut client = host.with_container();
    let headers = [("x-ms-cosmos-is-query-plan-request", "True"), ("x-ms-documentdb-isquery", "True")];
    let plan =
        client.post(ITEMS, &headers, &json!({"query": "SELECT * FROM c ORDER BY c.n"})).expect_status(200).json();
    assert_eq!(plan["queryInfo"]["aggregates"], json!([]));
    assert_eq!(plan["queryRanges"], json!([{"min": "", "max": "FF", "isMinInclusive": true, "isMaxInclusive": false}]));
    client.post(ITEMS, &headers, &json!({"query": "SELEC"})).expect_error(400, "BadRequest", "Syntax");
    assert_eq!(client.get(ITEMS, &[]).json()["_count"], 0);
}

#[test]
fn conflicts_are_an_empty_feed() {
    let host = Host::start();
    let mut client = host.with_container();
    assert_eq!(client.get("/dbs/d/colls/c/conflicts", &[]).expect_status(200).json()["Conflicts"], json!([]));
}

#[test]
fn numbers_and_the_order_of_members_survive() {
    let host = Host::start();
    let mut client = host.with_container();
    let text = r#"{"z":1,"id":"a","pk":"p","whole":1.0,"large":12345678901234567890123,"tiny":1e-7,"exact":0.10,"a":{"c":1,"b":[1.50]}}"#;
    let key = ("x-ms-documentdb-partitionkey", "[\"p\"]");
    let made = client.send("POST", ITEMS, &[key], text.as_bytes()).expect_status(201);
    let read = client.get("/dbs/d/colls/c/docs/a", &[key]).expect_status(200);
    let start = text.strip_suffix('}').expect("an object");
    assert!(made.text().starts_with(start), "{}", made.text());
    assert_eq!(read.text(), made.text());
}
