//! Which index helps a query, and which of its entries can matter.
//!
//! An index helps with conditions that every result meets: equalities with constants on its first paths, then a range on
//! the next one; and with an `ORDER BY` of the paths after the equalities, all in the index's directions or all in the
//! opposite ones. The query judges every item again, so the entries may lead to more items than it wants, never to less.

use std::sync::Arc;

use etagdb::{Error, ScanRange, Snapshot};
use serde_json::Value;

use super::{Index, Indexes, entry};
use crate::figures::Access;
use crate::query::{Bound, Query};

/// An index and what of it a query reads.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) index: Arc<Index>,
    /// The entries that can matter, in the order in which they are read.
    pub(crate) range: ScanRange,
    pub(crate) reverse: bool,
    /// Whether the items come in the order that the query asks for.
    pub(crate) ordered: bool,
    /// Whether the entries say all that the query reads of an item.
    pub(crate) covers: bool,
}

impl Choice {
    pub(crate) fn number(&self) -> u16 {
        self.index.number
    }

    /// The storage key of the item that an entry leads to.
    pub(crate) fn item_key<'e>(&self, entry: &'e [u8]) -> Option<&'e [u8]> {
        entry::item_key(&self.index.parts, entry)
    }

    /// What an entry says of its item.
    pub(crate) fn item(&self, entry: &[u8]) -> Option<Value> {
        entry::item(&self.index.parts, entry)
    }

    /// How a client is told of it.
    pub(crate) fn access(&self) -> Access {
        match self.index.parts.as_slice() {
            [part] => Access::Single(part.text()),
            parts => Access::Composite(
                parts
                    .iter()
                    .map(|part| format!("{} {}", part.text(), if part.descending { "DESC" } else { "ASC" }))
                    .collect(),
            ),
        }
    }
}

/// How much an index helps: by equalities, then a range, then order, then by saying all that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Help {
    equal: usize,
    range: bool,
    order: bool,
    covers: bool,
}

impl Indexes {
    /// The index that helps a query most, if any does. Only `number` will do when a page before this one used it. Entries
    /// may stand for their items if there is one for each item that is there, and no other: with `may_cover`.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn choose(
        &self,
        query: &Query,
        snapshot: &Snapshot,
        number: Option<u16>,
        may_cover: bool,
    ) -> Result<Option<Choice>, Error> {
        let mut best: Option<(Help, Choice)> = None;
        for index in self.usable(snapshot) {
            if number.is_some_and(|number| number != index.number) {
                continue;
            }
            let (help, choice) = self.consider(index, query, snapshot, may_cover)?;
            if help > best.as_ref().map_or_else(Help::default, |(help, _)| *help) {
                best = Some((help, choice));
            }
        }
        Ok(best.map(|(_, choice)| choice))
    }

    fn consider(
        &self,
        index: &Arc<Index>,
        query: &Query,
        snapshot: &Snapshot,
        may_cover: bool,
    ) -> Result<(Help, Choice), Error> {
        let conditions = query.conditions();
        let mut help = Help::default();
        let mut prefix = index.number.to_be_bytes().to_vec();
        for part in &index.parts {
            let equal =
                conditions.iter().find(|condition| condition.bound == Bound::Equal && condition.path == part.path);
            let Some(condition) = equal else { break };
            entry::write(Some(&condition.value), part.descending, &mut prefix);
            help.equal += 1;
        }
        let rest = &index.parts[help.equal..];
        let mut range = ScanRange::prefix(&prefix);
        if let Some(part) = rest.first() {
            let on_it = conditions.iter().filter(|condition| condition.path == part.path);
            for condition in on_it {
                let (first, last) = entry::types(&condition.value);
                let mut value = Vec::new();
                entry::write(Some(&condition.value), false, &mut value);
                // Values of other types are neither less nor greater.
                let (low, high) = match condition.bound {
                    Bound::Equal => continue,
                    Bound::AtMost => (vec![first], value),
                    Bound::AtLeast => (value, vec![last]),
                };
                help.range = true;
                range = narrow(range, &prefix, low, high, part.descending);
            }
        }
        let mut reverse = false;
        if let Some(order) = query.order_paths().filter(|order| order.len() <= rest.len() && !order.is_empty()) {
            let same_paths = order.iter().zip(rest).all(|((path, _), part)| *path == part.path);
            let turned = |(_, descending): &(Vec<String>, bool), part: &super::Part| *descending != part.descending;
            let mut turns = order.iter().zip(rest).map(|(key, part)| turned(key, part));
            let first = turns.next().unwrap_or_default();
            if same_paths && turns.all(|turn| turn == first) && self.is_exact(index, snapshot)? {
                help.order = true;
                reverse = first;
            }
        }
        if reverse {
            range = range.reverse();
        }
        // A query that streams ends its pages early; one that gathers looks at everything, and entries are shorter.
        let reads = query.paths().filter(|paths| !paths.is_empty() && !query.streams());
        let within = |paths: &[Vec<String>]| paths.iter().all(|path| index.parts.iter().any(|part| part.path == *path));
        help.covers = may_cover && reads.is_some_and(within) && self.is_exact(index, snapshot)?;
        let (index, ordered) = (Arc::clone(index), help.order);
        Ok((help, Choice { index, range, reverse, ordered, covers: help.covers }))
    }
}

/// Narrows a range to the entries whose next value begins with something from `low` to `high`, both included.
fn narrow(range: ScanRange, prefix: &[u8], low: Vec<u8>, high: Vec<u8>, descending: bool) -> ScanRange {
    let (mut low, mut high) = (low, high);
    if descending {
        entry::invert(&mut low);
        entry::invert(&mut high);
        std::mem::swap(&mut low, &mut high);
    }
    let range = range.from([prefix, &low].concat());
    match successor([prefix, &high].concat()) {
        Some(end) => range.to(end),
        None => range,
    }
}

/// The smallest bytes above all that begin with these.
pub(crate) fn successor(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}
