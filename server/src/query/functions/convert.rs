//! Functions between strings and other values. Owns what counts as the text of a value: JSON, with blanks around it
//! allowed.

use serde_json::Value;

use super::{Function, Outcome, text, value};
use crate::query::evaluate::{Context, Evaluated};
use crate::query::value::weight;

/// How deep a value read from a string can nest: what the JSON reader allows.
const READ_HEIGHT: usize = 128;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("STRINGTOARRAY", 1, 1, |arguments, context| read(arguments, context, Value::is_array))
        .taller(READ_HEIGHT),
    Function::new("STRINGTOBOOLEAN", 1, 1, |arguments, context| read(arguments, context, Value::is_boolean)),
    Function::new("STRINGTONULL", 1, 1, |arguments, context| read(arguments, context, Value::is_null)),
    Function::new("STRINGTONUMBER", 1, 1, |arguments, context| read(arguments, context, Value::is_number)),
    Function::new("STRINGTOOBJECT", 1, 1, |arguments, context| read(arguments, context, Value::is_object))
        .taller(READ_HEIGHT),
    Function::new("TOSTRING", 1, 1, to_string),
];

/// The value that a string spells, if it is of the kind wanted.
fn read(arguments: &[Evaluated<'_>], context: &Context, wanted: fn(&Value) -> bool) -> Outcome {
    let Some(text) = text(arguments, 0) else { return Ok(None) };
    // A value takes up to sixteen times the bytes of its text.
    context.charge(text.len().saturating_mul(16))?;
    Ok(serde_json::from_str(text).ok().filter(wanted))
}

fn to_string(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some(value) = value(arguments, 0) else { return Ok(None) };
    context.charge(weight(value))?;
    Ok(Some(Value::from(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })))
}
