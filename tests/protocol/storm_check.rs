//! What a storm of conditional writes must have left behind: the judge of the evidence, and the tests of the judge.
//!
//! It knows what every client was told and every version that the server kept, and nothing of how they came to be.
//!
//! A refusal needs care. An SDK that lost the answer to a write may send the write again by itself, and is then refused
//! because the first one was done: a 412 proves that a write was not done only if the server was there all the while.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// How far the clocks of two programs on one machine may seem apart, in milliseconds.
const CLOCK_ERROR_MS: u64 = 5;

/// One write that a client tried, as the client tells it. Times are milliseconds since 1970.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) writer: String,
    pub(crate) document: String,
    /// When it asked for the version it read.
    pub(crate) asked: u64,
    pub(crate) read: Seen,
    /// What it wrote, and nobody else ever does.
    pub(crate) marker: String,
    pub(crate) began: u64,
    pub(crate) outcome: Outcome,
    /// The status of an unknown outcome, if there was any answer.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    #[serde(default)]
    pub(crate) etag: Option<String>,
    pub(crate) ended: u64,
}

/// A version as a client read it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) etag: String,
    pub(crate) count: u64,
    pub(crate) marker: String,
}

/// What a client knows of its write.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Acknowledged,
    Refused,
    Unknown,
}

/// One version that the server kept.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) etag: String,
    pub(crate) count: u64,
    pub(crate) marker: String,
    /// The marker of the version that its writer had read.
    pub(crate) previous: String,
}

/// A time without a server, in milliseconds since 1970: from before it was killed until after it was ready again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// All there is to judge.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// Each writer's in its order.
    pub(crate) attempts: Vec<Attempt>,
    /// Every version of each document, oldest first.
    pub(crate) histories: BTreeMap<String, Vec<Version>>,
    pub(crate) outages: Vec<Outage>,
}

/// Returns what is wrong with the evidence, a sentence each; nothing if all is well.
pub(crate) fn faults(evidence: &Evidence) -> Vec<String> {
    let mut faults = Vec::new();
    let places = Places::of(evidence, &mut faults);
    for (document, history) in &evidence.histories {
        check_chain(document, history, &mut faults);
    }
    for attempt in &evidence.attempts {
        if let Err(fault) = check_attempt(attempt, evidence, &places) {
            faults.push(format!("{} {}: {fault}", attempt.writer, attempt.marker));
        }
    }
    check_authors(evidence, &mut faults);
    check_order(evidence, &places, &mut faults);
    faults
}

/// Where in its document's history each etag and each marker is.
struct Places<'a> {
    etags: HashMap<&'a str, (&'a str, usize)>,
    markers: HashMap<(&'a str, &'a str), usize>,
}

impl<'a> Places<'a> {
    fn of(evidence: &'a Evidence, faults: &mut Vec<String>) -> Places<'a> {
        let mut places = Places { etags: HashMap::new(), markers: HashMap::new() };
        for (document, history) in &evidence.histories {
            for (place, version) in history.iter().enumerate() {
                if places.etags.insert(&version.etag, (document, place)).is_some() {
                    faults.push(format!("{document}: the etag {} was used twice", version.etag));
                }
                if places.markers.insert((document, &version.marker), place).is_some() {
                    faults.push(format!("{document}: the write {} was done twice", version.marker));
                }
            }
        }
        places
    }
}

/// Each version must build on the one before it: otherwise an update was lost.
fn check_chain(document: &str, history: &[Version], faults: &mut Vec<String>) {
    if history.first().is_none_or(|first| first.count != 0) {
        faults.push(format!("{document}: its first version is missing"));
    }
    for pair in history.windows(2) {
        let [before, after] = pair else { continue };
        if after.previous != before.marker || after.count != before.count + 1 {
            faults.push(format!(
                "{document}: a lost update: {} made {} of {}, but {} had made {} before it",
                after.marker, after.count, after.previous, before.marker, before.count
            ));
        }
    }
}

fn check_attempt(attempt: &Attempt, evidence: &Evidence, places: &Places<'_>) -> Result<(), String> {
    let document = attempt.document.as_str();
    let history = evidence.histories.get(document).ok_or("there is no such document")?;
    let read = match places.etags.get(attempt.read.etag.as_str()) {
        Some((owner, place)) if *owner == document => *place,
        _ => return Err(format!("it read version {} of {document}, which never was", attempt.read.etag)),
    };
    if history.get(read).is_none_or(|it| it.count != attempt.read.count || it.marker != attempt.read.marker) {
        return Err(format!("it read something else of {document} than what version {} is", attempt.read.etag));
    }
    let done = places.markers.get(&(document, attempt.marker.as_str())).copied();
    if let Some(done) = done
        && done != read + 1
    {
        return Err(format!("it was done on another version of {document} than the one it named"));
    }
    let is_last = read + 1 == history.len();
    match (attempt.outcome, done) {
        (Outcome::Acknowledged, None) => Err(format!("it was acknowledged, and {document} has no such version")),
        (Outcome::Acknowledged, Some(done)) => match history.get(done) {
            Some(version) if Some(&version.etag) == attempt.etag.as_ref() => Ok(()),
            _ => Err(format!("it was acknowledged with the etag {:?}, which is not the version's", attempt.etag)),
        },
        (Outcome::Refused, Some(_)) if !evidence.outages.iter().any(|outage| overlaps(attempt, *outage)) => {
            Err("it was refused, and done all the same".to_owned())
        }
        (Outcome::Refused, None) if is_last => {
            Err(format!("it was refused, although version {} of {document} is still the last", attempt.read.etag))
        }
        (Outcome::Unknown, _) if attempt.status.is_some_and(|status| status != 408 && status < 500) => {
            Err(format!("it was answered with status {:?}", attempt.status))
        }
        _ => Ok(()),
    }
}

fn overlaps(attempt: &Attempt, outage: Outage) -> bool {
    attempt.began <= outage.to + CLOCK_ERROR_MS && outage.from <= attempt.ended + CLOCK_ERROR_MS
}

/// Every version but the first of each document must be somebody's.
fn check_authors(evidence: &Evidence, faults: &mut Vec<String>) {
    let attempts = evidence.attempts.iter();
    let tried: HashMap<&str, &Attempt> = attempts.map(|attempt| (attempt.marker.as_str(), attempt)).collect();
    for (document, history) in &evidence.histories {
        for version in history.iter().skip(1) {
            let its = |attempt: &&Attempt| attempt.document == *document && attempt.read.count + 1 == version.count;
            if tried.get(version.marker.as_str()).filter(|attempt| its(attempt)).is_none() {
                faults.push(format!("{document}: nobody wrote version {}, {}", version.etag, version.marker));
            }
        }
    }
}

/// A read must show everything that was acknowledged before it was asked for, and a client must not go back in time.
fn check_order(evidence: &Evidence, places: &Places<'_>, faults: &mut Vec<String>) {
    let place = |etag: &str| places.etags.get(etag).map(|(_, place)| *place);
    let mut acknowledged: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
    for attempt in &evidence.attempts {
        if let Some(place) = attempt.etag.as_deref().and_then(place) {
            acknowledged.entry(&attempt.document).or_default().push((attempt.ended, place));
        }
    }
    for known in acknowledged.values_mut() {
        known.sort_unstable();
        let mut newest = 0;
        for (_, place) in known {
            newest = newest.max(*place);
            *place = newest;
        }
    }
    let mut last_seen: HashMap<(&str, &str), usize> = HashMap::new();
    for attempt in &evidence.attempts {
        let Some(read) = place(&attempt.read.etag) else { continue };
        let known = acknowledged.get(attempt.document.as_str()).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(ended, _)| ended + CLOCK_ERROR_MS < attempt.asked);
        let due = before.checked_sub(1).and_then(|last| known.get(last)).map_or(0, |(_, place)| *place);
        let seen = last_seen.entry((&attempt.writer, &attempt.document)).or_default();
        if read < due.max(*seen) {
            faults.push(format!(
                "{} {}: it read version {read} of {} when version {} had been shown to {}",
                attempt.writer,
                attempt.marker,
                attempt.document,
                due.max(*seen),
                if read < *seen { "it before" } else { "somebody" },
            ));
        }
        *seen = attempt.etag.as_deref().and_then(place).unwrap_or(read).max(*seen);
    }
}

mod tests {
    use super::*;

    /// A storm in which all went well: two clients, two documents, an outage, and every outcome.
    fn good() -> Evidence {
        let version = |document: &str, count: u64, marker: &str, previous: &str| Version {
            etag: format!("\"{document}{count}\""),
            count,
            marker: marker.to_owned(),
            previous: previous.to_owned(),
        };
        let attempt = |writer: &str, document: &str, at: u64, read: (u64, &str), marker: &str, outcome| Attempt {
            writer: writer.to_owned(),
            document: document.to_owned(),
            asked: at,
            read: Seen { etag: format!("\"{document}{}\"", read.0), count: read.0, marker: read.1.to_owned() },
            marker: marker.to_owned(),
            began: at + 1,
            outcome,
            status: None,
            etag: (outcome == Outcome::Acknowledged).then(|| format!("\"{document}{}\"", read.0 + 1)),
            ended: at + 10,
        };
        let a = vec![
            version("a", 0, "start", ""),
            version("a", 1, "x-1", "start"),
            version("a", 2, "y-2", "x-1"),
            version("a", 3, "x-3", "y-2"),
            version("a", 4, "y-4", "x-3"),
        ];
        let b = vec![version("b", 0, "start", "")];
        Evidence {
            attempts: vec![
                attempt("x", "a", 100, (0, "start"), "x-1", Outcome::Acknowledged),
                attempt("y", "a", 100, (0, "start"), "y-1", Outcome::Refused),
                attempt("y", "a", 200, (1, "x-1"), "y-2", Outcome::Acknowledged),
                // Killed after the commit and before the answer; the second was sent again by its SDK, and refused.
                attempt("x", "a", 300, (2, "y-2"), "x-3", Outcome::Unknown),
                attempt("y", "a", 400, (3, "x-3"), "y-4", Outcome::Refused),
                // Killed before the commit.
                attempt("x", "b", 400, (0, "start"), "x-5", Outcome::Unknown),
            ],
            histories: BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]),
            outages: vec![Outage { from: 305, to: 320 }, Outage { from: 405, to: 420 }],
        }
    }

    #[track_caller]
    fn finds(part: &str, spoil: impl FnOnce(&mut Evidence)) {
        let mut evidence = good();
        spoil(&mut evidence);
        let found = faults(&evidence);
        assert!(found.iter().any(|fault| fault.contains(part)), "not found: {part}, but {found:?}");
    }

    fn of_a(evidence: &mut Evidence) -> &mut Vec<Version> {
        evidence.histories.get_mut("a").expect("a document")
    }

    #[test]
    fn nothing_is_wrong_with_a_good_storm() {
        assert_eq!(faults(&good()), Vec::<String>::new());
    }

    #[test]
    fn an_acknowledged_write_that_is_missing_is_found() {
        // The whole end of the history is gone, so that what is left is a good chain.
        finds("y-2: it was acknowledged, and a has no such version", |evidence| of_a(evidence).truncate(2));
        finds("has no such version", |evidence| drop(of_a(evidence).remove(1)));
    }

    #[test]
    fn a_lost_update_is_found() {
        finds("a lost update", |evidence| of_a(evidence)[2].previous = "start".to_owned());
        finds("a lost update", |evidence| of_a(evidence)[2].count = 1);
        finds("first version is missing", |evidence| drop(of_a(evidence).remove(0)));
    }

    #[test]
    fn a_write_on_another_version_than_it_named_is_found() {
        finds("done on another version", |evidence| {
            let read = evidence.attempts[0].read.clone();
            evidence.attempts[2].read = read;
        });
    }

    #[test]
    fn an_etag_that_is_not_the_versions_is_found() {
        finds("which is not the version's", |evidence| evidence.attempts[0].etag = Some("\"a9\"".to_owned()));
        finds("which is not the version's", |evidence| evidence.attempts[0].etag = None);
        finds("used twice", |evidence| of_a(evidence)[4].etag = "\"a1\"".to_owned());
        finds("done twice", |evidence| of_a(evidence)[4].marker = "x-1".to_owned());
    }

    #[test]
    fn a_read_of_what_never_was_is_found() {
        finds("which never was", |evidence| evidence.attempts[1].read.etag = "\"a7\"".to_owned());
        finds("read something else", |evidence| evidence.attempts[1].read.count = 7);
        // An etag of another document.
        finds("which never was", |evidence| evidence.attempts[1].read.etag = "\"b0\"".to_owned());
    }

    #[test]
    fn a_refusal_that_means_nothing_is_found() {
        finds("refused, and done all the same", |evidence| evidence.outages.clear());
        finds("still the last", |evidence| evidence.attempts[5].outcome = Outcome::Refused);
    }

    #[test]
    fn a_version_that_nobody_wrote_is_found() {
        finds("nobody wrote", |evidence| drop(evidence.attempts.remove(3)));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_found() {
        finds("answered with status Some(400)", |evidence| evidence.attempts[3].status = Some(400));
    }

    #[test]
    fn a_read_of_the_past_is_found() {
        finds("had been shown to somebody", |evidence| evidence.attempts[1].asked = 150);
        finds("had been shown to it before", |evidence| {
            let mut again = evidence.attempts[1].clone();
            again.asked = 100;
            evidence.attempts.push(again);
        });
    }
}
