//! The judges are judged: a history in which one thing is changed, so that it tells of an anomaly, must be refused by
//! every judge whose business that is. Each tampering is done to a history of a real store.

use std::sync::OnceLock;

use super::history::{Commit, History, Op};
use super::said::{Answer, Expected, Intent, Seen, Version};
use super::{Death, elle, live, order, search};
use crate::recorder::memory_dir;

/// What the three judges say of what has happened to the history: whether they refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    order: bool,
    search: bool,
    elle: bool,
}

/// A history of several lives, in which nothing is wrong.
fn sound() -> History {
    static SOUND: OnceLock<History> = OnceLock::new();
    let make = || {
        let dir = memory_dir();
        let (mut history, mut life) = (History::default(), 0);
        for lines in [4_000, 2_000] {
            live(dir.path(), 0x7461_6d70, &mut life, Death::Kill(lines), &mut history);
        }
        history.conclude(&dir.path().join("store")).expect("sound");
        assert_eq!(refused(&history), Refused { order: false, search: false, elle: false });
        history
    };
    SOUND.get_or_init(make).clone()
}

fn refused(history: &History) -> Refused {
    let verdicts = [order::check(history), search::check(history), elle::check(history)];
    println!("{}", format!("{verdicts:?}").chars().take(200).collect::<String>());
    let [order, search, elle] = verdicts.map(|verdict| verdict.is_err());
    Refused { order, search, elle }
}

/// Changes the first operation of which `change` knows how, from the middle of the history on.
fn tamper(history: &mut History, change: impl Fn(&mut Op) -> bool) {
    let middle = history.ops.len() / 4;
    assert!(history.ops[middle..].iter_mut().any(change), "there is nothing to tamper with");
}

/// The version of a document before the one with this etag, if both are versions.
fn before(commits: &[Commit], etag: &str) -> Option<Version> {
    let at = commits.iter().position(|commit| commit.etag == etag)?;
    let earlier = commits[..at].iter().rev().find(|commit| commit.id == commits[at].id)?;
    let body = earlier.body.clone()?;
    Some(Version { etag: earlier.etag.clone(), body: Some(body) })
}

const ALL: Refused = Refused { order: true, search: true, elle: true };

#[test]
fn a_stale_read_is_refused() {
    let mut history = sound();
    let commits = history.commits.clone();
    // What was current long before is seen by somebody who comes last.
    let list = commits.iter().rev().filter(|commit| commit.id.contains("list"));
    // A version of which its author had no answer may have been made at any time, also last.
    let answered = |etag: &String| {
        history
            .ops
            .iter()
            .any(|op| matches!(&op.answer, Answer::Wrote { etags, .. } if etags.contains(&Some(etag.clone()))))
    };
    let mut old = list.filter_map(|commit| Some((commit.id.clone(), before(&commits, &commit.etag)?)));
    let old = old.find(|(_, version)| answered(&version.etag));
    let (id, version) = old.expect("a list with two versions");
    let moment = history.ops.last().expect("the last look").answered;
    let answer = Answer::Saw { seen: vec![Seen { id, version: Some(version) }], all_of: None };
    history.ops.push(Op { asked: moment + 1, answered: moment + 2, writes: Vec::new(), answer });
    assert_eq!(refused(&history), ALL);
}

/// Two clients build on the same version, and both are told that they have won.
#[test]
fn a_lost_update_is_refused() {
    let mut history = sound();
    let commits = history.commits.clone();
    tamper(&mut history, |op| match &mut op.answer {
        Answer::Wrote { seen, .. } => {
            let [write] = &op.writes[..] else { return false };
            let Some(old) = seen.iter_mut().find(|seen| seen.id == write.id && seen.id.contains("list")) else {
                return false;
            };
            let Some(older) = old.version.as_ref().and_then(|version| before(&commits, &version.etag)) else {
                return false;
            };
            old.version = Some(older);
            true
        }
        _ => false,
    });
    assert_eq!(refused(&history), ALL);
}

/// A write that its author was told had failed is seen by others.
#[test]
fn an_aborted_read_is_refused() {
    let mut history = sound();
    tamper(&mut history, |op| {
        let added = matches!(&op.answer, Answer::Wrote { .. }) && op.writes.iter().all(|w| w.id.contains("list"));
        if added {
            op.answer = Answer::Nothing;
        }
        added
    });
    assert_eq!(refused(&history), ALL);
}

/// An acknowledged write is not there any more.
#[test]
fn a_write_that_was_taken_back_is_refused() {
    let mut history = sound();
    let acknowledged = history.ops.iter().rfind(|op| op.writes.len() == 1 && matches!(op.answer, Answer::Wrote { .. }));
    let Answer::Wrote { etags, .. } = &acknowledged.expect("a single write").answer else { unreachable!() };
    let lost = history.commits.iter().position(|commit| etags[0].as_ref() == Some(&commit.etag));
    history.commits.remove(lost.expect("it is there"));
    let Refused { order, search, .. } = refused(&history);
    assert!(order && search);
}

#[test]
fn half_a_batch_is_refused() {
    let mut history = sound();
    let half = history.commits.iter().position(|commit| commit.end != commit.seq).expect("a batch");
    history.commits[half].end = history.commits[half].seq;
    assert!(refused(&history).order);
}

/// What was sent twice was done twice.
#[test]
fn a_write_that_was_done_twice_is_refused() {
    let mut history = sound();
    let mut again = history.commits.iter().rev().find(|commit| commit.body.is_some()).expect("a write").clone();
    let last = history.commits.last().expect("the same").seq;
    (again.seq, again.end, again.etag) = (last + 1, last + 1, "another".to_owned());
    history.commits.push(again);
    assert!(refused(&history).order);
}

#[test]
fn a_gap_in_the_feed_is_refused() {
    let mut history = sound();
    tamper(&mut history, |op| match &mut op.answer {
        Answer::Fed { every_version: true, entries, .. } if entries.len() > 2 => {
            entries.remove(1);
            true
        }
        _ => false,
    });
    assert!(refused(&history).order);
    // The feed of newest versions: what it leaves out must come later.
    let history = sound();
    let newest =
        |id: &str, etag: &str| history.commits.iter().rev().find(|c| c.id == id).is_some_and(|c| c.etag == etag);
    let mut changed = history.clone();
    tamper(&mut changed, |op| match &mut op.answer {
        Answer::Fed { every_version: false, entries, .. } => {
            let left_out = entries.iter().position(|(_, id, etag)| newest(id, etag));
            left_out.map(|at| entries.remove(at)).is_some() && !entries.is_empty()
        }
        _ => false,
    });
    assert!(refused(&changed).order);
}

#[test]
fn a_feed_that_changes_the_order_is_refused() {
    let mut history = sound();
    tamper(&mut history, |op| match &mut op.answer {
        Answer::Fed { every_version: true, entries, .. } if entries.len() > 2 => {
            entries.swap(0, 1);
            true
        }
        _ => false,
    });
    assert!(refused(&history).order);
}

/// A page leaves out a document that was there all the time.
#[test]
fn a_document_that_paging_passes_over_is_refused() {
    let mut history = sound();
    tamper(&mut history, |op| match &mut op.answer {
        Answer::Saw { seen, all_of: Some(_) } => {
            let list = seen.iter().position(|seen| seen.id.contains("list"));
            list.map(|at| seen.remove(at)).is_some()
        }
        _ => false,
    });
    let Refused { order, elle, .. } = refused(&history);
    assert!(order && elle);
}

/// A snapshot that shows one half of a transaction and not the other (a fractured read).
#[test]
fn a_fractured_read_is_refused() {
    let mut history = sound();
    let commits = history.commits.clone();
    // A look at everything, in which one list of a batch is taken back to before it.
    let pairs: Vec<(String, String)> = commits
        .windows(2)
        .filter(|pair| pair[0].end == pair[1].seq && pair.iter().all(|commit| commit.id.contains("list")))
        .map(|pair| (pair[0].etag.clone(), pair[1].etag.clone()))
        .collect();
    tamper(&mut history, |op| {
        let Answer::Saw { seen, all_of: Some(_) } = &mut op.answer else { return false };
        let at = |etag: &str| seen.iter().position(|seen| seen.version.as_ref().is_some_and(|v| v.etag == etag));
        let pair = pairs.iter().find_map(|(one, other)| Some((at(one)?, before(&commits, other)?, at(other)?)));
        let Some((_, older, place)) = pair else { return false };
        seen[place].version = Some(older);
        true
    });
    let Refused { order, elle, .. } = refused(&history);
    assert!(order && elle);
}

/// Two transactions that each read what the other writes: right under snapshot isolation, wrong here.
#[test]
fn a_write_skew_is_refused() {
    let mut history = History::default();
    let list = |name: &str| format!("list {name}");
    let write = |id: &str, value| Intent { id: list(id), value: Some(value), expected: Expected::Anything };
    let at = |id: &str, etag: &str, body: &[u64]| Seen {
        id: list(id),
        version: Some(Version { etag: etag.to_owned(), body: Some(body.to_vec()) }),
    };
    let nothing = |id: &str| Seen { id: list(id), version: None };
    let commit = |seq: u64, id: &str, etag: &str, body: &[u64]| Commit {
        seq,
        end: seq,
        id: list(id),
        etag: etag.to_owned(),
        body: Some(body.to_vec()),
        time_ms: seq,
    };
    let wrote = |seen, etag: &str| Answer::Wrote { seen, etags: vec![Some(etag.to_owned())] };
    let mut op = |asked, answered, writes, answer| history.ops.push(Op { asked, answered, writes, answer });
    op(1, 2, vec![write("a", 1)], wrote(vec![nothing("a")], "a1"));
    op(3, 4, vec![write("b", 2)], wrote(vec![nothing("b")], "b2"));
    let both = || vec![at("a", "a1", &[1]), at("b", "b2", &[2])];
    op(5, 7, vec![write("a", 3)], wrote(both(), "a3"));
    op(6, 8, vec![write("b", 4)], wrote(both(), "b4"));
    let all = vec![at("a", "a3", &[1, 3]), at("b", "b4", &[2, 4])];
    op(9, 10, Vec::new(), Answer::Saw { seen: all, all_of: None });
    history.commits = vec![commit(1, "a", "a1", &[1]), commit(2, "b", "b2", &[2])];
    history.commits.extend([commit(3, "a", "a3", &[1, 3]), commit(4, "b", "b4", &[2, 4])]);
    // Document by document nothing is wrong with it.
    assert_eq!(refused(&history), Refused { order: true, search: false, elle: true });
}

/// An answer that comes before what it tells of was asked for.
#[test]
fn a_read_from_the_future_is_refused() {
    let mut history = sound();
    let written = history.ops.iter().rposition(|op| {
        matches!(op.answer, Answer::Wrote { .. }) && op.writes.iter().all(|write| write.id.contains("list"))
    });
    let written = &history.ops[written.expect("a write")];
    let (moment, write) = (written.asked, written.writes[0].clone());
    let made = history.commits.iter().find(|c| c.body.as_ref().and_then(|body| body.last().copied()) == write.value);
    let made = made.expect("it is there");
    let version = Some(Version { etag: made.etag.clone(), body: made.body.clone() });
    let answer = Answer::Saw { seen: vec![Seen { id: write.id, version }], all_of: None };
    // Room for one more question and answer before it.
    for op in &mut history.ops {
        op.asked *= 4;
        op.answered = op.answered.saturating_mul(4);
    }
    history.ops.push(Op { asked: moment * 4 - 2, answered: moment * 4 - 1, writes: Vec::new(), answer });
    assert_eq!(refused(&history), ALL);
}

/// A condition that held is said to have failed.
#[test]
fn a_refusal_without_reason_is_refused() {
    let mut history = sound();
    tamper(&mut history, |op| match &mut op.answer {
        Answer::Refused { current: Seen { version: Some(version), .. }, expected } => {
            *expected = Expected::Exactly(version.etag.clone());
            true
        }
        _ => false,
    });
    let Refused { order, search, .. } = refused(&history);
    assert!(order && search);
}
