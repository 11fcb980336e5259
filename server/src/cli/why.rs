//! `etagdb why`: what changed between a version of a document and now, path by path.

use etagdb::Etag;
use serde::Serialize;
use serde_json::{Value, json};

use super::difference::{Change, changes};
use super::item::{self, Event, Item, Version, events};
use super::moment::rfc3339;
use super::style::{Look, Paint};
use super::text::SYSTEM;
use super::{Failure, print};

/// A value in a line of text shows no more characters than this; `--json` shows all.
const VALUE_CHARACTERS_MAX: usize = 80;

const EXAMPLES: &str = "\
Examples:
  A write was refused with 412: what is different from the version it had read?
    etagdb why --data etagdb-data --database shop --container products \\
        p1 01234567-89ab-cdef-0000-000000000029

  The same for a program, of a running server:
    etagdb why --url http://127.0.0.1:8081 --database shop --container products --json \\
        --partition books p1 01234567-89ab-cdef-0000-000000000029

Says when the document was replaced, deleted or created again since, and every path whose value differs. Exits with 1 \
if the etag names no version of the document, or one that retention has dropped.";

/// Say what changed between a version of a document and now.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    item: item::Args,

    /// The version's etag, with or without quotes.
    #[arg(value_name = "ETAG", value_parser = parse_etag)]
    etag: Etag,

    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_etag(text: &str) -> Result<Etag, String> {
    text.trim_matches('"').parse().map_err(|error: etagdb::ParseEtagError| error.to_string())
}

/// What became of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fate {
    /// The version is the current one.
    Current,
    /// It was replaced, and is the same document.
    Replaced,
    /// It was deleted, and another was created.
    Recreated,
    /// It was deleted.
    Deleted,
    /// Its time to live is over.
    Expired,
}

/// Compares and prints.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let item = args.item.open(None)?;
    let versions = item.versions()?;
    let etag = args.etag.to_string();
    let Some(place) = versions.iter().position(|version| version.etag() == etag) else {
        return Err(Failure::Failed(missing(&item, &versions, args.etag)?));
    };
    let (since, from) = (&versions[..place], &versions[place]);
    let was = match from.deleted {
        true => None,
        false => {
            let answer = item.read(Some(&format!("\"{etag}\"")))?;
            Some(text(&answer.map_err(|why| format!("{}: {why}", item.name()))?.body)?)
        }
    };
    let is = item.read(None)?.ok().map(|answer| text(&answer.body)).transpose()?;
    let fate = match (&is, since.is_empty()) {
        (Some(_), true) => Fate::Current,
        (Some(_), false) if from.deleted || since.iter().any(|version| version.deleted) => Fate::Recreated,
        (Some(_), false) => Fate::Replaced,
        (None, _) if versions.first().is_some_and(|newest| newest.deleted) => Fate::Deleted,
        (None, _) => Fate::Expired,
    };
    let found = match (&was, &is) {
        (Some(was), Some(is)) => {
            changes(was, is, &SYSTEM).map_err(|error| format!("the document is no JSON: {error}"))?
        }
        _ => Vec::new(),
    };
    let story: Vec<_> = events(&versions).take(place).collect();
    if args.json {
        return print(&report(args, from, &story, fate, &found)?);
    }
    print(&describe(from, &story, fate, &found).join("\n"))
}

fn text(body: &[u8]) -> Result<String, Failure> {
    String::from_utf8(body.to_vec()).map_err(|_| Failure::Failed("the document is not UTF-8".into()))
}

/// Why the etag is not among the versions.
fn missing(item: &Item<'_>, versions: &[Version], etag: Etag) -> Result<String, Failure> {
    let name = item.name();
    let Some(oldest) = versions.last() else {
        return Ok(format!("there never was a document {name}"));
    };
    let why = match item.read(Some(&format!("\"{etag}\"")))? {
        Err(why) => why,
        // It was dropped or written between two questions.
        Ok(_) => "the document changed meanwhile; ask again".to_owned(),
    };
    let kept = format!("the oldest version that is kept is {} of {}", oldest.etag(), rfc3339(oldest.time_ms));
    Ok(match oldest.previous {
        Some(_) => format!(
            "the etag {etag} is not among the versions of {name}: {why} Retention has dropped older versions; {kept}"
        ),
        None => format!("the etag {etag} is not among the versions of {name}: {why}"),
    })
}

/// The answer for a program.
#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    fate: Fate,
    from: Value,
    now: Value,
    since: Vec<Value>,
    changes: &'a [Change],
}

fn report(
    args: &Args,
    from: &Version,
    story: &[(&Version, Event)],
    fate: Fate,
    found: &[Change],
) -> Result<String, Failure> {
    let version = |version: &Version| json!({ "etag": version.etag(), "commit": version.commit, "time": rfc3339(version.time_ms), "deleted": version.deleted });
    let now = story.first().map_or(from, |(newest, _)| newest);
    let since = story.iter().rev().map(|(version, event)| {
        json!({ "etag": version.etag(), "commit": version.commit, "time": rfc3339(version.time_ms), "event": event })
    });
    let report = Report {
        id: &args.item.id,
        fate,
        from: version(from),
        now: version(now),
        since: since.collect(),
        changes: found,
    };
    serde_json::to_string(&report).map_err(|error| Failure::Failed(format!("cannot write the answer: {error}")))
}

fn describe(from: &Version, story: &[(&Version, Event)], fate: Fate, found: &[Change]) -> Vec<String> {
    let paint = Paint::for_stdout();
    let when = |version: &Version| format!("at {} (commit {})", rfc3339(version.time_ms), version.commit);
    let begin = if from.deleted { "The etag is that of a deletion" } else { "The version was written" };
    let mut lines = vec![format!("{begin} {}.", when(from))];
    let verdict = match fate {
        Fate::Current => "It is the current one: nothing has changed.",
        Fate::Replaced => "The document has been replaced since:",
        Fate::Recreated => "The document that was has been deleted, and there is another one now:",
        Fate::Deleted if story.is_empty() => "There is no document now.",
        Fate::Deleted => "The document has been deleted since:",
        Fate::Expired => "The document has expired: its time to live is over.",
    };
    lines.push(paint.text(Look::Strong, verdict));
    for (version, event) in story.iter().rev() {
        let line = format!("  {} {}, etag {}", event.word(), when(version), version.etag());
        lines.push(paint.text(if *event == Event::Deleted { Look::Bad } else { Look::Quiet }, &line));
    }
    match (fate, found) {
        (Fate::Replaced | Fate::Recreated, []) if !from.deleted => {
            lines.push("It says the same as it did then.".to_owned());
        }
        (_, []) => {}
        (_, [_]) => lines.push("One place differs:".to_owned()),
        (_, found) => lines.push(format!("{} places differ:", found.len())),
    }
    lines.extend(found.iter().map(|change| {
        let path = if change.path.is_empty() { "the document" } else { &change.path };
        match (&change.was, &change.is) {
            (Some(was), Some(is)) => {
                paint.text(Look::Strong, &format!("  {path} was {}, is {}", short(was), short(is)))
            }
            (None, Some(is)) => paint.text(Look::Good, &format!("  {path} is new: {}", short(is))),
            (Some(was), None) => paint.text(Look::Bad, &format!("  {path} is gone; it was {}", short(was))),
            (None, None) => format!("  {path}"),
        }
    }));
    lines
}

/// A value on one line, cut where it is long.
fn short(json: &str) -> String {
    let line: String = json.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().nth(VALUE_CHARACTERS_MAX).is_none() {
        return line;
    }
    line.chars().take(VALUE_CHARACTERS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        assert_eq!(short("{\"a\":\n  1}"), "{\"a\": 1}");
        assert_eq!(short(&"ä".repeat(200)).chars().count(), VALUE_CHARACTERS_MAX);
    }
}
