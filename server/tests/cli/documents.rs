//! `etagdb get`, `history` and `why`: one document, what it was, and what changed.

use std::time::Duration;

use etagdb::{Retention, Store};
use etagdb_server::LocalServer;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{Place, run};

/// A store whose container `d/c` by `/pk` is written to by the test itself.
struct Written {
    place: Place,
    store: Store,
    server: LocalServer,
}

impl Written {
    fn new() -> Written {
        let place = Place::new();
        let store = Store::open(place.path("data")).unwrap();
        let server = LocalServer::open(store.clone()).unwrap();
        let written = Written { place, store, server };
        written.send(Method::POST, "/dbs", json!({ "id": "d" }));
        let key = json!({ "paths": ["/pk"], "kind": "Hash", "version": 2 });
        written.send(Method::POST, "/dbs/d/colls", json!({ "id": "c", "partitionKey": key }));
        written
    }

    /// Sends a request about partition `x`; returns the etag that it answers with.
    fn send(&self, method: Method, path: &str, body: Value) -> String {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-ms-documentdb-partitionkey", "[\"x\"]")
            .header("x-ms-documentdb-is-upsert", "True")
            .body(body.to_string().into())
            .unwrap();
        let response = self.server.answer(request);
        assert!(response.status().is_success(), "{response:?}");
        let etag = response.headers().get("etag").map(|etag| etag.to_str().unwrap());
        etag.unwrap_or_default().trim_matches('"').to_owned()
    }

    /// Writes document `a`.
    fn put(&self, members: Value) -> String {
        let mut document = json!({ "id": "a", "pk": "x" });
        for (name, value) in members.as_object().unwrap() {
            document[name] = value.clone();
        }
        self.send(Method::POST, "/dbs/d/colls/c/docs", document)
    }

    fn delete(&self) {
        self.send(Method::DELETE, "/dbs/d/colls/c/docs/a", json!({}));
    }

    /// Drops all versions that are not current.
    fn drop_past(&self) {
        let items = self.store.collections().into_iter().find(|name| name.starts_with("docs/")).unwrap();
        let items = self.store.existing_collection(&items).unwrap();
        items.set_retention(Retention::age(Duration::ZERO)).unwrap();
        self.store.run_maintenance().unwrap();
    }

    fn close(self) -> Place {
        let Written { place, store, server } = self;
        drop((store, server));
        place
    }
}

/// Runs a command about container `d/c`, on the directory and on a server of it, which have to agree; a server's
/// address is left out of what is compared.
fn both(place: &Place, command: &str, more: &[&str]) -> (i32, String, String) {
    let data = place.path("data");
    let ask = |from: &[&str]| run(&[&[command, "--database", "d", "--container", "c"], from, more].concat());
    let local = ask(&["--data", &data]);
    let server = place.serve();
    let (code, stdout, stderr) = ask(&["--url", &server.url]);
    server.end("TERM");
    assert_eq!((code, &stdout), (local.0, &local.1), "{stderr}");
    assert_eq!(stderr.is_empty(), local.2.is_empty(), "{stderr}");
    local
}

fn json_of((code, stdout, stderr): (i32, String, String)) -> Value {
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[test]
fn get_prints_a_document_now_and_as_it_was() {
    let written = Written::new();
    let first = written.put(json!({ "n": 1 }));
    let second = written.put(json!({ "n": 2 }));
    let place = written.close();
    let now = json_of(both(&place, "get", &["a"]));
    assert_eq!((&now["n"], &now["_etag"], now.get("_self")), (&json!(2), &json!(format!("\"{second}\"")), None));
    assert_eq!(json_of(both(&place, "get", &["--partition", "x", "--json", "a"])), now);
    for at in [first.clone(), format!("\"{first}\"")] {
        assert_eq!(json_of(both(&place, "get", &["--at", &at, "--json", "a"]))["n"], 1, "{at}");
    }
    let (_, stdout, _) = both(&place, "get", &["a"]);
    assert!(stdout.starts_with("{\n  \"id\": \"a\",\n"), "{stdout}");
}

#[test]
fn digits_are_printed_as_they_were_written() {
    let written = Written::new();
    let text = "{\"id\":\"a\",\"pk\":\"x\",\"n\":1.50}";
    let request = Request::post("/dbs/d/colls/c/docs").header("x-ms-documentdb-partitionkey", "[\"x\"]");
    assert_eq!(written.server.answer(request.body(text.into()).unwrap()).status(), 201);
    let first = written.put(json!({ "n": 2 }));
    let request = Request::post("/dbs/d/colls/c/docs")
        .header("x-ms-documentdb-partitionkey", "[\"x\"]")
        .header("x-ms-documentdb-is-upsert", "True");
    assert_eq!(written.server.answer(request.body(text.into()).unwrap()).status(), 200);
    let place = written.close();
    assert!(both(&place, "get", &["--json", "a"]).1.contains("\"n\":1.50,"));
    let (_, stdout, _) = both(&place, "why", &["--json", "a", &first]);
    assert!(stdout.contains("{\"path\":\"/n\",\"was\":2,\"is\":1.50}"), "{stdout}");
}

#[test]
fn what_is_not_there_is_named() {
    let written = Written::new();
    let first = written.put(json!({}));
    written.delete();
    let place = written.close();
    for (command, args, message) in [
        ("get", vec!["a"], "one that was deleted is found by --partition"),
        ("get", vec!["--partition", "x", "a"], "`etagdb history` tells whether there was"),
        ("get", vec!["--partition", "x", "--at", "999999", "a"], "does not exist yet"),
        ("get", vec!["--partition", "x", "--at", "nonsense", "a"], "nonsense"),
        ("history", vec!["--partition", "x", "b"], "there never was a document"),
        ("why", vec!["--partition", "x", "b", &first], "there never was a document"),
        ("why", vec!["--partition", "x", "a", "01234567-89ab-cdef-0000-000000000029"], "names no version"),
    ] {
        let (code, stdout, stderr) = both(&place, command, &args);
        assert_eq!((code, stdout.as_str()), (1, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    let (code, _, stderr) = both(&place, "why", &["--partition", "x", "a", "junk"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("not an etag"), "{stderr}");
    let (code, _, stderr) = both(&place, "get", &["--partition", "x", "--partition", "y", "a"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("/pk"), "{stderr}");
    let data = place.path("data");
    let (code, _, stderr) = run(&["get", "--data", &data, "--database", "d", "--container", "other", "a"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no container \"other\""), "{stderr}");
    let none = place.path("none");
    let (code, _, stderr) = run(&["history", "--data", &none, "--database", "d", "--container", "c", "a"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no store in"), "{stderr}");
}

#[test]
fn documents_of_one_id_are_told_apart_by_their_partition() {
    let written = Written::new();
    written.put(json!({}));
    let request = Request::post("/dbs/d/colls/c/docs").header("x-ms-documentdb-partitionkey", "[7]");
    assert_eq!(written.server.answer(request.body("{\"id\":\"a\",\"pk\":7}".into()).unwrap()).status(), 201);
    let place = written.close();
    let (code, _, stderr) = both(&place, "get", &["a"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("2 documents have the id \"a\""), "{stderr}");
    assert_eq!(json_of(both(&place, "get", &["--partition", "7", "a"]))["pk"], 7);
    assert_eq!(both(&place, "get", &["--partition", "\"7\"", "a"]).0, 1);
}

#[test]
fn history_lists_writes_and_deletions_and_says_what_is_no_longer_kept() {
    let written = Written::new();
    let first = written.put(json!({}));
    written.put(json!({}));
    written.delete();
    let last = written.put(json!({}));
    let place = written.close();
    let list = json_of(both(&place, "history", &["--json", "a"]));
    let of = |list: &Value, name: &str| -> Vec<Value> {
        list["versions"].as_array().unwrap().iter().map(|version| version[name].clone()).collect()
    };
    assert_eq!(of(&list, "event"), ["created", "deleted", "replaced", "created"].map(Value::from));
    assert_eq!(of(&list, "current"), [true, false, false, false].map(Value::from));
    assert_eq!((&of(&list, "etag")[0], &of(&list, "etag")[3]), (&json!(last), &json!(first)));
    assert_eq!(list["olderDropped"], false);
    let (_, stdout, _) = both(&place, "history", &["a"]);
    assert_eq!(stdout.lines().count(), 5, "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "no colours in a pipe");

    let store = Store::open(place.path("data")).unwrap();
    let server = LocalServer::open(store.clone()).unwrap();
    let written = Written { place, store, server };
    written.drop_past();
    let place = written.close();
    let list = json_of(both(&place, "history", &["--json", "a"]));
    assert_eq!((of(&list, "event"), &list["olderDropped"]), (vec![json!("written")], &json!(true)));
    assert!(both(&place, "history", &["a"]).1.ends_with("has been dropped by retention.\n"));
    let (code, _, stderr) = both(&place, "why", &["a", &first]);
    assert_eq!(code, 1);
    assert!(stderr.contains("Retention has dropped older versions"), "{stderr}");
    let (code, _, stderr) = both(&place, "get", &["--partition", "x", "--at", &first, "a"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no longer kept"), "{stderr}");
}

#[test]
fn why_says_what_changed_path_by_path() {
    let written = Written::new();
    let first = written.put(json!({ "price": 1, "old": true, "tags": ["a", "b"] }));
    let second = written.put(json!({ "price": 2, "tags": ["a", "new", "b"], "in": { "stock": 3 } }));
    let place = written.close();
    let (code, stdout, stderr) = both(&place, "why", &["a", &first]);
    assert_eq!(code, 0, "{stderr}");
    for line in [
        "The document has been replaced since:",
        "4 places differ:",
        "  /price was 1, is 2",
        "  /old is gone; it was true",
        "  /tags/1 is new: \"new\"",
        "  /in is new: {\"stock\":3}",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line} in {stdout}");
    }
    let answer = json_of(both(&place, "why", &["--json", "a", &format!("\"{first}\"")]));
    assert_eq!((&answer["fate"], &answer["now"]["etag"]), (&json!("replaced"), &json!(second)));
    assert_eq!(answer["changes"][0], json!({ "path": "/price", "was": 1, "is": 2 }));
    let (_, stdout, _) = both(&place, "why", &["a", &second]);
    assert!(stdout.contains("It is the current one: nothing has changed."), "{stdout}");
}

#[test]
fn why_tells_the_deleted_the_created_again_and_the_expired_apart() {
    let written = Written::new();
    let first = written.put(json!({ "n": 1 }));
    written.delete();
    let store = written.close();
    let of = |place: &Place, etag: &str| json_of(both(place, "why", &["--partition", "x", "--json", "a", etag]));
    assert_eq!(of(&store, &first)["fate"], "deleted");
    let history = json_of(both(&store, "history", &["--partition", "x", "--json", "a"]));
    let tombstone = history["versions"][0]["etag"].as_str().unwrap().to_owned();
    assert_eq!(of(&store, &tombstone)["fate"], "deleted");
    let (_, stdout, _) = both(&store, "why", &["--partition", "x", "a", &first]);
    assert!(stdout.contains("The document has been deleted since:"), "{stdout}");

    let opened = Store::open(store.path("data")).unwrap();
    let server = LocalServer::open(opened.clone()).unwrap();
    let written = Written { place: store, store: opened, server };
    written.put(json!({ "n": 2 }));
    let place = written.close();
    let answer = of(&place, &first);
    assert_eq!((&answer["fate"], &answer["changes"][0]["path"]), (&json!("recreated"), &json!("/n")));
    assert_eq!(answer["since"][0]["event"], "deleted");
    assert_eq!(of(&place, &tombstone)["fate"], "recreated");
}
