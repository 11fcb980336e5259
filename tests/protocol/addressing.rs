//! Finding things: paths in every spelling, resource ids, the account document, and both versions of HTTP on one port.

use serde_json::json;

use crate::support::{Answer, Client, Host};

const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

#[test]
fn slashes_at_the_end_change_nothing() {
    let host = Host::start();
    let mut client = host.with_container();
    client.post("/dbs/d/colls/c/docs/", &[KEY], &json!({"id": "a", "pk": "p"})).expect_status(201);
    for path in
        ["/dbs", "/dbs/d", "/dbs/d/colls", "/dbs/d/colls/c", "/dbs/d/colls/c/docs", "/dbs/d/colls/c/docs/a", "/offers"]
    {
        let plain = client.get(path, &[KEY]).expect_status(200);
        let slash = client.get(&format!("{path}/"), &[KEY]).expect_status(200);
        assert_eq!(plain.body, slash.body, "{path}");
    }
}

#[test]
fn ids_of_every_character_are_made_read_and_deleted() {
    let host = Host::start();
    let mut client = host.with_container();
    for (id, path) in [
        ("plain", "plain"),
        ("two words", "two%20words"),
        (" leading and trailing ", "%20leading%20and%20trailing%20"),
        ("question?", "question%3F"),
        // As the JavaScript SDK sends it.
        ("who?", "who?"),
        ("who? what?", "who?%20what?"),
        ("percent%20", "percent%2520"),
        ("tab\tcr\rlf\n", "tab%09cr%0Dlf%0A"),
        ("ünïcödé 日本 🦀", "%C3%BCn%C3%AFc%C3%B6d%C3%A9%20%E6%97%A5%E6%9C%AC%20%F0%9F%A6%80"),
        ("quotes\"'", "quotes%22%27"),
        ("a+b&c=d", "a+b&c=d"),
        ("docs", "docs"),
    ] {
        let path = format!("/dbs/d/colls/c/docs/{path}");
        client.create(&json!({"id": id, "pk": "p"})).expect_status(201);
        let read = client.get(&path, &[KEY]).expect_status(200);
        assert_eq!(read.json()["id"], id);
        client.put(&path, &[KEY], &json!({"id": id, "pk": "p", "n": 1})).expect_status(200);
        client.delete(&path, &[KEY]).expect_status(204);
        client.get(&path, &[KEY]).expect_status(404);
    }
}

#[test]
fn names_that_look_like_segments_are_names() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "colls"})).expect_status(201);
    let container = json!({"id": "docs", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/colls/colls", &[], &container).expect_status(201);
    client.post("/dbs/colls/colls/docs/docs", &[KEY], &json!({"id": "dbs", "pk": "p"})).expect_status(201);
    assert_eq!(client.get("/dbs/colls/colls/docs/docs/dbs", &[KEY]).expect_status(200).json()["id"], "dbs");
}

#[test]
fn rids_lead_where_names_lead() {
    let host = Host::start();
    let mut client = host.with_container();
    let made = client.create(&json!({"id": "a", "pk": "p"})).expect_status(201).json();
    let item = format!("/{}", made["_self"].as_str().expect("a self link"));
    let container = item.split("docs/").next().expect("the container's link").to_owned();
    let database = container.split("colls/").next().expect("the database's link").to_owned();
    assert_eq!(client.get(&database, &[]).expect_status(200).json()["id"], "d");
    assert_eq!(client.get(&container, &[]).expect_status(200).json()["id"], "c");
    assert_eq!(client.get(&format!("{container}pkranges"), &[]).expect_status(200).json()["_count"], 1);
    assert_eq!(client.get(&format!("{container}docs"), &[]).expect_status(200).json()["_count"], 1);
    assert_eq!(client.get(&item, &[KEY]).expect_status(200).json()["id"], "a");
    let replaced = client.put(&item, &[KEY], &json!({"id": "a", "pk": "p", "n": 2})).expect_status(200).json();
    assert_eq!(replaced["_rid"], made["_rid"], "an item keeps its rid");
    client.delete(&item, &[KEY]).expect_status(204);
    // Made again, it is another item: the old rid does not find it.
    let again = client.create(&json!({"id": "a", "pk": "p"})).expect_status(201).json();
    assert_ne!(again["_rid"], made["_rid"]);
    client.get(&item, &[KEY]).expect_status(404);
}

/// The .NET and Java SDKs address by rid whatever they have read by name.
#[test]
fn every_route_takes_rids() {
    let host = Host::start();
    let mut client = host.with_container();
    let made = client.create(&json!({"id": "a", "pk": "p", "n": 1})).expect_status(201).json();
    let item = format!("/{}", made["_self"].as_str().expect("a self link"));
    let container = item.split("/docs/").next().expect("the container's link").to_owned();
    let database = container.split("/colls/").next().expect("the database's link").to_owned();
    let items = format!("{container}/docs");
    let upsert = ("x-ms-documentdb-is-upsert", "true");
    let batch = ("x-ms-cosmos-is-batch-request", "true");
    let query = [
        ("x-ms-documentdb-isquery", "true"),
        ("x-ms-documentdb-query-enablecrosspartition", "true"),
        ("content-type", "application/query+json"),
    ];
    let body = |id: &str, n: u32| json!({"id": id, "pk": "p", "n": n});

    client.post(&items, &[KEY], &body("b", 1)).expect_status(201);
    client.post(&items, &[KEY, upsert], &body("b", 2)).expect_status(200);
    client.put(&item, &[KEY], &body("a", 2)).expect_status(200);
    client.send("PATCH", &item, &[KEY], br#"[{"op":"incr","path":"/n","value":1}]"#).expect_status(200);
    let read = client.get(&item, &[KEY]).expect_status(200);
    assert_eq!(read.json()["n"], 3);
    client.get(&item, &[KEY, ("if-none-match", &read.etag())]).expect_status(304);
    client.put(&item, &[KEY, ("if-match", "\"x\"")], &body("a", 9)).expect_status(412);
    client.get(&item, &[KEY, ("x-etagdb-versions", "true")]).expect_status(200);
    let found = client.post(&items, &query, &json!({"query": "SELECT VALUE c.n FROM c ORDER BY c.n"}));
    assert_eq!(found.expect_status(200).json()["Documents"], json!([2, 3]));
    client.get(&items, &[("a-im", "Incremental Feed")]).expect_status(200);
    client.get(&format!("{container}/pkranges"), &[("a-im", "Incremental Feed")]).expect_status(200);
    let operations =
        json!([{"operationType": "Create", "resourceBody": body("c", 1)}, {"operationType": "Read", "id": "a"}]);
    client.post(&items, &[KEY, batch], &operations).expect_status(200);
    let bulk = json!([{"operationType": "Create", "partitionKey": "[\"q\"]", "resourceBody": {"id": "d", "pk": "q"}}]);
    client.post(&items, &[batch, ("x-ms-cosmos-batch-atomic", "false")], &bulk).expect_status(200);
    client.post(&format!("{container}/operations/partitionkeydelete"), &[KEY], &json!(null)).expect_status(200);
    assert_eq!(client.get(&items, &[]).expect_status(200).json()["_count"], 1);

    let offers = client.get("/offers", &[]).expect_status(200).json();
    let offer = format!("/offers/{}", offers["Offers"][0]["_rid"].as_str().expect("a rid"));
    assert_eq!(client.get(&offer, &[]).expect_status(200).json(), offers["Offers"][0]);
    client.put(&offer, &[], &offers["Offers"][0]).expect_status(200);
    let mut definition = client.get(&container, &[]).expect_status(200).json();
    definition["defaultTtl"] = json!(60);
    assert_eq!(client.put(&container, &[], &definition).expect_status(200).json()["defaultTtl"], 60);
    assert_eq!(client.get(&format!("{database}/colls"), &[]).expect_status(200).json()["_count"], 1);
    let second = json!({"id": "e", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post(&format!("{database}/colls"), &[], &second).expect_status(201);
    client.delete(&container, &[]).expect_status(204);
    client.get(&items, &[]).expect_status(404);
    client.delete(&database, &[]).expect_status(204);
    client.get("/dbs/d", &[]).expect_status(404);
}

/// A client that has read a container's rid must not write into another one of the same name.
#[test]
fn who_means_the_container_that_was_there_before_is_told_so() {
    let host = Host::start();
    let mut client = host.with_container();
    let rid = |client: &mut Client| {
        client.get("/dbs/d/colls/c", &[]).expect_status(200).json()["_rid"].as_str().expect("a rid").to_owned()
    };
    let old = rid(&mut client);
    client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    client.delete("/dbs/d/colls/c", &[]).expect_status(204);
    let container = json!({"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/d/colls", &[], &container).expect_status(201);
    let new = rid(&mut client);
    assert_ne!(old, new);
    let (items, item) = ("/dbs/d/colls/c/docs", "/dbs/d/colls/c/docs/a");
    let body = json!({"id": "a", "pk": "p"});
    let means = ("x-ms-cosmos-intended-collection-rid", old.as_str());
    let upsert = ("x-ms-documentdb-is-upsert", "true");
    let batch = ("x-ms-cosmos-is-batch-request", "true");
    let query = ("x-ms-documentdb-isquery", "true");
    let answers = [
        client.get(item, &[KEY, means]),
        client.get(items, &[means]),
        client.get(items, &[("a-im", "Incremental Feed"), means]),
        client.post(items, &[KEY, means], &body),
        client.post(items, &[KEY, means, upsert], &body),
        client.put(item, &[KEY, means], &body),
        client.send("PATCH", item, &[KEY, means], br#"[{"op":"set","path":"/n","value":1}]"#),
        client.delete(item, &[KEY, means]),
        client.post(items, &[KEY, means, batch], &json!([{"operationType": "Upsert", "resourceBody": body}])),
        client.post(items, &[KEY, means, query], &json!({"query": "SELECT * FROM c"})),
    ];
    for answer in answers {
        answer.expect_error(400, "BadRequest", &new).expect_substatus("1024");
    }
    assert_eq!(client.get(items, &[]).json()["_count"], 0, "nothing was written");
    client.post(items, &[KEY, ("x-ms-cosmos-intended-collection-rid", &new)], &body).expect_status(201);
}

#[test]
fn a_client_may_sign_the_rid_alone() {
    let host = Host::start();
    let mut client = host.with_container();
    let container = client.get("/dbs/d/colls/c", &[]).json();
    let (rid, link) = (container["_rid"].as_str().expect("a rid"), container["_self"].as_str().expect("a self link"));
    let signer = etagdb_server::Signer::new(None).expect("the well-known key");
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let signature = signer.authorization("GET", "docs", &rid.to_lowercase(), &date);
    let request =
        format!("GET /{link}docs HTTP/1.1\r\nhost: x\r\nx-ms-date: {date}\r\nauthorization: {signature}\r\n\r\n");
    client.raw(request.as_bytes());
    client.answer("GET").expect_status(200);
}

#[test]
fn the_account_points_back_at_the_host_that_was_asked() {
    let host = Host::start();
    let mut client = host.connect();
    let request = String::from_utf8(client.request("GET", "/", &[], b"")).expect("text");
    client.raw(request.replacen("host: 127.0.0.1", "host: db.internal:8123", 1).as_bytes());
    let account = client.answer("GET").expect_status(200).json();
    for locations in ["writableLocations", "readableLocations"] {
        assert_eq!(account[locations][0]["databaseAccountEndpoint"], "http://db.internal:8123/");
    }
    for text in ["id", "_rid", "_self", "_dbs", "media"] {
        assert!(account[text].is_string(), "{text}: {account}");
    }
    assert_eq!(account["userConsistencyPolicy"]["defaultConsistencyLevel"], "Session");
    assert!(account.get("thinClientReadableLocations").is_none());
}

#[test]
fn who_says_localhost_is_told_the_address() {
    let host = Host::start();
    let mut client = host.connect();
    for (said, told) in [
        ("localhost:8123", "http://127.0.0.1:8123/"),
        ("localhost", "http://127.0.0.1/"),
        ("localhost.test:8123", "http://localhost.test:8123/"),
        ("127.0.0.1:8123", "http://127.0.0.1:8123/"),
    ] {
        let request = client.request("GET", "/", &[], b"");
        let request =
            String::from_utf8(request).expect("text").replacen("host: 127.0.0.1", &format!("host: {said}"), 1);
        client.raw(request.as_bytes());
        let account = client.answer("GET").expect_status(200).json();
        assert_eq!(account["writableLocations"][0]["databaseAccountEndpoint"], told);
    }
}

#[test]
fn health_and_metrics_need_no_signature_on_loopback() {
    let host = Host::start();
    let mut client = host.connect();
    for (path, part) in [("/health", "ok"), ("/metrics", "etagdb_writable 1")] {
        client.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        let answer: Answer = client.answer("GET").expect_status(200);
        assert!(answer.text().contains(part), "{}", answer.text());
    }
}

#[test]
fn every_answer_about_items_says_where_it_comes_from() {
    let host = Host::start();
    let mut client = host.with_container();
    let rid = client.get("/dbs/d/colls/c", &[]).json()["_rid"].as_str().expect("a rid").to_owned();
    let check = |answer: Answer| {
        assert_eq!(answer.header("x-ms-content-path"), Some(rid.as_str()));
        assert_eq!(answer.header("x-ms-alt-content-path"), Some("dbs/d/colls/c"));
        assert_eq!(answer.header("x-ms-documentdb-partitionkeyrangeid"), Some("0"));
        let charge: f64 = answer.header("x-ms-request-charge").expect("a charge").parse().expect("a number");
        assert!(charge > 0.0);
        let lsn: u64 = answer.header("lsn").expect("an lsn").parse().expect("a number");
        assert!(answer.header("x-ms-session-token").expect("a session").starts_with("0:0#"));
        lsn
    };
    let written = client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let item_lsn: u64 = written.header("x-ms-item-lsn").expect("an lsn").parse().expect("a number");
    assert_eq!(check(written), item_lsn);
    assert_eq!(check(client.create(&json!({"id": "b", "pk": "p"}))), item_lsn + 1);
    let read = client.get("/dbs/d/colls/c/docs/a", &[KEY]).expect_status(200);
    assert_eq!(read.header("x-ms-item-lsn"), Some(item_lsn.to_string().as_str()));
    assert_eq!(check(read), item_lsn + 1);
    check(client.get("/dbs/d/colls/c/docs/none", &[KEY]).expect_status(404));
    check(client.get("/dbs/d/colls/c/docs", &[]).expect_status(200));
    check(client.query("SELECT * FROM c", &[]).expect_status(200));
}

#[test]
fn activity_ids_are_echoed_or_made() {
    let host = Host::start();
    let mut client = host.connect();
    let id = "0b3fda94-5a0b-4d1a-b0a5-0d2c2a9a9e31";
    assert_eq!(client.get("/dbs", &[("x-ms-activity-id", id)]).header("x-ms-activity-id"), Some(id));
    let made = client.get("/dbs", &[("x-ms-activity-id", "not a guid")]);
    assert_eq!(made.header("x-ms-activity-id").map(str::len), Some(36));
}

#[test]
fn a_session_reads_its_own_writes_in_every_shape_of_token() {
    let host = Host::start();
    let mut client: Client = host.with_container();
    let written = client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let token = written.header("x-ms-session-token").expect("a token").to_owned();
    let sequence = token.rsplit('#').next().expect("a sequence").to_owned();
    for token in [token, format!("0:-1#{sequence}"), format!("0:{sequence}"), format!("0:0#{sequence}#1=7,0:0#1")] {
        client.get("/dbs/d/colls/c/docs/a", &[KEY, ("x-ms-session-token", &token)]).expect_status(200);
    }
}

/// A token of a state that this server has not reached, as after a restore: no read may pretend to be of it.
#[test]
fn a_session_ahead_of_the_server_is_told_so_by_every_read() {
    let host = Host::start();
    let mut client = host.with_container();
    let written = client.create(&json!({"id": "a", "pk": "p"})).expect_status(201);
    let now: u64 = written.header("lsn").expect("an lsn").parse().expect("a number");
    let (items, item) = ("/dbs/d/colls/c/docs", "/dbs/d/colls/c/docs/a");
    let ahead = format!("0:0#{}", now + 1);
    let ahead = ("x-ms-session-token", ahead.as_str());
    for answer in [
        client.get(item, &[KEY, ahead]),
        client.get(item, &[KEY, ahead, ("if-none-match", &written.etag())]),
        client.get("/dbs/d/colls/c/docs/none", &[KEY, ahead]),
        client.get(items, &[ahead]),
        client.get(items, &[("a-im", "Incremental Feed"), ahead]),
        client.query("SELECT * FROM c", &[ahead]),
    ] {
        answer.expect_error(404, "NotFound", "session").expect_substatus("1002");
    }
    // A write is judged against what is there, whatever the client has read; and then the server is there.
    client.create(&json!({"id": "b", "pk": "p"})).expect_status(201);
    client.get(item, &[KEY, ahead]).expect_status(200);
}

#[test]
fn http_2_with_prior_knowledge_and_http_1_share_the_port() {
    let host = Host::start();
    let mut one = host.with_container();
    let request = String::from_utf8(one.request("GET", "/dbs/d", &[], b"")).expect("text");
    let header = |name: &str| {
        let found = request.lines().find_map(|line| line.strip_prefix(name)).expect("a header");
        found.trim_start_matches(": ").to_owned()
    };
    let (date, signature) = (header("x-ms-date"), header("authorization"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = host.address();
    runtime.block_on(async move {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (send, connection) = h2::client::handshake(stream).await.expect("an HTTP/2 connection");
        tokio::spawn(connection);
        // Three requests on one connection; the second is refused, which must not end the third.
        for (path, status) in [("/dbs/d", 200), ("/dbs/e", 401), ("/dbs/d", 200)] {
            let mut send = send.clone().ready().await.expect("a connection that takes requests");
            let request = http::Request::builder()
                .uri(format!("http://{address}{path}"))
                .header("x-ms-date", &date)
                .header("authorization", &signature)
                .body(())
                .expect("a request");
            let (response, _) = send.send_request(request, true).expect("a stream");
            let response = response.await.expect("an answer");
            assert_eq!(response.status().as_u16(), status, "{path}");
            let mut body = response.into_body();
            let mut bytes = Vec::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.expect("a piece of the body");
                body.flow_control().release_capacity(chunk.len()).expect("window");
                bytes.extend_from_slice(&chunk);
            }
            let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            assert!(json.is_object());
        }
    });
    one.expect_alive();
}
