//! A real browser: Debian's Chromium without a window, driven over WebDriver. Owns the two processes and the words that
//! the tests speak: open, click, type, and wait until something is so on the page.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::WindowHandle;
use thirtyfour::prelude::*;
use tokio::runtime::Runtime;

/// Far longer than anything on the page takes, on a machine that has much else to do; less than the driver's client waits.
const PATIENCE: Duration = Duration::from_secs(100);
/// What is needed beside the driver that this crate has.
const TOOLS: [&str; 2] = ["chromedriver", "chromium"];

/// One browser at a time: each takes a core, and other tests run beside it.
static TURN: Mutex<()> = Mutex::new(());

/// A browser with one window, closed when it is dropped.
pub(super) struct Browser {
    runtime: Runtime,
    driver: WebDriver,
    process: Child,
    url: String,
    _turn: MutexGuard<'static, ()>,
}

/// Runs a test with a browser that shows the explorer of the server at an address, if the machine has a browser, and says
/// so if it has none.
pub(super) fn with_browser(address: std::net::SocketAddr, test: impl FnOnce(&Browser)) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    if let Some(missing) = TOOLS.iter().find(|tool| !is_there(tool)) {
        // Written past the test harness, which shows what a test prints only when it fails.
        let skipped = "SKIPPED: the explorer was not tried in a browser: there is no";
        writeln!(std::io::stderr(), "{skipped} `{missing}` here (Debian: apt-get install chromium chromium-driver)")
            .ok();
        return;
    }
    let browser = Browser::start(format!("http://{address}/_explorer"));
    test(&browser);
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

impl Browser {
    fn start(url: String) -> Browser {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs");
        let mut lines = BufReader::new(process.stdout.take().expect("standard output is piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        let runtime = Runtime::new().expect("a runtime");
        let mut wanted = DesiredCapabilities::chrome();
        // Without a sandbox, because containers that tests run in have none; the page is our own.
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,900",
            "--lang=en",
        ] {
            wanted.add_arg(argument).expect("an argument");
        }
        wanted.set("goog:loggingPrefs", json!({"browser": "ALL"})).expect("a capability");
        wanted.set("unhandledPromptBehavior", json!("ignore")).expect("a capability");
        let driver = runtime.block_on(async {
            // The driver's HTTP client takes TLS from whatever the process has; already there is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await.expect("a browser");
            driver.set_script_timeout(PATIENCE).await.expect("a time-out");
            driver
        });
        let browser = Browser { runtime, driver, process, url, _turn: turn };
        browser.open("");
        browser
    }

    fn wait<T>(&self, doing: impl Future<Output = WebDriverResult<T>>) -> T {
        self.runtime.block_on(doing).unwrap_or_else(|error| panic!("{error}\n{}", self.text_of("body")))
    }

    /// Opens an address of the explorer, such as `#/db/d/c`, as a page of its own.
    pub(super) fn open(&self, hash: &str) {
        // A change of the part after # alone loads nothing.
        self.wait(self.driver.goto("about:blank"));
        self.wait(self.driver.goto(format!("{}{hash}", self.url)));
    }

    /// Runs a script's body in the page and gives what it returns.
    pub(super) fn run(&self, script: &str) -> Value {
        self.wait(self.driver.execute(script, Vec::new())).json().clone()
    }

    /// Runs a script's body that says when it is done, by calling its one argument with the result.
    pub(super) fn run_async(&self, script: &str) -> Value {
        self.wait(self.driver.execute_async(script, Vec::new())).json().clone()
    }

    /// Waits until an expression is true on the page.
    #[track_caller]
    pub(super) fn until(&self, expression: &str) {
        let script = format!(
            "const done = arguments[0]; const look = () => {{ let is; try {{ is = {expression}; }} catch {{ is = false; }} \
             if (is) done(true); else setTimeout(look, 10); }}; look();"
        );
        let waited = self.runtime.block_on(self.driver.execute_async(script, Vec::new()));
        if let Err(error) = waited {
            panic!("waited in vain for {expression}: {error}\n{}", self.text_of("body"));
        }
    }

    /// Waits until there is an element with this text in it.
    #[track_caller]
    pub(super) fn until_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!(
            "[...document.querySelectorAll({selector})].some((one) => one.innerText.includes({text}))"
        ));
    }

    /// The text that a person sees in the first element of a kind; empty without one.
    pub(super) fn text_of(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        match self.runtime.block_on(self.driver.execute(script, Vec::new())) {
            Ok(found) => found.json().as_str().unwrap_or_default().to_owned(),
            Err(error) => format!("(the page cannot be read: {error})"),
        }
    }

    pub(super) fn count(&self, selector: &str) -> u64 {
        let script = format!("return document.querySelectorAll({}).length", json!(selector));
        self.run(&script).as_u64().expect("a number")
    }

    fn find(&self, xpath: &str) -> WebElement {
        let query = self.driver.query(By::XPath(xpath.to_owned()));
        self.wait(query.wait(PATIENCE, Duration::from_millis(20)).and_displayed().first())
    }

    /// Clicks the link or button with this text, as soon as there is one.
    pub(super) fn click(&self, text: &str) {
        let text = xpath_text(text);
        let element = self.find(&format!("//*[self::a or self::button][normalize-space(.)={text}]"));
        self.wait(element.scroll_into_view());
        self.wait(element.click());
    }

    /// Clicks the first element of a kind.
    pub(super) fn click_on(&self, selector: &str) {
        let query = self.driver.query(By::Css(selector.to_owned()));
        let element = self.wait(query.wait(PATIENCE, Duration::from_millis(20)).and_displayed().first());
        self.wait(element.scroll_into_view());
        self.wait(element.click());
    }

    /// Types into the field with this label, in place of what is there.
    pub(super) fn fill(&self, id: &str, text: &str) {
        let element = self.wait(self.driver.query(By::Id(id.to_owned())).first());
        self.wait(element.clear());
        self.wait(element.send_keys(text));
    }

    /// Replaces a part of what a text area holds, as if a person had typed it.
    pub(super) fn edit(&self, from: &str, to: &str) {
        self.until("document.querySelector('#content')");
        let script = format!(
            "const field = document.querySelector('#content'); const at = field.value.indexOf({from}); \
             if (at < 0) return false; field.setRangeText({to}, at, at + {from}.length); \
             field.dispatchEvent(new Event('input', {{ bubbles: true }})); return true;",
            from = json!(from),
            to = json!(to)
        );
        assert_eq!(
            self.run(&script),
            json!(true),
            "the text does not hold {from}: {}",
            self.run("return document.querySelector('#content').value")
        );
    }

    /// Presses keys, wherever the focus is.
    pub(super) fn press(&self, keys: impl Into<TypingData>) {
        self.wait(self.driver.action_chain().send_keys(keys).perform());
    }

    /// Presses a letter with the control key held.
    pub(super) fn press_control(&self, letter: char) {
        let keys = self.driver.action_chain().key_down(Key::Control).send_keys(letter.to_string()).key_up(Key::Control);
        self.wait(keys.perform());
    }

    /// Answers the question that the browser asks in a box of its own.
    pub(super) fn accept(&self) {
        self.wait(self.driver.accept_alert());
    }

    /// Whether a box of the browser's own is open, as a script that ran would have opened one.
    pub(super) fn has_box(&self) -> bool {
        self.runtime.block_on(self.driver.get_alert_text()).is_ok()
    }

    /// Opens a second tab at an address, and stays in it.
    pub(super) fn open_tab(&self, hash: &str) -> Tabs {
        let first = self.wait(self.driver.window());
        let second = self.wait(self.driver.new_tab());
        self.wait(self.driver.switch_to_window(second.clone()));
        self.open(hash);
        Tabs { first, second }
    }

    pub(super) fn switch(&self, tab: &WindowHandle) {
        self.wait(self.driver.switch_to_window(tab.clone()));
    }

    /// Sets what the page learns of the system's preference.
    pub(super) fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.wait(self.driver.cdp().send_raw("Emulation.setEmulatedMedia", features));
    }

    /// Keeps what the browser shows, as a file.
    pub(super) fn picture(&self, path: &Path) {
        self.wait(self.driver.screenshot(path));
    }

    /// Everything that scripts did wrong since the last time this was asked. Refused requests are the network's.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.wait(self.driver.browser_log());
        let wrong =
            log.into_iter().filter(|entry| entry.level == "SEVERE" && entry.source.as_deref() != Some("network"));
        wrong.map(|entry| entry.message).collect()
    }
}

/// Two tabs of one browser.
pub(super) struct Tabs {
    pub(super) first: WindowHandle,
    pub(super) second: WindowHandle,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session first, so that the driver ends the browser; a driver that does not answer is ended all the same.
        self.runtime.block_on(self.driver.clone().quit()).ok();
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A text as XPath writes it, which has no escapes.
fn xpath_text(text: &str) -> String {
    assert!(!text.contains('"'), "XPath cannot quote {text}");
    format!("\"{text}\"")
}
