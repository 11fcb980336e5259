//! The command line: flags, exit codes, and what is printed. Everything else is the library's business.
//!
//! Exit codes are 0 for done, 1 for failed and 2 for a command that cannot be carried out as it was given.

mod acknowledgements;
mod bench;
mod copies;
mod destination;
mod difference;
mod document;
mod export;
mod gauge;
mod get;
mod history;
mod import;
mod item;
mod journal;
mod local;
mod moment;
mod pipeline;
mod place;
mod progress;
mod query;
mod reader;
mod remote;
mod serve;
mod shell;
mod signals;
mod source;
mod stats;
mod style;
mod text;
mod verify;
mod why;
mod window;

use std::env::{self, VarError};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  Serve the Cosmos DB protocol on http://127.0.0.1:8081, keeping data in ./etagdb-data:
    etagdb serve

  Fill a container from a file, without a server:
    etagdb import --data etagdb-data --database shop --container products \\
        --partition-key /category products.ndjson

  Ask it something:
    etagdb query --data etagdb-data --database shop --container products \\
        \"SELECT c.category, COUNT(1) AS products FROM c GROUP BY c.category\"

  See what happened to a document, and what is different from the version you have:
    etagdb history --data etagdb-data --database shop --container products p1
    etagdb why --data etagdb-data --database shop --container products p1 ETAG

Exits with 0 if it was done, 1 if it failed, 2 if it cannot be done as it was asked for. `etagdb COMMAND --help` says more about one command.";

/// A durable document store with etags that are right, speaking the Cosmos DB protocol.
#[derive(Debug, Parser)]
#[command(name = "etagdb", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Import(Box<import::Args>),
    Export(export::Args),
    Query(query::Args),
    Get(get::Args),
    History(history::Args),
    Why(why::Args),
    Checkpoint(copies::CheckpointArgs),
    Restore(copies::RestoreArgs),
    Verify(verify::Args),
    Stats(stats::Args),
    Bench(bench::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Why a command did not do what it was asked to; one line for the user.
#[derive(Debug)]
enum Failure {
    /// The command has to be given in another way.
    Usage(String),
    /// The command was right, and failed.
    Failed(String),
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        Failure::Failed(message.to_owned())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Failed(message)
    }
}

/// Carries out the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let (name, done) = match Cli::parse().command {
        Command::Serve(args) => ("serve", serve::run(args)),
        Command::Import(args) => ("import", import::run(&args)),
        Command::Query(args) => ("query", query::run(&args)),
        Command::Export(args) => ("export", export::run(&args)),
        Command::Get(args) => ("get", get::run(&args)),
        Command::History(args) => ("history", history::run(&args)),
        Command::Why(args) => ("why", why::run(&args)),
        Command::Checkpoint(args) => ("checkpoint", copies::checkpoint(&args)),
        Command::Restore(args) => ("restore", copies::restore(&args)),
        Command::Verify(args) => ("verify", verify::run(&args)),
        Command::Stats(args) => ("stats", stats::run(&args)),
        Command::Bench(args) => ("bench", bench::run(&args)),
        Command::Completions(args) => ("completions", shell::completions(&args)),
        Command::Man(args) => ("man", shell::man(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("etagdb: {}", one_line(&message));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("etagdb: {} (`etagdb {name} --help` shows examples)", one_line(&message));
            ExitCode::from(2)
        }
    }
}

/// Prints lines on standard output. Whoever stopped reading has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// A message that quotes something from outside must not turn into several lines.
fn one_line(message: &str) -> String {
    message.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The account key: the flag, or else the environment; `None` means the emulator's well-known key.
fn account_key(flag: Option<String>) -> Result<Option<String>, Failure> {
    match (flag, env::var("ETAGDB_KEY")) {
        (Some(key), _) => Ok(Some(key)),
        // Set to nothing is how scripts and compose files say "not set".
        (None, Ok(key)) => Ok(Some(key).filter(|key| !key.is_empty())),
        (None, Err(VarError::NotPresent)) => Ok(None),
        (None, Err(VarError::NotUnicode(_))) => Err(Failure::Usage("ETAGDB_KEY is not base64".into())),
    }
}

/// Says why a store cannot be opened, and what to do if another process has it open.
fn store_failure(data: &Path, error: &etagdb::Error, advice_if_in_use: &str) -> Failure {
    Failure::Failed(match error {
        etagdb::Error::InUse { .. } => format!("{error}; {advice_if_in_use}"),
        error => format!("cannot open the store in {}: {error}", data.display()),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_message_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[0m"), "a b [0m");
    }
}
