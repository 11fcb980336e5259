//! `etagdb verify`: re-reads a store, and compares its indexes with its items.

use std::path::PathBuf;

use etagdb::Options;
use etagdb_server::verify_indexes;
use serde_json::json;

use super::gauge::{Gauge, Unit};
use super::style::{Look, Paint};
use super::{Failure, print, store_failure};

const EXAMPLES: &str = "\
Examples:
  Check a store or a checkpoint that no server has open:
    etagdb verify --data etagdb-data

  In a script, which goes on only if nothing is wrong:
    etagdb verify --data backups/monday --json > report.json \\
        && etagdb restore backups/monday --data etagdb-data

Reads every version of every document, compares the history with the commit order and indexes with documents, both \
ways. Exits with 1 if something is wrong, and lists it.";

/// Read everything in a directory that no server has open, and say what is wrong. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory of the store.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Verifies and prints; fails when something is wrong.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let options = Options::default().create_if_missing(false).read_only(true);
    let store = options
        .open(&args.data)
        .map_err(|error| store_failure(&args.data, &error, "if that is a server, stop it first"))?;
    let failed = |error: etagdb::Error| Failure::Failed(error.to_string());
    let mut gauge = Gauge::new("verify", Unit::Rows, None);
    let report = store.verify(|progress| {
        gauge.expect(progress.rows_estimate);
        gauge.show(progress.rows);
    });
    let report = report.map_err(failed)?;
    let indexes = verify_indexes(&store).map_err(failed)?;
    drop(gauge);
    let paint = Paint::for_stdout();
    let problems: Vec<String> =
        report.problems.iter().map(ToString::to_string).chain(indexes.problems.iter().cloned()).collect();
    let unlisted =
        report.problems_not_listed + (indexes.missing + indexes.stray).saturating_sub(indexes.problems.len() as u64);
    let sound = report.is_sound() && indexes.is_sound();
    let text = if args.json {
        json!({
            "sound": sound,
            "commits": report.commits,
            "documents": report.documents,
            "versions": report.versions,
            "collections": report.collections,
            "indexes": indexes.indexes,
            "indexEntries": indexes.entries,
            "indexEntriesMissing": indexes.missing,
            "indexEntriesStray": indexes.stray,
            "problems": problems,
            "problemsNotListed": unlisted,
        })
        .to_string()
    } else {
        let mut lines: Vec<String> = problems.iter().map(|problem| paint.text(Look::Bad, problem)).collect();
        if unlisted > 0 {
            lines.push(format!("and {unlisted} more"));
        }
        lines.push(format!(
            "{} commits, {} documents in {} versions, {} collections, {} indexes with {} entries: {}",
            report.commits,
            report.documents,
            report.versions,
            report.collections,
            indexes.indexes,
            indexes.entries,
            if sound { paint.text(Look::Good, "sound") } else { paint.text(Look::Bad, "not sound") }
        ));
        lines.join("\n")
    };
    print(&text)?;
    if sound { Ok(()) } else { Err(Failure::Failed(format!("the store in {} is damaged", args.data.display()))) }
}
