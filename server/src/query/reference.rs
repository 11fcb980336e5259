//! The engine against a second one that is slow and simple: tests only. Random documents, random filters, orders,
//! windows and groups; the reference looks at everything with everything and shares nothing with the engine, not even
//! how values compare.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::cases::run;

/// A condition in both worlds: as text, and as something that can be judged directly.
#[derive(Clone, Debug)]
enum Condition {
    Compare(&'static str, &'static str, Value),
    Between(&'static str, i64, i64),
    In(&'static str, Vec<Value>),
    Defined(&'static str),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

const PROPERTIES: [&str; 3] = ["a", "b", "k"];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        prop::sample::select(vec![json!(0.5), json!(1.0), json!(-1.5)]),
        prop::sample::select(vec!["", "x", "xy", "é"]).prop_map(Value::from),
    ]
}

fn stored() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        4 => scalar().prop_map(Some),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(|items| Some(Value::from(items))),
        1 => (scalar(), scalar()).prop_map(|(p, q)| Some(json!({"p": p, "q": q}))),
    ]
}

fn documents() -> impl Strategy<Value = Vec<Value>> {
    let document = (stored(), stored(), stored());
    prop::collection::vec(document, 0..14).prop_map(|documents| {
        let numbered = documents.into_iter().enumerate();
        let built = numbered.map(|(number, (a, b, k))| {
            let mut document = json!({"id": number});
            for (name, value) in PROPERTIES.iter().zip([a, b, k]) {
                if let Some(value) = value {
                    document[*name] = value;
                }
            }
            document
        });
        built.collect()
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let property = || prop::sample::select(PROPERTIES.to_vec());
    let operator = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        4 => (property(), operator, scalar()).prop_map(|(name, with, value)| Condition::Compare(name, with, value)),
        1 => (property(), -2_i64..3, -2_i64..3).prop_map(|(name, low, high)| Condition::Between(name, low, high)),
        1 => (property(), prop::collection::vec(scalar(), 1..4)).prop_map(|(name, list)| Condition::In(name, list)),
        1 => property().prop_map(Condition::Defined),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            pair.clone().prop_map(|(left, right)| Condition::And(Box::new(left), Box::new(right))),
            pair.prop_map(|(left, right)| Condition::Or(Box::new(left), Box::new(right))),
        ]
    })
}

impl Condition {
    fn text(&self) -> String {
        match self {
            Condition::Compare(property, operator, value) => format!("c.{property} {operator} {value}"),
            Condition::Between(property, low, high) => format!("(c.{property} BETWEEN {low} AND {high})"),
            Condition::In(property, list) => {
                format!("c[\"{property}\"] IN ({})", list.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
            }
            Condition::Defined(property) => format!("is_defined(c.{property})"),
            Condition::Not(inner) => format!("NOT ({})", inner.text()),
            Condition::And(left, right) => format!("({} AND {})", left.text(), right.text()),
            Condition::Or(left, right) => format!("({} OR {})", left.text(), right.text()),
        }
    }

    /// True, false, or nothing for undefined.
    fn judge(&self, document: &Value) -> Option<bool> {
        match self {
            Condition::Compare(property, operator, value) => compare(document.get(property)?, operator, value),
            Condition::Between(property, low, high) => {
                let above = document.get(property).and_then(|value| compare(value, ">=", &json!(low)));
                both(above, document.get(property).and_then(|value| compare(value, "<=", &json!(high))))
            }
            Condition::In(property, list) => {
                let value = document.get(property)?;
                Some(list.iter().any(|item| same(value, item)))
            }
            Condition::Defined(property) => Some(document.get(property).is_some()),
            Condition::Not(inner) => inner.judge(document).map(|inner| !inner),
            Condition::And(left, right) => both(left.judge(document), right.judge(document)),
            Condition::Or(left, right) => {
                both(left.judge(document).map(|left| !left), right.judge(document).map(|right| !right))
                    .map(|neither| !neither)
            }
        }
    }
}

fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    if left == Some(false) || right == Some(false) { Some(false) } else { Some(left? && right?) }
}

fn compare(left: &Value, operator: &str, right: &Value) -> Option<bool> {
    match operator {
        "=" => return Some(same(left, right)),
        "!=" => return Some(!same(left, right)),
        _ => {}
    }
    let comparable = kind(left) == kind(right) && kind(left) < 4;
    let smaller = comparable.then(|| sorts_before(Some(left), Some(right)))?;
    let larger = sorts_before(Some(right), Some(left));
    Some(match operator {
        "<" => smaller,
        "<=" => !larger,
        ">" => larger,
        _ => !smaller,
    })
}

fn kind(value: &Value) -> u8 {
    let kinds = [Value::is_null, Value::is_boolean, Value::is_number, Value::is_string, Value::is_array];
    kinds.iter().position(|is| is(value)).map_or(5, |kind| kind as u8)
}

fn same(left: &Value, right: &Value) -> bool {
    !sorts_before(Some(left), Some(right)) && !sorts_before(Some(right), Some(left))
}

/// The total order, for the small values of these tests.
fn sorts_before(left: Option<&Value>, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return left.is_none() && right.is_some() };
    if kind(left) != kind(right) {
        return kind(left) < kind(right);
    }
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => !left && *right,
        (Value::Number(left), Value::Number(right)) => left.as_f64() < right.as_f64(),
        (Value::String(left), Value::String(right)) => left.chars().lt(right.chars()),
        (Value::Array(left), Value::Array(right)) => {
            match left.iter().zip(right).find(|(left, right)| !same(left, right)) {
                Some((left, right)) => sorts_before(Some(left), Some(right)),
                None => left.len() < right.len(),
            }
        }
        // All objects here have the same two members.
        (Value::Object(_), Value::Object(_)) => {
            let first = ["p", "q"].into_iter().find(|name| !same(&left[name], &right[name]));
            first.is_some_and(|name| sorts_before(Some(&left[name]), Some(&right[name])))
        }
        _ => false,
    }
}

/// Sorts by inserting each document behind the last that it must not precede.
fn sorted(documents: Vec<Value>, keys: &[(&'static str, bool)]) -> Vec<Value> {
    let mut result: Vec<Value> = Vec::new();
    for document in documents {
        let precedes = |other: &Value| {
            for (name, descending) in keys {
                let (left, right) = if *descending { (other, &document) } else { (&document, other) };
                if sorts_before(left.get(name), right.get(name)) {
                    return true;
                }
                if sorts_before(right.get(name), left.get(name)) {
                    return false;
                }
            }
            false
        };
        let place = result.iter().rposition(|other| !precedes(other)).map_or(0, |place| place + 1);
        result.insert(place, document);
    }
    result
}

/// The documents that meet the condition.
fn kept<'d>(documents: &'d [Value], condition: &'d Condition) -> impl Iterator<Item = &'d Value> {
    documents.iter().filter(|document| condition.judge(document) == Some(true))
}

fn distinct(values: Vec<Option<Value>>) -> Vec<Option<Value>> {
    let mut result: Vec<Option<Value>> = Vec::new();
    for value in values {
        let known = result.iter().any(|other| match (other, &value) {
            (Some(other), Some(value)) => same(other, value),
            (None, None) => true,
            _ => false,
        });
        if !known {
            result.push(value);
        }
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn filters_orders_and_windows(
        documents in documents(),
        condition in condition(),
        keys in prop::collection::vec((prop::sample::select(PROPERTIES.to_vec()), any::<bool>()), 0..3),
        window in prop::option::of((0_usize..5, 0_usize..8)),
    ) {
        let mut text = format!("SELECT * FROM c WHERE {}", condition.text());
        if !keys.is_empty() {
            let direction = |descending: bool| if descending { "DESC" } else { "ASC" };
            let keys: Vec<String> =
                keys.iter().map(|(name, descending)| format!("c.{name} {}", direction(*descending))).collect();
            text += &format!(" ORDER BY {}", keys.join(", "));
        }
        let mut expected = sorted(kept(&documents, &condition).cloned().collect(), &keys);
        if let Some((offset, limit)) = window {
            text += &format!(" OFFSET {offset} LIMIT {limit}");
            expected = expected.into_iter().skip(offset).take(limit).collect();
        }
        prop_assert_eq!(run(&documents, &text, &Value::Null).expect("runs"), expected, "{}", text);
    }

    #[test]
    fn distinct_values(
        documents in documents(),
        condition in condition(),
        property in prop::sample::select(PROPERTIES.to_vec()),
        top in prop::option::of(0_usize..6),
    ) {
        let windowed = top.map_or(String::new(), |top| format!("TOP {top}"));
        let text = format!("SELECT DISTINCT {windowed} VALUE c.{property} FROM c WHERE {}", condition.text());
        let values = kept(&documents, &condition).map(|document| document.get(property).cloned());
        let values = distinct(values.filter(Option::is_some).collect());
        let expected: Vec<Value> = values.into_iter().flatten().take(top.unwrap_or(usize::MAX)).collect();
        prop_assert_eq!(run(&documents, &text, &Value::Null).expect("runs"), expected, "{}", text);
    }

    #[test]
    fn groups(documents in documents(), condition in condition()) {
        let columns = "COUNT(1) AS rows, COUNT(c.a) AS defined, SUM(c.a) AS sum, MIN(c.b) AS least, MAX(c.b) AS most";
        let text = format!("SELECT c.k, {columns} FROM c WHERE {} GROUP BY c.k", condition.text());
        let kept: Vec<&Value> = kept(&documents, &condition).collect();
        let mut expected = Vec::new();
        for key in distinct(kept.iter().map(|document| document.get("k").cloned()).collect()) {
            let members: Vec<&&Value> = kept.iter().filter(|document| match (document.get("k"), &key) {
                (Some(left), Some(right)) => same(left, right),
                (left, right) => left.is_none() && right.is_none(),
            }).collect();
            let values = |name: &str| members.iter().filter_map(|document| document.get(name)).collect::<Vec<_>>();
            let mut group = json!({"rows": members.len(), "defined": values("a").len()});
            if let Some(key) = key {
                group["k"] = key;
            }
            if values("a").iter().all(|value| value.is_number()) {
                group["sum"] = json!(values("a").iter().filter_map(|value| value.as_f64()).sum::<f64>());
            }
            let extremes = values("b");
            if !extremes.is_empty() && extremes.iter().all(|value| kind(value) < 4) {
                let before = |left: &Value, right: &Value| sorts_before(Some(left), Some(right));
                let is_least = |value: &&&Value| !extremes.iter().any(|other| before(other, value));
                let is_most = |value: &&&Value| !extremes.iter().any(|other| before(value, other));
                group["least"] = json!(extremes.iter().find(is_least));
                group["most"] = json!(extremes.iter().find(is_most));
            }
            expected.push(group);
        }
        let results = run(&documents, &text, &Value::Null).expect("runs");
        prop_assert_eq!(results.len(), expected.len(), "{}", &text);
        for (result, expected) in results.iter().zip(&expected) {
            let members = |value: &Value| value.as_object().expect("an object").clone();
            let (result, expected) = (members(result), members(expected));
            prop_assert_eq!(result.len(), expected.len(), "{:?} {:?}", result, expected);
            for (name, value) in &expected {
                let equal = result.get(name).is_some_and(|found| same(found, value));
                prop_assert!(equal, "{}: {:?} {:?}", name, result, expected);
            }
        }
    }
}
