//! `etagdb checkpoint` and `etagdb restore`: a consistent copy of a store, and a store made from one.

use std::path::{self, PathBuf};
use std::time::{Duration, Instant};

use etagdb::Store;
use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::gauge::{Gauge, Unit, bytes_in};
use super::place::{self, Access, Ask};
use super::{Failure, print};

/// A copy to another disk takes its time.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  Of a store that no server has open:
    etagdb checkpoint --data etagdb-data backups/monday

  Of a running server, which goes on taking writes; the directory is made on its machine:
    etagdb checkpoint --url http://127.0.0.1:8081 /var/backups/shop/monday

A checkpoint is a store of its own: `etagdb query --data` reads it, `etagdb verify --data` checks it, `etagdb restore` \
makes another store from it. On the same file system it shares files with the store, so it takes little time and space, \
and protects against mistakes but not against the loss of the disk: copy it elsewhere for that. A server makes \
checkpoints if it listens on loopback.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  Into a new directory:
    etagdb restore backups/monday --data etagdb-data

  Look before the old store is given up:
    etagdb verify --data backups/monday
    etagdb restore backups/monday --data restored
    etagdb serve --data restored

All files are copied; the checkpoint stays as it is. Etags of versions in it are the same in the restored store; those \
that the old store gave later match nothing there.";

/// Copy a store, as of one commit, into a new directory.
#[derive(Debug, clap::Args)]
#[command(after_help = CHECKPOINT_EXAMPLES)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    place: place::Args,

    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,

    /// The new directory; with --url on the server's machine.
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

/// Make a store from a checkpoint.
#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(super) struct RestoreArgs {
    /// Directory of the checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,

    /// Directory of the new store, which must be missing or empty.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

/// Makes a checkpoint.
pub(super) fn checkpoint(args: &CheckpointArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let out = path::absolute(&args.out).map_err(|error| format!("cannot use {}: {error}", args.out.display()))?;
    let mut gauge = Gauge::new("checkpoint", Unit::Bytes, args.place.data.as_deref().map(bytes_in));
    let newest = if args.place.data.is_some() {
        let store = args.place.open_store(Access::Write)?;
        gauge.watch(&out, || store.checkpoint(&out)).map_err(|error| error.to_string())?.get()
    } else {
        let Some(directory) = out.to_str() else {
            return Err(Failure::Usage(format!("{} is not UTF-8, and a request has to be", out.display())));
        };
        let server = args.place.open_with(CHECKPOINT_TIMEOUT, Access::Read)?;
        let body = json!({ "directory": directory }).to_string().into();
        let headers = [("content-type", "application/json")];
        let ask = Ask { method: Method::POST, segments: &["_etagdb", "checkpoint"], headers: &headers, body };
        // The directory is in view if the server is on this machine.
        let answer = gauge.watch(&out, || server.ask(&ask)).map_err(|refusal| server.explain(refusal))?;
        let made: Value = server.read(&answer)?;
        made["lsn"].as_u64().ok_or("the server does not say what is in the checkpoint")?
    };
    drop(gauge);
    report(args.json, "checkpoint", &out, newest, begun)
}

/// Makes a store from a checkpoint.
pub(super) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut gauge = Gauge::new("restore", Unit::Bytes, Some(bytes_in(&args.checkpoint)));
    let newest = gauge.watch(&args.data, || Store::restore(&args.checkpoint, &args.data));
    drop(gauge);
    let newest = newest.map_err(|error| match error {
        etagdb::Error::InUse { .. } => format!("{error}; if that is a server, make a checkpoint of it with --url"),
        error => error.to_string(),
    })?;
    report(args.json, "store", &args.data, newest.get(), begun)
}

fn report(json: bool, what: &str, directory: &path::Path, newest: u64, begun: Instant) -> Result<(), Failure> {
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = bytes_in(directory);
    print(&match json {
        true => json!({
            "directory": directory.to_string_lossy(),
            "lastCommit": newest,
            "bytes": bytes,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        })
        .to_string(),
        false => {
            let (directory, bytes) = (directory.display(), HumanBytes(bytes));
            format!("made the {what} {directory} as of commit {newest}, {bytes}, in {seconds:.1} s")
        }
    })
}
