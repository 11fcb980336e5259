//! Transactional batches and bulk requests.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

fn item(id: &str, n: u32) -> Value {
    json!({"id": id, "pk": "p", "n": n})
}

fn batch(client: &mut Client, operations: &Value) -> Answer {
    let headers = [KEY, ("x-ms-cosmos-is-batch-request", "True"), ("x-ms-cosmos-batch-atomic", "True")];
    client.post(ITEMS, &headers, operations)
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let results = answer.json();
    results.as_array().expect("results").iter().map(|result| result["statusCode"].as_u64().expect("a status")).collect()
}

#[test]
fn later_operations_see_earlier_ones() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item("old", 1)).expect_status(201);
    let answer = batch(
        &mut client,
        &json!([
            {"operationType": "Create", "resourceBody": item("a", 1)},
            {"operationType": "Read", "id": "a"},
            {"operationType": "Replace", "id": "a", "resourceBody": item("a", 2)},
            {"operationType": "Patch", "id": "a", "resourceBody": {"operations": [{"op": "incr", "path": "/n", "value": 5}]}},
            {"operationType": "Read", "id": "a"},
            {"operationType": "Upsert", "resourceBody": item("b", 1)},
            {"operationType": "Delete", "id": "old"},
        ]),
    )
    .expect_status(200);
    assert_eq!(statuses(&answer), [201, 200, 200, 200, 200, 201, 204]);
    let results = answer.json();
    assert_eq!(results[4]["resourceBody"]["n"], 7);
    assert_eq!(results[1]["eTag"], results[0]["eTag"], "a read shows the etag of the write it follows");
    assert_eq!(results[4]["eTag"], results[3]["eTag"]);
    assert_eq!(results[3]["resourceBody"]["_etag"], results[3]["eTag"]);
    assert_eq!(results[1]["resourceBody"]["_rid"], results[4]["resourceBody"]["_rid"]);
    let read = client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    assert_eq!((json!(read.etag()), read.json()["n"].clone()), (results[4]["eTag"].clone(), json!(7)));
    client.get("/dbs/d/colls/c/docs/old", &[KEY]).expect_status(404);
}

#[test]
fn one_refusal_undoes_all_and_is_the_only_one_named() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&item("a", 1)).expect_status(201).etag();
    let refused = [
        (json!({"operationType": "Create", "resourceBody": item("a", 2)}), 409),
        (json!({"operationType": "Read", "id": "none"}), 404),
        (json!({"operationType": "Delete", "id": "none"}), 404),
        (json!({"operationType": "Replace", "id": "a", "resourceBody": item("a", 2), "ifMatch": "\"stale\""}), 412),
        (json!({"operationType": "Upsert", "resourceBody": item("a", 2), "ifMatch": "\"stale\""}), 412),
        (json!({"operationType": "Delete", "id": "a", "ifMatch": "\"stale\""}), 412),
        (json!({"operationType": "Read", "id": "a", "ifNoneMatch": etag}), 304),
        (json!({"operationType": "Read", "id": "a", "ifMatch": etag}), 304),
        (json!({"operationType": "Create", "resourceBody": {"id": "z", "pk": "q"}}), 400),
        (json!({"operationType": "Create", "resourceBody": {"id": "z"}}), 400),
        (json!({"operationType": "Create", "resourceBody": []}), 400),
        (
            json!({"operationType": "Patch", "id": "a", "resourceBody": {"operations": [{"op": "set", "path": "/n", "value": 1}], "condition": "from c where c.n = 9"}}),
            412,
        ),
        (
            json!({"operationType": "Patch", "id": "a", "resourceBody": {"operations": [{"op": "remove", "path": "/none"}]}}),
            400,
        ),
    ];
    for (operation, status) in refused {
        let operations = json!([
            {"operationType": "Create", "resourceBody": item("new", 1)},
            operation,
            {"operationType": "Create", "resourceBody": item("newer", 1)},
        ]);
        let answer = batch(&mut client, &operations).expect_status(207);
        assert_eq!(statuses(&answer), [424, status, 424], "{operation}: {}", answer.text());
        if status == 409 || status == 412 || status == 304 {
            assert_eq!(answer.json()[1]["eTag"], etag, "the version that is there is named: {}", answer.text());
        }
        let listed = client.get(ITEMS, &[]).json();
        assert_eq!((listed["_count"].clone(), listed["Documents"][0]["_etag"].clone()), (json!(1), json!(etag)));
    }
}

#[test]
fn the_first_refusal_in_order_is_the_one_that_counts() {
    let host = Host::start();
    let mut client = host.with_container();
    let answer = batch(
        &mut client,
        &json!([{"operationType": "Read", "id": "none"}, {"operationType": "Create", "resourceBody": {"id": "z", "pk": "q"}}]),
    );
    assert_eq!(statuses(&answer.expect_status(207)), [404, 424]);
}

#[test]
fn an_item_can_be_given_another_id() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item("a", 1)).expect_status(201);
    client.create(&item("taken", 1)).expect_status(201);
    client.put("/dbs/d/colls/c/docs/a", &[KEY], &item("taken", 2)).expect_error(409, "Conflict", "exists");
    client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    client.put("/dbs/d/colls/c/docs/a", &[KEY], &item("b", 2)).expect_status(200);
    client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(404);
    let operations = json!([
        {"operationType": "Replace", "id": "b", "resourceBody": item("c", 3)},
        {"operationType": "Read", "id": "c"},
        {"operationType": "Replace", "id": "c", "resourceBody": item("taken", 4)},
    ]);
    assert_eq!(statuses(&batch(&mut client, &operations).expect_status(207)), [424, 424, 409]);
    assert_eq!(client.get("/dbs/d/colls/c/docs/b", &[KEY]).expect_status(200).json()["n"], 2);
}

#[test]
fn bulk_operations_stand_each_for_itself() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let operations = json!([
        {"operationType": "Create", "partitionKey": "[\"p\"]", "resourceBody": {"id": "a", "pk": "p"}},
        {"operationType": "Create", "partitionKey": "[\"q\"]", "resourceBody": {"id": "a", "pk": "q"}},
        {"operationType": "Read", "partitionKey": "[\"q\"]", "id": "a"},
        {"operationType": "Delete", "partitionKey": "[null]", "id": "a"},
        {"operationType": "Create", "partitionKey": "[\"q\"]", "resourceBody": {"id": "b", "pk": "p"}},
        {"operationType": "Replace", "partitionKey": "[\"p\"]", "id": "a", "resourceBody": {"id": "c", "pk": "p"}},
        {"operationType": "Upsert", "partitionKey": "[{}]", "resourceBody": {"id": "a"}},
    ]);
    let headers = |continues| {
        [
            ("x-ms-cosmos-is-batch-request", "true"),
            ("x-ms-cosmos-batch-atomic", "false"),
            ("x-ms-cosmos-batch-continue-on-error", continues),
            ("x-ms-documentdb-partitionkeyrangeid", "0"),
        ]
    };
    let answer = client.post(ITEMS, &headers("true"), &operations).expect_status(207);
    assert_eq!(statuses(&answer), [409, 201, 200, 404, 400, 200, 201], "{}", answer.text());
    assert_eq!(client.get(ITEMS, &[]).json()["_count"], 3);
    let stopping = client.post(ITEMS, &headers("false"), &operations).expect_status(207);
    assert_eq!(statuses(&stopping), [201, 409, 424, 424, 424, 424, 424], "{}", stopping.text());
}

#[test]
fn all_items_of_a_partition_key_can_be_deleted() {
    let host = Host::start();
    let mut client = host.with_container();
    for id in ["a", "b"] {
        client.create(&json!({"id": id, "pk": "p"})).expect_status(201);
        client.create(&json!({"id": id, "pk": "q"})).expect_status(201);
    }
    let path = "/dbs/d/colls/c/operations/partitionkeydelete";
    client.post(path, &[KEY], &json!(null)).expect_status(200);
    client.post(path, &[("x-ms-documentdb-partitionkey", "[null]")], &json!(null)).expect_status(200);
    let listed = client.get(ITEMS, &[]).json();
    assert_eq!(listed["_count"], 2);
    assert_eq!(listed["Documents"][0]["pk"], "q");
    client.post(path, &[], &json!(null)).expect_error(400, "BadRequest", "PartitionKey");
}

#[test]
fn a_check_writes_nothing_and_ends_a_batch_whose_premise_is_gone() {
    let host = Host::start();
    let mut client = host.with_container();
    let batch = ("x-ms-cosmos-is-batch-request", "True");
    let mut send = |operations: Value| {
        let answer = client.post(ITEMS, &[KEY, batch], &operations);
        let results = answer.json();
        let results = results.as_array().unwrap_or_else(|| panic!("{results}"));
        let statuses: Vec<_> = results.iter().map(|result| result["statusCode"].clone()).collect();
        (statuses, results.iter().map(|result| result["eTag"].clone()).collect::<Vec<_>>())
    };
    let check = |id: &str, name: &str, etag: &Value| json!({"operationType": "Check", "id": id, name: etag});
    let create = |id: &str| json!({"operationType": "Create", "resourceBody": {"id": id, "pk": "p"}});
    let any = json!("*");

    let (statuses, etags) = send(json!([check("a", "ifNoneMatch", &any), create("a"), check("a", "ifMatch", &any)]));
    assert_eq!(statuses, [204, 201, 204]);
    let etag = &etags[1];
    let (statuses, _) = send(json!([check("a", "ifMatch", etag), create("b")]));
    assert_eq!(statuses, [204, 201]);
    let stale = json!("\"another\"");
    for (premise, current) in [
        (check("a", "ifMatch", &stale), etag),
        (check("a", "ifNoneMatch", etag), etag),
        (check("a", "ifNoneMatch", &any), etag),
        (check("none", "ifMatch", &any), &Value::Null),
        (check("none", "ifMatch", etag), &Value::Null),
    ] {
        let (statuses, etags) = send(json!([create("c"), premise]));
        assert_eq!(statuses, [424, 412], "{premise}");
        assert_eq!(&etags[1], current, "a refusal names the version that is there");
    }
    assert_eq!(
        send(json!([check("a", "ifNoneMatch", &stale), create("c")])).0,
        [204, 201],
        "nothing was written before"
    );
    let bare = json!([{"operationType": "Check", "id": "a"}]);
    client.post(ITEMS, &[KEY, batch], &bare).expect_error(400, "BadRequest", "`Check` needs");
}
