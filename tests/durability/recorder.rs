//! Runs a child process with its file operations recorded or made to fail. Owns the shim's compiling and its record's
//! reading; what a record means for a disk is `disk`'s business.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::planted;

/// One entry of a record, in the order in which things happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A path was opened, and made or emptied if so asked.
    Open {
        fd: u32,
        path: PathBuf,
        create: bool,
        truncate: bool,
    },
    Close {
        fd: u32,
    },
    Write {
        fd: u32,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        fd: u32,
        len: u64,
    },
    /// A sync begins; what was written before this is on disk when it ends.
    SyncBegins {
        fd: u32,
        number: u64,
    },
    SyncEnds {
        number: u64,
    },
    /// A sync failed: what was to be synced may never be, whatever later syncs say.
    SyncFails {
        fd: u32,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
    /// The process said something on standard output.
    Said(String),
}

/// What the shim is asked to do besides recording.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    /// Kinds of files whose syncs are not done.
    pub(crate) lie: Option<&'static str>,
    /// Which calls fail: kind, first, how many, error number.
    pub(crate) fault: Option<(&'static str, u64, u64, i32)>,
    /// The bug that the child is to have.
    pub(crate) bug: Option<&'static str>,
    /// The bug that its engine is to have: see `planted`.
    pub(crate) planted: Option<&'static str>,
}

/// The shim, compiled once a run.
pub(crate) fn shim() -> &'static Path {
    static SHIM: OnceLock<&'static Path> = OnceLock::new();
    SHIM.get_or_init(|| compile("recorder", &["-shared", "-fPIC"]))
}

pub(crate) const POWER_CHILD: &str = env!("CARGO_BIN_EXE_power-child");

/// Compiles a C source of `shim` into cargo's directory for such things.
pub(crate) fn compile(name: &str, options: &[&str]) -> &'static Path {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Renamed into place: another run may be using the one that is there.
    let new = path.with_extension(std::process::id().to_string());
    let source = format!("{}/durability/shim/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-O2", "-Wall", "-Wextra", "-Werror"]).args(options).arg("-o").arg(&new).arg(source);
    let status = command.args(["-ldl", "-lpthread"]).status().expect("a C compiler, as for RocksDB");
    assert!(status.success(), "{name}.c does not compile");
    fs::rename(&new, &path).expect("rename");
    Box::leak(path.into_boxed_path())
}

/// A directory in memory, where syncs cost nothing and power cuts are only computed.
pub(crate) fn memory_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("temporary directory")
}

/// Runs the child on files below `root` under the shim, without a record; returns also how many calls of the faulty
/// kind it made.
pub(crate) fn run_with(root: &Path, orders: &Orders, arguments: &[&str]) -> (Output, u64) {
    let counts = root.with_extension("count");
    let mut command = command(Path::new(POWER_CHILD), root, orders);
    let output = command.args(arguments).env("SHIM_COUNT", &counts).output().expect("spawn");
    let count = fs::read_to_string(&counts).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    (output, count)
}

/// Runs the child on files below `root`, and returns the record of what it did.
pub(crate) fn record(root: &Path, orders: &Orders, arguments: &[&str]) -> Vec<Event> {
    let program = if orders.planted.is_some() { planted::child() } else { POWER_CHILD };
    record_program(program, root, orders, arguments)
}

/// The same with another program.
pub(crate) fn record_program(program: &str, root: &Path, orders: &Orders, arguments: &[&str]) -> Vec<Event> {
    let path = root.with_extension("record");
    let mut command = command(Path::new(program), root, orders);
    let output = command.args(arguments).env("SHIM_LOG", &path).output().expect("spawn");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = parse(&fs::read(&path).expect("a record"));
    fs::remove_file(&path).expect("remove");
    events
}

/// A program that will run under the shim, which watches files below `root`.
pub(crate) fn command(program: &Path, root: &Path, orders: &Orders) -> Command {
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", shim()).env("SHIM_ROOT", root).stdin(Stdio::null());
    if let Some(lie) = orders.lie {
        command.env("SHIM_LIE", lie);
    }
    if let Some(bug) = orders.bug {
        command.env("POWER_CHILD_BUG", bug);
    }
    if let Some(planted) = orders.planted {
        command.env("ETAGDB_PLANTED", planted);
    }
    if let Some((kind, first, count, errno)) = orders.fault {
        command.env("SHIM_FAULT", format!("{kind}:{first}:{count}:{errno}"));
    }
    command
}

fn parse(mut record: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((head, rest)) = record.split_first_chunk::<25>() {
        let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let small = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (fd, a, b) = (small(1), number(5), number(13));
        let (bytes, rest) = rest.split_at(small(21) as usize);
        record = rest;
        let path = || PathBuf::from(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
        let two = || {
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let (from, to) = text.split_once('\0').expect("two paths");
            (PathBuf::from(from), PathBuf::from(to))
        };
        events.push(match head[0] {
            b'O' => Event::Open { fd, path: path(), create: a == 1, truncate: b == 1 },
            b'X' => Event::Close { fd },
            b'W' => Event::Write { fd, at: a, bytes: bytes.to_vec() },
            b'T' => Event::Truncate { fd, len: a },
            b'S' => Event::SyncBegins { fd, number: a },
            b'E' => Event::SyncEnds { number: a },
            b'F' => Event::SyncFails { fd },
            b'R' => {
                let (from, to) = two();
                Event::Rename { from, to }
            }
            b'L' => {
                let (from, to) = two();
                Event::Link { from, to }
            }
            b'U' => Event::Remove { path: path() },
            b'M' => Event::MakeDirectory { path: path() },
            b'A' => Event::Said(String::from_utf8(bytes.to_vec()).expect("UTF-8")),
            other => panic!("unknown entry {other} in the record"),
        });
    }
    assert!(record.is_empty(), "the record ends in the middle of an entry");
    events
}
