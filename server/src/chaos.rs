//! Fault injection, for testing clients: what goes wrong, for which request.
//!
//! Owns [`Chaos`], the header `x-etagdb-chaos`, and the choice of a fault. Without a `Chaos` in the settings nothing here
//! is reached, and the header means nothing. How a fault is done is the listener's business.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::headers::Headers;
use crate::routes::{Part, Route};
use crate::status::{ApiError, Kind};

/// Names the fault that a request asks for; and in an answer the one that was chosen.
pub(crate) const HEADER: &str = "x-etagdb-chaos";
/// Longest delay that can be asked for: a request under way keeps a shutdown waiting.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// What a client is told to wait when the fault does not say.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// Which faults happen to requests about items, and how often; any request may ask for one by the header
/// `x-etagdb-chaos`.
///
/// The text form is a list such as `429=0.1, delay:20ms=0.5, drop=0.01, seed=7`: a fault and the fraction of requests
/// that it happens to, and the seed of the choice. The empty text is valid: faults by header only.
///
/// | fault | does |
/// |---|---|
/// | `408`, `412`, `503` | answers with this status; nothing is carried out |
/// | `429`, `449`, or with a time, `429:250ms` | the same, and says how long to wait before another attempt |
/// | `delay:100ms` | waits, then carries the request out |
/// | `reset` | resets the connection; nothing is carried out |
/// | `drop` | carries the request out, then resets the connection instead of answering |
///
/// # Examples
///
/// ```
/// use etagdb_server::Chaos;
///
/// assert!("429:250ms=0.1, drop=0.01, seed=7".parse::<Chaos>().is_ok());
/// assert!("500=0.1".parse::<Chaos>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chaos {
    rates: Vec<(Fault, f64)>,
    seed: u64,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused, perhaps with a time to wait before another attempt.
    Refuse(Kind, Option<Duration>),
    Delay(Duration),
    Reset,
    /// Carried out, and not answered.
    Drop,
}

/// A text that names no faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseChaosError(String);

impl fmt::Display for ParseChaosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseChaosError {}

impl FromStr for Chaos {
    type Err = ParseChaosError;

    fn from_str(text: &str) -> Result<Chaos, ParseChaosError> {
        let mut chaos = Chaos::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| ParseChaosError(format!("{part:?} does not say how often: write it as {part}=0.1")))?;
            let (name, value) = (name.trim(), value.trim());
            if name == "seed" {
                chaos.seed =
                    value.parse().map_err(|_| ParseChaosError(format!("the seed {value:?} is not a whole number")))?;
                continue;
            }
            let rate = value.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
            let rate =
                rate.ok_or_else(|| ParseChaosError(format!("the rate {value:?} is not a number from 0 to 1")))?;
            chaos.rates.push((name.parse()?, rate));
        }
        let sum: f64 = chaos.rates.iter().map(|(_, rate)| rate).sum();
        if sum > 1.0 {
            return Err(ParseChaosError(format!(
                "the rates add up to {sum}, and there is one fault at most per request"
            )));
        }
        Ok(chaos)
    }
}

impl FromStr for Fault {
    type Err = ParseChaosError;

    fn from_str(text: &str) -> Result<Fault, ParseChaosError> {
        let (name, time) = match text.split_once(':') {
            Some((name, time)) => (name.trim(), Some(milliseconds(time.trim())?)),
            None => (text.trim(), None),
        };
        Ok(match (name, time) {
            ("408", None) => Fault::Refuse(Kind::RequestTimeout, None),
            ("412", None) => Fault::Refuse(Kind::PreconditionFailed, None),
            ("503", None) => Fault::Refuse(Kind::ServiceUnavailable, None),
            ("429", time) => Fault::Refuse(Kind::TooManyRequests, Some(time.unwrap_or(RETRY_AFTER))),
            ("449", time) => Fault::Refuse(Kind::RetryWith, Some(time.unwrap_or(RETRY_AFTER))),
            ("delay", Some(time)) => Fault::Delay(time),
            ("reset", None) => Fault::Reset,
            ("drop", None) => Fault::Drop,
            _ => {
                return Err(ParseChaosError(format!(
                    "there is no fault {text:?}; the faults are 408, 412, 429, 429:250ms, 449, 503, delay:100ms, reset \
                     and drop"
                )));
            }
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refuse(kind, None) => write!(f, "{}", kind.status().as_u16()),
            Fault::Refuse(kind, Some(time)) => write!(f, "{}:{}ms", kind.status().as_u16(), time.as_millis()),
            Fault::Delay(time) => write!(f, "delay:{}ms", time.as_millis()),
            Fault::Reset => f.write_str("reset"),
            Fault::Drop => f.write_str("drop"),
        }
    }
}

impl Fault {
    /// The answer of a request that is refused.
    pub(crate) fn refusal(self) -> Option<ApiError> {
        let Fault::Refuse(kind, _) = self else { return None };
        let mut error = ApiError::new(kind, format!("Fault injection: {self}. Nothing was carried out."));
        error.fault = Some(Box::new(self));
        Some(if kind == Kind::TooManyRequests { error.substatus(crate::status::REQUEST_RATE_TOO_LARGE) } else { error })
    }
}

fn milliseconds(text: &str) -> Result<Duration, ParseChaosError> {
    let number = text.strip_suffix("ms").and_then(|number| number.trim().parse().ok()).map(Duration::from_millis);
    number.filter(|time| *time <= DELAY_MAX).ok_or_else(|| {
        ParseChaosError(format!("the time {text:?} is not a number of milliseconds up to a minute, such as 100ms"))
    })
}

/// A [`Chaos`] at work.
#[derive(Debug)]
pub(crate) struct Dice {
    chaos: Chaos,
    state: AtomicU64,
}

impl Dice {
    pub(crate) fn new(chaos: Chaos) -> Dice {
        let state = AtomicU64::new(chaos.seed);
        Dice { chaos, state }
    }

    /// What is to happen to a request: what it asks for itself, or else what the dice say.
    pub(crate) fn fault(&self, route: &Route, headers: Headers<'_>) -> Result<Option<Fault>, ApiError> {
        if let Some(text) = headers.text(HEADER)? {
            return text.parse().map(Some).map_err(|error: ParseChaosError| {
                ApiError::bad_request(format!("The value of the header '{HEADER}' is invalid: {error}."))
            });
        }
        Ok(match route {
            Route::Container(_, Part::Items | Part::Item(_)) => self.roll(),
            _ => None,
        })
    }

    fn roll(&self) -> Option<Fault> {
        // The top 53 bits make a number from 0 to 1.
        let mut rest = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        for (fault, rate) in &self.chaos.rates {
            if rest < *rate {
                return Some(*fault);
            }
            rest -= rate;
        }
        None
    }

    /// SplitMix64: one atomic addition, so that requests need not wait for each other.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        // Each request gets a number of its own; nothing else is ordered by it.
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written_the_same() {
        for text in ["408", "412", "503", "429:250ms", "449:0ms", "delay:60000ms", "reset", "drop"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("429".parse::<Fault>().unwrap().to_string(), "429:10ms");
        for text in [
            "",
            "500",
            "200",
            "412:5ms",
            "delay",
            "delay:5",
            "delay:60001ms",
            "delay:-1ms",
            "reset:1ms",
            "429:",
            "DROP",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_that_make_no_sense_are_named() {
        for (text, word) in [
            ("429", "429=0.1"),
            ("429=x", "\"x\""),
            ("429=-0.1", "-0.1"),
            ("429=1.1", "1.1"),
            ("429=nan", "nan"),
            ("429=0.6,503=0.6", "1.2"),
            ("500=0.1", "\"500\""),
            ("seed=x", "seed"),
        ] {
            let error = text.parse::<Chaos>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!("".parse::<Chaos>().unwrap(), Chaos::default());
    }

    #[test]
    fn faults_happen_as_often_as_they_should_and_the_same_for_a_seed() {
        let rolls = |text: &str| -> Vec<Option<Fault>> {
            let dice = Dice::new(text.parse().unwrap());
            (0..10_000).map(|_| dice.roll()).collect()
        };
        let first = rolls("429=0.25, reset=0.05, seed=7");
        let count = |fault: Option<Fault>| first.iter().filter(|rolled| **rolled == fault).count();
        let throttled = count("429".parse().ok());
        // Ten standard deviations; the seed is fixed anyway.
        assert!((2_000..3_000).contains(&throttled), "{throttled} of 10,000");
        assert!((280..720).contains(&count(Some(Fault::Reset))));
        assert_eq!(first, rolls("429=0.25, reset=0.05, seed=7"));
        assert_ne!(first, rolls("429=0.25, reset=0.05, seed=8"));
        assert!(rolls("reset=1").iter().all(|rolled| *rolled == Some(Fault::Reset)));
        assert!(rolls("reset=0").iter().all(Option::is_none));
    }
}
