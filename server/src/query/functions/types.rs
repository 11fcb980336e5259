//! Type checks: what kind of value an expression has. They answer for undefined too, so none of them is ever undefined.

use serde_json::Value;

use super::{Function, Outcome, value};
use crate::query::evaluate::Evaluated;
use crate::query::value::as_whole;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("IS_ARRAY", 1, 1, |arguments, _| check(arguments, Value::is_array)),
    Function::new("IS_BOOL", 1, 1, |arguments, _| check(arguments, Value::is_boolean)),
    Function::new("IS_DEFINED", 1, 1, |arguments, _| check(arguments, |_| true)),
    // A number that is not finite cannot be: an operation that would make one is undefined.
    Function::new("IS_FINITE_NUMBER", 1, 1, |arguments, _| check(arguments, Value::is_number)),
    Function::new("IS_INTEGER", 1, 1, |arguments, _| check(arguments, |value| as_whole(value).is_some())),
    Function::new("IS_NULL", 1, 1, |arguments, _| check(arguments, Value::is_null)),
    Function::new("IS_NUMBER", 1, 1, |arguments, _| check(arguments, Value::is_number)),
    Function::new("IS_OBJECT", 1, 1, |arguments, _| check(arguments, Value::is_object)),
    Function::new("IS_PRIMITIVE", 1, 1, |arguments, _| {
        check(arguments, |value| !value.is_array() && !value.is_object())
    }),
    Function::new("IS_STRING", 1, 1, |arguments, _| check(arguments, Value::is_string)),
];

fn check(arguments: &[Evaluated<'_>], is: fn(&Value) -> bool) -> Outcome {
    Ok(Some(Value::Bool(value(arguments, 0).is_some_and(is))))
}
