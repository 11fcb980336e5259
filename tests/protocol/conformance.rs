//! CONFORMANCE.md: what each official SDK is answered, operation by condition. The test makes the page anew from what the
//! SDKs say and fails if the one in the repository differs; with `ETAGDB_UPDATE=1` it writes it instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sdk::{self, JAVA};
use crate::served::Served;

const KEY: &str = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
const COLUMNS: [&str; 5] = ["JavaScript", "Python", "Rust", "Go", "Java"];
const OPERATIONS: [&str; 8] =
    ["read", "create", "replace", "upsert", "patch", "delete", "batch replace", "batch delete"];
const CONDITIONS: [&str; 7] = [
    "none",
    "If-Match: current",
    "If-Match: stale",
    "If-Match: *",
    "If-None-Match: current",
    "If-None-Match: stale",
    "If-None-Match: *",
];

/// By operation, target and condition: the status.
type Cells = BTreeMap<(String, String, String), String>;

const HEAD: &str = "# Conformance

What each official, unmodified SDK is answered by etagdb (default settings), operation by condition, and what the service
answers where that is published. Every number here was seen by the SDK named above it: `make conformance` starts a
server, asks, and writes this page; the protocol tests fail when it is out of date.

*Present* is an item that was replaced once, so that it has a current and a stale etag; *absent* is one that was deleted.
A dash: the SDK has no call for it. A question mark: nothing published settles it.

Bulk is tested with the JavaScript and Java SDKs (`executeBulkOperations`, in `tests/sdk`); the Python, Rust and Go SDKs
have no call for it. PATCH of the Rust SDK is behind its feature `unstable_patch`.

| operation | item | condition | JavaScript | Python | Rust | Go | Java | the service |
|---|---|---|---|---|---|---|---|---|
";

const TAIL: &str = "
## Where the last column comes from

1. `If-None-Match` belongs to reads and `If-Match` to writes, one condition a request; the other header is ignored: the
   common request headers page of the REST reference, and `addMatchHeader` of the Java SDK's direct mode
   (Azure/azure-cosmosdb-java, `RntbdRequestHeaders.java`).
2. Statuses of stale etags: the SDKs' own tests (Python `test_crud.py`, Rust `item_upsert_if_match_etag`, .NET
   `ItemRequestOptionAccessConditionTest` and `BatchSinglePartitionKeyTests`). An absent item is 404 before its etag
   is looked at: the in-memory emulator that the Rust SDK's own tests use.
3. `If-None-Match: *` on a read matches any version: .NET `RequestOptions.cs`.
4. An upsert of an absent item ignores `If-Match` by design: .NET issue 1698, Java pull request 43717, Python
   `test_etag_match_condition_compatibility`.
5. `If-Match: *` on writes: the published emulators disagree (a literal comparison, or any version); here it means any
   version, as in RFC 9110.
6. `If-None-Match` on an upsert: the .NET documentation says that it is applied on replace, Microsoft's in-memory emulator
   ignores it. With `--strict` etagdb applies it, to all writes.

## Other stand-ins, where it is known

* Microsoft's in-memory emulator (in `azure_data_cosmos_driver`): compares `If-Match: *` literally on replace, and takes
  it as any version on patch; a stale etag on a read inside a batch is 412, where the service answers 304 to a current one.
* `@vercel/cosmosdb-server`: 200 to a read whose `If-None-Match` names the current version (seen).
* Cosmium: a replace reads, compares, deletes and creates in separate steps, and a delete ignores `If-Match`
  (`api/handlers/documents.go`).
";

#[test]
fn the_conformance_page_is_what_the_sdks_are_answered() {
    let page = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../CONFORMANCE.md"));
    let kept = std::fs::read_to_string(page).unwrap_or_default();
    let columns = COLUMNS.map(|name| asked(name).unwrap_or_else(|| column(&kept, name)));
    let made = render(&columns);
    if std::env::var_os("ETAGDB_UPDATE").is_some() {
        std::fs::write(page, made).expect("the page can be written");
    } else {
        assert!(made == kept, "CONFORMANCE.md is out of date: run `make conformance`, and look at what changed");
    }
}

/// What an SDK is answered, by a server of its own; `None` where the tools for an optional one are missing.
fn asked(name: &str) -> Option<Cells> {
    let server = Served::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = |path: PathBuf| Command::new(path);
    let mut command = match name {
        "JavaScript" => {
            let installed = sdk::set_up("javascript");
            let source = directory.path().join("conformance.mjs");
            std::fs::copy(sdk::sources().join("javascript/conformance.mjs"), &source).expect("a copy");
            sdk::beside(&installed, directory.path());
            let mut node = program(installed.join("node"));
            node.arg(source).arg(server.url());
            node
        }
        "Python" => {
            let mut python = program(sdk::set_up("python"));
            python.arg("-B").arg(sdk::sources().join("python/conformance.py")).arg(server.url());
            python
        }
        "Java" => {
            let mut java = None;
            sdk::where_there_is("Java SDK", JAVA, || java = Some(program(sdk::set_up("java"))));
            let mut java = java?;
            java.env("SDK_PROGRAM", "Conformance").args([server.url(), KEY]);
            java
        }
        "Go" => {
            let mut go = None;
            sdk::where_there_is("Go SDK", &["go"], || go = Some(program(sdk::set_up("go"))));
            let mut go = go?;
            go.args([server.url(), KEY, "conformance"]);
            go
        }
        _ => {
            let mut rust = program(sdk::set_up("rust"));
            rust.args([server.url(), KEY, "conformance"]);
            rust
        }
    };
    let output = sdk::run(&mut command);
    assert!(output.status.success(), "the {name} program ended with {}", output.status);
    let cells: Cells = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            Some(((fields.next()?, fields.next()?, fields.next()?), fields.next()?))
        })
        .collect();
    assert!(cells.len() >= 50, "the {name} program printed {} cells", cells.len());
    Some(cells)
}

/// An SDK's cells as a page has them.
fn column(page: &str, name: &str) -> Cells {
    let position = COLUMNS.iter().position(|column| *column == name).expect("a column");
    let cell = |line: &str| {
        let fields: Vec<&str> = line.split('|').map(|field| field.trim().trim_matches('`')).collect();
        let status = fields.get(position + 4).filter(|status| **status != "-")?;
        Some(((fields[1].to_owned(), fields[2].to_owned(), fields[3].to_owned()), (*status).to_owned()))
    };
    page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| operation")).filter_map(cell).collect()
}

fn render(columns: &[Cells; 5]) -> String {
    let mut page = HEAD.to_owned();
    for operation in OPERATIONS {
        for item in ["present", "absent"] {
            for condition in CONDITIONS {
                let key = (operation.to_owned(), item.to_owned(), condition.to_owned());
                let cells: Vec<&str> =
                    columns.iter().map(|cells| cells.get(&key).map_or("-", String::as_str)).collect();
                if cells.iter().all(|cell| *cell == "-") {
                    continue;
                }
                let shown = if condition == "none" { condition.to_owned() } else { format!("`{condition}`") };
                let service = service(operation, item, condition);
                // Writing to a string cannot fail.
                let _ = writeln!(page, "| {operation} | {item} | {shown} | {} | {service} |", cells.join(" | "));
            }
        }
    }
    page + TAIL
}

/// What the service answers, and the number of the source; see [`TAIL`].
fn service(operation: &str, item: &str, condition: &str) -> &'static str {
    let operation = operation.trim_start_matches("batch ");
    match (operation, item, condition) {
        ("read", "present", "If-None-Match: current") => "304 (1)",
        ("read", "present", "If-None-Match: *") => "304 (3)",
        ("read", "present", "none" | "If-None-Match: stale") => "200",
        ("read", "present", _) => "200 (1)",
        ("create", "present", "none") => "409",
        ("create", "present", _) => "409 (1)",
        ("create", _, "none") => "201",
        ("create", ..) => "201 (1)",
        ("upsert", "present", "If-Match: stale") => "412 (2)",
        ("upsert", "present", "If-Match: *") => "? (5)",
        ("upsert", "present", "none" | "If-Match: current") => "200",
        ("upsert", "present", _) => "? (6)",
        ("upsert", _, "none") => "201",
        ("upsert", ..) => "201 (4)",
        (_, "absent", "none") => "404",
        (_, "absent", _) => "404 (2)",
        (_, _, "If-Match: stale") => "412 (2)",
        (_, _, "If-Match: *") => "? (5)",
        ("delete", _, "none" | "If-Match: current") => "204",
        ("delete", ..) => "204 (1)",
        (_, _, "none" | "If-Match: current") => "200",
        _ => "200 (1)",
    }
}
