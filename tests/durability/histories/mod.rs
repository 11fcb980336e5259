//! Histories: concurrent clients of a store in a process that is killed again and again, runs out of memory, meets failing
//! calls and a clock that jumps, or loses its power. What they saw is put together over all lives (`history`) and judged
//! three times: in commit order (`order`), document by document by a search (`search`), and by what transactions saw of
//! each other (`elle`). `http` has clients of the server, who send again what was not answered.
//!
//! `ETAGDB_HISTORY_SECONDS` says for how long (`make histories`), and `ETAGDB_SEED` with which choices. When a history is
//! refused, its lines and the store are kept; `ETAGDB_KEPT_HISTORY` names such a directory to judge it again. Its seed is
//! kept too (`again`).

mod elle;
mod history;
mod http;
mod order;
mod power;
mod said;
mod search;
mod tampered;
pub(crate) mod web;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use history::History;

use crate::again;
use crate::power::seed_of_run;
use crate::random::Random;
use crate::recorder::{self, Orders, memory_dir};
use crate::summary;

/// Far longer than any line takes to come: reaching it means that the store hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a life ends.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// SIGKILL after so many lines.
    Kill(usize),
    /// Something takes all the memory that the process may have.
    Hunger,
    /// Calls of a kind fail, from one on so often, with this error; the process opens the store again, and is killed.
    Fault(&'static str, u64, u64, i32),
}

impl Death {
    fn any(random: &mut Random) -> Death {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        match random.below(12) {
            0 => Death::Hunger,
            1 | 2 => Death::Fault("write", 20 + random.below(2_000), 1, EIO),
            3 => Death::Fault("sync", 5 + random.below(400), 1, EIO),
            4 => Death::Fault("open", 5 + random.below(30), 1, EIO),
            5 => Death::Fault("write", 20 + random.below(2_000), 1 + random.below(4), ENOSPC),
            _ => Death::Kill(1 + random.below(6_000) as usize),
        }
    }
}

/// What came of many lives.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    hungry: u64,
    /// Of these, how many did not live until they were killed.
    aborted: u64,
    faults: u64,
    operations: usize,
    unknown: usize,
    commits: usize,
}

/// The first seed of a test, of its own and of the run.
fn first_seed(own: u64) -> u64 {
    own ^ (seed_of_run() << 16)
}

/// For how long a test may go on after its first round.
fn seconds() -> Duration {
    let seconds = std::env::var("ETAGDB_HISTORY_SECONDS").ok().map_or(0, |text| text.parse().expect("a number"));
    Duration::from_secs(seconds)
}

/// Keeps a history that is not as it must be, as a case and as it is, and ends the test.
fn refuse(case: &str, history: &History, dir: tempfile::TempDir, wrong: &str) -> ! {
    let kept = dir.keep();
    std::fs::write(kept.join("lines"), history.lines.concat()).expect("write");
    let place = format!("judged again with ETAGDB_KEPT_HISTORY={}", kept.display());
    again::keep(&format!("history {case}"), format!("{wrong}, {place}"));
    panic!("{case}: refused, {place}");
}

/// Asks all judges.
fn judge(case: &str, history: &History, dir: tempfile::TempDir) {
    let verdicts =
        [("order", order::check(history)), ("search", search::check(history)), ("elle", elle::check(history))];
    if verdicts.iter().all(|(_, verdict)| verdict.is_ok()) {
        return;
    }
    for (judge, verdict) in &verdicts {
        println!("{judge}: {verdict:?}");
    }
    let refused: Vec<&str> = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).map(|(judge, _)| *judge).collect();
    refuse(case, history, dir, &format!("refused by {refused:?}"));
}

/// Lets a process live on the store below `root`, until it ends in this way, and hears what its clients say.
fn live(root: &Path, seed: u64, life: &mut u64, death: Death, history: &mut History) -> ExitStatus {
    let program = Path::new(env!("CARGO_BIN_EXE_history-child"));
    let lives = if matches!(death, Death::Fault(..)) { 2 } else { 1 };
    let numbers = [seed, *life, 1 << 40, lives].map(|number| number.to_string());
    *life += lives;
    let (mut command, lines) = match death {
        Death::Kill(lines) => (Command::new(program), lines),
        Death::Fault(kind, first, count, errno) => {
            let orders = Orders { fault: Some((kind, first, count, errno)), ..Orders::default() };
            (recorder::command(program, root, &orders), 8_000)
        }
        Death::Hunger => {
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -v 400000; exec \"$0\" \"$@\""]).arg(program).env("MALLOC_ARENA_MAX", "1");
            (command, 60_000)
        }
    };
    command.arg(root.join("store")).args(numbers).args(matches!(death, Death::Hunger).then_some("hungry"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("spawn");
    let (sender, heard) = channel();
    let said = BufReader::new(child.stdout.take().expect("piped")).lines();
    let reader = std::thread::spawn(move || said.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    for number in 1.. {
        match heard.recv_timeout(PATIENCE) {
            // What a process said last may lack its end.
            Ok(line) if line.ends_with('}') => history.hear_line(&line),
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().expect("kill");
                panic!("seed {seed}, life {life}, {death:?}: it hangs");
            }
        }
        if number == lines {
            child.kill().expect("kill");
        }
    }
    let _ = reader.join().expect("it reads to the end");
    history.everybody_died();
    child.wait().expect("wait")
}

/// Some lives of one store, and the judgement.
fn lives(seed: u64, deaths: impl IntoIterator<Item = Death>, tally: &mut Tally) {
    let dir = memory_dir();
    let (mut history, mut life) = (History::default(), 0);
    for death in deaths {
        let status = live(dir.path(), seed, &mut life, death, &mut history);
        match death {
            Death::Kill(_) => {
                assert_eq!(status.code(), None, "seed {seed}: a client gave up");
                tally.kills += 1;
            }
            Death::Hunger => {
                tally.hungry += 1;
                // By its own hand, when an allocation failed.
                const SIGABRT: i32 = 6;
                tally.aborted += u64::from(status.signal() == Some(SIGABRT));
            }
            Death::Fault(..) => tally.faults += 1,
        }
    }
    if let Err(wrong) = history.conclude(&dir.path().join("store")) {
        refuse(&format!("embedded {seed}"), &history, dir, &wrong.to_string());
    }
    let (operations, unknown) = history.size();
    tally.operations += operations;
    tally.unknown += unknown;
    tally.commits += history.commits.len();
    judge(&format!("embedded {seed}"), &history, dir);
}

/// How the lives of the store with this seed end.
fn deaths(seed: u64) -> Vec<Death> {
    let mut random = Random::new(seed);
    (0..12).map(|_| Death::any(&mut random)).collect()
}

/// One more history with the choices of this one.
pub(crate) fn again(case: &str) -> Result<(), String> {
    let (kind, seed) = case.split_once(' ').unwrap_or_else(|| panic!("{case:?} is no history"));
    let seed = seed.parse().expect("a seed");
    match kind {
        "embedded" => lives(seed, deaths(seed), &mut Tally::default()),
        "http" => drop(http::storm(seed, http::KILLS)),
        "power" => drop(power::cut(seed)),
        _ => panic!("{case:?} is no history"),
    }
    Ok(())
}

#[test]
fn what_clients_see_across_deaths_of_all_kinds_is_one_order_that_agrees_with_time() {
    let (began, mut tally) = (Instant::now(), Tally::default());
    let first = first_seed(0x6869_7374);
    let each = [Death::Kill(3_000), Death::Hunger, Death::Fault("sync", 40, 1, 5), Death::Kill(500)];
    lives(first, each, &mut tally);
    let mut seed = first;
    while seed == first || began.elapsed() < seconds() {
        seed += 1;
        lives(seed, deaths(seed), &mut tally);
    }
    let Tally { kills, hungry, aborted, faults, operations, unknown, commits } = tally;
    let deaths = format!("{kills} kills, {faults} failing calls, {hungry} short of memory");
    let test = format!("histories, embedded, seeds {first} to {seed}: {deaths}");
    let done = format!("{} stores, {commits} commits", seed - first + 1);
    summary::row(test, done, format!("{operations} operations, {unknown} unknown"), 0, began);
    assert!(aborted > 0, "nobody ran out of memory");
    assert!(unknown > 0, "nobody was ever left without an answer");
}

/// Judges a history again that was refused: all of it is as it was.
#[test]
fn a_kept_history_is_judged_again() {
    let Some(kept) = std::env::var_os("ETAGDB_KEPT_HISTORY").map(PathBuf::from) else { return };
    let mut history = History::default();
    let lines = std::fs::read_to_string(kept.join("lines")).expect("lines");
    lines.lines().for_each(|line| history.hear_line(line));
    history.everybody_died();
    history.conclude(&kept.join("store")).expect("a store");
    order::check(&history).expect("in commit order");
    search::check(&history).expect("document by document");
    elle::check(&history).expect("transaction by transaction");
}
