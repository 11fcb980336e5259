//! The rows of the table that a long run ends with (`scripts/summary.sh`), in the columns of `RELIABILITY.md`.

use std::fmt::Display;
use std::time::Instant;

/// Says what came of a test.
pub(crate) fn row(test: impl Display, done: impl Display, compared: impl Display, wrong: impl Display, began: Instant) {
    println!("| {test} | {done} | {compared} | {wrong} | {:.0} s |", began.elapsed().as_secs_f64());
}
