//! What a query says about where its documents are. Owns the conditions that every document in the result meets, as far
//! as they can be read off the plan; evaluation checks them again.

use serde_json::Value;

use super::Query;
use super::plan::{Call, DOCUMENT, Expression, LikePattern, Origin, Plan, Source, Step};
use super::regroup::for_each_operand;
use super::tree::{BinaryOperator, SubqueryKind};

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
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Equal to one of these constants.
    OneOf(Vec<Value>),
    /// Of the constant's type, and not greater than it.
    AtMost(Value),
    /// Of the constant's type, and not less than it.
    AtLeast(Value),
    /// A string that begins so.
    StartsWith(String),
}

/// A condition that every document in the result meets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) place: ValuePlace,
    pub(crate) bound: Bound,
}

/// Where in a document a value is: at a path, or in some element of the array at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValuePlace {
    /// Property names from the document down.
    pub(crate) path: Vec<String>,
    /// Property names from an element of that array down. Such a condition says that some element meets it.
    pub(crate) element: Option<Vec<String>>,
}

impl Condition {
    /// The one constant that the value equals.
    pub(crate) fn equal(&self) -> Option<&Value> {
        match &self.bound {
            Bound::OneOf(values) => {
                if let [value] = values.as_slice() {
                    Some(value)
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

impl Query {
    /// The conditions `path = constant` that the query asks of every document.
    pub(crate) fn key_equality(&self) -> KeyHints {
        let equal = self.conditions().into_iter().filter_map(|condition| {
            let value = condition.equal()?.clone();
            condition.place.element.is_none().then_some((condition.place.path, value))
        });
        KeyHints { equalities: equal.collect() }
    }

    /// The conditions on single paths that the query asks of every document.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let mut slots = Slots(vec![(DOCUMENT, ValuePlace { path: Vec::new(), element: None })]);
        slots.conditions(&self.plan)
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

/// Where in the document the values of sources are, as far as that is a fixed place.
struct Slots(Vec<(usize, ValuePlace)>);

impl Slots {
    /// What a plan over these sources asks of every row, and so of every document that has one.
    fn conditions(&mut self, plan: &Plan) -> Vec<Condition> {
        for source in &plan.sources {
            let Origin::Value(origin) = &source.origin else { continue };
            let Some(place) = self.place_of(origin) else { continue };
            let place = match (source.iterates, place.element) {
                (true, None) => ValuePlace { path: place.path, element: Some(Vec::new()) },
                // Arrays in arrays have no place here.
                (true, Some(_)) => continue,
                (false, element) => ValuePlace { path: place.path, element },
            };
            self.0.push((source.slot, place));
        }
        let mut conditions = Vec::new();
        if let Some(filter) = &plan.filter {
            self.add(filter, &mut conditions);
        }
        // An element meets one condition, and another element the next: only equality narrows where elements lie.
        conditions.retain(|condition| condition.place.element.is_none() || condition.equal().is_some());
        conditions
    }

    /// Adds what an expression that must be true says of places.
    fn add(&mut self, expression: &Expression, out: &mut Vec<Condition>) {
        let mut add = |place, bound| out.push(Condition { place, bound });
        match expression {
            Expression::And(conjuncts) => conjuncts.iter().for_each(|conjunct| self.add(conjunct, out)),
            Expression::Or(alternatives) => out.extend(self.one_of(alternatives)),
            Expression::Chain(left, rest) => {
                let [(operator, right)] = rest.as_slice() else { return };
                let (subject, constant, turned) = match (constant_of(left), constant_of(right)) {
                    (None, Some(constant)) => (left.as_ref(), constant.clone(), false),
                    (Some(constant), None) => (right, constant.clone(), true),
                    _ => return,
                };
                let bound = match (operator, turned) {
                    (BinaryOperator::Equal, _) => Bound::OneOf(vec![constant]),
                    (BinaryOperator::Less | BinaryOperator::LessOrEqual, false)
                    | (BinaryOperator::Greater | BinaryOperator::GreaterOrEqual, true) => Bound::AtMost(constant),
                    (BinaryOperator::Greater | BinaryOperator::GreaterOrEqual, false)
                    | (BinaryOperator::Less | BinaryOperator::LessOrEqual, true) => Bound::AtLeast(constant),
                    _ => return,
                };
                if let Some(place) = self.value_of(subject) {
                    add(place, bound);
                }
            }
            Expression::Between { negated: false, operands } => {
                let [subject, low, high] = operands.as_ref();
                let bounds = (self.value_of(subject), constant_of(low), constant_of(high));
                if let (Some(place), Some(low), Some(high)) = bounds {
                    add(place.clone(), Bound::AtLeast(low.clone()));
                    add(place, Bound::AtMost(high.clone()));
                }
            }
            Expression::In { negated: false, needle, list } => {
                let values = list.iter().map(|value| constant_of(value).cloned()).collect::<Option<Vec<_>>>();
                if let (Some(place), Some(values)) = (self.value_of(needle), values) {
                    add(place, Bound::OneOf(values));
                }
            }
            Expression::Like { negated: false, subject, pattern } => {
                let LikePattern::Fixed(pattern) = pattern.as_ref() else { return };
                if let Some(place) = self.value_of(subject) {
                    match pattern.beginning() {
                        (text, true) => add(place, Bound::OneOf(vec![text.into()])),
                        (text, false) => add(place, Bound::StartsWith(text)),
                    }
                }
            }
            Expression::Call(call) => self.add_call(call, out),
            Expression::Subquery(subquery) => {
                // A group is there even if no row is.
                let rows = subquery.kind == SubqueryKind::Exists && subquery.plan.grouping.is_none();
                if rows {
                    out.extend(self.conditions(&subquery.plan));
                }
            }
            _ => {}
        }
    }

    fn add_call(&self, call: &Call, out: &mut Vec<Condition>) {
        let (Some(place), Some(constant)) = (
            call.arguments.first().and_then(|subject| self.value_of(subject)),
            call.arguments.get(1).and_then(constant_of),
        ) else {
            return;
        };
        let flag = call.arguments.get(2).map(|flag| constant_of(flag).and_then(Value::as_bool));
        match (call.function.name, constant, flag) {
            ("STARTSWITH", Value::String(text), None | Some(Some(false))) => {
                out.push(Condition { place, bound: Bound::StartsWith(text.clone()) });
            }
            ("STRINGEQUALS", Value::String(_), None | Some(Some(false))) => {
                out.push(Condition { place, bound: Bound::OneOf(vec![constant.clone()]) });
            }
            ("ARRAY_CONTAINS", _, _) if place.element.is_none() => {
                let element = |path: Vec<String>, value: &Value| Condition {
                    place: ValuePlace { path: place.path.clone(), element: Some(path) },
                    bound: Bound::OneOf(vec![value.clone()]),
                };
                match (constant, flag) {
                    (_, None | Some(Some(false))) => out.push(element(Vec::new(), constant)),
                    // Some element has all of these members.
                    (Value::Object(members), Some(Some(true))) => {
                        let simple = members.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
                        out.extend(simple.map(|(name, value)| element(vec![name.clone()], value)));
                    }
                    (_, Some(Some(true))) => out.push(element(Vec::new(), constant)),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Alternatives that are all equalities of one place.
    fn one_of(&mut self, alternatives: &[Expression]) -> Option<Condition> {
        let mut found: Option<(ValuePlace, Vec<Value>)> = None;
        for alternative in alternatives {
            let mut conditions = Vec::new();
            self.add(alternative, &mut conditions);
            // Of an alternative that says more, one condition is enough.
            let is_known = |condition: &Condition| {
                matches!(condition.bound, Bound::OneOf(_))
                    && found.as_ref().is_none_or(|(place, _)| *place == condition.place)
            };
            let condition = conditions.into_iter().find(is_known)?;
            let Bound::OneOf(more) = condition.bound else { return None };
            found.get_or_insert_with(|| (condition.place, Vec::new())).1.extend(more);
        }
        found.map(|(place, values)| Condition { place, bound: Bound::OneOf(values) })
    }

    /// The place of a value that is not a whole document.
    fn value_of(&self, expression: &Expression) -> Option<ValuePlace> {
        self.place_of(expression).filter(|place| place.element.is_some() || !place.path.is_empty())
    }

    fn place_of(&self, expression: &Expression) -> Option<ValuePlace> {
        let (base, steps) = match expression {
            Expression::Slot(slot_use) => (slot_use.slot, &[][..]),
            Expression::Path(base, steps) => match base.as_ref() {
                Expression::Slot(slot_use) => (slot_use.slot, steps.as_slice()),
                _ => return None,
            },
            _ => return None,
        };
        let mut place = self.0.iter().find(|(slot, _)| *slot == base)?.1.clone();
        for step in steps {
            let Step::Key(key) = step else { return None };
            place.element.as_mut().unwrap_or(&mut place.path).push(key.clone());
        }
        Some(place)
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
            ("SELECT * FROM c.inner d WHERE d.id = 'a'", vec![(path("inner.id"), json!("a"))]),
            ("SELECT * FROM c WHERE c.id = 'a' OR c.id = 'b'", vec![]),
            ("SELECT * FROM c WHERE c.id IN ('a')", vec![(path("id"), json!("a"))]),
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
                let ValuePlace { path, element } = &condition.place;
                let inner = element
                    .iter()
                    .map(|path| format!("[]{}{}", if path.is_empty() { "" } else { "." }, path.join(".")));
                let place = format!("{}{}", path.join("."), inner.collect::<String>());
                match &condition.bound {
                    Bound::OneOf(values) => format!("{place} = {}", json!(values)),
                    Bound::AtMost(value) => format!("{place} <= {value}"),
                    Bound::AtLeast(value) => format!("{place} >= {value}"),
                    Bound::StartsWith(text) => format!("{place} like {text}%"),
                }
            };
            query.conditions().iter().map(of).collect()
        };
        for (filter, expected) in [
            ("c.a > 1 AND 5 >= c.b.d AND c.e = @p", vec!["a >= 1", "b.d <= 5", "e = [7]"]),
            ("c.a BETWEEN 1 AND @p", vec!["a >= 1", "a <= 7"]),
            ("c.a IN (1, 'x', @p)", vec!["a = [1,\"x\",7]"]),
            ("c.a = 1 OR c.a = 2 OR c.a IN (3)", vec!["a = [1,2,3]"]),
            ("(c.a = 1 AND c.b = 1) OR (c.b = 2 AND c.a = 2)", vec!["a = [1,2]"]),
            ("c.a LIKE 'x[%]y%z' AND c.b LIKE 'q' AND c.d LIKE '%'", vec!["a like x%", "b = [\"q\"]", "d like %"]),
            ("STARTSWITH(c.a, 'x') AND STARTSWITH(c.b, 'x', false)", vec!["a like x%", "b like x%"]),
            ("ARRAY_CONTAINS(c.t, 'x') AND ARRAY_CONTAINS(c.u.v, @p)", vec!["t[] = [\"x\"]", "u.v[] = [7]"]),
            ("ARRAY_CONTAINS(c.t, {n: 'x', m: {k: 1}}, true)", vec!["t[].n = [\"x\"]"]),
            (
                "EXISTS(SELECT VALUE t FROM t IN c.t WHERE t.n.m = 1 AND t.o > 2 AND c.k = 3)",
                vec!["t[].n.m = [1]", "k = [3]"],
            ),
        ] {
            assert_eq!(shown(&format!("SELECT * FROM c WHERE {filter}")), expected, "{filter}");
        }
        assert_eq!(shown("SELECT VALUE t FROM c JOIN t IN c.t WHERE t = 'x' AND c.a > 1"), ["t[] = [\"x\"]", "a >= 1"]);
        assert_eq!(shown("SELECT VALUE t FROM t IN c.t WHERE t.n = 'x'"), ["t[].n = [\"x\"]"]);
        assert_eq!(shown("SELECT VALUE u FROM c JOIN t IN c.t JOIN u IN t.u WHERE u = 1"), Vec::<String>::new());
        for filter in [
            "c.a != 1",
            "c.a > c.b",
            "c.a > 1 OR c.b = 2",
            "c.a = 1 OR c.b = 2",
            "c.a NOT BETWEEN 1 AND 2",
            "c.a NOT IN (1, 2)",
            "c.a IN (1, c.b)",
            "c.a NOT LIKE 'x%'",
            "c.a[0] = 1",
            "1 < c.a = true",
            "STARTSWITH(c.a, 'x', true)",
            "STARTSWITH('x', c.a)",
            "NOT ARRAY_CONTAINS(c.t, 'x')",
            "NOT EXISTS(SELECT VALUE t FROM t IN c.t WHERE t = 1)",
            "EXISTS(SELECT VALUE COUNT(1) FROM t IN c.t WHERE t = 1)",
            "ARRAY(SELECT VALUE t FROM t IN c.t WHERE t = 1)",
        ] {
            assert_eq!(shown(&format!("SELECT * FROM c WHERE {filter}")), Vec::<String>::new(), "{filter}");
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
