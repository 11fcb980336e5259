//! `etagdb import --url` into the built server, in clear text and over TLS.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::binary;
use crate::served::Served;

/// Runs an import of three documents with further arguments. They are tried once.
fn import(url: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("carts.ndjson");
    let lines: Vec<String> = (0..3).map(|n| json!({"id": format!("c{n}"), "customer": "ana"}).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).expect("a file of documents");
    Command::new(binary::find())
        .args(["import", "--url", url, "--database", "shop", "--container", "carts", "--json", "--retry-for", "0"])
        .args(["--partition-key", "/customer"])
        .args(arguments)
        .arg(&file)
        .env_remove("ETAGDB_KEY")
        .output()
        .expect("the import runs")
}

#[track_caller]
fn stored(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))["created"].clone()
}

#[track_caller]
fn refused(output: &Output, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(part), "the message does not name {part:?}: {text}");
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

#[test]
fn documents_are_imported_in_clear_text() {
    let served = Served::start();
    assert_eq!(stored(&import(served.url(), &[])), 3);
    assert!(served.stop().success());
}

#[test]
fn documents_are_imported_over_tls_by_who_trusts_the_server() {
    let served = Served::start_with(&["--tls", "self-signed"]);
    let authority = served.authority();
    assert_eq!(stored(&import(served.url(), &["--ca", path(&authority)])), 3);
    let named = served.url().replace("127.0.0.1", "localhost");
    assert_eq!(stored(&import(&named, &["--ca", path(&authority)])), 0, "all are there already");
    // By another authority, or by one that the system does not know.
    let other = Served::start_with(&["--tls", "self-signed"]);
    refused(&import(served.url(), &["--ca", path(&other.authority())]), "certificate");
    refused(&import(served.url(), &[]), "certificate");
    assert!(served.stop().success());
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let served = Served::start_with(&["--tls", "self-signed"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("missing.pem");
    refused(&import(served.url(), &["--ca", path(&missing)]), "missing.pem");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("a file");
    refused(&import(served.url(), &["--ca", path(&empty)]), "no certificate");
    assert!(served.stop().success());
}
