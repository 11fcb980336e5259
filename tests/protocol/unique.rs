//! Unique keys: values that no two items of one partition key share, whatever way they are written.

use std::thread;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Clock, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "True");
const TAKEN: &str = "Unique index constraint violation";

fn definition() -> Value {
    json!({
        "id": "c",
        "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2},
        "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/email"]}, {"paths": ["/name/first", "/name/last"]}]},
        "defaultTtl": -1,
    })
}

fn container(host: &Host) -> Client {
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "d"})).expect_status(201);
    let made = client.post("/dbs/d/colls", &[], &definition()).expect_status(201).json();
    assert_eq!(made["uniqueKeyPolicy"], definition()["uniqueKeyPolicy"]);
    client
}

/// An item of the partition key `p` whose other unique key is its id.
fn item(id: &str, email: &str) -> Value {
    json!({"id": id, "pk": "p", "email": email, "name": {"first": id}})
}

fn path(id: &str) -> String {
    format!("{ITEMS}/{id}")
}

fn patch(client: &mut Client, id: &str, email: &str) -> Answer {
    let body = json!([{"op": "set", "path": "/email", "value": email}]).to_string();
    client.send("PATCH", &path(id), &[KEY], body.as_bytes())
}

/// The (id, email) of all items, which must be as many as there are different emails.
fn all(client: &mut Client) -> Vec<(String, String)> {
    let list = client.get(ITEMS, &[KEY]).expect_status(200).json();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let all: Vec<_> =
        list["Documents"].as_array().expect("a list").iter().map(|i| (text(&i["id"]), text(&i["email"]))).collect();
    let mut emails: Vec<_> = all.iter().map(|(_, email)| email).collect();
    emails.sort();
    emails.dedup();
    assert_eq!(emails.len(), all.len(), "{all:?}");
    all
}

#[test]
fn a_value_that_is_taken_is_refused_to_every_kind_of_write() {
    let host = Host::start();
    let mut client = container(&host);
    client.create(&item("a", "x")).expect_status(201);
    let etag = client.create(&item("b", "y")).expect_status(201).etag();
    client.create(&item("c", "x")).expect_error(409, "Conflict", TAKEN);
    client
        .post(ITEMS, &[KEY, ("x-ms-documentdb-is-upsert", "true")], &item("c", "x"))
        .expect_error(409, "Conflict", TAKEN);
    client
        .post(ITEMS, &[KEY, ("x-ms-documentdb-is-upsert", "true")], &item("b", "x"))
        .expect_error(409, "Conflict", TAKEN);
    client.put(&path("b"), &[KEY], &item("b", "x")).expect_error(409, "Conflict", TAKEN);
    client.put(&path("b"), &[KEY], &item("renamed", "x")).expect_error(409, "Conflict", TAKEN);
    patch(&mut client, "b", "x").expect_error(409, "Conflict", TAKEN);
    // What is refused for another reason is refused for that: absent, taken id, other version.
    client.put(&path("no"), &[KEY], &item("no", "x")).expect_status(404);
    let taken = client.create(&item("b", "x")).expect_status(409);
    assert!(!taken.text().contains(TAKEN));
    client.put(&path("b"), &[KEY, ("if-match", "\"other\"")], &item("b", "x")).expect_status(412);
    assert_eq!(client.get(&path("b"), &[KEY]).etag(), etag, "nothing was written");
    // The second key, by its two paths together.
    let named = |id: &str, first: Value, last: Value| json!({"id": id, "pk": "p", "email": id, "name": {"first": first, "last": last}});
    client.create(&named("n1", json!("ann"), json!("lee"))).expect_status(201);
    client.create(&named("n2", json!("ann"), json!("poe"))).expect_status(201);
    client.create(&named("n3", json!("ann"), json!("lee"))).expect_error(409, "Conflict", TAKEN);
    // Other partition keys have values of their own.
    let mut other = item("a", "x");
    other["pk"] = json!("q");
    client.create(&other).expect_status(201);
    assert_eq!(all(&mut client).len(), 4);
}

#[test]
fn equal_values_are_equal_however_they_are_written() {
    let host = Host::start();
    let mut client = container(&host);
    let mut create = |id: &str, email: Option<&str>| {
        let email = email.map(|email| format!(",\"email\":{email}")).unwrap_or_default();
        let text = format!("{{\"id\":\"{id}\",\"pk\":\"p\",\"name\":{{\"first\":\"{id}\"}}{email}}}");
        client.send("POST", ITEMS, &[KEY], text.as_bytes()).status
    };
    for (index, (email, status)) in [
        (Some("1"), 201),
        (Some("1.0"), 409),
        (Some("\"1\""), 201),
        (Some("\"\\u0031\""), 409),
        (Some("true"), 201),
        (Some("[1, 2]"), 201),
        (Some("[1,2]"), 409),
        // Without the value counts as null, and one item may be so.
        (None, 201),
        (Some("null"), 409),
        (None, 409),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(create(&format!("i{index}"), email), status, "{email:?}");
    }
}

#[test]
fn a_value_is_free_again_when_its_item_gives_it_up() {
    let host = Host::start();
    let mut client = container(&host);
    client.create(&item("a", "x")).expect_status(201);
    client.put(&path("a"), &[KEY], &item("a", "x")).expect_status(200);
    client.put(&path("a"), &[KEY], &item("a", "y")).expect_status(200);
    client.create(&item("b", "x")).expect_status(201);
    patch(&mut client, "a", "z").expect_status(200);
    patch(&mut client, "b", "y").expect_status(200);
    client.create(&item("c", "x")).expect_status(201);
    client.delete(&path("c"), &[KEY]).expect_status(204);
    patch(&mut client, "b", "x").expect_status(200);
    // A renamed item keeps its values.
    let mut renamed = item("b", "x");
    renamed["id"] = json!("b2");
    client.put(&path("b"), &[KEY], &renamed).expect_status(200);
    client.create(&item("d", "x")).expect_error(409, "Conflict", TAKEN);
    drop(client);
    let host = host.restart();
    let mut client = host.connect();
    client.create(&item("d", "x")).expect_error(409, "Conflict", TAKEN);
    let delete = "/dbs/d/colls/c/operations/partitionkeydelete";
    client.send("POST", delete, &[KEY], b"").expect_status(200);
    for email in ["x", "y", "z"] {
        client.create(&item(email, email)).expect_status(201);
    }
    all(&mut client);
}

#[test]
fn an_expired_item_gives_up_its_values() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host);
    let mut short = item("a", "x");
    short["ttl"] = json!(10);
    client.create(&short).expect_status(201);
    clock.pass(9);
    // Written anew, it lives on, and so must what guards its values.
    client.put(&path("a"), &[KEY], &short).expect_status(200);
    clock.pass(9);
    client.create(&item("b", "x")).expect_error(409, "Conflict", TAKEN);
    clock.pass(1);
    client.create(&item("b", "x")).expect_status(201);
    clock.pass(1_000_000);
    client.create(&item("c", "x")).expect_error(409, "Conflict", TAKEN);
}

#[test]
fn batches_keep_unique_values_too() {
    let host = Host::start();
    let mut client = container(&host);
    client.create(&item("a", "x")).expect_status(201);
    let statuses = |answer: Answer| -> Vec<u64> {
        let results = answer.json();
        results.as_array().expect("results").iter().map(|r| r["statusCode"].as_u64().expect("a status")).collect()
    };
    let create = |id: &str, email: &str| json!({"operationType": "Create", "resourceBody": item(id, email)});
    let upsert = |id: &str, email: &str| json!({"operationType": "Upsert", "resourceBody": item(id, email)});
    let delete = |id: &str| json!({"operationType": "Delete", "id": id});
    let send = |client: &mut Client, operations: Value| client.post(ITEMS, &[KEY, BATCH], &operations);

    let refused = send(&mut client, json!([create("b", "y"), create("c", "y")]));
    assert_eq!(statuses(refused.expect_status(207)), [424, 409]);
    let refused = send(&mut client, json!([create("b", "x"), delete("a")]));
    assert_eq!(statuses(refused.expect_status(207)), [409, 424]);
    assert_eq!(all(&mut client), [("a".to_owned(), "x".to_owned())]);
    // A value that an earlier operation gave up can be taken by a later one, and then again.
    let done =
        send(&mut client, json!([delete("a"), create("b", "x"), upsert("b", "y"), create("c", "x"), upsert("c", "x")]));
    assert_eq!(statuses(done.expect_status(200)), [204, 201, 200, 201, 200]);
    client.create(&item("d", "y")).expect_error(409, "Conflict", TAKEN);

    let alone = [
        ("x-ms-cosmos-batch-atomic", "false"),
        ("x-ms-cosmos-batch-continue-on-error", "true"),
        ("x-ms-documentdb-partitionkeyrangeid", "0"),
    ];
    let mut operations =
        json!([create("e", "1"), create("f", "1"), upsert("f", "2"), upsert("e", "2"), create("g", "1")]);
    for operation in operations.as_array_mut().expect("operations") {
        operation["partitionKey"] = json!("[\"p\"]");
    }
    let answer = client.post(ITEMS, &[BATCH, alone[0], alone[1], alone[2]], &operations);
    assert_eq!(statuses(answer), [201, 409, 201, 409, 409]);
    let stop = client.post(ITEMS, &[BATCH, alone[0], ("x-ms-cosmos-batch-continue-on-error", "false")], &operations);
    assert_eq!(statuses(stop), [409, 424, 424, 424, 424]);
    all(&mut client);
}

#[test]
fn a_write_that_is_told_again_finds_its_own_value() {
    let host = Host::start();
    let mut client = container(&host);
    let key = ("idempotency-key", "k1");
    let first = client.post(ITEMS, &[KEY, key], &item("a", "x")).expect_status(201);
    let again = client.post(ITEMS, &[KEY, key], &item("a", "x")).expect_status(201);
    assert_eq!((first.etag(), first.text()), (again.etag(), again.text()));
}

#[test]
fn of_writers_that_race_for_a_value_one_gets_it() {
    let host = Host::start();
    let mut client = container(&host);
    for round in 0..10 {
        let email = format!("r{round}");
        let won: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|racer| {
                    let (mut client, email) = (host.connect(), &email);
                    scope.spawn(move || {
                        let id = format!("{email}-{racer}");
                        let created = client.create(&item(&id, email)).status == 201;
                        // Half of them try from an item they have already.
                        let own = format!("own-{email}-{racer}");
                        client.create(&item(&own, &own)).expect_status(201);
                        let changed = racer % 2 == 0 && patch(&mut client, &own, email).status == 200;
                        usize::from(created) + usize::from(changed)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).sum()
        });
        assert_eq!(won, 1, "{email}");
    }
    all(&mut client);
}

#[test]
fn patches_of_one_item_are_one_step_each() {
    let host = Host::start();
    let mut client = container(&host);
    client.create(&json!({"id": "a", "pk": "p", "email": "x", "n": 0})).expect_status(201);
    let body = json!([{"op": "incr", "path": "/n", "value": 1}]).to_string();
    thread::scope(|scope| {
        for _ in 0..8 {
            let (mut client, body) = (host.connect(), &body);
            scope.spawn(move || {
                for _ in 0..20 {
                    client.send("PATCH", &path("a"), &[KEY], body.as_bytes()).expect_status(200);
                }
            });
        }
    });
    assert_eq!(client.get(&path("a"), &[KEY]).json()["n"], json!(160));
}

#[test]
fn the_policy_is_checked_and_cannot_change() {
    let host = Host::start();
    let mut client = container(&host);
    let mut other = definition();
    other["uniqueKeyPolicy"] = json!({"uniqueKeys": [{"paths": ["/other"]}]});
    client.put("/dbs/d/colls/c", &[], &other).expect_error(400, "BadRequest", "unique keys cannot change");
    other.as_object_mut().expect("an object").remove("uniqueKeyPolicy");
    let kept = client.put("/dbs/d/colls/c", &[], &other).expect_status(200).json();
    assert_eq!(kept["uniqueKeyPolicy"], definition()["uniqueKeyPolicy"]);
    for wrong in [json!({"uniqueKeys": [{"paths": ["a"]}]}), json!({"uniqueKeys": [{}]}), json!({"uniqueKeys": {}})] {
        let mut definition = definition();
        definition["id"] = json!("w");
        definition["uniqueKeyPolicy"] = wrong;
        client.post("/dbs/d/colls", &[], &definition).expect_error(400, "BadRequest", "uniqueKeyPolicy");
    }
    // A container of the same name made anew has no values yet.
    client.create(&item("a", "x")).expect_status(201);
    client.delete("/dbs/d/colls/c", &[]).expect_status(204);
    client.post("/dbs/d/colls", &[], &definition()).expect_status(201);
    client.create(&item("b", "x")).expect_status(201);
}

/// An expiry that a write finds is a commit of the same batch, and takes a sequence between the others.
#[test]
fn a_write_that_is_told_again_names_its_version_although_something_had_expired() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = container(&host);
    let mut short = item("a", "x");
    short["ttl"] = json!(10);
    client.create(&short).expect_status(201);
    clock.pass(10);
    let key = ("idempotency-key", "k1");
    let first = client.post(ITEMS, &[KEY, key], &item("b", "x")).expect_status(201);
    let again = client.post(ITEMS, &[KEY, key], &item("b", "x")).expect_status(201);
    assert_eq!((first.etag(), first.text()), (again.etag(), again.text()));
}
