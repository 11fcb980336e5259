//! `REGEXMATCH`. Owns compiled patterns and what they may cost.
//!
//! The service takes PCRE; this is the `regex` crate, which matches in linear time and therefore has neither
//! look-around nor back-references. A pattern that it does not take is an error and not undefined, because it may be
//! one that the service takes. Classes such as `\d` are those of Unicode.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{Function, Outcome, text};
use crate::query::evaluate::{Context, Evaluated};

/// How much memory one compiled pattern may take: bounded repetitions multiply.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// The work of compiling a pattern, on the scale of one evaluation step: far more than matching it.
const COMPILE_WORK: usize = 20_000;

pub(super) static FUNCTIONS: &[Function] = &[Function::new("REGEXMATCH", 2, 3, matches)];

/// A compiled pattern; two are the same if their sources are.
#[derive(Debug)]
pub(in crate::query) struct Compiled {
    source: (String, String),
    regex: Regex,
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Compiled {
    /// Compiles a pattern with the modifiers `m`, `s`, `i` and `x`; nothing if there are others.
    ///
    /// # Errors
    /// The pattern is not one, is one that cannot be matched in linear time, or is too large.
    pub(in crate::query) fn new(pattern: &str, modifiers: &str) -> Result<Option<Self>, String> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES);
        for modifier in modifiers.chars() {
            match modifier {
                'm' => builder.multi_line(true),
                's' => builder.dot_matches_new_line(true),
                'i' => builder.case_insensitive(true),
                'x' => builder.ignore_whitespace(true),
                _ => return Ok(None),
            };
        }
        match builder.build() {
            Ok(regex) => Ok(Some(Compiled { source: (pattern.to_owned(), modifiers.to_owned()), regex })),
            Err(regex::Error::CompiledTooBig(_)) => Err("the pattern is too large when compiled".to_owned()),
            Err(error) => {
                // The last line says what is wrong; the others draw the pattern.
                let reason = error.to_string();
                Err(format!("the pattern cannot be used: {}", reason.lines().next_back().unwrap_or_default().trim()))
            }
        }
    }

    /// Whether the pattern occurs in `text`.
    ///
    /// # Errors
    /// Too much work.
    pub(in crate::query) fn is_match(&self, text: &str, context: &Context) -> Result<bool, String> {
        context.charge(text.len())?;
        Ok(self.regex.is_match(text))
    }
}

/// The function with a pattern that is not known before the document is; known ones are compiled by the binder.
fn matches(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((subject, pattern)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let modifiers = if arguments.len() > 2 { text(arguments, 2) } else { Some("") };
    let Some(modifiers) = modifiers else { return Ok(None) };
    context.charge(COMPILE_WORK)?;
    let Some(compiled) = Compiled::new(pattern, modifiers)? else { return Ok(None) };
    Ok(Some(Value::Bool(compiled.is_match(subject, context)?)))
}
