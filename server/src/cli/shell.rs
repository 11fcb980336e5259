//! `etagdb completions` and `etagdb man`: files that shells and `man` read, made from the flags themselves.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, Failure, print};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  Bash, for this user:
    etagdb completions bash > ~/.local/share/bash-completion/completions/etagdb

  Zsh, in a directory of $fpath:
    etagdb completions zsh > ~/.zfunc/_etagdb

  Fish:
    etagdb completions fish > ~/.config/fish/completions/etagdb.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  Write the manual pages, and read one:
    etagdb man ~/.local/share/man/man1
    man etagdb-import";

/// Print what a shell needs to complete etagdb's commands and flags.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Write manual pages, one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManArgs {
    /// Where to; the directory is made if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints completions.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    generate(args.shell, &mut Cli::command(), "etagdb", &mut text);
    print(String::from_utf8_lossy(&text).trim_end())
}

/// Writes manual pages.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let directory = args.directory.display();
    fs::create_dir_all(&args.directory).map_err(|error| format!("cannot make {directory}: {error}"))?;
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .map_err(|error| Failure::Failed(format!("cannot write to {directory}: {error}")))
}
