//! What survives the death of the process. The child writes and acknowledges on a pipe, is killed with SIGKILL at an
//! unforeseeable moment, and the store it leaves is compared with what it said.

#[path = "../protocol/binary.rs"]
mod binary;

mod again;
mod checkpoints;
mod damage;
mod disk;
mod faults;
mod held;
mod histories;
mod log;
mod model;
mod planted;
mod power;
mod random;
mod reached;
mod real_disk;
mod recorder;
mod seeded;
mod summary;
mod workload;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etagdb::{CommitSeq, Document, Error, Etag, Options, Precondition, Retention, Store};

/// What the child acknowledged, by document: the last value, and its etag.
#[derive(Default)]
struct Acknowledged {
    last: HashMap<String, (u64, Etag)>,
    /// All versions of the documents of which everything is kept.
    kept: Vec<(String, u64, Etag)>,
    /// Every etag that was ever given, over all lives of the store.
    given: HashSet<Etag>,
    lines: usize,
}

impl Acknowledged {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut note = |document: String, value: &str, etag: &str| {
            let etag: Etag = etag.parse().expect("etag");
            assert!(self.given.insert(etag), "etag {etag} was given twice");
            self.last.insert(document, (value.parse().expect("value"), etag));
        };
        match words[..] {
            ["ready"] => return,
            ["counter", writer, value, etag] => note(format!("counter {writer}"), value, etag),
            ["pair", writer, value, left, right] => {
                note(format!("left {writer}"), value, left);
                note(format!("right {writer}"), value, right);
            }
            ["kept", writer, value, etag] => {
                let (value, etag) = (value.parse().expect("value"), etag.parse().expect("etag"));
                assert!(self.given.insert(etag), "etag {etag} was given twice");
                self.kept.push((format!("counter {writer}"), value, etag));
            }
            _ => panic!("the child said {line:?}"),
        }
        self.lines += 1;
    }
}

fn spawn(dir: &Path, mode: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_crash-child")).arg(dir).args(mode).stdout(Stdio::piped()).spawn().expect("spawn")
}

/// Lets a child write until it has acknowledged `lines` lines, kills it, and reads what it said before it died.
fn live_and_die(dir: &Path, mode: &[&str], lines: usize, acknowledged: &mut Acknowledged) {
    let mut child = spawn(dir, mode);
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    let until = acknowledged.lines + lines;
    while acknowledged.lines < until {
        let line = said.next().expect("the child ended by itself").expect("read");
        acknowledged.read(&line);
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    // Between the last line above and the kill it may have acknowledged more.
    for line in said {
        acknowledged.read(&line.expect("read"));
    }
}

fn value(document: &Document) -> u64 {
    String::from_utf8(document.body.to_vec()).expect("UTF-8").parse().expect("a number")
}

/// Compares the store with what was acknowledged. A writer has one write in flight, so what is found may be one step
/// ahead of the last acknowledgement, but never behind it. What is found is what the next life begins with: it counts
/// as acknowledged from then on, for a writer can die twice in a row with a write in flight.
fn verify(dir: &Path, acknowledged: &mut Acknowledged, round: usize) {
    let store = Store::open(dir).expect("open after the kill");
    let docs = store.collection("docs").expect("collection");
    let read = |id: &str| docs.get(id).expect("get");
    for (id, known) in &mut acknowledged.last {
        let (last, etag) = *known;
        let document = read(id).unwrap_or_else(|| panic!("round {round}: {id} was acknowledged and is gone"));
        let found = value(&document);
        // A pair follows every third step of its counter, unless the writer dies between the two.
        let newest = match id.split_once(' ') {
            Some(("left" | "right", writer)) => read(&format!("counter {writer}")).as_ref().map_or(last, value),
            _ => last + 1,
        };
        assert!((last..=newest).contains(&found), "round {round}: {id} is {found}, acknowledged was {last}");
        if found == last {
            assert_eq!(document.etag, etag, "round {round}: {id} has another etag than was acknowledged");
        } else {
            let conflict = docs.put(id, "x", etag).expect_err("a stale etag was accepted");
            assert!(matches!(conflict, Error::Conflict(_)), "{conflict}");
            assert!(acknowledged.given.insert(document.etag), "round {round}: {id} has an etag that was given before");
            *known = (found, document.etag);
        }
    }
    for writer in 0..4 {
        let (left, right) = (read(&format!("left {writer}")), read(&format!("right {writer}")));
        let values = [left.as_ref().map(value), right.as_ref().map(value)];
        assert_eq!(values[0], values[1], "round {round}: half a batch of writer {writer}");
    }
}

/// Whatever was to be kept can be read as of its commit; whatever was not is gone, down to the last version.
fn verify_retention(dir: &Path, acknowledged: &Acknowledged, round: usize) {
    let store = Options::default().background_maintenance(false).open(dir).expect("open after the kill");
    let (docs, kept) = (store.collection("docs").expect("collection"), store.collection("kept").expect("collection"));
    for (id, value, etag) in &acknowledged.kept {
        // The low half of an etag is its commit sequence.
        let text = etag.to_string().replace('-', "");
        let seq = CommitSeq::new(u64::from_str_radix(&text[16..], 16).expect("hexadecimal"));
        let then = store.snapshot_at(seq).expect("one collection is whole");
        let document = then.get(&kept, id).expect("get").unwrap_or_else(|| panic!("round {round}: {id} at {seq}"));
        assert_eq!((self::value(&document), document.etag), (*value, *etag), "round {round}: {id} at {seq}");
    }
    assert_eq!(kept.horizon(), CommitSeq::new(0));
    store.run_maintenance().expect("maintenance");
    // Another pass, which looks at every document, finds nothing that the kills left behind.
    docs.set_retention(Retention::age(Duration::ZERO).versions(1)).expect("retention");
    docs.set_retention(Retention::age(Duration::ZERO)).expect("retention");
    assert_eq!(store.run_maintenance().expect("maintenance").dropped, 0, "round {round}");
}

fn kill_repeatedly(mode: &[&str]) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("store");
    let (began, mut acknowledged) = (Instant::now(), Acknowledged::default());
    const ROUNDS: usize = 12;
    for round in 0..ROUNDS {
        // From a handful of writes to some hundreds, so that deaths come early and late in a life.
        live_and_die(&path, mode, 1 + round * round * 4, &mut acknowledged);
        verify(&path, &mut acknowledged, round);
        if mode.contains(&"trimming") {
            verify_retention(&path, &acknowledged, round);
        }
    }
    let compared = format!("{} acknowledged writes", acknowledged.lines);
    summary::row(format!("SIGKILL, {}", mode.join(" and ")), format!("{ROUNDS} kills"), compared, 0, began);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_sync_writer_is_killed() {
    kill_repeatedly(&["sync"]);
}

/// The operating system has a buffered write before it is acknowledged, so a dead process takes nothing with it.
#[test]
fn nothing_acknowledged_is_lost_when_a_buffered_writer_is_killed() {
    kill_repeatedly(&["buffered"]);
}

#[test]
fn nothing_needed_is_trimmed_and_nothing_else_left_when_a_trimming_writer_is_killed() {
    kill_repeatedly(&["buffered", "trimming"]);
    kill_repeatedly(&["sync", "trimming"]);
}

#[test]
fn a_directory_in_use_by_another_process_is_refused_and_free_once_it_is_killed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("store");
    let mut child = spawn(&path, &["sync"]);
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(said.next().expect("a line").expect("read"), "ready");
    match Store::open(&path) {
        Err(Error::InUse { holder, .. }) => assert_eq!(holder, format!("process {}", child.id())),
        other => panic!("opened a directory that is in use: {other:?}"),
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    let store = Store::open(&path).expect("the lock goes with its process");
    store.collection("more").expect("collection").put("a", "1", Precondition::Absent).expect("put");
}
