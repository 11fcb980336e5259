//! Functions of strings. Owns searching, cutting, casing and padding; conversions are in `convert`, regular expressions
//! in `pattern`.
//!
//! Casing maps one character to one character and depends on no language, as .NET's invariant culture does: `ß` has no
//! upper case.

use serde_json::Value;

use super::{Function, Outcome, array, double, optional, text, whole};
use crate::query::evaluate::{Context, Evaluated};
use crate::query::value::as_whole;

/// The longest result of `REPLICATE`; a longer one is undefined.
const MAX_REPLICATED_UNITS: f64 = 10_000.0;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("CONCAT", 2, usize::MAX, concat),
    Function::new("CONTAINS", 2, 3, |arguments, context| compare(arguments, context, |text, part| text.contains(part))),
    Function::new("CONTAINS_ALL_CI", 2, usize::MAX, |arguments, context| contains_each(arguments, context, true, true)),
    Function::new("CONTAINS_ALL_CS", 2, usize::MAX, |arguments, context| {
        contains_each(arguments, context, true, false)
    }),
    Function::new("CONTAINS_ANY_CI", 2, usize::MAX, |arguments, context| {
        contains_each(arguments, context, false, true)
    }),
    Function::new("CONTAINS_ANY_CS", 2, usize::MAX, |arguments, context| {
        contains_each(arguments, context, false, false)
    }),
    Function::new("ENDSWITH", 2, 3, |arguments, context| {
        compare(arguments, context, |text, part| text.ends_with(part))
    }),
    Function::new("INDEX_OF", 2, 3, index_of),
    Function::new("LASTINDEXOF", 2, 3, last_index_of),
    Function::new("LEFT", 2, 2, |arguments, _| {
        Ok(text(arguments, 0).zip(whole(arguments, 1)).map(|(text, length)| cut(text, 0, length)))
    }),
    Function::new("LENGTH", 1, 1, |arguments, _| Ok(text(arguments, 0).map(|text| Value::from(units(text))))),
    Function::new("LOWER", 1, 1, |arguments, context| {
        map(arguments, context, |text| text.chars().map(lower).collect())
    }),
    Function::new("LTRIM", 1, 2, |arguments, _| trim(arguments, true, false)),
    Function::new("REPLACE", 3, 3, replace),
    Function::new("REPLICATE", 2, 2, |arguments, _| Ok(replicate(arguments))),
    Function::new("REVERSE", 1, 1, |arguments, context| map(arguments, context, |text| text.chars().rev().collect())),
    Function::new("RIGHT", 2, 2, |arguments, _| {
        let right = |(text, length): (&str, i64)| {
            let start = units(text).saturating_sub(length).max(0);
            cut(text, start, i64::MAX)
        };
        Ok(text(arguments, 0).zip(whole(arguments, 1)).map(right))
    }),
    Function::new("RTRIM", 1, 2, |arguments, _| trim(arguments, false, true)),
    Function::new("STARTSWITH", 2, 3, |arguments, context| {
        compare(arguments, context, |text, part| text.starts_with(part))
    }),
    Function::new("STRINGEQUALS", 2, 3, |arguments, context| compare(arguments, context, |text, other| text == other)),
    Function::new("STRINGJOIN", 2, 2, join),
    Function::new("STRINGSPLIT", 2, 2, split).taller(1),
    Function::new("SUBSTRING", 3, 3, |arguments, _| {
        let range = whole(arguments, 1).zip(whole(arguments, 2));
        Ok(text(arguments, 0).zip(range).map(|(text, (start, length))| cut(text, start, length)))
    }),
    Function::new("TRIM", 1, 2, |arguments, _| trim(arguments, true, true)),
    Function::new("UPPER", 1, 1, |arguments, context| {
        map(arguments, context, |text| text.chars().map(upper).collect())
    }),
];

/// The length in UTF-16 code units.
fn units(text: &str) -> i64 {
    let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// The part of `text` from code unit `start`, of at most `length` code units; nothing where either is negative.
fn cut(text: &str, start: i64, length: i64) -> Value {
    if start < 0 || length <= 0 {
        return Value::from("");
    }
    Value::from(
        &text[byte_at(text, start, true)
            ..byte_at(text, start.saturating_add(length), false).max(byte_at(text, start, true))],
    )
}

/// The byte offset of a code unit; one within a character is the end of that character if `after`, and its beginning
/// otherwise.
fn byte_at(text: &str, unit: i64, after: bool) -> usize {
    let mut seen = 0;
    for (byte, character) in text.char_indices() {
        if seen >= unit {
            return byte;
        }
        seen += i64::from(character.len_utf16() == 2) + 1;
        if seen > unit && !after {
            return byte;
        }
    }
    text.len()
}

fn map(arguments: &[Evaluated<'_>], context: &Context, change: fn(&str) -> String) -> Outcome {
    let Some(text) = text(arguments, 0) else { return Ok(None) };
    context.charge(text.len())?;
    Ok(Some(Value::from(change(text))))
}

fn upper(character: char) -> char {
    let mut mapped = character.to_uppercase();
    mapped.next().filter(|_| mapped.next().is_none()).unwrap_or(character)
}

fn lower(character: char) -> char {
    let mut mapped = character.to_lowercase();
    mapped.next().filter(|_| mapped.next().is_none()).unwrap_or(character)
}

/// The text without its case: two texts that differ in case only have the same one.
fn folded(text: &str) -> String {
    text.chars().map(upper).map(lower).collect()
}

/// A relation of two strings, regardless of case if the third argument is `true`.
fn compare(arguments: &[Evaluated<'_>], context: &Context, holds: fn(&str, &str) -> bool) -> Outcome {
    let Some((left, right)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let Some(ignore_case) = optional(arguments, 2, false, Value::as_bool) else { return Ok(None) };
    // Folding copies every character; comparing looks at many at once.
    let length = left.len() + right.len();
    context.charge(if ignore_case { length } else { length / 16 })?;
    Ok(Some(Value::Bool(if ignore_case { holds(&folded(left), &folded(right)) } else { holds(left, right) })))
}

/// Whether the first string contains all, or any, of the others.
fn contains_each(arguments: &[Evaluated<'_>], context: &Context, all: bool, ignore_case: bool) -> Outcome {
    let Some(whole) = text(arguments, 0) else { return Ok(None) };
    let whole = if ignore_case { folded(whole) } else { whole.to_owned() };
    let mut defined = true;
    for index in 1..arguments.len() {
        context.charge(whole.len())?;
        match text(arguments, index) {
            Some(part) => {
                let found = if ignore_case { whole.contains(&folded(part)) } else { whole.contains(part) };
                if found != all {
                    return Ok(Some(Value::Bool(found)));
                }
            }
            None => defined = false,
        }
    }
    Ok(defined.then_some(Value::Bool(all)))
}

fn concat(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let mut result = String::new();
    for index in 0..arguments.len() {
        let Some(text) = text(arguments, index) else { return Ok(None) };
        context.charge(text.len())?;
        result.push_str(text);
    }
    Ok(Some(Value::from(result)))
}

fn index_of(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((whole, part)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let Some(start) = optional(arguments, 2, 0, as_whole).filter(|start| *start >= 0) else { return Ok(None) };
    context.charge(whole.len())?;
    let from = byte_at(whole, start, true);
    let found = whole[from..].find(part).map(|byte| units(&whole[..from + byte]));
    Ok(Some(Value::from(found.unwrap_or(-1))))
}

/// The last occurrence that lies within the text up to the given position.
fn last_index_of(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((whole, part)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let Some(start) = optional(arguments, 2, i64::MAX - 1, as_whole).filter(|start| *start >= 0) else {
        return Ok(None);
    };
    context.charge(whole.len())?;
    let until = byte_at(whole, start.saturating_add(1), false);
    let found = whole[..until].rfind(part).map(|byte| units(&whole[..byte]));
    Ok(Some(Value::from(found.unwrap_or(-1))))
}

fn replace(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((whole, part)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let Some(with) = text(arguments, 2).filter(|_| !part.is_empty()) else { return Ok(None) };
    // Said before it is built: every occurrence may grow.
    context.charge(whole.len() + whole.matches(part).count().saturating_mul(with.len()))?;
    Ok(Some(Value::from(whole.replace(part, with))))
}

fn replicate(arguments: &[Evaluated<'_>]) -> Option<Value> {
    let (text, count) = (text(arguments, 0)?, double(arguments, 1)?.trunc());
    if count < 0.0 || units(text) as f64 * count > MAX_REPLICATED_UNITS {
        return None;
    }
    // An empty text any number of times is empty; every other count is small by now.
    Some(Value::from(if text.is_empty() { String::new() } else { text.repeat(count as usize) }))
}

/// Takes whitespace, or the characters of the second argument, off one or both ends.
fn trim(arguments: &[Evaluated<'_>], start: bool, end: bool) -> Outcome {
    let Some(mut result) = text(arguments, 0) else { return Ok(None) };
    let set = if arguments.len() > 1 {
        let Some(set) = text(arguments, 1) else { return Ok(None) };
        Some(set)
    } else {
        None
    };
    let drops = |character: char| set.map_or_else(|| character.is_whitespace(), |set| set.contains(character));
    if start {
        result = result.trim_start_matches(drops);
    }
    if end {
        result = result.trim_end_matches(drops);
    }
    Ok(Some(Value::from(result)))
}

fn join(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((items, separator)) = array(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    let Some(texts) = items.iter().map(Value::as_str).collect::<Option<Vec<&str>>>() else { return Ok(None) };
    context.charge(texts.iter().map(|text| text.len().saturating_add(separator.len())).sum())?;
    Ok(Some(Value::from(texts.join(separator))))
}

fn split(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    let Some((whole, separator)) = text(arguments, 0).zip(text(arguments, 1)) else { return Ok(None) };
    if separator.is_empty() {
        return Ok(Some(Value::from(vec![whole])));
    }
    // Every part is a value of its own.
    context.charge(whole.len() + whole.matches(separator).count() * size_of::<Value>())?;
    Ok(Some(Value::from(whole.split(separator).collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_utf16_code_units_and_no_character_is_split() {
        for (text, start, length, expected) in [
            ("abc", 0, 2, "ab"),
            ("abc", 1, 99, "bc"),
            ("abc", 3, 1, ""),
            ("abc", -1, 2, ""),
            ("abc", 0, -2, ""),
            ("a😀b", 1, 2, "😀"),
            ("a😀b", 2, 2, "b"),
            ("a😀b", 1, 1, ""),
            ("a😀b", 3, i64::MAX, "b"),
            ("日本語", 1, 1, "本"),
            ("", 0, 1, ""),
        ] {
            assert_eq!(cut(text, start, length), Value::from(expected), "{text:?} from {start}, {length} units");
        }
        assert_eq!(units("a😀b"), 4);
    }

    #[test]
    fn casing_is_one_to_one() {
        assert_eq!("straße İ".chars().map(upper).collect::<String>(), "STRAßE İ");
        assert_eq!(folded("ÀÉÎ"), folded("àéî"));
    }
}
