//! PATCH bodies: what they may say, and what they make of an item.
//!
//! Owns the operations `add`, `set`, `replace`, `remove`, `incr` and `move`, and their paths. It changes a copy of the item,
//! so a patch that fails half-way leaves nothing behind. It does not evaluate the condition, and does not know which
//! members are the partition key: the caller compares that before and after.

use std::fmt;

use serde_json::{Map, Number, Value};

use crate::document;

/// Most operations of one patch.
const MAX_OPERATIONS: usize = 10;
/// Beyond this, not every whole number is a float.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Why a patch was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatchError(String);

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatchError {}

/// A checked list of operations, and perhaps a condition on the item they are meant for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Patch {
    operations: Vec<Operation>,
    condition: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Operation {
    action: Action,
    path: Pointer,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Add(Value),
    Set(Value),
    Replace(Value),
    Remove,
    Increment(Number),
    Move { from: Pointer },
}

/// A path into an item (RFC 6901): as it was written, and its names with the escapes resolved. Never empty.
#[derive(Debug, Clone, PartialEq)]
struct Pointer {
    text: String,
    parents: Vec<String>,
    last: String,
}

impl Patch {
    /// Reads `[{"op":..}, ..]`, or `{"operations":[..],"condition":".."}`.
    pub(crate) fn parse(body: &[u8]) -> Result<Patch, PatchError> {
        let body = serde_json::from_slice(body)
            .map_err(|error| PatchError(format!("the patch body is not valid JSON: {error}")))?;
        let (operations, condition) = match body {
            Value::Array(operations) => (operations, None),
            Value::Object(mut members) => match (members.remove("operations"), members.remove("condition")) {
                (Some(Value::Array(operations)), None | Some(Value::Null)) => (operations, None),
                (Some(Value::Array(operations)), Some(Value::String(condition))) => (operations, Some(condition)),
                (Some(Value::Array(_)), Some(other)) => {
                    return Err(PatchError(format!(
                        "the patch's `condition` must be a string, not {}",
                        kind_of(&other)
                    )));
                }
                _ => return Err(PatchError("the patch body has no array `operations`".to_owned())),
            },
            other => {
                let kind = kind_of(&other);
                return Err(PatchError(format!("the patch body must be an array or an object, not {kind}")));
            }
        };
        match operations.len() {
            0 => return Err(PatchError("the patch has no operations".to_owned())),
            count if count > MAX_OPERATIONS => {
                return Err(PatchError(format!(
                    "the patch has {count} operations; there can be at most {MAX_OPERATIONS}"
                )));
            }
            _ => {}
        }
        let operations = operations.into_iter().enumerate().map(|(index, operation)| {
            Operation::parse(operation).map_err(|what| PatchError(format!("patch operation {}: {what}", index + 1)))
        });
        Ok(Patch { operations: operations.collect::<Result<_, _>>()?, condition })
    }

    /// Returns the predicate that the item must satisfy, for example `from c where c.stock > 0`.
    pub(crate) fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    /// Returns what the item becomes.
    pub(crate) fn apply(&self, document: &Value) -> Result<Value, PatchError> {
        let mut document = document.clone();
        for (index, operation) in self.operations.iter().enumerate() {
            operation.apply(&mut document).map_err(|what| {
                let (name, path) = (operation.name(), &operation.path.text);
                PatchError(format!("patch operation {} (`{name}` at `{path}`): {what}", index + 1))
            })?;
        }
        Ok(document)
    }
}

impl Operation {
    fn parse(operation: Value) -> Result<Operation, String> {
        let Value::Object(mut members) = operation else {
            return Err(format!("an operation must be an object, not {}", kind_of(&operation)));
        };
        let name = take_string(&mut members, "op")?;
        let path = Pointer::parse(take_string(&mut members, "path")?)?;
        let mut value = || members.remove("value").ok_or_else(|| format!("`{name}` needs a `value`"));
        let action = match name.as_str() {
            "add" => Action::Add(value()?),
            "set" => Action::Set(value()?),
            "replace" => Action::Replace(value()?),
            "remove" => Action::Remove,
            "incr" | "increment" => match value()? {
                Value::Number(by) => Action::Increment(by),
                other => return Err(format!("the `value` of `{name}` must be a number, not {}", kind_of(&other))),
            },
            "move" => {
                let from = Pointer::parse(take_string(&mut members, "from")?)?;
                if path.is_inside(&from) {
                    return Err(format!("`{}` lies inside `{}` and cannot be moved there", path.text, from.text));
                }
                Action::Move { from }
            }
            other => {
                return Err(format!(
                    "`{other}` is not an operation; there are `add`, `set`, `replace`, `remove`, `incr` and `move`"
                ));
            }
        };
        Ok(Operation { action, path })
    }

    fn name(&self) -> &'static str {
        match self.action {
            Action::Add(_) => "add",
            Action::Set(_) => "set",
            Action::Replace(_) => "replace",
            Action::Remove => "remove",
            Action::Increment(_) => "incr",
            Action::Move { .. } => "move",
        }
    }

    fn apply(&self, document: &mut Value) -> Result<(), String> {
        match &self.action {
            Action::Add(value) => insert(document, &self.path, value.clone()),
            Action::Set(value) => match self.path.parent(document)? {
                // The one difference from `add`: an element that is there is replaced instead of moved up.
                Parent::Array(array) if self.path.last != "-" => {
                    let index = element(array, &self.path.last)?;
                    array[index] = value.clone();
                    Ok(())
                }
                _ => insert(document, &self.path, value.clone()),
            },
            Action::Replace(value) => {
                *self.path.target(document)? = value.clone();
                Ok(())
            }
            Action::Remove => remove(document, &self.path).map(drop),
            Action::Increment(by) => match self.path.parent(document)? {
                Parent::Object(members) if !members.contains_key(&self.path.last) => {
                    members.insert(self.path.last.clone(), Value::Number(by.clone()));
                    Ok(())
                }
                _ => {
                    let target = self.path.target(document)?;
                    let Value::Number(number) = target else {
                        return Err(format!("only a number can be incremented, and there is {}", kind_of(target)));
                    };
                    *number = sum(number, by)?;
                    Ok(())
                }
            },
            Action::Move { from } if from == &self.path => from.target(document).map(drop),
            Action::Move { from } => {
                let value = remove(document, from).map_err(|what| format!("from `{}`: {what}", from.text))?;
                insert(document, &self.path, value)
            }
        }
    }
}

/// What a path's last name is a name in.
enum Parent<'a> {
    Object(&'a mut Map<String, Value>),
    Array(&'a mut Vec<Value>),
}

impl Pointer {
    fn parse(text: String) -> Result<Pointer, String> {
        let mut tokens = match text.strip_prefix('/') {
            Some(tokens) => tokens.split('/').map(unescape).collect::<Option<Vec<_>>>(),
            None => return Err(format!("path `{text}` does not begin with `/`")),
        }
        .ok_or_else(|| format!("path `{text}` has a `~` that is not part of `~0` or `~1`"))?;
        // Splitting gives one token at least.
        let last = tokens.pop().unwrap_or_default();

        let first = tokens.first().unwrap_or(&last);
        if first == "id" || document::is_system_property(first) {
            return Err(format!("`/{first}` cannot be patched"));
        }
        Ok(Pointer { text, parents: tokens, last })
    }

    /// True if the path leads into what `other` points to.
    fn is_inside(&self, other: &Pointer) -> bool {
        self.parents.len() > other.parents.len()
            && self.parents.starts_with(&other.parents)
            && self.parents[other.parents.len()] == other.last
    }

    fn parent<'a>(&self, document: &'a mut Value) -> Result<Parent<'a>, String> {
        let mut value = document;
        for name in &self.parents {
            value = match value {
                Value::Object(members) => {
                    members.get_mut(name).ok_or_else(|| format!("there is no `{name}` on the way"))?
                }
                Value::Array(array) => {
                    let index = element(array, name)?;
                    &mut array[index]
                }
                other => return Err(format!("`{name}` would have to be inside {}", kind_of(other))),
            };
        }
        match value {
            Value::Object(members) => Ok(Parent::Object(members)),
            Value::Array(array) => Ok(Parent::Array(array)),
            other => Err(format!("`{}` would have to be inside {}", self.last, kind_of(other))),
        }
    }

    fn target<'a>(&self, document: &'a mut Value) -> Result<&'a mut Value, String> {
        match self.parent(document)? {
            Parent::Object(members) => members.get_mut(&self.last).ok_or_else(|| NOTHING.to_owned()),
            Parent::Array(array) => {
                let index = element(array, &self.last)?;
                Ok(&mut array[index])
            }
        }
    }
}

const NOTHING: &str = "there is nothing at this path";

fn insert(document: &mut Value, path: &Pointer, value: Value) -> Result<(), String> {
    match path.parent(document)? {
        Parent::Object(members) => {
            members.insert(path.last.clone(), value);
        }
        Parent::Array(array) if path.last == "-" => array.push(value),
        Parent::Array(array) => {
            let index = index(&path.last)?;
            if index > array.len() {
                return Err(format!(
                    "index {index} is beyond the end of the array, which has {} elements",
                    array.len()
                ));
            }
            array.insert(index, value);
        }
    }
    Ok(())
}

fn remove(document: &mut Value, path: &Pointer) -> Result<Value, String> {
    match path.parent(document)? {
        // The order of what stays is kept.
        Parent::Object(members) => members.shift_remove(&path.last).ok_or_else(|| NOTHING.to_owned()),
        Parent::Array(array) => {
            let index = element(array, &path.last)?;
            Ok(array.remove(index))
        }
    }
}

/// Reads the index of an element that is there.
fn element(array: &[Value], name: &str) -> Result<usize, String> {
    match index(name)? {
        index if index < array.len() => Ok(index),
        index => Err(format!("there is no index {index} in the array, which has {} elements", array.len())),
    }
}

fn index(name: &str) -> Result<usize, String> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let index = if digits { name.parse().ok() } else { None };
    index.ok_or_else(|| format!("`{name}` is not the index of an array's element"))
}

fn unescape(token: &str) -> Option<String> {
    let mut name = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        name.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

/// Adds two numbers: whole ones exactly, others as floats.
fn sum(number: &Number, by: &Number) -> Result<Number, String> {
    if let (Some(a), Some(b)) = (whole(number), whole(by)) {
        let sum = a + b;
        return i64::try_from(sum)
            .map(Number::from)
            .or_else(|_| u64::try_from(sum).map(Number::from))
            .map_err(|_| format!("the sum {sum} does not fit 64 bits"));
    }
    let sum = number.as_f64().unwrap_or(f64::NAN) + by.as_f64().unwrap_or(f64::NAN);
    // The service writes a float that is whole as `3`, not as `3.0`.
    if sum.fract() == 0.0 && sum.abs() <= MAX_EXACT_FLOAT {
        return Ok(Number::from(sum as i64));
    }
    Number::from_f64(sum).ok_or_else(|| "the sum is beyond what a number can be".to_owned())
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn take_string(members: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{name}` must be a string, not {}", kind_of(&other))),
        None => Err(format!("there is no `{name}`")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<Patch, PatchError> {
        Patch::parse(&serde_json::to_vec(body).unwrap())
    }

    fn patched(document: &Value, operations: &Value) -> Value {
        parse(operations).unwrap().apply(document).unwrap()
    }

    /// The refusal of one operation, when it is read or when it is applied.
    fn refusal(document: &Value, operation: &Value) -> String {
        match parse(&json!([operation])) {
            Ok(patch) => patch.apply(document).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_operation_at_once() {
        let document = json!({
            "id": "i", "prop": "prop1", "address": {"city": "Redmond"}, "company": "Microsoft", "number": 3
        });
        let operations = json!([
            {"op": "add", "path": "/color", "value": "yellow"},
            {"op": "remove", "path": "/prop"},
            {"op": "replace", "path": "/company", "value": "CosmosDB"},
            {"op": "set", "path": "/address/new_city", "value": "Atlanta"},
            {"op": "incr", "path": "/number", "value": 7},
            {"op": "move", "from": "/color", "path": "/favorite_color"}
        ]);
        let expected = r#"{"id":"i","address":{"city":"Redmond","new_city":"Atlanta"},"company":"CosmosDB","number":10,"favorite_color":"yellow"}"#;
        assert_eq!(patched(&document, &operations).to_string(), expected);
        assert_eq!(patched(&document, &json!({"operations": operations})).to_string(), expected);
    }

    #[test]
    fn conditions_are_kept() {
        let operations = json!([{"op": "remove", "path": "/a"}]);
        let condition = |body: &Value| parse(body).unwrap().condition().map(str::to_owned);
        assert_eq!(condition(&operations), None);
        assert_eq!(condition(&json!({"operations": operations, "condition": null})), None);
        let predicate = "from c where c.a = 1";
        assert_eq!(condition(&json!({"operations": operations, "condition": predicate})), Some(predicate.to_owned()));
    }

    #[test]
    fn arrays_are_patched_by_index() {
        let document = json!({"a": [1, 2, 3]});
        for (operation, expected) in [
            (json!({"op": "add", "path": "/a/0", "value": 0}), json!([0, 1, 2, 3])),
            (json!({"op": "add", "path": "/a/3", "value": 4}), json!([1, 2, 3, 4])),
            (json!({"op": "add", "path": "/a/-", "value": 4}), json!([1, 2, 3, 4])),
            (json!({"op": "set", "path": "/a/1", "value": null}), json!([1, null, 3])),
            (json!({"op": "set", "path": "/a/-", "value": 4}), json!([1, 2, 3, 4])),
            (json!({"op": "replace", "path": "/a/2", "value": 9}), json!([1, 2, 9])),
            (json!({"op": "remove", "path": "/a/0"}), json!([2, 3])),
            (json!({"op": "incr", "path": "/a/0", "value": 1}), json!([2, 2, 3])),
            (json!({"op": "move", "from": "/a/0", "path": "/a/-"}), json!([2, 3, 1])),
            (json!({"op": "move", "from": "/a/2", "path": "/a/0"}), json!([3, 1, 2])),
        ] {
            assert_eq!(patched(&document, &json!([operation]))["a"], expected, "{operation}");
        }
        for (operation, part) in [
            (
                json!({"op": "add", "path": "/a/4", "value": 0}),
                "index 4 is beyond the end of the array, which has 3 elements",
            ),
            (json!({"op": "set", "path": "/a/3", "value": 0}), "no index 3"),
            (json!({"op": "replace", "path": "/a/-", "value": 0}), "`-` is not the index"),
            (json!({"op": "remove", "path": "/a/03"}), "`03` is not the index"),
            (json!({"op": "remove", "path": "/a/"}), "`` is not the index"),
            (json!({"op": "remove", "path": "/a/+1"}), "`+1` is not the index"),
            (json!({"op": "remove", "path": "/a/99999999999999999999"}), "is not the index"),
            (json!({"op": "incr", "path": "/a/3", "value": 0}), "no index 3"),
        ] {
            let refusal = refusal(&document, &operation);
            assert!(refusal.contains(part), "{operation}: {refusal}");
        }
    }

    #[test]
    fn increments_keep_whole_numbers_whole() {
        for (number, by, expected) in [
            ("1", "2", "3"),
            ("1", "-2", "-1"),
            ("9007199254740993", "1", "9007199254740994"),
            ("18446744073709551614", "1", "18446744073709551615"),
            ("1", "0.5", "1.5"),
            ("1.5", "1", "2.5"),
            ("2.5", "0.5", "3"),
            ("1e300", "1", "1e+300"),
        ] {
            let document = serde_json::from_str(&format!("{{\"n\":{number}}}")).unwrap();
            let operation = format!("[{{\"op\":\"incr\",\"path\":\"/n\",\"value\":{by}}}]");
            let patched = Patch::parse(operation.as_bytes()).unwrap().apply(&document).unwrap();
            assert_eq!(patched["n"].to_string(), expected, "{number} + {by}");
        }
        let created = patched(&json!({}), &json!([{"op": "incr", "path": "/n", "value": 5}]));
        assert_eq!(created, json!({"n": 5}), "a missing member starts at zero");
        let overflow = refusal(&json!({"n": u64::MAX}), &json!({"op": "incr", "path": "/n", "value": 1}));
        assert!(overflow.contains("does not fit 64 bits"), "{overflow}");
        let infinite = refusal(&json!({"n": f64::MAX}), &json!({"op": "incr", "path": "/n", "value": f64::MAX}));
        assert!(infinite.contains("beyond what a number can be"), "{infinite}");
    }

    #[test]
    fn escapes_in_paths_are_resolved() {
        let document = json!({"a/b": {"~": 1, "": 2}});
        assert_eq!(patched(&document, &json!([{"op": "remove", "path": "/a~1b/~0"}])), json!({"a/b": {"": 2}}));
        assert_eq!(
            patched(&document, &json!([{"op": "set", "path": "/a~1b/", "value": 3}])),
            json!({"a/b": {"~": 1, "": 3}})
        );
    }

    #[test]
    fn moves_are_renames() {
        let document = json!({"a": {"b": 1}, "c": 2});
        assert_eq!(
            patched(&document, &json!([{"op": "move", "from": "/a/b", "path": "/c"}])),
            json!({"a": {}, "c": 1})
        );
        assert_eq!(patched(&document, &json!([{"op": "move", "from": "/a", "path": "/a"}])), document);
        assert_eq!(patched(&document, &json!([{"op": "move", "from": "/a/b", "path": "/a"}])), json!({"a": 1, "c": 2}));
    }

    #[test]
    fn refusals_name_the_operation_and_the_mistake() {
        let document = json!({"id": "i", "a": {"b": "text"}});
        let cases = r#"
            {"op":"replace","path":"/x","value":1}        (`replace` at `/x`): there is nothing at this path
            {"op":"remove","path":"/x"}                   (`remove` at `/x`): there is nothing at this path
            {"op":"incr","path":"/a/b","value":1}         (`incr` at `/a/b`): only a number can be incremented, and there is a string
            {"op":"move","from":"/x","path":"/y"}         (`move` at `/y`): from `/x`: there is nothing at this path
            {"op":"move","from":"/x","path":"/x"}         (`move` at `/x`): there is nothing at this path
            {"op":"add","path":"/x/y","value":1}          (`add` at `/x/y`): there is no `x` on the way
            {"op":"add","path":"/a/b/c","value":1}        (`add` at `/a/b/c`): `c` would have to be inside a string
            {"op":"add","path":"/a/b/c/d","value":1}      (`add` at `/a/b/c/d`): `c` would have to be inside a string
            {"op":"set","path":"/id","value":"j"}         : `/id` cannot be patched
            {"op":"remove","path":"/_etag"}               : `/_etag` cannot be patched
            {"op":"move","from":"/_ts","path":"/t"}       : `/_ts` cannot be patched
            {"op":"move","from":"/a","path":"/a/b"}       : `/a/b` lies inside `/a` and cannot be moved there
            {"op":"add","path":"","value":{}}             : path `` does not begin with `/`
            {"op":"add","path":"a","value":1}             : path `a` does not begin with `/`
            {"op":"add","path":"/a~2","value":1}          : path `/a~2` has a `~` that is not part of `~0` or `~1`
            {"op":"add","path":"/x"}                      : `add` needs a `value`
            {"op":"incr","path":"/x","value":"1"}         : the `value` of `incr` must be a number, not a string
            {"op":"move","path":"/x"}                     : there is no `from`
            {"path":"/x"}                                 : there is no `op`
            {"op":1}                                      : `op` must be a string, not a number
            "add"                                         : an operation must be an object, not a string
        "#;
        for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
            let (operation, expected) = case.split_once("  ").unwrap();
            let refusal = refusal(&document, &serde_json::from_str(operation).unwrap());
            let spaced = if expected.trim_start().starts_with('(') { " " } else { "" };
            assert_eq!(refusal, format!("patch operation 1{spaced}{}", expected.trim_start()), "{operation}");
        }
        let unknown = refusal(&document, &json!({"op": "test", "path": "/x", "value": 1}));
        assert!(unknown.contains("`test` is not an operation"), "{unknown}");
    }

    #[test]
    fn bodies_are_checked() {
        let operation = json!({"op": "set", "path": "/a", "value": 1});
        let many = |count: usize| json!(vec![operation.clone(); count]);
        assert!(parse(&many(10)).is_ok());
        for (body, part) in [
            (many(11), "11 operations; there can be at most 10"),
            (many(0), "no operations"),
            (json!({}), "no array `operations`"),
            (json!({"operations": {}}), "no array `operations`"),
            (json!({"operations": [], "condition": 1}), "must be a string, not a number"),
            (json!(null), "must be an array or an object, not null"),
        ] {
            let refusal = parse(&body).unwrap_err().to_string();
            assert!(refusal.contains(part), "{body}: {refusal}");
        }
        assert!(Patch::parse(b"[").unwrap_err().to_string().contains("not valid JSON"));
        assert!(Patch::parse(b"").is_err());
    }

    fn any_document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!(null)), any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)];
        let any = leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[ab]", inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::vec(("[ab]", any), 0..3).prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    fn any_operation() -> impl Strategy<Value = Value> {
        let path = "(/([ab01-]|~[01])){1,3}";
        let name = prop::sample::select(vec!["add", "set", "replace", "remove", "incr", "move"]);
        (name, path, path, any_document(), any::<i64>(), any::<bool>()).prop_map(|(op, path, from, value, by, number)| {
            json!({"op": op, "path": path, "from": from, "value": if number { json!(by) } else { value }})
        })
    }

    proptest! {
        #[test]
        fn any_patch_ends_in_an_object_or_a_refusal(document in any_document(), operations in prop::collection::vec(any_operation(), 1..4)) {
            if let Ok(patched) = parse(&json!(operations)).and_then(|patch| patch.apply(&document)) {
                prop_assert!(patched.is_object());
            }
        }

        #[test]
        fn what_was_added_can_be_removed(document in any_document(), path in "(/[ab]){1,3}", value in any::<i64>()) {
            let add = parse(&json!([{"op": "add", "path": path, "value": value}])).unwrap();
            if let Ok(added) = add.apply(&document) {
                prop_assert_eq!(added.pointer(&path), Some(&json!(value)));
                let removed = patched(&added, &json!([{"op": "remove", "path": path}]));
                prop_assert_eq!(removed.pointer(&path), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Patch::parse(&body);
        }
    }
}
