//! How far a command is, on standard error: a bar on a terminal, otherwise a line now and then.

use std::fs;
use std::io::{IsTerminal, stderr};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How often a copy's size is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Rows,
    Documents,
}

/// Shows how far a command is; the terminal is as it was when this goes.
#[derive(Debug)]
pub(super) struct Gauge {
    command: &'static str,
    unit: Unit,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    line: Instant,
}

impl Gauge {
    /// Begins at nothing of about `total`, if that is known.
    pub(super) fn new(command: &'static str, unit: Unit, total: Option<u64>) -> Gauge {
        let total = total.filter(|&total| total > 0);
        let bar = stderr().is_terminal().then(|| bar(total));
        Gauge { command, unit, total, bar, line: Instant::now() }
    }

    /// Learns the total later.
    pub(super) fn expect(&mut self, total: u64) {
        if self.total.is_none() && total > 0 {
            *self = Gauge::new(self.command, self.unit, Some(total));
        }
    }

    /// Shows the present state.
    pub(super) fn show(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            // An estimate that was too low must not show more than all of it.
            bar.set_position(self.total.map_or(done, |total| done.min(total)));
            bar.set_message(self.count(done));
        } else if self.line.elapsed() >= LINE_INTERVAL {
            self.line = Instant::now();
            let share = self.total.map(|total| format!("{:.0} %, ", 100.0 * done.min(total) as f64 / total as f64));
            eprintln!("etagdb: {}: {}{}", self.command, share.unwrap_or_default(), self.count(done));
        }
    }

    fn count(&self, done: u64) -> String {
        match self.unit {
            Unit::Bytes => HumanBytes(done).to_string(),
            Unit::Rows => format!("{} rows", HumanCount(done)),
            Unit::Documents => format!("{} documents", HumanCount(done)),
        }
    }

    /// Runs `work`, which fills `directory`, and shows the bytes in it meanwhile.
    pub(super) fn watch<T: Send>(&mut self, directory: &Path, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                // Hung up when the work ends, in whichever way.
                let _working = sender;
                work()
            });
            while receiver.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                self.show(bytes_in(directory));
            }
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The bytes of all files in a directory, as far as it can be read.
pub(super) fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            // It went while we looked.
            Err(_) => 0,
        })
        .sum()
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {percent:>3} %  {msg}  {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
