//! `etagdb export`: everything of one commit, in a file that appears when it is complete.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Place, documents, import, run};

fn export(from: &[&str], more: &[&str]) -> (i32, String, String) {
    run(&[&["export", "--database", "d", "--container", "c"], from, more].concat())
}

fn lines(text: &str) -> Vec<Value> {
    let mut values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    values.sort_by_key(|value| value["number"].as_u64());
    values
}

/// A store with `count` documents.
fn filled(count: usize) -> Place {
    let place = Place::new();
    let input = place.input("input.ndjson", &documents(count));
    let imported = import(&["--data", &place.path("data")], &[&input]).output().unwrap();
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    place
}

#[test]
fn an_export_is_what_was_imported_from_a_directory_and_from_a_server() {
    let place = filled(2500);
    let data = place.path("data");
    let all = lines(&documents(2500));
    let file = place.path("out.ndjson");
    let (code, stdout, stderr) = export(&["--data", &data], &["--json", &file]);
    assert_eq!(code, 0, "{stderr}");
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["documents"], &summary["file"]), (&json!(2500), &json!(file)));
    assert_eq!(lines(&fs::read_to_string(&file).unwrap()), all);

    let server = place.serve();
    let (code, stdout, stderr) = export(&["--url", &server.url], &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("exported 2,500 documents of d/c as of "), "{stderr}");
    assert_eq!(lines(&stdout), all);

    let array = place.path("out.json");
    assert_eq!(export(&["--url", &server.url], &[&array]).0, 0);
    let values: Vec<Value> = serde_json::from_str(&fs::read_to_string(&array).unwrap()).unwrap();
    assert_eq!(values.len(), 2500);
    let (_, stdout, _) = export(&["--url", &server.url], &["--with-etags"]);
    let first = &lines(&stdout)[0];
    assert!(first["_etag"].is_string() && first["_ts"].is_u64() && first.get("_self").is_none(), "{first}");
    let left = fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("etagdb-export")));
}

#[test]
fn an_empty_container_is_exported_as_nothing() {
    let place = Place::new();
    let input = place.input("input.ndjson", "");
    assert_eq!(import(&["--data", &place.path("data")], &[&input]).output().unwrap().status.code(), Some(0));
    let from = ["--data", &place.path("data")];
    assert_eq!(export(&from, &[]).1, "");
    assert_eq!(export(&from, &["--format", "json"]).1, "[\n]\n");
}

#[test]
fn the_past_is_exported_as_it_was() {
    let place = filled(20);
    let data = place.path("data");
    let (_, stdout, _) = export(&["--data", &data], &["--json", &place.path("first.ndjson")]);
    let at = serde_json::from_str::<Value>(&stdout).unwrap()["at"].as_str().unwrap().to_owned();
    let input = place.input("input.ndjson", &documents(30).replace("\"number\":1", "\"number\":1000"));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    assert_eq!(lines(&export(&["--data", &data], &[]).1).len(), 30);
    assert_eq!(lines(&export(&["--data", &data], &["--at", &at]).1), lines(&documents(20)));
    let server = place.serve();
    assert_eq!(lines(&export(&["--url", &server.url], &["--at", &at]).1), lines(&documents(20)));
}

#[test]
fn a_failed_export_leaves_the_file_that_was_there() {
    let place = filled(3);
    let data = place.path("data");
    let file = place.input("out.ndjson", "before");
    for (more, message) in
        [(vec!["--at", "999999", &file], "does not exist yet"), (vec!["--at", "nonsense", &file], "nonsense")]
    {
        let (code, _, stderr) = export(&["--data", &data], &more);
        assert_eq!(code, 1);
        assert!(stderr.contains(message), "{stderr}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    assert!(!Path::new(&place.path(".out.ndjson.etagdb-export")).exists());
    assert_eq!(export(&["--data", &data], &["--json"]).0, 2, "the summary has no place");
    assert_eq!(export(&["--data", &data], &[&place.path("")]).0, 2, "a directory is no file");
    let (code, _, stderr) = export(&["--data", &data], &[&place.path("no/such/dir")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot write"), "{stderr}");
    let (code, _, stderr) = run(&["export", "--data", &data, "--database", "d", "--container", "x"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no container \"x\""), "{stderr}");
    let server = place.serve();
    let (code, _, stderr) = export(&["--data", &data], &[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("in use by") && stderr.contains("--url"), "{stderr}");
    drop(server);
}
