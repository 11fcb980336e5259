//! A process that writes to a store until it is killed, and says on standard output what was acknowledged.
//!
//! `crash-child DIR DURABILITY ROUND`: four writers, each with its own counter document that it takes from etag to
//! etag, each third step as a batch over a pair of documents and every tenth as a delete and re-creation. One line is
//! printed, in one write, after each acknowledgement:
//!
//! ```text
//! ready
//! counter WRITER VALUE ETAG
//! pair WRITER VALUE ETAG-OF-LEFT ETAG-OF-RIGHT
//! kept WRITER VALUE ETAG
//! ```
//!
//! With a third argument `trimming`, nothing superseded is kept of these documents, and each step also writes the
//! `kept` line's document to a collection that keeps everything.

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
    let kept = (arguments.next().as_deref() == Some("trimming")).then(|| {
        docs.set_retention(Retention::age(Duration::ZERO)).expect("retention");
        let kept = store.collection("kept").expect("collection");
        kept.set_retention(Retention::FOREVER).expect("retention");
        kept
    });
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
    });
}

fn write_for_ever(store: &Store, docs: &Collection, kept: Option<&Collection>, writer: usize) {
    let counter = format!("counter {writer}");
    let (left, right) = (format!("left {writer}"), format!("right {writer}"));
    let current = docs.get(&counter).expect("get");
    let mut value: u64 = current.as_ref().map_or(0, |d| String::from_utf8_lossy(&d.body).parse().expect("number"));
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
            let mut batch = store.batch();
            batch.put(docs, &left, &body, Precondition::Any).put(docs, &right, &body, Precondition::Any);
            let etags: Vec<_> = batch.commit().expect("commit").into_iter().flatten().map(|w| w.etag).collect();
            say(&format!("pair {writer} {value} {} {}", etags[0], etags[1]));
        }
    }
}

/// Prints a line in one write, so that a kill cuts between lines. A closed pipe means that the parent is gone.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(0);
    }
}
