//! The `etagdb` binary as its users meet it: exit codes, messages, signals, and imports that are cut off.
//!
//! Signals are sent by `sh`, and acknowledgements read through `/dev/stdout`, so this runs on Unix only.
#![cfg(unix)]

mod copies;
mod documents;
mod export;
mod import;
mod killed;
mod query;
mod serve;
mod support;
mod tools;

use std::path::Path;

use crate::support::{Place, run};

#[test]
fn commands_that_cannot_be_carried_out_exit_with_2_and_say_why() {
    let place = Place::new();
    let data = place.path("data");
    let to = ["import", "--data", &data, "--database", "d", "--container", "c"];
    let with = |more: &[&'static str]| [&to[..], more].concat();
    for (args, message) in [
        (vec![], "Usage: etagdb <COMMAND>"),
        (vec!["fly"], "unrecognized subcommand 'fly'"),
        (vec!["serve", "--tls", "maybe"], "possible values: self-signed"),
        (vec!["serve", "--tls-cert", "a.pem"], "--tls-key"),
        (vec!["serve", "--listen", "nonsense"], "write it as `127.0.0.1:8081`"),
        (vec!["serve", "--durability", "maybe"], "possible values: sync, buffered"),
        (vec!["serve", "--data", &data, "--key", "not base64!"], "not base64"),
        (vec!["serve", "--data", &data, "--listen", "0.0.0.0:0"], "well-known key"),
        (vec!["import", "--database", "d"], "--data <DIR>|--url <URL>"),
        (with(&["x.json"]), "--partition-key"),
        (with(&["--partition-key", "country", "x.json"]), "`country` is no path"),
        (with(&["--partition-key", "/a", "--url", "http://x", "x.json"]), "cannot be used with"),
        (with(&["--partition-key", "/a", "--generate-id", "--id-from", "/b", "x.json"]), "cannot be used with"),
        (with(&["--partition-key", "/a", "--key", "abcd", "x.json"]), "cannot be used with"),
    ] {
        let (code, stdout, stderr) = run(&args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
    }
    assert!(!Path::new(&data).exists(), "a command that cannot work leaves nothing behind");
}

#[test]
fn help_teaches_with_examples() {
    for args in [&["--help"][..], &["serve", "--help"], &["import", "--help"]] {
        let (code, stdout, _) = run(args);
        assert_eq!(code, 0);
        assert!(
            stdout.contains("Examples:") && stdout.contains("etagdb import --") | stdout.contains("etagdb serve --")
        );
    }
    assert_eq!(run(&["--version"]).1, concat!("etagdb ", env!("CARGO_PKG_VERSION"), "\n"));
}
