//! Charts as SVG, for benchmarks to leave beside their figures: bars and lines in panels, readable on light and on dark
//! pages. Owns their look; knows nothing of what is measured.

// Each program that includes this file draws one of the two kinds.
#![allow(dead_code)]

use std::fmt::Write as _;

/// Light and dark colours as classes and not as variables: not every program that draws SVG knows those.
const STYLE: &str = "
text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 11px; fill: #333a45; }
.title { font-size: 17px; font-weight: 600; fill: #14181f; }
.panel { font-size: 13px; font-weight: 600; fill: #14181f; }
.small { font-size: 10px; fill: #667080; }
.strong { font-weight: 600; fill: #14181f; }
.paper { fill: #ffffff; }
.grid { stroke: #e3e7ec; stroke-width: 1; }
.axis { stroke: #9aa4b2; stroke-width: 1; }
.ours { fill: #2563eb; }
.yardstick { fill: #98a1ae; }
.other { fill: #cfd6df; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.l0 { stroke: #2563eb; } .l1 { stroke: #d9650d; } .l2 { stroke: #15803d; } .l3 { stroke: #9333ea; }
.d0 { fill: #2563eb; } .d1 { fill: #d9650d; } .d2 { fill: #15803d; } .d3 { fill: #9333ea; }
@media (prefers-color-scheme: dark) {
text { fill: #b9c2ce; } .title, .panel, .strong { fill: #f0f3f7; } .small { fill: #8d97a5; }
.paper { fill: #0f1319; } .grid { stroke: #262d37; } .axis { stroke: #5a6472; }
.ours { fill: #5b9bff; } .yardstick { fill: #737e8d; } .other { fill: #3a4350; }
.l0 { stroke: #5b9bff; } .l1 { stroke: #f59e4b; } .l2 { stroke: #4ade80; } .l3 { stroke: #c792ff; }
.d0 { fill: #5b9bff; } .d1 { fill: #f59e4b; } .d2 { fill: #4ade80; } .d3 { fill: #c792ff; }
}
";

/// Space around the drawing and between its panels.
const GAP: f64 = 26.0;
/// The title and the line below it.
const HEAD: f64 = 62.0;

/// Whose bar it is.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Ours,
    Yardstick,
    Other,
}

/// One bar.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// What is written at its end.
    pub(crate) text: String,
    pub(crate) role: Role,
}

/// Bars that share a scale, which begins at 0.
pub(crate) struct BarPanel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// Draws panels of horizontal bars, three in a row.
pub(crate) fn bars(title: &str, subtitle: &str, panels: &[BarPanel]) -> String {
    const WIDTH: f64 = 412.0;
    const LABELS: f64 = 200.0;
    const FIGURES: f64 = 40.0;
    const STEP: f64 = 17.0;
    let most = panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
    let height = 26.0 + STEP * most as f64;
    let mut drawing = Drawing::new(title, subtitle, panels.len(), 3, WIDTH, height);
    for (at, panel) in panels.iter().enumerate() {
        let (left, top) = drawing.corner(at);
        drawing.text(left, top + 12.0, "panel", "start", &panel.title);
        let longest = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for (row, bar) in panel.bars.iter().enumerate() {
            let y = top + 26.0 + STEP * row as f64;
            let length = (bar.value / longest * (WIDTH - LABELS - FIGURES)).max(1.0);
            let (class, text) = match bar.role {
                Role::Ours => ("ours", "strong"),
                Role::Yardstick => ("yardstick", "plain"),
                Role::Other => ("other", "plain"),
            };
            drawing.text(left + LABELS - 6.0, y + 9.5, text, "end", &bar.label);
            drawing.rectangle(class, left + LABELS, y, length, STEP - 5.0);
            drawing.text(left + LABELS + length + 4.0, y + 9.5, text, "start", &bar.text);
        }
    }
    drawing.finish()
}

/// A named line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over one logarithmic axis across; the axis up is logarithmic too.
pub(crate) struct LinePanel {
    pub(crate) title: String,
    /// The places across that are measured, with their names.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) lines: Vec<Line>,
}

/// Draws panels of at most four lines each, two in a row. All points must be above 0.
pub(crate) fn lines(title: &str, subtitle: &str, panels: &[LinePanel]) -> String {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 46.0;
    const RIGHT: f64 = 128.0;
    const TOP: f64 = 28.0;
    const BOTTOM: f64 = 22.0;
    let mut drawing = Drawing::new(title, subtitle, panels.len(), 2, WIDTH, HEIGHT);
    for (at, panel) in panels.iter().enumerate() {
        let (left, top) = drawing.corner(at);
        drawing.text(left, top + 12.0, "panel", "start", &panel.title);
        let values = || panel.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        // Whole decades, so that the grid has round numbers.
        let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
        let y = |value: f64| top + HEIGHT - BOTTOM - (value.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
        let across = |f: fn(f64, f64) -> f64, start| panel.ticks.iter().map(|tick| tick.0).fold(start, f);
        let (first, last) = (across(f64::min, f64::MAX).log10(), across(f64::max, f64::MIN).log10());
        let x = |value: f64| left + LEFT + (value.log10() - first) / (last - first).max(0.01) * (WIDTH - LEFT - RIGHT);
        let mut decade = low;
        while decade <= high {
            let level = y(10f64.powf(decade));
            drawing.line("grid", left + LEFT, level, left + WIDTH - RIGHT, level);
            drawing.text(left + LEFT - 6.0, level + 4.0, "small", "end", &short(10f64.powf(decade)));
            decade += 1.0;
        }
        for (place, name) in &panel.ticks {
            drawing.line("axis", x(*place), top + HEIGHT - BOTTOM, x(*place), top + HEIGHT - BOTTOM + 4.0);
            drawing.text(x(*place), top + HEIGHT - 4.0, "small", "middle", name);
        }
        // Names stand at the lines' ends, pushed apart where these are close.
        let mut names: Vec<(f64, usize)> = Vec::new();
        for (kind, line) in panel.lines.iter().enumerate() {
            let points: Vec<_> = line.points.iter().map(|point| (x(point.0), y(point.1))).collect();
            drawing.path(kind, &points);
            if let Some(end) = points.last() {
                names.push((end.1, kind));
            }
        }
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = f64::MIN;
        for (height, kind) in names {
            let place = height.max(free);
            free = place + 14.0;
            let name = &panel.lines[kind].name;
            drawing.text(left + WIDTH - RIGHT + 8.0, place + 4.0, &format!("d{kind}"), "start", name);
        }
    }
    drawing.finish()
}

/// A number as an axis shows it: 20k, 1M.
pub(crate) fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{}M", n / 1e6),
        n if n >= 1e3 => format!("{}k", n / 1e3),
        n => format!("{n}"),
    }
}

/// An SVG under construction.
struct Drawing {
    svg: String,
    columns: usize,
    width: f64,
    height: f64,
}

impl Drawing {
    fn new(title: &str, subtitle: &str, panels: usize, columns: usize, width: f64, height: f64) -> Drawing {
        let columns = columns.min(panels.max(1));
        let rows = panels.div_ceil(columns);
        let whole = (GAP + (width + GAP) * columns as f64, HEAD + (height + GAP) * rows as f64);
        let mut drawing = Drawing { svg: String::new(), columns, width, height };
        let _ = write!(
            drawing.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\">\n\
             <title>{2}</title>\n<style>{STYLE}</style>\n",
            whole.0,
            whole.1,
            escaped(title)
        );
        drawing.rectangle("paper", 0.0, 0.0, whole.0, whole.1);
        drawing.text(GAP, 30.0, "title", "start", title);
        drawing.text(GAP, 48.0, "small", "start", subtitle);
        drawing
    }

    /// Where the panel begins.
    fn corner(&self, panel: usize) -> (f64, f64) {
        let (row, column) = (panel / self.columns, panel % self.columns);
        (GAP + (self.width + GAP) * column as f64, HEAD + (self.height + GAP) * row as f64)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let _ = writeln!(
            self.svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>"
        );
    }

    fn line(&mut self, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
        let _ =
            writeln!(self.svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>");
    }

    /// A line through points, with a dot at each.
    fn path(&mut self, kind: usize, points: &[(f64, f64)]) {
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.svg, "<polyline points=\"{}\" class=\"line l{kind}\"/>", path.join(" "));
        for (x, y) in points {
            let _ = writeln!(self.svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" class=\"d{kind}\"/>");
        }
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
