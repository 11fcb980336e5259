//! etagdb beside raw RocksDB in one run: throughput and latency of many threads, scans, space, opening, and memory.
//! Prints one aligned table with goals and verdicts, and keeps it in `benches/results`.
//!
//! `cargo bench --bench throughput -- [--quick] [--seconds S] [--rounds R] [--documents N] [--open N] [--soak S]
//! [--only TEXT]`; with `--only`, the lines whose name contains the text are measured, and replaced in the results.
//! A quick run is not kept.

mod compare;
mod open;
mod settings;
mod soak;
mod state;
mod workloads;

use std::path::Path;
use std::process::ExitCode;

use bench_support::{Line, Others, Results, machine, summary, table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::settings::Settings;

/// So much of the processors may be taken by others, the kernel's own work for us included.
const NOISE: f64 = 0.1;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    // This program starts itself to be killed, or to be watched.
    match arguments.peek().map(String::as_str) {
        Some(open::CHILD) => open::child(arguments.skip(1)),
        Some(soak::CHILD) => soak::child(arguments.skip(1)),
        _ => match Settings::from_arguments(arguments) {
            Ok(settings) => measure(&settings),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

fn measure(settings: &Settings) {
    let sets = compare::sets(settings);
    let mut order: Vec<String> = sets.iter().flat_map(|set| set.names().collect::<Vec<_>>()).collect();
    order.extend(state::NAMES.map(str::to_owned));
    order.extend(open::line_names(settings));
    order.extend(soak::NAMES.map(str::to_owned));
    let wanted = order.iter().filter(|name| settings.wants(name)).count();
    // Shown on terminals only.
    let progress = ProgressBar::new(wanted as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} lines, {elapsed}, {eta} to go");
    progress.set_style(style.expect("a template of known fields"));
    progress.enable_steady_tick(std::time::Duration::from_millis(200));
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let machine = machine(&std::env::temp_dir());
    let mut lines: Vec<Line> = Vec::new();
    let mut others = Others::from_now();
    let mut show = |line: Line| {
        let line = Line { others: others.part(), ..line };
        if settings.wants(&line.name) {
            progress.suspend(|| println!("{}", summary(&line)));
            progress.inc(1);
            lines.push(line);
            // Each line at once: who breaks off a run keeps what there is of it.
            if !settings.is_quick {
                Results::save(&results, &machine, &lines, &order).expect("keep the results");
            }
        }
    };
    for set in sets {
        set.measure(settings, &mut show);
    }
    state::measure(settings, &mut show);
    open::measure(settings, &mut show);
    soak::measure(settings, &mut show);
    progress.finish_and_clear();
    println!("\n{}", table(&lines));
    let missed = lines.iter().filter(|line| line.is_met() == Some(false)).count();
    let met = lines.iter().filter(|line| line.is_met() == Some(true)).count();
    println!("{met} goals met, {missed} missed");
    let noisy = lines.iter().filter(|line| line.others > NOISE).count();
    if noisy > 0 {
        println!("NOT A QUIET MACHINE: in {noisy} lines other processes took more than a tenth of the processors");
    }
}
