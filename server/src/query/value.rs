//! JSON values as the query language sees them. Owns equality, the two orders, canonical keys and number results;
//! evaluates nothing.
//!
//! *Undefined* (a property that is not there, an operation that makes no sense) is `None` next to a [`Value`] and is
//! never the same as `null`.
//!
//! * Equality is deep, by value: `1` equals `1.0`, the order of an object's members does not matter, values of
//!   different types are unequal (not undefined: that is what the offline engine in the .NET SDK's tests does, and what
//!   makes `c.name != null` find strings).
//! * `<` and its kin relate values of one primitive type (null, boolean, number, string) and are undefined otherwise.
//! * `ORDER BY`, `MIN` and `MAX` use a total order: undefined < null < boolean < number < string < array < object,
//!   strings by code point.

use std::cmp::Ordering;
use std::mem::size_of;

use serde_json::{Number, Value};

/// The place of a value's type in the total order.
fn rank(value: Option<&Value>) -> u8 {
    match value {
        None => 0,
        Some(Value::Null) => 1,
        Some(Value::Bool(_)) => 2,
        Some(Value::Number(_)) => 3,
        Some(Value::String(_)) => 4,
        Some(Value::Array(_)) => 5,
        Some(Value::Object(_)) => 6,
    }
}

/// Orders any two values, undefined included.
pub(super) fn order(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => left.cmp(right),
        (Some(Value::Number(left)), Some(Value::Number(right))) => order_numbers(left, right),
        (Some(Value::String(left)), Some(Value::String(right))) => left.cmp(right),
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            let unequal =
                left.iter().zip(right).map(|(left, right)| order(Some(left), Some(right))).find(|order| order.is_ne());
            unequal.unwrap_or_else(|| left.len().cmp(&right.len()))
        }
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let (mut left, mut right) = (Vec::from_iter(left), Vec::from_iter(right));
            left.sort_unstable_by_key(|(key, _)| *key);
            right.sort_unstable_by_key(|(key, _)| *key);
            let pairs = left.iter().zip(&right);
            let unequal = pairs
                .map(|(left, right)| left.0.cmp(right.0).then_with(|| order(Some(left.1), Some(right.1))))
                .find(|order| order.is_ne());
            unequal.unwrap_or_else(|| left.len().cmp(&right.len()))
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

/// How `<`, `<=`, `>` and `>=` relate two values; `None` where they are undefined.
pub(super) fn relate(left: &Value, right: &Value) -> Option<Ordering> {
    let primitive = !left.is_array() && !left.is_object();
    (primitive && rank(Some(left)) == rank(Some(right))).then(|| order(Some(left), Some(right)))
}

/// Deep equality by value.
pub(super) fn equals(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right).is_eq(),
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equals(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equals(value, other)))
        }
        _ => false,
    }
}

/// Whether `item` has all members of `pattern` (objects, recursively), or equals it (everything else): the partial
/// match of `ARRAY_CONTAINS`.
pub(super) fn includes(item: &Value, pattern: &Value) -> bool {
    match (item, pattern) {
        (Value::Object(item), Value::Object(pattern)) => {
            pattern.iter().all(|(key, wanted)| item.get(key).is_some_and(|found| includes(found, wanted)))
        }
        _ => equals(item, pattern),
    }
}

/// An integer that a JSON number holds exactly.
fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Orders numbers exactly, also where a 64-bit integer has no double of its own.
fn order_numbers(left: &Number, right: &Number) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => order_whole(left, double(right)),
        (None, Some(right)) => order_whole(right, double(left)).reverse(),
        (None, None) => double(left).partial_cmp(&double(right)).unwrap_or(Ordering::Equal),
    }
}

/// Orders an integer and a finite double; the integer has at most 65 bits.
fn order_whole(whole: i128, double: f64) -> Ordering {
    // The cast truncates, and saturates far outside the integer's range, where the answer is the same.
    let truncated = double as i128;
    whole.cmp(&truncated).then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal))
}

/// The nearest double of a JSON number.
pub(super) fn double(number: &Number) -> f64 {
    number.as_f64().unwrap_or(0.0)
}

/// The double of a value that is a number.
pub(super) fn as_double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(double(number)),
        _ => None,
    }
}

/// The whole number a value is, if it is one; `2.0` is, `2.5` and anything beyond 64 bits are not.
pub(super) fn as_whole(value: &Value) -> Option<i64> {
    let Value::Number(number) = value else { return None };
    number.as_i64().or_else(|| {
        let double = number.as_f64()?;
        (double.fract() == 0.0 && double.abs() < 9.2e18).then_some(double as i64)
    })
}

/// A computed number. A result that JSON cannot write (infinite or not a number) is undefined; a whole one is written
/// without a fraction, as the service does.
pub(super) fn number(double: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if double.fract() == 0.0 && double.abs() <= EXACT {
        return Some(Value::from(double as i64));
    }
    Number::from_f64(double).map(Value::Number)
}

/// Appends bytes that are equal for two values exactly when [`equals`] holds, and never a prefix of another value's.
pub(super) fn write_key(value: Option<&Value>, key: &mut Vec<u8>) {
    key.push(rank(value));
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Bool(boolean)) => key.push(u8::from(*boolean)),
        Some(Value::Number(number)) => {
            let double = double(number);
            let whole =
                whole(number).or_else(|| (double.fract() == 0.0 && double.abs() < 1e30).then_some(double as i128));
            match whole {
                Some(whole) => {
                    key.push(0);
                    key.extend_from_slice(&whole.to_be_bytes());
                }
                None => {
                    key.push(1);
                    key.extend_from_slice(&double.to_bits().to_be_bytes());
                }
            }
        }
        Some(Value::String(text)) => write_text(text, key),
        Some(Value::Array(items)) => {
            write_length(items.len(), key);
            for item in items {
                write_key(Some(item), key);
            }
        }
        Some(Value::Object(members)) => {
            let mut members = Vec::from_iter(members);
            members.sort_unstable_by_key(|(name, _)| *name);
            write_length(members.len(), key);
            for (name, member) in members {
                write_text(name, key);
                write_key(Some(member), key);
            }
        }
    }
}

fn write_text(text: &str, key: &mut Vec<u8>) {
    write_length(text.len(), key);
    key.extend_from_slice(text.as_bytes());
}

fn write_length(length: usize, key: &mut Vec<u8>) {
    key.extend_from_slice(&(length as u64).to_be_bytes());
}

/// About how many bytes of memory a value takes.
pub(super) fn weight(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| size_of::<String>() * 2 + name.len() + weight(member)).sum()
        }
    };
    size_of::<Value>() + inner
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_ordered_and_numbers_compare_exactly() {
        let ascending = [
            None,
            Some(json!(null)),
            Some(json!(false)),
            Some(json!(true)),
            Some(json!(-1e300)),
            Some(json!(i64::MIN)),
            Some(json!(-1.5)),
            Some(json!(0)),
            Some(json!(0.5)),
            Some(json!(9_007_199_254_740_992_u64)),
            Some(json!(9_007_199_254_740_993_u64)),
            Some(json!(u64::MAX)),
            Some(json!(1e300)),
            Some(json!("")),
            Some(json!("a")),
            Some(json!("\u{ffff}")),
            Some(json!("😀")),
            Some(json!([])),
            Some(json!([1])),
            Some(json!([1, 0])),
            Some(json!([2])),
            Some(json!({})),
            Some(json!({"a": 1})),
            Some(json!({"a": 1, "b": 1})),
            Some(json!({"b": 0})),
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                assert_eq!(order(left.as_ref(), right.as_ref()), i.cmp(&j), "{left:?} against {right:?}");
            }
        }
    }

    #[test]
    fn equality_and_keys_agree() {
        let values = [
            json!(1),
            json!(1.0),
            json!(100_000_000_000_000_000_u64),
            json!(1e17),
            json!({"a": 1, "b": [2]}),
            json!({"b": [2.0], "a": 1}),
            json!(-0.0),
            json!(0),
            json!("1"),
            json!([1]),
            json!([[1]]),
            json!(1.5),
        ];
        for left in &values {
            for right in &values {
                let (mut left_key, mut right_key) = (Vec::new(), Vec::new());
                write_key(Some(left), &mut left_key);
                write_key(Some(right), &mut right_key);
                assert_eq!(equals(left, right), left_key == right_key, "{left} against {right}");
            }
        }
    }

    #[test]
    fn results_that_are_not_json_numbers_are_undefined() {
        assert_eq!(number(f64::NAN), None);
        assert_eq!(number(f64::INFINITY), None);
        assert_eq!(number(2.0), Some(json!(2)));
        assert_eq!(number(2.5), Some(json!(2.5)));
        assert_eq!(number(-0.0), Some(json!(0)));
        assert_eq!(as_whole(&json!(2.0)), Some(2));
        assert_eq!(as_whole(&json!(2.5)), None);
        assert_eq!(as_whole(&json!(1e19)), None);
    }

    #[test]
    fn unlike_types_are_unequal_and_not_related() {
        assert!(!equals(&json!(1), &json!("1")));
        assert_eq!(relate(&json!(1), &json!("1")), None);
        assert_eq!(relate(&json!([1]), &json!([1])), None);
        assert_eq!(relate(&json!(null), &json!(null)), Some(Ordering::Equal));
        assert_eq!(relate(&json!(false), &json!(true)), Some(Ordering::Less));
    }

    #[test]
    fn a_partial_match_ignores_members_it_does_not_name() {
        assert!(includes(&json!({"a": {"b": 1, "c": 2}, "d": 3}), &json!({"a": {"b": 1}})));
        assert!(!includes(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
        assert!(includes(&json!([1]), &json!([1])));
    }
}
