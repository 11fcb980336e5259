//! `--strict`: the README's table of conditions, cell by cell, by default and strictly; and what a table cannot say.

use etagdb_server::Config;
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Client, Host};

const ITEM: &str = "/dbs/d/colls/c/docs/a";
const ITEMS: &str = "/dbs/d/colls/c/docs";
const KEY: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
const BATCH: (&str, &str) = ("x-ms-cosmos-is-batch-request", "true");
const OPERATIONS: [&str; 6] = ["read", "replace", "patch", "delete", "upsert", "upsert, absent"];
const EARLIER: &str = "Sat, 01 Jan 2000 00:00:00 GMT";
const LATER: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

fn body() -> Value {
    json!({"id": "a", "pk": "p", "n": 1})
}

fn strict() -> Host {
    Host::start_with(Config { strict: true, ..Config::default() })
}

/// The README's table: a condition, and what it says for each of [`OPERATIONS`].
fn table() -> Vec<(String, Vec<String>)> {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<!-- conditions -->\n").expect("the table's mark");
    let mut rows = rest.lines().take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].replace('`', ""), cells[1..].iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>())
    });
    let (_, header) = rows.next().expect("a header");
    assert_eq!(header, OPERATIONS);
    rows.skip(1).collect()
}

/// The header that a row speaks of.
fn condition(row: &str, current: &str, stale: &str) -> Option<(String, String)> {
    let (name, value) = row.split_once(": ")?;
    let value = match value {
        "a later time" => LATER.to_owned(),
        "an earlier time" => EARLIER.to_owned(),
        "junk" => "incorrectEtag".to_owned(),
        tags => tags.replace('E', current).replace('S', stale),
    };
    Some((name.to_ascii_lowercase(), value))
}

fn run(client: &mut Client, operation: &str, condition: Option<(&str, &str)>) -> u16 {
    let headers: Vec<(&str, &str)> = [KEY].into_iter().chain(condition).collect();
    let upsert: Vec<(&str, &str)> = headers.iter().copied().chain([("x-ms-documentdb-is-upsert", "true")]).collect();
    match operation {
        "read" => client.get(ITEM, &headers).status,
        "replace" => client.put(ITEM, &headers, &body()).status,
        "patch" => client.send("PATCH", ITEM, &headers, br#"[{"op":"incr","path":"/n","value":1}]"#).status,
        "delete" => client.delete(ITEM, &headers).status,
        _ => client.post(ITEMS, &upsert, &body()).status,
    }
}

#[test]
fn each_cell_of_the_readme() {
    let rows = table();
    assert_eq!(rows.len(), 17, "{rows:?}");
    for (mode, host) in [("by default", Host::start()), ("with --strict", strict())] {
        let mut client = host.with_container();
        for (row, cells) in &rows {
            for (operation, cell) in OPERATIONS.iter().zip(cells) {
                let (default, strict) = cell.split_once(" → ").unwrap_or((cell, cell));
                let expected: u16 = if mode == "by default" { default } else { strict }.parse().expect("a status");
                client.delete(ITEM, &[KEY]);
                let stale = client.create(&body()).expect_status(201).etag();
                let current = client.put(ITEM, &[KEY], &body()).expect_status(200).etag();
                if operation.ends_with("absent") {
                    client.delete(ITEM, &[KEY]).expect_status(204);
                }
                let header = condition(row, &current, &stale);
                let header = header.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
                let before = client.get(ITEM, &[KEY]).header("etag").map(str::to_owned);
                assert_eq!(run(&mut client, operation, header), expected, "{operation} with {header:?} {mode}");
                if expected >= 300 {
                    let after = client.get(ITEM, &[KEY]).header("etag").map(str::to_owned);
                    assert_eq!(before, after, "{operation} with {header:?} {mode}: refused, and nothing written");
                }
            }
        }
    }
}

/// RFC 9110, section 13.2.1: what fails without conditions fails the same with them.
#[test]
fn an_absent_item_is_404_and_a_taken_id_409_whatever_the_conditions() {
    let host = strict();
    let mut client = host.with_container();
    let etag = "\"01234567-89ab-cdef-0000-000000000029\"";
    for name in ["if-match", "if-none-match"] {
        for value in ["*", etag] {
            for operation in ["read", "replace", "patch", "delete"] {
                assert_eq!(run(&mut client, operation, Some((name, value))), 404, "{operation} with {name}: {value}");
            }
        }
    }
    // A create with If-None-Match: * is what a create is anyway; one with If-Match asks for what cannot be.
    client.post(ITEMS, &[KEY, ("if-match", "*")], &body()).expect_status(412);
    let created = client.post(ITEMS, &[KEY, ("if-none-match", "*")], &body()).expect_status(201).etag();
    for header in [("if-none-match", "*"), ("if-match", etag), ("if-match", &created)] {
        client.post(ITEMS, &[KEY, header], &body()).expect_status(409);
    }
}

#[test]
fn the_first_condition_in_order_decides() {
    let host = strict();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let stale = "\"01234567-89ab-cdef-0000-000000000029\"";
    for (headers, status) in [
        ([("if-match", etag.as_str()), ("if-unmodified-since", EARLIER)], 200),
        ([("if-match", stale), ("if-unmodified-since", LATER)], 412),
        ([("if-none-match", stale), ("if-modified-since", LATER)], 200),
        ([("if-none-match", &etag), ("if-modified-since", EARLIER)], 304),
        ([("if-match", &etag), ("if-none-match", &etag)], 304),
        ([("if-match", stale), ("if-none-match", &etag)], 412),
        ([("if-match", stale), ("if-match", &etag)], 200),
        ([("if-unmodified-since", "yesterday"), ("if-modified-since", "tomorrow")], 200),
    ] {
        client.get(ITEM, &[KEY, headers[0], headers[1]]).expect_status(status);
    }
    // A refusal helps here too.
    let show = ("prefer", "return=representation");
    let refused = client.delete(ITEM, &[KEY, ("if-none-match", "*"), show]).expect_status(412);
    assert_eq!((refused.etag(), &refused.json()["current"]["n"]), (etag, &json!(1)));
}

#[test]
fn operations_of_a_batch_are_judged_the_same() {
    let host = strict();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let stale = "\"01234567-89ab-cdef-0000-000000000029\"";
    let read = |name: &str, value: &str| json!({"operationType": "Read", "id": "a", name: value});
    let upsert = |id: &str, name: &str, value: &str| json!({"operationType": "Upsert", "resourceBody": {"id": id, "pk": "p"}, name: value});
    for (operation, status) in [
        (read("ifMatch", &etag), 200),
        (read("ifMatch", stale), 412),
        (read("ifNoneMatch", &etag), 304),
        (read("ifNoneMatch", &format!("{stale}, W/{etag}")), 304),
        (read("ifNoneMatch", "junk"), 400),
        (upsert("new", "ifMatch", "*"), 412),
        (upsert("a", "ifNoneMatch", "*"), 412),
    ] {
        let answer = client.post(ITEMS, &[KEY, BATCH], &json!([operation]));
        assert_eq!(answer.json()[0]["statusCode"], status, "{operation}: {}", answer.text());
    }
    let answer = client.post(ITEMS, &[KEY, BATCH], &json!([upsert("new", "ifNoneMatch", "*")])).expect_status(200);
    assert_eq!(answer.json()[0]["statusCode"], 201);
}

#[test]
fn a_replacement_under_another_id_is_judged_by_the_old_one() {
    let host = strict();
    let mut client = host.with_container();
    let etag = client.create(&body()).expect_status(201).etag();
    let renamed = json!({"id": "b", "pk": "p"});
    client.put(ITEM, &[KEY, ("if-none-match", &etag)], &renamed).expect_status(412);
    client.put(ITEM, &[KEY, ("if-match", &etag)], &renamed).expect_status(200);
    client.get(ITEM, &[KEY]).expect_status(404);
    client.get("/dbs/d/colls/c/docs/b", &[KEY]).expect_status(200);
}

#[test]
fn the_flag_turns_it_on() {
    for (flags, status) in [(&[][..], 201), (&["--strict"][..], 412)] {
        let served = Served::start_with(flags);
        let mut client = Client::of(served.address());
        client.make_container();
        assert_eq!(run(&mut client, "upsert, absent", Some(("if-match", "*"))), status, "{flags:?}");
        assert!(served.stop().success());
    }
}
