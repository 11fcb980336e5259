//! Writing: a new document, an edit, and what happens when somebody else was faster.

use serde_json::json;

use super::browser::{Browser, Tabs, with_browser};
use super::{address, get, put};
use crate::support::{Client, Host};

#[test]
fn a_document_is_made_edited_and_deleted() {
    let host = Host::start();
    let mut client = host.with_container();
    with_browser(host.address(), |browser| {
        browser.open("#/db/d/c");
        browser.click("New document");
        browser.until("document.querySelector('#content')");
        browser.edit("\"pk\": \"\"", "\"pk\": \"a\", \"total\": 12345678901234567890, \"rate\": 1.0");
        let id = browser.run("return JSON.parse(document.querySelector('#content').value).id");
        let id = id.as_str().expect("a new id").to_owned();
        browser.click("Create");
        browser.until_text("h1", &id);
        browser.until_text(".source", "12345678901234567890");

        browser.click("Edit");
        browser.edit("\"rate\": 1.0", "\"rate\": 1.0, \"note\": \"x\"");
        browser.edit("{", "{,");
        browser.until_text("#valid", "Line 1, column 2");
        browser.until("document.querySelector('.editor .primary').disabled");
        browser.edit("{,", "{");
        browser.press_control('s');
        browser.until_text(".timeline", "note");
        // JavaScript's own numbers would have made these 12345678901234567000 and 1.
        let stored = get(&mut client, &id).text();
        assert!(
            stored.contains("12345678901234567890") && stored.contains("1.0") && stored.contains("note"),
            "{stored}"
        );

        browser.click("Delete");
        browser.accept();
        browser.until_text(".badge", "Deleted");
        get(&mut client, &id).expect_status(404);
        browser.click_on(".timeline li:nth-child(2) button");
        browser.click("Make it again as it was");
        browser.click("Create again");
        browser.until_text(".timeline", "created again");
        get(&mut client, &id).expect_status(200);
    });
}

/// Opens the editor of `i` in two tabs and saves one change in the second; the first is shown, with nothing saved yet.
fn race(browser: &Browser, theirs: &[(&str, &str)], mine: &[(&str, &str)]) -> Tabs {
    browser.open(&address("edit", "i"));
    browser.until("document.querySelector('#content')");
    let tabs = browser.open_tab(&address("edit", "i"));
    for (from, to) in theirs {
        browser.edit(from, to);
    }
    browser.click("Save");
    browser.until("document.querySelector('.timeline')");
    browser.switch(&tabs.first);
    for (from, to) in mine {
        browser.edit(from, to);
    }
    browser.click("Save");
    browser.until_text("h1", "before you");
    tabs
}

fn cart(client: &mut Client) {
    let item = json!({"id": "i", "pk": "a", "status": "open", "to": {"city": "Lisboa", "zip": "1100"}, "gift": false, "list": [1, 2]});
    put(client, &item);
}

#[test]
fn two_tabs_edit_one_document_and_the_conflict_is_merged() {
    let host = Host::start();
    let mut client = host.with_container();
    cart(&mut client);
    with_browser(host.address(), |browser| {
        let tabs = race(
            browser,
            &[("open", "paid"), ("Lisboa", "Porto")],
            &[("open", "cancelled"), ("false", "true"), ("1100", "1100-048")],
        );
        // All three are shown, place by place, and only one place is a conflict.
        let rows = browser.text_of(".three tbody");
        for text in ["\"open\"", "\"paid\"", "\"cancelled\"", "\"Porto\"", "to.zip", "gift"] {
            assert!(rows.contains(text), "{text} is not shown: {rows}");
        }
        assert_eq!((browser.count(".three tbody tr"), browser.count(".three tr.clash")), (4, 1));
        browser.until("document.querySelector('.actions .primary').disabled");
        assert!(get(&mut client, "i").text().contains("paid"), "nothing is saved before it is decided");

        browser.click_on(".three tr.clash td:nth-child(4) input");
        browser.until_text(".actions", "Everything is decided.");
        browser.click("Save the merged document");
        browser.until("document.querySelectorAll('.timeline > li').length === 4");
        let stored = get(&mut client, "i").json();
        assert_eq!(
            json!([stored["status"], stored["to"]["city"], stored["to"]["zip"], stored["gift"], stored["list"]]),
            json!(["cancelled", "Porto", "1100-048", true, [1, 2]])
        );
        // The other tab sees it as the newest version once it looks again.
        browser.switch(&tabs.second);
        browser.open(&address("doc", "i"));
        browser.until_text(".timeline", "status");
    });
}

#[test]
fn theirs_can_be_taken_and_mine_can_be_kept() {
    let host = Host::start();
    let mut client = host.with_container();
    cart(&mut client);
    with_browser(host.address(), |browser| {
        race(browser, &[("open", "paid")], &[("open", "cancelled")]);
        browser.click("Take theirs, discard mine");
        browser.until("document.querySelector('.timeline')");
        assert_eq!(get(&mut client, "i").json()["status"], "paid");

        cart(&mut client);
        race(browser, &[("open", "paid"), ("Lisboa", "Porto")], &[("open", "cancelled")]);
        browser.click("Save mine as it is");
        browser.until("document.querySelector('.timeline')");
        let stored = get(&mut client, "i").json();
        assert_eq!(json!([stored["status"], stored["to"]["city"]]), json!(["cancelled", "Lisboa"]));
    });
}

/// A second conflict while the first is decided: the version that was merged with is not current any more either.
#[test]
fn a_merge_that_lost_again_is_shown_again() {
    let host = Host::start();
    let mut client = host.with_container();
    cart(&mut client);
    with_browser(host.address(), |browser| {
        race(browser, &[("open", "paid")], &[("open", "cancelled")]);
        put(
            &mut client,
            &json!({"id": "i", "pk": "a", "status": "shipped", "to": {"city": "Lisboa", "zip": "1100"}, "gift": false, "list": [1, 2]}),
        );
        browser.click_on(".three tr.clash td:nth-child(4) input");
        browser.click("Save the merged document");
        browser.until_text(".three", "\"shipped\"");
        assert_eq!(get(&mut client, "i").json()["status"], "shipped", "nobody was overwritten");
        browser.click_on(".three tr.clash td:nth-child(3) input");
        browser.click("Save the merged document");
        browser.until("document.querySelector('.timeline')");
        assert_eq!(get(&mut client, "i").json()["status"], "shipped");
    });
}

#[test]
fn a_document_that_was_deleted_meanwhile_is_made_again_or_left() {
    let host = Host::start();
    let mut client = host.with_container();
    cart(&mut client);
    with_browser(host.address(), |browser| {
        browser.open(&address("edit", "i"));
        browser.edit("open", "cancelled");
        client.delete("/dbs/d/colls/c/docs/i", &[("x-ms-documentdb-partitionkey", "[\"a\"]")]).expect_status(204);
        browser.click("Save");
        browser.until_text("h1", "Somebody deleted");
        get(&mut client, "i").expect_status(404);
        browser.click("Make it again with my content");
        browser.until_text(".timeline", "created again");
        assert_eq!(get(&mut client, "i").json()["status"], "cancelled");
    });
}

#[test]
fn a_change_is_not_lost_by_going_elsewhere() {
    let host = Host::start();
    let mut client = host.with_container();
    cart(&mut client);
    with_browser(host.address(), |browser| {
        browser.open(&address("edit", "i"));
        browser.edit("open", "cancelled");
        browser.click_on("nav.side a.home");
        assert!(browser.has_box(), "the page asks before it forgets");
        browser.accept();
        browser.until_text("h1", "Dashboard");
        assert_eq!(get(&mut client, "i").json()["status"], "open");
    });
}
