//! Indexes over the items of a container: which there are, and the entries that an item has in them.
//!
//! A path that the indexing policy includes by itself (`/country/?`) has an index of its own, and so has each list of
//! `compositeIndexes`. `/*` asks for nothing here: an entry for every path of every item would multiply the cost of a
//! write, and the queries of a small container do without.
//!
//! Entries are documents without bodies in a collection of their own, derived from the items by the store in the batch
//! of each write. An entry is its id:
//!
//! ```text
//! u16 index | values, one for each path | storage key of the item
//! FF FF | u16 index | storage key of the item        the item's entry does not say all of its values: see `entry`
//! FF FE                                              which indexes there are, as JSON
//! ```
//!
//! This file owns the definitions, `entry` the bytes of values, `build` how the entries of existing items come about and
//! go away, `choose` which index helps a query.

mod build;
mod choose;
mod entry;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use etagdb::{Collection, CommitSeq, Error, ScanRange, Snapshot};
use serde_json::Value;

pub(crate) use choose::{Choice, successor};

/// Most indexes of one container.
const INDEXES_MAX: usize = 64;
/// Where the items whose entries say less than all are listed.
const INEXACT: [u8; 2] = [0xFF, 0xFF];

/// One path of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) path: Vec<String>,
    pub(crate) descending: bool,
}

impl Part {
    /// The path as a policy writes it.
    fn text(&self) -> String {
        format!("/{}", self.path.join("/"))
    }
}

/// An index whose entries are complete.
#[derive(Debug)]
pub(crate) struct Index {
    number: u16,
    pub(crate) parts: Vec<Part>,
    /// From this commit on there is an entry for each item.
    built: CommitSeq,
    /// Turned off before the first entry is taken away.
    live: AtomicBool,
}

impl Index {
    /// Whether it has an entry for each item that a snapshot shows. True of a snapshot, it stays true.
    fn is_whole_in(&self, snapshot: &Snapshot) -> bool {
        self.built <= snapshot.seq() && self.live.load(Ordering::SeqCst)
    }
}

/// The indexes of one container.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    entries: Option<Collection>,
    list: Vec<Arc<Index>>,
}

impl Indexes {
    /// The collection that the entries are in.
    pub(crate) fn entries(&self) -> Option<&Collection> {
        self.entries.as_ref()
    }

    fn usable<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Index>> {
        let kept = self.entries.as_ref().is_some_and(|entries| entries.horizon() <= snapshot.seq());
        self.list.iter().filter(move |index| kept && index.is_whole_in(snapshot))
    }

    /// Whether the entries of an index say all of the values of each item.
    fn is_exact(&self, index: &Index, snapshot: &Snapshot) -> Result<bool, Error> {
        let Some(entries) = &self.entries else { return Ok(false) };
        let inexact = [INEXACT, index.number.to_be_bytes()].concat();
        let first = snapshot.scan(entries, &ScanRange::prefix(inexact))?.next().transpose()?;
        Ok(first.is_none())
    }
}

/// The indexes that a policy asks for, each by its parts.
pub(crate) fn asked(policy: &Value) -> Vec<Vec<Part>> {
    let list = |name: &str| policy[name].as_array().map_or(&[][..], Vec::as_slice);
    if policy["indexingMode"] == "none" {
        return Vec::new();
    }
    let excluded: Vec<_> = list("excludedPaths").iter().filter_map(|entry| path(&entry["path"])).collect();
    let mut asked = Vec::new();
    for entry in list("includedPaths") {
        if let Some(path) = path(&entry["path"]).filter(|path| !excluded.contains(path)) {
            asked.push(vec![Part { path, descending: false }]);
        }
    }
    for composite in list("compositeIndexes") {
        let parts = composite.as_array().map_or(&[][..], Vec::as_slice).iter().map(|entry| {
            let descending = entry["order"].as_str().is_some_and(|order| order.eq_ignore_ascii_case("descending"));
            path(&entry["path"]).map(|path| Part { path, descending })
        });
        asked.extend(parts.collect::<Option<Vec<_>>>().filter(|parts| parts.len() > 1));
    }
    let mut unique: Vec<Vec<Part>> = Vec::new();
    for parts in asked {
        if !unique.contains(&parts) {
            unique.push(parts);
        }
    }
    unique.truncate(INDEXES_MAX);
    unique
}

/// The property names of a policy's path to one value: `/a/b/?`, or `/a/b` in a composite index, with names in quotes
/// where they are no words. Paths into arrays, wildcards and system properties have no index.
fn path(text: &Value) -> Option<Vec<String>> {
    let mut rest = text.as_str()?;
    rest = rest.strip_suffix("/?").unwrap_or(rest);
    let mut names = Vec::new();
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
            name
        };
        if matches!(name, "" | "*" | "?" | "[]") {
            return None;
        }
        names.push(name.to_owned());
    }
    // These are not in the item as it is stored.
    let system = ["_rid", "_self", "_etag", "_ts", "_attachments", "_lsn"];
    names.first().filter(|first| !system.contains(&first.as_str()))?;
    Some(names)
}

#[cfg(test)]
mod policies {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_asks_for_the_paths_that_it_names() {
        let shown = |policy: Value| -> Vec<String> {
            let of = |part: &Part| format!("{}{}", part.text(), if part.descending { " DESC" } else { "" });
            asked(&policy).iter().map(|parts| parts.iter().map(of).collect::<Vec<_>>().join(", ")).collect()
        };
        let policy = json!({
            "indexingMode": "consistent",
            "includedPaths": [
                {"path": "/*"}, {"path": "/a/?"}, {"path": "/b/\"x y\"/?"}, {"path": "/c/[]/?"}, {"path": "/d/*"},
                {"path": "/_ts/?"}, {"path": "/e/?"}, {"path": "/a/?"},
            ],
            "excludedPaths": [{"path": "/e/?"}],
            "compositeIndexes": [
                [{"path": "/a", "order": "ascending"}, {"path": "/n/m", "order": "descending"}],
                [{"path": "/a"}],
                [{"path": "/a"}, {"path": "/_ts"}],
            ],
        });
        assert_eq!(shown(policy), ["/a", "/b/x y", "/a, /n/m DESC"]);
        assert_eq!(shown(json!({"indexingMode": "none", "includedPaths": [{"path": "/a/?"}]})), Vec::<String>::new());
        assert_eq!(shown(json!({})), Vec::<String>::new());
    }
}
