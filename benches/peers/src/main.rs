//! etagdb beside other embedded stores: reads, compare-and-swap and upserts of the same documents, with the same number
//! of threads, with and without waiting for the disk. Prints a table, and keeps it with a chart for the README.
//!
//! `make bench-peers`, or with flags `make bench-peers PEERS="--seconds 1 --engines etagdb,redb"`; `--help` names them.

mod drive;
mod engine;
mod engines;
#[path = "../../picture.rs"]
mod picture;
mod report;
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use drive::{COLUMNS, Column, Ledger};
use engine::{Engine, Opening, Result};
use engines::Peer;
use report::{Measured, Report};
use settings::Settings;

fn main() -> ExitCode {
    let outcome = Settings::from_arguments(std::env::args().skip(1)).and_then(|settings| match settings {
        Some(settings) => compare(&settings),
        None => Ok(()),
    });
    if let Err(error) = outcome {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compare(settings: &Settings) -> Result<()> {
    let mut report = Report::open(settings)?;
    for round in 0..settings.rounds {
        for peer in settings.peers() {
            for sync in [true, false] {
                let columns: Vec<&Column> =
                    COLUMNS.iter().filter(|column| column.sync == sync && settings.wants(column)).collect();
                if columns.is_empty() {
                    continue;
                }
                let name = peer.name;
                eprintln!(
                    "round {} of {}: {name}, {}",
                    round + 1,
                    settings.rounds,
                    if sync { "sync" } else { "no sync" }
                );
                let measured = report.of(peer);
                // One that fails does not take the others' figures with it.
                if let Err(error) = round_of(peer, sync, &columns, settings, measured) {
                    eprintln!("{name}: {error}");
                    measured.failure = Some(error.to_string());
                }
            }
        }
    }
    report.finish(settings)
}

/// All columns of one durability, on a new store, and the check that nothing was lost on the way.
fn round_of(peer: &Peer, sync: bool, columns: &[&Column], settings: &Settings, measured: &mut Measured) -> Result<()> {
    let dir = tempfile::tempdir_in(&settings.dir)?;
    (peer.open)(Opening { dir: dir.path(), sync }, &mut |engine| {
        load(engine, settings)?;
        let ledger = Ledger::new(settings.documents);
        // Reads every document, so that what is cached is cached for all.
        let missing = ledger.lost_updates(engine, settings.bytes)?;
        if missing > 0 {
            return Err(format!("{missing} documents are not as they were loaded").into());
        }
        let (upserts, counted): (Vec<_>, Vec<_>) =
            columns.iter().partition(|column| column.work == drive::Work::Upsert);
        let time = Duration::from_secs_f64(settings.seconds);
        for column in counted {
            let figure = drive::run(engine, column, &ledger, settings.bytes, time)?;
            measured.add(column.name, figure);
        }
        measured.lost_updates += ledger.lost_updates(engine, settings.bytes)?;
        for column in upserts {
            let figure = drive::run(engine, column, &ledger, settings.bytes, time)?;
            measured.add(column.name, figure);
        }
        Ok(())
    })
}

fn load(engine: &dyn Engine, settings: &Settings) -> Result<()> {
    let documents: Vec<u64> = (0..settings.documents).collect();
    for ids in documents.chunks(1000) {
        let batch: Vec<_> = ids.iter().map(|id| (drive::key(*id), drive::body(settings.bytes, *id))).collect();
        engine.load(&batch)?;
    }
    Ok(())
}
