//! The system functions. Owns the table from names to implementations; each family has a file of its own. A function
//! gets its arguments evaluated and is pure: the only clock it can read is the time at which the query began.
//!
//! What they do is what Microsoft's reference of the query language says of each, and where that is silent what the
//! offline engine in the .NET SDK's tests does. A function of arguments that it has no meaning for is undefined.
//! Positions and lengths in strings count UTF-16 code units, as that engine and the LINQ translation (`string.Length`,
//! `Substring`) do; a character that a cut would split is left out.

mod arrays;
mod convert;
mod dates;
mod math;
mod pattern;
mod spatial;
mod sphere;
mod strings;
mod types;

use serde_json::Value;

use super::evaluate::{Context, Evaluated};
use super::value::{as_double, as_whole};

pub(super) use pattern::Compiled;

/// What a function makes of its arguments: a value, undefined, or a reason why the query cannot go on.
pub(super) type Outcome = Result<Option<Value>, String>;

/// One system function.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name in upper case.
    pub(super) name: &'static str,
    /// The least and most arguments it takes.
    pub(super) least: usize,
    pub(super) most: usize,
    /// How many levels its result can nest beyond its arguments.
    pub(super) height: usize,
    pub(super) evaluate: fn(&[Evaluated<'_>], &Context) -> Outcome,
}

impl Function {
    const fn new(
        name: &'static str,
        least: usize,
        most: usize,
        evaluate: fn(&[Evaluated<'_>], &Context) -> Outcome,
    ) -> Self {
        Function { name, least, most, height: 0, evaluate }
    }

    /// The same function, whose result can nest deeper than its arguments.
    const fn taller(self, height: usize) -> Self {
        Function { height, ..self }
    }
}

static FAMILIES: [&[Function]; 8] = [
    types::FUNCTIONS,
    strings::FUNCTIONS,
    convert::FUNCTIONS,
    pattern::FUNCTIONS,
    math::FUNCTIONS,
    arrays::FUNCTIONS,
    dates::FUNCTIONS,
    spatial::FUNCTIONS,
];

/// Finds a function by its name, in any case.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter()).find(|function| function.name.eq_ignore_ascii_case(name))
}

/// The part of the service that a known but missing function belongs to.
pub(super) fn unsupported(name: &str) -> Option<&'static str> {
    match name.to_ascii_uppercase().as_str() {
        "VECTORDISTANCE" => Some("vector search"),
        "RRF" | "FULLTEXTCONTAINS" | "FULLTEXTCONTAINSALL" | "FULLTEXTCONTAINSANY" | "FULLTEXTSCORE" => {
            Some("full-text search")
        }
        "DATETIMEFORMAT" => Some("date formatting"),
        "DOCUMENTID" => Some("the numbering of items in a physical partition"),
        "RAND" => Some("random numbers in queries"),
        "ST_AREA" => Some("the area of a region"),
        _ => None,
    }
}

/// The argument at `index`, if it is there and defined.
fn value<'a>(arguments: &'a [Evaluated<'_>], index: usize) -> Option<&'a Value> {
    arguments.get(index).and_then(Option::as_deref)
}

/// The argument at `index`, if it is a string.
fn text<'a>(arguments: &'a [Evaluated<'_>], index: usize) -> Option<&'a str> {
    value(arguments, index)?.as_str()
}

/// The argument at `index`, if it is a number.
fn double(arguments: &[Evaluated<'_>], index: usize) -> Option<f64> {
    as_double(value(arguments, index)?)
}

/// The argument at `index`, if it is a whole number of 64 bits.
fn whole(arguments: &[Evaluated<'_>], index: usize) -> Option<i64> {
    as_whole(value(arguments, index)?)
}

/// The argument at `index`, if it is an array.
fn array<'a>(arguments: &'a [Evaluated<'_>], index: usize) -> Option<&'a [Value]> {
    value(arguments, index)?.as_array().map(Vec::as_slice)
}

/// An optional last argument: `default` where it is not written, undefined where it is not what `read` reads.
fn optional<T>(arguments: &[Evaluated<'_>], index: usize, default: T, read: fn(&Value) -> Option<T>) -> Option<T> {
    if index < arguments.len() { read(value(arguments, index)?) } else { Some(default) }
}
