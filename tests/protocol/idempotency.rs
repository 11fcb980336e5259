//! `Idempotency-Key`: a write that is sent again is answered as it was, and done once.

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Answer, Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "true");

fn item(n: u32) -> Value {
    json!({"id": "a", "pk": "p", "n": n})
}

/// How many versions the item `a` has, those of deletions included.
fn versions(client: &mut Client) -> Value {
    client.get(ITEM, &[KEY, ("x-etagdb-versions", "true")]).expect_status(200).json()["_count"].clone()
}

/// What of an answer must be the same the second time.
fn essence(answer: &Answer) -> (u16, Vec<Option<String>>, String) {
    let headers =
        ["etag", "lsn", "x-ms-item-lsn", "x-ms-session-token", "content-type", "x-ms-substatus", "x-ms-content-path"];
    let headers = headers.map(|name| answer.header(name).map(str::to_owned)).to_vec();
    (answer.status, headers, answer.text())
}

type Header = (&'static str, &'static str);

/// One write after the other on the same item: method, path, header, body, status.
fn writes() -> Vec<(&'static str, &'static str, Header, String, u16)> {
    let plain = ("x-plain", "1");
    let batch = json!([
        {"operationType": "Create", "resourceBody": {"id": "b", "pk": "p"}},
        {"operationType": "Patch", "id": "b", "resourceBody": {"operations": [{"op": "add", "path": "/n", "value": 1}]}},
        {"operationType": "Read", "id": "b"},
        {"operationType": "Read", "id": "a"},
        {"operationType": "Replace", "id": "b", "resourceBody": {"id": "c", "pk": "p"}},
        {"operationType": "Delete", "id": "c"},
        {"operationType": "Upsert", "resourceBody": item(9)},
    ]);
    vec![
        ("POST", ITEMS, plain, item(1).to_string(), 201),
        ("POST", ITEMS, ("x-ms-documentdb-is-upsert", "true"), item(2).to_string(), 200),
        ("PUT", ITEM, plain, item(3).to_string(), 200),
        ("PUT", ITEM, ("prefer", "return=minimal"), item(4).to_string(), 200),
        ("PATCH", ITEM, plain, r#"[{"op":"incr","path":"/n","value":1}]"#.to_owned(), 200),
        ("POST", ITEMS, BATCH, batch.to_string(), 200),
        ("DELETE", ITEM, plain, String::new(), 204),
        ("POST", ITEMS, ("x-ms-documentdb-is-upsert", "true"), item(2).to_string(), 201),
    ]
}

#[test]
fn every_write_sent_again_is_answered_as_it_was_and_done_once() {
    let mut host = Host::start();
    let mut client = host.with_container();
    let mut answers = Vec::new();
    for (number, (method, path, header, body, status)) in writes().into_iter().enumerate() {
        let key = format!("key {number}");
        let headers = [KEY, header, ("idempotency-key", &key)];
        let first = client.send(method, path, &headers, body.as_bytes()).expect_status(status);
        assert_eq!(first.header("idempotency-replayed"), None);
        let before = versions(&mut client);
        let second = client.send(method, path, &headers, body.as_bytes());
        assert_eq!(essence(&second), essence(&first), "{method} {header:?}");
        assert_eq!(second.header("idempotency-replayed"), Some("true"));
        assert_eq!(versions(&mut client), before, "{method} {header:?} was done again");
        answers.push(essence(&first));
    }
    // Long after, when the item has moved on, and in another process.
    host = host.restart();
    let mut client = host.connect();
    let before = versions(&mut client);
    for (number, (method, path, header, body, _)) in writes().into_iter().enumerate() {
        let key = format!("key {number}");
        let again = client.send(method, path, &[KEY, header, ("idempotency-key", &key)], body.as_bytes());
        assert_eq!(essence(&again), answers[number], "{method} {header:?}");
    }
    assert_eq!(versions(&mut client), before);
}

#[test]
fn what_a_batch_answered_names_versions_that_are_there() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item(1)).expect_status(201);
    let operations = json!([
        {"operationType": "Create", "resourceBody": {"id": "b", "pk": "p"}},
        {"operationType": "Delete", "id": "a"},
        {"operationType": "Create", "resourceBody": {"id": "a", "pk": "p", "n": 2}},
        {"operationType": "Replace", "id": "b", "resourceBody": {"id": "b", "pk": "p", "n": 3}},
    ]);
    let headers = [KEY, BATCH, ("idempotency-key", "k")];
    client.post(ITEMS, &headers, &operations).expect_status(200);
    let again = client.post(ITEMS, &headers, &operations).expect_status(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let results = again.json();
    for (index, id) in [(2, "a"), (3, "b")] {
        let read = client.get(&format!("{ITEMS}/{id}"), &[KEY]).expect_status(200);
        assert_eq!(results[index]["resourceBody"], read.json(), "every system property is the real one");
        assert_eq!(results[index]["eTag"], read.etag());
    }
}

#[test]
fn bulk_operations_are_remembered_with_their_refusals() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&item(1)).expect_status(201);
    let operations = json!([
        {"operationType": "Create", "resourceBody": item(2), "partitionKey": "[\"p\"]"},
        {"operationType": "Upsert", "resourceBody": item(3), "partitionKey": "[\"p\"]"},
        {"operationType": "Read", "id": "none", "partitionKey": "[\"p\"]"},
    ]);
    let headers = [BATCH, ("x-ms-cosmos-batch-atomic", "false"), ("idempotency-key", "k")];
    let first = client.post(ITEMS, &headers, &operations).expect_status(207);
    let second = client.post(ITEMS, &headers, &operations);
    assert_eq!(essence(&second), essence(&first));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(versions(&mut client), 2);
}

#[test]
fn another_request_with_the_same_key_is_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    let named = ("idempotency-key", "k");
    let etag = client.post(ITEMS, &[KEY, named], &item(1)).expect_status(201).etag();
    let upsert = ("x-ms-documentdb-is-upsert", "true");
    let refused = [
        client.post(ITEMS, &[KEY, named], &item(2)),
        client.post(ITEMS, &[KEY, named, upsert], &item(1)),
        client.post(ITEMS, &[KEY, named, ("if-match", &etag)], &item(1)),
        client.put(ITEM, &[KEY, named], &item(1)),
        client.delete(ITEM, &[KEY, named]),
    ];
    for answer in refused {
        answer.expect_error(422, "UnprocessableEntity", "Idempotency-Key");
    }
    assert_eq!(client.get(ITEM, &[KEY]).etag(), etag, "nothing was written");
    // The same key in another container is another key.
    let container = json!({"id": "e", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    client.post("/dbs/d/colls/e/docs", &[KEY, named], &item(2)).expect_status(201);
}

#[test]
fn a_write_that_was_refused_is_judged_anew() {
    let host = Host::start();
    let mut client = host.with_container();
    let named = ("idempotency-key", "k");
    client.put(ITEM, &[KEY, named], &item(2)).expect_status(404);
    client.create(&item(1)).expect_status(201);
    let done = client.put(ITEM, &[KEY, named], &item(2)).expect_status(200);
    assert_eq!(done.header("idempotency-replayed"), None);
    let again = client.put(ITEM, &[KEY, named], &item(2)).expect_status(200);
    assert_eq!((again.etag(), again.header("idempotency-replayed")), (done.etag(), Some("true")));
}

#[test]
fn of_many_requests_with_one_key_at_once_one_writes() {
    let host = Host::start();
    let mut client = host.with_container();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let send = || {
            let mut client = host.connect();
            let named = ("idempotency-key", "k");
            let upsert = ("x-ms-documentdb-is-upsert", "true");
            client.post(ITEMS, &[KEY, named, upsert], &item(1)).expect_status(201)
        };
        let senders: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0].etag() == pair[1].etag()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(versions(&mut client), 1);
}

/// The guards of unique keys are writes too, in the same batch, and so is the expiry of what was there before.
#[test]
fn writes_beside_the_items_do_not_confuse_what_is_remembered() {
    let host = Host::start();
    let mut client = host.with_container();
    let container = json!({
        "id": "u",
        "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2},
        "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/email"]}]},
        "defaultTtl": -1,
    });
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    let items = "/dbs/d/colls/u/docs";
    let user = |id: &str, email: &str| json!({"id": id, "pk": "p", "email": email});
    let create = |id: &str, email: &str| json!({"operationType": "Create", "resourceBody": user(id, email)});
    let requests = [
        (vec![KEY, ("idempotency-key", "one")], user("a", "ana@x"), 201),
        (
            vec![KEY, BATCH, ("idempotency-key", "batch")],
            json!([
                create("b", "berta@x"),
                create("c", "carla@x"),
                {"operationType": "Replace", "id": "b", "resourceBody": user("b", "bella@x")},
                {"operationType": "Delete", "id": "c"},
                create("d", "carla@x"),
            ]),
            200,
        ),
    ];
    for (headers, body, status) in &requests {
        let first = client.post(items, headers, body).expect_status(*status);
        let again = client.post(items, headers, body);
        assert_eq!(essence(&again), essence(&first));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    let (headers, body, _) = &requests[1];
    let results = client.post(items, headers, body).json();
    for (index, id) in [(2, "b"), (4, "d")] {
        let read = client.get(&format!("{items}/{id}"), &[KEY]).expect_status(200);
        assert_eq!((&results[index]["resourceBody"], &results[index]["eTag"]), (&read.json(), &json!(read.etag())));
    }
}

#[test]
fn keys_that_make_no_sense_and_writes_that_are_not_remembered() {
    let host = Host::start();
    let mut client = host.with_container();
    let long = "x".repeat(256);
    for key in ["", " ", "é", &long] {
        client.post(ITEMS, &[KEY, ("idempotency-key", key)], &item(1)).expect_error(
            400,
            "BadRequest",
            "Idempotency-Key",
        );
        client.expect_alive();
    }
    let named = ("idempotency-key", "k");
    client.post(ITEMS, &[KEY, named, named], &item(1)).expect_error(400, "BadRequest", "twice");
    client.post("/dbs", &[named], &json!({"id": "e"})).expect_error(400, "BadRequest", "items only");
    client.delete("/dbs/d/colls/c", &[named]).expect_error(400, "BadRequest", "items only");
    client.delete("/dbs/d", &[named]).expect_error(400, "BadRequest", "items only");
    let all = "/dbs/d/colls/c/operations/partitionkeydelete";
    client.send("POST", all, &[KEY, named], b"").expect_error(400, "BadRequest", "items only");
    // A read needs no key, and one that comes with it is a read.
    client.get("/dbs", &[named]).expect_status(200);
    client.get(ITEMS, &[named]).expect_status(200);
    assert_eq!(client.query("SELECT * FROM c", &[named]).expect_status(200).json()["_count"], 0);
}

#[test]
fn what_is_remembered_survives_a_kill() {
    let served = Served::start();
    let mut client = Client::of(served.address());
    client.make_container();
    let headers = [KEY, ("idempotency-key", "k")];
    let first = client.post(ITEMS, &headers, &item(1)).expect_status(201);
    client.put(ITEM, &[KEY], &item(2)).expect_status(200);
    let served = served.kill_and_restart();
    let mut client = Client::of(served.address());
    let again = client.post(ITEMS, &headers, &item(1)).expect_status(201);
    assert_eq!(essence(&again), essence(&first));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(client.get(ITEM, &[KEY]).expect_status(200).json()["n"], 2);
    assert!(served.stop().success());
}
