//! Microsoft's own tests of the Python SDK, unmodified, against the built server over TLS.
//!
//! Every test that fails must be in `tests/sdk/suite/expected.txt`, with a reason that its message bears out, and every
//! test in there must fail. `make test` runs the quick files, `make acceptance` all of them (`ETAGDB_ACCEPTANCE=all`), and
//! then writes ACCEPTANCE.md; `ETAGDB_ACCEPTANCE=test_ttl.py` runs that file. The tests are fetched with the SDK's source distribution; where that cannot be had, this
//! test says on standard error that it was skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;

use crate::sdk::{set_up_if_possible, skipped, sources};
use crate::served::Served;

/// How many files are run at once, each on a server of its own. They mostly wait.
const WORKERS: usize = 4;
/// Each request about items takes as long as over a network: some tests give one a picosecond, and are to be told that it
/// was late. A poll of so short a time takes a millisecond.
const SERVER: &[&str] = &["--tls", "self-signed", "--chaos=delay:4ms=1"];
/// How long one file may take, in seconds; the longest tests of the SDK's patience take minutes.
const FILE_SECONDS_MAX: &str = "900";
/// How long one test may take, in seconds.
const TEST_SECONDS_MAX: &str = "180";
/// The emulator's well-known key, which the suite uses by itself.
const KEY: &str = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

const GROUPS: [(&str, &str); 5] = [
    ("core", "items and batches"),
    ("meta", "databases and containers"),
    ("query", "queries"),
    ("feed", "change feeds and feed ranges"),
    ("fault", "how the SDK tries again"),
];

/// Why a test is expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// It needs users, permissions, stored procedures, triggers or user-defined functions.
    LeftOut,
    /// It reads a file that the SDK's source distribution does not have.
    NotShipped,
    /// It sends a continuation token that another server made.
    ForeignToken,
    /// It gives an answer, or a connection to the same machine, a picosecond, and hopes to be told that it was late; or it
    /// counts what another thread of the test has done or not yet done.
    Race,
}

impl Reason {
    const ALL: [(Reason, &str, &str); 4] = [
        (
            Reason::LeftOut,
            "left-out",
            "needs users, permissions, stored procedures, triggers or user-defined functions, which the server leaves out \
             and says so",
        ),
        (Reason::NotShipped, "not-shipped", "reads a file that the SDK's source distribution does not have"),
        (
            Reason::ForeignToken,
            "foreign-token",
            "sends a continuation token that the service made, written into the test",
        ),
        (
            Reason::Race,
            "race",
            "is a race within the test itself, of a time-out of a picosecond with an answer or a connection, or of two \
             threads; passes now and then",
        ),
    ];

    fn named(name: &str) -> Option<Reason> {
        Reason::ALL.iter().find(|(_, known, _)| *known == name).map(|(reason, ..)| *reason)
    }

    /// Whether a failure looks like this.
    fn explains(self, message: &str) -> bool {
        match self {
            Reason::LeftOut => message.contains("is left out of etagdb on purpose"),
            Reason::NotShipped => message.starts_with("FileNotFoundError"),
            Reason::ForeignToken => message.contains("continuation token is invalid"),
            Reason::Race => !message.contains("InternalServerError"),
        }
    }

    /// Whether it may as well pass.
    fn may_pass(self) -> bool {
        matches!(self, Reason::Race)
    }
}

/// One test's end, or the end of a file, as the plugin tells it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Ended { test: String, outcome: Outcome, message: String },
    Complete { complete: usize },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Skipped,
    Passed,
    Failed,
}

/// What a file of tests came to.
struct Ran {
    group: String,
    file: String,
    /// Each test's outcome, and why it failed.
    tests: BTreeMap<String, (Outcome, String)>,
    /// Whether all tests of the file were run.
    complete: bool,
    /// Whether it was run a second time, which is this one.
    again: bool,
}

impl Ran {
    fn of(group: String, file: String, lines: Vec<Line>) -> Ran {
        let mut ran = Ran { group, file, tests: BTreeMap::new(), complete: false, again: false };
        for line in lines {
            match line {
                // A test with parts is told once for each of them: it has failed if one of them has.
                Line::Ended { test, outcome, message } => match ran.tests.get(&test) {
                    Some((worse, _)) if *worse >= outcome => {}
                    _ => drop(ran.tests.insert(test, (outcome, message))),
                },
                Line::Complete { complete } => ran.complete = complete == ran.tests.len() && complete > 0,
            }
        }
        ran
    }

    /// The tests that failed, each with its message.
    fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        let tests = self.tests.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Failed);
        tests.map(|(test, (_, message))| (test.as_str(), message.as_str()))
    }
}

#[test]
fn the_python_sdks_own_tests() {
    let wanted = std::env::var("ETAGDB_ACCEPTANCE").unwrap_or_else(|_| "quick".to_owned());
    let all = wanted == "all";
    let Some(suite) = set_up_if_possible("suite") else {
        skipped("the Python SDK's own tests: they cannot be fetched here");
        return;
    };
    let files = read("files.txt");
    let files = files.iter().map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [group, speed, file] => (group.to_owned(), speed.to_owned(), file.to_owned()),
        _ => panic!("not a file of the suite: {line}"),
    });
    let mut chosen: Vec<_> = files.filter(|(_, speed, file)| all || *speed == wanted || *file == wanted).collect();
    // What takes long first, so that nobody waits for it in the end.
    chosen.sort_by_key(|(_, speed, _)| speed == "quick");
    let servers = (0..WORKERS).map(|_| Served::start_with(SERVER)).collect();
    let expected = expected();
    let ran = run(&suite, servers, chosen, &expected);
    let faults = judge(&ran, &expected);
    let table = table(&ran, &expected);
    println!("{table}");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    if all {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ACCEPTANCE.md"));
        std::fs::write(path, table).expect("ACCEPTANCE.md is written");
    }
}

/// The lines of a file beside the plugin, without comments.
fn read(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(sources().join("suite").join(name)).expect(name);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The tests that are expected to fail, and why.
fn expected() -> BTreeMap<String, Reason> {
    let lines = read("expected.txt");
    let entry = |line: &String| {
        let (reason, test) = line.split_once(' ').unwrap_or_else(|| panic!("not a reason and a test: {line}"));
        (test.trim().to_owned(), Reason::named(reason).unwrap_or_else(|| panic!("not a reason: {reason}")))
    };
    lines.iter().map(entry).collect()
}

/// Runs files of tests, one at a time on each server: some tests compare session tokens, and so notice others' writes.
///
/// Many of the tests measure seconds, and a machine that is busy for so long makes them fail. A file that does not end as
/// it is expected to is run once more, and the page says so.
fn run(
    suite: &Path,
    servers: Vec<Served>,
    files: Vec<(String, String, String)>,
    expected: &BTreeMap<String, Reason>,
) -> Vec<Ran> {
    let outcomes = tempfile::tempdir().expect("a temporary directory");
    let waiting = Mutex::new(files.into_iter());
    let ran = Mutex::new(Vec::new());
    let work = |served: Served| {
        let run = |group: &str, file: &str, attempt: &str| {
            let begun = Instant::now();
            let lines = run_file(suite, &served, file, outcomes.path().join(format!("{file}.{attempt}")));
            println!("{file} took {} s", begun.elapsed().as_secs());
            Ran::of(group.to_owned(), file.to_owned(), lines)
        };
        loop {
            let next = waiting.lock().expect("no worker panics holding it").next();
            let Some((group, _, file)) = next else { break };
            let mut its = run(&group, &file, "first");
            let faults = judge(std::slice::from_ref(&its), expected);
            if !faults.is_empty() {
                println!("once more, because of {}", faults.join("\n"));
                its = Ran { again: true, ..run(&group, &file, "second") };
            }
            ran.lock().expect("no worker panics holding it").push(its);
        }
        assert!(served.stop().success());
    };
    std::thread::scope(|scope| {
        for served in servers {
            scope.spawn(|| work(served));
        }
    });
    ran.into_inner().expect("no worker panicked")
}

fn run_file(suite: &Path, served: &Served, file: &str, outcomes: PathBuf) -> Vec<Line> {
    let path = std::env::join_paths([sources().join("suite"), suite.join("tests")]).expect("two directories");
    let output = Command::new("timeout")
        .args(["-k", "20", FILE_SECONDS_MAX])
        .arg(suite.join("venv/bin/python"))
        .args(["-B", "-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "-q"])
        // pytest's own form parses each source again, which CPython cannot always do after a deep recursion.
        .args(["--tb", "native", "--timeout", TEST_SECONDS_MAX, file])
        .current_dir(suite.join("tests"))
        .env("PYTHONPATH", path)
        .env("PYTHONWARNINGS", "ignore")
        .env("ACCOUNT_HOST", format!("https://localhost:{}/", served.address().port()))
        .env("ACCOUNT_KEY", KEY)
        // For requests, and for aiohttp.
        .env("REQUESTS_CA_BUNDLE", served.authority())
        .env("SSL_CERT_FILE", served.authority())
        .env("ETAGDB_OUTCOMES", &outcomes)
        .output()
        .expect("timeout runs");
    let lines = std::fs::read_to_string(&outcomes).unwrap_or_default();
    let lines: Vec<Line> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    // 0: all passed, 1: some failed. Anything else is no end of a run.
    if !matches!(output.status.code(), Some(0 | 1)) {
        println!("{file} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    lines
}

/// A test's name without its parameters, some of which are made up anew for every run.
fn name(test: &str) -> &str {
    test.split_once('[').map_or(test, |(name, _)| name)
}

/// What is not as it is expected to be, a line each.
fn judge(ran: &[Ran], expected: &BTreeMap<String, Reason>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut as_expected = BTreeSet::new();
    for ran @ Ran { file, complete, .. } in ran {
        if !complete {
            faults.push(format!("{file} did not get to its end"));
        }
        for (test, message) in ran.failed() {
            match expected.get(name(test)) {
                Some(reason) if reason.explains(message) => drop(as_expected.insert(name(test))),
                Some(reason) => faults.push(format!("{test} failed, but not because of {reason:?}: {message}")),
                None => faults.push(format!("{test} failed: {message}")),
            }
        }
        for (test, reason) in expected.iter().filter(|(test, _)| test.split("::").next() == Some(file)) {
            if !reason.may_pass() && !as_expected.contains(test.as_str()) {
                faults.push(format!("{test} is expected to fail because of {reason:?}, and did not"));
            }
        }
    }
    faults
}

/// The outcome of all, in Markdown.
fn table(ran: &[Ran], expected: &BTreeMap<String, Reason>) -> String {
    let mut text = String::from(
        "# The Python SDK's own tests\n\n\
         What Microsoft's tests of azure-cosmos 4.17.1, which its source distribution holds, say about this server, over \
         TLS,\nwith four milliseconds added to each request about items, as over a network. `make acceptance` runs them and \
         writes this\nfile; `make test` runs the quick ones of the files in `tests/sdk/suite/files.txt`. A test that fails \
         and is not expected to,\nor the other way round, fails the run.\n\n\
         | group | tests | passed | failed, as expected | skipped by the suite itself |\n|---|---|---|---|---|\n",
    );
    for (group, what) in GROUPS {
        let outcomes = || ran.iter().filter(|ran| ran.group == group).flat_map(|ran| ran.tests.values());
        let count = |wanted: Outcome| outcomes().filter(|(outcome, _)| *outcome == wanted).count();
        let [passed, failed, skipped] = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(count);
        let tests = passed + failed + skipped;
        if tests > 0 {
            writeln!(text, "| {group}: {what} | {tests} | {passed} | {failed} | {skipped} |").expect("a string");
        }
    }
    let mut again: Vec<String> = ran.iter().filter(|ran| ran.again).map(|ran| format!("`{}`", ran.file)).collect();
    again.sort();
    if !again.is_empty() {
        let again = again.join(", ");
        writeln!(text, "\nRun a second time, because a test failed at first and measures time: {again}.")
            .expect("a string");
    }
    let failed: BTreeSet<&str> = ran.iter().flat_map(Ran::failed).map(|(test, _)| name(test)).collect();
    for (reason, _, why) in Reason::ALL {
        let its: Vec<&str> = failed.iter().copied().filter(|test| expected.get(*test) == Some(&reason)).collect();
        if !its.is_empty() {
            writeln!(text, "\n## {} failed: {why}\n", its.len()).expect("a string");
            for test in its {
                writeln!(text, "* `{test}`").expect("a string");
            }
        }
    }
    text
}

mod tests {
    use super::*;

    fn ran(lines: Vec<Line>) -> Vec<Ran> {
        vec![Ran::of("core".to_owned(), "test_a.py".to_owned(), lines)]
    }

    fn ended(test: &str, outcome: Outcome, message: &str) -> Line {
        Line::Ended { test: format!("test_a.py::{test}"), outcome, message: message.to_owned() }
    }

    #[test]
    fn an_unexpected_end_is_a_fault() {
        let left_out = "(NotImplemented) This is left out of etagdb on purpose.";
        let expected = BTreeMap::from([
            ("test_a.py::sproc".to_owned(), Reason::LeftOut),
            ("test_a.py::timer".to_owned(), Reason::Race),
            ("test_b.py::elsewhere".to_owned(), Reason::LeftOut),
        ]);
        let faults = |lines| judge(&ran(lines), &expected);
        let sproc = || ended("sproc[one]", Outcome::Failed, left_out);
        assert_eq!(faults(vec![sproc(), Line::Complete { complete: 1 }]), Vec::<String>::new());
        let raced = vec![sproc(), ended("timer", Outcome::Passed, ""), Line::Complete { complete: 2 }];
        assert_eq!(faults(raced), Vec::<String>::new());
        for (lines, part) in [
            (
                vec![sproc(), ended("read", Outcome::Failed, "500"), Line::Complete { complete: 2 }],
                "::read failed: 500",
            ),
            (vec![ended("sproc", Outcome::Passed, ""), Line::Complete { complete: 1 }], "and did not"),
            (vec![ended("sproc", Outcome::Failed, "500"), Line::Complete { complete: 1 }], "not because of LeftOut"),
            (vec![sproc()], "did not get to its end"),
            (vec![sproc(), Line::Complete { complete: 2 }], "did not get to its end"),
            (vec![], "did not get to its end"),
        ] {
            let found = faults(lines);
            assert!(found.iter().any(|fault| fault.contains(part)), "not found: {part}, but {found:?}");
        }
    }
}
