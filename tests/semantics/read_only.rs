//! Stores opened for reading.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use etagdb::{Change, Error, Options, Precondition, ScanRange, Store};

use crate::{Fixture, copy, text};

fn read_only(path: &Path) -> Result<Store, Error> {
    Options::default().read_only(true).open(path)
}

/// Name, bytes and time of every file below a directory.
fn files(path: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("read") {
        let entry = entry.expect("entry");
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            let bytes = std::fs::read(entry.path()).expect("read");
            let state = (bytes, metadata.modified().expect("time"));
            found.insert(entry.path().display().to_string(), state);
        }
    }
    found
}

/// Makes the store `dir/killed` as the death of its process leaves it: of the documents `a` and `b` only the second is
/// in its log, and both are in sorted files before that.
fn killed(dir: &Path) -> PathBuf {
    let path = dir.join("store");
    for body in ["1", "2"] {
        let store = Store::open(&path).expect("open");
        let docs = store.collection("docs").expect("collection");
        docs.put("b", body, Precondition::Any).expect("put");
        if body == "1" {
            docs.put("a", body, Precondition::Any).expect("put");
        } else {
            assert_ne!(std::fs::read_dir(path.join("log")).expect("list").count(), 0, "it is not closed");
            copy(&path, &dir.join("killed"));
        }
    }
    dir.join("killed")
}

fn check_killed(store: &Store) {
    let docs = store.existing_collection("docs").expect("collection");
    assert_eq!((text(&docs, "a").as_deref(), text(&docs, "b").as_deref()), (Some("1"), Some("2")));
    let before = store.snapshot_at(etagdb::CommitSeq::new(2)).expect("snapshot");
    assert_eq!(before.get(&docs, "b").expect("get").expect("there").body, "1");
    let report = store.verify(|_| {}).expect("verify");
    assert!(report.is_sound() && report.commits == 3, "{report:?}");
}

#[test]
fn many_read_at_once_and_nothing_is_changed() {
    let Fixture { store, dir } = Fixture::new();
    let docs = store.collection("docs").expect("collection");
    let first = docs.put("a", "1", Precondition::Any).expect("put");
    let second = docs.put("a", "2", Precondition::Any).expect("put");
    // One has everything in sorted files, and one in the log only.
    store.checkpoint(dir.path().join("checkpoint")).expect("checkpoint");
    copy(&dir.path().join("store"), &dir.path().join("killed"));
    drop((docs, store));
    for name in ["checkpoint", "killed"] {
        let path = dir.path().join(name);
        drop(read_only(&path).expect("the first makes the lock file"));
        let before = files(&path);
        let readers = [(); 3].map(|()| read_only(&path).expect("shared"));
        for reader in &readers {
            let docs = reader.existing_collection("docs").expect("collection");
            let document = docs.get("a").expect("get").expect("there");
            assert_eq!((document.etag, &document.body[..]), (second.etag, &b"2"[..]));
            let past = reader.snapshot_at(first.seq).expect("snapshot");
            assert_eq!(past.get(&docs, "a").expect("get").expect("there").etag, first.etag);
            assert_eq!(docs.scan(&ScanRange::all()).expect("scan").count(), 1);
            assert!(!reader.is_writable());
        }
        drop(readers);
        assert!(files(&path) == before, "{name}");
    }
}

/// Runs one test of this program a second time, with `variable` set to `value`, in the directory `place`.
fn again(test: &str, (variable, value): (&str, &Path), temporary: &Path, place: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("path of this program"));
    command.args(["--exact", "--nocapture", &format!("read_only::{test}")]).current_dir(place);
    command.env(variable, value).env("TMPDIR", temporary).output().expect("run")
}

const RELATIVE: &str = "ETAGDB_TEST_RELATIVE";

/// Runs itself a second time with another current directory and a directory for temporary files of its own.
#[test]
fn a_store_that_was_not_closed_is_read_by_a_relative_path_and_leaves_nothing_behind() {
    if let Ok(path) = std::env::var(RELATIVE) {
        let temporary = std::env::temp_dir();
        let readers = [(); 2].map(|()| read_only(Path::new(&path)).expect("open"));
        assert_eq!(std::fs::read_dir(&temporary).expect("list").count(), 2, "one for each of them");
        readers.iter().for_each(check_killed);
        drop(readers);
        assert_eq!(std::fs::read_dir(&temporary).expect("list").count(), 0);
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = killed(dir.path());
    let temporary = dir.path().join("temporary");
    std::fs::create_dir(&temporary).expect("create");
    drop(read_only(&path).expect("the first makes the lock file"));
    let before = files(&path);
    let test = "a_store_that_was_not_closed_is_read_by_a_relative_path_and_leaves_nothing_behind";
    let output = again(test, (RELATIVE, Path::new("killed")), &temporary, dir.path());
    assert!(output.status.success(), "{output:?}");
    assert!(files(&path) == before, "it was changed");
}

const NO_TEMPORARY: &str = "ETAGDB_TEST_NO_TEMPORARY";

/// Runs itself a second time without a directory for temporary files, and with one that is full.
#[test]
fn a_directory_for_temporary_files_that_does_not_work_is_named() {
    if let Ok(path) = std::env::var(NO_TEMPORARY) {
        let path = Path::new(&path);
        let refused = read_only(&path.join("killed")).expect_err("there is no place to replay its log");
        assert!(matches!(refused, Error::Io(_)), "{refused:?}");
        let temporary = std::env::temp_dir();
        let said = format!("directory for temporary files, which is {}: set TMPDIR", temporary.display());
        assert!(refused.to_string().contains(&said), "{refused}");
        let left = std::fs::read_dir(temporary).map_or(0, Iterator::count);
        assert!(left <= 1, "more than what fills it is left");
        check_killed(&read_only(&path.join("checkpoint")).expect("a store that was closed needs none"));
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = killed(dir.path());
    check_killed(&read_only(&path).expect("open"));
    drop(Store::open(dir.path().join("store")).expect("open"));
    std::fs::rename(dir.path().join("store"), dir.path().join("checkpoint")).expect("rename");
    let test = "a_directory_for_temporary_files_that_does_not_work_is_named";
    let output = again(test, (NO_TEMPORARY, dir.path()), &dir.path().join("missing"), dir.path());
    assert!(output.status.success(), "{output:?}");

    let full = dir.path().join("full");
    std::fs::create_dir(&full).expect("create");
    let script = r#"mount -t tmpfs -o size=16k tmpfs "$1" && head -c 8192 /dev/zero >"$1/filler" || exit 77
        exec "$2" --exact read_only::a_directory_for_temporary_files_that_does_not_work_is_named"#;
    own_mounts(script, &full, (NO_TEMPORARY, dir.path()), &full);
}

#[test]
fn every_write_is_refused_and_says_why() {
    let fixture = Fixture::new();
    fixture.collection("docs").put("a", "1", Precondition::Any).expect("put");
    let Fixture { store, dir } = fixture;
    drop(store);
    let store = read_only(&dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("it exists");
    let mut batch = store.batch();
    batch.check(&docs, "a", Precondition::Present).put(&docs, "b", "1", Precondition::Any);
    let refusals = [
        docs.put("a", "2", Precondition::Any).err(),
        docs.delete("a", Precondition::Any).err(),
        docs.update("a", |_| Ok(Change::Delete)).err(),
        batch.commit().err(),
        store.collection("new").err(),
        store.drop_collection("docs").err(),
        store.checkpoint(dir.path().join("checkpoint")).err(),
        store.sync().err(),
    ];
    for (n, refused) in refusals.into_iter().enumerate() {
        let refused = refused.unwrap_or_else(|| panic!("write {n} was accepted"));
        assert!(matches!(refused, Error::ReadOnly { .. }), "write {n}: {refused}");
        assert!(refused.to_string().contains("opened read-only"), "write {n}: {refused}");
    }
    assert_eq!(text(&docs, "a").as_deref(), Some("1"));
    assert_eq!(store.collections(), ["docs"]);
    assert!(!dir.path().join("checkpoint").exists());
}

#[test]
fn readers_and_a_writer_exclude_each_other() {
    let Fixture { store, dir } = Fixture::new();
    let path = dir.path().join("store");
    let refused = read_only(&path).expect_err("a writer has it");
    assert!(matches!(&refused, Error::InUse { holder, .. } if holder.starts_with("process ")), "{refused}");
    drop(store);
    let reader = read_only(&path).expect("free");
    let refused = Store::open(&path).expect_err("a reader has it");
    assert!(matches!(&refused, Error::InUse { holder, .. } if holder == "readers"), "{refused}");
    // A snapshot keeps the directory like any other handle.
    let snapshot = reader.snapshot();
    drop(reader);
    assert!(Store::open(&path).is_err());
    drop(snapshot);
    Store::open(&path).expect("free again");
}

#[test]
fn reading_creates_no_store() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("none");
    assert!(matches!(read_only(&path), Err(Error::Invalid(message)) if message.contains("no store")));
    assert!(!path.exists());
    assert!(matches!(read_only(dir.path()), Err(Error::Invalid(_))));
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
}

const MOUNTED: &str = "ETAGDB_TEST_READ_ONLY_MOUNT";

/// Runs itself a second time in a mount namespace of its own, where the store's directory is mounted read-only.
#[test]
fn a_store_on_a_read_only_file_system_can_be_read() {
    if let Ok(path) = std::env::var(MOUNTED) {
        return on_read_only_file_system(Path::new(&path));
    }
    let Fixture { store, dir } = Fixture::new();
    store.collection("docs").expect("collection").put("a", "1", Precondition::Any).expect("put");
    // One with a lock file and everything in sorted files, one without, and one that has to replay its log.
    store.checkpoint(dir.path().join("checkpoint")).expect("checkpoint");
    copy(&dir.path().join("store"), &dir.path().join("killed"));
    drop(store);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null || exit 77
        exec "$2" --exact read_only::a_store_on_a_read_only_file_system_can_be_read"#;
    own_mounts(script, dir.path(), (MOUNTED, dir.path()), &std::env::temp_dir());
}

/// Has a shell run a script in a mount namespace of its own, with a directory and this program, which the script ends in
/// running; 77 says that it could not mount.
fn own_mounts(script: &str, dir: &Path, (variable, value): (&str, &Path), temporary: &Path) {
    let this = std::env::current_exe().expect("path of this program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(dir).arg(this);
    match command.env(variable, value).env("TMPDIR", temporary).output() {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        }
        // 77: the mounts; 1: unshare itself.
        Ok(output) if output.status.code() == Some(101) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        other => eprintln!("SKIPPED: nothing can be mounted here: {other:?}"),
    }
}

fn on_read_only_file_system(path: &Path) {
    for name in ["store", "checkpoint", "killed"] {
        let path = path.join(name);
        let readers = [(); 2].map(|()| read_only(&path).expect("open"));
        for reader in &readers {
            let docs = reader.existing_collection("docs").expect("collection");
            assert_eq!(text(&docs, "a").as_deref(), Some("1"), "{name}");
            assert!(reader.verify(|_| {}).expect("verify").is_sound(), "{name}");
        }
        assert!(Store::open(&path).is_err(), "{name}");
    }
    for name in ["checkpoint", "killed"] {
        let target = tempfile::tempdir().expect("temporary directory");
        Store::restore(path.join(name), target.path()).expect("restored from a read-only file system");
    }
    assert!(Store::restore(path.join("checkpoint"), path.join("target")).is_err());
}
