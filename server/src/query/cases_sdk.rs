//! Texts that the official SDKs send: those of the Python SDK's own tests with what these assert, and the forms that
//! LINQ providers and query plans generate.

use serde_json::{Value, json};

use super::cases::run;
use super::parse;

fn results(documents: &[Value], text: &str) -> Vec<Value> {
    run(documents, text, &Value::Null).unwrap_or_else(|error| panic!("{text}\n  {error}"))
}

/// The documents of the order-by tests.
fn numbered() -> Vec<Value> {
    let document = |i: u32| {
        let mixed = if i == 3 { json!("eggs3") } else { json!(i) };
        json!({
            "id": i.to_string(),
            "spam": format!("eggs{i}"),
            "cnt": i,
            "spam2": mixed,
            "boolVar": i.is_multiple_of(2),
            "number": 1.1 * f64::from(i)
        })
    };
    (0..20).map(document).collect()
}

#[test]
fn order_by() {
    let documents = numbered();
    let ids = |text: &str, parameters: &Value| -> Vec<String> {
        let results = run(&documents, text, parameters).unwrap_or_else(|error| panic!("{text}\n  {error}"));
        results.iter().map(|result| result["id"].as_str().expect("an id").to_owned()).collect()
    };
    let mut by_text: Vec<String> = (0..20).map(|i: u32| i.to_string()).collect();
    let by_number = by_text.clone();
    by_text.sort_by_key(|id| format!("eggs{id}"));
    let reversed: Vec<String> = by_text.iter().rev().cloned().collect();
    let none = Value::Null;
    for text in [
        "SELECT * FROM root r order by r.spam",
        "SELECT * FROM root r order by r.spam ASC",
        "SELECT top 30 * FROM root r order by r.spam",
    ] {
        assert_eq!(ids(text, &none), by_text, "{text}");
    }
    assert_eq!(ids("SELECT * FROM root r order by r.spam DESC", &none), reversed);
    assert_eq!(ids("SELECT top @n * FROM root r order by r.spam", &json!({"@n": 9})), by_text[..9]);
    assert_eq!(ids("SELECT * FROM root r order by r.cnt", &none), by_number);
    assert_eq!(ids("SELECT * FROM root r order by r.number", &none), by_number);
    assert_eq!(ids("SELECT * FROM root r order by r.spam2 DESC", &none)[0], "3");
    let above: Vec<String> = by_text.iter().filter(|id| id.parse::<u32>().expect("a number") > 5).cloned().collect();
    assert_eq!(ids("SELECT * FROM root r where r.cnt > @cnt order by r.spam", &json!({"@cnt": 5})), above);
    let booleans = results(&documents, "SELECT VALUE r.boolVar FROM root r order by r.boolVar");
    assert!(
        booleans[..10].iter().all(|value| *value == json!(false))
            && booleans[10..].iter().all(|value| *value == json!(true))
    );
    let multiple = results(
        &documents,
        "SELECT TOP 2 [root.boolVar,root.cnt] FROM root WHERE root.cnt % 2 = 0 ORDER BY root.boolVar DESC,root.cnt ASC",
    );
    assert_eq!(multiple, [json!({"$1": [true, 0]}), json!({"$1": [true, 2]})]);
}

#[test]
fn aggregates() {
    let mut documents: Vec<Value> = [json!(null), json!(false), json!(true), json!("abc"), json!("xyz")]
        .into_iter()
        .map(|pk| json!({"pk": pk}))
        .collect();
    documents.extend((1..=10).map(|n| json!({"pk": "unique", "field": n})));
    documents.extend((1..=20).map(|n| json!({"pk": n})));
    for (text, expected) in [
        ("SELECT VALUE AVG(r.pk) FROM r WHERE IS_NUMBER(r.pk)", json!([10.5])),
        ("SELECT VALUE AVG(r.pk) FROM r WHERE true", json!([])),
        ("SELECT VALUE COUNT(r.pk) FROM r WHERE true", json!([35])),
        ("SELECT VALUE MAX(r.pk) FROM r WHERE true ORDER BY r.pk", json!(["xyz"])),
        ("SELECT VALUE MIN(r.pk) FROM r WHERE true ORDER BY r.pk", json!([null])),
        ("SELECT VALUE SUM(r.pk) FROM r WHERE IS_NUMBER(r.pk) ORDER BY r.pk", json!([210])),
        ("SELECT VALUE SUM(r.pk) FROM r WHERE true", json!([])),
        ("SELECT VALUE AVG(r.field) FROM r WHERE r.pk = 'unique'", json!([5.5])),
        ("SELECT SUM(r.field) FROM r WHERE r.pk = 'unique'", json!([{"$1": 55}])),
        ("SELECT COUNT(1) + 5 FROM c", json!([{"$1": 40}])),
        ("Select top 10 value count(c.id) from c", json!([0])),
        ("SELECT VALUE COUNT(1) > 0 FROM c", json!([true])),
        ("SELECT VALUE -MIN(c.field) FROM c", json!([-1])),
        ("SELECT VALUE /* block */ AVG(c.field) -- line\nFROM c", json!([5.5])),
        ("SELECT VALUE COUNT(1) FROM c WHERE c.code = 'a--b'", json!([0])),
        ("Select value max(c.version) FROM c where c.isComplete = true", json!([])),
    ] {
        assert_eq!(json!(results(&documents, text)), expected, "{text}");
    }
}

#[test]
fn distinct_over_types_and_member_orders() {
    let documents = [
        json!({"f1": 1, "f2": "value", "f3": 100_000_000_000_000_000_u64, "f4": [1, 2, "3"], "f5": {"f6": {"f7": 2}}}),
        json!({"f2": "'value", "f4": [1.0, 2, "3"], "f5": {"f6": {"f7": 2.0}}, "f1": 1.0, "f3": 1e17}),
        json!({"f3": 1e17, "f5": {"f6": {"f7": 2}}, "f2": "'value", "f1": 1, "f4": [1, 2.0, "3"]}),
    ];
    for (text, count) in [
        ("Select distinct value c.f1 from c", 1),
        ("Select distinct value c.f2 from c", 2),
        ("Select distinct value c.f3 from c", 1),
        ("Select distinct value c.f4 from c", 1),
        ("Select distinct value c.f5.f6 from c", 1),
        ("Select distinct c.f1, c.f2, c.f3 from c", 2),
        ("Select distinct c.f1, c.f2, c.f3 from c order by c.f1", 2),
        ("SELECT distinct c.different_field from c", 1),
    ] {
        assert_eq!(results(&documents, text).len(), count, "{text}");
    }
    assert_eq!(
        results(&documents, "Select distinct value c.f2 from c order by c.f2"),
        [json!("'value"), json!("value")]
    );
    let windowed: Vec<Value> = (0..10).map(|i| json!({"pk": i, "value": i / 3})).collect();
    for (window, expected) in
        [("OFFSET 0 LIMIT 2", json!([0, 1])), ("OFFSET 2 LIMIT 2", json!([2, 3])), ("OFFSET 4 LIMIT 3", json!([]))]
    {
        let found = results(&windowed, &format!("SELECT DISTINCT c[\"value\"] from c ORDER BY c.pk {window}"));
        assert_eq!(Value::from_iter(found.iter().map(|result| result["value"].clone())), expected, "{window}");
    }
}

#[test]
fn filters() {
    let documents = [
        json!({"id": "1", "pk": "1", "name": "test \
        document", "tags": [{"name": "python", "level": 1}], "ts": 5, "db_group": "GroUp1", "val": 5}),
        json!({"id": "2", "pk": "3", "name": "other", "Location": {"type": "Point", "coordinates": [20.0, 20.0]}}),
    ];
    for (text, ids) in [
        ("select * from c where c.pk='1' or c.pk='2'", vec!["1"]),
        ("SELECT * FROM root r WHERE r.id=\"1\"", vec!["1"]),
        ("SELECT * FROM c WHERE ARRAY_CONTAINS(c.tags, {\"name\": \"python\"}, true)", vec!["1"]),
        ("SELECT * FROM c WHERE CONTAINS(c.name, \"test\")", vec!["1"]),
        ("SELECT * FROM c WHERE STARTSWITH(c.name, \"TEST\", true)", vec!["1"]),
        ("SELECT * FROM c WHERE ENDSWITH(c.name, \"document\", true)", vec!["1"]),
        ("SELECT * FROM c WHERE c.ts < GetCurrentTimestamp()", vec!["1"]),
        (
            "SELECT * FROM root WHERE (ST_DISTANCE(root.Location, {type: 'Point', coordinates: [20.1, 20]}) < 20000)",
            vec!["2"],
        ),
        ("SELECT * FROM c WHERE c[\"val\"] >= 5 AND c.id != ''", vec!["1"]),
        ("Select * from c Where c.cp_lower = \"group1\"", vec![]),
    ] {
        let found: Vec<Value> = results(&documents, text).iter().map(|result| result["id"].clone()).collect();
        assert_eq!(json!(found), json!(ids), "{text}");
    }
    for (text, expected) in [
        ("SELECT VALUE LOWER(c.db_group) FROM c", json!(["group1"])),
        ("SELECT VALUE POWER(c.val, 2) FROM c", json!([25])),
        ("SELECT VALUE LENGTH(c.name) FROM c", json!([13, 5])),
    ] {
        assert_eq!(json!(results(&documents, text)), expected, "{text}");
    }
}

#[test]
fn generated_forms() {
    let documents = [
        json!({"id": "1", "_rid": "r1", "_ts": 20, "kids": [{"grade": 96}], "$type": "Order", "name": "Ada"}),
        json!({"id": "2", "_rid": "r2", "_ts": 10, "kids": [], "$type": "Item", "name": "Alan"}),
    ];
    for (text, expected) in [
        (
            "SELECT c._rid, [{\"item\": c._ts}] AS orderByItems, c.id AS payload\nFROM c\nWHERE (true)\nORDER BY \
             c._ts ASC",
            json!([
                {"_rid": "r2", "orderByItems": [{"item": 10}], "payload": "2"},
                {"_rid": "r1", "orderByItems": [{"item": 20}], "payload": "1"}
            ]),
        ),
        (
            "SELECT VALUE {\"_rid\": root._rid, \"orderByItems\": [{\"item\": root.nothing}], \"payload\": root.id} \
             FROM root ORDER BY root.id",
            json!([
                {"_rid": "r1", "orderByItems": [{}], "payload": "1"},
                {"_rid": "r2", "orderByItems": [{}], "payload": "2"}
            ]),
        ),
        (
            "SELECT VALUE [{\"item\": {\"sum\": SUM(c._ts), \"count\": COUNT(c._ts)}}]\nFROM c",
            json!([[{"item": {"sum": 30, "count": 2}}]]),
        ),
        (
            "SELECT [{\"item\": c[\"$type\"]}] AS groupByItems, {\"k\": {\"item\": COUNT(1)}} AS payload FROM c GROUP \
             BY c[\"$type\"]",
            json!([
                {"groupByItems": [{"item": "Order"}], "payload": {"k": {"item": 1}}},
                {"groupByItems": [{"item": "Item"}], "payload": {"k": {"item": 1}}}
            ]),
        ),
        (
            "SELECT VALUE root[\"id\"] FROM root JOIN (SELECT VALUE EXISTS(SELECT VALUE k0 FROM root JOIN k0 IN \
             root[\"kids\"] WHERE (k0[\"grade\"] > 95))) AS v1 WHERE v1",
            json!(["1"]),
        ),
        (
            "SELECT VALUE root.id FROM root WHERE ((root[\"name\"] = \"Ada\") AND (root[\"_ts\"] > 10)) ORDER BY \
             root[\"id\"] DESC OFFSET 0 LIMIT 10",
            json!(["1"]),
        ),
        (
            "SELECT VALUE c[\"id\"]\nFROM root c\nWHERE (c[\"$type\"] IN (\"Order\") AND NOT((c[\"name\"] = null)))",
            json!(["1"]),
        ),
        ("SELECT VALUE c.id FROM root c WHERE c.name LIKE \"%\" || \"la\" || \"%\"", json!(["2"])),
        (
            "SELECT VALUE ARRAY_LENGTH(ARRAY(SELECT VALUE k FROM k IN c[\"kids\"] WHERE (k[\"grade\"] > 1))) FROM \
             root c",
            json!([1, 0]),
        ),
    ] {
        assert_eq!(json!(results(&documents, text)), expected, "{text}");
    }
}

#[test]
fn what_the_suites_expect_to_fail() {
    for text in [
        "SELECT VALUE MYCOUNT(1) FROM c",
        "SELECT VALUE COUNT(1) /* unterminated",
        "SELECT VALUE (COUNT(1) FROM C",
        "SELECT VALUE c.value FROM c",
        "SELECT VALUE",
        "SELEC * FROM c",
    ] {
        assert!(parse(text, Vec::new()).is_err(), "{text}");
    }
}
