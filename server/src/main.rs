//! The `etagdb` command. What it does is in `cli`; this file only starts it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
