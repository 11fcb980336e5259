//! Computed properties: values that a container's owner defined as queries over an item, and that other queries may name
//! as if they were in the item.
//!
//! Owns what such a definition may say. A query that names one has its expression put in the name's place; nothing is
//! stored with the item, and `SELECT *` does not show it.

use super::error::{Position, QueryError, Result};
use super::parser;
use super::tree::{Expression, Origin, Projection, Select};

/// One computed property.
#[derive(Debug, Clone)]
pub(crate) struct ComputedProperty {
    pub(super) name: String,
    /// What the definition calls the item.
    pub(super) alias: String,
    pub(super) expression: Expression,
}

/// Reads a definition such as `SELECT VALUE LOWER(c.name) FROM c`.
///
/// # Errors
/// Anything but `SELECT VALUE expression FROM name`, and what makes any query invalid.
pub(crate) fn computed_property(name: &str, text: &str) -> Result<ComputedProperty> {
    let select = parser::parse_query(text)?;
    let wrong =
        || QueryError::new(Position::START, "a computed property is 'SELECT VALUE expression FROM name', no more");
    let Select {
        projection: Projection::Value(expression),
        from: Some(from),
        distinct: false,
        top: None,
        filter: None,
        offset: None,
        limit: None,
        group_by,
        order_by,
        ..
    } = select
    else {
        return Err(wrong());
    };
    let whole = matches!(&from.first.origin, Origin::Path { steps, .. } if steps.is_empty()) && !from.first.iterates;
    let alias =
        from.first.alias.filter(|_| whole && from.joins.is_empty() && group_by.is_empty() && order_by.is_empty());
    let property = ComputedProperty { name: name.to_owned(), alias: alias.ok_or_else(wrong)?, expression };
    // Names, functions and aggregates are checked by binding it, as every query that uses it will.
    super::bind::check_computed(&property)?;
    Ok(property)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse_with;
    use super::*;

    fn run(text: &str) -> Vec<Value> {
        let definitions = [
            ("lower", "SELECT VALUE LOWER(c.name) FROM c"),
            ("square", "SELECT VALUE POWER(x.n, 2) FROM x"),
            ("box", "SELECT VALUE {n: c.n, tags: c.tags} FROM c"),
        ];
        let computed: Vec<_> =
            definitions.iter().map(|(name, text)| computed_property(name, text).expect(text)).collect();
        let query = parse_with(text, Vec::new(), &computed).expect(text);
        let mut out = Vec::new();
        for document in [json!({"name": "Ab", "n": 3, "tags": ["p"]}), json!({"name": "cD", "n": 2})] {
            if query.streams() {
                query.apply(&document, &mut out).expect(text);
            }
        }
        if !query.streams() {
            let mut collector = query.collect();
            for document in [json!({"name": "Ab", "n": 3, "tags": ["p"]}), json!({"name": "cD", "n": 2})] {
                collector.push(&document).expect(text);
            }
            out = collector.finish().expect(text);
        }
        out
    }

    #[test]
    fn a_computed_property_is_read_like_a_stored_one() {
        for (text, expected) in [
            ("SELECT VALUE c.n FROM c WHERE c.lower = 'ab'", json!([3])),
            ("SELECT VALUE r['square'] FROM root r", json!([9, 4])),
            ("SELECT VALUE c.box.tags[0] FROM c", json!(["p"])),
            ("SELECT VALUE c.n FROM c ORDER BY c.square", json!([2, 3])),
            (
                "SELECT c.lower, COUNT(1) AS n FROM c GROUP BY c.lower",
                json!([{"lower": "ab", "n": 1}, {"lower": "cd", "n": 1}]),
            ),
            ("SELECT VALUE EXISTS(SELECT VALUE 1 FROM t IN c.tags WHERE c.lower = 'ab') FROM c", json!([true, false])),
            // It is in no item, and a nested object has none.
            ("SELECT * FROM c WHERE c.n = 2", json!([{"name": "cD", "n": 2}])),
            ("SELECT VALUE c.box.lower FROM c", json!([])),
            ("SELECT VALUE t.lower FROM t IN c.tags", json!([])),
        ] {
            assert_eq!(json!(run(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_definition_is_one_value_of_one_item() {
        for text in [
            "SELECT * FROM c",
            "SELECT c.a FROM c",
            "SELECT VALUE c.a FROM c WHERE c.b",
            "SELECT VALUE c.a FROM c ORDER BY c.b",
            "SELECT TOP 1 VALUE c.a FROM c",
            "SELECT DISTINCT VALUE c.a FROM c",
            "SELECT VALUE c.a FROM c GROUP BY c.a",
            "SELECT VALUE COUNT(c.a) FROM c",
            "SELECT VALUE t FROM t IN c.tags",
            "SELECT VALUE c.a FROM c JOIN t IN c.tags",
            "SELECT VALUE NOSUCH(c.a) FROM c",
            "SELECT VALUE @p FROM c",
            "SELECT VALUE d.a FROM c",
            "SELECT VALUE 1",
            "nonsense",
        ] {
            assert!(computed_property("p", text).is_err(), "{text}");
        }
    }
}
