//! Whole queries against documents, as a table: what goes in, what must come out. The texts that the SDKs' own test
//! suites send are among them.

use serde_json::{Value, json};

use super::{Flow, QueryError, parse};

/// Runs a query over documents as the server does.
pub(super) fn run(documents: &[Value], text: &str, parameters: &Value) -> Result<Vec<Value>, QueryError> {
    let parameters =
        parameters.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    let query = parse(text, parameters)?;
    if query.streams() {
        let mut results = Vec::new();
        for document in documents {
            query.apply(document, &mut results)?;
        }
        return Ok(results);
    }
    let mut collector = query.collect();
    for document in documents {
        if collector.push(document)? == Flow::Done {
            break;
        }
    }
    collector.finish()
}

/// Checks that each query over `documents` yields exactly the results beside it.
fn check(documents: &Value, cases: &[(&str, Value)]) {
    let documents = documents.as_array().expect("documents are an array");
    for (text, expected) in cases {
        let results = run(documents, text, &Value::Null).unwrap_or_else(|error| panic!("{text}\n  {error}"));
        assert_eq!(Value::Array(results), *expected, "{text}");
    }
}

#[test]
fn selection_projection_and_names() {
    let documents = json!([
        {"id": "1", "name": {"first": "Ada", "last": "Lovelace"}, "age": 36, "tags": ["a", "b"]},
        {"id": "2", "name": {"first": "Alan"}, "age": 41, "tags": []},
        {"id": "3"}
    ]);
    check(
        &documents,
        &[
            ("SELECT * FROM c WHERE c.id = '2'", json!([documents[1]])),
            ("select * from root where root.age > 40", json!([documents[1]])),
            ("SELECT VALUE c FROM Families c WHERE c.id = \"3\"", json!([{"id": "3"}])),
            (
                "SELECT c.id, c.name.first, c.name['last'] FROM c WHERE c.age < 40",
                json!([{"id": "1", "first": "Ada", "last": "Lovelace"}]),
            ),
            ("SELECT c.name.last FROM c", json!([{"last": "Lovelace"}, {}, {}])),
            ("SELECT VALUE c.name.last FROM c", json!(["Lovelace"])),
            (
                "SELECT c.tags[0], c.age + 1, {\"k\": c.id} AS o, [c.age] FROM c WHERE c.id = '1'",
                json!([{"$1": "a", "$2": 37, "o": {"k": "1"}, "$3": [36]}]),
            ),
            ("SELECT [c.age, c.nothing] FROM c", json!([{"$1": [36]}, {"$1": [41]}, {"$1": []}])),
            ("SELECT c FROM c WHERE c.id = '3'", json!([{"c": {"id": "3"}}])),
            ("SELECT VALUE {type: 'x', \"n\": c.nothing} FROM c WHERE c.id = '3'", json!([{"type": "x"}])),
        ],
    );
    check(
        &documents,
        &[
            ("SELECT VALUE name FROM c.name", json!([{"first": "Ada", "last": "Lovelace"}, {"first": "Alan"}])),
            ("SELECT * FROM c.name n WHERE IS_DEFINED(n.last)", json!([{"first": "Ada", "last": "Lovelace"}])),
            ("SELECT VALUE t FROM t IN c.tags", json!(["a", "b"])),
            ("SELECT * FROM c.tags[1]", json!(["b"])),
            ("SELECT VALUE 1 + 1", json!([2])),
            ("SELECT 1, 'x' AS y", json!([{"$1": 1, "y": "x"}])),
        ],
    );
}

#[test]
fn order_distinct_and_windows() {
    let documents = json!([
        {"id": "a", "n": 3, "s": "x"},
        {"id": "b", "n": 1},
        {"id": "c"},
        {"id": "d", "n": "text"},
        {"id": "e", "n": null},
        {"id": "f", "n": 1.0, "s": "y"}
    ]);
    check(
        &documents,
        &[
            ("SELECT VALUE c.id FROM c ORDER BY c.n", json!(["c", "e", "b", "f", "a", "d"])),
            ("SELECT VALUE c.id FROM c ORDER BY c.n DESC", json!(["d", "a", "b", "f", "e", "c"])),
            ("SELECT VALUE c.id FROM c ORDER BY c.n ASC, c.id DESC", json!(["c", "e", "f", "b", "a", "d"])),
            ("SELECT TOP 2 c.id FROM c ORDER BY c.n", json!([{"id": "c"}, {"id": "e"}])),
            ("SELECT VALUE c.id FROM c ORDER BY c.n OFFSET 1 LIMIT 3", json!(["e", "b", "f"])),
            ("SELECT VALUE c.id FROM c OFFSET 4 LIMIT 100", json!(["e", "f"])),
            ("SELECT VALUE c.id FROM c OFFSET 6 LIMIT 1", json!([])),
            ("SELECT TOP 0 * FROM c", json!([])),
            ("SELECT DISTINCT VALUE c.n FROM c", json!([3, 1, "text", null])),
            ("SELECT DISTINCT c.n FROM c", json!([{"n": 3}, {"n": 1}, {}, {"n": "text"}, {"n": null}])),
            ("SELECT DISTINCT c.n FROM c ORDER BY c.id DESC OFFSET 1 LIMIT 2", json!([{"n": null}, {"n": "text"}])),
            ("SELECT DISTINCT TOP 2 VALUE c.n FROM c ORDER BY c.n DESC", json!(["text", 3])),
        ],
    );
}

#[test]
fn operators_and_precedence() {
    check(
        &json!([{"id": "1", "n": 4, "s": "abc", "t": true, "z": null, "a": [1, 2], "o": {"x": 1}}]),
        &[
            ("SELECT VALUE 1 + 2 * 3 - 4 / 2 % 3 FROM c", json!([5])),
            ("SELECT VALUE (1 + 2) * 3 FROM c", json!([9])),
            ("SELECT VALUE 2 - 3 - 4 FROM c", json!([-5])),
            ("SELECT VALUE -c.n + +1 FROM c", json!([-3])),
            ("SELECT VALUE 1 / 0 FROM c", json!([])),
            ("SELECT VALUE 'a' + 'b' FROM c", json!([])),
            ("SELECT VALUE c.s || 'd' || 'e' FROM c", json!(["abcde"])),
            ("SELECT VALUE 100 >> 2 FROM c", json!([25])),
            ("SELECT VALUE 100 << 2 FROM c", json!([400])),
            ("SELECT VALUE -1 >>> 28 FROM c", json!([15])),
            ("SELECT VALUE 100 & 1000 FROM c", json!([96])),
            ("SELECT VALUE 100 | 1000 FROM c", json!([1004])),
            ("SELECT VALUE 100 ^ 1000 FROM c", json!([908])),
            ("SELECT VALUE ~5 FROM c", json!([-6])),
            ("SELECT VALUE 2147483648 | 0 FROM c", json!([-2_147_483_648_i64])),
            ("SELECT VALUE 1 | 2 = 2 FROM c", json!([])),
            ("SELECT VALUE 1 < 2 = true FROM c", json!([true])),
            ("SELECT VALUE 1 + 1 << 2 < 9 FROM c", json!([true])),
            ("SELECT VALUE true OR false AND false FROM c", json!([true])),
            ("SELECT VALUE NOT true OR true FROM c", json!([true])),
            ("SELECT VALUE NOT (1 = 2) FROM c", json!([true])),
            ("SELECT VALUE NOT 1 = 2 FROM c", json!([])),
            ("SELECT VALUE c.n = 4 ? 'four' : c.n = 5 ? 'five' : 'more' FROM c", json!(["four"])),
            ("SELECT VALUE 1 ? 'yes' : 'no' FROM c", json!(["no"])),
            ("SELECT VALUE IIF(c.nothing, 1, 2) FROM c", json!([2])),
            ("SELECT VALUE c.nothing ?? c.z ?? 1 FROM c", json!([null])),
            ("SELECT VALUE c.nothing ?? 2 + 3 FROM c", json!([5])),
            ("SELECT VALUE c.n BETWEEN 4 AND 5 AND c.t FROM c", json!([true])),
            ("SELECT VALUE c.n NOT BETWEEN 4 AND 5 FROM c", json!([false])),
            ("SELECT VALUE c.n BETWEEN 'a' AND 5 FROM c", json!([])),
            ("SELECT VALUE c.n BETWEEN 9 AND 'a' FROM c", json!([false])),
            ("SELECT VALUE c.n + 1 IN (4, 5) FROM c", json!([true])),
            ("SELECT VALUE c.n NOT IN (4, 5) FROM c", json!([false])),
            ("SELECT VALUE c.nothing IN (4, undefined) FROM c", json!([])),
            ("SELECT VALUE c.a IN ([1, 2.0]) FROM c", json!([true])),
            ("SELECT VALUE c.s LIKE 'a%' FROM c", json!([true])),
            ("SELECT VALUE c.s NOT LIKE '_b_' FROM c", json!([false])),
            ("SELECT VALUE c.s LIKE CONCAT('%', 'c') FROM c", json!([true])),
            ("SELECT VALUE '20%' LIKE '%0!%' ESCAPE '!' FROM c", json!([true])),
            ("SELECT VALUE c.n LIKE '4' FROM c", json!([])),
            ("SELECT VALUE c.s != null FROM c", json!([true])),
            ("SELECT VALUE c.n <> '4' FROM c", json!([true])),
            ("SELECT VALUE c.n < '5' FROM c", json!([])),
            ("SELECT VALUE c.z <= null FROM c", json!([true])),
            ("SELECT VALUE c.o = {x: 1.0} FROM c", json!([true])),
            ("SELECT VALUE c.o > {x: 0} FROM c", json!([])),
            ("SELECT VALUE c.a[1] FROM c", json!([2])),
            ("SELECT VALUE c['a'][0 + 1] FROM c", json!([2])),
            ("SELECT VALUE c.a[5] FROM c", json!([])),
            ("SELECT VALUE c.a[-1] FROM c", json!([])),
            ("SELECT VALUE c.a['0'] FROM c", json!([])),
            ("SELECT VALUE c[CONCAT('', 's')] FROM c", json!(["abc"])),
            ("SELECT VALUE [10, 20][1] FROM c", json!([20])),
            ("SELECT VALUE {a: {b: [c.n, 2]}}.a.b[0] FROM c", json!([4])),
            ("SELECT VALUE undefined = undefined FROM c", json!([])),
            ("SELECT VALUE false AND undefined FROM c", json!([false])),
            ("SELECT VALUE undefined AND true FROM c", json!([])),
            ("SELECT VALUE undefined OR true FROM c", json!([true])),
            ("SELECT VALUE 5 OR true FROM c", json!([true])),
            ("SELECT VALUE 5 AND true FROM c", json!([])),
            ("SELECT VALUE 9223372036854775807 FROM c", json!([9_223_372_036_854_775_807_i64])),
            ("SELECT VALUE -9223372036854775808 FROM c", json!([-9_223_372_036_854_775_808_i64])),
        ],
    );
}

#[test]
fn joins_subqueries_and_sources() {
    let documents = json!([
        {"id": "1", "items": [{"n": "a", "q": 1, "t": ["x", "y"]}, {"n": "b", "q": 5, "t": []}]},
        {"id": "2", "items": [{"n": "c", "q": 7, "t": ["y"]}]},
        {"id": "3", "items": "none"},
        {"id": "4"}
    ]);
    check(
        &documents,
        &[
            (
                "SELECT c.id, i.n FROM c JOIN i IN c.items",
                json!([{"id": "1", "n": "a"}, {"id": "1", "n": "b"}, {"id": "2", "n": "c"}]),
            ),
            ("SELECT VALUE CONCAT(c.id, i.n, t) FROM c JOIN i IN c.items JOIN t IN i.t", json!(["1ax", "1ay", "2cy"])),
            ("SELECT VALUE i.q FROM c JOIN i IN c.items WHERE i.q > 1 AND c.id = '1'", json!([5])),
            ("SELECT VALUE x FROM c JOIN x IN (SELECT VALUE t FROM t IN c.items)", json!([])),
            ("SELECT VALUE x.n FROM c JOIN (SELECT VALUE t FROM t IN c.items WHERE t.q >= 5) AS x", json!(["b", "c"])),
            (
                "SELECT VALUE {id: c.id, u: m.u} FROM c JOIN m IN (SELECT VALUE [{k: '1', u: 'one'}, {k: '2', u: \
                 'two'}]) WHERE m.k = c.id",
                json!([{"id": "1", "u": "one"}, {"id": "2", "u": "two"}]),
            ),
            ("SELECT VALUE c.id FROM c JOIN (SELECT VALUE t FROM t IN c.items)", json!(["1", "1", "2"])),
            ("SELECT * FROM (SELECT c.id FROM c) AS s WHERE s.id > '2'", json!([{"id": "3"}, {"id": "4"}])),
            ("SELECT VALUE c.id FROM c WHERE EXISTS(SELECT VALUE i FROM i IN c.items WHERE i.q = 7)", json!(["2"])),
            (
                "SELECT c.id, EXISTS(SELECT VALUE undefined) AS e, EXISTS(SELECT undefined) AS f FROM c WHERE c.id = \
                 '4'",
                json!([{"id": "4", "e": false, "f": true}]),
            ),
            (
                "SELECT c.id, ARRAY(SELECT VALUE i.n FROM i IN c.items) AS ns FROM c WHERE c.id IN ('1', '4')",
                json!([{"id": "1", "ns": ["a", "b"]}, {"id": "4", "ns": []}]),
            ),
            (
                "SELECT c.id, (SELECT VALUE SUM(i.q) FROM i IN c.items) AS total FROM c",
                json!([
                    {"id": "1", "total": 6},
                    {"id": "2", "total": 7},
                    {"id": "3", "total": 0},
                    {"id": "4", "total": 0}
                ]),
            ),
            (
                "SELECT VALUE (SELECT COUNT(1) AS k, MAX(i.q) AS m FROM i IN c.items) FROM c WHERE c.id = '1'",
                json!([{"k": 2, "m": 5}]),
            ),
            (
                "SELECT c.id, (SELECT c.items WHERE c.id = '2').items[0].n FROM c",
                json!([{"id": "1"}, {"id": "2", "n": "c"}, {"id": "3"}, {"id": "4"}]),
            ),
            (
                "SELECT VALUE ARRAY(SELECT VALUE i.q FROM i IN c.items ORDER BY i.q DESC OFFSET 0 LIMIT 1) FROM c \
                 WHERE c.id = '1'",
                json!([[5]]),
            ),
            (
                "SELECT VALUE ARRAY(SELECT DISTINCT VALUE t FROM i IN c.items JOIN t IN i.t) FROM c WHERE c.id = '1'",
                json!([["x", "y"]]),
            ),
            (
                "SELECT VALUE s.k FROM c JOIN (SELECT COUNT(1) AS k FROM i IN c.items) AS s WHERE s.k >= 1",
                json!([2, 1]),
            ),
            ("SELECT VALUE i FROM i IN c.items[0].t", json!(["x", "y", "y"])),
            ("SELECT VALUE items FROM c['items']", json!([documents[0]["items"], documents[1]["items"], "none"])),
        ],
    );
}

#[test]
fn aggregates_and_groups() {
    let documents = json!([
        {"id": "1", "k": "x", "n": 1},
        {"id": "2", "k": "y", "n": 2},
        {"id": "3", "k": "x", "n": 3.5},
        {"id": "4", "n": 4},
        {"id": "5", "k": "y", "n": "five"}
    ]);
    check(
        &documents,
        &[
            ("SELECT VALUE COUNT(1) FROM c", json!([5])),
            ("SELECT COUNT(1) FROM c", json!([{"$1": 5}])),
            ("SELECT VALUE COUNT(c.k) FROM c", json!([4])),
            ("SELECT VALUE COUNTIF(c.k = 'x') FROM c", json!([2])),
            ("SELECT VALUE SUM(c.n) FROM c WHERE IS_NUMBER(c.n)", json!([10.5])),
            ("SELECT VALUE SUM(c.n) FROM c", json!([])),
            ("SELECT SUM(c.n) AS s, MIN(c.n) AS least FROM c", json!([{"least": 1}])),
            ("SELECT VALUE AVG(c.n) FROM c WHERE c.k = 'x'", json!([2.25])),
            ("SELECT VALUE MAX(c.n) FROM c", json!(["five"])),
            ("SELECT VALUE MAX(c.n) FROM c WHERE false", json!([])),
            ("SELECT VALUE COUNT(1) FROM c WHERE false", json!([0])),
            ("SELECT VALUE COUNT(1) + MAX(c.n) * 2 FROM c WHERE c.k = 'x'", json!([9])),
            ("SELECT VALUE {a: [COUNT(1), 'x'], b: COUNT(1) > 4} FROM c", json!([{"a": [5, "x"], "b": true}])),
            ("SELECT VALUE SUM(c.n) FROM c WHERE IS_NUMBER(c.n) ORDER BY c.n", json!([10.5])),
            ("SELECT VALUE [{\"item\": COUNT(1)}] FROM c", json!([[{"item": 5}]])),
            ("SELECT TOP 1 VALUE COUNT(1) FROM c", json!([5])),
            (
                "SELECT c.k, COUNT(1) AS k2 FROM c GROUP BY c.k",
                json!([{"k": "x", "k2": 2}, {"k": "y", "k2": 2}, {"k2": 1}]),
            ),
            ("SELECT VALUE c.k FROM c GROUP BY c.k", json!(["x", "y"])),
            (
                "SELECT UPPER(c.k) AS u, c.n > 2 AS big, COUNT(1) FROM c GROUP BY UPPER(c.k), c.n > 2 OFFSET 1 LIMIT 2",
                json!([{"u": "Y", "big": false, "$1": 1}, {"u": "X", "big": true, "$1": 1}]),
            ),
            ("SELECT DISTINCT COUNT(1) AS k FROM c GROUP BY c.k", json!([{"k": 2}, {"k": 1}])),
            ("SELECT VALUE LENGTH(c.k) FROM c GROUP BY c.k", json!([1, 1])),
            ("SELECT COUNT(1) AS k, 'x' AS l FROM c GROUP BY c.nothing", json!([{"k": 5, "l": "x"}])),
            ("SELECT VALUE ARRAY(SELECT VALUE c.k) FROM c GROUP BY c.k", json!([["x"], ["y"], []])),
        ],
    );
    check(
        &json!([]),
        &[("SELECT VALUE COUNT(1) FROM c", json!([0])), ("SELECT c.k, COUNT(1) FROM c GROUP BY c.k", json!([]))],
    );
}

#[test]
fn parameters() {
    let documents = [json!({"id": "1", "n": 5, "o": {"a": [1]}}), json!({"id": "2", "n": 7})];
    for (text, parameters, expected) in [
        ("SELECT * FROM root r WHERE r.id=@id", json!({"@id": "2"}), json!([documents[1]])),
        ("SELECT VALUE c.id FROM c WHERE c.o = @o", json!({"@o": {"a": [1]}}), json!(["1"])),
        ("SELECT TOP @n VALUE c.id FROM c", json!({"@n": 1, "@unused": []}), json!(["1"])),
        ("SELECT VALUE c.id FROM c OFFSET @o LIMIT @l", json!({"@o": 1, "@l": 5.0}), json!(["2"])),
        (
            "SELECT VALUE c[@p] FROM c WHERE ARRAY_CONTAINS(@ids, c.id)",
            json!({"@p": "n", "@ids": ["1", "9"]}),
            json!([5]),
        ),
        ("SELECT VALUE @x FROM c WHERE c.n > @x.least", json!({"@x": {"least": 6}}), json!([{"least": 6}])),
    ] {
        let results = run(&documents, text, &parameters).unwrap_or_else(|error| panic!("{text}\n  {error}"));
        assert_eq!(Value::Array(results), expected, "{text}");
    }
    let twice = vec![("@a".to_owned(), json!(1)), ("@a".to_owned(), json!(2))];
    assert_eq!(parse("SELECT @a", twice).expect_err("twice").message, "the parameter '@a' is given twice");
}
