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
