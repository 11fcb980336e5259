//! Who can use the page: with the keyboard alone, with a screen reader, in light and dark; and only with the key.

use serde_json::json;
use thirtyfour::Key;

use super::browser::{Browser, with_browser};
use super::{address, get, put};
use crate::support::Host;

/// Presses Tab until the focus is on something with this text or name.
fn tab_to(browser: &Browser, name: &str) {
    let focused = "const one = document.activeElement; return [one.getAttribute('aria-label') ?? '', one.innerText ?? '', one.id].join('|')";
    let mut passed = Vec::new();
    for _ in 0..60 {
        browser.press(Key::Tab);
        let now = browser.run(focused).as_str().unwrap_or_default().to_owned();
        if now.split('|').any(|part| part.trim().starts_with(name)) {
            return;
        }
        passed.push(now);
    }
    panic!("Tab does not come to {name}; it passed {passed:?}");
}

#[test]
fn everything_can_be_done_with_the_keyboard() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "i", "pk": "a", "n": 1}));
    put(&mut client, &json!({"id": "i", "pk": "a", "n": 2}));
    put(&mut client, &json!({"id": "other", "pk": "a"}));
    with_browser(host.address(), |browser| {
        browser.until("document.querySelector('nav.side a[data-coll=c]')");
        // The first stop leads past the navigation.
        browser.press(Key::Tab);
        assert_eq!(browser.run("return document.activeElement.className"), json!("skip"));
        tab_to(browser, "c\n");
        browser.press(Key::Enter);
        browser.until("document.querySelectorAll('.list tbody tr').length === 2");
        assert_eq!(
            browser.run("return document.activeElement.tagName"),
            json!("H1"),
            "the focus follows to the new view"
        );
        tab_to(browser, "Filter");
        browser.press("i");
        browser.press(Key::Enter);
        browser.until("document.querySelectorAll('.list tbody tr').length === 1");
        tab_to(browser, "i");
        browser.press(Key::Enter);
        browser.until("document.querySelector('.timeline') && document.activeElement.tagName === 'H1'");
        tab_to(browser, "Edit");
        browser.press(Key::Enter);
        browser.until("document.activeElement.id === 'content'");
        browser.press_control('a');
        browser.press("{\"id\": \"i\", \"pk\": \"a\", \"typed\": true}");
        browser.press_control('s');
        browser.until_text(".timeline", "typed");
        assert_eq!(get(&mut client, "i").json()["typed"], true);
        // The versions, one after the other.
        tab_to(browser, "#");
        browser.press(Key::Tab);
        browser.press(Key::Enter);
        browser.until("document.querySelector('.timeline li:nth-child(2) [aria-current]') === document.activeElement");
        browser.until_text("#live", "compared with");
    });
}

/// Every element with text of its own, whether what is behind it lets it be read: 4.5 to 1, and 3 to 1 for large text.
const CONTRAST: &str = r"
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const over = ([r, g, b, a], [R, G, B]) => [r, g, b].map((part, at) => part * a / 255 + [R, G, B][at] * (1 - a / 255));
    const behind = (one) => { const own = one ? rgba(getComputedStyle(one).backgroundColor) : [255, 255, 255, 255]; return own[3] === 255 ? own : over(own, behind(one.parentElement)); };
    const light = (colour) => { const [r, g, b] = colour.slice(0, 3).map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const bad = [];
    for (const one of document.querySelectorAll('body *')) {
        const text = [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('');
        const box = one.getBoundingClientRect();
        if (text === '' || box.width < 2 || box.height < 2 || one.closest('.unseen, .skip, :disabled, noscript, option')) continue;
        const style = getComputedStyle(one);
        const ground = behind(one);
        const ink = over(rgba(one.namespaceURI.endsWith('svg') ? style.fill : style.color), ground);
        const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
        const ratio = (high + 0.05) / (low + 0.05);
        const isLarge = parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 600;
        if (ratio < (isLarge ? 3 : 4.5)) bad.push(`${one.tagName}.${one.className} ${text.slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return bad;";

/// What a screen reader finds: names for all that can be used, one heading of the first level, landmarks, a language.
const NAMES: &str = r"
    const bad = [];
    const nameOf = (one) => (one.getAttribute('aria-label') ?? one.labels?.[0]?.innerText ?? one.innerText ?? '').trim() || (one.getAttribute('title') ?? '');
    for (const one of document.querySelectorAll('a, button, input, select, textarea, [role=img], [role=region], nav')) if (nameOf(one) === '' && !one.closest('[hidden]')) bad.push(one.outerHTML.slice(0, 80));
    if (document.querySelectorAll('h1').length !== 1) bad.push('headings: ' + document.querySelectorAll('h1').length);
    for (const landmark of ['header.top', 'nav.side', 'main', '[aria-live]', 'html[lang]']) if (!document.querySelector(landmark)) bad.push('no ' + landmark);
    for (const table of document.querySelectorAll('table')) if (!table.querySelector('th[scope]')) bad.push('a table without headers');
    const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
    if (new Set(ids).size !== ids.length) bad.push('an id twice');
    return bad;";

#[test]
fn every_view_can_be_read_in_light_and_in_dark_and_every_control_has_a_name() {
    let host = Host::start();
    let mut client = host.with_container();
    put(&mut client, &json!({"id": "i", "pk": "a", "text": "b", "n": 1, "w": null}));
    put(&mut client, &json!({"id": "i", "pk": "a", "text": "c", "n": 1, "w": null}));
    let item = json!({"id": "i", "pk": "a"});
    let stale = [("x-ms-documentdb-partitionkey", "[\"a\"]"), ("if-match", "\"stale\"")];
    client.put("/dbs/d/colls/c/docs/i", &stale, &item).expect_status(412);
    with_browser(host.address(), |browser| {
        let mut grounds = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            for (hash, ready) in [
                (String::new(), "document.querySelector('.cards table')"),
                ("#/db/d/c".to_owned(), "document.querySelector('.list tbody tr')"),
                ("#/db/d/c/query".to_owned(), "document.querySelector('#sql')"),
                ("#/db/d/c/feed".to_owned(), "document.querySelector('.live.on')"),
                ("#/db/d/c/new".to_owned(), "document.querySelector('#content')"),
                (address("doc", "i"), "document.querySelector('.diff mark')"),
                (address("edit", "i"), "document.querySelector('#content')"),
            ] {
                browser.open(&hash);
                browser.until(ready);
                assert_eq!(browser.run(CONTRAST), json!([]), "{scheme} {hash}");
                assert_eq!(browser.run(NAMES), json!([]), "{hash}");
            }
            // A conflict, which is a view of the editor.
            browser.edit("\"c\"", "\"mine\"");
            put(&mut client, &json!({"id": "i", "pk": "a", "text": scheme, "n": 1, "w": null}));
            browser.click("Save");
            browser.until("document.querySelector('.three tr.clash')");
            assert_eq!((browser.run(CONTRAST), browser.run(NAMES)), (json!([]), json!([])), "{scheme} conflict");
            browser.click("Take theirs, discard mine");
            browser.until("document.querySelector('.timeline')");
            put(&mut client, &json!({"id": "i", "pk": "a", "text": "c", "n": 1, "w": null}));
            grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        }
        assert_ne!(grounds[0], grounds[1], "dark looks like light");
        // Who wants another theme than the system's has it, also next time.
        browser.run("const theme = document.querySelector('#theme'); theme.value = 'light'; theme.dispatchEvent(new Event('change'))");
        browser.open("");
        browser.until_text("h1", "Dashboard");
        assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor"), grounds[0]);
    });
}

#[test]
fn a_server_with_its_own_key_asks_for_it_and_the_page_forgets_it() {
    const KEY: &str = "YSBrZXkgb2Ygb3VyIG93biwgZm9yIHRlc3RpbmcgdGhlIGV4cGxvcmVy";
    let config = etagdb_server::Config { key: Some(KEY.to_owned()), ..etagdb_server::Config::default() };
    let host = Host::start_with(config);
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "key of its own");
        for (typed, answer) in [("bm90IHRoaXMgb25l", "does not take this key"), ("not base64!", "not base64")] {
            browser.fill("key", typed);
            browser.click("Open");
            browser.until_text("[role=alert]", answer);
        }
        browser.fill("key", KEY);
        browser.press(Key::Enter);
        browser.until_text("h1", "Dashboard");
        let kept = browser.run(
            "return JSON.stringify([document.documentElement.outerHTML, { ...localStorage }, { ...sessionStorage }, document.cookie, location.href])",
        );
        assert!(!kept.as_str().is_some_and(|kept| kept.contains(KEY)), "the key is kept");
        browser.click("Forget the key");
        browser.until_text("h1", "key of its own");
        assert_eq!(browser.text_of("nav.side"), "");
        browser.open("");
        browser.until_text("h1", "key of its own");
    });
}
