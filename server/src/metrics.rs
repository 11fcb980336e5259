//! Figures for operators: what was asked and how it ended, what the store is doing, in Prometheus text.
//!
//! Owns the counters, the names of operations in them and in logs, and the text of `/metrics`. It takes no decisions.
//! Names of databases, containers and items are no labels: there can be any number of them, and they are their owners'
//! business.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{PinKind, Stats, Store, StoreHealth};
use http::{Method, StatusCode};

use crate::headers::Headers;
use crate::routes::{Part, Route};

/// What a request asks for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Operation {
    /// Refused before it was understood, or a method that its route does not have.
    Unknown,
    Account,
    Health,
    Metrics,
    Databases,
    Containers,
    Offers,
    Ranges,
    Create,
    Read,
    Upsert,
    Replace,
    Patch,
    Delete,
    Batch,
    Query,
    QueryPlan,
    List,
    Changes,
    PartitionDelete,
    Explorer,
    Checkpoint,
}

impl Operation {
    const ALL: [(Operation, &'static str); 22] = [
        (Operation::Unknown, "unknown"),
        (Operation::Account, "account"),
        (Operation::Health, "health"),
        (Operation::Metrics, "metrics"),
        (Operation::Databases, "databases"),
        (Operation::Containers, "containers"),
        (Operation::Offers, "offers"),
        (Operation::Ranges, "ranges"),
        (Operation::Create, "create"),
        (Operation::Read, "read"),
        (Operation::Upsert, "upsert"),
        (Operation::Replace, "replace"),
        (Operation::Patch, "patch"),
        (Operation::Delete, "delete"),
        (Operation::Batch, "batch"),
        (Operation::Query, "query"),
        (Operation::QueryPlan, "query_plan"),
        (Operation::List, "list"),
        (Operation::Changes, "changes"),
        (Operation::PartitionDelete, "partition_delete"),
        (Operation::Explorer, "explorer"),
        (Operation::Checkpoint, "checkpoint"),
    ];

    /// What a request that was understood asks for.
    pub(crate) fn of(route: &Route, method: &Method, headers: Headers<'_>) -> Operation {
        let part = match route {
            Route::Account => return Operation::Account,
            Route::Health => return Operation::Health,
            Route::Metrics => return Operation::Metrics,
            Route::Explorer(_) => return Operation::Explorer,
            Route::Checkpoint => return Operation::Checkpoint,
            Route::Databases | Route::Database(_) => return Operation::Databases,
            Route::Containers(_) => return Operation::Containers,
            Route::Offers | Route::Offer(_) => return Operation::Offers,
            Route::LeftOut(_) => return Operation::Unknown,
            Route::Container(_, part) => part,
        };
        match (part, method) {
            (Part::Itself, _) => Operation::Containers,
            (Part::Ranges, _) => Operation::Ranges,
            (Part::PartitionKeyDelete, _) => Operation::PartitionDelete,
            (Part::Items, &Method::GET) if headers.is_change_feed() => Operation::Changes,
            (Part::Items, &Method::GET) => Operation::List,
            (Part::Items, &Method::POST) if headers.is_query_plan() => Operation::QueryPlan,
            (Part::Items, &Method::POST) if headers.is_query() => Operation::Query,
            (Part::Items, &Method::POST) if headers.is_batch() => Operation::Batch,
            (Part::Items, &Method::POST) if headers.is_upsert() => Operation::Upsert,
            (Part::Items, &Method::POST) => Operation::Create,
            (Part::Item(_), &Method::GET) => Operation::Read,
            (Part::Item(_), &Method::PUT) => Operation::Replace,
            (Part::Item(_), &Method::PATCH) => Operation::Patch,
            (Part::Item(_), &Method::DELETE) => Operation::Delete,
            _ => Operation::Unknown,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        Operation::ALL.get(self as usize).map_or("unknown", |(_, name)| name)
    }
}

/// The statuses that are counted each for itself; any other is counted as 0.
const STATUSES: [u16; 24] = [
    0, 200, 201, 204, 207, 304, 400, 401, 404, 405, 408, 409, 410, 412, 413, 422, 424, 429, 449, 500, 501, 503, 507,
    403,
];

/// Upper bounds of the histogram of times, in microseconds; beyond the last is one more.
const TIMES_MICROS: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// All counters only ever grow, and order nothing else: `Relaxed` everywhere.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: [OfOperation; Operation::ALL.len()],
    /// Operations refused with 409 and 412, those of batches each for itself.
    conflicts: [AtomicU64; 2],
    recalled: AtomicU64,
    connections: AtomicUsize,
    connections_refused: AtomicU64,
    started: SystemTime,
}

#[derive(Debug, Default)]
struct OfOperation {
    statuses: [AtomicU64; STATUSES.len()],
    /// How many took at most each of [`TIMES_MICROS`] and longer than the one before.
    times: [AtomicU64; TIMES_MICROS.len() + 1],
    micros: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            operations: Default::default(),
            conflicts: Default::default(),
            recalled: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            connections_refused: AtomicU64::new(0),
            started: SystemTime::now(),
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, operation: Operation, status: StatusCode, took: Duration) {
        let Some(of) = self.operations.get(operation as usize) else { return };
        let status = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(0);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let time = TIMES_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(TIMES_MICROS.len());
        if let (Some(status), Some(time)) = (of.statuses.get(status), of.times.get(time)) {
            status.fetch_add(1, Ordering::Relaxed);
            time.fetch_add(1, Ordering::Relaxed);
        }
        of.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Counts an operation on an item that was refused for what was there.
    pub(crate) fn refused(&self, status: StatusCode) {
        match status {
            StatusCode::CONFLICT => self.conflicts[0].fetch_add(1, Ordering::Relaxed),
            StatusCode::PRECONDITION_FAILED => self.conflicts[1].fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Counts a write that had been done before.
    pub(crate) fn recalled(&self) {
        self.recalled.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes down how many connections there are, and how many were refused since the start.
    pub(crate) fn connections(&self, open: usize, refused: u64) {
        self.connections.store(open, Ordering::Relaxed);
        self.connections_refused.store(refused, Ordering::Relaxed);
    }

    /// Adds the server's own figures to those of the store, for the explorer.
    pub(crate) fn figures(&self, value: &mut serde_json::Value) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests: serde_json::Map<String, serde_json::Value> = Operation::ALL
            .iter()
            .zip(&self.operations)
            .map(|((_, name), of)| ((*name).to_owned(), of.times.iter().map(count).sum::<u64>().into()))
            .collect();
        value["requests"] = requests.into();
        value["conflicts"] = count(&self.conflicts[0]).into();
        value["preconditionsFailed"] = count(&self.conflicts[1]).into();
        value["connections"] = self.connections.load(Ordering::Relaxed).into();
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        value["startedMs"] = u64::try_from(started).unwrap_or(u64::MAX).into();
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, store: &Store) -> String {
        let mut text = Text(String::with_capacity(16 * 1024));
        self.render_requests(&mut text);
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        text.family("etagdb_conflicts_total", "counter", "Operations refused with 409 (exists) or 412 (precondition).");
        text.line("etagdb_conflicts_total", "kind=\"exists\"", &value(&self.conflicts[0]));
        text.line("etagdb_conflicts_total", "kind=\"precondition\"", &value(&self.conflicts[1]));
        text.one(
            "etagdb_idempotent_replays_total",
            "counter",
            "Writes sent again with their Idempotency-Key, and answered from memory.",
            &value(&self.recalled),
        );
        text.one(
            "etagdb_http_connections",
            "gauge",
            "Open connections.",
            &self.connections.load(Ordering::Relaxed).to_string(),
        );
        text.one(
            "etagdb_http_connections_refused_total",
            "counter",
            "Connections refused because of their limit.",
            &value(&self.connections_refused),
        );
        render_store(&mut text, &store.stats(), store.health() == StoreHealth::Healthy);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        text.one(
            "process_start_time_seconds",
            "gauge",
            "When the server started, in seconds since 1970.",
            &format!("{started:.3}"),
        );
        text.family("etagdb_build_info", "gauge", "The version of the server.");
        text.line("etagdb_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), "1");
        text.0
    }

    fn render_requests(&self, text: &mut Text) {
        let name = "etagdb_http_requests_total";
        text.family(name, "counter", "Answers by operation and status; status 0 is any that is not listed.");
        for ((_, label), of) in Operation::ALL.iter().zip(&self.operations) {
            for (status, count) in STATUSES.iter().zip(&of.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = format!("operation=\"{label}\",status=\"{status}\"");
                    text.line(name, &labels, &count.to_string());
                }
            }
        }
        let name = "etagdb_http_request_seconds";
        text.family(name, "histogram", "Time from a request's head to its answer, waiting for the disk included.");
        for ((_, label), of) in Operation::ALL.iter().zip(&self.operations) {
            let times: Vec<u64> = of.times.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let all: u64 = times.iter().sum();
            if all == 0 {
                continue;
            }
            let ranges = TIMES_MICROS.iter().zip(&times).map(|(bound, count)| (seconds(*bound).to_string(), *count));
            let sum = seconds(of.micros.load(Ordering::Relaxed)).to_string();
            text.histogram(name, &format!("operation=\"{label}\""), ranges, all, &sum);
        }
    }
}

fn render_store(text: &mut Text, stats: &Stats, writable: bool) {
    let number: fn(u64) -> String = |value| value.to_string();
    let group_seconds = stats.group_time.as_secs_f64();
    let age = stats.pins.iter().map(|pin| pin.since).min().map(|since| since.elapsed().unwrap_or_default());
    let age = age.unwrap_or_default().as_secs_f64();
    for (name, kind, help, value) in [
        ("last_commit", "gauge", "The newest commit.", number(stats.last_commit.get())),
        ("commits_total", "counter", "Writes committed since the store was opened.", number(stats.commits)),
        ("commit_groups_total", "counter", "Groups in which they went to disk.", number(stats.groups)),
        (
            "commit_groups_seconds_total",
            "counter",
            "Time spent writing and syncing them.",
            format!("{group_seconds:.6}"),
        ),
        ("queued_bytes", "gauge", "Bytes of bodies that wait to be written.", number(stats.queued_bytes as u64)),
        (
            "unapplied_bytes",
            "gauge",
            "Bytes of rows in the log that RocksDB does not have yet.",
            number(stats.unapplied_bytes as u64),
        ),
        ("document_cache_hits_total", "counter", "Reads answered from memory.", number(stats.cache_hits)),
        ("document_cache_misses_total", "counter", "Reads that were not.", number(stats.cache_misses)),
        ("watermark", "gauge", "The oldest commit that somebody reads at.", number(stats.watermark.get())),
        ("watermark_age_seconds", "gauge", "How long what holds it has been there.", format!("{age:.3}")),
        ("waiting_feeds", "gauge", "Change feeds that wait for a commit.", number(stats.waiting_feeds as u64)),
        ("versions", "gauge", "About how many version rows there are.", number(stats.versions_estimate)),
        ("versions_bytes", "gauge", "Bytes of version rows in sorted files.", number(stats.versions_bytes)),
        ("writable", "gauge", "Whether the store takes writes.", number(u64::from(writable))),
    ] {
        text.one(&format!("etagdb_{name}"), kind, help, &value);
    }
    let micros: fn(u64) -> String = |micros| seconds(micros).to_string();
    for (name, help, histogram, shown) in [
        ("etagdb_commit_group_size", "Writes in a group that went to disk as one.", &stats.group_sizes, number),
        ("etagdb_sync_seconds", "Time to sync the log for a group.", &stats.sync_micros, micros),
    ] {
        text.family(name, "histogram", help);
        let bounded = histogram.ranges().filter(|(largest, _)| *largest < u64::MAX);
        let ranges = bounded.map(|(largest, count)| (shown(largest), count));
        text.histogram(name, "", ranges, histogram.count(), &shown(histogram.sum()));
    }
    text.family("etagdb_pins", "gauge", "What keeps old versions from being dropped.");
    let count = |wanted: fn(&PinKind) -> bool| stats.pins.iter().filter(|pin| wanted(&pin.kind)).count().to_string();
    text.line("etagdb_pins", "kind=\"snapshot\"", &count(|kind| matches!(kind, PinKind::Snapshot)));
    text.line("etagdb_pins", "kind=\"transaction\"", &count(|kind| matches!(kind, PinKind::Transaction)));
    text.line("etagdb_pins", "kind=\"cursor\"", &count(|kind| matches!(kind, PinKind::Cursor(_))));
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Prometheus's text format, version 0.0.4. Writing to a string cannot fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: &str) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// A histogram's lines. `ranges`: the largest quantity of each, in ascending order, and how many are in it.
    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        ranges: impl Iterator<Item = (String, u64)>,
        all: u64,
        sum: &str,
    ) {
        let bucket = format!("{name}_bucket");
        let separator = if labels.is_empty() { "" } else { "," };
        let mut up_to = 0;
        for (largest, count) in ranges {
            up_to += count;
            self.line(&bucket, &format!("{labels}{separator}le=\"{largest}\""), &up_to.to_string());
        }
        let all = all.to_string();
        self.line(&bucket, &format!("{labels}{separator}le=\"+Inf\""), &all);
        self.line(&format!("{name}_sum"), labels, sum);
        self.line(&format!("{name}_count"), labels, &all);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: &str) {
        self.family(name, kind, help);
        self.line(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_numbered_as_they_are_listed() {
        for (number, (operation, name)) in Operation::ALL.iter().enumerate() {
            assert_eq!((*operation as usize, operation.name()), (number, *name));
        }
    }

    #[test]
    fn times_fall_into_the_bucket_that_holds_them() {
        let metrics = Metrics::new();
        for micros in [0, 50, 51, 5_000_000, 5_000_001, u64::MAX] {
            metrics.answered(Operation::Read, StatusCode::OK, Duration::from_micros(micros));
        }
        let mut text = Text(String::new());
        metrics.render_requests(&mut text);
        for (bound, count) in [("0.00005", 2), ("0.0001", 3), ("1", 3), ("5", 4), ("+Inf", 6)] {
            let line = format!("etagdb_http_request_seconds_bucket{{operation=\"read\",le=\"{bound}\"}} {count}\n");
            assert!(text.0.contains(&line), "{line}{}", text.0);
        }
        assert!(text.0.contains("etagdb_http_requests_total{operation=\"read\",status=\"200\"} 6\n"));
    }
}
