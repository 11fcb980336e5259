//! Bad input: each line of it gets a clear error of the right status, and the same connection answers the next request.

use serde_json::json;

use crate::support::{Client, Host};

const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const QUERY: [(&str, &str); 2] =
    [("x-ms-documentdb-isquery", "true"), ("x-ms-documentdb-query-enablecrosspartition", "true")];
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "true");

/// A request that is refused, and how.
struct Case<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    status: u16,
    /// What the message must name.
    part: &'a str,
}

fn code(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        401 => "Unauthorized",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        413 => "RequestEntityTooLarge",
        501 => "NotImplemented",
        other => panic!("no code for {other}"),
    }
}

fn check(client: &mut Client, cases: &[Case<'_>]) {
    for case in cases {
        let answer = client.send(case.method, case.path, case.headers, case.body);
        let shown = format!("{} {} {:?}", case.method, case.path, String::from_utf8_lossy(case.body));
        assert_eq!(answer.status, case.status, "{shown}: {}", answer.text());
        answer.expect_error(case.status, code(case.status), case.part);
        client.expect_alive();
    }
}

#[test]
fn bodies_that_are_no_items() {
    let bodies: [(&[u8], &str); 14] = [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"{\"id\":\"a\",\"pk\":\"p\"", "JSON"),
        (b"{\"id\":\"a\",\"pk\":\"p\"}}", "JSON"),
        (b"{\"id\":\"a\",\"pk\":\"p\",}", "JSON"),
        (b"nonsense", "JSON"),
        (b"[]", "object"),
        (b"\"a\"", "object"),
        (b"{\"id\":\"\xff\xfe\",\"pk\":\"p\"}", "UTF-8"),
        (b"{\"pk\":\"p\"}", "id"),
        (b"{\"id\":7,\"pk\":\"p\"}", "string"),
        (b"{\"id\":\"\",\"pk\":\"p\"}", "1024"),
        (b"{\"id\":\"a/b\",\"pk\":\"p\"}", "/"),
        (b"\x80\x01\x02\x03", "invalid"),
    ];
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "x", "pk": "p"})).expect_status(201);
    for (body, part) in bodies {
        let upsert = [KEY, ("x-ms-documentdb-is-upsert", "true")];
        let case = |method, path, headers| Case { method, path, headers, body, status: 400, part };
        check(&mut client, &[case("POST", ITEMS, &[KEY]), case("POST", ITEMS, &upsert)]);
        check(&mut client, &[case("PUT", "/dbs/d/colls/c/docs/x", &[KEY])]);
    }
    let deep = [b"{\"id\":\"a\",\"pk\":\"p\",\"x\":".as_slice(), &[b'['; 100_000]].concat();
    check(&mut client, &[Case { method: "POST", path: ITEMS, headers: &[KEY], body: &deep, status: 400, part: "" }]);
    let listed = client.get(ITEMS, &[]).json();
    assert_eq!(listed["_count"], 1, "nothing of it was written: {listed}");
}

#[test]
fn partition_keys_that_contradict() {
    let host = Host::start();
    let mut client = host.with_container();
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let item = br#"{"id":"a","pk":"p"}"#;
    for other in ["[\"q\"]", "[null]", "[{}]", "[1]", "[\"p\",\"q\"]"] {
        for (method, path) in [("POST", ITEMS), ("PUT", "/dbs/d/colls/c/docs/a")] {
            let answer = client.send(method, path, &[("x-ms-documentdb-partitionkey", other)], item);
            answer
                .expect_error(400, "BadRequest", "Partition key provided either doesn't correspond")
                .expect_substatus("1001");
            client.expect_alive();
        }
    }
    let bad = |headers| Case { method: "POST", path: ITEMS, headers, body: item, status: 400, part: "artition" };
    check(
        &mut client,
        &[
            bad(&[]),
            bad(&[("x-ms-documentdb-partitionkey", "p")]),
            bad(&[("x-ms-documentdb-partitionkey", "{\"a\":1}")]),
            bad(&[("x-ms-documentdb-partitionkey", "[\"p\"")]),
            bad(&[("x-ms-documentdb-partitionkey", "")]),
            bad(&[("x-ms-documentdb-partitionkey", "[[1]]")]),
        ],
    );
    for method in ["GET", "DELETE"] {
        client.send(method, "/dbs/d/colls/c/docs/a", &[], b"").expect_error(400, "BadRequest", "PartitionKey");
        client.expect_alive();
    }
}

#[test]
fn names_that_lead_nowhere() {
    let host = Host::start();
    let mut client = host.with_container();
    let get = |path, part| Case { method: "GET", path, headers: &[KEY], body: b"", status: 404, part };
    check(
        &mut client,
        &[
            get("/dbs/none", "none"),
            get("/dbs/none/colls", "none"),
            get("/dbs/none/colls/c", "none"),
            get("/dbs/d/colls/none", "none"),
            get("/dbs/d/colls/c/docs/none", "does not exist"),
            get("/dbs/d/colls/c/conflicts/x", "conflicts"),
            get("/offers/none", "none"),
            get("/nothing/here", "path"),
            get("/dbs/d/colls/c/docs/a/b", "path"),
            get("/dbs//colls", "path"),
            get("/dbs/d/nothing", "path"),
        ],
    );
    for path in ["/dbs/none/colls/c/docs", "/dbs/d/colls/none/docs", "/dbs/d/colls/none/pkranges"] {
        client.get(path, &[KEY]).expect_error(404, "NotFound", "none").expect_substatus("1003");
        client.expect_alive();
    }
    let bad = Case { method: "GET", path: "/dbs/%ff%fe", headers: &[], body: b"", status: 400, part: "UTF-8" };
    check(&mut client, &[bad]);
}

#[test]
fn methods_and_features_that_a_route_does_not_have() {
    let host = Host::start();
    let mut client = host.with_container();
    let case = |method, path, status, part| Case { method, path, headers: &[], body: b"", status, part };
    check(
        &mut client,
        &[
            case("PUT", "/", 405, "GET"),
            case("DELETE", "/dbs", 405, "POST"),
            case("PATCH", "/dbs/d", 405, "DELETE"),
            case("PUT", "/dbs/d/colls", 405, "POST"),
            case("POST", "/dbs/d/colls/c", 405, "PUT"),
            case("PUT", "/dbs/d/colls/c/docs", 405, "POST"),
            case("POST", "/dbs/d/colls/c/docs/a", 405, "PATCH"),
            case("POST", "/dbs/d/colls/c/pkranges", 405, "GET"),
            case("GET", "/dbs/d/colls/c/operations/partitionkeydelete", 405, "POST"),
            case("DELETE", "/offers/x", 405, "PUT"),
            case("BREW", "/dbs", 405, "BREW"),
            case("POST", "/dbs/d/colls/c/sprocs", 501, "stored procedures"),
            case("GET", "/dbs/d/colls/c/triggers", 501, "triggers"),
            case("GET", "/dbs/d/colls/c/udfs/f", 501, "user-defined functions"),
            case("POST", "/dbs/d/users", 501, "users"),
        ],
    );
    let refused = client.send("PUT", "/dbs", &[], b"").expect_status(405);
    assert_eq!(refused.header("allow"), Some("GET, POST"));
}

#[test]
fn signatures_that_do_not_hold() {
    let host = Host::start();
    let mut client = host.with_container();
    let long = "x".repeat(10_000);
    let signature = format!("type%3Dmaster%26ver%3D1.0%26sig%3D{}%3D", "A".repeat(43));
    for authorization in [
        "",
        "junk",
        "type%3Dmaster%26ver%3D1.0%26sig%3Dabc",
        "type%3Daad%26ver%3D1.0%26sig%3Dabc",
        &signature,
        "%ff%fe",
        &long,
    ] {
        let answer = client.get("/dbs/d", &[("authorization", authorization)]);
        answer.expect_error(401, "Unauthorized", "authorization");
        client.expect_alive();
        // A body that comes with it is read over, so that the next request is found.
        let body = json!({"id": "never", "filler": "x".repeat(100_000)});
        client.post("/dbs", &[("authorization", authorization)], &body).expect_status(401);
        client.expect_alive();
    }
    client.raw(b"GET /dbs HTTP/1.1\r\nhost: x\r\n\r\n");
    client.answer("GET").expect_error(401, "Unauthorized", "missing");
    client.expect_alive();
    // A good signature for another path, another method, another day.
    let stolen = String::from_utf8(client.request("GET", "/dbs/d", &[], b"")).expect("text");
    client.raw(stolen.replacen("/dbs/d ", "/dbs/e ", 1).as_bytes());
    client.answer("GET").expect_status(401);
    client.raw(stolen.replacen("GET", "DELETE", 1).as_bytes());
    client.answer("DELETE").expect_status(401);
    let old = stolen.lines().find_map(|line| line.strip_prefix("x-ms-date: ")).expect("a date").to_owned();
    client.raw(stolen.replacen(&old, "Sat, 01 Jan 2000 00:00:00 GMT", 1).as_bytes());
    client.answer("GET").expect_error(401, "Unauthorized", "15 minutes");
    client.expect_alive();
}

#[test]
fn headers_that_make_no_sense() {
    let host = Host::start();
    let mut client = host.with_container();
    let feed = |headers, part| Case { method: "GET", path: ITEMS, headers, body: b"", status: 400, part };
    check(
        &mut client,
        &[
            feed(&[("x-ms-max-item-count", "0")], "x-ms-max-item-count"),
            feed(&[("x-ms-max-item-count", "many")], "x-ms-max-item-count"),
            feed(&[("x-ms-continuation", "junk")], "continuation"),
            feed(&[("x-ms-continuation", "AAAA")], "continuation"),
            feed(&[("x-ms-continuation", "é")], "x-ms-continuation"),
            feed(&[("x-ms-session-token", "junk")], "session token"),
            feed(&[("x-ms-start-epk", "xyz")], "hexadecimal"),
            feed(&[("x-ms-start-epk", "3F"), ("x-ms-end-epk", "00")], "before"),
        ],
    );
    let ahead = client.get(ITEMS, &[("x-ms-session-token", "0:0#999999999")]);
    ahead.expect_error(404, "NotFound", "session").expect_substatus("1002");
    let rid = client.get("/dbs/d/colls/c", &[]).json()["_rid"].as_str().expect("a rid").to_owned();
    client.get(ITEMS, &[("x-ms-cosmos-intended-collection-rid", &rid)]).expect_status(200);
    let other = client.get(ITEMS, &[("x-ms-cosmos-intended-collection-rid", "AAAAAQCAAAA=")]);
    other.expect_error(400, "BadRequest", &rid).expect_substatus("1024");
    client.post("/dbs", &[("x-ms-offer-throughput", "much")], &json!({"id": "e"})).expect_error(
        400,
        "BadRequest",
        "throughput",
    );
    client.expect_alive();
}

#[test]
fn queries_that_cannot_run() {
    let host = Host::start();
    let mut client = host.with_container();
    let bodies: [&[u8]; 8] = [
        b"",
        b"SELECT * FROM c",
        b"{}",
        b"{\"query\":7}",
        b"{\"query\":\"SELEC * FROM c\"}",
        b"{\"query\":\"SELECT * FROM c WHERE c.x = @missing\"}",
        b"{\"query\":\"SELECT * FROM c\",\"parameters\":{}}",
        b"{\"query\":\"\xff\"}",
    ];
    for body in bodies {
        for path in [ITEMS, "/dbs", "/dbs/d/colls", "/offers"] {
            let case = Case { method: "POST", path, headers: &QUERY, body, status: 400, part: "" };
            check(&mut client, &[case]);
        }
    }
    let everywhere = Case {
        method: "POST",
        path: ITEMS,
        headers: &QUERY[..1],
        body: b"{\"query\":\"SELECT * FROM c\"}",
        status: 400,
        part: "Cross partition query is required but disabled",
    };
    check(&mut client, &[everywhere]);
}

#[test]
fn batches_that_cannot_run() {
    let host = Host::start();
    let mut client = host.with_container();
    let many = json!(vec![json!({"operationType": "Read", "id": "a"}); 101]).to_string();
    let bodies: [(&[u8], &str); 6] = [
        (b"", "JSON"),
        (b"{}", "array"),
        (b"[]", "Batch request has no operations."),
        (many.as_bytes(), "Batch request has more operations than what is supported."),
        (b"[{\"operationType\":\"Brew\",\"id\":\"a\"}]", "Brew"),
        (b"[{\"operationType\":\"Create\"}]", "resourceBody"),
    ];
    for (body, part) in bodies {
        check(&mut client, &[Case { method: "POST", path: ITEMS, headers: &[KEY, BATCH], body, status: 400, part }]);
    }
    let keyless = b"[{\"operationType\":\"Read\",\"id\":\"a\"}]";
    check(
        &mut client,
        &[Case { method: "POST", path: ITEMS, headers: &[BATCH], body: keyless, status: 400, part: "PartitionKey" }],
    );
}

#[test]
fn patches_that_cannot_be_applied() {
    let host = Host::start();
    let mut client = host.with_container();
    let etag = client.create(&json!({"id": "a", "pk": "p", "n": "text"})).expect_status(201).etag();
    let eleven = json!(vec![json!({"op": "set", "path": "/x", "value": 1}); 11]).to_string();
    let bodies: [(&[u8], &str); 9] = [
        (b"", "JSON"),
        (b"{}", "operations"),
        (b"[{\"op\":\"brew\",\"path\":\"/x\"}]", "brew"),
        (b"[{\"op\":\"replace\",\"path\":\"/missing\",\"value\":1}]", "missing"),
        (b"[{\"op\":\"incr\",\"path\":\"/n\",\"value\":1}]", "/n"),
        (b"[{\"op\":\"set\",\"path\":\"/pk\",\"value\":\"q\"}]", "partition key"),
        (b"[{\"op\":\"set\",\"path\":\"/id\",\"value\":\"b\"}]", "id"),
        (
            b"{\"condition\":\"from c where\",\"operations\":[{\"op\":\"set\",\"path\":\"/x\",\"value\":1}]}",
            "condition",
        ),
        (eleven.as_bytes(), "10"),
    ];
    for (body, part) in bodies {
        let path = "/dbs/d/colls/c/docs/a";
        check(&mut client, &[Case { method: "PATCH", path, headers: &[KEY], body, status: 400, part }]);
    }
    assert_eq!(client.get("/dbs/d/colls/c/docs/a", &[KEY]).etag(), etag, "nothing was written");
}

#[test]
fn definitions_that_are_refused() {
    let host = Host::start();
    let mut client = host.with_container();
    let long = "x".repeat(256);
    for id in ["", "a/b", "a\\b", "a#b", "a?b", "a ", long.as_str()] {
        client.post("/dbs", &[], &json!({ "id": id })).expect_error(400, "BadRequest", "name");
        client.expect_alive();
    }
    let key = json!({"paths": ["/pk"], "kind": "Hash"});
    for (definition, part) in [
        (json!({"id": "e"}), "partitionKey"),
        (json!({"id": "e", "partitionKey": {}}), "partitionKey"),
        (json!({"id": "e", "partitionKey": {"paths": [], "kind": "Hash"}}), "partitionKey"),
        (json!({"id": "e", "partitionKey": {"paths": ["pk"], "kind": "Hash"}}), "partitionKey"),
        (json!({"id": "e", "partitionKey": key, "defaultTtl": 0}), "defaultTtl"),
        (json!({"id": "e", "partitionKey": key, "indexingPolicy": 7}), "indexingPolicy"),
        (json!({"id": "e", "partitionKey": key, "uniqueKeyPolicy": {"uniqueKeys": [{"paths": []}]}}), "niqueKey"),
        (json!([]), "object"),
    ] {
        client.post("/dbs/d/colls", &[], &definition).expect_error(400, "BadRequest", part);
        client.expect_alive();
    }
    let moved = json!({"id": "c", "partitionKey": {"paths": ["/other"], "kind": "Hash", "version": 2}});
    client.put("/dbs/d/colls/c", &[], &moved).expect_error(400, "BadRequest", "partition key");
    client.post("/dbs", &[], &json!({"id": "d"})).expect_error(409, "Conflict", "exists").etag();
    client
        .post("/dbs/d/colls", &[], &json!({"id": "c", "partitionKey": key}))
        .expect_error(409, "Conflict", "exists")
        .etag();
    for ttl in [json!(0), json!(-10), json!(null), json!("5"), json!(1.5)] {
        client.create(&json!({"id": "a", "pk": "p", "ttl": ttl})).expect_error(400, "BadRequest", "ttl");
        client.expect_alive();
    }
    client.create(&json!({"id": "a", "pk": "p", "ttl": 60})).expect_status(201);
}
