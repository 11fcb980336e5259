//! Documents whose author means harm to who looks at them: everything in them is text.

use serde_json::json;

use super::browser::with_browser;
use super::put;
use crate::support::Host;

const IMAGE: &str = "<img src=x onerror=alert(1)>";
const SCRIPT: &str = "<script>alert(2); document.title = 'owned'</script>";

#[test]
fn a_hostile_document_is_shown_as_text() {
    let host = Host::start();
    let mut client = host.with_container();
    let item = |number: u32| {
        json!({
            "id": IMAGE, "pk": "a", SCRIPT: SCRIPT, "number": number, "url": "javascript:alert(3)",
            "close": "</pre></td></table></main><svg onload=alert(4)>", "__proto__": {"polluted": true},
            "template": "{{constructor.constructor('alert(5)')()}}", "direction": "user\u{202e}gpj.exe", "hidden": "a\u{200b}b",
            "long": "x".repeat(400_000), "lines": (0..4000).collect::<Vec<u32>>(),
        })
    };
    put(&mut client, &item(1));
    put(&mut client, &item(2));
    with_browser(host.address(), |browser| {
        let harmless = |view: &str| {
            assert!(!browser.has_box(), "{view}: a script ran");
            let owned = browser.run("return document.title === 'owned' || ({}).polluted === true || document.querySelector('main img, main script, main iframe, main a[href^=\"javascript\"]') !== null || [...document.querySelectorAll('*')].some((one) => [...one.attributes].some((attribute) => attribute.name.startsWith('on')))");
            assert_eq!(owned, json!(false), "{view}: the document became markup");
        };
        browser.open("#/db/d/c");
        browser.until_text(".list", IMAGE);
        harmless("list");

        browser.run("document.querySelector('.list a').click()");
        browser.until_text("h1", IMAGE);
        browser.until_text(".diff", "\"number\": 2");
        harmless("versions");
        browser.click("Document");
        browser.until_text(".source", SCRIPT);
        let text = browser.text_of(".source");
        assert!(text.contains("‹U+202E›gpj.exe") && text.contains("a‹U+200B›b"), "what is hidden is shown");
        assert!(text.contains("more characters") && text.len() < 200_000, "a long document is shown in part");
        harmless("document");

        browser.click("Edit");
        browser.edit("\"number\": 2", "\"number\": 3");
        put(&mut client, &item(4));
        browser.click("Save");
        browser.until_text(".three", "number");
        harmless("conflict");
        browser.click("Take theirs, discard mine");

        browser.open("#/db/d/c/query");
        browser.until("document.querySelector('#sql')");
        browser.fill("sql", "SELECT c.id, c.url, c.close FROM c");
        browser.click("Run");
        browser.until_text(".list", IMAGE);
        harmless("query");

        browser.open("#/db/d/c/feed");
        browser.until("document.querySelector('.live.on')");
        browser.run("const since = document.querySelector('select[aria-label=\"Where to begin\"]'); since.value = '100'; since.dispatchEvent(new Event('change'))");
        browser.until_text(".feed", IMAGE);
        harmless("feed");
    });
}

/// The policy is the second wall: even a mistake in the page cannot turn a text into markup or run it.
#[test]
fn the_browser_refuses_what_the_policy_forbids() {
    let host = Host::start();
    let _client = host.with_container();
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "Dashboard");
        let refused = |attempt: &str| {
            let script = format!(
                "const done = arguments[0]; try {{ {attempt}; done('done') }} catch (error) {{ done(error.name) }}"
            );
            browser.run_async(&script)
        };
        assert_eq!(
            refused("document.querySelector('main').innerHTML = '<b>x</b>'"),
            json!("TypeError"),
            "Trusted Types"
        );
        assert_eq!(refused("document.createElement('script').src = '/_explorer/app.js'"), json!("TypeError"));
        assert_eq!(refused("document.createElement('b').textContent = '<b>'"), json!("done"), "text is text");
        let told = browser.complaints();
        assert!(told.len() == 2 && told.iter().all(|line| line.contains("assignment")), "{told:?}");
    });
}
