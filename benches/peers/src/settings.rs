//! What the command line says.

use std::path::PathBuf;

use crate::drive::{BYTES_MIN, Column};
use crate::engine::Result;
use crate::engines::{PEERS, Peer};

const HELP: &str = "etagdb beside other embedded stores

  --seconds S      how long each column is measured (0.8)
  --rounds R       how often; the table shows medians (3)
  --documents N    how many documents there are (200000)
  --bytes B        how large each is (1024)
  --engines A,B    only engines whose name contains one of these, in any case; the results of the others are kept
                   if they were measured with the same settings
  --only TEXT      only columns whose name contains this; nothing is written to the results
  --redraw         measure nothing: tables and chart from what a run with the same settings has kept
  --results DIR    where peers.json, peers.md and peers.svg are written (benches/results)
  --dir DIR        where the stores are made and removed again: a file system on a disk (the temporary directory)";

/// How a run goes.
pub(crate) struct Settings {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) documents: u64,
    pub(crate) bytes: usize,
    pub(crate) engines: Vec<String>,
    pub(crate) only: Option<String>,
    pub(crate) redraw: bool,
    pub(crate) results: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Settings {
    /// `None` after `--help`.
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Option<Settings>> {
        let mut settings = Settings {
            seconds: 0.8,
            rounds: 3,
            documents: 200_000,
            bytes: 1024,
            engines: Vec::new(),
            only: None,
            redraw: false,
            results: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results")),
            dir: std::env::temp_dir(),
        };
        while let Some(flag) = arguments.next() {
            if flag == "--help" {
                println!("{HELP}");
                return Ok(None);
            }
            if flag == "--redraw" {
                settings.redraw = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{flag} needs a whole number, not {value:?}"));
            match flag.as_str() {
                "--seconds" => {
                    settings.seconds = value.parse().map_err(|_| format!("--seconds needs a number, not {value:?}"))?;
                }
                "--rounds" => settings.rounds = number()? as usize,
                "--documents" => settings.documents = number()?,
                "--bytes" => settings.bytes = number()? as usize,
                "--engines" => settings.engines = value.split(',').map(str::to_lowercase).collect(),
                "--only" => settings.only = Some(value),
                "--results" => settings.results = PathBuf::from(value),
                "--dir" => settings.dir = PathBuf::from(value),
                _ => return Err(format!("unknown flag {flag}\n\n{HELP}").into()),
            }
        }
        if settings.documents == 0 || settings.rounds == 0 || settings.bytes < BYTES_MIN {
            return Err(format!("at least one document, one round and {BYTES_MIN} bytes are needed").into());
        }
        if !(0.01..=3600.0).contains(&settings.seconds) {
            return Err("--seconds must be from 0.01 to 3600".into());
        }
        if settings.peers().is_empty() && !settings.redraw {
            let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
            return Err(format!("no engine has such a name; there are: {}", names.join(", ")).into());
        }
        Ok(Some(settings))
    }

    /// The engines to measure.
    pub(crate) fn peers(&self) -> Vec<&'static Peer> {
        let wanted = |peer: &&Peer| {
            let name = peer.name.to_lowercase();
            !self.redraw && (self.engines.is_empty() || self.engines.iter().any(|part| name.contains(part)))
        };
        PEERS.iter().filter(wanted).collect()
    }

    pub(crate) fn wants(&self, column: &Column) -> bool {
        self.only.as_ref().is_none_or(|text| column.name.contains(text))
    }
}
