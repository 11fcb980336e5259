//! What the user sees while an import runs, and the summary at its end.
//!
//! On a terminal a bar, otherwise a line now and then; both on standard error, so that standard output carries only the
//! summary.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::journal::Tally;
use super::window::Progress;

/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows how far an import is.
#[derive(Debug)]
pub(super) struct Display {
    bar: Option<ProgressBar>,
    begun: Instant,
    from: u64,
    size: Option<u64>,
    line: Instant,
}

impl Display {
    /// Starts at `from` bytes of an input of `size` bytes, if that is known.
    pub(super) fn new(from: u64, size: Option<u64>) -> Display {
        let begun = Instant::now();
        let bar = stderr().is_terminal().then(|| bar(size));
        Display { bar, begun, from, size, line: begun }
    }

    /// Shows the present state.
    pub(super) fn show(&mut self, progress: &Progress) {
        let offset = progress.position.offset;
        if let Some(bar) = &self.bar {
            bar.set_position(offset);
            bar.set_message(self.describe(progress));
        } else if self.line.elapsed() >= LINE_INTERVAL {
            self.line = Instant::now();
            let share = match self.size {
                Some(size) if size > 0 => format!("{:.0} %, ", 100.0 * offset as f64 / size as f64),
                _ => format!("{}, ", HumanBytes(offset)),
            };
            eprintln!("etagdb: import: {share}{}", self.describe(progress));
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn describe(&self, progress: &Progress) -> String {
        let stored = progress.run.stored();
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut text = format!("{} documents, {}/s", HumanCount(stored), HumanCount(rate(stored, seconds)));
        if progress.run.skipped > 0 {
            text.push_str(&format!(", {} bad", HumanCount(progress.run.skipped)));
        }
        if let Some(left) = self.time_left(progress.position.offset, seconds) {
            text.push_str(&format!(", {} left", HumanDuration(left)));
        }
        text
    }

    /// Judges by the bytes, since nobody knows how many documents are left.
    fn time_left(&self, offset: u64, seconds: f64) -> Option<Duration> {
        let done = offset.saturating_sub(self.from);
        let left = self.size?.saturating_sub(offset);
        if done == 0 || seconds < 1.0 {
            return None;
        }
        Duration::try_from_secs_f64(seconds * left as f64 / done as f64).ok()
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{wide_bar} {percent:>3} %  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn rate(documents: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (documents as f64 / seconds).round() as u64 } else { 0 }
}

/// What an import did; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The database.
    pub(super) database: String,
    /// The container.
    pub(super) container: String,
    /// Whether the whole input is in.
    pub(super) complete: bool,
    /// Documents this run has stored.
    pub(super) documents: u64,
    /// Those that were not there before.
    pub(super) created: u64,
    /// Those that took the place of another.
    pub(super) replaced: u64,
    /// Bad documents passed over in this run.
    pub(super) skipped: u64,
    /// Documents of the input that an earlier run had settled.
    pub(super) resumed_after: u64,
    /// How long this run took.
    pub(super) seconds: f64,
    /// How fast it was.
    pub(super) documents_per_second: u64,
    /// The first few bad documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) bad: Vec<String>,
    /// Why the import is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Summary {
    /// Fills in what a run did.
    pub(super) fn new(database: &str, container: &str, run: Tally, resumed_after: u64, took: Duration) -> Summary {
        let seconds = took.as_secs_f64();
        Summary {
            database: database.to_owned(),
            container: container.to_owned(),
            complete: false,
            documents: run.stored(),
            created: run.created,
            replaced: run.replaced,
            skipped: run.skipped,
            resumed_after,
            seconds: (seconds * 1000.0).round() / 1000.0,
            documents_per_second: rate(run.stored(), seconds),
            bad: Vec::new(),
            error: None,
        }
    }

    /// Says it in one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "imported {} documents into {}/{} in {:.1} s, {}/s: {} created, {} replaced",
            HumanCount(self.documents),
            self.database,
            self.container,
            self.seconds,
            HumanCount(self.documents_per_second),
            HumanCount(self.created),
            HumanCount(self.replaced)
        );
        if self.skipped > 0 {
            line.push_str(&format!(", {} bad ones skipped", HumanCount(self.skipped)));
        }
        if self.resumed_after > 0 {
            line.push_str(&format!("; {} were in from an earlier run", HumanCount(self.resumed_after)));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line_with_what_happened() {
        let run = Tally { created: 1234, replaced: 1, skipped: 2 };
        let line = Summary::new("d", "c", run, 10, Duration::from_millis(500)).line();
        assert_eq!(
            line,
            "imported 1,235 documents into d/c in 0.5 s, 2,470/s: 1,234 created, 1 replaced, 2 bad ones skipped; \
             10 were in from an earlier run"
        );
    }

    #[test]
    fn the_time_left_is_judged_by_bytes_of_this_run() {
        let display = Display { bar: None, begun: Instant::now(), from: 100, size: Some(500), line: Instant::now() };
        assert_eq!(display.time_left(200, 2.0), Some(Duration::from_secs(6)));
        assert_eq!(display.time_left(100, 2.0), None);
        let unknown = Display { size: None, ..display };
        assert_eq!(unknown.time_left(200, 2.0), None);
    }
}
