//! The system functions. Owns the table from names to implementations; each family has a file of its own. A function
//! gets its arguments evaluated and is pure: the only clock it can read is the time at which the query began.

mod types;

use serde_json::Value;

use super::evaluate::{Context, Evaluated};

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
}

static FAMILIES: [&[Function]; 1] = [types::FUNCTIONS];

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
        _ => None,
    }
}

/// The argument at `index`, if it is there and defined.
fn value<'a>(arguments: &'a [Evaluated<'_>], index: usize) -> Option<&'a Value> {
    arguments.get(index).and_then(Option::as_deref)
}
