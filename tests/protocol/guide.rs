//! The guides in `docs/guide`, followed as a reader would: every fenced block in them says by the comment above it what
//! becomes of it, so that none is left untried by accident.
//!
//! | comment | the block |
//! |---|---|
//! | `<!-- serve -->` | one `etagdb serve` command, which runs until the next one, or `<!-- stop -->`, or the end |
//! | `<!-- run -->` | a program (`sh`, `python`, `javascript`) that has to succeed |
//! | `<!-- prints -->` | lines that the program before it has to have printed, among others |
//! | `<!-- excerpt of FILE -->` | lines of a program that other tests run; a line with `...` alone stands for any |
//! | `<!-- not run: WHY -->` | nothing |
//!
//! One guide is one session in one empty directory, where `http://127.0.0.1:8081` is the server that runs. Blocks in
//! Rust without a comment are documentation tests of the engine, which includes their guides.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sdk::{beside, run, set_up, where_there_is};
use crate::served::{Served, search_path};

/// The address in the guides.
const ADDRESS: &str = "127.0.0.1:8081";

#[test]
fn serving() {
    where_there_is("guide to serving", &["curl"], || follow("serving.md"));
}

#[test]
fn migrating() {
    follow("migrating.md");
}

#[test]
fn data_and_queries() {
    follow("queries.md");
}

#[test]
fn operations() {
    where_there_is("guide to operations", &["curl"], || follow("operations.md"));
}

#[test]
fn testing_with_chaos() {
    follow("chaos.md");
}

#[test]
fn history_and_change_feed() {
    follow("history.md");
}

#[test]
fn no_guide_is_forgotten() {
    let engine = read(&project().join("engine/src/lib.rs"));
    let tests = include_str!("guide.rs");
    for entry in guides().read_dir().expect("the guides") {
        let path = entry.expect("a guide").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let steps = steps(&read(&path)).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let followed = tests.contains(&format!("follow({name:?})"));
        let compiled = engine.contains(&format!("docs/guide/{name}"));
        for step in steps {
            let tried = match step.becomes {
                Becomes::NotRun => true,
                Becomes::DocTest => compiled,
                _ => followed,
            };
            assert!(tried, "{name}, line {}: no test looks at this block", step.line);
        }
    }
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Becomes {
    Server,
    Program,
    Output,
    Excerpt(String),
    NotRun,
    DocTest,
    /// No block: the server is stopped.
    Stop,
}

#[derive(Debug)]
struct Step {
    line: usize,
    becomes: Becomes,
    language: String,
    text: String,
}

/// Does everything that a guide says, in its order.
fn follow(guide: &str) {
    let path = guides().join(guide);
    let steps = steps(&read(&path)).unwrap_or_else(|reason| panic!("{guide}: {reason}"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server: Option<Served> = None;
    let mut printed = String::new();
    for step in steps {
        let place = format!("{guide}, line {}", step.line);
        match step.becomes {
            Becomes::Server => {
                stop(server.take(), &place);
                server = Some(Served::by_command(&on_a_free_port(&step.text, &place), directory.path()));
            }
            Becomes::Stop => stop(server.take(), &place),
            Becomes::Program => {
                let address = server.as_ref().map(|server| server.address().to_string());
                let text = match &address {
                    Some(address) => step.text.replace(ADDRESS, address),
                    None => step.text,
                };
                let output = run(&mut program(&step.language, &text, directory.path(), &place));
                assert!(output.status.success(), "{place}: ended with {}", output.status);
                printed = String::from_utf8_lossy(&output.stdout).into_owned();
            }
            Becomes::Output => {
                for line in step.text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                    let is_there = printed.lines().any(|said| said.trim_end() == line);
                    assert!(is_there, "{place}: nobody printed `{line}`, but:\n{printed}");
                }
            }
            Becomes::Excerpt(file) => {
                let program = read(&project().join(&file));
                excerpt(&step.text, &program).unwrap_or_else(|line| panic!("{place}: {file} has no `{line}` there"));
            }
            Becomes::NotRun | Becomes::DocTest => {}
        }
    }
    stop(server, guide);
}

fn stop(server: Option<Served>, place: &str) {
    if let Some(server) = server {
        let ended = server.stop();
        assert!(ended.success(), "{place}: the server before this ended with {ended}");
    }
}

/// The command with a port that the system chooses.
fn on_a_free_port(command: &str, place: &str) -> String {
    // Backslashes at the ends of lines are for readers.
    let command = command.replace("\\\n", " ");
    let line = command.trim();
    assert!(line.starts_with("etagdb serve") && !line.contains('\n'), "{place}: `{line}` is not one server");
    let free = "127.0.0.1:0";
    if line.contains("--listen") { line.replace(ADDRESS, free) } else { format!("{line} --listen {free}") }
}

/// A block's program, ready to run in the guide's directory.
fn program(language: &str, text: &str, directory: &Path, place: &str) -> Command {
    let mut command = match language {
        "sh" => {
            let mut shell = Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", text]);
            shell
        }
        "python" => {
            let mut python = Command::new(set_up("python"));
            python.args(["-B", "-c", text]);
            python
        }
        "javascript" => {
            let installed = set_up("javascript");
            if !directory.join("node_modules").exists() {
                beside(&installed, directory);
            }
            let file = directory.join("program.mjs");
            std::fs::write(&file, text).expect("the program's file");
            let mut node = Command::new(installed.join("node"));
            node.arg(file);
            node
        }
        other => panic!("{place}: nobody here runs `{other}`"),
    };
    command.current_dir(directory).env("PATH", search_path()).env("ETAGDB_LOG", "warn");
    command
}

/// Whether the lines are in the file one after the other, indentation aside; or the first that is not.
fn excerpt(lines: &str, file: &str) -> Result<(), String> {
    let file: Vec<&str> = file.lines().map(str::trim).collect();
    let mut from = 0;
    for part in lines.split("...\n") {
        let part: Vec<&str> = part.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let Some(first) = part.first() else { continue };
        let found = file[from..].windows(part.len()).position(|window| window == part);
        from += found.ok_or_else(|| (*first).to_owned())? + part.len();
    }
    Ok(())
}

/// The blocks of a guide with what becomes of each; or what is wrong with one.
fn steps(guide: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut marker: Option<&str> = None;
    let mut lines = guide.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let at = index + 1;
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let becomes = match marker.take() {
                Some("serve") => Becomes::Server,
                Some("run") => Becomes::Program,
                Some("prints") => Becomes::Output,
                Some(text) if text.starts_with("not run: ") => Becomes::NotRun,
                Some(text) if text.starts_with("excerpt of ") => {
                    Becomes::Excerpt(text.trim_start_matches("excerpt of ").to_owned())
                }
                None if language == "rust" => Becomes::DocTest,
                Some(other) => return Err(format!("line {at}: `{other}` says nothing of a block")),
                None => return Err(format!("line {at}: nothing says what becomes of this block")),
            };
            let mut text = String::new();
            loop {
                let (_, line) = lines.next().ok_or(format!("line {at}: the block does not end"))?;
                let line = line.get(indent..).unwrap_or_default();
                if line.starts_with("```") {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            steps.push(Step { line: at, becomes, language: language.to_owned(), text });
        } else if let Some(comment) = line.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            match comment {
                "stop" => {
                    let (language, text) = (String::new(), String::new());
                    steps.push(Step { line: at, becomes: Becomes::Stop, language, text });
                }
                "serve" | "run" | "prints" => marker = Some(comment),
                _ if comment.starts_with("not run: ") || comment.starts_with("excerpt of ") => marker = Some(comment),
                _ => {}
            }
        } else if let Some(unused) = marker {
            return Err(format!("line {at}: `{unused}` stands above no block"));
        }
    }
    Ok(steps)
}

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn guides() -> PathBuf {
    project().join("docs/guide")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_block_that_nobody_tries_is_an_error() {
    let good = "a\n<!-- run -->\n```sh\ntrue\n```\n<!-- stop -->\n```rust\nfn main() {}\n```\n";
    let found: Vec<Becomes> = steps(good).expect("steps").into_iter().map(|step| step.becomes).collect();
    assert_eq!(found, [Becomes::Program, Becomes::Stop, Becomes::DocTest]);
    for bad in ["```sh\ntrue\n```\n", "<!-- run -->\n```sh\ntrue\n", "<!-- ruin -->\n```sh\n```\n", "<!-- run -->\n\n"]
    {
        assert!(steps(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_excerpt_has_the_lines_of_its_file() {
    let file = "  one\n  two\n  three\n  four\n";
    assert_eq!(excerpt("one\ntwo\n...\nfour\n", file), Ok(()));
    for bad in ["one\nthree\n", "four\n...\none\n", "five\n"] {
        assert!(excerpt(bad, file).is_err(), "{bad:?}");
    }
}
