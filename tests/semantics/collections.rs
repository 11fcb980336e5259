//! Collections and the directory they live in.

use etagdb::{Error, Options, Precondition, ScanRange, Store};

use crate::{Fixture, text};

#[test]
fn collections_are_apart_and_survive_a_reopen() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.collection("a"), fixture.collection("b"));
    a.put("x", "of a", Precondition::Any).expect("put");
    assert_eq!(text(&b, "x"), None);
    drop((a, b));
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.collections(), ["a", "b"]);
    assert_eq!(text(&fixture.collection("a"), "x").as_deref(), Some("of a"));
    assert!(fixture.store.existing_collection("c").is_none());
    assert_eq!(fixture.store.collections(), ["a", "b"], "asking makes nothing");
}

#[test]
fn a_dropped_collection_is_gone_for_every_handle_and_does_not_come_back_under_its_name() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("a", "1", Precondition::Any).expect("put");
    let snapshot = fixture.store.snapshot();
    assert!(fixture.store.drop_collection("docs").expect("drop"));
    assert!(!fixture.store.drop_collection("docs").expect("drop again"));

    let again = fixture.collection("docs");
    assert_eq!(text(&again, "a"), None);
    again.put("a", "2", Precondition::Absent).expect("put");
    assert!(matches!(docs.get("a"), Err(Error::Invalid(_))));
    assert!(matches!(docs.put("a", "3", Precondition::Any), Err(Error::Invalid(_))));
    assert!(matches!(docs.scan(&ScanRange::all()), Err(Error::Invalid(_))));
    assert!(matches!(snapshot.get(&docs, "a"), Err(Error::Invalid(_))));
    drop((docs, again, snapshot));
    let fixture = fixture.reopen();
    assert_eq!(text(&fixture.collection("docs"), "a").as_deref(), Some("2"));
}

#[test]
fn writers_and_a_drop_meet_cleanly() {
    let fixture = Fixture::new();
    for round in 0..20 {
        let docs = fixture.collection("docs");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let docs = &docs;
                scope.spawn(move || {
                    for n in 0.. {
                        match docs.put(format!("{writer} {n}"), "x", Precondition::Absent) {
                            Ok(_) => {}
                            Err(Error::Invalid(message)) => {
                                assert!(message.contains("dropped"), "{message}");
                                return;
                            }
                            Err(error) => panic!("round {round}: {error}"),
                        }
                    }
                });
            }
            while docs.get("0 0").expect("get").is_none() {
                std::hint::spin_loop();
            }
            assert!(fixture.store.drop_collection("docs").expect("drop"));
        });
        let again = fixture.collection("docs");
        assert_eq!(again.scan(&ScanRange::all()).expect("scan").count(), 0, "round {round}: a write outlived the drop");
        fixture.store.drop_collection("docs").expect("drop");
    }
}

#[test]
fn a_second_opening_of_a_directory_is_refused_by_name() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("store");
    match Store::open(&path) {
        Err(error @ Error::InUse { .. }) => {
            let message = error.to_string();
            assert!(message.contains(&std::process::id().to_string()), "{message}");
            assert!(message.contains(&path.display().to_string()), "{message}");
        }
        other => panic!("opened twice: {other:?}"),
    }
    drop(fixture.store);
    Store::open(&path).expect("free after the first handle is gone");
}

#[test]
fn an_interrupted_creation_is_finished_by_the_next_opening() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("store");
    drop(Store::open(&path).expect("create"));
    // What a crash just before the last step of creation leaves.
    std::fs::remove_file(path.join("FORMAT")).expect("remove");
    let store = Store::open(&path).expect("finish creation");
    store.collection("docs").expect("collection").put("a", "1", Precondition::Any).expect("put");
}

#[test]
fn a_format_from_the_future_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("store");
    drop(fixture.store);
    std::fs::write(path.join("FORMAT"), "etagdb format 5\n").expect("write");
    assert!(matches!(Store::open(&path), Err(Error::UnknownFormat { found, .. }) if found == "5"));
}

#[test]
fn a_lost_database_is_damage_and_not_an_empty_store() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("store");
    drop(fixture.store);
    std::fs::remove_file(path.join("rocksdb/CURRENT")).expect("remove");
    assert!(Store::open(&path).is_err());
}

#[test]
fn options_out_of_range_are_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("store");
    for (options, name) in [
        (Options::default().cache_bytes(0), "cache_bytes"),
        (Options::default().write_buffer_bytes(1), "write_buffer_bytes"),
        (Options::default().flush_interval(std::time::Duration::ZERO), "flush_interval"),
    ] {
        match options.open(&path) {
            Err(Error::Invalid(message)) => assert!(message.contains(name), "{message}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(Options::default().create_if_missing(false).open(&path), Err(Error::Invalid(_))));
    assert!(!path.exists(), "nothing was made");
}
