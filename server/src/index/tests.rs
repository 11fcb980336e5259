//! Indexes against a container without any: random items, policies and queries, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use etagdb::{Durability, Options, ScanRange};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::stored::StoredList;
use super::verify_indexes;
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

pub(crate) struct Fixture {
    pub(crate) service: Service,
    dir: tempfile::TempDir,
}

pub(crate) fn path(container: &str) -> ContainerPath {
    ContainerPath { database: "d".to_owned(), container: container.to_owned() }
}

fn definition(id: &str, policy: &Value) -> Vec<u8> {
    json!({"id": id, "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}, "indexingPolicy": policy})
        .to_string()
        .into_bytes()
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let fixture = Fixture::open(tempfile::tempdir().expect("a directory"));
        fixture.service.catalog.create_database("d".to_owned(), None).expect("a database");
        fixture
    }

    fn open(dir: tempfile::TempDir) -> Fixture {
        let store = Options::default().durability(Durability::Buffered).open(dir.path().join("store")).expect("opens");
        let key = MasterKey::from_base64(MasterKey::EMULATOR).expect("a key");
        Fixture { service: Service::open(store, key, &crate::Config::default()).expect("a service"), dir }
    }

    fn reopened(self) -> Fixture {
        let Fixture { service, dir } = self;
        drop(service);
        Fixture::open(dir)
    }

    pub(crate) fn make(&self, id: &str, policy: &Value) {
        let definition = metadata::container(&definition(id, policy)).expect("a definition");
        self.service.catalog.create_container("d", definition, None).expect("a container");
    }

    pub(crate) fn container(&self, id: &str) -> std::sync::Arc<Container> {
        self.service.catalog.container(&path(id)).expect("there")
    }

    /// Writes or deletes an item in a container.
    pub(crate) fn write(&self, id: &str, item: &Value, deletes: bool) {
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
        self.query_in(None, id, text, page)
    }

    /// The same within a partition key.
    fn query_in(&self, key: Option<&str>, id: &str, text: &str, page: usize) -> (Vec<Value>, String) {
        let container = self.container(id);
        let mut results = Vec::new();
        let mut continuation: Option<HeaderValue> = None;
        loop {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
            headers.insert("x-ms-cosmos-populateindexmetrics", HeaderValue::from_static("true"));
            headers.insert("x-ms-max-item-count", HeaderValue::from(page));
            if let Some(key) = key {
                let key = json!([key]).to_string();
                headers.insert("x-ms-documentdb-partitionkey", HeaderValue::from_str(&key).expect("text"));
            }
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

    /// Waits until indexes are what policies ask for.
    fn built(&self) {
        self.service.catalog.builder.finish();
    }

    fn agrees(&self) {
        self.built();
        let report = verify_indexes(&self.service.store).expect("reads");
        assert!(report.is_sound(), "{:?}", report.problems);
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

pub(crate) fn item(number: usize, a: Option<Value>, b: Option<Value>) -> Value {
    let tags = [a.clone(), b.clone(), b.clone(), a.clone().map(|a| json!({ "n": a, "m": 1 }))];
    let tags: Vec<Value> = tags.into_iter().flatten().collect();
    let mut item = json!({"id": format!("i{number}"), "pk": format!("p{}", number % 3), "t": tags});
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
    let text = || prop::sample::select(vec!["'x'", "''", "'xy'", "'y\u{0}'"]);
    let pattern = prop::sample::select(vec!["'x%'", "'%'", "'xy'", "'x_'", "'[x]%'", "'é%'"]);
    let leaf = || {
        prop_oneof![
            5 => (name(), sign.clone(), constant()).prop_map(|(name, sign, value)| format!("c.{name} {sign} {value}")),
            1 => (sign.clone(), constant(), name()).prop_map(|(sign, value, name)| format!("{value} {sign} c.{name}")),
            1 => (name(), constant(), constant()).prop_map(|(name, low, high)| format!("c.{name} BETWEEN {low} AND {high}")),
            1 => name().prop_map(|name| format!("IS_DEFINED(c.{name})")),
            2 => (name(), prop::collection::vec(constant(), 1..4)).prop_map(|(name, list)| format!("c.{name} IN ({})", list.join(", "))),
            1 => (name(), name(), constant(), constant()).prop_map(|(one, other, v, w)| format!("(c.{one} = {v} OR c.{other} = {w})")),
            1 => (name(), text()).prop_map(|(name, text)| format!("STARTSWITH(c.{name}, {text})")),
            1 => (name(), pattern.clone()).prop_map(|(name, pattern)| format!("c.{name} LIKE {pattern}")),
            1 => constant().prop_map(|value| format!("ARRAY_CONTAINS(c.t, {value})")),
            1 => constant().prop_map(|value| format!("ARRAY_CONTAINS(c.t, {{n: {value}}}, true)")),
            1 => constant().prop_map(|value| format!("EXISTS(SELECT VALUE t FROM t IN c.t WHERE t.n = {value})")),
            1 => Just("c.pk = 'p1'".to_owned()),
        ]
    };
    prop_oneof![
        1 => Just(String::new()),
        4 => prop::collection::vec(leaf(), 1..3).prop_map(|all| format!(" WHERE {}", all.join(" AND "))),
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
        "includedPaths": [{"path": "/a/?"}, {"path": "/b/?"}, {"path": "/t/[]/?"}, {"path": "/t/[]/n/?"}],
        "excludedPaths": [{"path": "/*"}],
        "compositeIndexes": [
            [{"path": "/pk", "order": "ascending"}, {"path": "/b", "order": "ascending"}],
            [{"path": "/a", "order": "ascending"}, {"path": "/b", "order": "descending"}],
            [{"path": "/b", "order": "ascending"}, {"path": "/a", "order": "ascending"}],
        ],
    })
}

fn plain() -> Value {
    json!({"indexingMode": "none"})
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

/// What an index must not change about a query, with this filter and order, in pages of so many.
fn compare(
    fixture: &Fixture,
    key: Option<&str>,
    filter: &str,
    (keys, order): &(Vec<(&'static str, bool)>, String),
    page: usize,
) -> Result<(), String> {
    let ask = |id: &str, text: &str, page| fixture.query_in(key, id, text, page);
    let equal = |one: Option<&Value>, other: Option<&Value>| order_of_values(one, other).is_eq();
    let differ = |text: &str, access: &str, found: &[Value], expected: &[Value]| {
        Err(format!("{text} by {access}:\n{found:?} instead of\n{expected:?}"))
    };
    let text = format!("SELECT c.id, c.a, c.b FROM c{filter}{order}");
    let (expected, _) = ask("plain", &text, 100);
    let (found, access) = ask("indexed", &text, page);
    let ids: BTreeSet<_> = found.iter().map(|row| row["id"].to_string()).collect();
    if same(&found, &expected, keys).is_err() || ids.len() != found.len() {
        return differ(&text, &access, &found, &expected);
    }
    // The first few are the first few of all.
    for (head, tail) in [("SELECT TOP 3", ""), ("SELECT", " OFFSET 2 LIMIT 3")] {
        let text = format!("{head} c.a, c.b FROM c{filter}{order}{tail}");
        let ((expected, _), (found, access)) = (ask("plain", &text, 100), ask("indexed", &text, page));
        let same =
            |(one, other): (&Value, &Value)| keys.iter().all(|(name, _)| equal(one.get(*name), other.get(*name)));
        if found.len() != expected.len() || !found.iter().zip(&expected).all(same) {
            return differ(&text, &access, &found, &expected);
        }
    }
    // Groups and rows of one item come in the order in which items do.
    for (head, tail) in [
        ("SELECT VALUE COUNT(1) FROM c", ""),
        ("SELECT VALUE COUNT(c.a) FROM c", ""),
        ("SELECT VALUE [MIN(c.b), MAX(c.a), SUM(c.b)] FROM c", ""),
        ("SELECT c.a, COUNT(1) AS n FROM c", " GROUP BY c.a"),
        ("SELECT DISTINCT c.b, c.a FROM c", ""),
        ("SELECT c.id, t FROM c JOIN t IN c.t", " AND t = 1"),
        ("SELECT c.id, t FROM c JOIN t IN c.t", " AND t.n IN ('x')"),
    ] {
        let tail = if filter.is_empty() { tail.replacen(" AND", " WHERE", 1) } else { tail.to_owned() };
        let text = format!("{head}{filter}{tail}");
        let sorted = |id: &str| {
            let (mut rows, access) = ask(id, &text, 3);
            rows.sort_by(|one, other| order_of_values(Some(one), Some(other)));
            (rows, access)
        };
        let ((expected, _), (found, access)) = (sorted("plain"), sorted("indexed"));
        let same = |(one, other): (&Value, &Value)| equal(Some(one), Some(other));
        if found.len() != expected.len() || !found.iter().zip(&expected).all(same) {
            return differ(&text, &access, &found, &expected);
        }
    }
    Ok(())
}

fn in_both(fixture: &Fixture, item: &Value, deletes: bool) {
    for id in ["plain", "indexed"] {
        fixture.write(id, item, deletes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_query_by_an_index_gives_what_it_gives_without(
        first in prop::collection::vec((inexact(), value()), 0..20),
        later in prop::collection::vec((0usize..24, value(), inexact(), any::<bool>()), 0..12),
        (built_late, waits) in any::<(bool, bool)>(),
        queries in prop::collection::vec((filter(), order(), 1usize..5, any::<bool>()), 1..8),
    ) {
        let fixture = Fixture::new();
        fixture.make("plain", &plain());
        let policy = if built_late { plain() } else { indexed() };
        fixture.make("indexed", &policy);
        for (number, (a, b)) in first.into_iter().enumerate() {
            in_both(&fixture, &item(number, a, b), false);
        }
        if built_late {
            fixture.service.catalog.replace_container(&path("indexed"), &definition("indexed", &indexed())).expect("changed");
            // The first queries find the indexes whole, or not yet.
            if waits {
                fixture.built();
            }
        }
        for (number, a, b, deletes) in later {
            in_both(&fixture, &item(number, a, b), deletes);
        }
        if waits {
            fixture.agrees();
        }
        for (filter, order, page, in_key) in queries {
            let key = in_key.then_some("p1");
            prop_assert_eq!(compare(&fixture, key, &filter, &order, page), Ok(()));
        }
        fixture.agrees();
    }
}

#[test]
fn damage_to_an_index_is_noticed() {
    let fixture = Fixture::new();
    fixture.make("plain", &plain());
    fixture.make("indexed", &indexed());
    for number in 0..12 {
        in_both(&fixture, &item(number, Some(json!(number % 4)), Some(json!("x"))), false);
    }
    let unordered = (Vec::new(), String::new());
    let check = |filter: &str| compare(&fixture, None, filter, &unordered, 3);
    let report = || verify_indexes(&fixture.service.store).expect("reads");
    assert_eq!(check(" WHERE c.a = 1"), Ok(()));
    assert!(report().is_sound());
    let container = fixture.container("indexed");
    let entries = container.indexes.entries().expect("there");
    let first = |value: i64| {
        let mut prefix = vec![0, 0];
        super::entry::write(Some(&json!(value)), false, &mut prefix);
        let mut found = entries.scan(&ScanRange::prefix(prefix)).expect("scan");
        found.next().expect("an entry").expect("read").0
    };
    // An entry is lost: its item is not found.
    let lost = first(1);
    entries.delete(&lost, etagdb::Precondition::Any).expect("deleted");
    assert!(check(" WHERE c.a = 1").is_err());
    assert_eq!((report().missing, report().stray), (1, 0));
    entries.put(&lost, [], etagdb::Precondition::Any).expect("put");
    assert_eq!(check(" WHERE c.a = 1"), Ok(()));
    // An entry stays behind: it is counted, where entries stand for items.
    let number = u16::from_be_bytes([0, 0]).to_be_bytes();
    let mut stray = number.to_vec();
    super::entry::write(Some(&json!(1)), false, &mut stray);
    let of_another = first(2);
    stray.extend(&of_another[stray.len()..]);
    entries.put(&stray, [], etagdb::Precondition::Any).expect("put");
    assert!(check(" WHERE c.a = 1").is_err());
    let report = report();
    assert_eq!((report.missing, report.stray, report.problems.len()), (0, 1, 1));
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
        ("SELECT * FROM c WHERE c.pk = 'p1' AND c.a = 1", "/a"),
        ("SELECT * FROM c WHERE c.pk = 'p1' AND c.a > 1", "/pk/?"),
        ("SELECT * FROM c WHERE c.pk = 'p1' ORDER BY c.b", "[\"/pk ASC\",\"/b ASC\"]"),
        ("SELECT * FROM c WHERE c.pk = 'p1' AND c.b > 3", "[\"/pk ASC\",\"/b ASC\"]"),
        ("SELECT * FROM c WHERE c.pk = 'p1' AND c.id = 'i1' AND c.a = 1", "/pk/?"),
        ("SELECT * FROM c WHERE c.a IN (1, 2) ORDER BY c.a DESC", "/a"),
        ("SELECT * FROM c WHERE c.a = 1 OR c.a = 2", "/a"),
        ("SELECT * FROM c WHERE STARTSWITH(c.b, 'x')", "/b"),
        ("SELECT * FROM c WHERE c.b LIKE 'x%'", "/b"),
        ("SELECT * FROM c WHERE ARRAY_CONTAINS(c.t, 3)", "/t/[]"),
        ("SELECT * FROM c WHERE ARRAY_CONTAINS(c.t, {n: 3}, true)", "/t/[]/n"),
        ("SELECT t FROM c JOIN t IN c.t WHERE t.n = 3", "/t/[]/n"),
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
    for query in ["SELECT VALUE COUNT(1) FROM c WHERE c.z = 1", "SELECT * FROM c WHERE c.z = 1"] {
        ends_when_nobody_waits(query);
    }
}

fn ends_when_nobody_waits(query: &str) {
    let fixture = Fixture::new();
    fixture.make("c", &plain());
    for number in 0..300 {
        fixture.write("c", &item(number, None, None), false);
    }
    let container = fixture.container("c");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    let body = json!({ "query": query }).to_string();
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
        fixture.agrees();
    };
    let count = || {
        let entries = fixture.service.store.existing_collection(&format!("index/{}", fixture.container("c").rid));
        entries.map_or(0, |entries| entries.scan(&ScanRange::all()).expect("scan").count())
    };
    assert_eq!(count(), 0);
    change(&indexed());
    // Seven indexes, of which three have `b`, and one of elements `b` twice, a value that is not said whole; of the elements
    // of `t` `b` counts once, and one has an `n`; and the list.
    assert_eq!(count(), 30 * (1 + 2 + 4 + 1 + 2 + 2 + 2) + 1);
    // Pages that were begun by an index end where it does.
    let container = fixture.container("c");
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-documentdb-query-enablecrosspartition", HeaderValue::from_static("true"));
    headers.insert("x-ms-max-item-count", HeaderValue::from_static("3"));
    let body = json!({"query": "SELECT * FROM c WHERE c.a = 1"}).to_string();
    let first = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect("a page");
    change(&json!({"includedPaths": [{"path": "/b/?"}], "excludedPaths": [{"path": "/*"}]}));
    assert_eq!(count(), 30 * 2 + 1);
    let goes_on = fixture.query("c", "SELECT * FROM c WHERE c.a = 1", 3).0;
    headers.insert("x-ms-continuation", first.headers["x-ms-continuation"].clone());
    let container = fixture.container("c");
    let next = query_route::items(&fixture.service, &container, Headers(&headers), body.as_bytes()).expect("a page");
    let list = |reply: &crate::service::Reply| -> Vec<Value> {
        let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
        answer["Documents"].as_array().expect("a list").clone()
    };
    assert_eq!(list(&first).len() + list(&next).len(), 6);
    let all: BTreeSet<_> = goes_on.iter().map(|item| item["id"].to_string()).collect();
    assert!(list(&first).iter().chain(&list(&next)).all(|item| all.contains(&item["id"].to_string())));
    change(&plain());
    assert_eq!(count(), 1);
    // The same index made again is another one, and whole.
    change(&indexed());
    assert_eq!(fixture.query("c", "SELECT * FROM c WHERE c.a = 1", 3).0.len(), 8);
    assert!(fixture.query("c", "SELECT * FROM c WHERE c.a = 1", 3).1.contains("/a"));
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

/// Runs a query until the builder has something to do for it; says by which access it was answered first and then.
fn need(fixture: &Fixture, key: Option<&str>, text: &str) -> (String, String) {
    let (expected, before) = fixture.query_in(key, "c", text, 10_000);
    for _ in 0..170 {
        fixture.query_in(key, "c", text, 10_000);
    }
    fixture.built();
    let (found, after) = fixture.query_in(key, "c", text, 10_000);
    assert_eq!(found.len(), expected.len());
    (before, after)
}

#[test]
fn what_queries_need_is_built_where_the_policy_allows_it() {
    let fixture = Fixture::new();
    fixture.make("c", &json!({"includedPaths": [{"path": "/*"}], "excludedPaths": [{"path": "/b/?"}]}));
    for number in 0..400_i64 {
        let (a, b) = (Some(json!(number % 50)), Some(json!(number)));
        fixture.write("c", &item(usize::try_from(number).expect("small"), a, b), false);
    }
    let everything = "/_epk/?";
    for (key, text, index) in [
        (None, "SELECT * FROM c WHERE c.a = 7", "/a/?"),
        (None, "SELECT * FROM c WHERE c.b = 7", everything),
        (None, "SELECT TOP 3 * FROM c WHERE c.b > 1 ORDER BY c.a DESC", "/a/?"),
        (None, "SELECT TOP 3 * FROM c ORDER BY c.a DESC, c.id", "[\"/a ASC\",\"/id DESC\"]"),
        (Some("p1"), "SELECT TOP 3 * FROM c ORDER BY c.a", "[\"/pk ASC\",\"/a ASC\"]"),
        (None, "SELECT * FROM c WHERE ARRAY_CONTAINS(c.t, 8)", "/t/[]/?"),
        (None, "SELECT c.q, COUNT(1) AS n FROM c GROUP BY c.q", "/q/?"),
        (None, "SELECT * FROM c WHERE c._ts > 0 AND c._etag = 'x'", everything),
        (None, "SELECT * FROM c", everything),
    ] {
        let (before, after) = need(&fixture, key, text);
        let first = if key.is_some() { "/pk/?" } else { everything };
        // The third finds what the first had built.
        assert!(before.contains(first) || text.starts_with("SELECT TOP 3 * FROM c WHERE"), "{text}: {before}");
        assert!(after.contains(index), "{text}: {after}");
    }
    fixture.agrees();
    // A policy that allows none of it takes it away; only what is asked for counts as progress.
    let container = fixture.container("c");
    assert_eq!(container.indexes.progress(), 100);
    fixture.service.catalog.replace_container(&path("c"), &definition("c", &plain())).expect("changed");
    fixture.agrees();
    assert!(fixture.query("c", "SELECT * FROM c WHERE c.a = 7", 10).1.contains(everything));
}

#[test]
fn what_no_query_uses_goes_after_many_writes() {
    let fixture = Fixture::new();
    fixture.make("c", &json!({"includedPaths": [{"path": "/*"}]}));
    for number in 0..300_i64 {
        fixture.write("c", &item(usize::try_from(number).expect("small"), Some(json!(number)), None), false);
    }
    assert!(need(&fixture, None, "SELECT * FROM c WHERE c.a = 7").1.contains("/a/?"));
    let container = fixture.container("c");
    let look = || {
        container.indexes.look_after(&|| false).expect("looks");
        fixture.query("c", "SELECT * FROM c WHERE c.z = 7 OR c.a = 7", 10).1
    };
    let uses = || fixture.query("c", "SELECT * FROM c WHERE c.a = 7", 10).1.contains("/a/?");
    container.indexes.writes.fetch_add(900_000, Ordering::Relaxed);
    look();
    assert!(uses());
    container.indexes.writes.fetch_add(900_000, Ordering::Relaxed);
    look();
    assert!(uses(), "it was used meanwhile");
    container.indexes.writes.fetch_add(1_100_000, Ordering::Relaxed);
    look();
    assert!(!uses());
    fixture.agrees();
}

#[test]
fn a_build_goes_on_after_a_restart_and_queries_are_right_meanwhile() {
    let mut fixture = Fixture::new();
    fixture.make("c", &plain());
    for number in 0..600_i64 {
        fixture.write("c", &item(usize::try_from(number).expect("small"), Some(json!(number % 3)), None), false);
    }
    // Whoever stops the server stops the builder; here it stops before it begins, and then after 256 items.
    fixture.service.catalog.builder.stop();
    let policy = json!({"includedPaths": [{"path": "/a/?"}], "excludedPaths": [{"path": "/*"}]});
    fixture.service.catalog.replace_container(&path("c"), &definition("c", &policy)).expect("changed");
    let container = fixture.container("c");
    let text = "SELECT * FROM c WHERE c.a = 1";
    let count = |fixture: &Fixture| fixture.query("c", text, 1000).0.len();
    assert_eq!((container.indexes.progress(), count(&fixture)), (0, 200));
    let looks = std::cell::Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        looks.get() > 3
    };
    container.indexes.catch_up(&stop).expect("begins");
    let list = StoredList::load(&container.indexes.entries().expect("there")).expect("a list");
    assert_eq!(list.indexes[0].reached().expect("some of it").1, 512);
    assert!((1..100).contains(&container.indexes.progress()));
    fixture.write("c", &item(3, Some(json!(1)), None), false);
    fixture.write("c", &item(4, None, None), false);
    assert_eq!(count(&fixture), 200);
    drop(container);
    let fixture = fixture.reopened();
    fixture.agrees();
    let (found, access) = fixture.query("c", text, 1000);
    assert_eq!((found.len(), fixture.container("c").indexes.progress()), (200, 100));
    assert!(access.contains("/a"), "{access}");
}
