//! An item's JSON as text, so that numbers, spacing and the order of members survive byte for byte.
//!
//! Owns the checks an item must pass before it is stored, the removal of system properties on the way in and their
//! insertion on the way out. It never builds a tree of values: what the user wrote is what is kept and given back.
//! Whatever [`Body::parse`] accepts, `serde_json` can read as a `Value`, so later readers need no error path of their own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep objects and arrays may nest, the item itself being level one.
///
/// The service documents 128. Readers here are `serde_json`, which refuses the 128th level, and an item that could be
/// stored but not queried would be worse than one refused.
pub(crate) const MAX_DEPTH: usize = 127;

/// Longest item id in bytes of UTF-8.
pub(crate) const MAX_ID_BYTES: usize = 1023;

/// What the server writes itself; a client that sends an item back as it read it sends these too.
const SYSTEM_PROPERTIES: [&str; 6] = ["_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"];

/// `serde_json` takes an object whose first member has this name for JSON inside a string, when it reads a `Value`.
const RAW_VALUE_TOKEN: &str = "$serde_json::private::RawValue";

/// Why a body or an id was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyError(String);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BodyError {}

/// True for the names that the server owns in every item.
pub(crate) fn is_system_property(name: &str) -> bool {
    SYSTEM_PROPERTIES.contains(&name)
}

/// So few members are compared each with each to find out whether a name is there twice.
const FEW_MEMBERS: usize = 16;

/// A checked item: its members in the order written, without system properties. Of members with one name the last counts.
#[derive(Debug, Clone)]
pub(crate) struct Body<'a> {
    members: Vec<Member<'a>>,
    /// The whole text, if all its members are kept.
    as_written: Option<&'a str>,
}

/// A member as it was written. The name has its escapes read, if it has any.
type Member<'a> = (Cow<'a, str>, &'a RawValue);

impl<'a> Body<'a> {
    /// Checks that `bytes` are one JSON object in UTF-8 and nothing else, nested at most [`MAX_DEPTH`] deep.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Body<'a>, BodyError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            BodyError(format!("the body is not UTF-8: byte {} is not valid there", error.valid_up_to()))
        })?;
        require_object(text)?;
        let members: Result<Members<'a>, _> = serde_json::from_str(text);
        // Taking the members apart has shown that they are JSON; most are of a kind that this is all there is to check.
        if !members.as_ref().is_ok_and(|Members(members)| members.iter().all(is_simple)) {
            check_json(text)?;
        }
        let Members(mut members) =
            members.map_err(|error| BodyError(format!("the body is not valid JSON: {error}")))?;
        let as_written = if is_all_kept(&members) {
            Some(trim(text))
        } else {
            drop_shadowed_and_system(&mut members);
            None
        };
        Ok(Body { members, as_written })
    }

    /// Returns the item's id, or `None` if it has none.
    pub(crate) fn id(&self) -> Result<Option<String>, BodyError> {
        let Some(raw) = self.get("id") else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(BodyError(format!("the item's `id` must be a string, not {}", kind_of(raw.get())))),
        }
    }

    /// Returns the text of one member.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// Returns the text to store: the item as it was written, less system properties and members written twice.
    pub(crate) fn stored(&self) -> Vec<u8> {
        match self.as_written {
            Some(text) => text.as_bytes().to_vec(),
            None => write_object(&self.members),
        }
    }
}

/// What the server adds to an item when it answers with it. None of the texts has a character that JSON escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemProperties<'a> {
    /// The item's resource id.
    pub(crate) rid: &'a str,
    /// The address of the item's container by resource ids, with its trailing slash.
    pub(crate) container_link: &'a str,
    /// The etag without the quotes that it has on the wire.
    pub(crate) etag: &'a str,
    /// Seconds since 1970 of the last write.
    pub(crate) ts: u64,
}

/// Returns a stored item as the client sees it: the system properties are spliced in before the closing brace.
pub(crate) fn render(stored: &[u8], system: &SystemProperties<'_>) -> Vec<u8> {
    let (open, rest) = parts(stored, system);
    [stored.get(..open).unwrap_or(stored), &rest].concat()
}

/// The same in two parts: how many of the stored bytes, and what comes behind them.
pub(crate) fn parts(stored: &[u8], system: &SystemProperties<'_>) -> (usize, Vec<u8>) {
    let open = stored.strip_suffix(b"}").unwrap_or(stored);
    let comma = if open.trim_ascii_end() == b"{" { "" } else { "," };
    let SystemProperties { rid, container_link, etag, ts } = system;
    let ts = ts.to_string();
    let rest = [
        comma,
        r#""_rid":""#,
        rid,
        r#"","_self":""#,
        container_link,
        "docs/",
        rid,
        r##"/","_etag":"\""##,
        etag,
        r#"\"","_attachments":"attachments/","_ts":"#,
        &ts,
        "}",
    ]
    .concat();
    (open.len(), rest.into_bytes())
}

/// Checks an item id: not empty, at most [`MAX_ID_BYTES`], and free of the characters that break a path.
///
/// `?`, tabs, line ends, spaces and anything beyond ASCII are allowed, as the SDKs' own tests expect.
pub(crate) fn validate_id(id: &str) -> Result<(), BodyError> {
    if id.is_empty() {
        return Err(BodyError("the item's `id` must not be empty".to_owned()));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(BodyError(format!("the item's `id` has {} bytes, more than the {MAX_ID_BYTES} allowed", id.len())));
    }
    match id.chars().find(|c| matches!(c, '/' | '\\' | '#')) {
        Some(c) => Err(BodyError(format!("the item's `id` must not contain `{c}`"))),
        None => Ok(()),
    }
}

/// Says what kind of JSON value a text is, by its first character.
pub(crate) fn kind_of(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "something that is not JSON",
        None => "nothing",
    }
}

/// Writes `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Only these three need care, and almost no name or id holds one.
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\0'..='\x1f' => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Refuses what is no object before looking further: the parser's own words for it would name a position, not the mistake.
fn require_object(text: &str) -> Result<(), BodyError> {
    let text = trim(text);
    if text.is_empty() {
        Err(BodyError("the body is empty; it must be a JSON object".to_owned()))
    } else if text.starts_with('{') {
        Ok(())
    } else {
        Err(BodyError(format!("the body must be a JSON object, not {}", kind_of(text))))
    }
}

/// Reads the whole text strictly. Raw values alone would let through lone surrogates, numbers beyond any float, and any depth.
fn check_json(text: &str) -> Result<(), BodyError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Checked.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| {
        // The parser's limit is ours, under a name that says little to the sender.
        if error.to_string().starts_with("recursion limit exceeded") {
            let (line, column) = (error.line(), error.column());
            BodyError(format!("the body is nested deeper than {MAX_DEPTH} levels at line {line} column {column}"))
        } else {
            BodyError(format!("the body is not valid JSON: {error}"))
        }
    })
}

/// Whether a member that was taken apart needs no stricter look: a string without escapes, a number that any float can
/// hold, or a word. For others [`check_json`] knows.
fn is_simple((name, value): &Member<'_>) -> bool {
    let value = value.get().as_bytes();
    let holds = match value {
        [b'"', ..] => !value.contains(&b'\\'),
        [b't' | b'f' | b'n', ..] => true,
        _ => value.len() < 16 && value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.')),
    };
    holds && name != RAW_VALUE_TOKEN
}

/// Whether there is nothing to drop; with many members, whether that is easy to see.
fn is_all_kept(members: &[Member<'_>]) -> bool {
    let is_kept = |(index, (name, _)): (usize, &Member<'_>)| {
        !is_system_property(name) && members[..index].iter().all(|(earlier, _)| earlier != name)
    };
    members.len() <= FEW_MEMBERS && members.iter().enumerate().all(is_kept)
}

fn drop_shadowed_and_system(members: &mut Vec<Member<'_>>) {
    let mut seen = HashSet::with_capacity(members.len());
    let mut keep: Vec<bool> =
        members.iter().rev().map(|(name, _)| !is_system_property(name) && seen.insert(name.as_ref())).collect();
    if keep.contains(&false) {
        members.retain(|_| keep.pop().unwrap_or(false));
    }
}

fn write_object(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        write_string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    out
}

/// The members of an object, as written.
struct Members<'a>(Vec<Member<'a>>);

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(FEW_MEMBERS);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Reads a value of any kind strictly and keeps nothing of it.
#[derive(Clone, Copy)]
struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(CheckedName)?.is_some() {
            map.next_value_seed(Checked)?;
        }
        Ok(())
    }
}

/// Reads a member's name and refuses the one that `serde_json` keeps for itself.
struct CheckedName;

impl<'de> DeserializeSeed<'de> for CheckedName {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for CheckedName {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        if name == RAW_VALUE_TOKEN {
            return Err(E::custom(format_args!("the member name `{RAW_VALUE_TOKEN}` is reserved")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn stored(text: &str) -> String {
        String::from_utf8(Body::parse(text.as_bytes()).unwrap().stored()).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        Body::parse(bytes).unwrap_err().to_string()
    }

    const ETAG: &str = "\"6f9619ff-8b86-d011-b42d-000000000001\"";

    fn system() -> SystemProperties<'static> {
        SystemProperties {
            rid: "AQAAAIAAAAEBAAAAAAAAAA==",
            container_link: "dbs/AQAAAA==/colls/AQAAAIAAAAE=/",
            etag: ETAG.trim_matches('"'),
            ts: 1_700_000_000,
        }
    }

    fn nested(depth: usize) -> String {
        format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth))
    }

    #[test]
    fn text_is_kept_as_written() {
        let text =
            "{ \"id\" : \"1\",\n\t\"n\": 1.50e+3, \"big\": 123456789012345678901234567890, \"s\": \"\\u0041\\/\" }";
        assert_eq!(stored(&format!("\r\n {text} \n")), text);
    }

    #[test]
    fn system_properties_are_dropped_even_when_escaped() {
        let text = r#"{"_rid":"x","id":"1","\u005fetag":"e","a": [1, 2] ,"_ts":1,"_self":"","_attachments":"","_lsn":3,"_x":4}"#;
        assert_eq!(stored(text), r#"{"id":"1","a":[1, 2],"_x":4}"#);
        assert_eq!(
            stored(r#"{"a":{"_etag":1}}"#),
            r#"{"a":{"_etag":1}}"#,
            "only members of the item itself are the server's"
        );
        assert_eq!(stored(r#"{"_etag":1}"#), "{}");
    }

    #[test]
    fn last_of_equal_names_wins() {
        let body = Body::parse(br#"{"id":"1","a":1,"b":2,"\u0061":3}"#).unwrap();
        assert_eq!(body.get("a").unwrap().get(), "3");
        assert_eq!(body.stored(), br#"{"id":"1","b":2,"a":3}"#);
    }

    #[test]
    fn names_that_need_escapes_survive_a_rewrite() {
        let text = r#"{"_ts":1,"q\"\\\u0001é":1}"#;
        assert_eq!(stored(text), r#"{"q\"\\\u0001é":1}"#);
    }

    #[test]
    fn id_is_a_string_or_absent() {
        let id = |text: &str| Body::parse(text.as_bytes()).unwrap().id();
        assert_eq!(id(r#"{"id":"\u0061"}"#), Ok(Some("a".to_owned())));
        assert_eq!(id("{}"), Ok(None));
        assert_eq!(id(r#"{"id":7}"#).unwrap_err().to_string(), "the item's `id` must be a string, not a number");
        assert_eq!(id(r#"{"id":null}"#).unwrap_err().to_string(), "the item's `id` must be a string, not null");
    }

    #[test]
    fn refusals_name_the_mistake() {
        assert_eq!(refusal(b""), "the body is empty; it must be a JSON object");
        assert_eq!(refusal(b"[1]"), "the body must be a JSON object, not an array");
        assert_eq!(refusal(b" null"), "the body must be a JSON object, not null");
        assert_eq!(refusal(b"<a/>"), "the body must be a JSON object, not something that is not JSON");
        assert_eq!(refusal(b"{\"a\":\"\xff\"}"), "the body is not UTF-8: byte 6 is not valid there");
        assert!(refusal(b"{\"a\":1} x").contains("trailing characters at line 1 column 9"));
        assert!(refusal(b"{\"a\":\n 01}").contains("line 2 column"));
        assert!(refusal(b"{\"a\":1e999}").contains("number out of range"));
        assert!(refusal(br#"{"a":"\ud800"}"#).contains("hex escape"));
        assert!(refusal(br#"{"a":{"$serde_json::private::RawValue":"[]"}}"#).contains("reserved"));
    }

    #[test]
    fn depth_is_bounded() {
        assert!(Body::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(
            refusal(nested(MAX_DEPTH + 1).as_bytes())
                .starts_with("the body is nested deeper than 127 levels at line 1")
        );
        assert!(Body::parse(format!("{{\"a\":{}", "[".repeat(1_000_000)).as_bytes()).is_err());
    }

    #[test]
    fn rendering_splices_before_the_brace() {
        let rendered: Value = serde_json::from_slice(&render(b"{\"id\":\"1\"}", &system())).unwrap();
        let expected = json!({
            "id": "1", "_rid": system().rid, "_etag": ETAG,
            "_self": "dbs/AQAAAA==/colls/AQAAAIAAAAE=/docs/AQAAAIAAAAEBAAAAAAAAAA==/",
            "_attachments": "attachments/", "_ts": 1_700_000_000,
        });
        assert_eq!(rendered, expected);
        for empty in ["{}", "{ }", "{\n}"] {
            let rendered: Value = serde_json::from_slice(&render(empty.as_bytes(), &system())).unwrap();
            assert_eq!(rendered["_etag"], json!(ETAG));
        }
    }

    #[test]
    fn ids_are_checked() {
        for good in ["a", "what?", "tab\tand\r\n", "trailing ", "%20", "é世界", &"x".repeat(1023)] {
            assert_eq!(validate_id(good), Ok(()), "{good:?}");
        }
        for bad in ["", "a/b", "a\\b", "a#b", &"x".repeat(1024)] {
            assert!(validate_id(bad).is_err(), "{bad:?}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn stored_text_means_what_was_sent(members in prop::collection::vec(("(_ts|_etag|id|[a-c\"\\\\]{1,2})", any_json()), 0..8)) {
            let mut text = vec![b'{'];
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                write_string(&mut text, name);
                text.push(b':');
                text.extend(serde_json::to_vec(value).unwrap());
            }
            text.push(b'}');
            let mut sent: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
            sent.retain(|name, _| !is_system_property(name));

            let body = Body::parse(&text).unwrap();
            let kept: serde_json::Map<String, Value> = serde_json::from_slice(&body.stored()).unwrap();
            prop_assert_eq!(&kept, &sent);
            prop_assert_eq!(body.members.len(), sent.len());

            let mut shown: serde_json::Map<String, Value> = serde_json::from_slice(&render(&body.stored(), &system())).unwrap();
            prop_assert_eq!(shown.remove("_etag"), Some(json!(ETAG)));
            shown.retain(|name, _| !is_system_property(name));
            prop_assert_eq!(shown, sent);
            // What was read can be sent back: the system properties fall away again.
            prop_assert_eq!(Body::parse(&render(&body.stored(), &system())).unwrap().members.len(), body.members.len());
        }

        #[test]
        fn accepted_bytes_are_readable_as_a_value(bytes in prop::collection::vec(prop::sample::select(b"{}[]\":,\\ud8c0e1-.+ntrue9".to_vec()), 0..40)) {
            let text = [b"{\"a\":".as_slice(), &bytes, b"}"].concat();
            let is_strict = std::str::from_utf8(&text).is_ok_and(|text| check_json(text).is_ok());
            prop_assert_eq!(Body::parse(&text).is_ok(), is_strict);
            if let Ok(body) = Body::parse(&text) {
                prop_assert!(serde_json::from_slice::<Value>(&body.stored()).unwrap().is_object());
            }
        }

        #[test]
        fn written_strings_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
