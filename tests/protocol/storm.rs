//! A storm of conditional writes: clients of several official SDKs count up the same documents, each write guarded by the
//! etag that was read, while the server is killed (SIGKILL) at random moments and started again. `storm_check` judges.
//!
//! `ETAGDB_STORM_SECONDS` makes it longer.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::sdk::{beside, set_up, sources};
use crate::served::Served;
use crate::storm_check::{Attempt, Evidence, Outage, Outcome, Version, faults};
use crate::support::Client;

/// As many as the storm has, all SDKs together.
const CLIENTS: usize = 64;
const DOCUMENTS: usize = 100;
/// The emulator's well-known key.
const KEY: &str = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
/// The server lives so many milliseconds, at least and at most.
const LIFE_MS: std::ops::Range<u64> = 300..3000;
/// Far longer than a program needs to begin, or to end after the storm.
const PATIENCE: Duration = Duration::from_secs(120);

const CONTAINER: &str = "/dbs/storm/colls/documents";
const ITEMS: &str = "/dbs/storm/colls/documents/docs";

#[test]
fn no_update_is_lost_in_a_storm_of_sdks_and_kills() {
    let seconds = std::env::var("ETAGDB_STORM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let evidence = storm(CLIENTS, Duration::from_secs(seconds), |_| {});
    report(&evidence);
    let faults = faults(&evidence);
    assert!(faults.is_empty(), "{} faults, the first of them:\n{}", faults.len(), first(&faults));
    for sdk in sdks() {
        let its =
            |outcome| evidence.attempts.iter().filter(move |it| it.writer.starts_with(sdk) && it.outcome == outcome);
        assert!(its(Outcome::Acknowledged).count() > 0, "no write of the {sdk} SDK was acknowledged");
    }
    assert!(evidence.attempts.iter().any(|it| it.outcome == Outcome::Refused), "nobody was refused: that was no storm");
    assert!(!evidence.outages.is_empty(), "the server was never killed");
}

/// The test of the test: a server that goes back to an earlier state when it is killed, as one would that acknowledges
/// what is not on disk.
#[test]
fn a_server_that_forgets_does_not_weather_a_storm() {
    let earlier = tempfile::tempdir().expect("a temporary directory");
    let mut kills = 0;
    let evidence = storm(6, Duration::from_secs(3), |store| {
        kills += 1;
        match kills {
            1 => copy(store, earlier.path()),
            2 => {
                std::fs::remove_dir_all(store).expect("the store is removed");
                copy(earlier.path(), store);
            }
            _ => {}
        }
    });
    let faults = faults(&evidence);
    let is_found = |part: &str| faults.iter().any(|fault| fault.contains(part));
    assert!(is_found("it was acknowledged, and"), "the missing writes were not found: {}", first(&faults));
}

/// The SDKs that take part: Go where the machine has it.
fn sdks() -> Vec<&'static str> {
    let mut sdks = vec!["javascript", "python", "rust"];
    crate::sdk::where_there_is("Go SDK", &["go"], || sdks.push("go"));
    sdks
}

/// Runs a storm and collects the evidence. `meddle` is called with the store's path whenever there is no server.
fn storm(clients: usize, time: Duration, mut meddle: impl FnMut(&Path)) -> Evidence {
    let seed = std::env::var("ETAGDB_STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("storm: ETAGDB_STORM_SEED={seed}");
    let mut random = seed;
    let mut served = Served::start_at(&lasting_address(&mut random).to_string(), &[]);
    let mut client = Client::of(served.address());
    let begin = prepare(&mut client);

    let sdks = sdks();
    let (sender, lines) = channel();
    let mut programs = Vec::new();
    for (number, sdk) in sdks.iter().enumerate() {
        // Together as many as there are clients.
        let share = (clients + number) / sdks.len();
        programs.push(Program::start(sdk, served.url(), share, sender.clone()));
    }
    drop(sender);
    let mut attempts = Vec::new();
    let mut ready = 0;
    while ready < sdks.len() {
        // A program that is ready may begin before another one is.
        match lines.recv_timeout(PATIENCE).expect("every program gets ready") {
            Line::Ready => ready += 1,
            Line::Attempt(attempt) => attempts.push(*attempt),
            Line::Ended => panic!("a program ended before the storm began"),
        }
    }

    let mut outages = Vec::new();
    let end = Instant::now() + time;
    // However slow the machine, the server is killed twice.
    while Instant::now() < end || outages.len() < 2 {
        let life = Duration::from_millis(LIFE_MS.start + next(&mut random) % (LIFE_MS.end - LIFE_MS.start));
        let dies = Instant::now() + life;
        collect(&lines, if outages.len() < 2 { dies } else { dies.min(end) }, &mut attempts);
        let from = now();
        served = served.kill_and_restart_after(&mut meddle);
        outages.push(Outage { from, to: now() });
    }
    // The clients have their last words with the server that was started last.
    for program in &mut programs {
        program.stop();
    }
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(Line::Attempt(attempt)) => attempts.push(*attempt),
            Ok(Line::Ready | Line::Ended) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("a program did not end after the storm"),
        }
    }
    for program in programs {
        let sdk = program.sdk;
        let ended = program.wait();
        assert!(ended.success(), "the {sdk} program ended with {ended}");
    }
    // What counts is what is on disk.
    let served = served.kill_and_restart();
    let mut client = Client::of(served.address());
    let histories = histories(&mut client, begin);
    assert!(served.stop().success());
    Evidence { attempts, histories, outages }
}

/// Takes what the programs say until a moment.
fn collect(lines: &Receiver<Line>, until: Instant, attempts: &mut Vec<Attempt>) {
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        match lines.recv_timeout(rest) {
            Ok(Line::Attempt(attempt)) => attempts.push(*attempt),
            Ok(Line::Ready | Line::Ended) | Err(RecvTimeoutError::Disconnected) => {
                panic!("a program ended before the storm did")
            }
            Err(RecvTimeoutError::Timeout) => return,
        }
    }
}

/// An address that is the server's own also while there is no server. While clients knock at a closed port, the system may
/// give them that very port to knock from, unless it is none of those it gives out.
fn lasting_address(random: &mut u64) -> SocketAddr {
    let given_out = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the system's ports");
    let first: u64 =
        given_out.split_whitespace().next().and_then(|first| first.parse().ok()).expect("the first of them");
    let lowest = 10_000;
    assert!(first > lowest, "there are no ports below those that the system gives out");
    loop {
        let port = lowest + next(random) % (first - lowest);
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Makes the documents. Returns where the change feed stands before the first of them.
fn prepare(client: &mut Client) -> String {
    client.post("/dbs", &[], &json!({"id": "storm"})).expect_status(201);
    let container = json!({"id": "documents", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}});
    client.post("/dbs/storm/colls", &[], &container).expect_status(201);
    let begin = client.get(ITEMS, &[("a-im", "Full-Fidelity Feed"), ("if-none-match", "*")]).expect_status(304).etag();
    for number in 0..DOCUMENTS {
        let id = format!("d{number}");
        let key = json!([id]).to_string();
        let document = json!({"id": id, "pk": id, "count": 0, "marker": "start", "previous": ""});
        client.post(ITEMS, &[("x-ms-documentdb-partitionkey", &key)], &document).expect_status(201);
    }
    begin
}

/// Every version of every document, oldest first, from the change feed; checked against each document's list of versions.
fn histories(client: &mut Client, begin: String) -> BTreeMap<String, Vec<Version>> {
    let mut histories: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let mut position = begin;
    loop {
        let answer = client.get(ITEMS, &[("a-im", "Full-Fidelity Feed"), ("if-none-match", &position)]);
        position = answer.etag();
        if answer.status == 304 {
            break;
        }
        for change in answer.expect_status(200).json()["Documents"].as_array().expect("changes") {
            let current = &change["current"];
            let text = |member: &str| current[member].as_str().unwrap_or_else(|| panic!("no {member}: {change}"));
            histories.entry(text("id").to_owned()).or_default().push(Version {
                etag: text("_etag").to_owned(),
                count: current["count"].as_u64().unwrap_or_else(|| panic!("no count: {change}")),
                marker: text("marker").to_owned(),
                previous: text("previous").to_owned(),
            });
        }
    }
    for (document, history) in &histories {
        let mut listed = versions(client, document);
        listed.reverse();
        let told: Vec<String> = history.iter().map(|version| version.etag.clone()).collect();
        assert_eq!(listed, told, "the versions of {document}, as listed and as the change feed tells them");
    }
    histories
}

/// The etags of a document's versions, newest first.
fn versions(client: &mut Client, document: &str) -> Vec<String> {
    let path = format!("{CONTAINER}/docs/{document}");
    let key = json!([document]).to_string();
    let mut etags = Vec::new();
    let mut continuation: Option<String> = None;
    loop {
        let mut headers = vec![("x-etagdb-versions", "true"), ("x-ms-documentdb-partitionkey", key.as_str())];
        headers.extend(continuation.as_deref().map(|token| ("x-ms-continuation", token)));
        let answer = client.get(&path, &headers).expect_status(200);
        let page: Value = answer.json();
        let etag = |version: &Value| version["_etag"].as_str().expect("an etag").to_owned();
        etags.extend(page["Versions"].as_array().expect("versions").iter().map(etag));
        continuation = answer.header("x-ms-continuation").map(str::to_owned);
        if continuation.is_none() {
            return etags;
        }
    }
}

/// What a program says.
enum Line {
    Ready,
    Attempt(Box<Attempt>),
    Ended,
}

/// One SDK's share of the clients.
struct Program {
    sdk: &'static str,
    child: Child,
    /// Its end is the end of the storm.
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    // Node finds packages beside the program.
    _directory: tempfile::TempDir,
}

impl Program {
    fn start(sdk: &'static str, url: &str, clients: usize, sender: Sender<Line>) -> Program {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let installed = set_up(sdk);
        let mut command;
        match sdk {
            "javascript" => {
                let program = directory.path().join("storm.mjs");
                std::fs::copy(sources().join("javascript/storm.mjs"), &program).expect("a copy of the program");
                beside(&installed, directory.path());
                command = Command::new(installed.join("node"));
                command.arg(program).args([url, KEY]);
            }
            "python" => {
                command = Command::new(installed);
                command.arg("-B").arg(sources().join("python/storm.py")).args([url, KEY]);
            }
            _ => {
                command = Command::new(installed);
                command.args([url, KEY, "storm"]);
            }
        }
        command.args([clients, DOCUMENTS].map(|number| number.to_string()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                let line = line.expect("text");
                let line = match line.as_str() {
                    "ready" => Line::Ready,
                    text => Line::Attempt(Box::new(
                        serde_json::from_str(text).unwrap_or_else(|error| panic!("not an attempt ({error}): {text}")),
                    )),
                };
                if sender.send(line).is_err() {
                    return;
                }
            }
            // Nobody listens any more when the storm is over.
            sender.send(Line::Ended).ok();
        });
        Program { sdk, child, input, reader: Some(reader), _directory: directory }
    }

    /// Tells the clients that the storm is over.
    fn stop(&mut self) {
        self.input.take();
    }

    fn wait(mut self) -> ExitStatus {
        self.reader.take().expect("a reader").join().expect("every line of a program is an attempt");
        self.child.wait().expect("the program's exit status")
    }
}

impl Drop for Program {
    /// After a failed test no client must stay behind.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Prints what happened, SDK by SDK.
fn report(evidence: &Evidence) {
    let versions: usize = evidence.histories.values().map(|history| history.len() - 1).sum();
    let down: u64 = evidence.outages.iter().map(|outage| outage.to - outage.from).sum();
    println!("storm: {} kills, {down} ms without a server, {versions} updates in the history", evidence.outages.len());
    let done: std::collections::HashSet<&str> =
        evidence.histories.values().flatten().map(|version| version.marker.as_str()).collect();
    for sdk in sdks() {
        let its = || evidence.attempts.iter().filter(|attempt| attempt.writer.starts_with(sdk));
        let count = |outcome| its().filter(|attempt| attempt.outcome == outcome).count();
        let landed = |outcome| {
            its().filter(|attempt| attempt.outcome == outcome && done.contains(attempt.marker.as_str())).count()
        };
        println!(
            "storm: {sdk}: {} acknowledged, {} refused ({} of them done by an earlier try of the SDK), {} unknown ({} of \
             them done)",
            count(Outcome::Acknowledged),
            count(Outcome::Refused),
            landed(Outcome::Refused),
            count(Outcome::Unknown),
            landed(Outcome::Unknown),
        );
    }
}

fn first(faults: &[String]) -> String {
    faults.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Copies a directory of files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory to copy") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// The next number of a linear congruential generator (Knuth's constants): its upper bits.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(since.as_millis()).expect("a time of this age")
}
