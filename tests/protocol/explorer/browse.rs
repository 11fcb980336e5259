//! Looking at what is there: databases, pages of documents, filters, queries, and a document's versions.

use serde_json::json;

use super::browser::with_browser;
use super::{address, put};
use crate::support::{Clock, Host};

#[test]
fn from_the_dashboard_to_a_document() {
    let host = Host::start();
    let mut client = host.with_container();
    for number in 0..230 {
        put(&mut client, &json!({"id": format!("item-{number:03}"), "pk": "a", "number": number}));
    }
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "Dashboard");
        browser.until_text("nav.side", "230");
        browser.click_on("nav.side a[data-coll=c]");
        browser.until_text("h1", "c");
        browser.until("document.querySelectorAll('.list tbody tr').length === 100");
        browser.until_text(".about", "230 documents");
        browser.click("Next");
        browser.until_text(".pager", "101–200");
        browser.click("Next");
        browser.until_text(".pager", "201–230");
        browser.click("Previous");
        browser.until_text(".pager", "101–200");

        browser.fill("filter", "item-17");
        browser.press(thirtyfour::Key::Enter);
        browser.until_text(".pager", "1–10");
        browser.run("document.querySelector('#filter-kind').value = 'where'");
        browser.fill("filter", "c.number >= 228 ORDER BY c.number DESC");
        browser.click("Find");
        browser.until_text(".pager", "1–2");
        assert!(browser.text_of(".list tbody tr").contains("item-229"), "{}", browser.text_of(".list"));
        browser.fill("filter", "c.number >=");
        browser.click("Find");
        browser.until_text("[role=alert]", "cannot be shown");
        browser.fill("filter", "c.number = 7");
        browser.click("Find");

        browser.click("item-007");
        browser.until_text("h1", "item-007");
        browser.until_text(".source", "\"number\": 7");
        assert!(!browser.text_of(".source").contains("_rid"), "what the server adds is not the document");
    });
}

#[test]
fn a_query_shows_its_results_and_what_they_cost() {
    let host = Host::start();
    let mut client = host.with_container();
    for number in 0..12 {
        put(
            &mut client,
            &json!({"id": format!("i{number}"), "pk": "a", "kind": if number % 3 == 0 { "x" } else { "y" }}),
        );
    }
    with_browser(host.address(), |browser| {
        browser.open("#/db/d/c/query");
        browser.until("document.querySelector('#sql')");
        browser.fill("sql", "SELECT c.kind, COUNT(1) AS many FROM c GROUP BY c.kind");
        browser.click("Run");
        browser.until_text(".list", "many");
        let table = browser.text_of(".list");
        assert!(table.contains("x\t4") && table.contains("y\t8"), "{table}");
        browser.until_text(".facts", "Charge");
        browser.fill("sql", "SELECT FROM");
        browser.click("Run");
        browser.until_text("[role=alert]", "cannot be answered");
        browser.fill("sql", "SELECT VALUE c.id FROM c WHERE c.id = 'i3'");
        browser.press_control('\u{E006}'); // Enter
        browser.until_text(".source", "\"i3\"");
    });
}

/// Clients of the protocol merge the answers of several key ranges themselves; the page leaves that to the server.
#[test]
fn a_query_over_several_key_ranges_is_answered_and_so_are_names_beyond_ascii() {
    let host = Host::start();
    let mut client = host.connect();
    client.post("/dbs", &[], &json!({"id": "Größen"})).expect_status(201);
    let definition =
        json!({"id": "数", "partitionKey": {"paths": ["/land/\"code postal\""], "kind": "Hash", "version": 2}});
    let path = "/dbs/Gr%C3%B6%C3%9Fen/colls";
    client.post(path, &[("x-ms-offer-throughput", "24000")], &definition).expect_status(201);
    let path = format!("{path}/%E6%95%B0/docs");
    for (number, key) in ["", "é", "日本", "\u{1f600}"].iter().enumerate() {
        let item = json!({"id": format!("naïve {key}"), "land": {"code postal": key}, "number": number});
        let header: String = json!([key]).to_string().chars().flat_map(escaped).collect();
        client.post(&path, &[("x-ms-documentdb-partitionkey", &header)], &item).expect_status(201);
    }
    with_browser(host.address(), |browser| {
        browser.click_on("nav.side a[data-coll=数]");
        browser.until("document.querySelectorAll('.list tbody tr').length === 4");
        browser.run("document.querySelector('#filter-kind').value = 'where'");
        browser.fill("filter", "true ORDER BY c.number DESC");
        browser.click("Find");
        browser.until_text(".list tbody tr:first-child", "naïve \u{1f600}");
        browser.click("naïve \u{1f600}");
        browser.until_text(".source", "\"number\": 3");
        browser.click("Edit");
        browser.edit("\"number\": 3", "\"number\": 30");
        browser.click("Save");
        browser.until_text(".timeline", "number");
    });
}

/// A character as a header can carry it.
fn escaped(character: char) -> Vec<char> {
    if character.is_ascii() {
        return vec![character];
    }
    let mut units = [0; 2];
    character
        .encode_utf16(&mut units)
        .iter()
        .flat_map(|unit| format!("\\u{unit:04x}").chars().collect::<Vec<_>>())
        .collect()
}

#[test]
fn versions_tell_what_changed_who_is_current_and_what_was_deleted() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "i", "pk": "a", "city": "Lisboa", "n": 1}));
    put(&mut client, &json!({"id": "i", "pk": "a", "city": "Porto", "n": 1}));
    client.delete("/dbs/d/colls/c/docs/i", &[("x-ms-documentdb-partitionkey", "[\"a\"]")]).expect_status(204);
    put(&mut client, &json!({"id": "i", "pk": "a", "city": "Faro", "n": 2}));
    put(&mut client, &json!({"id": "i", "pk": "a", "city": "Faro", "n": 3, "new": true}));
    with_browser(host.address(), |browser| {
        browser.open(&address("doc", "i"));
        browser.until_text(".timeline", "n, new");
        let told: Vec<String> =
            (1..=5).map(|number| browser.text_of(&format!(".timeline li:nth-child({number}) .told"))).collect();
        assert_eq!(told, ["n, new", "created again", "deleted", "city", "created"]);
        assert_eq!(browser.count(".timeline .badge.good"), 1, "one version is current");
        assert_eq!(browser.count(".timeline li.tombstone"), 1);
        assert!(browser.text_of(".timeline .end").contains("Nothing before"));

        // The newest beside the one before it.
        browser.until("document.querySelectorAll('.diff tr.changed').length === 1");
        assert!(
            browser.text_of(".diff tr.changed").contains("\"n\": 2")
                && browser.text_of(".diff tr.changed").contains("\"n\": 3")
        );
        assert_eq!(browser.count(".diff tr.added"), 1);

        // The second of all beside the first, then beside the newest.
        browser.click_on(".timeline li:nth-child(4) button");
        browser.until_text(".diff", "Porto");
        browser.until_text(".diff", "Lisboa");
        browser.run("const other = document.querySelector('select[aria-label=\"Compared with\"]'); other.value = '0'; other.dispatchEvent(new Event('change'))");
        browser.until_text(".diff", "Faro");
        // The address names both, so that it can be given to somebody else.
        let shared = browser.run("return location.hash").as_str().expect("an address").to_owned();
        browser.open(&shared);
        browser.until_text(".diff", "Porto");
        browser.until_text(".diff", "Faro");

        // The tombstone, and back from it.
        browser.click_on(".timeline li.tombstone button");
        browser.until("document.querySelectorAll('.diff tr.removed').length > 3");
        browser.click_on(".timeline li:nth-child(5) button");
        browser.click("Document");
        browser.until_text(".source", "Lisboa");
        browser.click("Go back to this");
        browser.until_text("label", "as it was in the version you chose");
        browser.click("Save");
        browser.until("document.querySelectorAll('.timeline > li').length === 7");
        browser.click("Document");
        browser.until_text(".source", "Lisboa");
    });
}

#[test]
fn what_retention_has_dropped_is_said() {
    let clock = Clock::new();
    let host = Host::timed(clock.clone());
    let mut client = host.with_container();
    for number in 0..4 {
        put(&mut client, &json!({"id": "i", "pk": "a", "number": number}));
        clock.pass(400);
    }
    drop(client);
    clock.pass(100);
    let host = host.restart_trimmed(clock);
    with_browser(host.address(), |browser| {
        browser.open(&address("doc", "i"));
        browser.until("document.querySelector('.timeline .dropped')");
        let end = browser.text_of(".timeline .dropped");
        assert!(end.contains("were dropped") && end.contains("10 min"), "{end}");
        assert!(browser.count(".timeline li") < 5);
        // Whoever has an old address is told, too.
        browser.open("#/db/d/c/doc/%5B%22a%22%5D/nobody");
        browser.until_text("[role=alert]", "never existed");
    });
}
