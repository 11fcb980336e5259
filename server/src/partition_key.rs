//! Partition keys: definitions and values.
//!
//! Owns what a container's `partitionKey` may say, and how a key is read from a header or from an item. It does no I/O;
//! the hashing is `epk`'s and the storage keys are `item_key`'s.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::document::{self, Body};
use crate::epk;

/// Longest partition key value, in bytes of UTF-8.
const MAX_VALUE_BYTES: usize = 2048;
/// Most paths of a hierarchical partition key.
const MAX_PATHS: usize = 3;

/// Why a partition key or its definition was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionKeyError(pub(crate) String);

impl fmt::Display for PartitionKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PartitionKeyError {}

/// How a container's partition key is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartitionKeyKind {
    /// One path.
    Hash,
    /// Up to three paths, each hashed for itself.
    MultiHash,
}

/// Where in an item its partition key stands; the `partitionKey` of a container on the wire and in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub(crate) struct PartitionKeyDefinition {
    paths: Vec<Path>,
    kind: PartitionKeyKind,
    /// `None` is V1, asked for by leaving the version out, and must be read back without one.
    version: Option<u8>,
}

/// One path: as it was written, and the names it passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    segments: Vec<String>,
}

/// The shape of a definition in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wire {
    paths: Vec<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

impl TryFrom<Wire> for PartitionKeyDefinition {
    type Error = PartitionKeyError;

    fn try_from(wire: Wire) -> Result<Self, PartitionKeyError> {
        let refuse = |what: String| Err(PartitionKeyError(format!("partitionKey: {what}")));
        let kind = match wire.kind.as_deref() {
            None | Some("Hash") => PartitionKeyKind::Hash,
            Some("MultiHash") => PartitionKeyKind::MultiHash,
            Some(other) => return refuse(format!("kind `{other}` is not supported, only `Hash` and `MultiHash`")),
        };
        let version = match (wire.version, kind) {
            // Hierarchical keys exist in V2 only. Saying so keeps clients from hashing them by V1, the default.
            (None, PartitionKeyKind::MultiHash) => Some(2),
            (None, PartitionKeyKind::Hash) => None,
            (Some(1), PartitionKeyKind::MultiHash) => return refuse("kind `MultiHash` needs version 2".to_owned()),
            (Some(1), PartitionKeyKind::Hash) => Some(1),
            (Some(2), _) => Some(2),
            (Some(other), _) => return refuse(format!("version {other} is not supported, only 1 and 2")),
        };
        match (kind, wire.paths.len()) {
            (PartitionKeyKind::Hash, 1) | (PartitionKeyKind::MultiHash, 1..=MAX_PATHS) => {}
            (PartitionKeyKind::Hash, count) => {
                return refuse(format!(
                    "kind `Hash` takes one path, not {count}; hierarchical keys need kind `MultiHash`"
                ));
            }
            (PartitionKeyKind::MultiHash, count) => {
                return refuse(format!("kind `MultiHash` takes one to {MAX_PATHS} paths, not {count}"));
            }
        }
        let paths = wire.paths.into_iter().map(Path::parse).collect::<Result<_, _>>()?;
        Ok(PartitionKeyDefinition { paths, kind, version })
    }
}

impl From<PartitionKeyDefinition> for Wire {
    fn from(definition: PartitionKeyDefinition) -> Wire {
        let kind = match definition.kind {
            PartitionKeyKind::Hash => "Hash",
            PartitionKeyKind::MultiHash => "MultiHash",
        };
        Wire {
            paths: definition.paths.into_iter().map(|path| path.text).collect(),
            kind: Some(kind.to_owned()),
            version: definition.version.map(u64::from),
        }
    }
}

impl PartitionKeyDefinition {
    /// Returns the names that each path passes through, in the order of the paths.
    pub(crate) fn paths(&self) -> impl ExactSizeIterator<Item = &[String]> {
        self.paths.iter().map(|path| path.segments.as_slice())
    }

    /// True if `key` has a value for every path, as the key of an item must; the key `[]` never does.
    pub(crate) fn is_full(&self, key: &PartitionKey) -> bool {
        key.0.len() == self.paths.len()
    }

    /// True if `key` begins hierarchical keys without being one.
    pub(crate) fn is_prefix(&self, key: &PartitionKey) -> bool {
        self.kind == PartitionKeyKind::MultiHash && (1..self.paths.len()).contains(&key.0.len())
    }

    /// The effective partition key at `index` of `count` equal parts of the key space.
    pub(crate) fn share_of_key_space(&self, index: u32, count: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match (self.kind, self.version) {
            (PartitionKeyKind::MultiHash, _) | (PartitionKeyKind::Hash, Some(2)) => {
                epk::write_v2_share(index, count, &mut out);
            }
            (PartitionKeyKind::Hash, _) => epk::write_v1_share(index, count, &mut out),
        }
        out
    }

    /// Appends the effective partition key.
    pub(crate) fn write_epk(&self, components: &[Component], out: &mut Vec<u8>) {
        match (self.kind, self.version) {
            (PartitionKeyKind::MultiHash, _) => epk::write_hierarchical(components, out),
            (PartitionKeyKind::Hash, Some(2)) => epk::write_v2(components, out),
            (PartitionKeyKind::Hash, _) => epk::write_v1(components, out),
        }
    }
}

impl Path {
    /// The names that the path passes through.
    pub(crate) fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Takes a path apart. A segment may stand in quotes of either kind, and then hold anything, slashes too; what is
    /// between them is the name as it is, backslashes included, because that is how SDKs look it up.
    pub(crate) fn parse(text: String) -> Result<Path, PartitionKeyError> {
        let refuse = |what: &str| PartitionKeyError(format!("partitionKey: path `{text}` {what}"));
        let mut segments = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            rest = rest.strip_prefix('/').ok_or_else(|| refuse("must have a `/` before every segment"))?;
            let segment = match rest.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = &rest[1..];
                    let end = closing_quote(inner, quote).ok_or_else(|| refuse("has a quote that is not closed"))?;
                    rest = &inner[end + 1..];
                    &inner[..end]
                }
                _ => {
                    let (segment, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                    rest = after;
                    segment.trim()
                }
            };
            if segment.is_empty() {
                return Err(refuse("has an empty segment"));
            }
            segments.push(segment.to_owned());
        }
        if segments.is_empty() {
            return Err(refuse("is empty"));
        }
        Ok(Path { text, segments })
    }
}

/// Finds the quote that ends a segment: one that no backslash escapes.
fn closing_quote(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (offset, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(offset),
            _ => {}
        }
    }
    None
}

/// One value of a partition key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Component {
    /// The item has nothing at the path; `{}` in a header.
    Undefined,
    /// JSON null.
    Null,
    /// JSON true or false.
    Bool(bool),
    /// A number: finite, and never minus zero.
    Number(f64),
    /// A string.
    String(String),
}

impl Component {
    /// The value in JSON, if there is one.
    pub(crate) fn value(&self) -> Option<serde_json::Value> {
        Some(match self {
            Component::Undefined => return None,
            Component::Null => serde_json::Value::Null,
            Component::Bool(value) => (*value).into(),
            Component::Number(value) => (*value).into(),
            Component::String(value) => value.as_str().into(),
        })
    }
}

/// The partition key of an item: a value for each path. With none it is the key `[]`; with fewer than there are paths, the
/// beginning of hierarchical keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartitionKey(pub(crate) Vec<Component>);

/// Reads an `x-ms-documentdb-partitionkey` header: `["a"]`, `[1]`, `[null]`, `[{}]` for undefined, `["t","u"]`, or `[]`.
pub(crate) fn parse_header(header: &str) -> Result<PartitionKey, PartitionKeyError> {
    if let Some(text) = one_plain_string(header) {
        return Ok(PartitionKey(vec![Component::String(text.to_owned())]));
    }
    let values: Vec<&RawValue> = serde_json::from_str(header).map_err(|error| {
        PartitionKeyError(format!("the partition key `{}` is not a JSON array of values: {error}", shortened(header)))
    })?;
    if values.len() > MAX_PATHS {
        return Err(PartitionKeyError(format!(
            "the partition key has {} values; there can be at most {MAX_PATHS}",
            values.len()
        )));
    }
    let components = values.into_iter().map(|value| {
        component(value)?.ok_or_else(|| {
            PartitionKeyError(format!(
                "the partition key has {} among its values; a value is a string, a number, a boolean, null, or {{}} for undefined",
                document::kind_of(value.get())
            ))
        })
    });
    Ok(PartitionKey(components.collect::<Result<_, _>>()?))
}

/// The string in a header such as `["a"]`, if it has nothing in it that takes reading: most keys are of that kind.
fn one_plain_string(header: &str) -> Option<&str> {
    let text = header.strip_prefix("[\"")?.strip_suffix("\"]")?;
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    (text.len() <= MAX_VALUE_BYTES && text.bytes().all(is_plain)).then_some(text)
}

/// Reads the partition key that an item's own members give it.
///
/// What is missing is undefined, and so is an object or an array at the end of the path: SDKs send `{}` for those.
pub(crate) fn extract(definition: &PartitionKeyDefinition, body: &Body<'_>) -> Result<PartitionKey, PartitionKeyError> {
    let components = definition.paths.iter().map(|path| match find(body, &path.segments) {
        Some(value) => Ok(component(value)?.unwrap_or(Component::Undefined)),
        None => Ok(Component::Undefined),
    });
    Ok(PartitionKey(components.collect::<Result<_, _>>()?))
}

/// The value at the end of a path, if there is one.
pub(crate) fn find<'a>(body: &Body<'a>, segments: &[String]) -> Option<&'a RawValue> {
    let (first, rest) = segments.split_first()?;
    let mut value = body.get(first)?;
    for segment in rest {
        // Anything but an object has no members, so nothing is there.
        let members: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
        value = members.get(segment)?;
    }
    Some(value)
}

/// Reads one value, or `None` if it is of a kind that no partition key has.
fn component(value: &RawValue) -> Result<Option<Component>, PartitionKeyError> {
    let text = value.get();
    let unreadable = |error: serde_json::Error| {
        PartitionKeyError(format!("the partition key value `{}` cannot be read: {error}", shortened(text)))
    };
    Ok(Some(match text.as_bytes().first() {
        Some(b'n') => Component::Null,
        Some(b't') => Component::Bool(true),
        Some(b'f') => Component::Bool(false),
        Some(b'"') => {
            let string: String = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(inner) if !inner.contains('\\') => inner.to_owned(),
                _ => serde_json::from_str(text).map_err(unreadable)?,
            };
            if string.len() > MAX_VALUE_BYTES {
                return Err(PartitionKeyError(format!(
                    "the partition key value has {} bytes, more than the {MAX_VALUE_BYTES} allowed",
                    string.len()
                )));
            }
            Component::String(string)
        }
        Some(b'[') => return Ok(None),
        Some(b'{') if text.bytes().any(|byte| byte == b'"') => return Ok(None),
        Some(b'{') => Component::Undefined,
        // Adding zero turns minus zero into zero: they are equal, so they are one key.
        _ => Component::Number(serde_json::from_str::<f64>(text).map_err(unreadable)? + 0.0),
    }))
}

/// Enough of a text to recognise it in a message.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

impl PartitionKey {
    /// Writes the key as a header carries it: JSON in ASCII.
    pub(crate) fn to_header(&self) -> String {
        let mut header = String::from("[");
        for component in &self.0 {
            if header.len() > 1 {
                header.push(',');
            }
            match component {
                Component::Undefined => header.push_str("{}"),
                Component::Null => header.push_str("null"),
                Component::Bool(value) => header.push_str(if *value { "true" } else { "false" }),
                Component::Number(number) => header.push_str(&number.to_string()),
                Component::String(text) => push_ascii_string(&mut header, text),
            }
        }
        header.push(']');
        header
    }
}

fn push_ascii_string(header: &mut String, text: &str) {
    header.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => header.extend(['\\', c]),
            ' '..='~' => header.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    header.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    header.push('"');
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    pub(crate) fn definition(value: serde_json::Value) -> PartitionKeyDefinition {
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn v2() -> PartitionKeyDefinition {
        definition(json!({"paths": ["/pk"], "kind": "Hash", "version": 2}))
    }

    pub(crate) fn hierarchical(paths: usize) -> PartitionKeyDefinition {
        let paths = &["/a", "/b", "/c"][..paths];
        definition(json!({"paths": paths, "kind": "MultiHash", "version": 2}))
    }

    #[test]
    fn definitions_read_back_as_they_were_made() {
        for text in [
            r#"{"paths":["/pk"],"kind":"Hash"}"#,
            r#"{"paths":["/pk"],"kind":"Hash","version":1}"#,
            r#"{"paths":["/a/b"],"kind":"Hash","version":2}"#,
            r#"{"paths":["/a","/b","/c"],"kind":"MultiHash","version":2}"#,
        ] {
            let definition: PartitionKeyDefinition = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&definition).unwrap(), text);
        }
        let short: PartitionKeyDefinition = serde_json::from_str(r#"{"paths":["/pk"]}"#).unwrap();
        assert_eq!(serde_json::to_string(&short).unwrap(), r#"{"paths":["/pk"],"kind":"Hash"}"#);
        let unversioned = definition(json!({"paths": ["/a", "/b"], "kind": "MultiHash"}));
        assert_eq!(serde_json::to_value(&unversioned).unwrap()["version"], json!(2));
    }

    #[test]
    fn bad_definitions_are_refused() {
        for (value, part) in [
            (json!({"paths": []}), "not 0"),
            (json!({"paths": ["/a", "/b"]}), "MultiHash"),
            (json!({"paths": ["/a", "/b", "/c", "/d"], "kind": "MultiHash", "version": 2}), "not 4"),
            (json!({"paths": ["/a", "/b"], "kind": "MultiHash", "version": 1}), "version 2"),
            (json!({"paths": ["/a"], "kind": "Range"}), "`Range`"),
            (json!({"paths": ["/a"], "version": 3}), "version 3"),
            (json!({"paths": ["a"]}), "`a` must have a `/`"),
            (json!({"paths": [""]}), "is empty"),
            (json!({"paths": ["/"]}), "empty segment"),
            (json!({"paths": ["/a//b"]}), "empty segment"),
            (json!({"paths": ["/\"a"]}), "not closed"),
            (json!({"paths": ["/\"a\"b"]}), "must have a `/`"),
            (json!({"paths": "/a"}), "expected a sequence"),
            (json!({}), "missing field `paths`"),
        ] {
            let refusal = serde_json::from_value::<PartitionKeyDefinition>(value.clone()).unwrap_err().to_string();
            assert!(refusal.contains(part), "{value}: {refusal}");
        }
    }

    #[test]
    fn quoted_segments_hold_anything() {
        let segments = |path: &str| Path::parse(path.to_owned()).unwrap().segments;
        assert_eq!(segments("/a/ b /c"), ["a", "b", "c"]);
        assert_eq!(segments("/\"a b\"/c"), ["a b", "c"]);
        assert_eq!(segments("/'level\" 1*()'/'le/vel2'"), ["level\" 1*()", "le/vel2"]);
        assert_eq!(segments("/\"level' 1*()\"/\"le/vel2\""), ["level' 1*()", "le/vel2"]);
        assert_eq!(segments(r#"/"a\"b""#), [r#"a\"b"#]);
    }

    #[test]
    fn headers_are_read() {
        let key = |header: &str| parse_header(header).unwrap().0;
        assert_eq!(key(r#"["a"]"#), [Component::String("a".to_owned())]);
        assert_eq!(key(r#" [ "\u00e9" ] "#), [Component::String("é".to_owned())]);
        assert_eq!(key("[1]"), key("[1.0]"));
        assert_eq!(key("[-0.0]"), [Component::Number(0.0)]);
        assert!(matches!(key("[-0]")[..], [Component::Number(zero)] if zero.is_sign_positive()));
        assert_eq!(key("[null]"), [Component::Null]);
        assert_eq!(key("[{}]"), [Component::Undefined]);
        assert_eq!(key("[ { } , true]"), [Component::Undefined, Component::Bool(true)]);
        assert_eq!(key("[]"), []);
    }

    #[test]
    fn bad_headers_are_refused() {
        for (header, part) in [
            ("", "not a JSON array"),
            ("a", "`a` is not a JSON array"),
            ("\"a\"", "not a JSON array"),
            ("[\"a\"", "not a JSON array"),
            ("[NaN]", "not a JSON array"),
            ("[1e999]", "number out of range"),
            ("[[1]]", "an array"),
            ("[{\"a\":1}]", "an object"),
            ("[\"\\ud800\"]", "hex escape"),
            ("[1,2,3,4]", "4 values"),
        ] {
            let refusal = parse_header(header).unwrap_err().to_string();
            assert!(refusal.contains(part), "{header}: {refusal}");
        }
        assert!(parse_header(&format!("[\"{}\"]", "x".repeat(2048))).is_ok());
        assert!(parse_header(&format!("[\"{}\"]", "x".repeat(2049))).unwrap_err().to_string().contains("2049 bytes"));
    }

    #[test]
    fn documents_give_their_keys() {
        let key = |path: &str, body: &str| {
            let definition = definition(json!({"paths": [path], "version": 2}));
            extract(&definition, &Body::parse(body.as_bytes()).unwrap()).unwrap().0.remove(0)
        };
        assert_eq!(key("/pk", r#"{"pk":"x"}"#), Component::String("x".to_owned()));
        assert_eq!(key("/a/b/c", r#"{"a":{"b":{"c":-0.0}}}"#), Component::Number(0.0));
        assert_eq!(key("/a/b", r#"{"a":{"b":1,"b":null}}"#), Component::Null);
        assert_eq!(key("/'le/vel'/b", r#"{"le\/vel":{"\u0062":true}}"#), Component::Bool(true));
        for nothing in [
            "{}",
            r#"{"a":null}"#,
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"b":{}}}"#,
            r#"{"a":{"b":[1]}}"#,
        ] {
            assert_eq!(key("/a/b", nothing), Component::Undefined, "{nothing}");
        }
        let long = format!("{{\"pk\":\"{}\"}}", "x".repeat(2049));
        assert!(extract(&v2(), &Body::parse(long.as_bytes()).unwrap()).is_err());
    }

    #[test]
    fn keys_are_full_or_prefixes() {
        let key = |count: usize| PartitionKey(vec![Component::Null; count]);
        let (one, three) = (v2(), hierarchical(3));
        assert!(one.is_full(&key(1)) && !one.is_prefix(&key(1)));
        assert!(!one.is_full(&key(0)) && !one.is_prefix(&key(0)));
        assert!(!three.is_full(&key(2)) && three.is_prefix(&key(2)) && three.is_prefix(&key(1)));
        assert!(!three.is_prefix(&key(0)) && three.is_full(&key(3)));
    }

    pub(crate) fn any_component() -> impl Strategy<Value = Component> {
        prop_oneof![
            Just("{}".to_owned()),
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(|number| number.to_string()),
            (-3_i8..3).prop_map(|number| number.to_string()),
            prop_oneof!["[a-b\u{0}\u{fe}]{0,3}", ".{0,120}"].prop_map(|text| json!(text).to_string()),
        ]
        .prop_map(|json| parse_header(&format!("[{json}]")).unwrap().0.remove(0))
    }

    proptest! {
        #[test]
        fn headers_read_back(components in prop::collection::vec(any_component(), 0..=3)) {
            let key = PartitionKey(components);
            let header = key.to_header();
            prop_assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", header);
            prop_assert_eq!(parse_header(&header).unwrap(), key);
        }

        #[test]
        fn any_header_is_read_without_a_panic(header in "[\\[\\]{}\",:a-e0-9.+-]{0,24}") {
            if let Ok(key) = parse_header(&header) {
                prop_assert!(key.0.iter().all(|component| !matches!(component, Component::Number(number) if !number.is_finite())));
            }
        }

        #[test]
        fn any_path_is_read_without_a_panic(path in "[/\"'\\\\ a-cé]{0,12}") {
            let _ = Path::parse(path);
        }
    }
}
