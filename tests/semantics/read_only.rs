//! Stores opened for reading.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use etagdb::{Change, Error, Options, Precondition, ScanRange, Store};

use crate::{Fixture, text};

fn read_only(path: &Path) -> Result<Store, Error> {
    Options::default().read_only(true).open(path)
}

/// Name, length and time of every file below a directory.
fn files(path: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("read") {
        let entry = entry.expect("entry");
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            let state = (metadata.len(), metadata.modified().expect("time"));
            found.insert(entry.path().display().to_string(), state);
        }
    }
    found
}

#[test]
fn many_read_at_once_and_nothing_is_changed() {
    let Fixture { store, dir } = Fixture::new();
    let docs = store.collection("docs").expect("collection");
    let first = docs.put("a", "1", Precondition::Any).expect("put");
    let second = docs.put("a", "2", Precondition::Any).expect("put");
    // The checkpoint has its newest writes in the log only, as a store has that was not closed cleanly.
    let path = dir.path().join("checkpoint");
    store.checkpoint(&path).expect("checkpoint");
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
        assert!(!reader.stats().writable);
    }
    drop(readers);
    assert_eq!(files(&path), before);
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
    // One with a lock file and everything in sorted files, and one without, that has to replay its log.
    store.checkpoint(dir.path().join("checkpoint")).expect("checkpoint");
    drop(store);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null || exit 77
        exec "$2" --exact read_only::a_store_on_a_read_only_file_system_can_be_read"#;
    let this = std::env::current_exe().expect("path of this program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg(this);
    match command.env(MOUNTED, dir.path()).output() {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        }
        // 77: the mounts; 1: unshare itself.
        Ok(output) if output.status.code() == Some(101) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        other => eprintln!("SKIPPED: no read-only mount can be made here: {other:?}"),
    }
}

fn on_read_only_file_system(path: &Path) {
    for name in ["store", "checkpoint"] {
        let path = path.join(name);
        let readers = [(); 2].map(|()| read_only(&path).expect("open"));
        for reader in &readers {
            let docs = reader.existing_collection("docs").expect("collection");
            assert_eq!(text(&docs, "a").as_deref(), Some("1"), "{name}");
            assert!(reader.verify(|_| {}).expect("verify").is_sound(), "{name}");
        }
        assert!(Store::open(&path).is_err(), "{name}");
    }
    let target = tempfile::tempdir().expect("temporary directory");
    Store::restore(path.join("checkpoint"), target.path()).expect("restored from a read-only file system");
    assert!(Store::restore(path.join("checkpoint"), path.join("target")).is_err());
}
