//! The lines of the table: figures, goal and verdict, and how they are printed and kept.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Measured;

/// What is asked of a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// Ours divided by raw is so much or more.
    RatioAtLeast(f64),
    /// Ours divided by raw is so much or less.
    RatioAtMost(f64),
    /// Ours is less, in the line's unit.
    OursBelow(f64),
    /// Nothing is: the line is there to be seen.
    None,
}

/// One store's side of a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// In the line's unit; the median of the rounds.
    pub value: f64,
    /// Microseconds at the 50th, 99th and 99.9th percentile of all rounds.
    pub latency_us: Option<[f64; 3]>,
    /// Bytes written to the device for each byte of ids and bodies; only of writes.
    pub written_per_byte: Option<f64>,
    /// For each operation that succeeded.
    pub conflicts_per_operation: Option<f64>,
}

impl Figures {
    /// A value and nothing else.
    pub fn of(value: f64) -> Figures {
        Figures { value, latency_us: None, written_per_byte: None, conflicts_per_operation: None }
    }

    /// The rounds of one store. `user_bytes`: what each operation writes, if it does.
    pub fn of_rounds(rounds: &[Measured], user_bytes: Option<u64>) -> Figures {
        let mut all = rounds[0].clone();
        rounds[1..].iter().for_each(|round| all.add(round));
        let latency_us = [0.5, 0.99, 0.999].map(|q| all.latencies.value_at_quantile(q) as f64 / 1000.0);
        let per_operation = |count: u64| count as f64 / all.operations as f64;
        Figures {
            value: median(rounds.iter().map(Measured::rate).collect()),
            latency_us: Some(latency_us),
            written_per_byte: user_bytes.map(|bytes| per_operation(all.device_bytes) / bytes as f64),
            conflicts_per_operation: (all.conflicts > 0).then(|| per_operation(all.conflicts)),
        }
    }
}

/// The middle one; of an even number the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The workload; no two lines have the same.
    pub name: String,
    /// Of the values.
    pub unit: String,
    /// Raw RocksDB as it comes.
    pub raw: Option<Figures>,
    /// Raw RocksDB with what its documentation recommends.
    pub tuned: Option<Figures>,
    /// etagdb.
    pub ours: Figures,
    /// Ours divided by raw: the median of the rounds, as a machine that slows down slows both.
    pub ratio: Option<f64>,
    /// What is asked of it.
    pub goal: Goal,
    /// What other processes took of the processors meanwhile, from 0 to 1.
    pub others: f64,
}

impl Line {
    /// Whether the goal is met, where there is one.
    pub fn is_met(&self) -> Option<bool> {
        match (self.goal, self.ratio) {
            (Goal::RatioAtLeast(least), Some(ratio)) => Some(ratio >= least),
            (Goal::RatioAtMost(most), Some(ratio)) => Some(ratio <= most),
            (Goal::OursBelow(most), _) => Some(self.ours.value < most),
            _ => None,
        }
    }

    fn cells(&self) -> [String; 13] {
        let side = |figures: &Option<Figures>, f: &dyn Fn(&Figures) -> Option<String>| {
            figures.as_ref().and_then(f).unwrap_or_default()
        };
        let ours = Some(self.ours.clone());
        let latency = |figures: &Figures| {
            figures.latency_us.map(|us| us.map(|us| format!("{us:.*}", if us < 10.0 { 1 } else { 0 })).join(" / "))
        };
        let written = |figures: &Figures| figures.written_per_byte.map(|bytes| format!("{bytes:.1}"));
        let conflicts = |figures: &Figures| figures.conflicts_per_operation.map(|conflicts| format!("{conflicts:.3}"));
        [
            self.name.clone(),
            self.unit.clone(),
            side(&self.raw, &|figures| Some(number(figures.value))),
            side(&self.tuned, &|figures| Some(number(figures.value))),
            number(self.ours.value),
            self.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            match self.goal {
                Goal::RatioAtLeast(least) => format!(">= {least}"),
                Goal::RatioAtMost(most) => format!("<= {most}"),
                Goal::OursBelow(most) => format!("< {}", number(most)),
                Goal::None => String::new(),
            },
            self.is_met().map_or(String::new(), |met| if met { "met" } else { "MISSED" }.to_owned()),
            side(&self.raw, &latency),
            side(&ours, &latency),
            [side(&self.raw, &written), side(&ours, &written)].join(" / ").trim_matches([' ', '/']).to_owned(),
            side(&ours, &conflicts),
            format!("{:.0} %", 100.0 * self.others),
        ]
    }
}

const HEADINGS: [&str; 13] = [
    "workload",
    "unit",
    "raw RocksDB",
    "tuned",
    "etagdb",
    "ratio",
    "goal",
    "verdict",
    "raw p50 / p99 / p99.9 us",
    "etagdb p50 / p99 / p99.9 us",
    "written per byte, raw / etagdb",
    "conflicts",
    "others",
];

/// 12,345, but 1.23.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The lines as a Markdown table that is aligned as plain text, too.
pub fn table(lines: &[Line]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(lines.iter().map(Line::cells));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column < 2 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(text, "|{:-<1$}", "", width + if column < 2 { 2 } else { 1 });
                text.push_str(if column < 2 { "" } else { ":" });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// One line as it is shown while others are still measured.
pub fn summary(line: &Line) -> String {
    let [name, unit, raw, tuned, ours, ratio, goal, verdict, ..] = line.cells();
    format!(
        "{name:<58} {unit:<8} raw {raw:>10}  tuned {tuned:>10}  etagdb {ours:>10}  ratio {ratio:>6}  {goal:>9} {verdict}"
    )
}

/// The results of earlier runs, with those of this one in place of the same lines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    machine: String,
    lines: Vec<Line>,
}

impl Results {
    /// Puts lines into `throughput.json` and `throughput.md` in a directory. `order`: all names there are, as the table
    /// has them; lines with other names are dropped.
    pub fn save(directory: &Path, machine: &str, lines: &[Line], order: &[String]) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        let path = directory.join("throughput.json");
        let kept = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Results>(&text).ok());
        // Figures of two machines have no place in one table.
        let kept = kept.filter(|kept| kept.machine == machine).unwrap_or_default().lines;
        let find = |lines: &[Line], name: &String| lines.iter().find(|line| &line.name == name).cloned();
        let lines = order.iter().filter_map(|name| find(lines, name).or_else(|| find(&kept, name))).collect();
        let results = Results { machine: machine.to_owned(), lines };
        fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
        fs::write(directory.join("throughput.md"), results.markdown())
    }

    fn markdown(&self) -> String {
        format!(
            "# etagdb beside raw RocksDB\n\nMade by `make bench` on: {}.\n\n{}\n{}",
            self.machine,
            include_str!("method.md"),
            table(&self.lines)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ratio: f64, goal: Goal) -> Line {
        let (raw, ours) = (Some(Figures::of(1000.0)), Figures::of(1000.0 * ratio));
        let (name, unit) = ("get".to_owned(), "1/s".to_owned());
        Line { name, unit, raw, tuned: None, ours, ratio: Some(ratio), goal, others: 0.0 }
    }

    #[test]
    fn a_regression_below_the_goal_is_a_miss() {
        assert_eq!(line(1.4, Goal::RatioAtLeast(1.4)).is_met(), Some(true));
        assert_eq!(line(1.39, Goal::RatioAtLeast(1.4)).is_met(), Some(false));
        assert_eq!(line(1.4, Goal::RatioAtMost(1.3)).is_met(), Some(false));
        assert_eq!(line(0.5, Goal::OursBelow(500.0)).is_met(), Some(false));
        assert_eq!(line(9.0, Goal::None).is_met(), None);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([1.234, 12.3, 999.6, 1234567.0].map(number), ["1.23", "12", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_table_is_aligned_and_says_the_verdict() {
        let text = table(&[line(2.0, Goal::RatioAtLeast(5.0)), line(200.0, Goal::RatioAtLeast(5.0))]);
        let widths: Vec<usize> = text.lines().map(str::len).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
        assert!(text.contains("MISSED") && text.contains(" met |"), "{text}");
    }

    #[test]
    fn a_run_of_some_rows_keeps_the_others() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let order = ["get".to_owned(), "put".to_owned()];
        let put = Line { name: "put".to_owned(), ..line(3.0, Goal::None) };
        Results::save(dir.path(), "m", &[put, line(1.0, Goal::None)], &order).expect("save");
        Results::save(dir.path(), "m", &[line(2.0, Goal::None)], &order).expect("save");
        let text = fs::read_to_string(dir.path().join("throughput.json")).expect("saved");
        let results: Results = serde_json::from_str(&text).expect("json");
        assert_eq!(results.lines.iter().map(|line| line.ratio).collect::<Vec<_>>(), [Some(2.0), Some(3.0)]);
    }
}
