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
