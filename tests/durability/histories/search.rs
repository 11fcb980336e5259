//! The judge that searches: `todc-utils`, after Wing, Gong and Lowe, of each document by itself. It is shown versions as
//! names without an order, and when questions and answers came; whether there is an order in which all answers are right
//! it finds out by trying. What is linearizable document by document is linearizable.

use std::collections::BTreeMap;

use todc_utils::{Action, History as Search, Specification, WGLChecker};

use super::history::{History, Op};
use super::order::{self, Fates};
use super::said::{Answer, Expected, Seen};

/// What an operation did to a document, or saw of it. Versions have numbers; 0 is no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Read(usize),
    /// Made a version in place of another, if it was told of which.
    Wrote(Option<usize>, usize),
    /// Was told that another version was there than the one that it asked for.
    Refused {
        current: usize,
        wanted: usize,
    },
}

/// A document as its clients may think of it.
struct Register;

impl Specification for Register {
    type State = usize;
    type Operation = Deed;

    fn init() -> usize {
        0
    }

    fn apply(deed: &Deed, current: &usize) -> (bool, usize) {
        match *deed {
            Deed::Read(version) => (version == *current, *current),
            Deed::Wrote(replaced, made) => {
                let right = replaced.is_none_or(|replaced| replaced == *current);
                (right, if right { made } else { *current })
            }
            Deed::Refused { current: told, wanted } => (told == *current && told != wanted, *current),
        }
    }
}

/// A deed and when it may have been done.
#[derive(Debug, Clone, Copy)]
struct Step {
    asked: usize,
    answered: usize,
    deed: Deed,
}

/// What is wrong, if anything is.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let fates = order::fates(history)?;
    for (id, steps) in steps(history, &fates)? {
        // Each step by a client of its own: one operation does no two things to one document.
        let mut events: Vec<(usize, usize, Action<Deed>)> = Vec::new();
        for (client, step) in steps.iter().enumerate() {
            events.push((step.asked, client, Action::Call(step.deed)));
            events.push((step.answered, client, Action::Response(step.deed)));
        }
        // Those without an answer end together, after all others.
        events.sort_by_key(|event| event.0);
        let events = events.into_iter().map(|(_, client, action)| (client, action)).collect();
        if !WGLChecker::<Register>::is_linearizable(Search::from_actions(events)) {
            return Err(format!("{id:?} is not linearizable: {steps:?}"));
        }
    }
    Ok(())
}

fn steps(history: &History, fates: &Fates) -> Result<BTreeMap<String, Vec<Step>>, String> {
    let mut by_id: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    let number = |etag: &str| match fates.by_etag.get(etag) {
        Some(at) => Ok(at + 1),
        None => Err(format!("etag {etag} was taken back")),
    };
    let version = |seen: &Seen| seen.version.as_ref().map_or(Ok(0), |version| number(&version.etag));
    for (at, op) in history.ops.iter().enumerate() {
        let mut does = |id: &str, deed| {
            let Op { asked, answered, .. } = *op;
            by_id.entry(id.to_owned()).or_default().push(Step { asked, answered, deed });
        };
        let made = fates.commits[at].iter().map(|&at| (&history.commits[at], at + 1));
        let made: Vec<_> = made.map(|(commit, number)| (commit, commit.body.as_ref().map_or(0, |_| number))).collect();
        let seen = match &op.answer {
            Answer::Saw { seen, .. } | Answer::Wrote { seen, .. } => &seen[..],
            Answer::Refused { current, expected } => {
                // A name that no version has, where nothing but a version would do.
                let wanted = match expected {
                    Expected::Nothing => 0,
                    Expected::Exactly(etag) => fates.by_etag.get(etag).map_or(usize::MAX, |at| at + 1),
                    Expected::Anything => return Err(format!("refused without a condition: {op:?}")),
                };
                does(&current.id, Deed::Refused { current: version(current)?, wanted });
                &[]
            }
            Answer::Nothing | Answer::Unknown | Answer::Fed { .. } => &[],
        };
        for (commit, number) in &made {
            let replaced = seen.iter().find(|seen| seen.id == commit.id).map(version).transpose()?;
            does(&commit.id, Deed::Wrote(replaced, *number));
        }
        for seen in seen.iter().filter(|seen| made.iter().all(|(commit, _)| commit.id != seen.id)) {
            does(&seen.id, Deed::Read(version(seen)?));
        }
    }
    Ok(by_id)
}
