//! The explorer at `/_explorer`: its files and who may have what over raw HTTP, and all else in a real browser.

mod access;
mod browse;
mod browser;
mod edit;
mod files;
mod hostile;
mod pictures;
mod scripts;
mod watch;

use serde_json::{Value, json};

use crate::support::Client;

/// Writes an item to the container `c` of the database `d`, whatever is there, and gives its etag.
fn put(client: &mut Client, item: &Value) -> String {
    let key = json!([item["pk"]]).to_string();
    let headers = [("x-ms-documentdb-partitionkey", key.as_str()), ("x-ms-documentdb-is-upsert", "true")];
    let answer = client.post("/dbs/d/colls/c/docs", &headers, item);
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    answer.etag()
}

/// Reads an item of the partition key `"a"` as it is stored, byte for byte.
fn get(client: &mut Client, id: &str) -> crate::support::Answer {
    client.get(&format!("/dbs/d/colls/c/docs/{id}"), &[("x-ms-documentdb-partitionkey", "[\"a\"]")])
}

/// The address of an item of the partition key `"a"`.
fn address(view: &str, id: &str) -> String {
    format!("#/db/d/c/{view}/%5B%22a%22%5D/{id}")
}
