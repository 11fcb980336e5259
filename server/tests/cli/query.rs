//! `etagdb query`: the same answers from a directory and from a server.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Place, documents, etagdb, import, run};

/// The results of a query over `d/c`, a value a line.
fn query(from: &[&str], sql: &str) -> (i32, Vec<Value>, String) {
    let args = [&["query", "--database", "d", "--container", "c", "--json"], from, &[sql]].concat();
    let (code, stdout, stderr) = run(&args);
    (code, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr)
}

#[test]
fn a_query_is_answered_alike_by_a_directory_and_by_a_server() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(2500));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let asked = [
        "SELECT VALUE COUNT(1) FROM c",
        "SELECT c.id FROM c ORDER BY c.id DESC",
        "SELECT VALUE c.id FROM c WHERE c.id IN ('1', '2') ORDER BY c.id",
    ];
    let local: Vec<_> = asked.iter().map(|sql| query(&["--data", &data], sql)).collect();
    assert_eq!((local[0].0, &local[0].1[..], local[1].1.len()), (0, &[json!(2500)][..], 2500));
    let server = place.serve();
    let remote: Vec<_> = asked.iter().map(|sql| query(&["--url", &server.url], sql)).collect();
    assert_eq!(remote, local);
    let (code, _, stderr) = query(&["--url", &server.url], "SELECT c.id FROM d");
    assert_eq!(code, 1);
    assert!(stderr.contains("answers 400: ") && stderr.contains("'c'"), "{stderr}");
    let (code, _, stderr) = query(&["--data", &data], "SELECT 1");
    assert_eq!(code, 1);
    assert!(stderr.contains("ask it with --url"), "{stderr}");
    assert_eq!(query(&["--data", &data, "--key", "a"], "SELECT 1").0, 2);
}

#[test]
fn a_server_with_a_certificate_of_its_own_is_asked_by_its_authority() {
    let place = Place::new();
    let data = place.path("data");
    let mut server = etagdb(&["serve", "--data", &data, "--listen", "127.0.0.1:0", "--tls", "self-signed"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let url = ready.split_whitespace().find(|word| word.starts_with("https://")).expect("an address").to_owned();
    let authority = place.path("data.tls/ca.pem");
    let input = place.input("input.ndjson", &documents(3));
    let imported = import(&["--url", &url, "--ca", &authority], &[&input]).output().unwrap();
    let answered = query(&["--url", &url, "--ca", &authority], "SELECT VALUE COUNT(1) FROM c");
    let refused = query(&["--url", &url], "SELECT VALUE COUNT(1) FROM c");
    let unread = query(&["--url", &url, "--ca", &input], "SELECT VALUE COUNT(1) FROM c");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert_eq!((answered.0, answered.1), (0, vec![json!(3)]), "{}", answered.2);
    assert_eq!(refused.0, 1);
    assert!(refused.2.contains("does not answer: ") && refused.2.contains("certificate"), "{}", refused.2);
    assert!(unread.2.contains("holds no certificate in PEM"), "{}", unread.2);
}
