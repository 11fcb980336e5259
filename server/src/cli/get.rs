//! `etagdb get`: one document, now or as it was.

use super::item;
use super::place::as_of;
use super::text::{LINKS, pretty, without};
use super::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  A document, found by its id:
    etagdb get --data etagdb-data --database shop --container products p1

  By id and partition key, which reads nothing else and tells documents of one id apart:
    etagdb get --data etagdb-data --database shop --container products --partition books p1

  As it was: at a time, after a commit, or in the version that an etag names:
    etagdb get --url http://127.0.0.1:8081 --database shop --container products \\
        --partition books --at 2026-11-01T00:00:00Z p1

`etagdb history` lists the versions there are. Exits with 1 if there is no such document then.";

/// Print one document.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    item: item::Args,

    /// Read the past: a commit sequence, a time or an etag.
    #[arg(long, value_name = "SEQ|TIME|ETAG")]
    at: Option<String>,

    /// Print it on one line.
    #[arg(long)]
    json: bool,
}

/// Reads and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let at = args.at.as_deref().map(as_of);
    let item = args.item.open(at.as_deref())?;
    let answer = item.read(at.as_deref())?.map_err(|why| match at {
        // It says whether there was none, or whether it is no longer kept.
        Some(_) => format!("{}: {why}", item.name()),
        None => format!("there is no document {}; `etagdb history` tells whether there was", item.name()),
    })?;
    let unreadable = |error: &dyn std::fmt::Display| Failure::Failed(format!("the document is no JSON: {error}"));
    let text = std::str::from_utf8(&answer.body).map_err(|error| unreadable(&error))?;
    let text = without(text, &LINKS).map_err(|error| unreadable(&error))?;
    print(&if args.json { text } else { pretty(&text) })
}
