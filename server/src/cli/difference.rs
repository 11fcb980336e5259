//! What differs between two documents, path by path.
//!
//! Works on the text as it was stored, so that a number whose digits changed is a change. Knows nothing of versions.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::text::Members;

/// Below this depth values are compared as text.
const DEPTH_MAX: usize = 128;

/// A place that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// Where, as a JSON pointer: `/address/lines/0`.
    pub(super) path: String,
    /// What was there; `None` if nothing was.
    #[serde(serialize_with = "raw", skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
    /// What is there; `None` if nothing is.
    #[serde(serialize_with = "raw", skip_serializing_if = "Option::is_none")]
    pub(super) is: Option<String>,
}

/// JSON inside of JSON, not as text.
fn raw<S: serde::Serializer>(json: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = json.clone().map(RawValue::from_string).transpose().map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
}

/// The places where two JSON texts differ, members called one of `ignored` at the top left out. Elements of arrays are
/// told apart after what both have in common at the beginning and the end.
pub(super) fn changes(was: &str, is: &str, ignored: &[&str]) -> Result<Vec<Change>, serde_json::Error> {
    let (was, is): (&RawValue, &RawValue) = (serde_json::from_str(was)?, serde_json::from_str(is)?);
    let mut changes = Vec::new();
    walk(&mut String::new(), was, is, 0, &mut changes);
    changes.retain(|change| !ignored.iter().any(|name| change.path.strip_prefix('/') == Some(*name)));
    Ok(changes)
}

fn walk(path: &mut String, was: &RawValue, is: &RawValue, depth: usize, changes: &mut Vec<Change>) {
    if was.get() == is.get() {
        return;
    }
    if depth < DEPTH_MAX {
        if let (Some(Members(old)), Some(Members(new))) = (read::<Members<'_>>(was), read::<Members<'_>>(is)) {
            members(path, &old, &new, depth, changes);
            return;
        }
        if let (Some(old), Some(new)) = (read::<Vec<&RawValue>>(was), read::<Vec<&RawValue>>(is)) {
            elements(path, &old, &new, depth, changes);
            return;
        }
    }
    if !is_same(was, is, DEPTH_MAX) {
        push(path, Some(was), Some(is), changes);
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// Whether nothing differs: in one pass, where `walk` looks at elements again at every level.
fn is_same(was: &RawValue, is: &RawValue, depth: usize) -> bool {
    if was.get() == is.get() {
        return true;
    }
    if depth < DEPTH_MAX {
        if let (Some(Members(old)), Some(Members(new))) = (read::<Members<'_>>(was), read::<Members<'_>>(is)) {
            let new: HashMap<&str, &RawValue> = new.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let same = |(name, value): &(String, &RawValue)| {
                new.get(name.as_str()).is_some_and(|now| is_same(value, now, depth + 1))
            };
            return old.len() == new.len() && old.iter().all(same);
        }
        if let (Some(old), Some(new)) = (read::<Vec<&RawValue>>(was), read::<Vec<&RawValue>>(is)) {
            return old.len() == new.len() && old.iter().zip(&new).all(|(was, is)| is_same(was, is, depth + 1));
        }
    }
    let text = read::<String>(was);
    text.is_some() && text == read::<String>(is)
}

fn members(
    path: &mut String,
    old: &[(String, &RawValue)],
    new: &[(String, &RawValue)],
    depth: usize,
    changes: &mut Vec<Change>,
) {
    let before: HashMap<&str, &RawValue> = old.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let after: HashMap<&str, &RawValue> = new.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for (name, value) in old {
        at(path, name, |path| match after.get(name.as_str()) {
            Some(now) => walk(path, value, now, depth + 1, changes),
            None => push(path, Some(value), None, changes),
        });
    }
    for (name, value) in new.iter().filter(|(name, _)| !before.contains_key(name.as_str())) {
        at(path, name, |path| push(path, None, Some(value), changes));
    }
}

fn elements(path: &mut String, old: &[&RawValue], new: &[&RawValue], depth: usize, changes: &mut Vec<Change>) {
    let head = old.iter().zip(new).take_while(|(was, is)| is_same(was, is, depth + 1)).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(was, is)| is_same(was, is, depth + 1)).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    for number in 0..old.len().max(new.len()) {
        at(path, &(head + number).to_string(), |path| match (old.get(number), new.get(number)) {
            (Some(was), Some(is)) => walk(path, was, is, depth + 1, changes),
            (was, is) => push(path, was.copied(), is.copied(), changes),
        });
    }
}

/// Lets `visit` see the path one step further down.
fn at(path: &mut String, name: &str, visit: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&name.replace('~', "~0").replace('/', "~1"));
    visit(path);
    path.truncate(length);
}

fn push(path: &str, was: Option<&RawValue>, is: Option<&RawValue>, changes: &mut Vec<Change>) {
    let text = |value: Option<&RawValue>| value.map(|value| value.get().to_owned());
    changes.push(Change { path: path.to_owned(), was: text(was), is: text(is) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `path was is`, with a dash for what is not there.
    fn shown(was: &str, is: &str) -> Vec<String> {
        let word = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let changes = changes(was, is, &["_ts"]).unwrap();
        changes.into_iter().map(|change| format!("{} {} {}", change.path, word(change.was), word(change.is))).collect()
    }

    #[test]
    fn members_change_come_and_go() {
        let was = r#"{"id":"a","price":1,"old":true,"in":{"x":[1]},"_ts":1}"#;
        let is = r#"{"id":"\u0061", "new":null, "price":1.0,"in":{ "x":[ 1 ],"a/b~":2},"_ts":2}"#;
        assert_eq!(shown(was, is), ["/price 1 1.0", "/old true -", "/in/a~1b~0 - 2", "/new - null"]);
        assert_eq!(shown(was, was), [""; 0]);
    }

    #[test]
    fn an_element_put_in_the_middle_is_one_change() {
        assert_eq!(shown("[1,2,3]", "[1,9,2,3]"), ["/1 - 9"]);
        assert_eq!(shown("[1,2,3]", "[2,3]"), ["/0 1 -"]);
        assert_eq!(shown("[1,{\"a\":1},3]", "[1,{\"a\":2},3]"), ["/1/a 1 2"]);
        assert_eq!(shown("[]", "{}"), [" [] {}"]);
    }

    #[test]
    fn digits_that_a_float_would_lose_are_a_change() {
        assert_eq!(shown("12345678901234567890123", "12345678901234567890124").len(), 1);
    }

    #[test]
    fn a_deep_document_ends() {
        // Twice as much work for each level would not end.
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(1_000), "]".repeat(1_000));
        let changes = changes(&deep("1"), &deep("2"), &[]).unwrap();
        assert_eq!((changes.len(), changes[0].path.len()), (1, 2 * DEPTH_MAX));
    }
}
