//! Text of JSON as it was stored: numbers keep their digits and members their order, which a parsed value would not
//! promise.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What the protocol adds to a document, and an import takes off again.
pub(super) const SYSTEM: [&str; 6] = ["_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"];

/// What of it says nothing outside of the protocol.
pub(super) const LINKS: [&str; 3] = ["_rid", "_self", "_attachments"];

/// The members of an object, in their order, the values as they were written.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// An object's text without some of its members.
pub(super) fn without(object: &str, names: &[&str]) -> Result<String, serde_json::Error> {
    let Members(members) = serde_json::from_str(object)?;
    let mut out = String::with_capacity(object.len());
    for (name, value) in members.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&serde_json::to_string(name)?);
        out.push(':');
        out.push_str(value.get());
    }
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    // A line of NDJSON is a line, however the value was written.
    Ok(if out.contains(['\n', '\r']) { one_line(&out) } else { out })
}

/// The same JSON without line ends and the space beside them. In strings there are none: they are written escaped.
fn one_line(json: &str) -> String {
    json.lines().map(str::trim).collect()
}

/// The same JSON with a member or element a line.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    let mut rest = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(c) = rest.next() {
        if is_string {
            out.push(c);
            (is_string, is_escaped) = (is_escaped || c != '"', !is_escaped && c == '\\');
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                is_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_and_the_rest_stays_as_it_was_written() {
        let text = "{\"id\":\"a\",\n \"n\":123456789012345678901234567890.10, \"_ts\":1,\"n\": [1,\r\n  {\"_ts\":2}]}";
        let kept = without(text, &SYSTEM).unwrap();
        assert_eq!(kept, "{\"id\":\"a\",\"n\":123456789012345678901234567890.10,\"n\":[1,{\"_ts\":2}]}");
        assert_eq!(without("{\"_ts\":1}", &SYSTEM).unwrap(), "{}");
        assert!(without("[1]", &SYSTEM).is_err());
    }

    #[test]
    fn pretty_text_means_the_same() {
        let text = r#"{"a":[],"b":{ },"c":[1,{"d":"x, {\"y\\"}],"e":1.50}"#;
        let shown = pretty(text);
        assert_eq!(shown.lines().count(), 11, "{shown}");
        assert!(shown.contains("\n  \"a\": [],\n") && shown.contains("\"e\": 1.50\n}"), "{shown}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(text));
    }
}
