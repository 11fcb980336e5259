//! The README's quick starts, run as a reader would run them: each is the fenced block that follows its marker, such as
//! `<!-- quick start: python -->`. The address that they connect to is replaced by that of the test's own server.

use std::path::Path;
use std::process::Command;

use crate::sdk::{beside, run, set_up, sources};
use crate::served::Served;

/// The address that the README's programs connect to.
const ADDRESS: &str = "http://127.0.0.1:8081";

/// What every quick start prints when its stale write was refused, at the beginning of its last line.
const REFUSED: &str = "refused";

#[test]
fn python_quick_start() {
    let python = set_up("python");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = directory.path().join("quickstart.py");
    let server = Served::start();
    std::fs::write(&program, connecting_to(server.url(), &quick_start("python"))).expect("the program's file");
    shows_the_refused_write(Command::new(python).arg("-B").arg(program));
    assert!(server.stop().success());
}

#[test]
fn javascript_quick_start() {
    let installed = set_up("javascript");
    let directory = tempfile::tempdir().expect("a temporary directory");
    beside(&installed, directory.path());
    let program = directory.path().join("quickstart.mjs");
    let server = Served::start();
    std::fs::write(&program, connecting_to(server.url(), &quick_start("javascript"))).expect("the program's file");
    shows_the_refused_write(Command::new(installed.join("node")).arg(program));
    assert!(server.stop().success());
}

#[test]
fn rust_quick_start() {
    let target = set_up("rust").ancestors().nth(2).expect("a target directory").to_owned();
    // A fixed place and an address taken from the environment, so that nothing is compiled while the README stands still.
    let package = target.with_file_name("rust-quickstart");
    let url = r#"std::env::var("ETAGDB_URL")?"#;
    let block = quick_start("rust").replacen(&format!("\"{ADDRESS}\""), url, 1);
    assert!(block.contains(url), "the rust quick start does not connect to \"{ADDRESS}\"");
    let manifest = std::fs::read_to_string(sources().join("rust/Cargo.toml")).expect("the manifest");
    let manifest = format!("{manifest}\n[[bin]]\nname = \"quickstart\"\npath = \"quickstart.rs\"\n");
    let lock = std::fs::read_to_string(sources().join("rust/Cargo.lock")).expect("the lock file");
    std::fs::create_dir_all(&package).expect("a directory for the package");
    for (name, text) in [("Cargo.toml", &manifest), ("Cargo.lock", &lock), ("quickstart.rs", &block)] {
        write_if_changed(&package.join(name), text);
    }
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Cargo reads its configuration from here, as it did when it compiled the dependencies.
        .current_dir(sources().join("rust"))
        .status()
        .expect("cargo");
    assert!(built.success(), "the rust quick start does not compile");

    let server = Served::start();
    shows_the_refused_write(Command::new(target.join("release/quickstart")).env("ETAGDB_URL", server.url()));
    assert!(server.stop().success());
}

/// The embedded one is compiled with the tests, so that it builds no second RocksDB: it must be that program's text.
#[test]
fn embedded_quick_start() {
    let compiled = include_str!("../readme_embedded.rs");
    let (introduction, program) = compiled.split_once("\n\n").expect("a comment, then the program");
    assert!(introduction.lines().all(|line| line.starts_with("//!")));
    assert_eq!(quick_start("embedded"), program, "the README and tests/readme_embedded.rs must have the same program");
    let directory = tempfile::tempdir().expect("a temporary directory");
    shows_the_refused_write(Command::new(env!("CARGO_BIN_EXE_readme-embedded")).current_dir(directory.path()));
}

/// Asserts that the program succeeds and that its last line tells of a refused write. Twice, because readers do that too.
fn shows_the_refused_write(program: &mut Command) {
    for time in ["first", "second"] {
        let output = run(program);
        assert!(output.status.success(), "the {time} run of the quick start ended with {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with(REFUSED), "the {time} run of the quick start ended with `{last}`");
    }
}

/// The README's quick start of that name.
fn quick_start(name: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let readme = std::fs::read_to_string(path).expect("README.md at the top of the project");
    marked_block(&readme, name).unwrap_or_else(|reason| panic!("README.md: {reason}"))
}

/// The text inside the fenced block that directly follows the marker of that name, which must occur once.
fn marked_block(readme: &str, name: &str) -> Result<String, String> {
    let marker = format!("<!-- quick start: {name} -->\n");
    let mut parts = readme.split(&marker);
    let (Some(_), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("expected exactly one `{}`", marker.trim_end()));
    };
    let (fence, block) = after.split_once('\n').unwrap_or_default();
    if !fence.starts_with("```") {
        return Err(format!("expected a fenced block right after `{}`", marker.trim_end()));
    }
    let (program, _) = block.split_once("\n```").ok_or(format!("the {name} block does not end"))?;
    Ok(format!("{program}\n"))
}

/// The program, connecting to another server.
fn connecting_to(url: &str, program: &str) -> String {
    assert!(program.contains(ADDRESS), "the quick start does not connect to {ADDRESS}");
    program.replace(ADDRESS, url)
}

/// Writes a file unless it holds that text already, so that cargo sees no change where there is none.
fn write_if_changed(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|held| held == text) {
        return;
    }
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

#[test]
fn a_marked_block_is_found_or_named() {
    let readme = "a\n<!-- quick start: x -->\n```python\none\n\ntwo\n```\nb\n<!-- quick start: y -->\nno block\n";
    assert_eq!(marked_block(readme, "x").as_deref(), Ok("one\n\ntwo\n"));
    for name in ["y", "z"] {
        assert!(marked_block(readme, name).is_err_and(|reason| reason.contains(&format!("quick start: {name} "))));
    }
    assert!(marked_block(&readme.repeat(2), "x").is_err());
}
