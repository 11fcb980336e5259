//! Scans: id order, bounds, resuming, and passing over versions that do not count.

use etagdb::{Collection, Precondition, ScanRange};

use crate::Fixture;

fn ids(collection: &Collection, range: &ScanRange) -> Vec<Vec<u8>> {
    collection.scan(range).expect("scan").map(|entry| entry.expect("entry").0.to_vec()).collect()
}

#[test]
fn ids_come_in_byte_order_whatever_bytes_they_have() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut expected: Vec<&[u8]> =
        vec![b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0b", b"a\x01", b"ab", b"b", b"\xff", b"\xff\xff"];
    for id in expected.iter().rev() {
        docs.put(id, id, Precondition::Absent).expect("put");
    }
    expected.sort_unstable();
    assert_eq!(ids(&docs, &ScanRange::all()), expected);
    for id in &expected {
        assert_eq!(docs.get(id).expect("get").expect("there").body, *id);
        let after: Vec<_> = expected.iter().filter(|other| *other > id).copied().collect();
        assert_eq!(ids(&docs, &ScanRange::all().after(id)), after, "after {id:?}");
        let before: Vec<_> = expected.iter().filter(|other| *other < id).copied().collect();
        assert_eq!(ids(&docs, &ScanRange::all().to(id)), before, "before {id:?}");
        let through: Vec<_> = expected.iter().filter(|other| *other <= id).copied().collect();
        assert_eq!(ids(&docs, &ScanRange::all().through(id)), through, "through {id:?}");
        let prefixed: Vec<_> = expected.iter().filter(|other| other.starts_with(id)).copied().collect();
        assert_eq!(ids(&docs, &ScanRange::prefix(id)), prefixed, "prefix {id:?}");
    }
}

#[test]
fn only_the_newest_version_shows_and_deleted_documents_do_not() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    // More versions than a scan steps over one by one, so that both ways past them are taken.
    for round in 0..30 {
        for id in ["few", "many", "gone"] {
            if id != "few" || round < 3 {
                docs.put(id, round.to_string(), Precondition::Any).expect("put");
            }
        }
    }
    docs.delete("gone", Precondition::Present).expect("delete");
    let old = fixture.store.snapshot();
    for round in 30..60 {
        docs.put("many", round.to_string(), Precondition::Any).expect("put");
    }
    let bodies = |entries: etagdb::Scan<'_>| -> Vec<(Vec<u8>, String)> {
        entries
            .map(|entry| entry.expect("entry"))
            .map(|(id, document)| (id.to_vec(), String::from_utf8(document.body.to_vec()).expect("UTF-8")))
            .collect()
    };
    let pair = |id: &str, body: &str| (id.as_bytes().to_vec(), body.to_owned());
    assert_eq!(bodies(docs.scan(&ScanRange::all()).expect("scan")), [pair("few", "2"), pair("many", "59")]);
    assert_eq!(bodies(old.scan(&docs, &ScanRange::all()).expect("scan")), [pair("few", "2"), pair("many", "29")]);
}

#[test]
fn a_scan_is_of_one_moment_and_stays_in_its_collection() {
    let fixture = Fixture::new();
    let (docs, next) = (fixture.collection("docs"), fixture.collection("next"));
    for id in ["a", "b", "c"] {
        docs.put(id, "1", Precondition::Any).expect("put");
        next.put(id, "1", Precondition::Any).expect("put");
    }
    let mut scan = docs.scan(&ScanRange::all()).expect("scan");
    assert_eq!(scan.next().expect("a").expect("entry").0, "a");
    docs.delete("b", Precondition::Any).expect("delete");
    docs.put("bb", "1", Precondition::Any).expect("put");
    let rest: Vec<_> = scan.map(|entry| entry.expect("entry").0).collect();
    assert_eq!(rest, ["b", "c"]);
    assert_eq!(ids(&docs, &ScanRange::all()), [&b"a"[..], b"bb", b"c"]);
}

/// Any bounds, forwards and backwards, against a filtered list: every pair of them, neighbours of ids included.
#[test]
fn a_backward_scan_is_the_forward_one_turned_round() {
    let fixture = Fixture::new();
    // Collections on both sides, that a scan must not run into.
    let [below, docs, above] = ["below", "docs", "above"].map(|name| fixture.collection(name));
    let all: [&[u8]; 9] = [b"\0", b"\0\0", b"a", b"a\0", b"a\0b", b"ab", b"b", b"\xff", b"\xff\xff"];
    for id in all {
        for collection in [&below, &docs, &above] {
            collection.put(id, id, Precondition::Absent).expect("put");
        }
    }
    let bounds: Vec<Vec<u8>> = all.iter().flat_map(|id| [id.to_vec(), [id, &b"\0"[..]].concat()]).collect();
    let reversed = |mut list: Vec<Vec<u8>>| {
        list.reverse();
        list
    };
    for from in &bounds {
        for to in &bounds {
            let ranges = [
                ScanRange::all().from(from).to(to),
                ScanRange::all().after(from).before(to),
                ScanRange::all().from(from).through(to),
                ScanRange::prefix(from).through(to),
                ScanRange::all().to(to),
            ];
            for range in ranges {
                assert_eq!(ids(&docs, &range.clone().reverse()), reversed(ids(&docs, &range)), "{range:?}");
            }
        }
    }
    assert_eq!(ids(&docs, &ScanRange::all().reverse()), reversed(all.map(<[u8]>::to_vec).to_vec()));
}

#[test]
fn pages_meet_without_gap_or_repetition_both_ways() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for n in 0..100 {
        docs.put(format!("{n:03}"), "x", Precondition::Absent).expect("put");
    }
    let snapshot = fixture.store.snapshot();
    // Written between the pages: a snapshot's scan must not notice.
    docs.delete("050", Precondition::Any).expect("delete");
    docs.put("0505", "x", Precondition::Any).expect("put");
    let pages = |backwards: bool| {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let range = match (seen.last(), backwards) {
                (None, false) => ScanRange::all(),
                (Some(last), false) => ScanRange::all().after(last),
                (None, true) => ScanRange::all().reverse(),
                (Some(last), true) => ScanRange::all().before(last).reverse(),
            };
            let page = snapshot.scan(&docs, &range).expect("scan").take(7);
            let page: Vec<_> = page.map(|entry| entry.expect("entry").0).collect();
            if page.is_empty() {
                return seen;
            }
            seen.extend(page.iter().map(|id| String::from_utf8(id.to_vec()).expect("UTF-8")));
        }
    };
    let forwards = pages(false);
    assert_eq!(forwards, (0..100).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    assert_eq!(pages(true), forwards.into_iter().rev().collect::<Vec<_>>());
}

/// Documents with few, many and no versions at or below the snapshot, and few or many above it: each way past the
/// versions that do not count is taken.
#[test]
fn a_backward_scan_passes_over_superseded_and_too_new_versions() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let counts = [0, 1, 2, 7, 8, 9, 30];
    let cases: Vec<(usize, usize)> = counts.iter().flat_map(|&old| counts.map(|new| (old, new))).collect();
    let id = |(old, new): (usize, usize)| format!("{old:02} {new:02}");
    for &(old, new) in &cases {
        for n in 0..old {
            docs.put(id((old, new)), format!("old {n}"), Precondition::Any).expect("put");
        }
    }
    // One in three was deleted by then.
    for &case in cases.iter().step_by(3) {
        docs.delete(id(case), Precondition::Any).expect("delete");
    }
    let snapshot = fixture.store.snapshot();
    for &(old, new) in &cases {
        for n in 0..new {
            docs.put(id((old, new)), format!("new {n}"), Precondition::Any).expect("put");
        }
    }
    let bodies = |range: &ScanRange, snapshot: &etagdb::Snapshot| -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let entries = snapshot.scan(&docs, range).expect("scan").map(|entry| entry.expect("entry"));
        entries.map(|(id, document)| (text(&id), text(&document.body))).collect()
    };
    let expected: Vec<_> = cases
        .iter()
        .enumerate()
        .filter(|(n, (old, _))| n % 3 != 0 && *old > 0)
        .map(|(_, &(old, new))| (id((old, new)), format!("old {}", old - 1)))
        .collect();
    assert_eq!(bodies(&ScanRange::all(), &snapshot), expected);
    let backwards = bodies(&ScanRange::all().reverse(), &snapshot);
    assert_eq!(backwards, expected.into_iter().rev().collect::<Vec<_>>());

    let now = fixture.store.snapshot();
    let forwards = bodies(&ScanRange::all(), &now);
    assert!(forwards.iter().any(|(_, body)| body == "new 29"));
    let backwards = bodies(&ScanRange::all().reverse(), &now);
    assert_eq!(backwards, forwards.into_iter().rev().collect::<Vec<_>>());
}
