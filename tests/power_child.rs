//! A process whose file operations are recorded: it lives in a store for a while and says on standard output what was
//! acknowledged, one line in one write each.
//!
//! `power-child DIR SEED WRITERS BATCHES MODE LIVES [CHECKPOINTS]`: opens the store `LIVES` times; each time some
//! writers commit so many batches each (see `workload`), while collections are made and dropped and, with a directory
//! `CHECKPOINTS`, checkpoints are taken there and restored beside.
//!
//! ```text
//! batch WRITER NUMBER SEQ ETAG     ETAG of the counter; SEQ of the batch's last write
//! made NAME / dropping NAME / dropped NAME     a collection
//! saw SEQ                          by a reader of the change feed
//! synced SEQ                       by Store::sync: everything up to there
//! filled NAME COUNT                a collection with so many documents, synced: from now on whole, or dropped
//! checkpoint LIFE NUMBER SEQ
//! restored LIFE NUMBER SEQ         that checkpoint, into a directory of its own
//! refused WRITER NUMBER            that batch, for want of space: it is not there
//! again WRITER NUMBER              it is tried again
//! failed WHAT: ERROR               a call failed
//! ```
//!
//! With `POWER_CHILD_BUG=split` it has the bug of splitting each batch in two, which the tests must notice.

#[path = "durability/random.rs"]
mod random;
#[path = "durability/workload.rs"]
mod workload;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etagdb::{
    CollectionTtl, Durability, Error, FeedMode, FeedStart, Options, Precondition, Retention, Store, StoreHealth,
};
use workload::DOCS;

/// How many batches of writer 0 there are between the making of two collections; each lives for two such times.
const COLLECTION_EVERY: u64 = 40;

struct Settings {
    dir: String,
    seed: u64,
    writers: u64,
    batches: u64,
    durability: Durability,
    patient: bool,
    trimming: bool,
    /// Writes metadata of all kinds after each batch.
    metadata: bool,
    /// Fills a collection and drops it before anything else.
    filling: bool,
    checkpoints: Option<String>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |what: &str| arguments.next().unwrap_or_else(|| panic!("usage: power-child needs {what}"));
    let dir = argument("DIR");
    let mut number = |what: &str| argument(what).parse::<u64>().unwrap_or_else(|_| panic!("{what} is no number"));
    let (seed, writers, batches) = (number("SEED"), number("WRITERS"), number("BATCHES"));
    let durability = argument("DURABILITY");
    let (patient, trimming, metadata) = (durability == "patient", durability == "trimming", durability == "metadata");
    let filling = durability == "filling";
    let durability = match durability.as_str() {
        "sync" => Durability::Sync,
        // As `sync`, and what is superseded is dropped again and again.
        "trimming" => Durability::Sync,
        // As `sync`; between the lives the shim's fault ends. `patient` ones try again while the disk is full.
        "faulty" | "patient" | "metadata" => Durability::Sync,
        // As `buffered`; first a collection is filled and dropped.
        "buffered" | "filling" => Durability::Buffered,
        other => panic!("unknown durability {other:?}"),
    };
    let lives: u64 = argument("LIVES").parse().expect("LIVES is a number");
    let settings = Settings {
        dir,
        seed,
        writers,
        batches,
        durability,
        patient,
        trimming,
        metadata,
        filling,
        checkpoints: arguments.next(),
    };
    for life in 0..lives {
        if let Err(error) = live(&settings, life) {
            say(&format!("failed life {life}: {error}"));
        }
        if let Some(root) = std::path::Path::new(&settings.dir).parent() {
            let _ = std::fs::remove_file(root.join("heal"));
        }
    }
}

fn live(settings: &Settings, life: u64) -> Result<(), Error> {
    let options = Options::default().write_buffer_bytes(1 << 20).durability(settings.durability);
    let options = options.background_maintenance(!settings.trimming);
    // What is filled is synced by itself, and nothing else is to be.
    let interval = Duration::from_millis(if settings.filling { 10_000 } else { 5 });
    let store = options.flush_interval(interval).open(&settings.dir)?;
    // Made first: making a collection syncs the log.
    let docs = store.collection(DOCS)?;
    if settings.filling {
        fill_and_drop(&store, settings.seed)?;
    }
    if settings.trimming {
        docs.set_retention(Retention::age(Duration::ZERO))?;
    }
    let writing = AtomicU64::new(settings.writers);
    std::thread::scope(|scope| {
        let (store, writing) = (&store, &writing);
        scope.spawn(move || {
            let mut feed = store.changes(FeedMode::All, FeedStart::Now).expect("a feed");
            while writing.load(Ordering::SeqCst) > 0 {
                match feed.wait(Duration::from_millis(50)) {
                    Ok(page) if page.is_empty() => {}
                    Ok(page) => say(&format!("saw {}", page.position)),
                    Err(error) => return say(&format!("failed feed: {error}")),
                }
            }
        });
        if settings.trimming {
            scope.spawn(move || {
                while writing.load(Ordering::SeqCst) > 0 {
                    if let Err(error) = store.run_maintenance() {
                        return say(&format!("failed maintenance: {error}"));
                    }
                }
            });
        }
        for writer in 0..settings.writers {
            scope.spawn(move || {
                if let Err(error) = write(store, settings, writer) {
                    say(&format!("failed writer {writer}: {error}"));
                    say(&format!("failed health: {}", store.health()));
                    // What was acknowledged must still be readable.
                    let docs = store.existing_collection(DOCS).expect("made above");
                    if let Err(error) = docs.get(workload::counter(writer)) {
                        say(&format!("failed read {writer}: {error}"));
                    }
                }
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if let Some(dir) = &settings.checkpoints {
            for number in 0..3 {
                let path = format!("{dir}/{life} {number}");
                match store.checkpoint(&path) {
                    Ok(newest) => say(&format!("checkpoint {life} {number} {newest}")),
                    Err(error) => say(&format!("failed checkpoint: {error}")),
                }
                match Store::restore(&path, format!("{path} restored")) {
                    Ok(newest) => say(&format!("restored {life} {number} {newest}")),
                    Err(error) => say(&format!("failed restore: {error}")),
                }
            }
        }
    });
    Ok(())
}

fn write(store: &Store, settings: &Settings, writer: u64) -> Result<(), Error> {
    let splits = std::env::var_os("POWER_CHILD_BUG").is_some_and(|bug| bug == "split");
    let docs = store.collection(DOCS)?;
    let counter = workload::counter(writer);
    let found = docs.get(&counter)?;
    let mut number = found.as_ref().map_or(0, |found| workload::parse_count(&found.body).expect("a count").1);
    let mut guard = found.map_or(Precondition::Absent, |found| Precondition::Match(found.etag));
    for _ in 0..settings.batches {
        number += 1;
        let commit = || {
            let mut batch = store.batch();
            for (index, (id, body)) in workload::batch(settings.seed, writer, number).into_iter().enumerate() {
                if index == 1 && splits {
                    std::mem::replace(&mut batch, store.batch()).commit()?;
                }
                let precondition = if id == counter { guard } else { Precondition::Any };
                match body {
                    Some(body) => batch.put(&docs, id, body, precondition),
                    None => batch.delete(&docs, id, precondition),
                };
            }
            batch.commit()
        };
        let mut result = commit();
        while let (true, Err(Error::DiskFull(_))) = (settings.patient, &result) {
            say(&format!("refused {writer} {number}"));
            say(&format!("failed health: {}", store.health()));
            if let Err(error) = docs.get(&counter).and_then(|_| docs.get("document 1")) {
                say(&format!("failed read {writer}: {error}"));
            }
            // RocksDB looks for space every few seconds.
            std::thread::park_timeout(Duration::from_millis(100));
            if store.health() == StoreHealth::Healthy {
                say("failed health: healthy again");
                say(&format!("again {writer} {number}"));
                result = commit();
            }
        }
        let written: Vec<_> = result?.into_iter().flatten().collect();
        if splits {
            guard = Precondition::Any;
            continue;
        }
        let (first, last) = (&written[0], &written[written.len() - 1]);
        say(&format!("batch {writer} {number} {} {}", last.seq, first.etag));
        guard = first.etag.into();
        if writer == 0 && number.is_multiple_of(COLLECTION_EVERY) {
            let generation = number / COLLECTION_EVERY;
            patiently(settings, || store.collection(&format!("extra {generation}")))?;
            say(&format!("made extra {generation}"));
            if generation > 2 {
                say(&format!("dropping extra {}", generation - 2));
                patiently(settings, || store.drop_collection(&format!("extra {}", generation - 2)))?;
                say(&format!("dropped extra {}", generation - 2));
            }
        }
        if settings.metadata {
            write_metadata(store, number)?;
        }
        if writer == 1 && settings.durability == Durability::Buffered && number.is_multiple_of(100) {
            let newest = store.last_commit();
            store.sync()?;
            say(&format!("synced {newest}"));
        }
    }
    Ok(())
}

/// Does something again while the disk is full, if that is asked for.
fn patiently<T>(settings: &Settings, mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Error::DiskFull(_)) if settings.patient => std::thread::park_timeout(Duration::from_millis(100)),
            done => return done,
        }
    }
}

/// Fills a collection with so much that files are compacted which hold nothing else, and drops it.
fn fill_and_drop(store: &Store, seed: u64) -> Result<(), Error> {
    const DOCUMENTS: u64 = 1_500;
    let extra = store.collection("extra 0")?;
    say("made extra 0");
    let mut random = random::Random::new(seed);
    for number in 0..DOCUMENTS {
        let body: Vec<u8> = (0..512).flat_map(|_| random.next().to_le_bytes()).collect();
        extra.put(format!("{number}"), body, Precondition::Any)?;
    }
    store.sync()?;
    say(&format!("filled extra 0 {DOCUMENTS}"));
    // RocksDB removes at once only what it has compacted.
    std::thread::park_timeout(Duration::from_millis(200));
    say("dropping extra 0");
    store.drop_collection("extra 0")?;
    say("dropped extra 0");
    Ok(())
}

/// One write of each kind that is no commit and is synced, one after the other.
fn write_metadata(store: &Store, number: u64) -> Result<(), Error> {
    let docs = store.collection(DOCS)?;
    match number % 7 {
        0 => docs.set_retention(Retention::age(Duration::from_secs(number)))?,
        1 => docs.set_ttl(CollectionTtl::After(Duration::from_secs(3_600 * number)))?,
        2 => drop(store.register_cursor(&format!("cursor {number}"), store.last_commit())?),
        3 => store.advance_cursor(&format!("cursor {}", number - 1), store.last_commit())?,
        4 => drop(store.remove_cursor(&format!("cursor {}", number - 2))?),
        5 => drop(store.collection(&format!("collection {number}"))?),
        _ => drop(store.drop_collection(&format!("collection {}", number - 1))?),
    }
    Ok(())
}

/// Prints a line in one write.
fn say(line: &str) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}
