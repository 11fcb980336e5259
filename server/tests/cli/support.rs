//! The binary under test, a server that runs it, and a directory for each test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::SystemTime;

use etagdb_server::Signer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A command of the binary under test, without what the environment might add.
pub(crate) fn etagdb(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etagdb"));
    command.args(args).env_remove("ETAGDB_KEY").env_remove("ETAGDB_LOG");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command to its end with nothing on standard input.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    let output = etagdb(args).stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// An import into container `d/c` by `/pk`, with more arguments.
pub(crate) fn import(destination: &[&str], more: &[&str]) -> Command {
    let mut args = vec!["import", "--database", "d", "--container", "c", "--partition-key", "/pk", "--json"];
    args.extend_from_slice(destination);
    args.extend_from_slice(more);
    etagdb(&args)
}

pub(crate) fn summary(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {output:?}"))
}

pub(crate) fn kill(child: &Child, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

/// A running server; killed when the test ends.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) ready: String,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(data: &Path) -> Server {
        Server::start_with(data, &["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(data: &Path, more: &[&str]) -> Server {
        let mut command = etagdb(&["serve", "--data", data.to_str().unwrap()]);
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        let url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
        if url.is_empty() {
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("no ready line but {ready:?}: {errors}");
        }
        Server { child, stdout, ready, url }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Ends it in order; returns the exit code, what else it printed, and its log.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String, String) {
        kill(&self.child, signal);
        let (mut out, mut log) = (String::new(), String::new());
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        self.stdout.read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, log)
    }

    /// Every item of `d/c`, by id.
    pub(crate) fn items(&self) -> BTreeMap<String, Value> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            // Already done is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let signer = Signer::new(None).unwrap();
            let mut items = BTreeMap::new();
            let mut continuation = None;
            loop {
                let date = httpdate::fmt_http_date(SystemTime::now());
                let mut request = client
                    .get(format!("{}/dbs/d/colls/c/docs", self.url))
                    .header("authorization", signer.authorization("GET", "docs", "dbs/d/colls/c", &date))
                    .header("x-ms-date", &date)
                    .header("x-ms-version", "2020-07-15")
                    .header("x-ms-max-item-count", "1000");
                if let Some(continuation) = continuation {
                    request = request.header("x-ms-continuation", continuation);
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                continuation = response.headers().get("x-ms-continuation").cloned();
                let page: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                for item in page["Documents"].as_array().unwrap() {
                    items.insert(item["id"].as_str().unwrap().to_owned(), item.clone());
                }
                if continuation.is_none() {
                    return items;
                }
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, as most tests want it to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for a test: its data, its input, and whatever is left beside that.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn input(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn serve(&self) -> Server {
        Server::start(Path::new(&self.path("data")))
    }

    pub(crate) fn journals(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("etagdb-import")).count()
    }
}

pub(crate) fn document(number: usize) -> String {
    json!({ "id": format!("id-{number}"), "pk": format!("pk-{}", number % 7), "number": number }).to_string()
}

pub(crate) fn documents(count: usize) -> String {
    (0..count).map(|number| document(number) + "\n").collect()
}
