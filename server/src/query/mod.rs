//! Cosmos SQL, from text to results. Pure: it knows documents as JSON values and nothing of storage or HTTP.
//!
//! A query passes through four stages, each in files of its own: text to tokens (`token`), tokens to a syntax tree
//! (`parser`, `parser_expression`, `tree`), tree to a checked plan (`bind`, `regroup`, `plan`), and the plan over
//! documents (`evaluate`, `functions`, `collect`, `aggregate`). What can be refused is refused by the first three, with
//! line and column.

mod aggregate;
mod bind;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod cases_functions;
#[cfg(test)]
mod cases_sdk;
mod collect;
mod computed;
mod error;
mod evaluate;
mod functions;
mod hints;
mod like;
#[cfg(test)]
mod limits;
mod parser;
mod parser_expression;
mod plan;
mod print;
#[cfg(test)]
mod reference;
mod regroup;
mod rewrite;
mod token;
mod tree;
mod value;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

pub(crate) use collect::Flow;
pub(crate) use computed::{ComputedProperty, computed_property};
pub(crate) use error::QueryError;
pub(crate) use hints::{Bound, Condition, KeyHints, ValuePlace};
pub(crate) use rewrite::Features;

use collect::Gather;
use error::Result;
use evaluate::{Context, Frame, GroupValues, Scope, evaluate};
use hints::is_document;
use plan::{Aggregate, AggregateKind, DOCUMENT, Expression, Plan};
use tree::Select;

/// How much a query may hold in memory unless its caller says otherwise. A sort holds no more than the results up to the
/// end of the page that is asked for, so what meets this limit are groups and distinct values by the million, and pages
/// far down an order that no index has. Sorting on disk instead would write the same runs again for each page, since
/// nothing is kept between two of them, at a time when all there is to gain is an order that an index gives for nothing;
/// so the query is refused, with what to do about it.
const MEMORY_LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// The order of any two values as `ORDER BY` has it, undefined included.
#[cfg(test)]
pub(crate) fn order_of_values(left: Option<&Value>, right: Option<&Value>) -> std::cmp::Ordering {
    value::order(left, right)
}

/// A checked query.
#[derive(Debug)]
pub(crate) struct Query {
    /// What the author wrote.
    tree: Select,
    plan: Plan,
    /// The paths that are all it reads of a document, if there are such.
    paths: Option<Vec<Vec<String>>>,
    /// When the query began, in units of 100 ns since 1970.
    ticks: i64,
}

/// Parses and checks a query over items without computed properties.
#[cfg(test)]
fn parse(text: &str, parameters: Vec<(String, Value)>) -> Result<Query> {
    parse_with(text, parameters, &[])
}

/// Parses and checks a query; parameter names include the at sign.
///
/// # Errors
/// Syntax, names, parameters, functions or limits; the message says which, with line and column.
pub(crate) fn parse_with(text: &str, parameters: Vec<(String, Value)>, computed: &[ComputedProperty]) -> Result<Query> {
    Query::new(parser::parse_query(text)?, parameters, computed)
}

/// Parses and checks the condition of a patch, such as `from c where c.stock > 0`.
///
/// # Errors
/// As [`parse_with`].
pub(crate) fn parse_predicate(text: &str) -> Result<Query> {
    Query::new(parser::parse_condition(text)?, Vec::new(), &[])
}

impl Query {
    fn new(tree: Select, parameters: Vec<(String, Value)>, computed: &[ComputedProperty]) -> Result<Self> {
        let mut plan = bind::bind(&tree, parameters, computed)?;
        let paths = hints::paths_read(&mut plan);
        // A clock before 1970 or after the year 30,000 is no reason to refuse a query that does not ask for the time.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ticks = i64::try_from(elapsed.as_nanos() / 100).unwrap_or(i64::MAX);
        Ok(Query { tree, plan, paths, ticks })
    }

    /// Whether each document yields its results independently of the others when the documents come in the order that the
    /// query asks for.
    pub(crate) fn streams_in_order(&self) -> bool {
        let plan = &self.plan;
        let bounded = plan.offset > 0 || plan.limit.is_some();
        !(plan.sources.is_empty() || plan.grouping.is_some() || plan.distinct || bounded)
    }

    /// Whether results of different documents must be brought together: ordered, counted, made distinct or cut off.
    pub(crate) fn merges(&self) -> bool {
        !self.streams() && !self.plan.sources.is_empty()
    }

    /// What a client has to know that asks each partition key range by itself and merges the answers: the `queryInfo`
    /// of a query plan.
    ///
    /// # Errors
    /// A query that cannot be merged, or not by this client.
    pub(crate) fn plan_for_clients(&self, features: Features) -> Result<Value> {
        rewrite::query_info(&self.tree, &self.plan, features)
    }

    /// The `queryInfo` of a plan for a client that asks one range only, and has nothing to merge.
    pub(crate) fn plan_for_one(&self) -> Value {
        rewrite::query_info_for_one(&self.tree)
    }

    /// Whether each document yields its results independently of the others, so that pages can resume after any
    /// document; use [`Query::apply`] then, and [`Query::collect`] otherwise.
    pub(crate) fn streams(&self) -> bool {
        self.streams_in_order() && self.plan.order.is_empty()
    }

    /// The paths that are all the query reads of a document: one with only these gives the same results. `None` where it
    /// reads more.
    pub(crate) fn paths(&self) -> Option<&[Vec<String>]> {
        self.paths.as_deref()
    }

    /// Whether the results depend on what is in the documents, and not just on how many there are.
    pub(crate) fn reads_documents(&self) -> bool {
        let plan = &self.plan;
        let [source] = plan.sources.as_slice() else { return true };
        let Some(grouping) = plan.grouping.as_ref().filter(|grouping| grouping.keys.is_empty()) else { return true };
        let counts = |aggregate: &Aggregate| {
            aggregate.kind == AggregateKind::Count && matches!(aggregate.operand, Expression::Constant(_))
        };
        !(is_document(source) && plan.filter.is_none() && grouping.aggregates.iter().all(counts))
    }

    /// Appends the results that this document yields.
    ///
    /// # Errors
    /// Too much work, or an expression that cannot be evaluated; `out` may then hold some of the results.
    pub(crate) fn apply(&self, document: &Value, out: &mut Vec<Value>) -> Result<()> {
        let context = Context::new(self.ticks);
        let scope = Scope { slot: DOCUMENT, value: document, outer: None };
        let frame = Frame { scope: Some(&scope), group: GroupValues::default(), context: &context };
        collect::for_each_row(&self.plan, frame, &mut |row| {
            if let Some(result) = evaluate(&self.plan.projection, row)? {
                out.push(row.keep(result)?);
            }
            Ok(Flow::Continue)
        })?;
        Ok(())
    }

    /// Whether a document meets the condition of a query made by [`parse_predicate`].
    ///
    /// # Errors
    /// As [`Query::apply`].
    pub(crate) fn matches(&self, document: &Value) -> Result<bool> {
        let context = Context::new(self.ticks);
        let scope = Scope { slot: DOCUMENT, value: document, outer: None };
        let frame = Frame { scope: Some(&scope), group: GroupValues::default(), context: &context };
        let mut found = false;
        collect::for_each_row(&self.plan, frame, &mut |_| {
            found = true;
            Ok(Flow::Done)
        })?;
        Ok(found)
    }

    /// Begins a run over documents whose results depend on one another, in [`MEMORY_LIMIT_BYTES`] of memory.
    pub(crate) fn collect(&self) -> Collector<'_> {
        self.collect_within(MEMORY_LIMIT_BYTES)
    }

    /// As [`Query::collect`], for a caller that looks at no more than the first `wanted` results: of a sorted run no more
    /// than these are held, and an unsorted one ends with them. With `sorted` the documents come in the order that the
    /// query asks for, so nothing has to be sorted.
    pub(crate) fn collect_first(&self, wanted: u64, sorted: bool) -> Collector<'_> {
        let gather = Gather::new(&self.plan, MEMORY_LIMIT_BYTES).first(wanted);
        Collector { query: self, gather: if sorted { gather.sorted() } else { gather } }
    }

    /// Begins a run that may hold so many bytes of results and sort keys.
    pub(crate) fn collect_within(&self, limit_bytes: usize) -> Collector<'_> {
        Collector { query: self, gather: Gather::new(&self.plan, limit_bytes) }
    }
}

/// The run of one query over many documents.
#[derive(Debug)]
pub(crate) struct Collector<'q> {
    query: &'q Query,
    gather: Gather<'q>,
}

impl Collector<'_> {
    /// Takes the next document.
    ///
    /// # Errors
    /// As [`Query::apply`], or the run needs more memory than it may.
    pub(crate) fn push(&mut self, document: &Value) -> Result<Flow> {
        if self.query.plan.sources.is_empty() {
            return Ok(Flow::Done);
        }
        let context = Context::new(self.query.ticks);
        let scope = Scope { slot: DOCUMENT, value: document, outer: None };
        let frame = Frame { scope: Some(&scope), group: GroupValues::default(), context: &context };
        collect::for_each_row(&self.query.plan, frame, &mut |row| self.gather.push(row))
    }

    /// The results.
    ///
    /// # Errors
    /// As [`Collector::push`].
    pub(crate) fn finish(mut self) -> Result<Vec<Value>> {
        let context = Context::new(self.query.ticks);
        if self.query.plan.sources.is_empty() {
            // Without FROM there is one row, whatever the container holds.
            let frame = Frame { scope: None, group: GroupValues::default(), context: &context };
            collect::for_each_row(&self.query.plan, frame, &mut |row| self.gather.push(row))?;
        }
        self.gather.finish(None, &context)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_streams_and_what_must_be_collected() {
        for (text, streams) in [
            ("SELECT * FROM c WHERE c.x = 1", true),
            ("SELECT c.a FROM c JOIN t IN c.t", true),
            ("SELECT VALUE (SELECT VALUE COUNT(1) FROM t IN c.t) FROM c", true),
            ("SELECT * FROM c ORDER BY c.x", false),
            ("SELECT DISTINCT c.a FROM c", false),
            ("SELECT TOP 1 * FROM c", false),
            ("SELECT * FROM c OFFSET 1 LIMIT 2", false),
            ("SELECT VALUE COUNT(1) FROM c", false),
            ("SELECT c.k FROM c GROUP BY c.k", false),
            ("SELECT 1", false),
        ] {
            assert_eq!(parse(text, Vec::new()).expect(text).streams(), streams, "{text}");
        }
    }

    #[test]
    fn the_first_results_are_the_first_of_all() {
        let documents: Vec<Value> = (0..5000).map(|n| json!({"n": (n * 7919) % 5000, "k": n % 3})).collect();
        for text in [
            "SELECT VALUE c.n FROM c ORDER BY c.n DESC",
            "SELECT VALUE c.n FROM c ORDER BY c.n OFFSET 5 LIMIT 100",
            "SELECT DISTINCT VALUE c.k FROM c ORDER BY c.k",
            "SELECT DISTINCT VALUE c.k FROM c",
            "SELECT VALUE c.n FROM c OFFSET 3 LIMIT 1000",
            "SELECT c.k, COUNT(1) AS n FROM c GROUP BY c.k",
        ] {
            let query = parse(text, Vec::new()).expect(text);
            let run = |mut collector: Collector<'_>| {
                for document in &documents {
                    if collector.push(document).expect(text) == Flow::Done {
                        break;
                    }
                }
                collector.finish().expect(text)
            };
            let all = run(query.collect());
            for wanted in [0, 1, 2, 50] {
                let first = run(query.collect_first(wanted, false));
                let wanted = usize::try_from(wanted).expect("small").min(all.len());
                assert_eq!(first[..wanted], all[..wanted], "{text}");
            }
        }
    }

    #[test]
    fn a_run_says_when_it_has_enough() {
        let query = parse("SELECT TOP 2 VALUE c.n FROM c", Vec::new()).expect("parses");
        let mut collector = query.collect();
        assert_eq!(collector.push(&json!({"n": 1})), Ok(Flow::Continue));
        assert_eq!(collector.push(&json!({})), Ok(Flow::Continue));
        assert_eq!(collector.push(&json!({"n": 2})), Ok(Flow::Done));
        assert_eq!(collector.finish(), Ok(vec![json!(1), json!(2)]));
        assert_eq!(parse("SELECT 1", Vec::new()).expect("parses").collect().push(&json!({})), Ok(Flow::Done));
    }
}
