//! What moves by itself: the live feed and the dashboard.

use serde_json::json;

use super::browser::with_browser;
use super::put;
use crate::support::Host;

#[test]
fn the_feed_shows_writes_as_they_happen() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "before", "pk": "a"}));
    with_browser(host.address(), |browser| {
        browser.open("#/db/d/c/feed");
        browser.until("document.querySelector('.live.on')");
        // The page waits for the server to say something; so does this test before it writes.
        while client.get("/_explorer/api/stats", &[]).json()["waitingFeeds"] == 0 {
            std::thread::yield_now();
        }
        put(&mut client, &json!({"id": "i", "pk": "a", "n": 1}));
        browser.until_text(".feed tbody tr:first-child", "created");
        put(&mut client, &json!({"id": "i", "pk": "a", "n": 2}));
        browser.until_text(".feed tbody tr:first-child", "replaced");
        browser.until_text(".feed tbody tr:first-child", "n 1 → 2");
        client.delete("/dbs/d/colls/c/docs/i", &[("x-ms-documentdb-partitionkey", "[\"a\"]")]).expect_status(204);
        browser.until_text(".feed tbody tr:first-child", "deleted");
        assert_eq!(browser.count(".feed tbody tr"), 3, "only what happened since: {}", browser.text_of(".feed"));
        browser.until_text("[role=status]", "Live");

        browser.click("Pause");
        put(&mut client, &json!({"id": "unseen", "pk": "a"}));
        assert_eq!(browser.count(".feed tbody tr"), 3);
        browser.click("Go on");
        browser.until_text(".feed", "unseen");

        // A deleted document has no page to open but its versions, which are still there.
        browser.click("i");
        browser.until_text(".badge", "Deleted");

        browser.open("#/db/d/c/feed");
        browser.until("document.querySelector('.live.on')");
        browser.run("const since = document.querySelector('select[aria-label=\"Where to begin\"]'); since.value = '100'; since.dispatchEvent(new Event('change'))");
        browser.until_text(".feed", "before");
    });
}

#[test]
fn the_dashboard_draws_what_the_store_does() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "hot", "pk": "a"}));
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "Dashboard");
        let stale = [("x-ms-documentdb-partitionkey", "[\"a\"]"), ("if-match", "\"stale\"")];
        client.put("/dbs/d/colls/c/docs/hot", &stale, &json!({"id": "hot", "pk": "a"})).expect_status(412);
        browser.until_text(".card", "hot");
        // Written until the page has seen it in two answers that follow each other.
        let drawn = "document.querySelector('svg[aria-label^=\"Commits a second: now \"]:not([aria-label*=\"now 0,\"])') !== null";
        while browser.run(&format!("return {drawn}")) != json!(true) {
            put(&mut client, &json!({"id": "hot", "pk": "a"}));
        }
        for title in ["Reads a second", "Conflicts a second", "Commit batch", "Sync latency", "Cache hits"] {
            assert_eq!(browser.count(&format!("svg[role=img][aria-label^=\"{title}: now \"]")), 1, "{title}");
        }
        browser.until_text(".card", "Nothing pins old versions");
        browser.until_text(".card", "older versions");
    });
}

#[test]
fn what_pins_the_watermark_is_named() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "i", "pk": "a"}));
    let snapshot = host.store().snapshot();
    for number in 0..3 {
        put(&mut client, &json!({"id": "i", "pk": "a", "number": number}));
    }
    with_browser(host.address(), |browser| {
        browser.until_text(".card", "3 commits behind the newest, is held by a snapshot");
    });
    drop(snapshot);
}
