//! The closed loop: threads that each wait for an answer before they ask again, and the ledger that the stores are
//! checked against afterwards. Knows no engine.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Result, Session, Version};

/// What the threads of a column do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read any document.
    Get,
    /// Compare-and-swap on any document, by somebody who remembers its version from the write before. A lost race
    /// reads and tries again, and counts once.
    Swap,
    /// Read and compare-and-swap on one and the same document, until it succeeds.
    HotSwap,
    /// The engine's own read-modify-write on one and the same document.
    HotUpdate,
    /// Write any document, whatever is there.
    Upsert,
}

/// A column of the table.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) sync: bool,
    pub(crate) threads: u64,
}

const fn column(name: &'static str, work: Work, sync: bool, threads: u64) -> Column {
    Column { name, work, sync, threads }
}

/// Upserts come last among the synced: the ledger does not follow them.
pub(crate) const COLUMNS: [Column; 13] = [
    column("get 1", Work::Get, true, 1),
    column("get 4", Work::Get, true, 4),
    column("CAS sync 1", Work::Swap, true, 1),
    column("CAS sync 4", Work::Swap, true, 4),
    column("CAS sync 16", Work::Swap, true, 16),
    column("CAS sync 64", Work::Swap, true, 64),
    column("hot CAS sync 16", Work::HotSwap, true, 16),
    column("hot update sync 16", Work::HotUpdate, true, 16),
    column("upsert sync 16", Work::Upsert, true, 16),
    column("CAS no sync 1", Work::Swap, false, 1),
    column("CAS no sync 4", Work::Swap, false, 4),
    column("CAS no sync 16", Work::Swap, false, 16),
    column("CAS no sync 64", Work::Swap, false, 64),
];

/// The id of a document.
pub(crate) fn key(document: u64) -> Vec<u8> {
    format!("doc-{document:012}").into_bytes()
}

/// A body: the number of swaps it has seen, then bytes of which half are random, as documents compress.
pub(crate) fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut body: Vec<u8> = (0..bytes).map(|at| if at % 2 == 0 { b'a' } else { random.next() as u8 }).collect();
    set_count(&mut body, 0);
    body
}

fn count(body: &[u8]) -> u64 {
    body.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

fn set_count(body: &mut [u8], count: u64) {
    if let Some(bytes) = body.first_chunk_mut() {
        *bytes = count.to_le_bytes();
    }
}

/// The least that a body can have: the count.
pub(crate) const BYTES_MIN: usize = 8;

/// What is known of each document.
pub(crate) struct Ledger(Vec<Entry>);

#[derive(Default)]
struct Entry {
    /// The version and count of the last write that somebody heard of.
    known: Mutex<Option<(Version, u64)>>,
    /// Writes that were told they had succeeded.
    wins: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(documents: u64) -> Ledger {
        Ledger((0..documents).map(|_| Entry::default()).collect())
    }

    fn known(&self, document: u64) -> Option<(Version, u64)> {
        *self.0[document as usize].known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn won(&self, document: u64, now: Option<(Version, u64)>) {
        let entry = &self.0[document as usize];
        *entry.known.lock().unwrap_or_else(PoisonError::into_inner) = now;
        entry.wins.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads every document and says how many acknowledged writes are missing from them, or are there and were not
    /// acknowledged.
    pub(crate) fn lost_updates(&self, engine: &dyn Engine, bytes: usize) -> Result<u64> {
        let mut session = engine.session()?;
        let mut lost = 0;
        for (document, entry) in (0..).zip(&self.0) {
            let mut found = (0, 0);
            session.get(&key(document), &mut |_, body| found = (body.len(), count(body)))?;
            if found.0 != bytes {
                return Err(format!("document {document} has {} bytes instead of {bytes}", found.0).into());
            }
            lost += entry.wins.load(Ordering::Relaxed).abs_diff(found.1);
        }
        Ok(lost)
    }
}

/// Operations a second.
pub(crate) fn run(engine: &dyn Engine, column: &Column, ledger: &Ledger, bytes: usize, time: Duration) -> Result<f64> {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(column.threads as usize + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..column.threads)
            .map(|thread| {
                let (stop, start) = (&stop, &start);
                scope.spawn(move || -> Result<u64> {
                    let worker = engine.session().map(|session| Worker {
                        session,
                        ledger,
                        body: body(bytes, thread + 1),
                        random: Random::new(thread + 1),
                    });
                    // Also who failed comes to the start, or nobody would ever leave it.
                    start.wait();
                    let mut worker = worker?;
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        worker.operate(column.work)?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for worker in workers {
            total += worker.join().map_err(|_| "a thread panicked")??;
        }
        // Not before all have their last answer: it is counted.
        Ok(total as f64 / began.elapsed().as_secs_f64())
    })
}

struct Worker<'a> {
    session: Box<dyn Session + 'a>,
    ledger: &'a Ledger,
    body: Vec<u8>,
    random: Random,
}

impl Worker<'_> {
    fn operate(&mut self, work: Work) -> Result<()> {
        let any = self.random.next() % self.ledger.0.len() as u64;
        match work {
            Work::Get => self.session.get(&key(any), &mut |version, body| {
                black_box((version, body));
            }),
            Work::Swap => {
                let known = self.ledger.known(any);
                self.swap(any, known)
            }
            Work::HotSwap => self.swap(0, None),
            Work::HotUpdate => {
                self.session.update(&key(0), &mut |body| {
                    let mut next = body.to_vec();
                    set_count(&mut next, count(body).wrapping_add(1));
                    next
                })?;
                self.ledger.won(0, None);
                Ok(())
            }
            Work::Upsert => self.session.put(&key(any), &self.body),
        }
    }

    /// Counts a document up by one, by a compare-and-swap from `known` or else from what is there.
    fn swap(&mut self, document: u64, mut known: Option<(Version, u64)>) -> Result<()> {
        let key = key(document);
        loop {
            if known.is_none() {
                self.session.get(&key, &mut |version, body| known = Some((version, count(body))))?;
            }
            let (version, old) = known.take().ok_or("the document was not shown")?;
            set_count(&mut self.body, old + 1);
            if let Some(next) = self.session.compare_and_swap(&key, version, &self.body)? {
                self.ledger.won(document, Some((next, old + 1)));
                return Ok(());
            }
        }
    }
}

/// Marsaglia's xorshift: cheap, and the same in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
