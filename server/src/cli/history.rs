//! `etagdb history`: the versions of one document.

use serde_json::json;

use super::item::{self, Event, events};
use super::moment::rfc3339;
use super::style::{Look, Paint};
use super::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  What happened to a document, newest first:
    etagdb history --data etagdb-data --database shop --container products p1

  One that was deleted, which is found by its partition key:
    etagdb history --data etagdb-data --database shop --container products --partition books p2

  For a program, of a running server:
    etagdb history --url http://127.0.0.1:8081 --database shop --container products --json p1

`etagdb get --at ETAG` prints a version, `etagdb why ETAG` says what changed since. How long superseded versions are \
kept is a setting of the container, ten minutes unless it says otherwise.";

/// List the versions of one document, deletions included.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    item: item::Args,

    /// Print the list as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Reads and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let item = args.item.open(None)?;
    let versions = item.versions()?;
    let Some(oldest) = versions.last() else {
        return Err(Failure::Failed(format!("there never was a document {}", item.name())));
    };
    let are_older_dropped = oldest.previous.is_some();
    let current = item.read(None)?.ok().and_then(|answer| answer.header("etag").map(str::to_owned));
    let current = current.as_deref().map(|etag| etag.trim_matches('"'));
    if args.json {
        let list = events(&versions).map(|(version, event)| {
            json!({
                "etag": version.etag(),
                "commit": version.commit,
                "time": rfc3339(version.time_ms),
                "event": event,
                "bytes": version.body_bytes,
                "current": current == Some(version.etag()),
            })
        });
        let list: Vec<_> = list.collect();
        return print(&json!({ "id": args.item.id, "versions": list, "olderDropped": are_older_dropped }).to_string());
    }
    let paint = Paint::for_stdout();
    let mut lines = vec![paint.text(Look::Quiet, &format!("{:24}  {:>8}  {:36}  what", "time", "commit", "etag"))];
    for (version, event) in events(&versions) {
        let is_current = current == Some(version.etag());
        let what = match event {
            Event::Deleted => "deleted".to_owned(),
            event => format!("{}, {} bytes", event.word(), version.body_bytes),
        };
        let line = format!("{}  {:>8}  {}  {what}", rfc3339(version.time_ms), version.commit, version.etag());
        lines.push(match event {
            _ if is_current => paint.text(Look::Good, &format!("{line}, current")),
            Event::Deleted => paint.text(Look::Bad, &line),
            _ => line,
        });
    }
    if current.is_none() && versions.first().is_some_and(|newest| !newest.deleted) {
        lines.push(paint.text(Look::Quiet, "The newest version has expired: there is no document now."));
    }
    if are_older_dropped {
        lines.push(paint.text(Look::Quiet, "What was before has been dropped by retention."));
    }
    print(&lines.join("\n"))
}
