//! A process that dies while it makes a checkpoint leaves a whole one or one that says that it is not.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use etagdb::{Error, Options, Store};

use crate::summary;

/// Lets a child make checkpoints while it writes, kills it some `commits` after the second, and returns what it said of
/// them: number and newest commit.
fn live_and_die(store: &Path, checkpoints: &Path, commits: usize) -> HashMap<String, u64> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_crash-child"))
        .arg(store)
        .args(["sync", "checkpoints"])
        .arg(checkpoints)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut said, mut killed, mut left) = (HashMap::new(), false, commits);
    // To the end: between the line at which it is killed and its death it may say more.
    for line in lines {
        let line = line.expect("read");
        if let ["checkpoint", number, newest] = line.split(' ').collect::<Vec<_>>()[..] {
            said.insert(number.to_owned(), newest.parse().expect("a number"));
        }
        if said.len() >= 2 && !killed {
            if left == 0 {
                child.kill().expect("kill");
                killed = true;
            }
            left = left.saturating_sub(1);
        }
    }
    assert!(killed, "the child ended by itself");
    child.wait().expect("wait");
    said
}

#[test]
fn a_checkpoint_is_whole_or_says_that_it_is_not_when_its_maker_is_killed() {
    let (began, mut whole, mut unfinished) = (Instant::now(), 0, 0);
    for round in 0..12 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (store, checkpoints) = (dir.path().join("store"), dir.path().join("checkpoints"));
        std::fs::create_dir(&checkpoints).expect("create");
        let said = live_and_die(&store, &checkpoints, round * 3);
        for entry in std::fs::read_dir(&checkpoints).expect("read") {
            let path = entry.expect("entry").path();
            let number = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            match Options::default().read_only(true).open(&path) {
                Ok(copy) => {
                    if let Some(&newest) = said.get(number) {
                        assert_eq!(copy.last_commit().get(), newest, "checkpoint {number}");
                    }
                    let report = copy.verify(|_| {}).expect("verify");
                    assert!(report.is_sound(), "checkpoint {number}: {:?}", report.problems);
                    whole += 1;
                }
                Err(Error::Invalid(message)) => {
                    assert!(!said.contains_key(number), "checkpoint {number} was acknowledged: {message}");
                    assert!(message.contains("unfinished") || message.contains("no store"), "{message}");
                    unfinished += 1;
                }
                Err(error) => panic!("checkpoint {number}: {error}"),
            }
        }
        let original = Store::open(&store).expect("open after the kill");
        let report = original.verify(|_| {}).expect("verify");
        assert!(report.is_sound(), "{:?}", report.problems);
        assert!(said.values().all(|&newest| newest <= original.last_commit().get()));
    }
    let compared = format!("{whole} checkpoints whole, {unfinished} unfinished");
    summary::row("SIGKILL while checkpoints are made", "12 kills", compared, 0, began);
}
