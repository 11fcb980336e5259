//! The same for as long as one likes, with new seeds each time. A seed that fails is kept, and tried at every run from
//! then on; the others go on meanwhile.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::runner::{self, Count};
use crate::{from_environment, threads};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("model/regressions.txt")
}

/// The seeds that once failed: a number at the beginning of a line, and after it what was wrong.
pub(crate) fn regressions() -> Vec<u64> {
    let text = fs::read_to_string(file()).expect("the file of seeds that failed");
    let seed = |line: &str| u64::from_str_radix(line.split_whitespace().next()?.strip_prefix("0x")?, 16).ok();
    text.lines().filter_map(seed).collect()
}

/// Runs only if `ETAGDB_SOAK_SECONDS` says for how long.
#[test]
fn store_and_model_agree_for_as_long_as_one_likes() {
    let Some(seconds) = from_environment("ETAGDB_SOAK_SECONDS") else {
        println!("nothing to do: `make soak` sets ETAGDB_SOAK_SECONDS");
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let first = from_environment("ETAGDB_MODEL_FIRST").unwrap_or(now);
    let (counts, begun, given) = (Count::default(), Instant::now(), AtomicU64::new(0));
    let until = begun + Duration::from_secs(seconds);
    println!("soak: seeds from {first:#x} on, for {seconds} s");
    let next = || {
        let given = given.fetch_add(1, Ordering::SeqCst);
        if given.is_multiple_of(64) && given > 0 {
            println!("soak: {}, seeds to {:#x}", runner::progress(&counts, begun), first.wrapping_add(given));
        }
        (Instant::now() < until).then(|| first.wrapping_add(given))
    };
    let mut failures = 0;
    runner::batches(threads(), next, &counts, |failure| {
        failures += 1;
        let line = format!("{:#x} {}\n", failure.seed, failure.what.lines().next().unwrap_or_default());
        let kept =
            fs::OpenOptions::new().append(true).open(file()).and_then(|mut file| file.write_all(line.as_bytes()));
        println!("soak: FAILED, kept in {}: {kept:?}\n{}", file().display(), runner::explain(&failure, None));
    });
    println!("soak: {}, {failures} failures, and done", runner::progress(&counts, begun));
    assert_eq!(failures, 0, "store and model parted");
}
