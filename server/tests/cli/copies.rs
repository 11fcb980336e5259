//! `etagdb checkpoint`, `restore` and `verify`.

use serde_json::{Value, json};

use crate::support::{Place, Server, documents, import, run};

#[test]
fn verify_reads_a_store_and_says_what_is_wrong() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(20));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let (code, stdout, stderr) = run(&["verify", "--data", &data, "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["sound"], &report["problems"]), (0, &json!(true), &json!([])), "{stderr}");
    assert!(run(&["verify", "--data", &data]).1.contains(": sound"));
    assert_eq!(run(&["verify", "--data", &place.path("none")]).0, 1);
}

#[test]
fn a_checkpoint_of_a_directory_and_of_a_server_can_be_restored() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(20));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    let (local, remote) = (place.path("local"), place.path("remote"));
    let (code, stdout, stderr) = run(&["checkpoint", "--data", &data, "--json", &local]);
    assert_eq!(code, 0, "{stderr}");
    let made: Value = serde_json::from_str(&stdout).unwrap();
    assert!(made["lastCommit"].as_u64().unwrap() >= 20 && made["bytes"].as_u64().unwrap() > 0, "{made}");

    let server = place.serve();
    let (code, stdout, stderr) = run(&["checkpoint", "--url", &server.url, &remote]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with(&format!("made the checkpoint {remote} as of commit ")), "{stdout}");
    let (code, _, stderr) = run(&["checkpoint", "--url", &server.url, &remote]);
    assert_eq!(code, 1);
    assert!(stderr.contains("exists already"), "{stderr}");
    let (code, _, stderr) = run(&["checkpoint", "--data", &data, &place.path("other")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("in use by") && stderr.contains("--url"), "{stderr}");
    let (code, _, stderr) = run(&["restore", &data, "--data", &place.path("other")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("make a checkpoint of it with --url"), "{stderr}");
    drop(server);

    for checkpoint in [local, remote] {
        assert_eq!(run(&["verify", "--data", &checkpoint]).0, 0);
        let restored = format!("{checkpoint}-restored");
        let (code, stdout, stderr) = run(&["restore", &checkpoint, "--data", &restored, "--json"]);
        assert_eq!(code, 0, "{stderr}");
        let restored_to: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(restored_to["directory"], restored);
        let (_, exported, _) = run(&["export", "--data", &restored, "--database", "d", "--container", "c"]);
        assert_eq!(exported.lines().count(), 20);
        let (code, _, stderr) = run(&["restore", &checkpoint, "--data", &restored]);
        assert_eq!(code, 1);
        assert!(stderr.contains(&restored), "{stderr}");
    }
    let (code, _, stderr) = run(&["restore", &place.path("none"), "--data", &place.path("new")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("none"), "{stderr}");
    assert!(!std::path::Path::new(&place.path("new")).exists());
}

#[test]
fn a_server_makes_checkpoints_on_loopback_only_and_for_its_key_only() {
    let place = Place::new();
    let more = ["--listen", "0.0.0.0:0", "--key", "c2VjcmV0"];
    let server = Server::start_with(std::path::Path::new(&place.path("data")), &more);
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let (code, _, stderr) = run(&["checkpoint", "--url", &url, "--key", "c2VjcmV0", &place.path("copy")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("403") && stderr.contains("more than loopback"), "{stderr}");
    let (code, _, stderr) = run(&["checkpoint", "--url", &url, &place.path("copy")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("refuses the account key"), "{stderr}");
    assert!(!std::path::Path::new(&place.path("copy")).exists());
}

#[test]
fn verify_fails_on_a_damaged_store() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(200));
    assert_eq!(import(&["--data", &data], &[&input]).output().unwrap().status.code(), Some(0));
    // A checkpoint has everything in sorted files.
    let copy = place.path("copy");
    assert_eq!(run(&["checkpoint", "--data", &data, &copy]).0, 0);
    let restored = place.path("restored");
    assert_eq!(run(&["restore", &copy, "--data", &restored]).0, 0);
    let files = std::fs::read_dir(format!("{restored}/rocksdb")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "sst")) {
        let mut bytes = std::fs::read(&file).unwrap();
        // In the first block, which holds rows.
        bytes[20] ^= 0xFF;
        std::fs::write(&file, bytes).unwrap();
    }
    let (code, stdout, stderr) = run(&["verify", "--data", &restored, "--json"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    if !stdout.is_empty() {
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["sound"], false);
        assert!(!report["problems"].as_array().unwrap().is_empty());
    }
    assert!(!stderr.is_empty());
}
