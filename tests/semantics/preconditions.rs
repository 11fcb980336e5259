//! Preconditions on single writes.

use etagdb::{Error, Etag, Precondition};

use crate::{Fixture, text};

#[test]
fn every_precondition_against_every_state() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let other = docs.put("other", "x", Precondition::Absent).expect("put").etag;

    // State by state: never there, present, deleted; then which preconditions let a put through.
    for state in ["never there", "present", "deleted"] {
        for (name, precondition) in [
            ("any", Some(Precondition::Any)),
            ("absent", Some(Precondition::Absent)),
            ("present", Some(Precondition::Present)),
            ("match current", None),
            ("match other", Some(Precondition::Match(other))),
            ("match never", Some(Precondition::Match(Etag::NEVER))),
        ] {
            let id = format!("{state} {name}");
            let mut current = None;
            if state != "never there" {
                current = Some(docs.put(&id, "before", Precondition::Absent).expect("put").etag);
            }
            let precondition = precondition.unwrap_or(Precondition::Match(current.unwrap_or(other)));
            if state == "deleted" {
                docs.delete(&id, Precondition::Present).expect("delete");
                current = None;
            }
            let holds = match precondition {
                Precondition::Any => true,
                Precondition::Absent => current.is_none(),
                Precondition::Present => current.is_some(),
                Precondition::Match(etag) => current == Some(etag),
            };
            let before = text(&docs, &id);
            match docs.put(&id, "after", precondition) {
                Ok(written) => {
                    assert!(holds, "{id}: a put went through");
                    assert_eq!(written.replaced, current, "{id}");
                    assert_eq!(docs.get(&id).expect("get").expect("put").etag, written.etag, "{id}");
                }
                Err(Error::Conflict(conflict)) => {
                    assert!(!holds, "{id}: a put was refused");
                    assert_eq!(conflict.current, current, "{id}");
                    assert_eq!(conflict.expected, precondition, "{id}");
                    assert_eq!(&conflict.id[..], id.as_bytes());
                    assert_eq!(conflict.collection, "docs");
                    assert_eq!(text(&docs, &id), before, "{id}: a refused put changed the document");
                }
                Err(error) => panic!("{id}: {error}"),
            }
        }
    }
}

#[test]
fn a_refused_write_commits_nothing() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("a", "1", Precondition::Absent).expect("put");
    let before = fixture.store.last_commit();
    assert!(matches!(docs.put("a", "2", Precondition::Absent), Err(Error::Conflict(_))));
    assert!(matches!(docs.delete("a", Precondition::Match(Etag::NEVER)), Err(Error::Conflict(_))));
    assert!(matches!(docs.delete("b", Precondition::Present), Err(Error::Conflict(_))));
    assert_eq!(docs.delete("b", Precondition::Any).expect("nothing to delete"), None);
    assert_eq!(fixture.store.last_commit(), before);
}

#[test]
fn a_conflict_says_who_won() {
    let fixture = Fixture::new();
    let docs = fixture.collection("carts");
    let first = docs.put("ana", "1", Precondition::Absent).expect("put");
    let second = docs.put("ana", "2", first.etag).expect("put");
    let error = docs.put("ana", "3", first.etag).expect_err("stale");
    let message = error.to_string();
    for part in ["ana", "carts", &first.etag.to_string(), &second.etag.to_string()] {
        assert!(message.contains(part), "{message:?} does not name {part:?}");
    }
}
