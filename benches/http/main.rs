//! The server beside its own HTTP stack: GET and conditional PUT against hyper, with the same settings and the same number
//! of threads, answering a constant of the same size. HTTP/1.1 and HTTP/2 over clear text, 1 to 256 connections, each of
//! which waits for its answer before it asks again. Prints a table with the goals, and writes it to a file.
//!
//! `cargo bench --bench http -- [--seconds S] [--rounds R] [--bytes B] [--only TEXT] [--write FILE]`, or `--instructions`
//! to count what valgrind can, which is the same on a busy machine.
//!
//! Server and load have cores of their own, half of the machine each, so that neither slows the other down. All requests
//! are signed with the account key, and etagdb checks every signature; the constant's server is sent the same requests and
//! looks at nothing. The load is `load.rs`: no load generator that can be installed sends each connection's next
//! `If-Match` as the answer before gave it.

mod h1;
mod h2;
mod instructions;
mod load;
mod servers;
mod table;

use std::process::Command;

use crate::load::{Figures, Load, Protocol, Workload};
use crate::servers::{Child, Kind};
use crate::table::Table;

/// How many connections there are at once.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

struct Settings {
    seconds: f64,
    rounds: usize,
    bytes: usize,
    /// Rows whose name contains this.
    only: String,
    /// Whether to count instructions in place of requests a second.
    instructions: bool,
    /// Where to write the table.
    file: Option<String>,
}

impl Settings {
    fn from_arguments() -> Settings {
        let mut settings =
            Settings { seconds: 1.0, rounds: 1, bytes: 1024, only: String::new(), instructions: false, file: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            // Cargo passes this to every benchmark.
            if flag == "--bench" {
                continue;
            }
            if flag == "--instructions" {
                settings.instructions = true;
                continue;
            }
            let value = arguments.next().unwrap_or_else(|| panic!("{flag} needs a value"));
            let number = || -> f64 { value.parse().unwrap_or_else(|_| panic!("{flag} needs a number, not {value:?}")) };
            match flag.as_str() {
                "--seconds" => settings.seconds = number(),
                "--rounds" => settings.rounds = (number() as usize).max(1),
                "--bytes" => settings.bytes = number() as usize,
                "--only" => settings.only = value,
                "--write" => settings.file = Some(value),
                _ => panic!(
                    "unknown flag {flag}; known are --seconds, --rounds, --bytes, --only, --write and --instructions"
                ),
            }
        }
        settings
    }
}

/// The cores of the servers, and those of the load, as `taskset` wants them; `None` where there are too few to part.
fn cores() -> Option<(String, String)> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    (all >= 2).then(|| (format!("0-{}", all / 2 - 1), format!("{}-{}", all / 2, all - 1)))
}

/// Set in the process that makes the load, and says how many cores it and each server have.
const PINNED: &str = "ETAGDB_BENCH_PINNED";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, rest @ ..] = arguments.as_slice()
        && serve == "serve"
    {
        return servers::serve(rest);
    }
    let settings = Settings::from_arguments();
    if settings.instructions {
        return count_instructions(&settings);
    }
    let own = std::env::current_exe().expect("the path of this program");
    if std::env::var_os(PINNED).is_none()
        && let Some((_, load_cores)) = cores()
    {
        let mut pinned = Command::new("taskset");
        match pinned.args(["-c", &load_cores]).arg(own).args(&arguments).env(PINNED, "1").status() {
            Ok(status) => std::process::exit(status.code().unwrap_or(1)),
            Err(error) => eprintln!(
                "SKIPPED: server and load share all cores, because `taskset` (Debian: util-linux) cannot be run: {error}"
            ),
        }
    }
    measure(&settings);
}

/// Prints the instructions of one request, of etagdb and of the constant.
fn count_instructions(settings: &Settings) {
    let mut load = Load::prepare(settings.bytes, 1, 1);
    let answer_bytes = load.create_documents(Child::start_under(&[], Kind::Sync, 1).address());
    for line in instructions::count(&mut load, answer_bytes) {
        println!("{line}");
    }
}

fn measure(settings: &Settings) {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    // Pinned to its half, this process sees only that half.
    let pinned = std::env::var_os(PINNED).is_some();
    let threads = if pinned { all } else { all.div_ceil(2) };
    let server_cores = pinned.then(|| format!("0-{}", threads - 1));

    let start = |kind| Child::start(kind, threads, server_cores.as_deref());
    let stores = [start(Kind::Sync), start(Kind::Buffered)];
    let mut load = Load::prepare(settings.bytes, *CONNECTIONS.last().expect("some"), threads);
    let mut answer_bytes = 0;
    for store in &stores {
        answer_bytes = load.create_documents(store.address());
    }
    let constant = start(Kind::Constant(answer_bytes));

    let mut table = Table::new(threads, pinned, settings, answer_bytes);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for workload in [Workload::Get, Workload::PutAny, Workload::PutMatch] {
            for (server, name) in [(&stores[0], "sync"), (&stores[1], "buffered")] {
                // A read does not depend on how writes are made durable.
                if workload == Workload::Get && name == "buffered" {
                    continue;
                }
                for connections in CONNECTIONS {
                    let label = table::label(protocol, workload, name, connections);
                    if !label.contains(&settings.only) {
                        continue;
                    }
                    let mut rounds: Vec<(Figures, Figures)> = (0..settings.rounds)
                        .map(|_| {
                            let mut run =
                                |child: &Child| load.run(child, protocol, workload, connections, settings.seconds);
                            (run(&constant), run(server))
                        })
                        .collect();
                    rounds.sort_by(|(a, b), (c, d)| (b.rate / a.rate).total_cmp(&(d.rate / c.rate)));
                    let (constant, ours) = &rounds[rounds.len() / 2];
                    table.row(label, workload, connections, constant, ours);
                }
            }
        }
    }
    let text = table.finish();
    if let Some(file) = &settings.file {
        std::fs::write(file, text).unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
        println!("written to {file}");
    }
}
