//! `etagdb stats`: figures of a store and what its containers hold.

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use super::moment::rfc3339;
use super::place;
use super::style::{Look, Paint};
use super::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  Of a directory that no server has open:
    etagdb stats --data etagdb-data

  Of a running server, with commits and conflicts since it was started:
    etagdb stats --url http://127.0.0.1:8081

  For a program: how many versions are kept of each container's documents
    etagdb stats --data etagdb-data --json | jq '.containers[].size.versions'

Sizes are estimates that take milliseconds; small containers are counted. `/metrics` of a server has more, for \
Prometheus.";

/// Show what is in a store, and how it does.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    place: place::Args,

    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let place = args.place.open()?;
    let mut stats = place.value(&["_explorer", "api", "stats"])?;
    let mut space = place.value(&["_explorer", "api", "space"])?;
    let containers = space["containers"].take();
    if args.json {
        let Value::Object(members) = &mut stats else {
            return Err(Failure::Failed("the answer is not what a server of etagdb says".into()));
        };
        members.insert("containers".to_owned(), containers);
        return print(&json!(members).to_string());
    }
    print(&describe(&stats, containers.as_array().map_or(&[][..], Vec::as_slice)).join("\n"))
}

fn describe(stats: &Value, containers: &[Value]) -> Vec<String> {
    let paint = Paint::for_stdout();
    let count = |name: &str| HumanCount(stats[name].as_u64().unwrap_or_default()).to_string();
    let mut lines = vec![format!(
        "newest commit {}, {} versions in files, {} of them",
        count("lastCommit"),
        count("versionsEstimate"),
        HumanBytes(stats["versionsBytes"].as_u64().unwrap_or_default())
    )];
    if stats["writable"] == Value::Bool(false) {
        lines.push(paint.text(Look::Bad, "The store takes no writes."));
    }
    let (commits, groups) = (stats["commits"].as_u64().unwrap_or(0), stats["groups"].as_u64().unwrap_or(0));
    if let Some(micros) = stats["groupMicros"].as_u64().and_then(|all| all.checked_div(groups)) {
        let each = commits as f64 / groups as f64;
        lines.push(format!("{} commits since it was opened, {each:.1} to a sync of {micros} µs", HumanCount(commits)));
    }
    for pin in stats["pins"].as_array().into_iter().flatten() {
        let name = pin["name"].as_str().map(|name| format!(" {name:?}")).unwrap_or_default();
        let since = rfc3339(pin["sinceMs"].as_u64().unwrap_or(0));
        let kind = pin["kind"].as_str().unwrap_or("something");
        lines.push(paint.text(
            Look::Quiet,
            &format!("versions since commit {} are kept for a {kind}{name} of {since}", pin["seq"]),
        ));
    }
    if containers.is_empty() {
        lines.push("no containers".to_owned());
        return lines;
    }
    let names = containers.iter().map(|one| format!("{}/{}", word(&one["database"]), word(&one["container"])));
    let names: Vec<String> = names.collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("container".len());
    let head = format!(
        "{:width$}  {:>14}  {:>14}  {:>12}  {:>12}  past kept",
        "container", "documents", "versions", "in documents", "on disk"
    );
    lines.push(paint.text(Look::Strong, &head));
    for (name, one) in names.iter().zip(containers) {
        let size = &one["size"];
        let about = if size["isExact"] == Value::Bool(true) { "" } else { "~" };
        let number = |name: &str| match size[name].as_u64() {
            Some(number) => format!("{about}{}", HumanCount(number)),
            None => "?".to_owned(),
        };
        let bytes = |name: &str| size[name].as_u64().map_or("?".to_owned(), |bytes| HumanBytes(bytes).to_string());
        let kept = match one["retentionMs"].as_u64() {
            Some(time) => format!("{} s", time / 1000),
            None => "all".to_owned(),
        };
        let row = format!(
            "{name:width$}  {:>14}  {:>14}  {:>12}  {:>12}  {kept}",
            number("documents"),
            number("versions"),
            bytes("documentBytes"),
            bytes("diskBytes"),
        );
        // A name that somebody chose must not speak to the terminal.
        lines.push(row.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect());
    }
    lines
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
