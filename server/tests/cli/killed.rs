//! The directory of a server that was killed, read as it lies there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, documents, etagdb, import, text};

/// Every file below a directory, by its name.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().display().to_string(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// A place whose `data` a server had that acknowledged twenty documents and was killed.
fn killed() -> Place {
    let place = Place::new();
    let input = place.input("input.ndjson", &documents(20));
    let server = place.serve();
    assert_eq!(import(&["--url", &server.url], &[&input]).output().unwrap().status.code(), Some(0));
    // With SIGKILL.
    drop(server);
    place
}

#[test]
fn what_was_acknowledged_is_read_from_the_log_and_nothing_is_changed() {
    let place = killed();
    let (data, temporary) = (place.path("data"), place.path("temporary"));
    fs::create_dir(&temporary).unwrap();
    let before = files(Path::new(&data));
    let tables = before.keys().filter(|name| name.ends_with(".sst")).count();
    let is_segment = |name: &String| Path::new(name).parent().is_some_and(|parent| parent.ends_with("log"));
    assert_eq!((tables, before.keys().filter(|name| is_segment(name)).count()), (0, 1), "all of it is in the log");
    let run = |args: &[&str]| {
        let output = etagdb(args).env("TMPDIR", &temporary).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{args:?} left something behind");
        assert!(files(Path::new(&data)) == before, "{args:?} changed something");
        text(&output.stdout)
    };
    let of = ["--data", &data, "--database", "d", "--container", "c"];
    let report: Value = serde_json::from_str(&run(&["verify", "--data", &data, "--json"])).unwrap();
    assert!(report["sound"] == true && report["documents"].as_u64().unwrap() >= 20, "{report}");
    assert_eq!(run(&[&["export"], &of[..]].concat()).lines().count(), 20);
    let at = ["--partition", "\"pk-3\"", "id-3"];
    let document: Value = serde_json::from_str(&run(&[&["get"], &of[..], &at[..]].concat())).unwrap();
    assert_eq!(document["number"], 3);
    run(&[&["history"], &of[..], &at[..]].concat());
    let query = ["SELECT VALUE COUNT(1) FROM c"];
    assert!(run(&[&["query"], &of[..], &query].concat()).ends_with("\n20\n"));
    let stats: Value = serde_json::from_str(&run(&["stats", "--data", &data, "--json"])).unwrap();
    assert_eq!(stats["containers"][0]["size"]["documents"], 20);

    // As does the server that comes next; a checkpoint or a restored copy needs no log.
    let copy = place.path("copy");
    run(&["restore", &data, "--data", &copy]);
    for directory in [copy, data.clone()] {
        let output =
            etagdb(&["checkpoint", "--data", &directory, &format!("{directory}-checkpoint")]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(crate::support::Server::start(Path::new(&directory)).items().len(), 20);
    }
}

#[test]
fn a_directory_for_temporary_files_that_is_missing_is_named() {
    let place = killed();
    let (data, missing) = (place.path("data"), place.path("missing"));
    let before = files(Path::new(&data));
    let output = etagdb(&["verify", "--data", &data]).env("TMPDIR", &missing).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&missing) && stderr.contains("set TMPDIR"), "{stderr}");
    assert!(files(Path::new(&data)) == before, "something was changed");
}
