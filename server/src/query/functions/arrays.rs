//! Functions of arrays, as lists and as sets. Owns `CHOOSE` and `OBJECTTOARRAY` too.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Function, Outcome, array, optional, text, value, whole};
use crate::query::aggregate::Accumulator;
use crate::query::evaluate::{Context, Evaluated};
use crate::query::plan::AggregateKind;
use crate::query::value::{as_double, as_whole, equals, includes, number, weight, write_key};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("ARRAY_AVG", 1, 1, |arguments, context| aggregate(arguments, context, AggregateKind::Average)),
    Function::new("ARRAY_CONCAT", 2, usize::MAX, concat),
    Function::new("ARRAY_CONTAINS", 2, 3, contains),
    Function::new("ARRAY_CONTAINS_ALL", 2, usize::MAX, |arguments, context| contains_each(arguments, context, true)),
    Function::new("ARRAY_CONTAINS_ANY", 2, usize::MAX, |arguments, context| contains_each(arguments, context, false)),
    Function::new("ARRAY_LENGTH", 1, 1, |arguments, _| Ok(array(arguments, 0).map(|items| Value::from(items.len())))),
    Function::new("ARRAY_MAX", 1, 1, |arguments, context| aggregate(arguments, context, AggregateKind::Maximum)),
    Function::new("ARRAY_MEDIAN", 1, 1, median),
    Function::new("ARRAY_MIN", 1, 1, |arguments, context| aggregate(arguments, context, AggregateKind::Minimum)),
    Function::new("ARRAY_SLICE", 2, 3, slice),
    Function::new("ARRAY_SUM", 1, 1, |arguments, context| aggregate(arguments, context, AggregateKind::Sum)),
    Function::new("CHOOSE", 2, usize::MAX, choose),
    Function::new("OBJECTTOARRAY", 1, 3, object_to_array).taller(2),
    Function::new("SETDIFFERENCE", 2, 2, |arguments, context| set(arguments, context, Set::Difference)),
    Function::new("SETEQUAL", 2, 2, set_equal),
    Function::new("SETINTERSECT", 2, 2, |arguments, context| set(arguments, context, Set::Intersection)),
    Function::new("SETUNION", 2, 2, |arguments, context| set(arguments, context, Set::Union)),
];

/// Accounts for looking at, or copying, all of these values.
fn charge(context: &Context, values: &[Value]) -> Result<(), String> {
    context.charge(values.iter().map(weight).sum())
}

/// Accounts for comparing all of these values with one.
fn charge_search(context: &Context, values: &[Value], wanted: &Value) -> Result<(), String> {
    let deep = wanted.is_array() || wanted.is_object();
    if deep { charge(context, values) } else { context.charge(values.len()) }
}

fn aggregate(arguments: &[Evaluated<'_>], context: &Context, kind: AggregateKind) -> Outcome {
    let Some(items) = array(arguments, 0) else { return Ok(None) };
    charge(context, items)?;
    let mut accumulator = Accumulator::new(kind);
    for item in items {
        accumulator.add(Some(item));
    }
    Ok(accumulator.finish())
}

fn median(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some(items) = array(arguments, 0) else { return Ok(None) };
    charge(context, items)?;
    let Some(mut numbers) = items.iter().map(as_double).collect::<Option<Vec<f64>>>() else { return Ok(None) };
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let (Some(upper), even) = (numbers.get(middle), numbers.len().is_multiple_of(2)) else { return Ok(None) };
    let lower = if even { numbers.get(middle.wrapping_sub(1)) } else { Some(upper) };
    Ok(lower.and_then(|lower| number((lower + upper) / 2.0)))
}

fn concat(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let mut result = Vec::new();
    for index in 0..arguments.len() {
        let Some(items) = array(arguments, index) else { return Ok(None) };
        charge(context, items)?;
        result.extend_from_slice(items);
    }
    Ok(Some(Value::Array(result)))
}

fn contains(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let (Some(items), Some(partial)) = (array(arguments, 0), optional(arguments, 2, false, Value::as_bool)) else {
        return Ok(None);
    };
    let Some(wanted) = value(arguments, 1) else { return Ok(Some(Value::Bool(false))) };
    charge_search(context, items, wanted)?;
    let matches = if partial { includes } else { equals };
    Ok(Some(Value::Bool(items.iter().any(|item| matches(item, wanted)))))
}

/// Whether the array contains all, or any, of the other arguments; undefined only if an undefined one could decide.
fn contains_each(arguments: &[Evaluated<'_>], context: &Context, all: bool) -> Outcome {
    let Some(items) = array(arguments, 0) else { return Ok(None) };
    let mut defined = true;
    for index in 1..arguments.len() {
        match value(arguments, index) {
            Some(wanted) => {
                charge_search(context, items, wanted)?;
                let found = items.iter().any(|item| equals(item, wanted));
                if found != all {
                    return Ok(Some(Value::Bool(found)));
                }
            }
            None => defined = false,
        }
    }
    Ok(defined.then_some(Value::Bool(all)))
}

fn slice(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let (Some(items), Some(start), Some(length)) =
        (array(arguments, 0), whole(arguments, 1), optional(arguments, 2, i64::MAX, as_whole))
    else {
        return Ok(None);
    };
    let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
    // A negative start counts from the end.
    let start = if start < 0 { start.saturating_add(size).max(0) } else { start };
    let end = start.saturating_add(length.max(0)).min(size);
    let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
    let part = items.get(range).unwrap_or_default();
    charge(context, part)?;
    Ok(Some(Value::from(part)))
}

/// The argument at a position, the first after the position itself being 1.
fn choose(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let position =
        whole(arguments, 0).filter(|position| *position >= 1).and_then(|position| usize::try_from(position).ok());
    let Some(chosen) = position.and_then(|position| value(arguments, position)) else { return Ok(None) };
    context.charge(weight(chosen))?;
    Ok(Some(chosen.clone()))
}

fn object_to_array(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let name = |index, default: &str| {
        if index < arguments.len() { text(arguments, index).map(str::to_owned) } else { Some(default.to_owned()) }
    };
    let (Some(Value::Object(members)), Some(key_name), Some(value_name)) =
        (value(arguments, 0), name(1, "k"), name(2, "v"))
    else {
        return Ok(None);
    };
    let mut result = Vec::new();
    for (key, member) in members {
        context.charge(weight(member) + key.len() + key_name.len() + value_name.len() + 100)?;
        let pair = [(key_name.clone(), Value::from(key.as_str())), (value_name.clone(), member.clone())];
        result.push(Value::Object(Map::from_iter(pair)));
    }
    Ok(Some(Value::Array(result)))
}

fn keys(items: &[Value]) -> HashSet<Vec<u8>> {
    items.iter().map(key).collect()
}

fn key(item: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    write_key(Some(item), &mut key);
    key
}

/// What to make of two sets.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Difference,
    Intersection,
    Union,
}

/// The distinct values that a set operation keeps, in the order in which they come.
fn set(arguments: &[Evaluated<'_>], context: &Context, operation: Set) -> Outcome {
    let Some((left, right)) = array(arguments, 0).zip(array(arguments, 1)) else { return Ok(None) };
    charge(context, left)?;
    charge(context, right)?;
    let in_right = if operation == Set::Union { HashSet::new() } else { keys(right) };
    let more = if operation == Set::Union { right } else { &[] };
    let mut seen = HashSet::new();
    let mut result = Vec::new();
    for item in left.iter().chain(more) {
        let key = key(item);
        let kept = operation == Set::Union || in_right.contains(&key) == (operation == Set::Intersection);
        if kept && seen.insert(key) {
            result.push(item.clone());
        }
    }
    Ok(Some(Value::Array(result)))
}

fn set_equal(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((left, right)) = array(arguments, 0).zip(array(arguments, 1)) else { return Ok(None) };
    charge(context, left)?;
    charge(context, right)?;
    Ok(Some(Value::Bool(keys(left) == keys(right))))
}
