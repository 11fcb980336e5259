//! What one page of a query cost: the metrics and index headers that clients ask for, and the request charge.
//!
//! Owns their form. The charge is no price: it grows with the work as the service's does, so that a test or a dashboard
//! that compares queries sees which of two does more.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::headers::Headers;
use crate::service::Reply;

/// What even the smallest query is charged.
const CHARGE_MIN: f64 = 2.3;
/// The charge for a document that was read, and for each KiB of it.
const CHARGE_DOCUMENT: f64 = 0.02;
const CHARGE_READ_KIB: f64 = 0.03;
/// The charge for an entry of an index that was passed.
const CHARGE_ENTRY: f64 = 0.002;
/// The charge for each KiB of the answer.
const CHARGE_OUTPUT_KIB: f64 = 0.05;

/// The work of one page, as it is done.
#[derive(Debug)]
pub(crate) struct Figures {
    /// When the page was begun.
    pub(crate) started: Instant,
    /// How long reading and checking the query took.
    pub(crate) compiled: Duration,
    /// Documents whose content was looked at.
    pub(crate) documents: u64,
    pub(crate) document_bytes: u64,
    /// Entries of an index, or keys of documents whose content did not matter, that were passed.
    pub(crate) entries: u64,
    /// Results on the page.
    pub(crate) results: u64,
    pub(crate) result_bytes: u64,
    /// How the documents were found.
    pub(crate) access: Access,
}

/// Which order of the items led to the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// The partition key's own, all of it or a part.
    Keys(Vec<String>),
    /// That of an index on one path.
    Single(String),
    /// That of an index on several: each path with `ASC` or `DESC`.
    Composite(Vec<String>),
}

impl Figures {
    /// Begins to count.
    pub(crate) fn begin() -> Figures {
        Figures {
            started: Instant::now(),
            compiled: Duration::ZERO,
            documents: 0,
            document_bytes: 0,
            entries: 0,
            results: 0,
            result_bytes: 0,
            access: Access::Keys(Vec::new()),
        }
    }

    /// How long it has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes that a document of this size was read.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.documents += 1;
        self.document_bytes += bytes as u64;
    }

    /// Request units, so to speak.
    pub(crate) fn charge(&self) -> f64 {
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        let reading = self.documents as f64 * CHARGE_DOCUMENT + kib(self.document_bytes) * CHARGE_READ_KIB;
        let charge =
            CHARGE_MIN + reading + self.entries as f64 * CHARGE_ENTRY + kib(self.result_bytes) * CHARGE_OUTPUT_KIB;
        (charge * 100.0).round() / 100.0
    }

    /// How much of what was read was of use: all of it when no document had to be read.
    fn ratio(&self) -> f64 {
        if self.documents == 0 { 1.0 } else { (self.results as f64 / self.documents as f64).min(1.0) }
    }

    fn metrics(&self) -> String {
        let ms = |duration: Duration| format!("{:.2}", duration.as_secs_f64() * 1000.0);
        let (total, compiled) = (self.elapsed(), self.compiled);
        let ran = total.saturating_sub(compiled);
        let entries = self.entries.max(self.results);
        format!(
            "totalExecutionTimeInMs={};queryCompileTimeInMs={};queryLogicalPlanBuildTimeInMs=0.00;\
             queryPhysicalPlanBuildTimeInMs=0.00;queryOptimizationTimeInMs=0.00;VMExecutionTimeInMs={};\
             indexLookupTimeInMs=0.00;instructionCount=0;documentLoadTimeInMs=0.00;systemFunctionExecuteTimeInMs=0.00;\
             userFunctionExecuteTimeInMs=0.00;retrievedDocumentCount={};retrievedDocumentSize={};\
             outputDocumentCount={};outputDocumentSize={};writeOutputTimeInMs=0.00;indexUtilizationRatio={:.2};\
             indexHitDocumentCount={entries}",
            ms(total),
            ms(compiled),
            ms(ran),
            self.documents,
            self.document_bytes,
            self.results,
            self.result_bytes,
            self.ratio(),
        )
    }

    /// What the query's access path was, in the shape of the service's index metrics.
    fn indexes(&self) -> Value {
        let single = |path: &str| {
            json!({
                "FilterExpression": "",
                "IndexSpec": path,
                "FilterPreciseSet": true,
                "IndexPreciseSet": true,
                "IndexImpactScore": "High",
            })
        };
        let (singles, composites) = match &self.access {
            // All of the keys are walked in the order of their hashes.
            Access::Keys(paths) if paths.is_empty() => (vec![single("/_epk/?")], Vec::new()),
            Access::Keys(paths) => (paths.iter().map(|path| single(&format!("{path}/?"))).collect(), Vec::new()),
            Access::Single(path) => (vec![single(&format!("{path}/?"))], Vec::new()),
            Access::Composite(paths) => {
                let composite = json!({
                    "IndexSpecs": paths,
                    "IndexPreciseSet": true,
                    "IndexImpactScore": "High",
                });
                (Vec::new(), vec![composite])
            }
        };
        json!({
            "UtilizedSingleIndexes": singles,
            "PotentialSingleIndexes": [],
            "UtilizedCompositeIndexes": composites,
            "PotentialCompositeIndexes": [],
        })
    }

    /// Adds to an answer what it cost, and what was asked about how it came about.
    pub(crate) fn put(&self, headers: Headers<'_>, mut reply: Reply) -> Reply {
        if headers.flag("x-ms-documentdb-populatequerymetrics") {
            reply = reply.header("x-ms-documentdb-query-metrics", &self.metrics());
        }
        if headers.flag("x-ms-cosmos-populateindexmetrics") {
            reply = reply.header("x-ms-cosmos-index-utilization", &STANDARD.encode(self.indexes().to_string()));
        }
        reply.header("x-ms-request-charge", &self.charge().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_work_is_charged_more() {
        let mut figures = Figures::begin();
        let least = figures.charge();
        figures.entries = 100;
        let passed = figures.charge();
        figures.read(2048);
        let read = figures.charge();
        figures.result_bytes = 4096;
        assert!(0.0 < least && least < passed && passed < read && read < figures.charge());
    }

    #[test]
    fn metrics_are_pairs_that_sdks_can_read() {
        let mut figures = Figures::begin();
        figures.entries = 3;
        let metrics = figures.metrics();
        for pair in metrics.split(';') {
            let (name, value) = pair.split_once('=').expect(pair);
            assert!(!name.is_empty() && value.parse::<f64>().is_ok(), "{pair}");
        }
        assert!(metrics.contains("retrievedDocumentCount=0") && metrics.contains("indexUtilizationRatio=1.00"));
        figures.read(10);
        figures.read(10);
        figures.results = 1;
        assert!(figures.metrics().contains("retrievedDocumentSize=20;outputDocumentCount=1"));
        assert!(figures.metrics().contains("indexUtilizationRatio=0.50"));
    }

    #[test]
    fn the_index_header_names_the_order_that_was_walked() {
        let mut figures = Figures::begin();
        assert_eq!(figures.indexes()["UtilizedSingleIndexes"][0]["IndexSpec"], "/_epk/?");
        figures.access = Access::Keys(vec!["/pk".into()]);
        assert_eq!(figures.indexes()["UtilizedSingleIndexes"][0]["IndexSpec"], "/pk/?");
        figures.access = Access::Composite(vec!["/a ASC".into(), "/b DESC".into()]);
        assert_eq!(figures.indexes()["UtilizedCompositeIndexes"][0]["IndexSpecs"], json!(["/a ASC", "/b DESC"]));
        assert_eq!(figures.indexes()["UtilizedSingleIndexes"], json!([]));
    }
}
