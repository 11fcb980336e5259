//! `etagdb bench`: a short load of reads and conditional writes, and how fast they were.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use reqwest::Method;
use serde_json::{Value, json};

use super::item::PARTITION_KEY;
use super::place::{self, Access, Ask, Place};
use super::remote::Refusal;
use super::{Failure, print, signals};

/// One answer may take so long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer latencies than this count as it.
const MICROS_MAX: u64 = 60_000_000;

const CONTAINER: &str = "documents";

const EXAMPLES: &str = "\
Examples:
  How fast is this machine's disk? Five seconds of reads and five of writes, by eight writers:
    etagdb bench --data /mnt/disk/bench-data

  A running server, over HTTP:
    etagdb bench --url http://127.0.0.1:8081 --seconds 10 --writers 32

  Larger documents, for a program:
    etagdb bench --data /tmp/bench-data --bytes 16384 --json

Makes a database of its own, called etagdb-bench-..., and drops it at the end. A write reads nothing: it replaces a \
document by the etag that its writer knows, and is on disk before it is acknowledged. With --data requests take the \
way they take in a server, but for the socket. Syncs are shared: more writers make more writes a second.";

/// Put a short load on a directory or a server, and print throughput and latencies.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    place: place::Args,

    /// How long to read, and then how long to write.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,

    /// How many readers and writers there are at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    writers: u16,

    /// How many bytes a document has, about.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    bytes: u32,

    /// How many documents there are.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    documents: u32,

    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// What one phase measured.
struct Phase {
    name: &'static str,
    micros: Histogram<u64>,
    took: Duration,
}

/// A load on one database.
struct Load<'a> {
    args: &'a Args,
    place: Place,
    database: String,
}

/// Loads, measures and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (_runtime, stopped) = signals::stop_flag()?;
    let place = args.place.open_with(ANSWER_TIMEOUT, Access::Create)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let load = Load { args, place, database: format!("etagdb-bench-{}-{now}", std::process::id()) };
    load.create(&["dbs"], &json!({ "id": load.database }))?;
    let measured = load.measure(&stopped);
    // Also after a failure: the database is ours, and nobody wants it.
    let dropped = load.send(Method::DELETE, &["dbs", &load.database], &[], Vec::new());
    let phases = measured?;
    dropped.map_err(|refusal| load.place.explain(refusal))?;
    print(&match args.json {
        true => {
            let figures = phases.iter().map(|phase| (phase.name.to_owned(), phase.json()));
            let figures: serde_json::Map<String, Value> = figures.collect();
            json!({ "writers": args.writers, "bytes": args.bytes, "documents": args.documents, "phases": figures })
                .to_string()
        }
        false => phases.iter().map(Phase::line).collect::<Vec<_>>().join("\n"),
    })?;
    if stopped.load(Ordering::Relaxed) {
        return Err(Failure::Failed("interrupted: the figures are of a shorter time".into()));
    }
    Ok(())
}

impl Load<'_> {
    fn measure(&self, stopped: &AtomicBool) -> Result<Vec<Phase>, Failure> {
        let container = json!({ "id": CONTAINER, "partitionKey": { "paths": ["/id"], "kind": "Hash", "version": 2 },
            "indexingPolicy": { "indexingMode": "none", "automatic": false } });
        self.create(&["dbs", &self.database, "colls"], &container)?;
        let writers = u32::from(self.args.writers);
        let seconds = Duration::from_secs(u64::from(self.args.seconds));
        // Each has documents of its own, as if it had read them, so that no write is refused.
        let documents = self.args.documents.max(writers);
        let mine = |writer: u32| (writer..documents).step_by(writers as usize).collect::<Vec<u32>>();
        let fill = Instant::now();
        let mut etags: Vec<Vec<(u32, String)>> = Vec::new();
        let mut created = new_histogram()?;
        for done in self.all(|writer| {
            let mut micros = new_histogram()?;
            let mut etags = Vec::new();
            for number in mine(writer) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                etags.push((number, timed(&mut micros, || self.write(number, None))?));
            }
            Ok((etags, micros))
        }) {
            let (of_writer, micros) = done?;
            created.add(&micros).map_err(|error| error.to_string())?;
            etags.push(of_writer);
        }
        let mut phases = vec![Phase { name: "creates", micros: created, took: fill.elapsed() }];
        for name in ["reads", "writes"] {
            let begun = Instant::now();
            let mut micros = new_histogram()?;
            let mut next = Vec::new();
            let etags_of = &etags;
            for done in self.all(|writer| {
                let mut micros = new_histogram()?;
                let mut etags = etags_of.get(writer as usize).cloned().unwrap_or_default();
                let mut turn = 0;
                while begun.elapsed() < seconds && !stopped.load(Ordering::Relaxed) && !etags.is_empty() {
                    // A stride that meets all of them in an order that no cache foresees.
                    turn = (turn + 7_919) % etags.len();
                    let (number, etag) = &mut etags[turn];
                    if name == "reads" {
                        timed(&mut micros, || self.read(*number))?;
                    } else {
                        *etag = timed(&mut micros, || self.write(*number, Some(etag)))?;
                    }
                }
                Ok((etags, micros))
            }) {
                let (of_writer, of_phase) = done?;
                micros.add(&of_phase).map_err(|error| error.to_string())?;
                next.push(of_writer);
            }
            etags = next;
            phases.push(Phase { name, micros, took: begun.elapsed() });
        }
        Ok(phases)
    }

    /// Runs something on as many threads as there are writers.
    fn all<T: Send>(&self, work: impl Fn(u32) -> Result<T, Failure> + Sync) -> Vec<Result<T, Failure>> {
        let work = &work;
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..u32::from(self.args.writers)).map(|writer| scope.spawn(move || work(writer))).collect();
            let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    fn read(&self, number: u32) -> Result<(), Failure> {
        let (id, key) = name(number);
        let segments = ["dbs", &self.database, "colls", CONTAINER, "docs", &id];
        let read = self.place.get(&segments, &[(PARTITION_KEY, &key)]);
        read.map(|_| ()).map_err(|refusal| self.place.explain(refusal))
    }

    /// Creates a document, or replaces it if it still is in the version that is known. Returns the new etag.
    fn write(&self, number: u32, known: Option<&str>) -> Result<String, Failure> {
        let (id, key) = name(number);
        let filling = "x".repeat((self.args.bytes as usize).saturating_sub(40));
        let body = json!({ "id": id, "filling": filling }).to_string().into_bytes();
        let list = ["dbs", self.database.as_str(), "colls", CONTAINER, "docs", id.as_str()];
        let mut headers =
            vec![(PARTITION_KEY, key.as_str()), ("content-type", "application/json"), ("prefer", "return=minimal")];
        headers.extend(known.map(|etag| ("if-match", etag)));
        let sent = match known {
            None => self.send(Method::POST, &list[..5], &headers, body),
            Some(_) => self.send(Method::PUT, &list, &headers, body),
        };
        let answer = sent.map_err(|refusal| self.place.explain(refusal))?;
        let etag = answer.header("etag").ok_or("a document was acknowledged without an etag")?;
        Ok(etag.to_owned())
    }

    fn create(&self, segments: &[&str], body: &Value) -> Result<(), Failure> {
        let headers = [("content-type", "application/json")];
        let created = self.send(Method::POST, segments, &headers, body.to_string().into_bytes());
        created.map(|_| ()).map_err(|refusal| self.place.explain(refusal))
    }

    fn send(
        &self,
        method: Method,
        segments: &[&str],
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<place::Answer, Refusal> {
        self.place.ask(&Ask { method, segments, headers, body: body.into() })
    }
}

/// A document's id and partition key.
fn name(number: u32) -> (String, String) {
    (format!("d{number}"), format!("[\"d{number}\"]"))
}

fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).map_err(|error| Failure::Failed(error.to_string()))
}

fn timed<T>(micros: &mut Histogram<u64>, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    let done = work()?;
    micros.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
    Ok(done)
}

impl Phase {
    fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    fn line(&self) -> String {
        let at = |share| HumanCount(self.micros.value_at_quantile(share)).to_string();
        format!(
            "{:7}  {:>11}/s   50 %: {:>7} µs   99 %: {:>7} µs   99.9 %: {:>7} µs   longest: {:>9} µs",
            self.name,
            HumanCount(self.rate().round() as u64).to_string(),
            at(0.5),
            at(0.99),
            at(0.999),
            HumanCount(self.micros.max()).to_string(),
        )
    }

    fn json(&self) -> Value {
        let at = |share| self.micros.value_at_quantile(share);
        json!({
            "operations": self.micros.len(),
            "seconds": self.took.as_secs_f64(),
            "perSecond": self.rate().round(),
            "micros": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": self.micros.max() },
        })
    }
}
