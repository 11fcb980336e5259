//! The table: figures side by side, the goal, and whether it is met.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Settings;
use crate::load::{Figures, Protocol, Workload};

pub(crate) struct Table {
    text: String,
    met: usize,
    missed: usize,
    /// Worker threads of each server.
    threads: usize,
    disturbed: usize,
}

/// The name of a row.
pub(crate) fn label(protocol: Protocol, workload: Workload, durability: &str, connections: usize) -> String {
    let protocol = match protocol {
        Protocol::Http1 => "h1",
        Protocol::Http2 => "h2",
    };
    let connections = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
    match workload {
        Workload::Get => format!("{protocol} GET, {connections}"),
        Workload::PutMatch => format!("{protocol} PUT, If-Match, {durability}, {connections}"),
    }
}

/// The least part of the constant's rate that will do.
fn goal(workload: Workload) -> f64 {
    match workload {
        Workload::Get => 0.7,
        Workload::PutMatch => 0.5,
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_nanos() as f64 / 1e3)
}

impl Table {
    pub(crate) fn new(threads: usize, pinned: bool, settings: &Settings, answer_bytes: usize) -> Table {
        let mut table = Table { text: String::new(), met: 0, missed: 0, threads, disturbed: 0 };
        let cores = if pinned { "cores of its own" } else { "SHARED cores" };
        table.line("# HTTP");
        table.line("");
        table.line(&format!(
            "Documents of {} bytes, answers of {answer_bytes}. Each server has {threads} worker threads on {cores}, the load \
             has {threads} more. One request at a time on each connection, every one signed with the account key. \
             The constant is hyper with the same settings, sent the same requests; it reads their bodies and answers \
             {answer_bytes} fixed bytes, with none of the protocol's dozen header fields. {} s a row, {} round(s). Times in microseconds; `cpu` is the server's processor time \
             for one answer, `busy` how many cores it kept busy.",
            settings.bytes, settings.seconds, settings.rounds
        ));
        table.line("");
        table.line("Made by `make bench-http`.");
        table.line("");
        table.line(&format!(
            "| {:<43} | constant/s | etagdb/s | ratio | goal | verdict | p50 | p99 | constant p50 | p99 | cpu | constant cpu | busy | constant busy |",
            "workload"
        ));
        table.line("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        table
    }

    pub(crate) fn row(
        &mut self,
        label: String,
        workload: Workload,
        connections: usize,
        constant: &Figures,
        ours: &Figures,
    ) {
        // So many connections keep the constant busy, unless something else is on its cores.
        self.disturbed += usize::from(connections >= 64 && constant.busy < 0.6 * self.threads as f64);
        let (ratio, goal) = (ours.rate / constant.rate, goal(workload));
        let verdict = if ratio >= goal { "met" } else { "missed" };
        *(if ratio >= goal { &mut self.met } else { &mut self.missed }) += 1;
        self.line(&format!(
            "| {label:<43} | {:>7.0} | {:>7.0} | {ratio:.2} | {goal} | {verdict} | {} | {} | {} | {} | {:.1} | {:.1} | {:.2} | {:.2} |",
            constant.rate,
            ours.rate,
            micros(ours.p50),
            micros(ours.p99),
            micros(constant.p50),
            micros(constant.p99),
            ours.cpu.as_nanos() as f64 / 1e3,
            constant.cpu.as_nanos() as f64 / 1e3,
            ours.busy,
            constant.busy,
        ));
    }

    /// A table beside the rows.
    pub(crate) fn lines(&mut self, lines: &[String]) {
        self.line("");
        lines.iter().for_each(|line| self.line(line));
    }

    pub(crate) fn finish(mut self) -> String {
        self.line("");
        self.line(&format!("Goals met: {}; missed: {}.", self.met, self.missed));
        if self.disturbed > 0 {
            self.line(&format!(
                "NOT TO BE TRUSTED: in {} rows something else took the servers' cores. Measure on a quiet machine.",
                self.disturbed
            ));
        }
        self.text
    }

    /// Each line is printed at once: the whole takes minutes.
    fn line(&mut self, line: &str) {
        println!("{line}");
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}
