//! Real file systems: ext4 and xfs in a loop device, shut down under a store at work, full, and read-only. Needs root and
//! the tools; without them it says so, loudly, and passes. `ETAGDB_REAL_CUTS` says how many cuts each file system gets.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use etagdb::{Error, Options, Precondition, Store};

use crate::model::{Demand, Told, check};
use crate::power::Work;
use crate::recorder::{compile, memory_dir};
use crate::summary;

/// Runs a command; what it said when it failed.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file system of its own in memory, mounted while this lives.
struct Mounted {
    image: PathBuf,
    point: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    fn new(kind: &str) -> Result<Mounted, String> {
        let dir = memory_dir();
        let (image, point) = (dir.path().join("image"), dir.path().join("mounted"));
        std::fs::create_dir(&point).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(400 << 20).map_err(|error| error.to_string())?;
        run(&format!("mkfs.{kind}"), &["-q", text(&image)])?;
        let mounted = Mounted { image, point, _dir: dir };
        mounted.mount()?;
        Ok(mounted)
    }

    fn mount(&self) -> Result<(), String> {
        self.mount_with("loop")
    }

    fn mount_with(&self, options: &str) -> Result<(), String> {
        run("mount", &["-o", options, text(&self.image), text(&self.point)])
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[text(&self.point)])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Cuts the power of a real file system some times; why it could not be done, if so.
fn cut(kind: &str, cuts: u64, shutdown: &Path) -> Result<(), String> {
    let began = Instant::now();
    let mounted = Mounted::new(kind)?;
    let mut told = Told::default();
    let mut acknowledged = 0;
    for number in 0..cuts {
        let work = Work { seed: 31, batches: 1 << 30, lives: 1, ..Work::SYNC };
        let mut child = Command::new(env!("CARGO_BIN_EXE_power-child"))
            .args(work.arguments(&mounted.point))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Only what is heard before the cut counts: a sync in flight can succeed and be lost.
        for _ in 0..20 + number * 37 % 400 {
            told.hear(&lines.next().expect("the child ended by itself").expect("read"));
        }
        let down = run(text(shutdown), &[text(&mounted.point)]);
        child.kill().expect("kill");
        child.wait().expect("wait");
        // It went on until it was cut off, and may have taken away by then what it had told of before.
        for line in lines.map_while(Result::ok).filter(|line| line.starts_with("dropping ")) {
            told.hear(&line);
        }
        down?;
        mounted.unmount()?;
        mounted.mount()?;
        let thorough = number % 8 == 0;
        let checked = check(
            &mounted.point.join("store"),
            work.seed,
            &told.clone().after_failures(),
            Demand::Everything,
            thorough,
        );
        checked.unwrap_or_else(|wrong| panic!("{kind}, cut {number}: {wrong:?}"));
        acknowledged += told.acknowledged();
        // What is there beyond that is what the next child begins with, under numbers that were heard of or not.
        told = Told::default();
        run("rm", &["-rf", text(&mounted.point.join("store"))])?;
    }
    let compared = format!("{acknowledged} acknowledged batches");
    summary::row(format!("power cuts of a real {kind}"), cuts, compared, 0, began);
    Ok(())
}

#[test]
fn a_power_cut_of_a_real_file_system_loses_nothing() {
    let cuts = std::env::var("ETAGDB_REAL_CUTS").ok().map_or(6, |cuts| cuts.parse().expect("a number"));
    let shutdown = compile("shutdown", &[]);
    std::thread::scope(|scope| {
        for kind in ["ext4", "xfs"] {
            scope.spawn(move || {
                if let Err(why) = cut(kind, cuts, shutdown) {
                    skip(&format!("no power cuts of a real {kind}"), &why);
                }
            });
        }
    });
}

fn skip(what: &str, why: &str) {
    eprintln!("\nSKIPPED: {what}: {why}\n");
}

/// A store on a file system that is mounted read-only says so, is read all the same, and is written to again when it is
/// mounted as before.
#[test]
fn a_file_system_that_is_read_only_is_said_to_be_and_read() {
    let mounted = match Mounted::new("ext4") {
        Ok(mounted) => mounted,
        Err(why) => return skip("no file system that is read-only", &why),
    };
    let path = mounted.point.join("store");
    let put = |store: &Store, body: &str| {
        store.collection("docs").and_then(|docs| docs.put("a", body, Precondition::Any)).expect("put")
    };
    let written = put(&Store::open(&path).expect("open"), "1");
    mounted.unmount().expect("unmount");
    mounted.mount_with("loop,ro").expect("mount");
    let error = Store::open(&path).expect_err("it cannot be written to");
    assert!(matches!(&error, Error::Io(cause) if cause.to_string().contains("Read-only file system")), "{error}");
    {
        let store = Options::default().read_only(true).open(&path).expect("open for reading");
        let found = store.existing_collection("docs").expect("there").get("a").expect("get").expect("there");
        assert_eq!(found.etag, written.etag);
    }
    mounted.unmount().expect("unmount");
    mounted.mount().expect("mount");
    put(&Store::open(&path).expect("open again"), "2");
}

/// A real disk that is full, and has space again: see `faults`, where writes are made to fail.
#[test]
fn a_real_disk_that_was_full_is_written_to_again_without_reopening() {
    const DISKS: usize = 40;
    // With so many writes before the log hardly ever needs more space, and RocksDB's files do; with none it is the log.
    for (before, whose) in [(0, "the log"), (2_000, "RocksDB's files")] {
        let mut filled = false;
        for _ in 0..DISKS {
            match fill_the_disk(before, whose) {
                Ok(for_whom) => filled = for_whom == whose,
                Err(why) => return skip("no real disk that is full", &why),
            }
            if filled {
                break;
            }
        }
        assert!(filled, "none of {DISKS} disks was full for {whose}");
    }
}

/// Fills a disk with a store on it after so many writes. Says for whom it was full.
fn fill_the_disk(before: u64, wanted: &str) -> Result<&'static str, String> {
    let began = Instant::now();
    let mounted = Mounted::new("ext4")?;
    let store = Options::default().write_buffer_bytes(1 << 20).open(mounted.point.join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    let put = |n: u64| docs.put(format!("{n}"), vec![n as u8; 4096], Precondition::Any);
    let mut acknowledged: Vec<_> = (0..before).map(|n| (n, put(n).expect("put").etag)).collect();
    let ballast = mounted.point.join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("create");
    // To the last block.
    for bytes in [1 << 20, 4096] {
        let block = vec![1; bytes];
        while file.write_all(&block).is_ok() {}
    }
    let full = (before..).find_map(|n| match put(n) {
        Ok(written) => {
            acknowledged.push((n, written.etag));
            None
        }
        Err(error) => Some(error),
    });
    let full = full.expect("a full disk");
    assert!(matches!(full, Error::DiskFull(_) | Error::OutcomeUnknown(_)), "{full}");
    let whose = if full.to_string().contains(".sst") { "RocksDB's files" } else { "the log" };
    let check = |acknowledged: &[(u64, etagdb::Etag)]| {
        for (n, etag) in acknowledged {
            assert_eq!(docs.get(format!("{n}")).expect("get").map(|found| found.etag), Some(*etag), "{n}");
        }
    };
    check(&acknowledged);
    drop(file);
    std::fs::remove_file(&ballast).expect("remove");
    let healed = Instant::now();
    if matches!(full, Error::DiskFull(_)) {
        let written = loop {
            match put(u64::MAX) {
                Ok(written) => break written,
                Err(Error::DiskFull(_)) => assert!(healed.elapsed() < Duration::from_secs(30), "it stays full"),
                Err(error) => panic!("{error}"),
            }
            std::thread::park_timeout(Duration::from_millis(50));
        };
        acknowledged.push((u64::MAX, written.etag));
    }
    check(&acknowledged);
    let compared = format!("{} acknowledged writes, going on after {:.1?}", acknowledged.len(), healed.elapsed());
    if whose == wanted {
        summary::row(format!("a real full disk, for {whose}"), 1, compared, 0, began);
    }
    Ok(whose)
}
