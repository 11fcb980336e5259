//! The judge that knows the commit order: is what everybody was told right when all that happened is put in the order of
//! its commits, and does that order agree with time? Strict serializability of writes, batches, transactions, snapshots,
//! pages and feeds, in one pass. It believes nothing that the store says about the order without comparing it with what
//! the clients saw.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use super::history::{Commit, History, Op};
use super::said::{Answer, Expected, Seen};

/// What became of each write that was asked for: its commits, as places in the history's list; none when there is none.
pub(crate) struct Fates {
    pub(crate) commits: Vec<Vec<usize>>,
    pub(crate) by_etag: HashMap<String, usize>,
}

/// Finds the commits of each operation, and refuses what is half there, there twice, there without an author, or there
/// although its author was told that it is not.
pub(crate) fn fates(history: &History) -> Result<Fates, String> {
    let mut by_etag = HashMap::new();
    let mut by_value = HashMap::new();
    let mut deletions: HashMap<(&str, &str), usize> = HashMap::new();
    let mut newest: HashMap<&str, &Commit> = HashMap::new();
    let mut before: Option<&Commit> = None;
    for (at, commit) in history.commits.iter().enumerate() {
        if by_etag.insert(commit.etag.clone(), at).is_some() {
            return Err(format!("etag {} names two versions", commit.etag));
        }
        if before.is_some_and(|before| before.seq >= commit.seq || before.time_ms > commit.time_ms) {
            return Err(format!("{commit:?} comes after {before:?}"));
        }
        before = Some(commit);
        let replaced = newest.insert(&commit.id, commit);
        match &commit.body {
            Some(body) => {
                let value = *body.last().ok_or("an empty document")?;
                if let Some(other) = by_value.insert(value, at) {
                    return Err(format!("value {value} was written twice: {:?}, {commit:?}", history.commits[other]));
                }
            }
            None => {
                let replaced = replaced.filter(|replaced| replaced.body.is_some());
                let replaced = replaced.ok_or_else(|| format!("{commit:?} deletes nothing"))?;
                deletions.insert((&commit.id, &replaced.etag), at);
            }
        }
    }
    let mut claimed = vec![false; history.commits.len()];
    let mut commits = vec![Vec::new(); history.ops.len()];
    // Of two deletions of one version that nobody answered, the one that was asked first: the other could not have
    // succeeded earlier. And those that were answered before both.
    let mut order: Vec<usize> = (0..history.ops.len()).collect();
    order.sort_by_key(|&at| history.ops[at].answer == Answer::Unknown);
    for at in order {
        let op = &history.ops[at];
        let mut found = Vec::new();
        for write in &op.writes {
            let there = match (&write.value, &write.expected) {
                (Some(value), _) => by_value.get(value).copied(),
                (None, Expected::Exactly(etag)) => deletions.get(&(&write.id[..], &etag[..])).copied(),
                (None, _) => return Err(format!("nobody can tell whose deletion that would be: {op:?}")),
            };
            // A deletion that is somebody else's.
            let there = there.filter(|&there| write.value.is_some() || !claimed[there]);
            found.extend(there);
        }
        match &op.answer {
            Answer::Wrote { etags, .. } => {
                let same = |(etag, there): (&Option<String>, &usize)| {
                    etag.as_ref().is_none_or(|etag| *etag == history.commits[*there].etag)
                };
                let all = found.len() == op.writes.len() && etags.len() == found.len();
                if !all || !etags.iter().zip(&found).all(same) {
                    return Err(format!("was acknowledged, and there is {:?}: {op:?}", list(history, &found)));
                }
            }
            Answer::Unknown if found.is_empty() => {}
            Answer::Unknown if found.len() == op.writes.len() => {}
            Answer::Unknown => {
                return Err(format!("half of it is there, {:?}: {op:?}", list(history, &found)));
            }
            // A refused deletion can be somebody else's success.
            _ if found.iter().all(|&there| history.commits[there].body.is_none()) => found.clear(),
            _ => {
                return Err(format!(
                    "nothing was written, it was said, and there is {:?}: {op:?}",
                    list(history, &found)
                ));
            }
        }
        if found.windows(2).any(|pair| history.commits[pair[0]].end != history.commits[pair[1]].end) {
            return Err(format!("split: {:?} of {op:?}", list(history, &found)));
        }
        for (&there, write) in found.iter().zip(&op.writes) {
            if history.commits[there].id != write.id || std::mem::replace(&mut claimed[there], true) {
                return Err(format!("{:?} is not, or not only, what was asked for: {op:?}", history.commits[there]));
            }
        }
        commits[at] = found;
    }
    if let Some(at) = claimed.iter().position(|claimed| !claimed) {
        return Err(format!("nobody wrote {:?}", history.commits[at]));
    }
    Ok(Fates { commits, by_etag })
}

fn list<'a>(history: &'a History, found: &[usize]) -> Vec<&'a Commit> {
    found.iter().map(|&at| &history.commits[at]).collect()
}

/// The places in the commit order at which a document was as somebody saw it, as ranges from one place up to before
/// another. A place is the number of commits that come before.
type Times = Vec<(usize, usize)>;

struct Documents<'a> {
    history: &'a History,
    by_etag: &'a HashMap<String, usize>,
    /// By id: the commits that touched it.
    touched: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Documents<'a> {
    fn new(history: &'a History, by_etag: &'a HashMap<String, usize>) -> Documents<'a> {
        let mut touched: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, commit) in history.commits.iter().enumerate() {
            touched.entry(&commit.id).or_default().push(at);
        }
        Documents { history, by_etag, touched }
    }

    fn absent(&self, id: &str) -> Times {
        let mut times = Vec::new();
        let mut gone_since = Some(0);
        for &at in self.touched.get(id).map_or(&[][..], |touched| &touched[..]) {
            match (&self.history.commits[at].body, gone_since) {
                (Some(_), Some(since)) => {
                    times.push((since, at + 1));
                    gone_since = None;
                }
                (None, None) => gone_since = Some(at + 1),
                _ => {}
            }
        }
        times.extend(gone_since.map(|since| (since, usize::MAX)));
        times
    }

    fn times(&self, seen: &Seen) -> Result<Times, String> {
        let Some(version) = &seen.version else { return Ok(self.absent(&seen.id)) };
        let at = *self.by_etag.get(&version.etag).ok_or_else(|| format!("was taken back: {seen:?}"))?;
        let commit = &self.history.commits[at];
        if commit.id != seen.id || commit.body.is_none() {
            return Err(format!("{commit:?} was shown as {seen:?}"));
        }
        if version.body.is_some() && version.body != commit.body {
            return Err(format!("{commit:?} was shown as {seen:?}"));
        }
        let touched = &self.touched[&seen.id[..]];
        let next = touched[touched.partition_point(|&other| other <= at)..].first();
        Ok(vec![(at + 1, next.map_or(usize::MAX, |&next| next + 1))])
    }

    /// The places at which all of this was so.
    fn together(&self, seen: &[Seen], all_of: Option<&str>) -> Result<Times, String> {
        let mut times = vec![(0, usize::MAX)];
        for seen in seen {
            times = intersection(&times, &self.times(seen)?);
        }
        if let Some(prefix) = all_of {
            let known: HashSet<&str> = seen.iter().map(|seen| &seen.id[..]).collect();
            if known.len() != seen.len() || known.iter().any(|id| !id.starts_with(prefix)) {
                return Err(format!("documents twice, or that were not asked for: {seen:?}"));
            }
            let others = self.touched.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).map(|(id, _)| *id);
            for id in others.take_while(|id| id.starts_with(prefix)).filter(|id| !known.contains(id)) {
                times = intersection(&times, &self.absent(id));
            }
        }
        Ok(times)
    }
}

fn intersection(one: &Times, other: &Times) -> Times {
    let mut both = Vec::new();
    for &(from, to) in one {
        both.extend(other.iter().map(|&(a, b)| (from.max(a), to.min(b))).filter(|(a, b)| a < b));
    }
    both
}

/// What is wrong with the history, if anything is.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let fates = fates(history)?;
    let documents = Documents::new(history, &fates.by_etag);
    let floors = Floors::new(history, &fates, &documents)?;
    for (at, op) in history.ops.iter().enumerate() {
        let (floor, ceiling) = (floors.floor(op), floors.ceiling(op));
        if let (Some(first), Some(last)) = (fates.commits[at].iter().min(), fates.commits[at].iter().max()) {
            if *first < floor {
                return Err(format!("comes before what was known when it was asked: {op:?}"));
            }
            if *last >= ceiling {
                return Err(format!("comes after what was asked later: {op:?}"));
            }
        }
        match &op.answer {
            Answer::Wrote { seen, .. } => {
                let first = *fates.commits[at].iter().min().ok_or_else(|| format!("wrote nothing: {op:?}"))?;
                let times = documents.together(seen, None)?;
                if !times.iter().any(|&(from, to)| from <= first && first < to) {
                    return Err(format!("what it built on was not so at {first}, but at {times:?}: {op:?}"));
                }
            }
            Answer::Saw { seen, all_of } => {
                let times = documents.together(seen, all_of.as_deref())?;
                if !times.iter().any(|&(from, to)| from.max(floor) < to && from.max(floor) <= ceiling) {
                    return Err(format!("was so at {times:?}, and not from {floor} to {ceiling}: {op:?}"));
                }
            }
            Answer::Refused { current, expected } => {
                let times = documents.together(std::slice::from_ref(current), None)?;
                if !times.iter().any(|&(from, to)| from.max(floor) < to && from.max(floor) <= ceiling) {
                    return Err(format!("was so at {times:?}, and not from {floor} to {ceiling}: {op:?}"));
                }
                let held = match (expected, &current.version) {
                    (Expected::Anything, _) | (Expected::Nothing, None) => true,
                    (Expected::Exactly(etag), Some(version)) => *etag == version.etag,
                    _ => false,
                };
                if held {
                    return Err(format!("was refused though its condition held: {op:?}"));
                }
            }
            Answer::Fed { every_version, after, position, entries } => {
                let fed = Fed { every_version: *every_version, after: *after, position: *position, entries };
                fed.check(&documents, floor, ceiling).map_err(|wrong| format!("{wrong}: {op:?}"))?;
            }
            Answer::Nothing | Answer::Unknown => {}
        }
    }
    Ok(())
}

/// What was known when: of each moment, the place in the commit order that somebody had been told of by then, and the
/// place of the first write that was asked for only later.
struct Floors {
    /// By moment of an answer: the least place at which it can be.
    known: Vec<(usize, usize)>,
    /// By moment of a question: the place of the first commit of those asked from then on.
    coming: Vec<(usize, usize)>,
}

impl Floors {
    fn new(history: &History, fates: &Fates, documents: &Documents<'_>) -> Result<Floors, String> {
        let (mut known, mut coming) = (Vec::new(), Vec::new());
        for (at, op) in history.ops.iter().enumerate() {
            let least = |times: Times| times.first().map_or(0, |first| first.0);
            let shown = match &op.answer {
                Answer::Saw { seen, .. } => least(documents.together(seen, None)?),
                Answer::Wrote { .. } => fates.commits[at].iter().max().map_or(0, |last| last + 1),
                Answer::Refused { current, .. } => least(documents.times(current)?),
                Answer::Fed { position, .. } => history.commits.partition_point(|commit| commit.seq <= *position),
                Answer::Nothing | Answer::Unknown => 0,
            };
            if op.answered != usize::MAX {
                known.push((op.answered, shown));
            }
            coming.extend(fates.commits[at].iter().min().map(|&first| (op.asked, first)));
        }
        known.sort_unstable();
        let mut most = 0;
        known.iter_mut().for_each(|entry| {
            most = most.max(entry.1);
            entry.1 = most;
        });
        coming.sort_unstable();
        let mut least = usize::MAX;
        coming.iter_mut().rev().for_each(|entry| {
            least = least.min(entry.1);
            entry.1 = least;
        });
        Ok(Floors { known, coming })
    }

    fn floor(&self, op: &Op) -> usize {
        let before = self.known.partition_point(|&(moment, _)| moment < op.asked);
        before.checked_sub(1).map_or(0, |last| self.known[last].1)
    }

    fn ceiling(&self, op: &Op) -> usize {
        let later = self.coming.partition_point(|&(moment, _)| moment <= op.answered);
        self.coming.get(later).map_or(usize::MAX, |entry| entry.1)
    }
}

/// A page of a feed.
struct Fed<'a> {
    every_version: bool,
    after: u64,
    position: u64,
    entries: &'a [(u64, String, String)],
}

impl Fed<'_> {
    fn check(&self, documents: &Documents<'_>, floor: usize, ceiling: usize) -> Result<(), String> {
        let history = documents.history;
        let place = |seq: u64| history.commits.partition_point(|commit| commit.seq <= seq);
        let (from, to) = (place(self.after), place(self.position));
        if to > ceiling {
            return Err(format!("tells of what was asked only later, from {ceiling} on"));
        }
        // A page that is empty says that there is nothing more.
        if self.entries.is_empty() && to < floor {
            return Err(format!("ends at {to}, and {floor} was known"));
        }
        let told: Vec<&Commit> = history.commits[from..to.max(from)].iter().collect();
        let same = |commit: &Commit, entry: &(u64, String, String)| {
            commit.seq == entry.0 && commit.id == entry.1 && commit.etag == entry.2
        };
        if self.every_version {
            let all = told.len() == self.entries.len() && told.iter().zip(self.entries).all(|(c, e)| same(c, e));
            return if all { Ok(()) } else { Err(format!("from {from} to {to} there is {told:?}")) };
        }
        // Of newest versions, some may have been superseded meanwhile, and so are told later.
        let mut told = told.into_iter();
        let mut missing = BTreeSet::new();
        for entry in self.entries {
            loop {
                let Some(commit) = told.next() else { return Err(format!("{entry:?} is not from {from} to {to}")) };
                if same(commit, entry) {
                    missing.remove(&commit.id);
                    break;
                }
                missing.insert(&commit.id);
            }
        }
        missing.extend(told.map(|commit| &commit.id));
        for id in missing {
            // All of these were touched before `to`.
            let touched = &documents.touched[&id[..]];
            let later = touched.partition_point(|&at| at < to);
            let newest = &history.commits[touched[later - 1]];
            let here = self.entries.iter().any(|entry| entry.2 == newest.etag);
            if later == touched.len() && !here && newest.body.is_some() {
                return Err(format!("{newest:?} is the newest version and was not told"));
            }
        }
        Ok(())
    }
}
