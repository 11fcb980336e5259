//! Histories of concurrent clients, document by document: is there an order of all operations, each between its call and
//! its answer, in which every answer is right? Asked of two judges that share nothing: a search (`todc-utils`, after
//! Wing, Gong and Lowe) that knows only a register with compare-and-swap, and a sweep over time that relies on etags
//! carrying the commit order.

use std::sync::{Barrier, Mutex};
use std::time::Instant;

use etagdb::{Collection, Durability, Error, Etag, Options, Precondition};
use todc_utils::{Action, History, Specification, WGLChecker};

const CLIENTS: u64 = 6;
const OPERATIONS: u64 = 24;

/// What an operation asked, and what it was told. Sequences stand for etags; 0 for no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get {
        found: u64,
    },
    /// A write that was made: what it was to build on, what it replaced, and what it made (0: a deletion).
    Write {
        expected: Expected,
        replaced: u64,
        made: u64,
    },
    /// A write that was refused, and what was there instead.
    Refused {
        expected: Expected,
        current: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Anything,
    Nothing,
    Exactly(u64),
}

impl Expected {
    fn holds(self, current: u64) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Nothing => current == 0,
            Expected::Exactly(seq) => current == seq && seq != 0,
        }
    }
}

/// A document, as its clients may think of it.
struct Register;

impl Specification for Register {
    type State = u64;
    type Operation = Operation;

    fn init() -> u64 {
        0
    }

    fn apply(operation: &Operation, current: &u64) -> (bool, u64) {
        match *operation {
            Operation::Get { found } => (found == *current, *current),
            Operation::Write { expected, replaced, made } => {
                let right = replaced == *current && expected.holds(*current);
                (right, if right { made } else { *current })
            }
            Operation::Refused { expected, current: told } => (told == *current && !expected.holds(*current), *current),
        }
    }
}

/// Calls and answers of one document, in the order in which they happened.
type Record = Vec<(usize, Action<Operation>)>;

/// The judge that searches.
fn search_finds_an_order(record: &Record) -> bool {
    WGLChecker::<Register>::is_linearizable(History::from_actions(record.clone()))
}

/// The judge that sweeps: nobody is told of a version that somebody was past when he asked, nor of one that nobody had
/// asked to make yet; and no version is replaced twice. (An absent document has no sequence: the search judges those.)
fn sweep_finds_an_order(record: &Record) -> bool {
    let mut calls = std::collections::HashMap::new();
    let mut made_by_call = std::collections::HashMap::new();
    let mut replaced_once = std::collections::HashSet::new();
    let answers: Vec<(usize, Operation)> = record
        .iter()
        .enumerate()
        .filter_map(|(at, (client, action))| match action {
            Action::Call(_) => {
                calls.insert(*client, at);
                None
            }
            Action::Response(operation) => {
                if let Operation::Write { made, .. } = operation {
                    made_by_call.insert(*made, calls[client]);
                }
                Some((calls[client], *operation))
            }
        })
        .collect();
    // The newest version that anybody was told of by each moment.
    let mut newest = vec![0; record.len() + 1];
    let mut index = 0;
    for (at, (_, action)) in record.iter().enumerate() {
        newest[at + 1] = newest[at];
        if let Action::Response(operation) = action {
            newest[at + 1] = newest[at].max(seen(operation));
            let (call, _) = answers[index];
            index += 1;
            if let Operation::Write { replaced, .. } = operation
                && *replaced != 0
                && !replaced_once.insert(*replaced)
            {
                return false;
            }
            let told = seen(operation);
            let from_the_future = made_by_call.get(&told).is_some_and(|&made| made > at);
            if told != 0 && (told < newest[call] || from_the_future) {
                return false;
            }
        }
    }
    true
}

/// The newest version that an answer tells of.
fn seen(operation: &Operation) -> u64 {
    match *operation {
        Operation::Get { found } => found,
        Operation::Write { replaced, made, .. } => made.max(replaced),
        Operation::Refused { current, .. } => current,
    }
}

fn seq(etag: Etag) -> u64 {
    u64::from_str_radix(&etag.to_string().replace('-', "")[16..], 16).expect("an etag ends in its sequence")
}

/// One client at a document: asks something that depends on what it last saw.
fn ask(docs: &Collection, id: &str, choice: u64, last: &mut Option<Etag>) -> Operation {
    let told = |etag: Option<Etag>| etag.map_or(0, seq);
    let (precondition, expected) = match (choice % 5, *last) {
        (0 | 1, Some(etag)) => (Precondition::Match(etag), Expected::Exactly(seq(etag))),
        (2, _) => (Precondition::Any, Expected::Anything),
        (3, _) | (_, None) => (Precondition::Absent, Expected::Nothing),
        (_, Some(_)) => {
            *last = docs.get(id).expect("get").map(|document| document.etag);
            return Operation::Get { found: told(*last) };
        }
    };
    let deletes = (choice / 5).is_multiple_of(6) && precondition != Precondition::Absent;
    let result = if deletes { docs.delete(id, precondition) } else { docs.put(id, "x", precondition).map(Some) };
    match result {
        Ok(Some(written)) => {
            *last = if deletes { written.replaced } else { Some(written.etag) };
            let made = if deletes { 0 } else { seq(written.etag) };
            Operation::Write { expected, replaced: told(written.replaced), made }
        }
        // A deletion that found nothing.
        Ok(None) => Operation::Get { found: 0 },
        Err(Error::Conflict(conflict)) => {
            *last = conflict.current;
            Operation::Refused { expected, current: told(conflict.current) }
        }
        Err(error) => panic!("{error}"),
    }
}

/// Lets the clients loose on one document after the other, and returns what happened to each.
fn histories(durability: Durability, documents: u64) -> Vec<Record> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Options::default().durability(durability).open(dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    let records: Vec<Mutex<Record>> = (0..documents).map(|_| Mutex::new(Vec::new())).collect();
    let together = Barrier::new(CLIENTS as usize);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (docs, records, together) = (&docs, &records, &together);
            scope.spawn(move || {
                let mut random = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for (document, record) in records.iter().enumerate() {
                    let id = format!("document {document}");
                    let mut last = None;
                    together.wait();
                    for _ in 0..OPERATIONS {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let unknown = Operation::Get { found: 0 };
                        record.lock().expect("unpoisoned").push((client as usize, Action::Call(unknown)));
                        let told = ask(docs, &id, random >> 33, &mut last);
                        record.lock().expect("unpoisoned").push((client as usize, Action::Response(told)));
                    }
                }
            });
        }
    });
    records.into_iter().map(|record| record.into_inner().expect("unpoisoned")).collect()
}

#[test]
fn every_document_is_linearizable() {
    let share = std::env::var("ETAGDB_HISTORIES").ok().map_or(150, |documents| documents.parse().expect("a number"));
    for durability in [Durability::Sync, Durability::Buffered] {
        let began = Instant::now();
        let records = histories(durability, share);
        let concurrent = records.iter().flat_map(|record| record.windows(2));
        let overlaps = concurrent.filter(|pair| matches!(pair, [(_, Action::Call(_)), (_, Action::Call(_))])).count();
        assert!(overlaps > 0, "the clients never met");
        for (document, record) in records.iter().enumerate() {
            assert!(search_finds_an_order(record), "{durability:?}, document {document}: {record:?}");
            assert!(sweep_finds_an_order(record), "{durability:?}, document {document}: {record:?}");
        }
        // A row of the table of a long run.
        println!(
            "| linearizability without deaths, {durability:?} | {share} documents | {} operations, {overlaps} overlapping | 0 | {:.0} s |",
            share * CLIENTS * OPERATIONS,
            began.elapsed().as_secs_f64()
        );
    }
}

/// The judges are judged: each must see through an answer that was tampered with.
#[test]
fn a_stale_read_and_a_lost_update_are_noticed() {
    let records = histories(Durability::Buffered, 20);
    let (mut stale, mut lost) = ([0; 2], [0; 2]);
    for record in &records {
        // Of the answers to reads, one tells of what was replaced before it was asked.
        let first = record.iter().find_map(|(_, action)| match action {
            Action::Response(Operation::Write { replaced, made, .. }) if *replaced != 0 && *made != 0 => {
                Some(*replaced)
            }
            _ => None,
        });
        let mut tampered = record.clone();
        tampered.push((0, Action::Call(Operation::Get { found: 0 })));
        tampered.push((0, Action::Response(Operation::Get { found: first.expect("something was replaced") })));
        stale[0] += usize::from(!search_finds_an_order(&tampered));
        stale[1] += usize::from(!sweep_finds_an_order(&tampered));
        // Two compare-and-swaps build on the same version, and both are told that they won.
        let mut tampered = record.clone();
        let won = record.iter().find_map(|(_, action)| match action {
            Action::Response(write @ Operation::Write { replaced, made, .. }) if *replaced != 0 && *made != 0 => {
                Some(*write)
            }
            _ => None,
        });
        tampered.push((0, Action::Call(Operation::Get { found: 0 })));
        tampered.push((0, Action::Response(won.expect("a replacement"))));
        lost[0] += usize::from(!search_finds_an_order(&tampered));
        lost[1] += usize::from(!sweep_finds_an_order(&tampered));
    }
    assert_eq!((stale, lost), ([20; 2], [20; 2]), "noticed by search and sweep, of 20 each");
}
