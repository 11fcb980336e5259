//! What is measured and for how long, from the command line.

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of each round of each row.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    /// Of 1 KiB that all rows but those of reading beyond memory and of opening have.
    pub(crate) documents: u64,
    /// What a store has that is opened.
    pub(crate) documents_to_open: u64,
    /// How long the soak takes.
    pub(crate) soak_seconds: u64,
    /// Rows whose name, as printed, contains this.
    pub(crate) only: String,
    /// A glance: fewer and shorter rounds, one size of documents, a smaller store to open, nothing kept.
    pub(crate) is_quick: bool,
}

const USAGE: &str = "[--quick] [--seconds S] [--rounds R] [--documents N] [--open N] [--soak S] [--only TEXT]";

impl Settings {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
        let mut settings = Settings {
            seconds: 1.0,
            rounds: 3,
            documents: 50_000,
            documents_to_open: 1_000_000,
            soak_seconds: 60,
            only: String::new(),
            is_quick: false,
        };
        while let Some(flag) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
                value.parse::<f64>().ok().filter(|n| *n > 0.0).ok_or(format!("{flag} needs a number, not {value:?}"))
            };
            match flag.as_str() {
                // Cargo passes this to every benchmark.
                "--bench" => {}
                "--quick" => {
                    (settings.seconds, settings.rounds, settings.is_quick) = (0.3, 3, true);
                    (settings.documents_to_open, settings.soak_seconds) = (200_000, 10);
                }
                "--seconds" => settings.seconds = number()?,
                "--rounds" => settings.rounds = number()? as usize,
                "--documents" => settings.documents = number()? as u64,
                "--open" => settings.documents_to_open = number()? as u64,
                "--soak" => settings.soak_seconds = number()? as u64,
                "--only" => settings.only = arguments.next().ok_or("--only needs a text")?,
                _ => return Err(format!("unknown flag {flag}; known are {USAGE}")),
            }
        }
        Ok(settings)
    }

    /// Whether a row is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}
