//! A job queue on the change feed: workers wait for jobs without polling, and claim them by compare-and-swap.
//!
//! A job is a document: its state in the body, its version in the etag. Whoever sees a waiting job in the feed tries
//! to replace exactly that version by "claimed by me". Of all workers that try, one wins; the others learn that they
//! lost and go on. A worker that fails puts the job back, which is a change like any other, so it wakes the others.
//! The auditor follows from a registered cursor and takes up its work where it stopped when the store is opened again.
//!
//! `cargo run --release --example job_queue`

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use etagdb::{ChangeKind, Collection, CommitSeq, Error, FeedMode, FeedStart, Precondition, Store};

type Outcome<T> = Result<T, Box<dyn StdError + Send + Sync>>;

const JOBS: usize = 40;
const WORKERS: usize = 4;
/// How long a worker waits for a change before it takes the others for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a job, as text: `waiting 0`, `claimed 1 by 3`, `done 2 by 1`. The first number counts attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Job {
    Waiting { attempts: usize },
    Claimed { attempts: usize, worker: usize },
    Done { attempts: usize, worker: usize },
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Waiting { attempts } => write!(f, "waiting {attempts}"),
            Job::Claimed { attempts, worker } => write!(f, "claimed {attempts} by {worker}"),
            Job::Done { attempts, worker } => write!(f, "done {attempts} by {worker}"),
        }
    }
}

impl FromStr for Job {
    type Err = Box<dyn StdError + Send + Sync>;

    fn from_str(text: &str) -> Outcome<Job> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words[..] {
            ["waiting", attempts] => Job::Waiting { attempts: attempts.parse()? },
            ["claimed", attempts, "by", worker] => {
                Job::Claimed { attempts: attempts.parse()?, worker: worker.parse()? }
            }
            ["done", attempts, "by", worker] => Job::Done { attempts: attempts.parse()?, worker: worker.parse()? },
            _ => return Err(format!("{text:?} is no job").into()),
        })
    }
}

fn job(body: &[u8]) -> Outcome<Job> {
    std::str::from_utf8(body)?.parse()
}

/// What a worker has to say at the end of the day.
#[derive(Default)]
struct Report {
    done: usize,
    failed: usize,
    lost: usize,
}

fn work(jobs: &Collection, worker: usize) -> Outcome<Report> {
    let mut report = Report::default();
    let mut open = JOBS;
    // The newest version of each job is enough: a job that was claimed and done meanwhile needs nobody.
    let mut feed = jobs.changes(FeedMode::Latest, FeedStart::Beginning)?.page_entries(4);
    while open > 0 {
        let page = feed.wait(PATIENCE)?;
        if page.is_empty() {
            return Err(format!("{open} jobs are not done, and nothing happens to them").into());
        }
        for entry in page.entries {
            let Some(document) = entry.document else { continue };
            let attempts = match job(&document.body)? {
                Job::Waiting { attempts } => attempts + 1,
                Job::Claimed { .. } => continue,
                Job::Done { .. } => {
                    open -= 1;
                    continue;
                }
            };
            let claim = Job::Claimed { attempts, worker };
            let claimed = match jobs.put(&entry.id, claim.to_string(), document.etag) {
                Ok(claimed) => claimed,
                Err(Error::Conflict(_)) => {
                    report.lost += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // The work itself. Every tenth job goes wrong at the first attempt.
            let goes_wrong = attempts == 1 && entry.id.ends_with(b"5");
            let result = if goes_wrong {
                report.failed += 1;
                Job::Waiting { attempts }
            } else {
                report.done += 1;
                Job::Done { attempts, worker }
            };
            // Nobody else touches what this worker has claimed, and the etag proves it.
            jobs.put(&entry.id, result.to_string(), claimed.etag)?;
        }
    }
    Ok(report)
}

/// Reads every change since its cursor, in order, and checks that no job was ever claimed twice at a time.
fn audit(store: &Store, entries: usize) -> Outcome<usize> {
    let cursor = store.register_cursor("auditor", CommitSeq::new(0))?;
    let jobs = store.collection("jobs")?;
    let mut feed = jobs.changes(FeedMode::All, cursor.position)?.page_entries(entries);
    let page = feed.read()?;
    for entry in &page.entries {
        let now = entry.document.as_ref().map(|document| job(&document.body)).transpose()?;
        let previous = entry.previous.as_ref().and_then(|previous| previous.document.as_ref());
        let before = previous.map(|document| job(&document.body)).transpose()?;
        let is_right = match (entry.kind, before, now) {
            (ChangeKind::Created, None, Some(Job::Waiting { attempts: 0 })) => true,
            (ChangeKind::Replaced, Some(Job::Waiting { attempts }), Some(Job::Claimed { attempts: next, .. })) => {
                next == attempts + 1
            }
            (
                ChangeKind::Replaced,
                Some(Job::Claimed { attempts, worker }),
                Some(Job::Done { attempts: same, worker: by }),
            ) => attempts == same && worker == by,
            (ChangeKind::Replaced, Some(Job::Claimed { attempts, .. }), Some(Job::Waiting { attempts: same })) => {
                attempts == same
            }
            _ => false,
        };
        if !is_right {
            return Err(format!("commit {}: {before:?} became {now:?}", entry.seq).into());
        }
    }
    // Everything up to here is dealt with, and stays so when the program ends.
    store.advance_cursor("auditor", page.position)?;
    Ok(page.entries.len())
}

fn day(path: &Path) -> Outcome<()> {
    let store = Store::open(path)?;
    let jobs = store.collection("jobs")?;
    let reports = thread::scope(|scope| -> Outcome<Vec<Report>> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let jobs = &jobs;
                scope.spawn(move || work(jobs, worker))
            })
            .collect();
        // Jobs come in while the workers wait, some of them several at once.
        for start in (0..JOBS).step_by(4) {
            let mut batch = store.batch();
            for n in start..start + 4 {
                batch.put(&jobs, format!("job {n:02}"), Job::Waiting { attempts: 0 }.to_string(), Precondition::Absent);
            }
            batch.commit()?;
        }
        workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker panicked")?).collect()
    })?;
    println!("worker  done  failed  claims lost");
    for (worker, Report { done, failed, lost }) in reports.iter().enumerate() {
        println!("{worker:>6}  {done:>4}  {failed:>6}  {lost:>11}");
    }
    let done: usize = reports.iter().map(|report| report.done).sum();
    let failed: usize = reports.iter().map(|report| report.failed).sum();
    println!("{done} jobs done, each once; {failed} of them at the second attempt");
    println!("the auditor checked {} changes before closing time", audit(&store, 50)?);
    Ok(())
}

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("queue");
    day(&path)?;
    let store = Store::open(&path)?;
    println!("and the other {} after opening the store again", audit(&store, usize::MAX)?);
    Ok(())
}
