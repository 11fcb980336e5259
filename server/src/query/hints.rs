//! What a query says about where its documents are. Owns the conditions that every document in the result meets, as far
//! as they can be read off the plan; evaluation checks them again.

use serde_json::Value;

use super::Query;
use super::plan::{DOCUMENT, Expression, Origin, Plan, Source, Step};
use super::regroup::for_each_operand;
use super::tree::BinaryOperator;

/// What a query says about where its documents are, for reading them directly.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct KeyHints {
    /// Conditions `path = constant` that every document in the result meets, paths as property names from the document
    /// down.
    pub(crate) equalities: Vec<(Vec<String>, Value)>,
}

impl KeyHints {
    /// The constant that this path must equal.
    pub(crate) fn value_of(&self, path: &[&str]) -> Option<&Value> {
        self.equalities.iter().find(|(known, _)| known.iter().eq(path)).map(|(_, value)| value)
    }
}

/// How a condition bounds the value at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Equal to the constant.
    Equal,
    /// Of the constant's type, and not greater than it.
    AtMost,
    /// Of the constant's type, and not less than it.
    AtLeast,
}

/// A condition that every document in the result meets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// Property names from the document down.
    pub(crate) path: Vec<String>,
    pub(crate) bound: Bound,
    pub(crate) value: Value,
}

impl Query {
    /// The conditions `path = constant` that the query asks of every document.
    pub(crate) fn key_equality(&self) -> KeyHints {
        let equal = self.conditions().into_iter().filter(|condition| condition.bound == Bound::Equal);
        KeyHints { equalities: equal.map(|condition| (condition.path, condition.value)).collect() }
    }

    /// The conditions on single paths that the query asks of every document.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        // Only where the source is the document itself does a path from it begin at the document.
        let source = self.plan.sources.first().filter(|source| is_document(source));
        if let (Some(source), Some(filter)) = (source, &self.plan.filter) {
            let conjuncts = match filter {
                Expression::And(conjuncts) => conjuncts.as_slice(),
                single => std::slice::from_ref(single),
            };
            for conjunct in conjuncts {
                add_conditions(conjunct, source.slot, &mut conditions);
            }
        }
        conditions
    }

    /// The paths that the results are ordered by, each with whether it descends; `None` where a key is something else
    /// than a property of the document.
    pub(crate) fn order_paths(&self) -> Option<Vec<(Vec<String>, bool)>> {
        let source = self.plan.sources.first().filter(|source| is_document(source))?;
        let key = |key: &super::plan::SortKey| Some((path_of(&key.expression, source.slot)?, key.descending));
        self.plan.order.iter().map(key).collect()
    }
}

/// The paths of the document that a plan reads, where it reads nothing else of it.
///
/// Takes the plan as one that may be changed because that is how expressions are walked; nothing is.
pub(super) fn paths_read(plan: &mut Plan) -> Option<Vec<Vec<String>>> {
    let [source] = plan.sources.as_slice() else { return None };
    if !is_document(source) {
        return None;
    }
    let slot = source.slot;
    let mut paths = Vec::new();
    let mut read = |expression: &mut Expression| add_paths(expression, slot, &mut paths);
    let mut whole = plan.filter.as_mut().is_none_or(&mut read) && read(&mut plan.projection);
    if let Some(grouping) = &mut plan.grouping {
        whole &= grouping.keys.iter_mut().all(&mut read);
        whole &= grouping.aggregates.iter_mut().all(|aggregate| read(&mut aggregate.operand));
    }
    whole &= plan.order.iter_mut().all(|key| read(&mut key.expression));
    whole.then_some(paths)
}

/// Adds the paths that an expression reads; says whether they are all that it reads.
fn add_paths(expression: &mut Expression, slot: usize, paths: &mut Vec<Vec<String>>) -> bool {
    if let Some(path) = path_of(expression, slot) {
        if !paths.contains(&path) {
            paths.push(path);
        }
        return true;
    }
    if matches!(expression, Expression::Slot(_) | Expression::Subquery(_)) {
        return false;
    }
    let mut whole = true;
    // The visitor's errors are for those who refuse something.
    let _ = for_each_operand(expression, &mut |operand| {
        whole &= add_paths(operand, slot, paths);
        Ok(())
    });
    whole
}

/// Whether a source is the document itself.
pub(super) fn is_document(source: &Source) -> bool {
    !source.iterates && matches!(&source.origin, Origin::Value(Expression::Slot(slot_use)) if slot_use.slot == DOCUMENT)
}

/// Adds what one conjunct says of a path.
fn add_conditions(expression: &Expression, slot: usize, out: &mut Vec<Condition>) {
    match expression {
        Expression::Chain(left, rest) => {
            let [(operator, right)] = rest.as_slice() else { return };
            let (path, constant, turned) = match (constant_of(left), constant_of(right)) {
                (None, Some(constant)) => (path_of(left, slot), constant, false),
                (Some(constant), None) => (path_of(right, slot), constant, true),
                _ => return,
            };
            let bound = match (operator, turned) {
                (BinaryOperator::Equal, _) => Bound::Equal,
                (BinaryOperator::Less | BinaryOperator::LessOrEqual, false)
                | (BinaryOperator::Greater | BinaryOperator::GreaterOrEqual, true) => Bound::AtMost,
                (BinaryOperator::Greater | BinaryOperator::GreaterOrEqual, false)
                | (BinaryOperator::Less | BinaryOperator::LessOrEqual, true) => Bound::AtLeast,
                _ => return,
            };
            out.extend(path.map(|path| Condition { path, bound, value: constant.clone() }));
        }
        Expression::Between { negated: false, operands } => {
            let [subject, low, high] = operands.as_ref();
            if let (Some(path), Some(low), Some(high)) = (path_of(subject, slot), constant_of(low), constant_of(high)) {
                out.push(Condition { path: path.clone(), bound: Bound::AtLeast, value: low.clone() });
                out.push(Condition { path, bound: Bound::AtMost, value: high.clone() });
            }
        }
        _ => {}
    }
}

fn constant_of(expression: &Expression) -> Option<&Value> {
    match expression {
        Expression::Constant(constant) => Some(constant),
        Expression::Parameter(constant) => Some(constant.as_ref()),
        _ => None,
    }
}

/// The property names of a path that begins at the document.
fn path_of(expression: &Expression, slot: usize) -> Option<Vec<String>> {
    let Expression::Path(base, steps) = expression else { return None };
    if !matches!(base.as_ref(), Expression::Slot(slot_use) if slot_use.slot == slot) {
        return None;
    }
    steps.iter().map(|step| if let Step::Key(key) = step { Some(key.clone()) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parse;
    use super::*;

    #[test]
    fn equalities_that_every_result_meets() {
        let path = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
        for (text, expected) in [
            (
                "SELECT * FROM c WHERE c.id = 'a' AND 'x' = c.pk.inner",
                vec![(path("id"), json!("a")), (path("pk.inner"), json!("x"))],
            ),
            ("SELECT * FROM c WHERE c['id'] = @p", vec![(path("id"), json!("p"))]),
            ("SELECT t FROM c JOIN t IN c.t WHERE c.id = 'a' AND t.x = 1", vec![(path("id"), json!("a"))]),
            ("SELECT * FROM t IN c.t WHERE t.id = 'a'", vec![]),
            ("SELECT * FROM c.inner d WHERE d.id = 'a'", vec![]),
            ("SELECT * FROM c WHERE c.id = 'a' OR c.id = 'b'", vec![]),
            ("SELECT * FROM c WHERE NOT (c.id = 'a')", vec![]),
            ("SELECT * FROM c WHERE c.id != 'a' AND c.id > 'b' AND c.a[0] = 1 AND c.id = c.x", vec![]),
            ("SELECT * FROM c WHERE c = 'a'", vec![]),
            ("SELECT * FROM c WHERE EXISTS(SELECT 1 FROM t IN c.t WHERE t.id = 'a')", vec![]),
        ] {
            let query = parse(text, vec![("@p".to_owned(), json!("p"))]).expect(text);
            assert_eq!(query.key_equality().equalities, expected, "{text}");
        }
        let hints = KeyHints { equalities: vec![(path("a.b"), json!(1))] };
        assert_eq!((hints.value_of(&["a", "b"]), hints.value_of(&["a"])), (Some(&json!(1)), None));
    }

    #[test]
    fn the_paths_that_are_all_a_query_reads() {
        for (text, expected) in [
            ("SELECT c.a, COUNT(1) FROM c GROUP BY c.a", Some(vec!["a"])),
            ("SELECT VALUE UPPER(c.a.b) FROM c WHERE c.d IN (1, c.e) ORDER BY c.f", Some(vec!["d", "e", "a.b", "f"])),
            ("SELECT c.k, SUM(c.n ?? 0) FROM c GROUP BY c.k", Some(vec!["k", "n"])),
            ("SELECT VALUE COUNT(1) FROM c", Some(vec![])),
            ("SELECT * FROM c WHERE c.a = 1", None),
            ("SELECT VALUE c.a[0] FROM c", None),
            ("SELECT VALUE c[c.a] FROM c", None),
            ("SELECT VALUE t FROM c JOIN t IN c.t", None),
            ("SELECT VALUE t.a FROM t IN c.t", None),
            ("SELECT VALUE EXISTS(SELECT VALUE 1 FROM t IN c.t) FROM c", None),
        ] {
            let query = parse(text, Vec::new()).expect(text);
            let paths = query.paths().map(|paths| paths.iter().map(|path| path.join(".")).collect::<Vec<_>>());
            assert_eq!(paths, expected.map(|paths| paths.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }

    #[test]
    fn bounds_and_orders_are_read_off_the_plan() {
        let shown = |text: &str| -> Vec<String> {
            let query = parse(text, vec![("@p".to_owned(), json!(7))]).expect(text);
            let of = |condition: &Condition| {
                let sign = match condition.bound {
                    Bound::Equal => "=",
                    Bound::AtMost => "<=",
                    Bound::AtLeast => ">=",
                };
                format!("{} {sign} {}", condition.path.join("."), condition.value)
            };
            query.conditions().iter().map(of).collect()
        };
        assert_eq!(shown("SELECT * FROM c WHERE c.a > 1 AND 5 >= c.b.d AND c.e = @p"), ["a >= 1", "b.d <= 5", "e = 7"]);
        assert_eq!(shown("SELECT * FROM c WHERE c.a BETWEEN 1 AND @p"), ["a >= 1", "a <= 7"]);
        for text in [
            "SELECT * FROM c WHERE c.a != 1",
            "SELECT * FROM c WHERE c.a > c.b",
            "SELECT * FROM c WHERE c.a > 1 OR c.b = 2",
            "SELECT * FROM c WHERE c.a NOT BETWEEN 1 AND 2",
            "SELECT * FROM c WHERE c.a[0] = 1",
            "SELECT * FROM c WHERE 1 < c.a = true",
        ] {
            assert_eq!(shown(text), Vec::<String>::new(), "{text}");
        }
        let order = |text: &str| parse(text, Vec::new()).expect(text).order_paths();
        assert_eq!(
            order("SELECT * FROM c ORDER BY c.a.b, c.d DESC"),
            Some(vec![(vec!["a".into(), "b".into()], false), (vec!["d".into()], true)])
        );
        assert_eq!(order("SELECT * FROM c"), Some(Vec::new()));
        assert_eq!(order("SELECT * FROM c ORDER BY c.a + 1"), None);
        assert_eq!(order("SELECT t FROM t IN c.t ORDER BY t.a"), None);
        assert_eq!(order("SELECT * FROM c ORDER BY c.a[0]"), None);
    }
}
