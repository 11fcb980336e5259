//! Turns the text of one document into what is sent: checks that it is a JSON object, gives it an id, and reads its
//! partition key.
//!
//! Never re-serialises a document: apart from the id put in, every byte arrives as it was written. What else makes a
//! document acceptable (sizes, nesting, the characters of an id) is judged where it is stored.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Where a document's id comes from.
#[derive(Clone, Debug)]
pub(super) enum IdSource {
    /// Its own `id`; a document without one is bad.
    Own,
    /// The string or number at a path.
    Path(Path),
    /// Its own `id`, or else a UUID made from its place among the documents and its content.
    ///
    /// The same input gives the same ids, so that an import can be run again. The place is part of it because two rows
    /// with equal content are still two documents; the content is, so that two inputs do not overwrite each other.
    Generated,
}

impl fmt::Display for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdSource::Own => f.write_str("id"),
            IdSource::Path(path) => write!(f, "id-from {path}"),
            IdSource::Generated => f.write_str("generate-id"),
        }
    }
}

/// A path to a member of a document, written as in a container's partition key definition: `/a/b` or `/"a b"/c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    names: Vec<String>,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// Says what a path looks like.
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        match split_names(text) {
            Some(names) if !names.is_empty() => Ok(Path { text: text.to_owned(), names }),
            _ => Err(format!("`{text}` is no path: write it as `/country` or `/address/city`")),
        }
    }

    /// The path as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    fn is_id(&self) -> bool {
        self.names == ["id"]
    }

    /// Finds the value this path leads to.
    fn find<'a>(&self, members: &Members<'a>) -> Option<&'a RawValue> {
        let (first, rest) = self.names.split_first()?;
        let mut value = members.get(first)?;
        for name in rest {
            value = Members::parse(value.get()).ok()?.get(name)?;
        }
        Some(value)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Takes a path apart; a name in quotes may hold slashes.
fn split_names(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let after = rest.strip_prefix('/')?;
        let name;
        (name, rest) = match after.chars().next()? {
            quote @ ('"' | '\'') => after[1..].split_once(quote)?,
            _ => after.split_at(after.find('/').unwrap_or(after.len())),
        };
        if name.is_empty() {
            return None;
        }
        names.push(name.to_owned());
    }
    Some(names)
}

/// A document ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Its id.
    pub(super) id: String,
    /// Its partition key as a JSON array of ASCII, as the `x-ms-documentdb-partitionkey` header carries it.
    pub(super) partition_key: String,
    /// Its text, with the id.
    pub(super) text: Vec<u8>,
}

/// Why a document is bad, and where in its text (line and byte column, from 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadDocument {
    /// The line within the document's text.
    pub(super) line: usize,
    /// The column within that line.
    pub(super) column: usize,
    /// What is wrong and what to do.
    pub(super) reason: String,
}

impl BadDocument {
    fn whole(reason: impl Into<String>) -> BadDocument {
        BadDocument { line: 1, column: 1, reason: reason.into() }
    }
}

/// Makes the `number`-th document of an input from its text.
///
/// # Errors
/// Says what is wrong with the document.
pub(super) fn prepare(
    number: u64,
    text: Vec<u8>,
    id_source: &IdSource,
    partition_key: &[Path],
) -> Result<Document, BadDocument> {
    let text = String::from_utf8(text).map_err(|error| not_utf8(error.as_bytes(), error.utf8_error().valid_up_to()))?;
    let members = Members::parse(&text).map_err(|error| not_json(&error))?;
    let own = members.get("id");
    let (id, edit) = match (id_source, own) {
        (IdSource::Path(path), _) => id_from(path, &text, &members)?,
        (_, Some(own)) => (own_id(own)?, Edit::None),
        (IdSource::Generated, None) => (generated_id(number, &text), Edit::Insert),
        (IdSource::Own, None) => {
            return Err(BadDocument::whole(
                "the document has no `id`: take it from another member with `--id-from /path`, or have one made with `--generate-id`",
            ));
        }
    };
    let mut key = String::from("[");
    for (position, path) in partition_key.iter().enumerate() {
        if position > 0 {
            key.push(',');
        }
        if path.is_id() {
            push_ascii(&mut key, &quoted(&id));
        } else {
            push_component(&mut key, path.find(&members));
        }
    }
    key.push(']');
    let text = match edit {
        Edit::None => text,
        Edit::Insert => {
            let separator = if members.0.is_empty() { "" } else { "," };
            let rest = text.strip_prefix('{').unwrap_or_default();
            format!("{{\"id\":{}{separator}{rest}", quoted(&id))
        }
        Edit::Replace { from, to } => format!("{}{}{}", &text[..from], quoted(&id), &text[to..]),
    };
    Ok(Document { id, partition_key: key, text: text.into_bytes() })
}

/// What becomes of the text.
enum Edit {
    None,
    /// The id is put in as the first member.
    Insert,
    /// The id takes the place of these bytes.
    Replace {
        from: usize,
        to: usize,
    },
}

fn own_id(own: &RawValue) -> Result<String, BadDocument> {
    serde_json::from_str(own.get()).map_err(|_| {
        let advice = if is_number(own.get()) { ": import it as text with `--id-from /id`" } else { "" };
        BadDocument::whole(format!("`id` is {}, and must be a string{advice}", kind(own.get())))
    })
}

fn id_from(path: &Path, text: &str, members: &Members<'_>) -> Result<(String, Edit), BadDocument> {
    let Some(value) = path.find(members) else {
        return Err(BadDocument::whole(format!("there is nothing at `{path}` to take the id from")));
    };
    let raw = value.get();
    let id = match serde_json::from_str(raw) {
        Ok(id) => id,
        Err(_) if is_number(raw) => raw.to_owned(),
        Err(_) => {
            return Err(BadDocument::whole(format!(
                "`{path}` is {}, and an id is made from a string or a number",
                kind(raw)
            )));
        }
    };
    if path.is_id() {
        if raw.starts_with('"') {
            return Ok((id, Edit::None));
        }
        // A raw value borrowed from the text lies inside it, so the difference is where it starts.
        let from = raw.as_ptr().addr() - text.as_ptr().addr();
        return Ok((id, Edit::Replace { from, to: from + raw.len() }));
    }
    match members.get("id") {
        None => Ok((id, Edit::Insert)),
        Some(own) if serde_json::from_str::<String>(own.get()).is_ok_and(|own| own == id) => Ok((id, Edit::None)),
        // Replacing it would lose a value that may be nowhere else.
        Some(own) => Err(BadDocument::whole(format!(
            "the document has an `id` of its own, {}, which is not the `{path}` it should be taken from",
            shortened(own.get())
        ))),
    }
}

/// Makes an id from a document's place and content; white space between the members does not matter.
fn generated_id(number: u64, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"etagdb import: generated id\n");
    hash.update(number.to_be_bytes());
    hash.update(without_white_space(text));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    // Version 8 of RFC 9562 is for ids whose making is the application's own business.
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn without_white_space(text: &str) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let mut kept = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => continue,
            _ => {}
        }
        kept.push(byte);
    }
    kept
}

/// Appends one partition key component: `{}` stands for a missing member, or one that cannot be a key.
fn push_component(key: &mut String, value: Option<&RawValue>) {
    match value.map(RawValue::get) {
        Some(raw) if !raw.starts_with(['{', '[']) => push_ascii(key, raw),
        _ => key.push_str("{}"),
    }
}

/// Appends JSON text with everything beyond ASCII escaped, as a header needs it.
fn push_ascii(out: &mut String, json: &str) {
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

/// Writes a string as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn shortened(raw: &str) -> Cow<'_, str> {
    match raw.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}...", &raw[..end])),
        None => Cow::Borrowed(raw),
    }
}

fn not_utf8(bytes: &[u8], valid_up_to: usize) -> BadDocument {
    let before = &bytes[..valid_up_to];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    BadDocument {
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        column: valid_up_to - line_start + 1,
        reason: "this byte is not UTF-8".into(),
    }
}

fn not_json(error: &serde_json::Error) -> BadDocument {
    let message = error.to_string();
    // serde_json ends its messages with a place within the text, and ours says where that is in the input.
    let message = message.split(" at line ").next().unwrap_or_default();
    let advice = if error.is_eof() { " (with NDJSON a document is on one line: `jq -c` writes it so)" } else { "" };
    BadDocument { line: error.line(), column: error.column(), reason: format!("{message}{advice}") }
}

/// The members of an object, in order, their values unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn parse(text: &'a str) -> Result<Members<'a>, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Finds a member; of several with one name the last counts.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rfind(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn prepared(text: &str, id_source: &IdSource, keys: &[&str]) -> Result<(String, String, String), String> {
        let keys: Vec<Path> = keys.iter().map(|key| path(key)).collect();
        match prepare(7, text.as_bytes().to_vec(), id_source, &keys) {
            Ok(document) => Ok((document.id, document.partition_key, String::from_utf8(document.text).unwrap())),
            Err(bad) => Err(format!("{}:{}: {}", bad.line, bad.column, bad.reason)),
        }
    }

    #[test]
    fn a_document_with_an_id_stays_as_it_is() {
        let text = "{ \"n\":1.50e3, \"id\" : \"a\\u0062\",\"k\":\"x\" }";
        let (id, key, stored) = prepared(text, &IdSource::Own, &["/k"]).unwrap();
        assert_eq!((id.as_str(), key.as_str(), stored.as_str()), ("ab", "[\"x\"]", text));
        assert_eq!(prepared(text, &IdSource::Generated, &["/k"]).unwrap().2, text);
    }

    #[test]
    fn the_partition_key_is_what_the_header_carries() {
        let text = r#"{"id":"a","s":"Zürich 😀","n":-1.50,"t":true,"z":null,"o":{"p":{"q r":2}},"l":[1]}"#;
        for (paths, key) in [
            (&["/s"][..], r#"["Z\u00fcrich \ud83d\ude00"]"#),
            (&["/n"], "[-1.50]"),
            (&["/t", "/z"], "[true,null]"),
            (&["/missing", "/o", "/l"], "[{},{},{}]"),
            (&["/o/p/\"q r\""], "[2]"),
            (&["/s/x"], "[{}]"),
            (&["/id"], "[\"a\"]"),
        ] {
            assert_eq!(prepared(text, &IdSource::Own, paths).unwrap().1, key);
        }
    }

    #[test]
    fn an_id_is_taken_from_a_path() {
        let by = |source: &str| IdSource::Path(path(source));
        let (id, key, text) = prepared(r#"{"sku":"x\"y","n":1}"#, &by("/sku"), &["/id"]).unwrap();
        assert_eq!((id.as_str(), key.as_str()), ("x\"y", r#"["x\"y"]"#));
        assert_eq!(text, r#"{"id":"x\"y","sku":"x\"y","n":1}"#);
        assert_eq!(prepared(r#"{"a":{"b":12}}"#, &by("/a/b"), &[]).unwrap().0, "12");
        assert_eq!(prepared(r#"{"a":1, "id": 12 }"#, &by("/id"), &[]).unwrap().2, r#"{"a":1, "id": "12" }"#);
        assert_eq!(prepared(r#"{"a":1,"id":"1"}"#, &by("/a"), &[]).unwrap().2, r#"{"a":1,"id":"1"}"#);
        assert!(prepared(r#"{"a":1,"id":"2"}"#, &by("/a"), &[]).unwrap_err().contains("an `id` of its own"));
        assert!(prepared(r#"{"a":1}"#, &by("/b"), &[]).unwrap_err().contains("nothing at `/b`"));
        assert!(prepared(r#"{"a":[1]}"#, &by("/a"), &[]).unwrap_err().contains("`/a` is an array"));
    }

    #[test]
    fn a_generated_id_depends_on_place_and_content_and_on_nothing_else() {
        let id = |number, text: &str| prepare(number, text.as_bytes().to_vec(), &IdSource::Generated, &[]).unwrap().id;
        assert_eq!(id(1, r#"{"name":"a b","lat":1}"#), id(1, "{ \"name\" : \"a b\",\n \"lat\":1 }"));
        assert_ne!(id(1, r#"{"name":"a b"}"#), id(2, r#"{"name":"a b"}"#));
        assert_ne!(id(1, r#"{"name":"a b"}"#), id(1, r#"{"name":"ab"}"#));
        // Ids made by an earlier release must be made again, or an import that is run again doubles every document.
        assert_eq!(id(1, "{}"), "27963dba-c320-8e3d-8909-38141982f8b7");
    }

    #[test]
    fn an_empty_object_takes_a_generated_id() {
        let (id, _, text) = prepared("{ }", &IdSource::Generated, &[]).unwrap();
        assert_eq!(text, format!("{{\"id\":\"{id}\" }}"));
    }

    #[test]
    fn bad_documents_are_named_with_their_place() {
        for (text, message) in [
            ("{\"a\":}", "1:6: expected value"),
            ("{\"a\":1,\n\"b\" 2}", "2:5: expected `:`"),
            ("{\"id\":\"a\"} {}", "1:12: trailing characters"),
            ("[1]", "1:0: invalid type: sequence, expected a JSON object"),
            ("{}", "1:1: the document has no `id`"),
            ("{\"id\":5}", "1:1: `id` is a number, and must be a string: import it as text with `--id-from /id`"),
            ("{\"id\":null}", "1:1: `id` is null, and must be a string"),
            ("{\"id\":", "1:6: EOF while parsing a value (with NDJSON"),
        ] {
            let error = prepared(text, &IdSource::Own, &[]).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        let bad = prepare(1, b"{\n\"a\":\"\xff\"}".to_vec(), &IdSource::Own, &[]).unwrap_err();
        assert_eq!((bad.line, bad.column), (2, 6));
    }

    #[test]
    fn paths_are_checked() {
        for text in ["", "/", "a", "/a//b", "/a/", "/\"a", "/\"\"", "/\"a\"b", "//a", "/a/\"b"] {
            assert!(Path::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(path("/\"a/b\"/c").names, ["a/b", "c"]);
        assert_eq!(path("/a b/'c d'").names, ["a b", "c d"]);
    }
}
