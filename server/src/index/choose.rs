//! Which index helps a query, and which of its entries can matter.
//!
//! An index helps with conditions that every result meets: equalities with constants (one, or one of several) on its
//! first paths, then a range on the next one; and with an `ORDER BY` of the paths after the equalities, all in the
//! index's directions or all in the opposite ones. The query judges every item again, so the entries may lead to more
//! items than it wants, never to less.
//!
//! Within one partition key the items lie side by side, and an index is only better than reading them all where its
//! entries for that key do so too: entries of equal values are in the order of their items' storage keys, so an index
//! whose every path has an equality will do, and else one that begins with the paths of the partition key.

use etagdb::{Collection, Error, ScanRange, Snapshot};
use serde_json::Value;

use super::{Index, Indexes, Part, entry};
use crate::figures::Access;
use crate::query::{Bound, Condition, Query, ValuePlace};

/// Most stretches of an index that a query reads. With more alternatives than that the index does without them.
const SPANS_MAX: usize = 1024;
/// Most paths of an index that is made because queries need it.
const PARTS_MAX: usize = 5;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) query: &'a Query,
    pub(crate) snapshot: &'a Snapshot,
    /// What the partition key, if the query is about one, says of its paths.
    pub(crate) key: Vec<(Vec<String>, Value)>,
    /// The items asked have storage keys from the first on and before the second.
    pub(crate) keys: (Vec<u8>, Option<Vec<u8>>),
    /// Whether entries may stand for their items: there is one for each item that is there, and no other.
    pub(crate) may_cover: bool,
}

/// Entries that lie side by side: from the first on and before the second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span(Vec<u8>, Option<Vec<u8>>);

/// An index and what of it a query reads.
#[derive(Debug)]
pub(crate) struct Choice {
    index: Index,
    pub(crate) entries: Collection,
    /// The entries that can matter, in the order of the index.
    spans: Vec<Span>,
    pub(crate) reverse: bool,
    /// Whether the items come in the order that the query asks for.
    pub(crate) ordered: bool,
    /// Whether the entries say all that the query reads of an item.
    pub(crate) covers: bool,
    help: Help,
}

/// How much an index helps: by equalities, then a range, then order, then by saying all that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Help {
    equal: usize,
    range: bool,
    order: bool,
    covers: bool,
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

    /// The ranges of entries to be read, in their order, after the place that was reached before: the entry with this
    /// id, or with `begins` the entries that begin so, which are read again.
    pub(crate) fn ranges(&self, reached: &[u8], begins: bool) -> Vec<ScanRange> {
        let whole = |Span(start, end): &Span| {
            let range = ScanRange::all().from(start);
            end.iter().fold(range, ScanRange::to)
        };
        if reached.is_empty() {
            let ranges = self.spans.iter().map(whole);
            return if self.reverse { ranges.rev().map(ScanRange::reverse).collect() } else { ranges.collect() };
        }
        if !self.reverse {
            let rest = self.spans.iter().filter(|Span(_, end)| end.as_deref().is_none_or(|end| end > reached));
            return rest.map(|span| whole(span).after(reached)).collect();
        }
        let bound = if begins { successor(reached.to_vec()) } else { Some(reached.to_vec()) };
        let is_left = |start: &[u8]| bound.as_deref().is_none_or(|bound| start < bound);
        let rest = self.spans.iter().rev().filter(|Span(start, _)| is_left(start));
        rest.map(|span| bound.iter().fold(whole(span), ScanRange::before).reverse()).collect()
    }

    /// How a client is told of it.
    pub(crate) fn access(&self) -> Access {
        match &self.index.parts[..] {
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

impl Ask<'_> {
    /// What is known of every result.
    fn conditions(&self) -> Vec<Condition> {
        let mut conditions = self.query.conditions();
        conditions.extend(self.key.iter().map(|(path, value)| Condition {
            place: ValuePlace { path: path.clone(), element: None },
            bound: Bound::OneOf(vec![value.clone()]),
        }));
        conditions
    }

    fn is_of_key(&self, part: &Part) -> bool {
        part.element.is_none() && self.key.iter().any(|(path, _)| part.path == *path)
    }

    /// The order that is asked for, without the paths that have one value in all results.
    fn order(&self, conditions: &[Condition]) -> Option<Vec<(Vec<String>, bool)>> {
        let mut order = self.query.order_paths()?;
        let is_fixed = |path: &Vec<String>| {
            let of_path = |condition: &&Condition| condition.place.element.is_none() && condition.place.path == *path;
            conditions.iter().filter(of_path).any(|condition| condition.equal().is_some())
        };
        order.retain(|(path, _)| !is_fixed(path));
        Some(order)
    }

    /// The paths that are all the query reads of an item, if entries could take its place.
    fn reads(&self) -> Option<&[Vec<String>]> {
        // A query that streams ends its pages early; one that gathers looks at everything, and entries are shorter.
        self.query.paths().filter(|paths| self.may_cover && !paths.is_empty() && !self.query.streams())
    }

    /// The parts of the index that would have helped most, unless the one that was chosen helped as much.
    pub(crate) fn wanted(&self, chosen: Option<&Choice>) -> Option<Vec<Part>> {
        let conditions = self.conditions();
        let mut help = Help::default();
        let mut parts: Vec<Part> = Vec::new();
        let simple = || conditions.iter().filter(|condition| condition.place.element.is_none());
        for condition in simple().filter(|condition| matches!(condition.bound, Bound::OneOf(_))) {
            let part = Part::at(&condition.place);
            if !self.is_of_key(&part) && !parts.contains(&part) && parts.len() < PARTS_MAX - 2 {
                parts.push(part);
                help.equal += 1;
            }
        }
        let order = self.order(&conditions).filter(|order| !order.is_empty());
        let range = simple()
            .map(|condition| Part::at(&condition.place))
            .find(|part| !parts.contains(part) && !self.is_of_key(part));
        let element = conditions.iter().find(|condition| condition.place.element.is_some());
        let mut leads_with_key = true;
        if let Some(order) = order {
            // The index is the same whichever way it is read.
            let turned = order.first().is_some_and(|(_, descending)| *descending);
            help.range = range.is_some_and(|range| order.first().is_some_and(|(path, _)| range.path == *path));
            help.order = true;
            parts.extend(order.into_iter().map(|(path, down)| Part {
                path,
                element: None,
                descending: down != turned,
            }));
        } else if let Some(range) = range {
            help.range = true;
            parts.push(range);
        } else if !parts.is_empty() {
            leads_with_key = false;
        } else if let Some(element) = element {
            leads_with_key = false;
            help.equal = 1;
            parts.push(Part::at(&element.place));
        } else {
            let reads = self.reads()?.iter().filter(|path| !self.key.iter().any(|(key, _)| key == *path));
            help.covers = true;
            parts.extend(reads.map(|path| Part { path: path.clone(), element: None, descending: false }));
        }
        if leads_with_key {
            let key = self.key.iter().map(|(path, _)| Part { path: path.clone(), element: None, descending: false });
            parts.splice(0..0, key);
        }
        let is_better = chosen.is_none_or(|chosen| help > chosen.help);
        (is_better && parts.len() <= PARTS_MAX).then_some(parts)
    }
}

impl Indexes {
    /// The index that helps a query most, if any does. Only `number` will do when a page before this one used it.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn choose(&self, ask: &Ask<'_>, number: Option<u16>) -> Result<Option<Choice>, Error> {
        let Some(entries) = self.entries() else { return Ok(None) };
        let conditions = ask.conditions();
        let mut best: Option<Choice> = None;
        for index in self.usable(ask.snapshot) {
            if number.is_some_and(|number| number != index.number) {
                continue;
            }
            let choice = self.consider(index, &entries, ask, &conditions)?;
            let least = best.as_ref().map_or_else(Help::default, |best| best.help);
            best = choice.filter(|choice| choice.help > least).or(best);
        }
        if let Some(choice) = &best {
            self.note_use(&choice.index);
        }
        Ok(best)
    }

    fn consider(
        &self,
        index: Index,
        entries: &Collection,
        ask: &Ask<'_>,
        conditions: &[Condition],
    ) -> Result<Option<Choice>, Error> {
        let parts = &index.parts[..];
        let mut prefixes = vec![index.number.to_be_bytes().to_vec()];
        // How many of the first paths have equalities, and how many of these one value only.
        let (mut given, mut fixed) = (0, 0);
        for part in parts {
            let Some(values) = values_of(conditions, part) else { break };
            let is_few = prefixes.len().checked_mul(values.len()).is_some_and(|count| count <= SPANS_MAX);
            if !is_few {
                break;
            }
            prefixes =
                prefixes.iter().flat_map(|prefix| values.iter().map(move |value| with(prefix, value, part))).collect();
            fixed += usize::from(fixed == given && values.len() == 1);
            given += 1;
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut help =
            Help { equal: parts[..given].iter().filter(|part| !ask.is_of_key(part)).count(), ..Help::default() };
        let is_keyed = parts[..fixed].iter().filter(|part| ask.is_of_key(part)).count() == ask.key.len();
        if given < parts.len() && !is_keyed {
            return Ok(None);
        }
        let spans = match parts.get(given) {
            None => {
                let (start, end) = &ask.keys;
                let span = |prefix: Vec<u8>| {
                    let end = end.as_ref().map(|end| [&prefix[..], end].concat());
                    Span([&prefix[..], start].concat(), end.or_else(|| successor(prefix)))
                };
                prefixes.into_iter().map(span).collect()
            }
            Some(part) => {
                let bounds = bounds_of(conditions, part);
                help.range = !bounds.is_empty();
                prefixes.into_iter().filter_map(|prefix| narrowed(&prefix, &bounds, part.descending)).collect()
            }
        };
        let plain = parts.iter().all(|part| part.element.is_none());
        let mut ordered = false;
        let mut reverse = false;
        if let Some(order) = ask.order(conditions).filter(|_| plain) {
            ordered = order.is_empty();
            let rest = &parts[fixed..];
            let same_paths =
                order.len() <= rest.len() && order.iter().zip(rest).all(|((path, _), part)| *path == part.path);
            let mut turns = order.iter().zip(rest).map(|((_, descending), part)| *descending != part.descending);
            let first = turns.next().unwrap_or_default();
            if !order.is_empty()
                && same_paths
                && turns.all(|turn| turn == first)
                && self.is_exact(&index, ask.snapshot)?
            {
                (help.order, ordered, reverse) = (true, true, first);
            }
        }
        let within = |paths: &[Vec<String>]| paths.iter().all(|path| parts.iter().any(|part| part.path == *path));
        help.covers = plain && ask.reads().is_some_and(within) && self.is_exact(&index, ask.snapshot)?;
        let covers = help.covers;
        Ok(Some(Choice { index, entries: entries.clone(), spans, reverse, ordered, covers, help }))
    }
}

/// The values that a path's value is one of, by the condition that leaves the fewest.
fn values_of<'c>(conditions: &'c [Condition], part: &Part) -> Option<&'c [Value]> {
    let of_part = conditions.iter().filter(|condition| part.is_at(&condition.place));
    let lists = of_part.filter_map(|condition| match &condition.bound {
        Bound::OneOf(values) => Some(values.as_slice()),
        _ => None,
    });
    lists.min_by_key(|values| values.len())
}

fn with(prefix: &[u8], value: &Value, part: &Part) -> Vec<u8> {
    let mut prefix = prefix.to_vec();
    entry::write(Some(value), part.descending, &mut prefix);
    prefix
}

/// What a path's value begins with at least and at most, as bytes in ascending order, for each condition on it.
fn bounds_of(conditions: &[Condition], part: &Part) -> Vec<(Vec<u8>, Vec<u8>)> {
    let written = |value: &Value| {
        let mut bytes = Vec::new();
        entry::write(Some(value), false, &mut bytes);
        bytes
    };
    let on_it = conditions.iter().filter(|condition| part.is_at(&condition.place));
    let bounds = on_it.filter_map(|condition| match &condition.bound {
        // Alternatives too many to be followed one by one.
        Bound::OneOf(_) => None,
        // Values of other types are neither less nor greater.
        Bound::AtMost(value) => Some((vec![entry::types(value).0], written(value))),
        Bound::AtLeast(value) => Some((written(value), vec![entry::types(value).1])),
        Bound::StartsWith(text) => {
            let mut bytes = Vec::new();
            entry::write_beginning(text, &mut bytes);
            Some((bytes.clone(), bytes))
        }
    });
    bounds.collect()
}

/// The entries with this prefix whose next value is within all of the bounds, if there can be any.
fn narrowed(prefix: &[u8], bounds: &[(Vec<u8>, Vec<u8>)], descending: bool) -> Option<Span> {
    let mut span = Span(prefix.to_vec(), successor(prefix.to_vec()));
    for (low, high) in bounds {
        let (mut low, mut high) = (low.clone(), high.clone());
        if descending {
            entry::invert(&mut low);
            entry::invert(&mut high);
            std::mem::swap(&mut low, &mut high);
        }
        let start = [prefix, &low].concat();
        span.0 = span.0.max(start);
        let end = successor([prefix, &high].concat());
        span.1 = match (span.1, end) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let is_empty = span.1.as_ref().is_some_and(|end| *end <= span.0);
    (!is_empty).then_some(span)
}

/// The smallest bytes above all that begin with these.
fn successor(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}
