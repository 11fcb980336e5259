//! The `etagdb` binary as its users meet it: exit codes, messages, signals, and imports that are cut off.
//!
//! Signals are sent by `sh`, and acknowledgements read through `/dev/stdout`, so this runs on Unix only.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::SystemTime;

use etagdb_server::Signer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A command of the binary under test, without what the environment might add.
fn etagdb(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etagdb"));
    command.args(args).env_remove("ETAGDB_KEY").env_remove("ETAGDB_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command to its end with nothing on standard input.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = etagdb(args).stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// An import into container `d/c` by `/pk`, with more arguments.
fn import(destination: &[&str], more: &[&str]) -> Command {
    let mut args = vec!["import", "--database", "d", "--container", "c", "--partition-key", "/pk", "--json"];
    args.extend_from_slice(destination);
    args.extend_from_slice(more);
    etagdb(&args)
}

fn summary(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {output:?}"))
}

fn kill(child: &Child, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

/// A running server; killed when the test ends.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
    url: String,
}

impl Server {
    fn start(data: &Path) -> Server {
        Server::start_with(data, &["--listen", "127.0.0.1:0"])
    }

    fn start_with(data: &Path, more: &[&str]) -> Server {
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

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Ends it in order; returns the exit code, what else it printed, and its log.
    fn end(mut self, signal: &str) -> (Option<i32>, String, String) {
        kill(&self.child, signal);
        let (mut out, mut log) = (String::new(), String::new());
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        self.stdout.read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, log)
    }

    /// Every item of `d/c`, by id.
    fn items(&self) -> BTreeMap<String, Value> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            // The client takes TLS from whatever the process has; already there is as good.
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
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn input(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn serve(&self) -> Server {
        Server::start(Path::new(&self.path("data")))
    }

    fn journals(&self) -> usize {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("etagdb-import")).count()
    }
}

fn document(number: usize) -> String {
    json!({ "id": format!("id-{number}"), "pk": format!("pk-{}", number % 7), "number": number }).to_string()
}

fn documents(count: usize) -> String {
    (0..count).map(|number| document(number) + "\n").collect()
}

/// An import that reads what the test writes, and whose acknowledgements the test reads.
struct Fed {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    acknowledged: Vec<Value>,
}

impl Fed {
    fn start(destination: &[&str], resume: &str) -> Fed {
        let mut command = import(destination, &["--ack-log", "/dev/stdout", "--resume", resume, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Fed { child, stdin, stdout, acknowledged: Vec::new() }
    }

    fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads one acknowledgement, waiting for it.
    fn read(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        self.acknowledged.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no acknowledgement: {line:?}")));
    }

    /// Waits for the end; returns the exit code, all acknowledgements, the last line of standard output and standard
    /// error.
    fn end(self) -> (Option<i32>, Vec<Value>, String, String) {
        self.end_with(String::new())
    }

    /// Writes the rest of the input first. That takes a thread: the import stops reading while nobody reads from it.
    fn end_with(mut self, rest: String) -> (Option<i32>, Vec<Value>, String, String) {
        let stdin = self.stdin.take();
        // An import that ends early reads only a part of it.
        std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(rest.as_bytes())));
        let (mut out, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        for line in lines.iter().filter(|line| line.starts_with("{\"id\"")) {
            self.acknowledged.push(serde_json::from_str(line).unwrap());
        }
        let last = lines.last().copied().unwrap_or_default().to_owned();
        (self.child.wait().unwrap().code(), self.acknowledged, last, errors)
    }
}

fn settled(journal: &str) -> u64 {
    let Ok(bytes) = fs::read(journal) else { return 0 };
    let entry: Value = serde_json::from_slice(&bytes).unwrap();
    entry["position"]["documents"].as_u64().unwrap()
}

/// Every acknowledged document is there, with the etag that was acknowledged or one that replaced it later.
fn assert_all_there(acknowledged: &[Value], items: &BTreeMap<String, Value>) {
    for line in acknowledged {
        let id = line["id"].as_str().unwrap();
        let item = items.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(line["pk"], json!([item["pk"]]));
    }
}

#[test]
fn commands_that_cannot_be_carried_out_exit_with_2_and_say_why() {
    let place = Place::new();
    let data = place.path("data");
    let to = ["import", "--data", &data, "--database", "d", "--container", "c"];
    let with = |more: &[&'static str]| [&to[..], more].concat();
    for (args, message) in [
        (vec![], "Usage: etagdb <COMMAND>"),
        (vec!["fly"], "unrecognized subcommand 'fly'"),
        (vec!["serve", "--tls", "maybe"], "possible values: self-signed"),
        (vec!["serve", "--tls-cert", "a.pem"], "--tls-key"),
        (vec!["serve", "--listen", "nonsense"], "write it as `127.0.0.1:8081`"),
        (vec!["serve", "--durability", "maybe"], "possible values: sync, buffered"),
        (vec!["serve", "--data", &data, "--key", "not base64!"], "not base64"),
        (vec!["serve", "--data", &data, "--listen", "0.0.0.0:0"], "well-known key"),
        (vec!["import", "--database", "d"], "--data <DIR>|--url <URL>"),
        (with(&["x.json"]), "--partition-key"),
        (with(&["--partition-key", "country", "x.json"]), "`country` is no path"),
        (with(&["--partition-key", "/a", "--url", "http://x", "x.json"]), "cannot be used with"),
        (with(&["--partition-key", "/a", "--generate-id", "--id-from", "/b", "x.json"]), "cannot be used with"),
        (with(&["--partition-key", "/a", "--key", "abcd", "x.json"]), "cannot be used with"),
    ] {
        let (code, stdout, stderr) = run(&args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
    }
    assert!(!Path::new(&data).exists(), "a command that cannot work leaves nothing behind");
}

#[test]
fn help_teaches_with_examples() {
    for args in [&["--help"][..], &["serve", "--help"], &["import", "--help"]] {
        let (code, stdout, _) = run(args);
        assert_eq!(code, 0);
        assert!(
            stdout.contains("Examples:") && stdout.contains("etagdb import --") | stdout.contains("etagdb serve --")
        );
    }
    assert_eq!(run(&["--version"]).1, concat!("etagdb ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_ready_line_names_the_real_port_and_sigterm_ends_in_order() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let server = place.serve();
        assert!(server.ready.starts_with("etagdb ready on http://127.0.0.1:"), "{}", server.ready);
        assert!(!server.ready.contains(":0 "), "{}", server.ready);
        assert!(server.ready.contains("durability sync"), "{}", server.ready);
        let (code, stdout, log) = server.end(signal);
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(stdout, "", "the ready line is the only one");
        assert!(log.contains("the store is closed"), "{log}");
    }
}

/// Sends the head of a request that makes database `d`, and waits until the server asks for its body.
fn begin_request(server: &Server, body: &str) -> TcpStream {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let authorization = Signer::new(None).unwrap().authorization("POST", "dbs", "", &date);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let length = body.len();
    let head = format!(
        "POST /dbs HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\nx-ms-date: {date}\r\n\
         x-ms-version: 2020-07-15\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(text(&answer), "HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Waits until the server has said in its log that it ends.
fn ask_to_end(server: &mut Server) -> BufReader<ChildStderr> {
    kill(&server.child, "TERM");
    let mut log = BufReader::new(server.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("SIGTERM") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the log ended");
    }
    log
}

#[test]
fn an_accepted_request_is_answered_before_the_server_ends() {
    let place = Place::new();
    let mut server = place.serve();
    let body = "{\"id\":\"d\"}";
    let mut stream = begin_request(&server, body);
    let _log = ask_to_end(&mut server);
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let place = Place::new();
    let mut server = place.serve();
    // Its body never comes, so an end in order would wait for it.
    let _stream = begin_request(&server, "{\"id\":\"d\"}");
    let mut log = ask_to_end(&mut server);
    kill(&server.child, "TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("a second signal (SIGTERM)"), "{rest}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::new();
    let server = place.serve();
    let other = place.path("other");
    let (code, stdout, stderr) = run(&["serve", "--data", &other, "--listen", server.address()]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("cannot listen on {}", server.address())), "{stderr}");
    assert!(stderr.contains("--listen"), "{stderr}");
}

#[test]
fn a_store_in_use_is_named_with_the_way_out() {
    let place = Place::new();
    let server = place.serve();
    let data = place.path("data");
    let (code, _, stderr) = run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("in use by") && stderr.contains(&data) && stderr.contains("--data"), "{stderr}");
    let input = place.input("input.ndjson", &documents(1));
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("in use by") && stderr.contains("--url"), "{stderr}");
    drop(server);
}

#[test]
fn an_import_run_again_replaces_every_document_and_adds_none() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(500));
    let first = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!((summary(&first)["created"].as_u64(), summary(&first)["replaced"].as_u64()), (Some(500), Some(0)));
    let again = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!((summary(&again)["created"].as_u64(), summary(&again)["replaced"].as_u64()), (Some(0), Some(500)));
    assert_eq!(place.journals(), 0, "a complete import leaves no journal");
    let items = place.serve().items();
    assert_eq!(items.len(), 500);
    assert_eq!(items["id-42"]["number"], 42);
}

#[test]
fn generated_ids_are_the_same_on_every_run_and_equal_rows_stay_apart() {
    let place = Place::new();
    let data = place.path("data");
    let row = "{\"name\":\"Valparaíso\",\"pk\":\"CL\"}";
    let array =
        place.input("cities.json", &format!("\u{feff}[\n {row},\n {row}, {{\"name\":\"Bath\",\"pk\":\"GB\"}}\n]\n"));
    let lines =
        place.input("cities.ndjson", &format!("{row}\r\n\r\n{row}\r\n{{ \"name\": \"Bath\", \"pk\": \"GB\" }}"));
    let first = import(&["--data", &data], &["--generate-id", &array]).output().unwrap();
    assert_eq!(summary(&first)["created"], 3, "{first:?}");
    for input in [array, lines] {
        let again = import(&["--data", &data], &["--generate-id", &input]).output().unwrap();
        assert_eq!((summary(&again)["created"].as_u64(), summary(&again)["replaced"].as_u64()), (Some(0), Some(3)));
    }
    assert_eq!(place.serve().items().len(), 3);
}

#[test]
fn of_several_documents_with_one_id_the_last_stays() {
    let place = Place::new();
    let lines: String = (0..2000).map(|n| format!("{{\"id\":\"{}\",\"pk\":\"x\",\"n\":{n}}}\n", n % 10)).collect();
    let input = place.input("input.ndjson", &lines);
    let output = import(&["--data", &place.path("data")], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (id, item) in place.serve().items() {
        assert_eq!(item["n"], 1990 + id.parse::<u64>().unwrap());
    }
}

#[test]
fn a_bad_line_is_named_and_the_import_goes_on_once_it_is_corrected() {
    let place = Place::new();
    let data = place.path("data");
    let bad = format!("{}{{\"id\":\"bad\",\n{}", documents(20), document(20));
    let input = place.input("input.ndjson", &bad);
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("line 21, column 12: EOF while parsing"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(
        (summary(&output)["documents"].as_u64(), summary(&output)["complete"].as_bool()),
        (Some(20), Some(false))
    );
    assert_eq!(place.journals(), 1);

    place.input("input.ndjson", &bad.replace("\"bad\",\n", "\"bad\",\"pk\":\"x\"}\n"));
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    let done = summary(&output);
    assert_eq!((done["resumed_after"].as_u64(), done["created"].as_u64()), (Some(20), Some(2)), "{output:?}");
    assert_eq!(place.journals(), 0);
}

#[test]
fn a_bad_element_is_named_by_number_and_byte_even_if_only_the_store_sees_it() {
    let place = Place::new();
    let data = place.path("data");
    let input =
        place.input("input.json", "[{\"id\":\"a\",\"pk\":1},\n {\"id\":\"b/c\",\"pk\":1},{\"id\":\"d\",\"pk\":1}]");
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("element 2 at byte 21 (line 2, column 2): "), "{output:?}");

    let output = import(&["--data", &data], &["--skip-bad", &input]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((summary(&output)["skipped"].as_u64(), summary(&output)["resumed_after"].as_u64()), (Some(1), Some(1)));
    assert!(text(&output.stderr).contains("element 2 at byte 21"), "{output:?}");
    assert_eq!(place.serve().items().into_keys().collect::<Vec<_>>(), ["a", "d"]);
}

#[test]
fn an_array_that_breaks_off_is_no_success() {
    let place = Place::new();
    let input = place.input("input.json", "[{\"id\":\"a\",\"pk\":1},{\"id\":\"b\"");
    let output = import(&["--data", &place.path("data")], &["--skip-bad", &input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("element 2 at byte 19"), "{output:?}");
    assert_eq!(summary(&output)["documents"], 1);
}

#[test]
fn another_partition_key_than_the_container_has_is_refused() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(1));
    assert!(import(&["--data", &data], &[&input]).output().unwrap().status.success());
    let args = ["import", "--data", &data, "--database", "d", "--container", "c", "--partition-key", "/other", &input];
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("/pk") && stderr.contains("/other"), "{stderr}");

    let server = place.serve();
    let args =
        ["import", "--url", &server.url, "--database", "d", "--container", "c", "--partition-key", "/other", &input];
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("/pk") && stderr.contains("/other"), "{stderr}");
}

#[test]
fn a_killed_import_loses_nothing_acknowledged_and_goes_on() {
    let place = Place::new();
    let (data, journal) = (place.path("data"), place.path("progress"));
    let mut fed = Fed::start(&["--data", &data], &journal);
    let mut written = 0;
    // Until the journal has been written in the middle, so that the second run really goes on from it.
    while settled(&journal) == 0 {
        fed.write(&document(written));
        fed.write("\n");
        written += 1;
        fed.read();
    }
    fed.child.kill().unwrap();
    let (_, acknowledged, ..) = fed.end();
    assert!(acknowledged.len() >= written);
    let before = settled(&journal);
    assert!(before as usize <= written);
    assert_all_there(&acknowledged, &place.serve().items());

    let fed = Fed::start(&["--data", &data], &journal);
    let (code, more, done, errors) = fed.end_with(documents(written + 100));
    assert_eq!(code, Some(0), "{errors}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["resumed_after"], before);
    assert_eq!(more.len() as u64, written as u64 + 100 - before, "only the rest is sent");
    assert!(!Path::new(&journal).exists());
    let items = place.serve().items();
    assert_eq!(items.len(), written + 100);
    assert_all_there(&more, &items);
}

#[test]
fn an_interrupted_import_says_how_to_go_on_even_while_its_input_is_silent() {
    let place = Place::new();
    let (data, journal) = (place.path("data"), place.path("progress"));
    let mut fed = Fed::start(&["--data", &data], &journal);
    fed.write(&documents(100));
    for _ in 0..100 {
        fed.read();
    }
    kill(&fed.child, "INT");
    // Standard input stays open until the import has ended by itself.
    let stdin = fed.stdin.take();
    let (code, acknowledged, _, errors) = fed.end();
    drop(stdin);
    assert_eq!(code, Some(1));
    assert!(errors.contains("interrupted (stored before: 100 documents); run the same command again"), "{errors}");
    assert_eq!((acknowledged.len(), settled(&journal)), (100, 100));
}

#[test]
fn a_running_server_takes_an_import_and_keeps_it() {
    let place = Place::new();
    let server = place.serve();
    let input = place.input("input.ndjson", &documents(300));
    for (created, replaced) in [(300, 0), (0, 300)] {
        let output = import(&["--url", &server.url], &[&input]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let done = summary(&output);
        assert_eq!((done["created"].as_u64(), done["replaced"].as_u64()), (Some(created), Some(replaced)));
    }
    assert_eq!(server.items().len(), 300);
    assert_eq!(server.end("TERM").0, Some(0));
    assert_eq!(place.serve().items().len(), 300, "after a restart");
}

#[test]
fn an_acknowledged_etag_is_the_etag_of_the_document() {
    let place = Place::new();
    let import_three = |destination: &[&str]| {
        let (code, acknowledged, _, errors) = Fed::start(destination, &place.path("progress")).end_with(documents(3));
        assert_eq!(code, Some(0), "{errors}");
        acknowledged
    };
    let acknowledged = import_three(&["--data", &place.path("data")]);
    let server = place.serve();
    assert_etags(&acknowledged, &server.items());
    let acknowledged = import_three(&["--url", &server.url]);
    assert_etags(&acknowledged, &server.items());
}

fn assert_etags(acknowledged: &[Value], items: &BTreeMap<String, Value>) {
    assert_eq!(acknowledged.len(), items.len());
    for line in acknowledged {
        assert_eq!(line["etag"], items[line["id"].as_str().unwrap()]["_etag"]);
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_has_everything_acknowledged() {
    let place = Place::new();
    let mut server = place.serve();
    let address = server.address().to_owned();
    let mut fed = Fed::start(&["--url", &server.url.clone()], &place.path("progress"));
    fed.write(&documents(200));
    for _ in 0..200 {
        fed.read();
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // The first of these find nobody there.
    fed.write(&(200..300).map(|number| document(number) + "\n").collect::<String>());
    let server = Server::start_with(Path::new(&place.path("data")), &["--listen", &address]);
    let (code, acknowledged, _, errors) = fed.end_with((300..400).map(|number| document(number) + "\n").collect());
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(acknowledged.len(), 400);
    let items = server.items();
    assert_eq!(items.len(), 400);
    assert_all_there(&acknowledged, &items);
}

#[test]
fn a_server_that_is_not_there_or_refuses_the_key_is_named() {
    let place = Place::new();
    let input = place.input("input.ndjson", &documents(1));
    let server = place.serve();
    let output = import(&["--url", &server.url, "--key", "c2VjcmV0"], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("refuses the account key"), "{output:?}");
    let url = server.url.clone();
    drop(server);
    let output = import(&["--url", &url], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("{url} does not answer")), "{output:?}");
}

#[test]
fn inputs_that_cannot_be_read_are_named_and_create_nothing() {
    let place = Place::new();
    let data = place.path("data");
    let (missing, directory) = (place.path("missing.json"), place.path(""));
    let zipped = place.path("input.gz");
    fs::write(&zipped, b"\x1f\x8b\x08\0").unwrap();
    for (input, message) in [(missing, "No such file"), (directory, "is a directory"), (zipped, "gzip")] {
        let output = import(&["--data", &data], &[&input]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(message), "{output:?}");
    }
    assert!(!Path::new(&data).exists());
}

/// The results of a query over `d/c`, a value a line.
fn query(from: &[&str], sql: &str) -> (i32, Vec<Value>, String) {
    let args = [&["query", "--database", "d", "--container", "c", "--json"], from, &[sql]].concat();
    let (code, stdout, stderr) = run(&args);
    (code, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr)
}

#[test]
fn a_query_is_answered_alike_by_a_directory_and_by_a_server() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(2500));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let asked = [
        "SELECT VALUE COUNT(1) FROM c",
        "SELECT c.id FROM c ORDER BY c.id DESC",
        "SELECT VALUE c.id FROM c WHERE c.id IN ('1', '2') ORDER BY c.id",
    ];
    let local: Vec<_> = asked.iter().map(|sql| query(&["--data", &data], sql)).collect();
    assert_eq!((local[0].0, &local[0].1[..], local[1].1.len()), (0, &[json!(2500)][..], 2500));
    let server = place.serve();
    let remote: Vec<_> = asked.iter().map(|sql| query(&["--url", &server.url], sql)).collect();
    assert_eq!(remote, local);
    let (code, _, stderr) = query(&["--url", &server.url], "SELECT c.id FROM d");
    assert_eq!(code, 1);
    assert!(stderr.contains("answers 400: ") && stderr.contains("'c'"), "{stderr}");
    let (code, _, stderr) = query(&["--data", &data], "SELECT 1");
    assert_eq!(code, 1);
    assert!(stderr.contains("ask it with --url"), "{stderr}");
    assert_eq!(query(&["--data", &data, "--key", "a"], "SELECT 1").0, 2);
}

#[test]
fn a_server_with_a_certificate_of_its_own_is_asked_by_its_authority() {
    let place = Place::new();
    let data = place.path("data");
    let mut server = etagdb(&["serve", "--data", &data, "--listen", "127.0.0.1:0", "--tls", "self-signed"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let url = ready.split_whitespace().find(|word| word.starts_with("https://")).expect("an address").to_owned();
    let authority = place.path("data.tls/ca.pem");
    let input = place.input("input.ndjson", &documents(3));
    let imported = import(&["--url", &url, "--ca", &authority], &[&input]).output().unwrap();
    let answered = query(&["--url", &url, "--ca", &authority], "SELECT VALUE COUNT(1) FROM c");
    let refused = query(&["--url", &url], "SELECT VALUE COUNT(1) FROM c");
    let unread = query(&["--url", &url, "--ca", &input], "SELECT VALUE COUNT(1) FROM c");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert_eq!((answered.0, answered.1), (0, vec![json!(3)]), "{}", answered.2);
    assert_eq!(refused.0, 1);
    assert!(refused.2.contains("does not answer: ") && refused.2.contains("certificate"), "{}", refused.2);
    assert!(unread.2.contains("holds no certificate in PEM"), "{}", unread.2);
}

#[test]
fn verify_reads_a_store_and_says_what_is_wrong() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(20));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let (code, stdout, stderr) = run(&["verify", "--data", &data, "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["sound"], &report["problems"]), (0, &json!(true), &json!([])), "{stderr}");
    assert!(run(&["verify", "--data", &data]).1.contains(": sound"));
    assert_eq!(run(&["verify", "--data", &place.path("none")]).0, 1);
}
