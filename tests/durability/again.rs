//! Cases that once failed. Owns `regressions.txt`, to which each failing test adds its case, and whose cases every run
//! tries again; what a case means is the business of the test that it came from.
//!
//! `ETAGDB_CASE="fault write:37:1:28"` tries one case instead of those in the file. A case is all that a seed decides.
//! What the threads of a process do in between it does not, so a state that was found wrong is kept besides, and judged
//! again exactly as it was with `ETAGDB_KEPT_CUT` or `ETAGDB_KEPT_HISTORY`.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::recorder::Orders;
use crate::{damage, faults, histories, power};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("durability/regressions.txt")
}

/// The cases in a file: two or more words in quotes at the beginning of a line, and after them what was wrong.
fn cases(text: &str) -> Vec<String> {
    let case = |line: &str| Some(line.strip_prefix('"')?.split_once('"')?.0.to_owned());
    text.lines().filter_map(case).collect()
}

/// Adds a case that failed to a file, unless it is there.
fn keep_in(file: &Path, case: &str, wrong: &impl Display) {
    if cases(&fs::read_to_string(file).unwrap_or_default()).iter().any(|known| known == case) {
        return;
    }
    let wrong: String = wrong.to_string().lines().next().unwrap_or_default().chars().take(160).collect();
    let line = format!("\"{case}\" {wrong}\n");
    let kept = OpenOptions::new().create(true).append(true).open(file).and_then(|mut it| it.write_all(line.as_bytes()));
    kept.unwrap_or_else(|error| println!("  not kept in {}: {error}", file.display()));
}

/// Notes a case that failed, and says how it is tried again.
pub(crate) fn keep(case: &str, wrong: impl Display) {
    println!("FAILED: {wrong}\n  again: ETAGDB_CASE=\"{case}\" make again");
    keep_in(&file(), case, &wrong);
}

/// Tries a case; what is wrong, if anything.
fn try_again(case: &str, orders: &Orders) -> Result<(), String> {
    match case.split_once(' ') {
        Some(("cut", case)) => power::again(case, orders),
        Some(("fault", case)) => faults::again(case),
        Some(("damage", case)) => damage::again(case),
        Some(("history", case)) => histories::again(case),
        _ => panic!("{case:?} is no case"),
    }
}

#[test]
fn cases_that_once_failed_do_so_no_more() {
    let cases = match std::env::var("ETAGDB_CASE") {
        Ok(case) => vec![case],
        Err(_) => cases(&fs::read_to_string(file()).expect("the file of cases that failed")),
    };
    for case in &cases {
        try_again(case, &Orders::default()).unwrap_or_else(|wrong| panic!("{case}: {wrong}"));
    }
    println!("{} cases that once failed, none of them now", cases.len());
}

/// With a bug planted, what a test keeps shows the bug again, each way; and without it, nothing.
#[test]
fn what_is_kept_of_a_failure_shows_it_again() {
    let orders = Orders { lie: Some("log"), ..Orders::default() };
    let red = power::find_red(&orders);
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    keep_in(file.path(), &red.case, &red);
    keep_in(file.path(), &red.case, &red);
    let kept = cases(&fs::read_to_string(file.path()).expect("kept"));
    assert_eq!(kept, std::slice::from_ref(&red.case), "once");
    assert!(try_again(&kept[0], &orders).is_err(), "the seed does not show the bug");
    power::judge_kept(&red.kept).expect_err("the state does not show the bug");
    try_again(&kept[0], &Orders::default()).expect("without the bug");
    red.forget();
}
