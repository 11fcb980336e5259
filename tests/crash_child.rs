//! A process that writes to a store until it is killed, and says on standard output what was acknowledged.
//!
//! `crash-child DIR DURABILITY [trimming | checkpoints PARENT]`: four writers, each with its own counter document that
//! it takes from etag to etag, each third step as a batch over a pair of documents and every tenth as a delete and
//! re-creation. One line is printed, in one write, after each acknowledgement:
//!
//! ```text
//! ready
//! counter WRITER VALUE ETAG
//! pair WRITER VALUE ETAG-OF-LEFT ETAG-OF-RIGHT
//! checkpoint NUMBER NEWEST-COMMIT
//! kept WRITER VALUE ETAG
//! ```
//!
//! `checkpoint` only with `checkpoints PARENT`: they are then made in that directory, one after the other. `kept` only
//! with `trimming`: nothing superseded is then kept of the documents above, and each step also writes the document of
//! the `kept` line, to a collection that keeps everything.

use std::io::Write;
use std::time::Duration;

use etagdb::{Collection, Durability, Options, Precondition, Retention, Store};

const WRITERS: usize = 4;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |what: &str| arguments.next().unwrap_or_else(|| panic!("usage: crash-child needs {what}"));
    let dir = argument("DIR");
    let durability = match argument("DURABILITY").as_str() {
        "sync" => Durability::Sync,
        "buffered" => Durability::Buffered,
        other => panic!("unknown durability {other:?}"),
    };
    let store = Options::default().durability(durability).open(dir).expect("open");
    let docs = store.collection("docs").expect("collection");
    let mode = arguments.next();
    let kept = (mode.as_deref() == Some("trimming")).then(|| {
        docs.set_retention(Retention::age(Duration::ZERO)).expect("retention");
        let kept = store.collection("kept").expect("collection");
        kept.set_retention(Retention::FOREVER).expect("retention");
        kept
    });
    let checkpoints = (mode.as_deref() == Some("checkpoints")).then(|| arguments.next().expect("a directory"));
    say("ready");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, docs, kept) = (&store, &docs, kept.as_ref());
            scope.spawn(move || write_for_ever(store, docs, kept, writer));
        }
        if kept.is_some() {
            // As fast as it can, besides the thread of the store, so that a kill finds it at it.
            scope.spawn(|| {
                loop {
                    store.run_maintenance().expect("maintenance");
                }
            });
        }
        for number in 0.. {
            let Some(checkpoints) = &checkpoints else { break };
            let newest = store.checkpoint(format!("{checkpoints}/{number}")).expect("checkpoint");
            say(&format!("checkpoint {number} {newest}"));
        }
    });
}

fn write_for_ever(store: &Store, docs: &Collection, kept: Option<&Collection>, writer: usize) {
    let counter = format!("counter {writer}");
    let left = format!("left {writer}");
    let current = docs.get(&counter).expect("get");
    let mut value: u64 = current.as_ref().map_or(0, |d| String::from_utf8_lossy(&d.body).parse().expect("number"));
    // A life may have ended between the counter and its pair.
    let pair = docs.get(&left).expect("get").map_or(0, |d| String::from_utf8_lossy(&d.body).parse().expect("number"));
    if value.is_multiple_of(3) && pair < value {
        write_pair(store, docs, writer, value);
    }
    let mut guard = current.map_or(Precondition::Absent, |d| Precondition::Match(d.etag));
    loop {
        value += 1;
        let body = value.to_string();
        if value.is_multiple_of(10) && guard != Precondition::Absent {
            // One batch, so that there is no moment at which the counter is missing.
            let mut batch = store.batch();
            batch.delete(docs, &counter, guard).put(docs, &counter, &body, Precondition::Absent);
            let written = batch.commit().expect("commit").pop().flatten().expect("written");
            guard = written.etag.into();
            say(&format!("counter {writer} {value} {}", written.etag));
        } else {
            let written = docs.put(&counter, &body, guard).expect("put");
            guard = written.etag.into();
            say(&format!("counter {writer} {value} {}", written.etag));
        }
        if let Some(kept) = kept {
            let written = kept.put(&counter, &body, Precondition::Any).expect("put");
            say(&format!("kept {writer} {value} {}", written.etag));
        }
        if value.is_multiple_of(3) {
            write_pair(store, docs, writer, value);
        }
    }
}

fn write_pair(store: &Store, docs: &Collection, writer: usize, value: u64) {
    let body = value.to_string();
    let mut batch = store.batch();
    batch.put(docs, format!("left {writer}"), &body, Precondition::Any);
    batch.put(docs, format!("right {writer}"), &body, Precondition::Any);
    let etags: Vec<_> = batch.commit().expect("commit").into_iter().flatten().map(|w| w.etag).collect();
    say(&format!("pair {writer} {value} {} {}", etags[0], etags[1]));
}

/// Prints a line in one write, so that a kill cuts between lines. A closed pipe means that the parent is gone.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(0);
    }
}
