//! Microsoft's official SDKs, unmodified, against the built server. The checks themselves are programs in the SDKs' own
//! languages, in `tests/sdk`; this file starts a server for each and judges how the program ended.
//!
//! Without Node, Python, or the means to install an SDK these tests fail: they never pass for lack of a tool. Go and Java
//! are the exception: where the machine has none, their tests say on standard error that they were skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::served::Served;

/// How long one program may run, in seconds. They take seconds; an SDK that is answered wrongly may retry for ever.
const PROGRAM_SECONDS_MAX: &str = "300";

/// The set-up script's status when something that the tests can do without cannot be had.
const CANNOT_BE_FETCHED: i32 = 75;

#[test]
fn official_javascript_sdk() {
    javascript(Served::start());
}

#[test]
fn official_python_sdk() {
    python(Served::start());
}

#[test]
fn official_rust_sdk() {
    judge("rust", &mut Command::new(set_up("rust")), Served::start());
}

/// Over TLS, with every check of the certificate that the SDK does by itself; the certificate is the server's own.
#[test]
fn official_javascript_sdk_over_tls() {
    javascript(Served::start_with(&["--tls", "self-signed"]));
}

#[test]
fn official_python_sdk_over_tls() {
    python(Served::start_with(&["--tls", "self-signed"]));
}

#[test]
fn official_rust_sdk_over_tls() {
    judge("rust", &mut Command::new(set_up("rust")), Served::start_with(&["--tls", "self-signed"]));
}

/// The SDKs wait and try again when they are throttled; their programs notice nothing.
#[test]
fn throttled_sdks_try_again() {
    let throttled = |seed| Served::start_with(&[&format!("--chaos=429:1ms=0.1,seed={seed}")]);
    javascript(throttled(1));
    python(throttled(2));
    judge("rust", &mut Command::new(set_up("rust")), throttled(3));
}

#[test]
fn official_go_sdk() {
    where_there_is("Go SDK", &["go"], || judge("go", &mut Command::new(set_up("go")), Served::start()));
}

#[test]
fn official_go_sdk_over_tls() {
    where_there_is("Go SDK", &["go"], || {
        judge("go", &mut Command::new(set_up("go")), Served::start_with(&["--tls", "self-signed"]));
    });
}

#[test]
fn official_java_sdk() {
    where_there_is("Java SDK", JAVA, || judge("java", &mut Command::new(set_up("java")), Served::start()));
}

#[test]
fn official_java_sdk_over_tls() {
    where_there_is("Java SDK", JAVA, || {
        judge("java", &mut Command::new(set_up("java")), Served::start_with(&["--tls", "self-signed"]));
    });
}

/// What the Java program is built and run with.
pub(crate) const JAVA: &[&str] = &["java", "javac", "keytool", "mvn"];

/// Runs a test if the machine has these programs, and says so if it has not.
pub(crate) fn where_there_is(what: &str, tools: &[&str], test: impl FnOnce()) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    match tools.iter().find(|tool| !is_there(tool)) {
        None => test(),
        Some(missing) => skipped(&format!("the {what} was not tried: there is no `{missing}` here")),
    }
}

/// Says that something was not tested.
pub(crate) fn skipped(what: &str) {
    // Written past the test harness, which shows what a test prints only when it fails.
    writeln!(std::io::stderr(), "SKIPPED: {what}").ok();
}

fn javascript(server: Served) {
    let installed = set_up("javascript");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = directory.path().join("sdk.mjs");
    std::fs::copy(sources().join("javascript/sdk.mjs"), &program).expect("a copy of the program");
    beside(&installed, directory.path());
    judge("javascript", Command::new(installed.join("node")).arg(program), server);
}

fn python(server: Served) {
    judge("python", Command::new(set_up("python")).arg("-B").arg(sources().join("python/sdk.py")), server);
}

/// Runs one SDK's program against a server, and asserts that all its checks passed.
fn judge(language: &str, program: &mut Command, server: Served) {
    if server.url().starts_with("https:") {
        let authority = server.authority();
        // Node, Python's requests, and what uses OpenSSL's or the system's list.
        for variable in ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
            program.env(variable, &authority);
        }
    }
    let output = run(program.arg(server.url()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the {language} program ended with {}", output.status);
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    let summary = format!("sdk {language}: {passed} passed, 0 failed");
    assert!(passed > 0 && text.lines().last() == Some(&summary), "the {language} program did not end with `{summary}`");
    let ended = server.stop();
    assert!(ended.success(), "the server ended with {ended}");
}

/// Runs a program within the time limit and passes its output through.
pub(crate) fn run(program: &mut Command) -> Output {
    let mut limited = Command::new("timeout");
    limited.arg(PROGRAM_SECONDS_MAX).arg(program.get_program()).args(program.get_args());
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = program.get_current_dir() {
        limited.current_dir(directory);
    }
    let output = limited.output().unwrap_or_else(|error| panic!("cannot run {program:?}: {error}"));
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Installs or builds what one language's programs need. Returns the path that the set-up script names: the
/// directory with `node_modules` and `node`, the Python interpreter, or the compiled program.
pub(crate) fn set_up(language: &str) -> PathBuf {
    set_up_if_possible(language).unwrap_or_else(|| panic!("what the {language} SDK needs cannot be fetched"))
}

/// The same, but `None` where something that the tests can do without cannot be fetched.
pub(crate) fn set_up_if_possible(language: &str) -> Option<PathBuf> {
    let output = Command::new(sources().join("setup.sh")).arg(language).output().expect("the set-up script");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(CANNOT_BE_FETCHED) {
        return None;
    }
    assert!(output.status.success(), "the set-up of the {language} SDK ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("a path in UTF-8");
    let path = text.trim_end().strip_prefix(&format!("{language}=")).expect("a line of the form NAME=PATH");
    Some(path.into())
}

/// Where the SDK programs live.
pub(crate) fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sdk"))
}

/// Puts an installed `node_modules` beside a program, where Node looks for packages.
pub(crate) fn beside(installed: &Path, directory: &Path) {
    std::os::unix::fs::symlink(installed.join("node_modules"), directory.join("node_modules"))
        .expect("a link to node_modules");
}
