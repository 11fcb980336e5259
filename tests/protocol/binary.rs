//! Finds the built server. Cargo does not build another package's binary for a test, so it can be missing, or old.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The server to test: the one `ETAGDB_BIN` names, or else the one built beside this test.
pub(crate) fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("ETAGDB_BIN") {
        return named.into();
    }
    // target/release/deps/protocol-0123 -> target/release/etagdb
    let test = std::env::current_exe().expect("the path of this test");
    let built = test.ancestors().nth(2).expect("a profile directory").join("etagdb");
    let build = "build it with `cargo build --release --bin etagdb`, or name one in ETAGDB_BIN";
    assert!(built.is_file(), "there is no server at {}: {build}", built.display());
    if let Some(newer) = newer_source(&built) {
        panic!("the server at {} is older than {}: {build}", built.display(), newer.display());
    }
    built
}

/// A source file that has changed since `built` was linked. Cargo lists the sources in a file beside the binary.
///
/// Cargo does not build another package's binary for a test, and testing yesterday's server would prove nothing.
fn newer_source(built: &Path) -> Option<PathBuf> {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let linked = modified(built).ok()?;
    let listed = std::fs::read_to_string(built.with_extension("d")).expect("cargo's list of the server's sources");
    let (_, sources) = listed.split_once(": ").expect("a list of the form `binary: sources`");
    let sources = sources.trim_end().replace("\\ ", "\0");
    let mut sources = sources.split(' ').map(|source| PathBuf::from(source.replace('\0', " ")));
    // A source that is gone has changed too.
    sources.find(|source| modified(source).unwrap_or_else(|_| SystemTime::now()) > linked)
}
