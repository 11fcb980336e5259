//! Conflicts that help: a 409 or 412 names the version that is there, and shows it to a client that asks.

use serde_json::{Value, json};

use crate::support::{Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const SHOW: (&str, &str) = ("prefer", "return=representation");

fn item(n: u32) -> Value {
    json!({"id": "a", "pk": "p", "n": n})
}

/// An item with two versions. Returns the etag of the first and the second version as it is read.
fn two_versions(client: &mut Client) -> (String, Value) {
    let stale = client.create(&item(1)).expect_status(201).etag();
    client.put(ITEM, &[KEY], &item(2)).expect_status(200);
    (stale, client.get(ITEM, &[KEY]).expect_status(200).json())
}

#[test]
fn a_refusal_shows_the_current_document_to_whom_asks() {
    let host = Host::start();
    let mut client = host.with_container();
    let (stale, current) = two_versions(&mut client);
    let guard = ("if-match", stale.as_str());
    let condition =
        json!({"condition": "from c where c.n = 9", "operations": [{"op": "set", "path": "/n", "value": 3}]});
    let condition = condition.to_string();
    let set = br#"[{"op":"set","path":"/n","value":3}]"#.as_slice();
    let body = item(3).to_string();
    let upsert = ("x-ms-documentdb-is-upsert", "true");
    let plain = ("x-plain", "1");
    let refused = [
        ("POST", ITEMS, plain, body.as_bytes(), 409),
        ("POST", ITEMS, upsert, body.as_bytes(), 412),
        ("PUT", ITEM, plain, body.as_bytes(), 412),
        ("DELETE", ITEM, plain, b"", 412),
        ("PATCH", ITEM, plain, set, 412),
    ];
    for (method, path, more, body, status) in refused {
        let shown = client.send(method, path, &[KEY, guard, more, SHOW], body).expect_status(status);
        assert_eq!(shown.header("preference-applied"), Some("return=representation"), "{method}");
        assert_eq!(shown.json()["current"], current, "{method}");
        assert_eq!(json!(shown.etag()), current["_etag"], "{method}");
        assert!(shown.json()["message"].is_string() && shown.json()["code"].is_string(), "{}", shown.text());
        // An SDK that does not ask sees the service's own shape.
        let silent = client.send(method, path, &[KEY, guard, more], body).expect_status(status);
        assert_eq!(silent.json().get("current"), None, "{method}");
        assert_eq!(silent.header("preference-applied"), None);
        assert_eq!(json!(silent.etag()), current["_etag"], "{method}");
    }
    let shown = client.send("PATCH", ITEM, &[KEY, SHOW], condition.as_bytes()).expect_status(412);
    assert_eq!(shown.json()["current"], current);
    // The document shown is enough to try again with.
    let now = shown.etag();
    client.put(ITEM, &[KEY, ("if-match", &now)], &item(4)).expect_status(200);
}

#[test]
fn a_refusal_without_a_document_shows_none() {
    let host = Host::start();
    let mut client = host.with_container();
    let answer = client.put(ITEM, &[KEY, ("if-match", "\"x\""), SHOW], &item(1));
    let answer = answer.expect_error(404, "NotFound", "does not exist");
    assert_eq!((answer.json().get("current"), answer.header("preference-applied")), (None, None));
    // A write that succeeds is answered with what was written, with or without the preference.
    assert_eq!(client.post(ITEMS, &[KEY, SHOW], &item(1)).expect_status(201).json()["n"], 1);
}

#[test]
fn a_new_id_that_is_taken_shows_who_has_it() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item(1)).expect_status(201);
    let other = client.create(&json!({"id": "b", "pk": "p"})).expect_status(201).json();
    let renamed = json!({"id": "b", "pk": "p", "n": 1});
    let answer = client.put(ITEM, &[KEY, SHOW], &renamed).expect_status(409);
    assert_eq!(answer.json()["current"], other);
}

#[test]
fn a_unique_value_that_is_taken_shows_who_has_it() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let policy = json!({"uniqueKeys": [{"paths": ["/email"]}]});
    let key = json!({"paths": ["/pk"], "kind": "Hash", "version": 2});
    let container = json!({"id": "c", "partitionKey": key, "uniqueKeyPolicy": policy});
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    let person = |id: &str, email: &str| json!({"id": id, "pk": "p", "email": email});
    let holder = client.create(&person("a", "x")).expect_status(201).json();
    let own = client.create(&person("b", "y")).expect_status(201).json();
    let set = r#"[{"op":"set","path":"/email","value":"x"}]"#;
    let plain = ("x-plain", "1");
    let upsert = ("x-ms-documentdb-is-upsert", "true");
    let batch = ("x-ms-cosmos-is-batch-request", "true");
    for (method, path, more, body) in [
        ("POST", ITEMS, plain, person("c", "x").to_string()),
        ("POST", ITEMS, upsert, person("b", "x").to_string()),
        ("PUT", "/dbs/d/colls/c/docs/b", plain, person("b", "x").to_string()),
        ("PATCH", "/dbs/d/colls/c/docs/b", plain, set.to_owned()),
    ] {
        let shown = client.send(method, path, &[KEY, more, SHOW], body.as_bytes());
        let shown = shown.expect_error(409, "Conflict", "same unique value");
        assert_eq!((&shown.json()["current"], &json!(shown.etag())), (&holder, &holder["_etag"]), "{method}");
    }
    let operations = json!([
        {"operationType": "Upsert", "resourceBody": person("b", "z")},
        {"operationType": "Create", "resourceBody": person("c", "x")},
    ]);
    let results = client.post(ITEMS, &[KEY, batch, SHOW], &operations).expect_status(207).json();
    assert_eq!((&results[1]["statusCode"], &results[1]["eTag"]), (&json!(409), &holder["_etag"]));
    assert_eq!(results[1]["resourceBody"]["current"], holder);
    // One that the same batch would have written is nowhere to be seen.
    let operations = json!([
        {"operationType": "Create", "resourceBody": person("c", "new")},
        {"operationType": "Create", "resourceBody": person("d", "new")},
    ]);
    let results = client.post(ITEMS, &[KEY, batch, SHOW], &operations).expect_status(207).json();
    assert_eq!(results[1]["statusCode"], 409);
    assert_eq!((results[1].get("eTag"), results[1]["resourceBody"].get("current")), (None, None));
    assert_eq!(client.get("/dbs/d/colls/c/docs/b", &[KEY]).expect_status(200).json(), own, "nothing was written");
}

#[test]
fn a_batch_shows_the_current_document_of_the_operation_that_was_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    let (stale, current) = two_versions(&mut client);
    for (operation, status) in [
        (json!({"operationType": "Replace", "id": "a", "resourceBody": item(3), "ifMatch": stale}), 412),
        (json!({"operationType": "Create", "resourceBody": item(3)}), 409),
    ] {
        let operations = json!([{"operationType": "Create", "resourceBody": {"id": "new", "pk": "p"}}, operation]);
        let batch = ("x-ms-cosmos-is-batch-request", "true");
        let shown = client.post(ITEMS, &[KEY, batch, SHOW], &operations).expect_status(207).json();
        assert_eq!(shown[1]["statusCode"], status);
        assert_eq!((&shown[1]["eTag"], &shown[1]["resourceBody"]["current"]), (&current["_etag"], &current));
        let silent = client.post(ITEMS, &[KEY, batch], &operations).expect_status(207).json();
        assert_eq!(silent[1]["resourceBody"].get("current"), None);
    }
    // What an earlier operation of the refused batch wrote never was.
    let operations = json!([
        {"operationType": "Create", "resourceBody": {"id": "new", "pk": "p"}},
        {"operationType": "Create", "resourceBody": {"id": "new", "pk": "p"}},
    ]);
    let batch = ("x-ms-cosmos-is-batch-request", "true");
    let answer = client.post(ITEMS, &[KEY, batch, SHOW], &operations).expect_status(207).json();
    assert_eq!((answer[1]["statusCode"].as_u64(), answer[1]["resourceBody"].get("current")), (Some(409), None));
}
