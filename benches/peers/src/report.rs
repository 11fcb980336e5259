//! The results: kept as JSON, from which the tables and the chart are made. Measures nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::drive::COLUMNS;
use crate::engine::Result;
use crate::engines::{OURS, PEERS, Peer, YARDSTICK};
use crate::picture::{self, Bar, BarPanel, Role};
use crate::settings::Settings;

/// What one engine did.
#[derive(Default)]
pub(crate) struct Measured {
    /// Operations a second by column, one for each round.
    figures: BTreeMap<String, Vec<f64>>,
    /// Acknowledged writes that were not there in the end.
    pub(crate) lost_updates: u64,
    /// Why columns are missing.
    pub(crate) failure: Option<String>,
}

impl Measured {
    pub(crate) fn add(&mut self, column: &str, figure: f64) {
        self.figures.entry(column.to_owned()).or_default().push(figure);
    }

    fn median(&self, column: &str) -> Option<f64> {
        let mut figures = self.figures.get(column)?.clone();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    }

    fn to_json(&self, peer: &Peer) -> Value {
        let rounded = |figures: &Vec<f64>| figures.iter().map(|figure| figure.round() as u64).collect::<Vec<_>>();
        json!({
            "version": version_of(peer.package),
            "operations_per_second": self.figures.iter().map(|(name, f)| (name.clone(), json!(rounded(f)))).collect::<serde_json::Map<_, _>>(),
            "lost_updates": self.lost_updates,
            "failure": self.failure,
        })
    }

    fn from_json(json: &Value) -> Option<Measured> {
        let mut figures = BTreeMap::new();
        for (column, rounds) in json.get("operations_per_second")?.as_object()? {
            figures.insert(column.clone(), rounds.as_array()?.iter().filter_map(Value::as_f64).collect());
        }
        let failure = json.get("failure").and_then(Value::as_str).map(str::to_owned);
        Some(Measured { figures, lost_updates: json.get("lost_updates")?.as_u64()?, failure })
    }
}

/// All that is known, by the engine's name.
pub(crate) struct Report(BTreeMap<&'static str, Measured>);

impl Report {
    /// Begins with what an earlier run with the same settings found out about engines that this one leaves out.
    pub(crate) fn open(settings: &Settings) -> Result<Report> {
        let mut report = Report(BTreeMap::new());
        let Ok(text) = fs::read_to_string(settings.results.join("peers.json")) else { return Ok(report) };
        let earlier: Value = serde_json::from_str(&text)?;
        if settings.only.is_some() || earlier.get("settings") != Some(&settings_json(settings)) {
            return Ok(report);
        }
        let measured_now = settings.peers();
        for peer in PEERS.iter().filter(|peer| !measured_now.iter().any(|now| now.name == peer.name)) {
            if let Some(measured) = earlier["engines"].get(peer.name).and_then(Measured::from_json) {
                report.0.insert(peer.name, measured);
            }
        }
        Ok(report)
    }

    pub(crate) fn of(&mut self, peer: &Peer) -> &mut Measured {
        self.0.entry(peer.name).or_default()
    }

    /// Prints the tables, and writes them beside the figures and the chart unless columns were left out.
    pub(crate) fn finish(&self, settings: &Settings) -> Result<()> {
        let text = self.text(settings);
        println!("{text}");
        if settings.only.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&settings.results)?;
        fs::write(settings.results.join("peers.md"), text)?;
        fs::write(settings.results.join("peers.json"), format!("{:#}\n", self.json(settings)))?;
        fs::write(settings.results.join("peers.svg"), self.chart(settings))?;
        Ok(())
    }

    /// The engines there are figures of, in the order of the table.
    fn rows(&self) -> impl Iterator<Item = (&'static Peer, &Measured)> {
        PEERS.iter().filter_map(|peer| Some((peer, self.0.get(peer.name)?)))
    }

    fn json(&self, settings: &Settings) -> Value {
        let engines: serde_json::Map<_, _> =
            self.rows().map(|(peer, measured)| (peer.name.to_owned(), measured.to_json(peer))).collect();
        json!({ "machine": machine(), "settings": settings_json(settings), "engines": engines })
    }

    fn text(&self, settings: &Settings) -> String {
        let columns: Vec<_> = COLUMNS
            .iter()
            .map(|c| c.name)
            .filter(|name| self.0.values().any(|m| m.figures.contains_key(*name)))
            .collect();
        let mut absolute = vec![header(&columns, &["lost updates"])];
        let mut relative = vec![header(&columns, &[])];
        let yardstick = self.0.get(YARDSTICK);
        for (peer, measured) in self.rows() {
            let name = format!("{} {}", peer.name, version_of(peer.package));
            let mut figures = vec![name.clone()];
            let mut ratios = vec![name];
            for column in &columns {
                let figure = measured.median(column);
                figures.push(figure.map_or("-".into(), thousands));
                let ratio = figure.zip(yardstick.and_then(|raw| raw.median(column))).map(|(ours, raw)| ours / raw);
                ratios.push(ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")));
            }
            figures.push(match measured.lost_updates {
                0 => "none".into(),
                lost if peer.compares => format!("{lost}: WRONG"),
                // The yardstick also shows that the check can fail.
                lost => lost.to_string(),
            });
            absolute.push(figures);
            relative.push(ratios);
        }
        let mut text = format!(
            "{} documents of {} bytes; {} rounds of {} s; {}\n\nThousands of operations a second, medians:\n\n",
            settings.documents,
            settings.bytes,
            settings.rounds,
            settings.seconds,
            machine()
        );
        text.push_str(&aligned(&absolute));
        let _ = write!(text, "\nTimes {YARDSTICK}:\n\n{}\n", aligned(&relative));
        text.push_str(&self.verdict(&columns));
        text.push('\n');
        for (peer, measured) in self.rows() {
            if let Some(note) = peer.note {
                let _ = writeln!(text, "* {}: {note}", peer.name);
            }
            if let Some(failure) = &measured.failure {
                let _ = writeln!(text, "* {} did not finish: {failure}", peer.name);
            }
        }
        text
    }

    /// Where etagdb is not first, and who is.
    fn verdict(&self, columns: &[&str]) -> String {
        let Some(ours) = self.0.get(OURS) else { return String::new() };
        let mut first = 0;
        let mut behind = String::new();
        for column in columns {
            let Some(figure) = ours.median(column) else { continue };
            let others = self.rows().filter(|(peer, _)| peer.name != OURS);
            let best = others
                .filter_map(|(peer, measured)| Some((measured.median(column)?, peer.name)))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            match best {
                Some((best, name)) if best > figure => {
                    let _ = writeln!(behind, "* {column}: {:.2} of {name}", figure / best);
                }
                _ => first += 1,
            }
        }
        format!(
            "etagdb is first in {first} of {} columns{}\n{behind}",
            columns.len(),
            if behind.is_empty() { "." } else { "; behind in" }
        )
    }

    fn chart(&self, settings: &Settings) -> String {
        let panel = |column: &str| BarPanel {
            title: column.to_owned(),
            bars: self
                .rows()
                .filter_map(|(peer, measured)| {
                    let role = match peer.name {
                        OURS => Role::Ours,
                        YARDSTICK => Role::Yardstick,
                        _ => Role::Other,
                    };
                    let value = measured.median(column)?;
                    Some(Bar { label: peer.name.to_owned(), value, text: thousands(value), role })
                })
                .collect(),
        };
        let panels: Vec<_> = COLUMNS.iter().map(|column| panel(column.name)).filter(|p| !p.bars.is_empty()).collect();
        picture::bars(
            "Thousands of operations a second",
            &format!(
                "{} documents of {} bytes, 1 to 64 threads; medians of {} rounds; {}",
                settings.documents,
                settings.bytes,
                settings.rounds,
                machine()
            ),
            &panels,
        )
    }
}

fn settings_json(settings: &Settings) -> Value {
    json!({
        "seconds": settings.seconds,
        "rounds": settings.rounds,
        "documents": settings.documents,
        "bytes": settings.bytes,
    })
}

fn header(columns: &[&str], more: &[&str]) -> Vec<String> {
    std::iter::once("engine").chain(columns.iter().copied()).chain(more.iter().copied()).map(str::to_owned).collect()
}

fn thousands(figure: f64) -> String {
    let thousands = figure / 1000.0;
    if thousands < 100.0 { format!("{thousands:.1}") } else { format!("{thousands:.0}") }
}

/// A Markdown table that can also be read as text; the first row is its head.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        text.push('|');
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, " {cell:<width$} |") } else { write!(text, " {cell:>width$} |") };
        }
        text.push('\n');
        if at == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(text, "{:-<1$}{2}|", "", width + 1, if column == 0 { "-" } else { ":" });
            }
            text.push('\n');
        }
    }
    text
}

/// The version of a package that this program was built with.
fn version_of(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next()).unwrap_or("?")
}

/// What it ran on, as far as Linux says.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("?");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: Vec<_> = release.trim().split('.').take(2).collect();
    format!("{cores} cores ({model}), {} {}", std::env::consts::OS, release.join("."))
}
