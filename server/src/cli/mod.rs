//! The command line: flags, exit codes, and what is printed. Everything else is the library's business.
//!
//! Exit codes are 0 for done, 1 for failed and 2 for a command that cannot be carried out as it was given.

mod acknowledgements;
mod destination;
mod document;
mod import;
mod journal;
mod local;
mod pipeline;
mod progress;
mod query;
mod query_remote;
mod reader;
mod remote;
mod serve;
mod signals;
mod source;
mod verify;
mod window;

use std::env::{self, VarError};
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

`etagdb COMMAND --help` says more about one command.";

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
    Query(query::Args),
    Verify(verify::Args),
}

/// Why a command did not do what it was asked to; one line for the user.
#[derive(Debug)]
enum Failure {
    /// The command has to be given in another way.
    Usage(String),
    /// The command was right, and failed.
    Failed(String),
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
        Command::Verify(args) => ("verify", verify::run(&args)),
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
