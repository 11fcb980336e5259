//! `etagdb stats`, `bench`, `completions` and `man`, and the examples that all help texts give.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Place, documents, etagdb, import, run};

#[test]
fn stats_of_a_directory_and_of_a_server_name_every_container() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(40));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let check = |from: &[&str]| {
        let (code, stdout, stderr) = run(&[&["stats", "--json"], from].concat());
        assert_eq!(code, 0, "{stderr}");
        let stats: Value = serde_json::from_str(&stdout).unwrap();
        let container = &stats["containers"][0];
        assert_eq!((&container["container"], &container["size"]["documents"]), (&json!("c"), &json!(40)));
        assert!(stats["lastCommit"].as_u64().unwrap() >= 40);
        let (code, stdout, _) = run(&[&["stats"], from].concat());
        assert_eq!(code, 0);
        assert!(stdout.lines().any(|line| line.starts_with("d/c  ") && line.contains(" 40 ")), "{stdout}");
    };
    check(&["--data", &data]);
    let server = place.serve();
    check(&["--url", &server.url]);
    let (code, _, stderr) = run(&["stats", "--data", &data]);
    assert_eq!(code, 1);
    assert!(stderr.contains("in use by") && stderr.contains("--url"), "{stderr}");
    assert_eq!(run(&["stats", "--data", &place.path("none")]).0, 1);
}

#[test]
fn bench_prints_figures_and_leaves_nothing() {
    let place = Place::new();
    let data = place.path("data");
    let check = |from: &[&str]| {
        let load = ["bench", "--seconds", "1", "--writers", "3", "--bytes", "100", "--documents", "10", "--json"];
        let (code, stdout, stderr) = run(&[&load[..], from].concat());
        assert_eq!(code, 0, "{stderr}");
        let figures: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(figures["phases"]["creates"]["operations"], 10);
        for phase in ["reads", "writes"] {
            let phase = &figures["phases"][phase];
            let micros = |name: &str| phase["micros"][name].as_u64().unwrap();
            assert!(phase["perSecond"].as_f64().unwrap() > 0.0, "{figures}");
            assert!(0 < micros("p50") && micros("p50") <= micros("p99") && micros("p99") <= micros("max"), "{figures}");
        }
        let (_, stdout, _) = run(&[&["stats", "--json"], from].concat());
        assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["containers"], json!([]));
    };
    check(&["--data", &data]);
    let server = place.serve();
    check(&["--url", &server.url]);
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let commands = ["serve", "import", "export", "query", "get", "history", "why", "checkpoint", "restore", "verify"];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, stdout, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(commands.iter().all(|command| stdout.contains(command)), "{shell}");
    }
    assert_eq!(run(&["completions", "cmd"]).0, 2);
    let place = Place::new();
    let directory = place.path("man");
    assert_eq!(run(&["man", &directory]).0, 0);
    for command in commands {
        let page = fs::read_to_string(format!("{directory}/etagdb-{command}.1")).unwrap();
        assert!(page.contains("Examples:") && page.contains(&format!("etagdb {command}")), "{command}");
    }
}

/// The commands that a help text shows, a line each; what a backslash joins is one.
fn examples(help: &str) -> Vec<String> {
    let text = help.replace("\\\n", " ");
    let mut lines = text.lines().skip_while(|line| *line != "Examples:").skip(1);
    let shown = lines.by_ref().take_while(|line| line.is_empty() || line.starts_with("  "));
    shown.filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// Every example of every command but those that ask for a server at a fixed port, run in order by a shell, in a
/// directory that has what they read.
#[test]
fn the_examples_of_help_texts_work() {
    let place = Place::new();
    let root = place.dir.path();
    place.input("products.ndjson", "{\"id\":\"p1\",\"category\":\"books\"}\n");
    place.input("cities.json", "[{\"name\":\"Bonn\",\"country\":\"DE\",\"population\":1}]");
    let sh = |line: &str| {
        let bin = std::path::Path::new(env!("CARGO_BIN_EXE_etagdb")).parent().unwrap().to_owned();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(root).env("PATH", path).env("HOME", root).env_remove("ETAGDB_KEY");
        command.stdin(Stdio::null()).output().unwrap()
    };
    fs::create_dir_all(root.join(".local/share/bash-completion/completions")).unwrap();
    fs::create_dir_all(root.join(".config/fish/completions")).unwrap();
    fs::create_dir_all(root.join(".zfunc")).unwrap();
    fs::create_dir_all(root.join("backups")).unwrap();
    let mut ran = 0;
    for command in [
        "import",
        "query",
        "export",
        "get",
        "history",
        "why",
        "checkpoint",
        "verify",
        "restore",
        "stats",
        "completions",
        "man",
    ] {
        let help = etagdb(&[command, "--help"]).output().unwrap();
        let lines = examples(&String::from_utf8(help.stdout).unwrap());
        assert!(!lines.is_empty(), "{command} has no examples");
        for line in lines {
            // What needs a server at a port, another program, or another disk.
            if ["--url", "| jq", "man etagdb", "zcat", "etagdb serve"].iter().any(|part| line.contains(part)) {
                continue;
            }
            let history = sh("etagdb history --data etagdb-data --database shop --container products --json p1");
            let history: Value = serde_json::from_slice(&history.stdout).unwrap_or_default();
            let etag = history["versions"][0]["etag"].as_str().unwrap_or_default();
            // The only parts that cannot be the same on every machine: a time, an etag, a document that was deleted.
            let line = line
                .replace("2026-11-01T00:00:00Z", "4")
                .replace("2026-11-01T12:00:00Z", "8")
                .replace("01234567-89ab-cdef-0000-000000000029", etag)
                .replace(" p2", " p1");
            let is_again = line.contains("restore backups/monday --data etagdb-data");
            let line = if is_again { line.replace("--data etagdb-data", "--data restored-too") } else { line };
            fs::remove_dir_all(root.join("restored-too")).ok();
            let output = sh(&line);
            assert!(output.status.success(), "{line}: {output:?}");
            ran += 1;
        }
    }
    assert!(ran >= 20, "only {ran} examples ran");
}
