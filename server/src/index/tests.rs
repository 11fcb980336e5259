//! Indexes against a container without any: random items, policies and queries, page by page.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use etagdb::{Durability, Options, ScanRange};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::auth::MasterKey;
use crate::batch;
use crate::catalog::Container;
use crate::headers::Headers;
use crate::metadata;
use crate::query::order_of_values;
use crate::query_route;
use crate::routes::ContainerPath;
use crate::run::Run;
use crate::service::Service;

struct Fixture {
    service: Service,
    _dir: tempfile::TempDir,
}

fn path(container: &str) -> ContainerPath {
    ContainerPath { database: "d".to_owned(), container: container.to_owned() }
}

fn definition(id: &str, policy: &Value) -> Vec<u8> {
    json!({"id": id, "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}, "indexingPolicy": policy})
        .to_string()
        .into_bytes()
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Options::default().durability(Durability::Buffered).open(dir.path().join("store")).expect("opens");
        let key = MasterKey::from_base64(MasterKey::EMULATOR).expect("a key");
        let service = Service::open(store, key, &crate::Config::default()).expect("a service");
        service.catalog.create_database("d".to_owned(), None).expect("a database");
        Fixture { service, _dir: dir }
    }

    fn make(&self, id: &str, policy: &Value) {
        let definition = metadata::container(&definition(id, policy)).expect("a definition");
        self.service.catalog.create_container("d", definition, None).expect("a container");
    }

    fn container(&self, id: &str) -> std::sync::Arc<Container> {
        self.service.catalog.container(&path(id)).expect("there")
    }

    /// Writes or deletes an item in a container.
    fn write(&self, id: &str, item: &Value, deletes: bool) {
        let container = self.container(id);
        let operation = json!([{
            "operationType": if deletes { "Delete" } else { "Upsert" },
            "id": item["id"],
            "resourceBody": item,
        }]);
        let mut headers = HeaderMap::new();
        let key = json!([item["pk"]]).to_string();
        headers.insert("x-ms-documentdb-partitionkey", HeaderValue::from_str(&key).expect("text"));
        headers.insert("x-ms-cosmos-is-batch-request", HeaderValue::from_static("true"));
        headers.insert("x-ms-cosmos-batch-atomic", HeaderValue::from_static("true"));
        let body = bytes::Bytes::from(operation.to_string());
        let prepared = batch::prepare(&self.service, &container, Headers(&headers), &body);
        let (operations, mode) = prepared.expect("a batch");
        let run = Run { store: self.service.store.clone(), container, operations, mode, guard: None };
        run.run_blocking().expect("a batch that is carried out");
    }

    /// All results of a query, in pages of so many.
    fn query(&self, id: &str, text: &str, page: usize) -> (Vec<Value>, String) {
        let container = self.container(id);
        let mut results = Vec::new();
        let mut continuation: Option<HeaderValue> = None;
        loop {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
            headers.insert("x-ms-cosmos-populateindexmetrics", HeaderValue::from_static("true"));
            headers.insert("x-ms-max-item-count", HeaderValue::from(page));
            if let Some(token) = continuation.take() {
                headers.insert("x-ms-continuation", token);
            }
            let body = json!({ "query": text }).to_string();
            let reply = query_route::items(&self.service, &container, Headers(&headers), body.as_bytes());
            let reply = reply.unwrap_or_else(|error| panic!("{text}: {}", error.message));
            let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
            results.extend(answer["Documents"].as_array().expect("a list").iter().cloned());
            let used = reply.headers["x-ms-cosmos-index-utilization"].to_str().expect("text");
            let used = base64::engine::general_purpose::STANDARD.decode(used).expect("base64");
            let access = String::from_utf8(used).expect("UTF-8");
            continuation = reply.headers.get("x-ms-continuation").cloned();
            if continuation.is_none() {
                return (results, access);
            }
        }
    }

    fn agrees(&self, id: &str) {
        let container = self.container(id);
        let (missing, extra) = container.indexes.disagreements(&self.service.store, &container.items).expect("reads");
        assert_eq!((missing, extra), (0, 0), "entries that are missing, and that are too many");
    }
}

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => any::<bool>().prop_map(|value| Some(value.into())),
        6 => (-2i64..4).prop_map(|value| Some(value.into())),
        1 => prop::sample::select(vec![json!(0.5), json!(1.0), json!(-0.0)]).prop_map(Some),
        4 => prop::sample::select(vec!["", "x", "xy", "é", "y\0"]).prop_map(|text| Some(text.into())),
    ]
}

/// Values that an entry does not say all of.
fn inexact() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        40 => value(),
        1 => prop::sample::select(vec![
            json!("x".repeat(600)), json!("x".repeat(599) + "y"), json!([1]), json!([2]), json!({"q": 1}),
            json!(9_007_199_254_740_992_u64), json!(9_007_199_254_740_993_u64),
        ]).prop_map(Some),
    ]
}

fn item(number: usize, a: Option<Value>, b: Option<Value>) -> Value {
    let mut item = json!({"id": format!("i{number}"), "pk": format!("p{}", number % 3)});
    for (name, value) in [("a", a), ("b", b)] {
        if let Some(value) = value {
            item[name] = value;
        }
    }
    item
}

fn constant() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["-1", "0", "1", "2", "0.5", "'x'", "''", "'xy'", "true", "false", "null"])
        .prop_map(str::to_owned)
}

fn filter() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let sign = prop::sample::select(vec!["=", "=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        5 => (name(), sign.clone(), constant()).prop_map(|(name, sign, value)| format!("c.{name} {sign} {value}")),
        1 => (sign, constant(), name()).prop_map(|(sign, value, name)| format!("{value} {sign} c.{name}")),
        1 => (name(), constant(), constant()).prop_map(|(name, low, high)| format!("c.{name} BETWEEN {low} AND {high}")),
        1 => name().prop_map(|name| format!("IS_DEFINED(c.{name})")),
    ];
    prop_oneof![
        1 => Just(String::new()),
        4 => prop::collection::vec(leaf, 1..3).prop_map(|all| format!(" WHERE {}", all.join(" AND "))),
    ]
}

/// The sort keys, and the clause.
fn order() -> impl Strategy<Value = (Vec<(&'static str, bool)>, String)> {
    let keys = prop::sample::select(vec![vec![], vec!["a"], vec!["b"], vec!["a", "b"], vec!["b", "a"]]);
    (keys, any::<bool>(), any::<bool>()).prop_map(|(names, first, second)| {
        let keys: Vec<_> = names.into_iter().zip([first, second]).collect();
        let shown: Vec<_> =
            keys.iter().map(|(name, down)| format!("c.{name} {}", if *down { "DESC" } else { "ASC" })).collect();
        let clause = if shown.is_empty() { String::new() } else { format!(" ORDER BY {}", shown.join(", ")) };
        (keys, clause)
    })
}

fn indexed() -> Value {
    json!({
        "includedPaths": [{"path": "/a/?"}, {"path": "/b/?"}],
        "excludedPaths": [{"path": "/*"}],
        "compositeIndexes": [
            [{"path": "/a", "order": "ascending"}, {"path": "/b", "order": "descending"}],
            [{"path": "/b", "order": "ascending"}, {"path": "/a", "order": "ascending"}],
        ],
    })
}

fn plain() -> Value {
    json!({"includedPaths": [{"path": "/*"}]})
}

/// Whether two results are the same but for the order of what compares as equal.
fn same(one: &[Value], other: &[Value], keys: &[(&str, bool)]) -> Result<(), String> {
    let counted = |list: &[Value]| {
        let mut counts = BTreeMap::new();
        for value in list {
            *counts.entry(value.to_string()).or_insert(0) += 1;
        }
        counts
    };
    if counted(one) != counted(other) {
        return Err("not the same results".to_owned());
    }
    for pair in one.windows(2) {
        let order = keys.iter().map(|(name, down)| {
            let order = order_of_values(pair[0].get(*name), pair[1].get(*name));
            if *down { order.reverse() } else { order }
        });
        if order.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).is_gt() {
            return Err(format!("{} comes before {}", pair[0], pair[1]));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_query_by_an_index_gives_what_it_gives_without(
        first in prop::collection::vec((inexact(), value()), 0..20),
        later in prop::collection::vec((0usize..24, value(), inexact(), any::<bool>()), 0..12),
        built_late in any::<bool>(),
        queries in prop::collection::vec((filter(), order(), 1usize..5), 1..8),
    ) {
        let fixture = Fixture::new();
        fixture.make("plain", &plain());
        let policy = if built_late { plain() } else { indexed() };
        fixture.make("indexed", &policy);
        for (number, (a, b)) in first.into_iter().enumerate() {
            for id in ["plain", "indexed"] {
                fixture.write(id, &item(number, a.clone(), b.clone()), false);
            }
        }
        if built_late {
            fixture.service.catalog.replace_container(&path("indexed"), &definition("indexed", &indexed())).expect("built");
        }
        for (number, a, b, deletes) in later {
            for id in ["plain", "indexed"] {
                fixture.write(id, &item(number, a.clone(), b.clone()), deletes);
            }
        }
        fixture.agrees("indexed");
        for (filter, (keys, order), page) in queries {
            let text = format!("SELECT c.id, c.a, c.b FROM c{filter}{order}");
            let (expected, _) = fixture.query("plain", &text, 100);
            let (found, access) = fixture.query("indexed", &text, page);
            if let Err(why) = same(&found, &expected, &keys) {
                return Err(TestCaseError::fail(format!("{text} by {access}: {why}\n{found:?}\n{expected:?}")));
            }
            let ids: BTreeSet<_> = found.iter().map(|row| row["id"].to_string()).collect();
            prop_assert_eq!(ids.len(), found.len());
            // The first few are the first few of all.
            for window in ["SELECT TOP 3 c.a, c.b FROM c", "SELECT c.a, c.b FROM c"] {
                let offset = if window.contains("TOP") { "" } else { " OFFSET 2 LIMIT 3" };
                let text = format!("{window}{filter}{order}{offset}");
                let (expected, _) = fixture.query("plain", &text, 100);
                let (found, _) = fixture.query("indexed", &text, page);
                prop_assert_eq!(found.len(), expected.len(), "{}", text);
                let key = |row: &Value| keys.iter().map(|(name, _)| row.get(*name).map(Value::to_string)).collect::<Vec<_>>();
                let same = |one: &Value, other: &Value| keys.iter().all(|(name, _)| order_of_values(one.get(*name), other.get(*name)).is_eq());
                prop_assert!(found.iter().zip(&expected).all(|(one, other)| same(one, other)), "{} {:?} {:?}", text, found.iter().map(key).collect::<Vec<_>>(), expected.iter().map(key).collect::<Vec<_>>());
            }
            for head in ["SELECT VALUE COUNT(1)", "SELECT VALUE COUNT(c.a)", "SELECT VALUE [MIN(c.b), MAX(c.a), SUM(c.b)]"] {
                let text = format!("{head} FROM c{filter}");
                let (expected, found) = (fixture.query("plain", &text, 9).0, fixture.query("indexed", &text, 9).0);
                let same = |(one, other): (&Value, &Value)| order_of_values(Some(one), Some(other)).is_eq();
                prop_assert_eq!(found.len(), expected.len(), "{}", text);
                prop_assert!(found.iter().zip(&expected).all(same), "{} {:?} {:?}", text, found, expected);
            }
            // Groups come in the order in which their first items do.
            for text in [format!("SELECT c.a, COUNT(1) AS n FROM c{filter} GROUP BY c.a"), format!("SELECT DISTINCT c.b, c.a FROM c{filter}")] {
                let sorted = |id: &str| {
                    let mut rows = fixture.query(id, &text, 3).0;
                    rows.sort_by(|one, other| order_of_values(Some(one), Some(other)));
                    rows
                };
                let (expected, found) = (sorted("plain"), sorted("indexed"));
                let same = |(one, other): (&Value, &Value)| order_of_values(Some(one), Some(other)).is_eq();
                prop_assert!(found.len() == expected.len() && found.iter().zip(&expected).all(same), "{} {:?} {:?}", text, found, expected);
            }
        }
    }
}

#[test]
fn the_index_that_helps_most_is_taken() {
    let fixture = Fixture::new();
    fixture.make("indexed", &indexed());
    for number in 0..20_i64 {
        let (a, b) = (Some(json!(number % 4)), Some(json!(number)));
        fixture.write("indexed", &item(usize::try_from(number).expect("small"), a, b), false);
    }
    for (text, part) in [
        ("SELECT * FROM c", "/_epk/?"),
        ("SELECT * FROM c WHERE c.z = 1", "/_epk/?"),
        ("SELECT * FROM c WHERE c.a = 1 OR c.b = 1", "/_epk/?"),
        ("SELECT * FROM c WHERE c.a = 1", "/a"),
        ("SELECT * FROM c WHERE c.b > 3", "/b"),
        ("SELECT * FROM c WHERE c.a = 1 AND c.b > 3", "[\"/a ASC\",\"/b DESC\"]"),
        ("SELECT * FROM c WHERE c.a = 1 ORDER BY c.b", "[\"/a ASC\",\"/b DESC\"]"),
        ("SELECT * FROM c ORDER BY c.a DESC, c.b ASC", "[\"/a ASC\",\"/b DESC\"]"),
        ("SELECT * FROM c ORDER BY c.b, c.a", "[\"/b ASC\",\"/a ASC\"]"),
        ("SELECT TOP 2 * FROM c ORDER BY c.b DESC", "/b"),
        ("SELECT c.a, COUNT(1) FROM c WHERE c.b < 4 GROUP BY c.a", "[\"/b ASC\",\"/a ASC\"]"),
        ("SELECT c.z, COUNT(1) FROM c WHERE c.b < 4 GROUP BY c.z", "/b"),
        ("SELECT c.a, COUNT(1) FROM c GROUP BY c.a", "/a"),
        ("SELECT VALUE c.a FROM c", "/_epk/?"),
        ("SELECT * FROM c WHERE c.pk = 'p1' AND c.a = 1", "/pk/?"),
    ] {
        let (_, access) = fixture.query("indexed", text, 7);
        assert!(access.contains(part), "{text}: {access}");
    }
}

#[test]
fn the_first_few_by_an_index_are_all_that_is_read() {
    let fixture = Fixture::new();
    fixture.make("indexed", &indexed());
    for number in 0..200_i64 {
        fixture.write("indexed", &item(usize::try_from(number).expect("small"), None, Some(json!(number))), false);
    }
    let container = fixture.container("indexed");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    headers.insert("x-ms-documentdb-populatequerymetrics", HeaderValue::from_static("true"));
    for (text, most) in [
        ("SELECT TOP 5 * FROM c ORDER BY c.b DESC", 6),
        ("SELECT * FROM c WHERE c.b >= 10 AND c.b < 15", 6),
        ("SELECT c.b, COUNT(1) AS n FROM c GROUP BY c.b", 0),
        ("SELECT VALUE COUNT(1) FROM c WHERE c.b < 100", 0),
    ] {
        let body = json!({ "query": text }).to_string();
        let reply = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect(text);
        let metrics = reply.headers["x-ms-documentdb-query-metrics"].to_str().expect("text");
        let read = metrics.split(';').find_map(|pair| pair.strip_prefix("retrievedDocumentCount=")).expect("a count");
        assert!(read.parse::<u64>().expect("a number") <= most, "{text}: {metrics}");
    }
}

#[test]
fn a_query_that_nobody_waits_for_ends() {
    let fixture = Fixture::new();
    fixture.make("c", &plain());
    for number in 0..300 {
        fixture.write("c", &item(number, None, None), false);
    }
    let container = fixture.container("c");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    let body = json!({"query": "SELECT VALUE COUNT(1) FROM c WHERE c.z = 1"}).to_string();
    let ask = || query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes());
    let (interest, work) = crate::abandoned::link();
    work.clone().run(ask).expect("it is waited for");
    drop(interest);
    assert_eq!(work.run(ask).expect_err("nobody waits").message, "The client went away.");
}

#[test]
fn indexes_come_and_go_with_the_policy() {
    let fixture = Fixture::new();
    fixture.make("c", &plain());
    for number in 0..30_i64 {
        let (a, b) = (Some(json!(number % 4)), Some(json!([number])));
        fixture.write("c", &item(usize::try_from(number).expect("small"), a, b), false);
    }
    let change = |policy: &Value| {
        fixture.service.catalog.replace_container(&path("c"), &definition("c", policy)).expect("changed");
        fixture.agrees("c");
    };
    let count = || {
        let entries = fixture.service.store.existing_collection(&format!("index/{}", fixture.container("c").rid));
        entries.map_or(0, |entries| entries.scan(&ScanRange::all()).expect("scan").count())
    };
    assert_eq!(count(), 0);
    change(&indexed());
    // Four indexes, of which three have a value that is not said whole; and the list.
    assert_eq!(count(), 30 * 7 + 1);
    // Pages that were begun by an index end where it does.
    let container = fixture.container("c");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    headers.insert("x-ms-max-item-count", HeaderValue::from_static("3"));
    let body = json!({"query": "SELECT * FROM c WHERE c.a = 1"}).to_string();
    let first = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect("a page");
    change(&json!({"includedPaths": [{"path": "/b/?"}], "excludedPaths": [{"path": "/*"}]}));
    assert_eq!(count(), 30 * 2 + 1);
    headers.insert("x-ms-continuation", first.headers["x-ms-continuation"].clone());
    let container = fixture.container("c");
    let error = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect_err("gone");
    assert!(error.message.contains("the index that its first pages were read by is gone"), "{}", error.message);
    change(&plain());
    assert_eq!(count(), 1);
    // The same index made again is another one, and whole.
    change(&indexed());
    assert_eq!(fixture.query("c", "SELECT * FROM c WHERE c.a = 1", 3).0.len(), 8);
}

#[test]
fn a_state_from_before_an_index_is_read_without_it() {
    let fixture = Fixture::new();
    fixture.make("c", &plain());
    for number in 0..10 {
        fixture.write("c", &item(number, Some(json!(1)), None), false);
    }
    let container = fixture.container("c");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    headers.insert("x-ms-max-item-count", HeaderValue::from_static("4"));
    let body = json!({"query": "SELECT c.id FROM c WHERE c.a = 1"}).to_string();
    let first = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect("a page");
    fixture.service.catalog.replace_container(&path("c"), &definition("c", &indexed())).expect("built");
    for number in 0..10 {
        fixture.write("c", &item(number, Some(json!(2)), None), false);
    }
    headers.insert("x-ms-continuation", first.headers["x-ms-continuation"].clone());
    headers.insert("x-ms-max-item-count", HeaderValue::from_static("100"));
    let container = fixture.container("c");
    let rest = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect("a page");
    let rest: Value = serde_json::from_slice(&rest.body).expect("JSON");
    assert_eq!(rest["_count"], 6);
}
