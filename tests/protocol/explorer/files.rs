//! The page's files and the explorer's own answers, without a browser: what everybody may have, and what nobody may
//! without the key.

use crate::support::{Client, Host};

/// An unsigned request, as a browser's first one is.
fn ask(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> crate::support::Answer {
    let mut head = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    client.raw(format!("{head}\r\n").as_bytes());
    client.answer("GET")
}

#[test]
fn the_page_is_for_everybody_and_lets_nothing_in() {
    let host = Host::start();
    let mut client = host.connect();
    for path in ["/_explorer", "/_explorer/"] {
        let page = ask(&mut client, path, &[]).expect_status(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").expect("a policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(part), "{part} is not in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("access-control-allow-origin"), None);
        assert_eq!(page.header("set-cookie"), None);
    }
    ask(&mut client, "/_explorer/nothing.js", &[]).expect_error(404, "NotFound", "/_explorer/nothing.js");
    ask(&mut client, "/_explorer/../Cargo.toml", &[]).expect_status(404);
    client.post("/_explorer", &[], &serde_json::json!({})).expect_error(405, "MethodNotAllowed", "POST");
}

#[test]
fn a_file_that_has_not_changed_is_not_sent_again() {
    let host = Host::start();
    let mut client = host.connect();
    let script = ask(&mut client, "/_explorer/app.js", &[]).expect_status(200);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), Some("no-cache"));
    let etag = script.etag();
    let again =
        ask(&mut client, "/_explorer/app.js", &[("if-none-match", &format!("\"x\", {etag}"))]).expect_status(304);
    assert_eq!((again.etag(), again.body.len()), (etag.clone(), 0));
    let other = ask(&mut client, "/_explorer/api.js", &[("if-none-match", &etag)]).expect_status(200);
    assert_ne!(other.etag(), etag);
}

#[test]
fn figures_are_for_those_who_have_the_key() {
    let host = Host::start();
    let mut client = host.with_container();
    for path in ["/_explorer/api/stats", "/_explorer/api/space", "/_explorer/api/space/d/c"] {
        ask(&mut client, path, &[]).expect_error(401, "Unauthorized", "authorization");
        let answer = client.get(path, &[]).expect_status(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        // Another site's page, in a browser whose owner has the key in some other tab.
        client.get(path, &[("sec-fetch-site", "cross-site")]).expect_error(403, "Forbidden", "its own page");
        client.get(path, &[("origin", "https://evil.example")]).expect_error(403, "Forbidden", "its own page");
    }
    client.get("/_explorer/api/space/d/nothing", &[]).expect_error(404, "NotFound", "nothing");
}

/// DNS rebinding: a site has its own name resolved to 127.0.0.1, and signs with the key that everybody knows.
#[test]
fn a_site_cannot_call_this_server_by_a_name_of_its_own() {
    let host = Host::start();
    let mut client = host.with_container();
    for path in ["/_explorer", "/dbs", "/dbs/d/colls/c/docs", "/metrics"] {
        for name in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example"] {
            ask(&mut client, path, &[("host", name)]).expect_error(403, "Forbidden", name);
        }
    }
    for name in ["localhost", "localhost:8081", "[::1]:8081", "cosmos"] {
        ask(&mut client, "/_explorer", &[("host", name)]).expect_status(200);
    }
}

#[test]
fn hot_documents_are_named_with_their_conflicts() {
    let host = Host::start();
    let mut client = host.with_container();
    let item = serde_json::json!({"id": "hot", "pk": "a"});
    client.create(&item).expect_status(201);
    let stale = [("x-ms-documentdb-partitionkey", "[\"a\"]"), ("if-match", "\"stale\"")];
    for _ in 0..3 {
        client.put("/dbs/d/colls/c/docs/hot", &stale, &item).expect_status(412);
    }
    client.create(&item).expect_status(409);
    // In a batch too.
    let batch = serde_json::json!([{"operationType": "Create", "resourceBody": item}]);
    let headers = [
        ("x-ms-documentdb-partitionkey", "[\"a\"]"),
        ("x-ms-cosmos-is-batch-request", "true"),
        ("x-ms-cosmos-batch-atomic", "true"),
    ];
    client.post("/dbs/d/colls/c/docs", &headers, &batch).expect_status(207);
    let stats = client.get("/_explorer/api/stats", &[]).expect_status(200).json();
    let hot = &stats["hot"][0];
    assert_eq!(
        (&hot["id"], &hot["partitionKey"], &hot["count"]),
        (&"hot".into(), &"[\"a\"]".into(), &5.into()),
        "{stats}"
    );
    assert_eq!((&hot["database"], &hot["container"], &hot["error"]), (&"d".into(), &"c".into(), &0.into()));
    assert_eq!(stats["hot"].as_array().map(Vec::len), Some(1));
    assert_eq!((&stats["conflicts"], &stats["preconditionsFailed"]), (&2.into(), &3.into()));
}
