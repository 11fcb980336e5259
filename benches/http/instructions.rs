//! Instructions of the server for one request, outside of the system: counted by valgrind, so they are the same on a busy
//! machine as on a quiet one. They say where a server's own work grows; what the system does for it, they leave out.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::load::{Load, Protocol, Workload};
use crate::servers::{Child, Kind};

/// Requests that are counted.
const REQUESTS: usize = 2_000;
/// Requests before those: what is made at first use is not what a request takes.
const BEFORE: usize = 200;

/// Counts GET and conditional PUT over both protocols, of etagdb and of the constant, and returns the lines of a table.
pub(crate) fn count(load: &mut Load, answer_bytes: usize) -> Vec<String> {
    if !Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: instructions were not counted, because valgrind is missing; apt-get install valgrind");
        return Vec::new();
    }
    let mut lines = vec![
        "| instructions of one request, outside of the system | constant | etagdb | ratio |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for (protocol, name) in [(Protocol::Http1, "h1"), (Protocol::Http2, "h2")] {
        for (workload, what) in [(Workload::Get, "GET"), (Workload::PutMatch, "PUT, If-Match, buffered")] {
            let mut of = |kind| {
                let mut total = |requests| under_valgrind(load, kind, protocol, workload, requests);
                let (all, before) = (total(BEFORE + REQUESTS), total(BEFORE));
                all.saturating_sub(before) as f64 / REQUESTS as f64
            };
            let (constant, ours) = (of(Kind::Constant(answer_bytes)), of(Kind::Buffered));
            lines.push(format!("| {name} {what} | {constant:.0} | {ours:.0} | {:.2} |", ours / constant));
        }
    }
    lines
}

/// All instructions of a server that is sent so many requests, from its start to its end.
fn under_valgrind(load: &mut Load, kind: Kind, protocol: Protocol, workload: Workload, requests: usize) -> u64 {
    let dir = tempfile::tempdir().expect("temporary directory");
    let out = dir.path().join("callgrind.out");
    let valgrind = ["valgrind".to_owned(), "--tool=callgrind".to_owned(), out_file(&out), "-q".to_owned()];
    let server = Child::start_under(&valgrind, kind, 1);
    if matches!(kind, Kind::Sync | Kind::Buffered) {
        load.create_documents(server.address());
    }
    load.send(server.address(), protocol, workload, requests);
    drop(server);
    let text = std::fs::read_to_string(out).expect("callgrind's figures");
    let sums = text.lines().filter_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")));
    sums.filter_map(|sum| sum.trim().parse().ok()).max().expect("callgrind counted")
}

fn out_file(path: &Path) -> String {
    format!("--callgrind-out-file={}", path.display())
}
