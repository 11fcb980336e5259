//! Rows to results. Owns the joins of FROM, filtering, GROUP BY, ORDER BY, DISTINCT, OFFSET, LIMIT and TOP, and the
//! bound on what they hold in memory.
//!
//! The order of the stages is that of the service: FROM, WHERE, ORDER BY, projection (or grouping and projection),
//! DISTINCT, then OFFSET and LIMIT. So `DISTINCT` keeps the first of equal results in sorted order, and a sort key need
//! not be in the result. A result that is undefined as a whole is no result. Documents whose sort key is undefined come
//! first (last with `DESC`), as the service documents since 2022; equal keys keep the order in which the documents
//! came.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::mem::size_of;

use serde_json::Value;

use super::aggregate::Accumulator;
use super::error::{Position, QueryError, Result};
use super::evaluate::{Context, Frame, GroupValues, Scope, evaluate, is_true};
use super::plan::{Grouping, Origin, Plan, SortKey, Source};
use super::value;

/// The work of binding one row, on the scale of evaluation steps.
const ROW_WORK: usize = 4;

/// Whether a consumer wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Go on.
    Continue,
    /// Enough: what comes later cannot change the result.
    Done,
}

/// The results of a nested query.
pub(super) fn run(plan: &Plan, frame: Frame<'_>) -> Result<Vec<Value>> {
    // The work limit bounds what a nested query can build, so it needs no limit of its own.
    let mut gather = Gather::new(plan, usize::MAX);
    for_each_row(plan, frame, &mut |row| gather.push(row))?;
    gather.finish(frame.scope, frame.context)
}

/// Calls `visit` with every row of the plan's sources that passes its filter.
pub(super) fn for_each_row(
    plan: &Plan,
    frame: Frame<'_>,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<Flow>,
) -> Result<Flow> {
    for_each_of(&plan.sources, frame, &mut |row| {
        row.charge(ROW_WORK)?;
        let passes = match &plan.filter {
            Some(filter) => is_true(filter, row)?,
            None => true,
        };
        if passes { visit(row) } else { Ok(Flow::Continue) }
    })
}

/// Binds each combination of the sources' values, leftmost outermost.
fn for_each_of(sources: &[Source], frame: Frame<'_>, visit: &mut dyn FnMut(Frame<'_>) -> Result<Flow>) -> Result<Flow> {
    let Some((source, rest)) = sources.split_first() else { return visit(frame) };
    let mut each = |value: &Value| {
        let scope = Scope { slot: source.slot, value, outer: frame.scope };
        for_each_of(rest, Frame { scope: Some(&scope), ..frame }, visit)
    };
    let mut bind = |value: &Value| {
        if !source.iterates {
            return each(value);
        }
        for item in value.as_array().map_or(&[][..], Vec::as_slice) {
            if each(item)? == Flow::Done {
                return Ok(Flow::Done);
            }
        }
        Ok(Flow::Continue)
    };
    match &source.origin {
        Origin::Value(expression) => evaluate(expression, frame)?.map_or(Ok(Flow::Continue), |value| bind(&value)),
        Origin::Subquery(plan) => {
            for value in &run(plan, frame)? {
                if bind(value)? == Flow::Done {
                    return Ok(Flow::Done);
                }
            }
            Ok(Flow::Continue)
        }
    }
}

/// Collects rows into the results of a plan.
#[derive(Debug)]
pub(super) struct Gather<'p> {
    plan: &'p Plan,
    limit_bytes: usize,
    held_bytes: usize,
    /// Whether rows must be put in order; not when they come so.
    sorts: bool,
    /// Only so many of the results will be looked at.
    wanted: Option<u64>,
    groups: Groups,
    sorted: Vec<Row>,
    output: Output,
}

/// A result that waits for its place in the order.
#[derive(Debug)]
struct Row {
    keys: Vec<Option<Value>>,
    result: Value,
}

#[derive(Debug, Default)]
struct Groups {
    places: HashMap<Vec<u8>, usize>,
    list: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    keys: Vec<Option<Value>>,
    accumulators: Vec<Accumulator>,
}

/// The last stages, for results that come in their final order.
#[derive(Debug)]
struct Output {
    /// The keys of the results so far, if they must be distinct.
    seen: Option<HashSet<Vec<u8>>>,
    skip: u64,
    take: Option<u64>,
    results: Vec<Value>,
}

impl Output {
    fn new(plan: &Plan) -> Self {
        Output { seen: plan.distinct.then(HashSet::new), skip: plan.offset, take: plan.limit, results: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.take.is_some_and(|take| self.results.len() as u64 >= take)
    }

    /// Passes on one result; says how many bytes are held for it.
    fn push(&mut self, result: Value) -> usize {
        let mut held = 0;
        if let Some(seen) = &mut self.seen {
            let mut key = Vec::new();
            value::write_key(Some(&result), &mut key);
            let length = key.len();
            if !seen.insert(key) {
                return 0;
            }
            held += length;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return held;
        }
        if !self.is_full() {
            held += value::weight(&result);
            self.results.push(result);
        }
        held
    }
}

impl<'p> Gather<'p> {
    pub(super) fn new(plan: &'p Plan, limit_bytes: usize) -> Self {
        Gather {
            plan,
            limit_bytes,
            held_bytes: 0,
            sorts: !plan.order.is_empty(),
            wanted: None,
            groups: Groups::default(),
            sorted: Vec::new(),
            output: Output::new(plan),
        }
    }

    /// For a caller that looks at no more than the first `wanted` results.
    pub(super) fn first(self, wanted: u64) -> Self {
        Gather { wanted: Some(wanted), ..self }
    }

    /// For rows that come in order.
    pub(super) fn sorted(self) -> Self {
        Gather { sorts: false, ..self }
    }

    /// Takes one row.
    pub(super) fn push(&mut self, row: Frame<'_>) -> Result<Flow> {
        if self.has_enough() {
            return Ok(Flow::Done);
        }
        let plan = self.plan;
        if let Some(grouping) = &plan.grouping {
            let added = self.groups.push(grouping, row)?;
            return self.hold(added);
        }
        let Some(result) = evaluate(&plan.projection, row)? else { return Ok(Flow::Continue) };
        let result = row.keep(result)?;
        if !self.sorts {
            let added = self.output.push(result);
            self.hold(added)?;
            return Ok(if self.has_enough() { Flow::Done } else { Flow::Continue });
        }
        let mut keys = Vec::with_capacity(plan.order.len());
        for key in &plan.order {
            let key = evaluate(&key.expression, row)?;
            keys.push(key.map(|key| row.keep(key)).transpose()?);
        }
        let row = Row { keys, result };
        let added = row.weight();
        self.sorted.push(row);
        self.trim();
        self.hold(added)
    }

    /// Whether what comes later cannot change what is looked at. Of rows that are grouped or sorted this is never known.
    fn has_enough(&self) -> bool {
        self.output.is_full() || self.wanted.is_some_and(|wanted| self.output.results.len() as u64 >= wanted)
    }

    /// Drops rows that cannot be among the first `OFFSET + LIMIT` any more.
    fn trim(&mut self) {
        let limit = match (self.plan.limit, self.wanted) {
            (Some(limit), Some(wanted)) => Some(limit.min(wanted)),
            (limit, wanted) => limit.or(wanted),
        };
        let Some(limit) = limit.filter(|_| !self.plan.distinct) else { return };
        let wanted = usize::try_from(limit.saturating_add(self.plan.offset)).unwrap_or(usize::MAX);
        // Twice as many as wanted, so that sorting costs a constant number of comparisons for each row.
        if self.sorted.len() / 2 < wanted.max(512) {
            return;
        }
        self.sort();
        let dropped = self.sorted.split_off(wanted);
        self.held_bytes = self.held_bytes.saturating_sub(dropped.iter().map(Row::weight).sum());
    }

    fn sort(&mut self) {
        let order = &self.plan.order;
        self.sorted.sort_by(|left, right| compare(&left.keys, &right.keys, order));
    }

    fn hold(&mut self, added: usize) -> Result<Flow> {
        self.held_bytes = self.held_bytes.saturating_add(added);
        if self.held_bytes > self.limit_bytes {
            let message = format!(
                "the query needs more than {} bytes of memory to sort, group or collect its results; narrow it",
                self.limit_bytes
            );
            return Err(QueryError::new(Position::START, message));
        }
        Ok(Flow::Continue)
    }

    /// The results, in order.
    pub(super) fn finish(mut self, scope: Option<&Scope<'_>>, context: &Context) -> Result<Vec<Value>> {
        self.sort();
        for row in std::mem::take(&mut self.sorted) {
            // What the output holds of the row is memory that was accounted for when the row came.
            self.held_bytes = self.held_bytes.saturating_sub(row.weight());
            let added = self.output.push(row.result);
            self.hold(added)?;
        }
        if let Some(grouping) = &self.plan.grouping {
            for group in std::mem::take(&mut self.groups).finish(grouping) {
                let aggregates: Vec<_> = group.accumulators.into_iter().map(Accumulator::finish).collect();
                let frame = Frame { scope, group: GroupValues { keys: &group.keys, aggregates: &aggregates }, context };
                if let Some(result) = evaluate(&self.plan.projection, frame)? {
                    let added = self.output.push(frame.keep(result)?);
                    self.hold(added)?;
                }
            }
        }
        Ok(self.output.results)
    }
}

impl Row {
    fn weight(&self) -> usize {
        size_of::<Row>() + value::weight(&self.result) + self.keys.iter().flatten().map(value::weight).sum::<usize>()
    }
}

impl Groups {
    /// Takes one row into its group; says how many more bytes are held.
    fn push(&mut self, grouping: &Grouping, row: Frame<'_>) -> Result<usize> {
        let mut key = Vec::new();
        let mut keys = Vec::new();
        for expression in &grouping.keys {
            let value = evaluate(expression, row)?;
            value::write_key(value.as_deref(), &mut key);
            keys.push(value);
        }
        let mut added = 0;
        // Without keys there is one group, which need not be looked for.
        let known =
            if grouping.keys.is_empty() { self.list.first().map(|_| 0) } else { self.places.get(&key).copied() };
        let place = match known {
            Some(place) => place,
            None => {
                let keys =
                    keys.into_iter().map(|key| key.map(|key| row.keep(key)).transpose()).collect::<Result<Vec<_>>>()?;
                added = size_of::<Group>() + key.len() + keys.iter().flatten().map(value::weight).sum::<usize>();
                added += grouping.aggregates.len() * size_of::<Accumulator>();
                self.places.insert(key, self.list.len());
                self.list.push(Group::new(keys, grouping));
                self.list.len() - 1
            }
        };
        if let Some(group) = self.list.get_mut(place) {
            for (accumulator, aggregate) in group.accumulators.iter_mut().zip(&grouping.aggregates) {
                accumulator.add(evaluate(&aggregate.operand, row)?.as_deref());
            }
        }
        Ok(added)
    }

    /// The groups in the order in which they were first seen; without keys there is always one.
    fn finish(mut self, grouping: &Grouping) -> Vec<Group> {
        if grouping.keys.is_empty() && self.list.is_empty() {
            self.list.push(Group::new(Vec::new(), grouping));
        }
        self.list
    }
}

impl Group {
    fn new(keys: Vec<Option<Value>>, grouping: &Grouping) -> Self {
        Group {
            keys,
            accumulators: grouping.aggregates.iter().map(|aggregate| Accumulator::new(aggregate.kind)).collect(),
        }
    }
}

fn compare(left: &[Option<Value>], right: &[Option<Value>], order: &[SortKey]) -> Ordering {
    let keys = left.iter().zip(right).zip(order);
    let unequal = keys.map(|((left, right), key)| {
        let ascending = value::order(left.as_ref(), right.as_ref());
        if key.descending { ascending.reverse() } else { ascending }
    });
    unequal.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
