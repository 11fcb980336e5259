//! `etagdb import`: what it writes, what it refuses, and that it goes on where it was cut off.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::{Place, Server, document, documents, import, kill, run, summary, text};

/// An import that reads what the test writes, and whose acknowledgements the test reads.
struct Fed {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    acknowledged: Vec<Value>,
}

impl Fed {
    fn start(destination: &[&str], resume: &str) -> Fed {
        let mut command = import(destination, &["--ack-log", "/dev/stdout", "--resume", resume, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Fed { child, stdin, stdout, acknowledged: Vec::new() }
    }

    fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads one acknowledgement, waiting for it.
    fn read(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        self.acknowledged.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no acknowledgement: {line:?}")));
    }

    /// Waits for the end; returns the exit code, all acknowledgements, the last line of standard output and standard
    /// error.
    fn end(self) -> (Option<i32>, Vec<Value>, String, String) {
        self.end_with(String::new())
    }

    /// Writes the rest of the input first. That takes a thread: the import stops reading while nobody reads from it.
    fn end_with(mut self, rest: String) -> (Option<i32>, Vec<Value>, String, String) {
        let stdin = self.stdin.take();
        // An import that ends early reads only a part of it.
        std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(rest.as_bytes())));
        let (mut out, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        for line in lines.iter().filter(|line| line.starts_with("{\"id\"")) {
            self.acknowledged.push(serde_json::from_str(line).unwrap());
        }
        let last = lines.last().copied().unwrap_or_default().to_owned();
        (self.child.wait().unwrap().code(), self.acknowledged, last, errors)
    }
}

fn settled(journal: &str) -> u64 {
    let Ok(bytes) = fs::read(journal) else { return 0 };
    let entry: Value = serde_json::from_slice(&bytes).unwrap();
    entry["position"]["documents"].as_u64().unwrap()
}

/// Every acknowledged document is there, with the etag that was acknowledged or one that replaced it later.
fn assert_all_there(acknowledged: &[Value], items: &BTreeMap<String, Value>) {
    for line in acknowledged {
        let id = line["id"].as_str().unwrap();
        let item = items.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(line["pk"], json!([item["pk"]]));
    }
}

#[test]
fn an_import_run_again_replaces_every_document_and_adds_none() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(500));
    let first = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!((summary(&first)["created"].as_u64(), summary(&first)["replaced"].as_u64()), (Some(500), Some(0)));
    let again = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!((summary(&again)["created"].as_u64(), summary(&again)["replaced"].as_u64()), (Some(0), Some(500)));
    assert_eq!(place.journals(), 0, "a complete import leaves no journal");
    let items = place.serve().items();
    assert_eq!(items.len(), 500);
    assert_eq!(items["id-42"]["number"], 42);
}

#[test]
fn generated_ids_are_the_same_on_every_run_and_equal_rows_stay_apart() {
    let place = Place::new();
    let data = place.path("data");
    let row = "{\"name\":\"Valparaíso\",\"pk\":\"CL\"}";
    let array =
        place.input("cities.json", &format!("\u{feff}[\n {row},\n {row}, {{\"name\":\"Bath\",\"pk\":\"GB\"}}\n]\n"));
    let lines =
        place.input("cities.ndjson", &format!("{row}\r\n\r\n{row}\r\n{{ \"name\": \"Bath\", \"pk\": \"GB\" }}"));
    let first = import(&["--data", &data], &["--generate-id", &array]).output().unwrap();
    assert_eq!(summary(&first)["created"], 3, "{first:?}");
    for input in [array, lines] {
        let again = import(&["--data", &data], &["--generate-id", &input]).output().unwrap();
        assert_eq!((summary(&again)["created"].as_u64(), summary(&again)["replaced"].as_u64()), (Some(0), Some(3)));
    }
    assert_eq!(place.serve().items().len(), 3);
}

#[test]
fn of_several_documents_with_one_id_the_last_stays() {
    let place = Place::new();
    let lines: String = (0..2000).map(|n| format!("{{\"id\":\"{}\",\"pk\":\"x\",\"n\":{n}}}\n", n % 10)).collect();
    let input = place.input("input.ndjson", &lines);
    let output = import(&["--data", &place.path("data")], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (id, item) in place.serve().items() {
        assert_eq!(item["n"], 1990 + id.parse::<u64>().unwrap());
    }
}

#[test]
fn a_bad_line_is_named_and_the_import_goes_on_once_it_is_corrected() {
    let place = Place::new();
    let data = place.path("data");
    let bad = format!("{}{{\"id\":\"bad\",\n{}", documents(20), document(20));
    let input = place.input("input.ndjson", &bad);
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("line 21, column 12: EOF while parsing"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(
        (summary(&output)["documents"].as_u64(), summary(&output)["complete"].as_bool()),
        (Some(20), Some(false))
    );
    assert_eq!(place.journals(), 1);

    place.input("input.ndjson", &bad.replace("\"bad\",\n", "\"bad\",\"pk\":\"x\"}\n"));
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    let done = summary(&output);
    assert_eq!((done["resumed_after"].as_u64(), done["created"].as_u64()), (Some(20), Some(2)), "{output:?}");
    assert_eq!(place.journals(), 0);
}

#[test]
fn a_bad_element_is_named_by_number_and_byte_even_if_only_the_store_sees_it() {
    let place = Place::new();
    let data = place.path("data");
    let input =
        place.input("input.json", "[{\"id\":\"a\",\"pk\":1},\n {\"id\":\"b/c\",\"pk\":1},{\"id\":\"d\",\"pk\":1}]");
    let output = import(&["--data", &data], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("element 2 at byte 21 (line 2, column 2): "), "{output:?}");

    let output = import(&["--data", &data], &["--skip-bad", &input]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((summary(&output)["skipped"].as_u64(), summary(&output)["resumed_after"].as_u64()), (Some(1), Some(1)));
    assert!(text(&output.stderr).contains("element 2 at byte 21"), "{output:?}");
    assert_eq!(place.serve().items().into_keys().collect::<Vec<_>>(), ["a", "d"]);
}

#[test]
fn an_array_that_breaks_off_is_no_success() {
    let place = Place::new();
    let input = place.input("input.json", "[{\"id\":\"a\",\"pk\":1},{\"id\":\"b\"");
    let output = import(&["--data", &place.path("data")], &["--skip-bad", &input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("element 2 at byte 19"), "{output:?}");
    assert_eq!(summary(&output)["documents"], 1);
}

#[test]
fn another_partition_key_than_the_container_has_is_refused() {
    let place = Place::new();
    let data = place.path("data");
    let input = place.input("input.ndjson", &documents(1));
    assert!(import(&["--data", &data], &[&input]).output().unwrap().status.success());
    let args = ["import", "--data", &data, "--database", "d", "--container", "c", "--partition-key", "/other", &input];
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("/pk") && stderr.contains("/other"), "{stderr}");

    let server = place.serve();
    let args =
        ["import", "--url", &server.url, "--database", "d", "--container", "c", "--partition-key", "/other", &input];
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("/pk") && stderr.contains("/other"), "{stderr}");
}

#[test]
fn a_killed_import_loses_nothing_acknowledged_and_goes_on() {
    let place = Place::new();
    let (data, journal) = (place.path("data"), place.path("progress"));
    let mut fed = Fed::start(&["--data", &data], &journal);
    let mut written = 0;
    // Until the journal has been written in the middle, so that the second run really goes on from it.
    while settled(&journal) == 0 {
        fed.write(&document(written));
        fed.write("\n");
        written += 1;
        fed.read();
    }
    fed.child.kill().unwrap();
    let (_, acknowledged, ..) = fed.end();
    assert!(acknowledged.len() >= written);
    let before = settled(&journal);
    assert!(before as usize <= written);
    assert_all_there(&acknowledged, &place.serve().items());

    let fed = Fed::start(&["--data", &data], &journal);
    let (code, more, done, errors) = fed.end_with(documents(written + 100));
    assert_eq!(code, Some(0), "{errors}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["resumed_after"], before);
    assert_eq!(more.len() as u64, written as u64 + 100 - before, "only the rest is sent");
    assert!(!Path::new(&journal).exists());
    let items = place.serve().items();
    assert_eq!(items.len(), written + 100);
    assert_all_there(&more, &items);
}

#[test]
fn an_interrupted_import_says_how_to_go_on_even_while_its_input_is_silent() {
    let place = Place::new();
    let (data, journal) = (place.path("data"), place.path("progress"));
    let mut fed = Fed::start(&["--data", &data], &journal);
    fed.write(&documents(100));
    for _ in 0..100 {
        fed.read();
    }
    kill(&fed.child, "INT");
    // Standard input stays open until the import has ended by itself.
    let stdin = fed.stdin.take();
    let (code, acknowledged, _, errors) = fed.end();
    drop(stdin);
    assert_eq!(code, Some(1));
    assert!(errors.contains("interrupted (stored before: 100 documents); run the same command again"), "{errors}");
    assert_eq!((acknowledged.len(), settled(&journal)), (100, 100));
}

#[test]
fn a_running_server_takes_an_import_and_keeps_it() {
    let place = Place::new();
    let server = place.serve();
    let input = place.input("input.ndjson", &documents(300));
    for (created, replaced) in [(300, 0), (0, 300)] {
        let output = import(&["--url", &server.url], &[&input]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let done = summary(&output);
        assert_eq!((done["created"].as_u64(), done["replaced"].as_u64()), (Some(created), Some(replaced)));
    }
    assert_eq!(server.items().len(), 300);
    assert_eq!(server.end("TERM").0, Some(0));
    assert_eq!(place.serve().items().len(), 300, "after a restart");
}

#[test]
fn an_acknowledged_etag_is_the_etag_of_the_document() {
    let place = Place::new();
    let import_three = |destination: &[&str]| {
        let (code, acknowledged, _, errors) = Fed::start(destination, &place.path("progress")).end_with(documents(3));
        assert_eq!(code, Some(0), "{errors}");
        acknowledged
    };
    let acknowledged = import_three(&["--data", &place.path("data")]);
    let server = place.serve();
    assert_etags(&acknowledged, &server.items());
    let acknowledged = import_three(&["--url", &server.url]);
    assert_etags(&acknowledged, &server.items());
}

fn assert_etags(acknowledged: &[Value], items: &BTreeMap<String, Value>) {
    assert_eq!(acknowledged.len(), items.len());
    for line in acknowledged {
        assert_eq!(line["etag"], items[line["id"].as_str().unwrap()]["_etag"]);
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_has_everything_acknowledged() {
    let place = Place::new();
    let mut server = place.serve();
    let address = server.address().to_owned();
    let mut fed = Fed::start(&["--url", &server.url.clone()], &place.path("progress"));
    fed.write(&documents(200));
    for _ in 0..200 {
        fed.read();
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // The first of these find nobody there.
    fed.write(&(200..300).map(|number| document(number) + "\n").collect::<String>());
    let server = Server::start_with(Path::new(&place.path("data")), &["--listen", &address]);
    let (code, acknowledged, _, errors) = fed.end_with((300..400).map(|number| document(number) + "\n").collect());
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(acknowledged.len(), 400);
    let items = server.items();
    assert_eq!(items.len(), 400);
    assert_all_there(&acknowledged, &items);
}

#[test]
fn a_server_that_is_not_there_or_refuses_the_key_is_named() {
    let place = Place::new();
    let input = place.input("input.ndjson", &documents(1));
    let server = place.serve();
    let output = import(&["--url", &server.url, "--key", "c2VjcmV0"], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("refuses the account key"), "{output:?}");
    let url = server.url.clone();
    drop(server);
    let output = import(&["--url", &url], &[&input]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("{url} does not answer")), "{output:?}");
}

#[test]
fn inputs_that_cannot_be_read_are_named_and_create_nothing() {
    let place = Place::new();
    let data = place.path("data");
    let (missing, directory) = (place.path("missing.json"), place.path(""));
    let zipped = place.path("input.gz");
    fs::write(&zipped, b"\x1f\x8b\x08\0").unwrap();
    for (input, message) in [(missing, "No such file"), (directory, "is a directory"), (zipped, "gzip")] {
        let output = import(&["--data", &data], &[&input]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(message), "{output:?}");
    }
    assert!(!Path::new(&data).exists());
}
