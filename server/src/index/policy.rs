//! What an indexing policy asks for, and what it allows.
//!
//! Owns the paths of policies. A path that is included by itself and each list of `compositeIndexes` ask for an index;
//! a wildcard allows one for every path below it. Where several entries speak of a path the most precise one decides, as
//! it does in the service: `/a/?` before `/a/*`, and that before `/*`.

use serde_json::Value;

use super::{INDEXES_MAX, Part};
use crate::query::ValuePlace;

/// An indexing policy, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// The indexes that it asks for, each by its parts.
    pub(super) asked: Vec<Vec<Part>>,
    entries: Vec<Entry>,
}

/// One included or excluded path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    place: ValuePlace,
    /// Whether it speaks of everything below its path.
    below: bool,
    included: bool,
}

impl Policy {
    pub(super) fn parse(policy: &Value) -> Policy {
        if policy["indexingMode"] == "none" {
            return Policy::default();
        }
        let list = |name: &str| policy[name].as_array().map_or(&[][..], Vec::as_slice);
        let mut entries = Vec::new();
        for (name, included) in [("includedPaths", true), ("excludedPaths", false)] {
            let parsed = list(name).iter().filter_map(|entry| path(&entry["path"]));
            entries.extend(parsed.map(|(place, below)| Entry { place, below, included }));
        }
        let mut policy = Policy { asked: Vec::new(), entries };
        let single = |entry: &Entry| entry.included && !entry.below && policy.allows(&entry.place);
        let singles = policy.entries.iter().filter(|entry| single(entry)).map(|entry| vec![Part::at(&entry.place)]);
        let mut asked: Vec<Vec<Part>> = singles.collect();
        for composite in list("compositeIndexes") {
            let parts = composite.as_array().map_or(&[][..], Vec::as_slice).iter().map(|entry| {
                let descending = entry["order"].as_str().is_some_and(|order| order.eq_ignore_ascii_case("descending"));
                let (place, below) = path(&entry["path"])?;
                (!below && is_stored(&place) && place.element.is_none())
                    .then(|| Part { descending, ..Part::at(&place) })
            });
            asked.extend(parts.collect::<Option<Vec<_>>>().filter(|parts| parts.len() > 1));
        }
        for parts in asked {
            if !policy.asked.contains(&parts) && policy.asked.len() < INDEXES_MAX {
                policy.asked.push(parts);
            }
        }
        policy
    }

    /// Whether the values at a place may have an index.
    pub(super) fn allows(&self, place: &ValuePlace) -> bool {
        if !is_stored(place) {
            return false;
        }
        let most = self.entries.iter().filter(|entry| entry.covers(place)).max_by_key(|entry| {
            // At the same path a single value is more precise than all below it, and excluding wins.
            (entry.steps(), !entry.below, !entry.included)
        });
        most.is_some_and(|entry| entry.included)
    }
}

impl Entry {
    fn steps(&self) -> usize {
        self.place.path.len() + self.place.element.as_ref().map_or(0, |inner| inner.len() + 1)
    }

    fn covers(&self, place: &ValuePlace) -> bool {
        if !self.below {
            return self.place == *place;
        }
        match (&self.place.element, &place.element) {
            (None, _) => place.path.starts_with(&self.place.path),
            (Some(own), Some(inner)) => self.place.path == place.path && inner.starts_with(own),
            (Some(_), None) => false,
        }
    }
}

/// Whether a value is in the item as it is stored: system properties are not.
fn is_stored(place: &ValuePlace) -> bool {
    let system = ["_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"];
    place.path.first().is_some_and(|first| !system.contains(&first.as_str()))
}

/// A policy's path: `/a/b/?`, `/a/b` in a composite index, `/a/[]/b/?` inside of the elements of an array, `/a/*` with
/// everything below; names in quotes where they are no words. The flag tells the last kind.
fn path(text: &Value) -> Option<(ValuePlace, bool)> {
    let text = text.as_str()?;
    let (mut rest, below) = match (text.strip_suffix("/*"), text.strip_suffix("/?")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => (text, false),
    };
    let mut place = ValuePlace { path: Vec::new(), element: None };
    while !rest.is_empty() {
        rest = rest.strip_prefix('/')?;
        let name = if let Some(quoted) = rest.strip_prefix('"') {
            let (name, after) = quoted.split_once('"')?;
            rest = after;
            name
        } else {
            let end = rest.find('/').unwrap_or(rest.len());
            let name = &rest[..end];
            rest = &rest[end..];
            if name == "[]" && !place.path.is_empty() && place.element.is_none() {
                place.element = Some(Vec::new());
                continue;
            }
            name
        };
        if matches!(name, "" | "*" | "?" | "[]") {
            return None;
        }
        place.element.as_mut().unwrap_or(&mut place.path).push(name.to_owned());
    }
    Some((place, below))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(text: &str) -> ValuePlace {
        path(&json!(text)).expect(text).0
    }

    #[test]
    fn a_policy_asks_for_the_paths_that_it_names() {
        let shown = |policy: Value| -> Vec<String> {
            let of = |part: &Part| format!("{}{}", part.text(), if part.descending { " DESC" } else { "" });
            let policy = Policy::parse(&policy);
            policy.asked.iter().map(|parts| parts.iter().map(of).collect::<Vec<_>>().join(", ")).collect()
        };
        let policy = json!({
            "indexingMode": "consistent",
            "includedPaths": [
                {"path": "/*"}, {"path": "/a/?"}, {"path": "/b/\"x y\"/?"}, {"path": "/c/[]/?"}, {"path": "/d/*"},
                {"path": "/_ts/?"}, {"path": "/e/?"}, {"path": "/a/?"}, {"path": "/c/[]/n/?"}, {"path": "/c/[]/[]/?"},
            ],
            "excludedPaths": [{"path": "/e/?"}],
            "compositeIndexes": [
                [{"path": "/a", "order": "ascending"}, {"path": "/n/m", "order": "descending"}],
                [{"path": "/a"}],
                [{"path": "/a"}, {"path": "/_ts"}],
                [{"path": "/a"}, {"path": "/c/[]"}],
            ],
        });
        assert_eq!(shown(policy), ["/a", "/b/x y", "/c/[]", "/c/[]/n", "/a, /n/m DESC"]);
        assert_eq!(shown(json!({"indexingMode": "none", "includedPaths": [{"path": "/a/?"}]})), Vec::<String>::new());
        assert_eq!(shown(json!({})), Vec::<String>::new());
    }

    #[test]
    fn the_most_precise_path_decides() {
        let policy = Policy::parse(&json!({
            "includedPaths": [{"path": "/*"}, {"path": "/a/b/?"}, {"path": "/t/[]/in/*"}],
            "excludedPaths": [{"path": "/a/*"}, {"path": "/t/*"}, {"path": "/x/?"}],
        }));
        for (text, allowed) in [
            ("/y/?", true),
            ("/y/z/?", true),
            ("/a/?", false),
            ("/a/c/?", false),
            ("/a/b/?", true),
            ("/a/b/c/?", false),
            ("/x/?", false),
            ("/x/y/?", true),
            ("/t/[]/?", false),
            ("/t/[]/in/?", true),
            ("/t/[]/in/n/?", true),
            ("/u/[]/?", true),
            ("/_ts/?", false),
        ] {
            assert_eq!(policy.allows(&place(text)), allowed, "{text}");
        }
        let only = Policy::parse(&json!({"includedPaths": [{"path": "/a/?"}], "excludedPaths": [{"path": "/*"}]}));
        assert!(only.allows(&place("/a/?")) && !only.allows(&place("/b/?")));
        assert!(!Policy::parse(&json!({"indexingMode": "none"})).allows(&place("/a/?")));
    }
}
