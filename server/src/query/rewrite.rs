//! What a client that merges the results of several partition key ranges has to know: the query that each range is
//! asked, and what to do with the answers. Owns the rewriting; it evaluates nothing.
//!
//! The shapes are those of the service's query plans, as its SDKs read them:
//!
//! * `ORDER BY`: each result becomes `{_rid, orderByItems: [{item}], payload}`, and the filter gets a place for the
//!   condition from which a client resumes.
//! * An aggregate under `VALUE` becomes `[{item}]`; an average its sum and count; a minimum or maximum also its count, so
//!   that one over nothing can be told from one over nulls.
//! * `GROUP BY`: each group becomes `{groupByItems: [{item}], payload}` with its aggregates as above.
//! * Each range may be asked for no more than `TOP`, or `OFFSET` and `LIMIT` together; with `DISTINCT` or groups nothing
//!   can be said of a range alone, and it gives all it has.

use serde_json::{Map, Value, json};

use super::error::{Position, QueryError, Result};
use super::plan::{AggregateKind, Plan};
use super::print;
use super::tree::{Count, Expression, MemberStep, Node, Origin, Projection, Select};

/// Where clients put the condition that they resume an ordered query from.
const RESUME_FILTER: &str = "{documentdb-formattableorderbyquery-filter}";

/// What the client that asks can merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) group_by: bool,
    pub(crate) non_value_aggregate: bool,
}

impl Features {
    /// All there are.
    pub(crate) const ALL: Features = Features { group_by: true, non_value_aggregate: true };

    /// Reads the list that clients send, names between commas.
    pub(crate) fn parse(list: &str) -> Features {
        let has = |name: &str| list.split(',').any(|feature| feature.trim().eq_ignore_ascii_case(name));
        Features { group_by: has("GroupBy"), non_value_aggregate: has("NonValueAggregate") }
    }
}

/// The `queryInfo` of a plan.
///
/// # Errors
/// A query whose parts cannot be merged, by anyone or by this client.
pub(super) fn query_info(select: &Select, plan: &Plan, features: Features) -> Result<Value> {
    let mut info = Info::default();
    if plan.grouping.is_some() {
        info.rewritten = Some(grouped(select, features, &mut info)?);
    } else if !select.order_by.is_empty() {
        info.rewritten = Some(ordered(select, plan));
    } else if plan.limit.is_some() && (select.distinct || plan.offset > 0) {
        let mut rewritten = select.clone();
        window(&mut rewritten, Some(plan).filter(|_| !select.distinct));
        info.rewritten = Some(rewritten);
    }
    let order: &[_] = if plan.grouping.is_some() { &[] } else { &select.order_by };
    let sort = |descending| if descending { "Descending" } else { "Ascending" };
    let by_top = select.top.is_some();
    Ok(json!({
        "distinctType": distinct_type(select),
        "top": plan.limit.filter(|_| by_top),
        "offset": select.offset.is_some().then_some(plan.offset),
        "limit": plan.limit.filter(|_| !by_top),
        "orderBy": order.iter().map(|key| sort(key.descending)).collect::<Vec<_>>(),
        "orderByExpressions": order.iter().map(|key| print::expression(&key.expression)).collect::<Vec<_>>(),
        "groupByExpressions": select.group_by.iter().map(print::expression).collect::<Vec<_>>(),
        "groupByAliases": info.aliases,
        "aggregates": info.aggregates,
        "groupByAliasToAggregateType": info.types,
        "rewrittenQuery": info.rewritten.as_ref().map(print::select).unwrap_or_default(),
        "hasSelectValue": matches!(select.projection, Projection::Value(_)),
        "hasNonStreamingOrderBy": false,
        "dCountInfo": null,
    }))
}

/// The `queryInfo` for a client that asks one range only: the query as it is gives the result as it is.
pub(super) fn query_info_for_one(select: &Select) -> Value {
    json!({
        "distinctType": "None",
        "top": null,
        "offset": null,
        "limit": null,
        "orderBy": [],
        "orderByExpressions": [],
        "groupByExpressions": [],
        "groupByAliases": [],
        "aggregates": [],
        "groupByAliasToAggregateType": {},
        "rewrittenQuery": "",
        "hasSelectValue": matches!(select.projection, Projection::Value(_)),
        "hasNonStreamingOrderBy": false,
        "dCountInfo": null,
    })
}

/// What grouping adds to a plan.
#[derive(Default)]
struct Info {
    aggregates: Vec<&'static str>,
    aliases: Vec<String>,
    types: Map<String, Value>,
    rewritten: Option<Select>,
}

/// `Ordered` where equal results come one after the other, because the query orders by all that is in them.
fn distinct_type(select: &Select) -> &'static str {
    if !select.distinct {
        return "None";
    }
    let keys: Vec<String> = select.order_by.iter().map(|key| print::expression(&key.expression)).collect();
    let ordered = match &select.projection {
        Projection::Star => false,
        Projection::Value(value) => keys.contains(&print::expression(value)),
        Projection::List(items) => items.iter().all(|(_, item)| keys.contains(&print::expression(item))),
    };
    if ordered { "Ordered" } else { "Unordered" }
}

/// Bounds what one range gives; without a plan it gives everything.
fn window(select: &mut Select, plan: Option<&Plan>) {
    let literal = |count: u64| Some(Count::Literal(count.into(), Position::START));
    let by_top = select.top.take().is_some();
    let by_limit = select.limit.take().is_some();
    select.offset = None;
    let Some((limit, offset)) = plan.and_then(|plan| Some((plan.limit?, plan.offset))) else { return };
    if by_top {
        select.top = literal(limit);
    } else if by_limit {
        select.offset = literal(0);
        select.limit = literal(limit.saturating_add(offset));
    }
}

/// The query that makes each range give its results with their sort keys.
fn ordered(select: &Select, plan: &Plan) -> Select {
    let mut rewritten = select.clone();
    window(&mut rewritten, Some(plan).filter(|_| !select.distinct));
    // The client drops what is twice: with its sort keys and rid no row is.
    rewritten.distinct = false;
    let items = select.order_by.iter().map(|key| item(key.expression.clone())).collect();
    let mut list = Vec::new();
    let root = select.from.as_ref().map(|from| &from.first);
    let document = root.filter(|source| !source.iterates);
    if let (Some(alias), Some(Origin::Path { steps, .. })) =
        (document.and_then(|source| source.alias.clone()), root.map(|source| &source.origin))
        && steps.is_empty()
    {
        let base = Box::new(here(Node::Name(alias)));
        list.push(("_rid".to_owned(), here(Node::Member(base, vec![MemberStep::Key("_rid".to_owned())]))));
    }
    list.push(("orderByItems".to_owned(), here(Node::Array(items))));
    list.push(("payload".to_owned(), payload(select)));
    rewritten.projection = Projection::List(list);
    let place = here(Node::Name(format!("({RESUME_FILTER})")));
    rewritten.filter = Some(match rewritten.filter.take() {
        None => place,
        Some(filter) => here(Node::And(vec![filter, place])),
    });
    rewritten
}

/// The query that makes each range give its groups with what their aggregates are made of.
fn grouped(select: &Select, features: Features, info: &mut Info) -> Result<Select> {
    if !select.group_by.is_empty() && !features.group_by {
        return Err(unsupported(select, "GroupBy"));
    }
    if let Some(Origin::Subquery(_)) = select.from.as_ref().map(|from| &from.first.origin) {
        return Err(unsupported(select, "an aggregate over a subquery"));
    }
    let mut rewritten = select.clone();
    window(&mut rewritten, None);
    rewritten.distinct = false;
    rewritten.order_by.clear();
    let payload = match &select.projection {
        Projection::Star => return Err(unsupported(select, "SELECT * of groups")),
        Projection::Value(value) => match aggregate(value) {
            Some((kind, operand)) => {
                info.aggregates.push(name_of(kind));
                here(Node::Array(vec![parts(kind, value, operand)]))
            }
            None if has_aggregate(value) => {
                return Err(QueryError::new(
                    value.position,
                    "Cross partition query only supports 'VALUE <AggregateFunc>' for aggregates",
                ));
            }
            None => value.clone(),
        },
        Projection::List(items) => {
            let mut members = Vec::new();
            for (name, expression) in items {
                let (kind, member) = match aggregate(expression) {
                    Some((kind, operand)) => (Some(name_of(kind)), parts(kind, expression, operand)),
                    None if has_aggregate(expression) => {
                        return Err(unsupported(select, "an expression over aggregates"));
                    }
                    None => (None, expression.clone()),
                };
                if select.group_by.is_empty() && !features.non_value_aggregate {
                    info.aggregates.extend(kind);
                } else {
                    info.types.insert(name.clone(), kind.map_or(Value::Null, Value::from));
                    info.aliases.push(name.clone());
                }
                members.push((name.clone(), member));
            }
            here(Node::Object(members))
        }
    };
    rewritten.projection = match &select.projection {
        Projection::Value(_) if select.group_by.is_empty() => Projection::Value(payload),
        _ => {
            let mut list = Vec::new();
            if !select.group_by.is_empty() {
                let keys = select.group_by.iter().cloned().map(item).collect();
                list.push(("groupByItems".to_owned(), here(Node::Array(keys))));
            }
            list.push(("payload".to_owned(), payload));
            Projection::List(list)
        }
    };
    Ok(rewritten)
}

/// The result as one value.
fn payload(select: &Select) -> Expression {
    match &select.projection {
        Projection::Value(value) => value.clone(),
        Projection::List(items) => here(Node::Object(items.clone())),
        // Only a query with one source, which has a name, can say so.
        Projection::Star => {
            let alias = select.from.as_ref().and_then(|from| from.first.alias.clone());
            here(alias.map_or(Node::Undefined, Node::Name))
        }
    }
}

/// What a range has to say of one aggregate.
fn parts(kind: AggregateKind, call: &Expression, operand: &Expression) -> Expression {
    let of = |name: &str| here(Node::Call { name: name.to_owned(), arguments: vec![operand.clone()] });
    let counted = |name: &str, of_kind: &str| object(vec![(name, of(of_kind)), ("count", of("COUNT"))]);
    match kind {
        AggregateKind::Average => item(counted("sum", "SUM")),
        AggregateKind::Minimum => object(vec![("item", call.clone()), ("item2", counted("min", "MIN"))]),
        AggregateKind::Maximum => object(vec![("item", call.clone()), ("item2", counted("max", "MAX"))]),
        AggregateKind::Count | AggregateKind::CountIf | AggregateKind::Sum => item(call.clone()),
    }
}

/// The aggregate function that an expression is, and of what.
fn aggregate(expression: &Expression) -> Option<(AggregateKind, &Expression)> {
    let Node::Call { name, arguments } = &expression.node else { return None };
    Some((AggregateKind::named(name)?, arguments.first()?))
}

/// Whether an aggregate of this query is somewhere in the expression. Nested queries have their own.
fn has_aggregate(expression: &Expression) -> bool {
    if aggregate(expression).is_some() {
        return true;
    }
    match &expression.node {
        Node::Literal(_) | Node::Undefined | Node::Name(_) | Node::Parameter(_) | Node::Subquery(..) => false,
        Node::Member(base, steps) => {
            let computed = |step: &MemberStep| matches!(step, MemberStep::Computed(index) if has_aggregate(index));
            has_aggregate(base) || steps.iter().any(computed)
        }
        Node::Array(items) | Node::And(items) | Node::Or(items) | Node::Coalesce(items) => {
            items.iter().any(has_aggregate)
        }
        Node::Object(members) => members.iter().any(|(_, member)| has_aggregate(member)),
        Node::Unary(_, operand) => has_aggregate(operand),
        Node::Chain(first, rest) => has_aggregate(first) || rest.iter().any(|(_, operand)| has_aggregate(operand)),
        Node::Conditional(operands) => operands.iter().any(has_aggregate),
        Node::Between { operands, .. } => operands.iter().any(has_aggregate),
        Node::In { needle, list, .. } => has_aggregate(needle) || list.iter().any(has_aggregate),
        Node::Like { operands, .. } => operands.iter().any(has_aggregate),
        Node::Call { arguments, .. } => arguments.iter().any(has_aggregate),
    }
}

fn name_of(kind: AggregateKind) -> &'static str {
    match kind {
        AggregateKind::Count => "Count",
        AggregateKind::CountIf => "CountIf",
        AggregateKind::Sum => "Sum",
        AggregateKind::Average => "Average",
        AggregateKind::Minimum => "Min",
        AggregateKind::Maximum => "Max",
    }
}

/// `{"item": expression}`
fn item(expression: Expression) -> Expression {
    object(vec![("item", expression)])
}

fn object(members: Vec<(&str, Expression)>) -> Expression {
    here(Node::Object(members.into_iter().map(|(name, member)| (name.to_owned(), member)).collect()))
}

/// A node that stands nowhere in the author's text.
fn here(node: Node) -> Expression {
    Expression { position: Position::START, node }
}

fn unsupported(select: &Select, what: &str) -> QueryError {
    QueryError::new(
        select.position,
        format!(
            "the query contains {what}, which the calling client does not support over several partition key ranges"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const ALL: Features = Features::ALL;

    fn info(text: &str, features: Features) -> Result<Value> {
        parse(text, vec![("@n".to_owned(), json!(3))]).expect(text).plan_for_clients(features)
    }

    #[test]
    fn what_each_range_is_asked() {
        for (text, expected) in [
            ("SELECT * FROM c WHERE c.x = 1", ""),
            ("SELECT DISTINCT c.x FROM c", ""),
            ("SELECT TOP 5 * FROM c", ""),
            ("SELECT * FROM c OFFSET 2 LIMIT @n", "SELECT * FROM c OFFSET 0 LIMIT 5"),
            ("SELECT DISTINCT TOP 5 c.x FROM c", "SELECT DISTINCT c.x FROM c"),
            (
                "SELECT * FROM c ORDER BY c.x",
                "SELECT c._rid, [{\"item\": c.x}] AS orderByItems, c AS payload FROM c \
                 WHERE ({documentdb-formattableorderbyquery-filter}) ORDER BY c.x ASC",
            ),
            (
                "SELECT TOP 2 c.a, 1 AS one FROM root c WHERE c.a OR c.b ORDER BY c.x DESC, c.y",
                "SELECT TOP 2 c._rid, [{\"item\": c.x}, {\"item\": c.y}] AS orderByItems, \
                 {\"a\": c.a, \"one\": 1} AS payload FROM root AS c \
                 WHERE (c.a OR c.b) AND ({documentdb-formattableorderbyquery-filter}) ORDER BY c.x DESC, c.y ASC",
            ),
            (
                "SELECT DISTINCT VALUE c.id FROM c ORDER BY c.id OFFSET 1 LIMIT 2",
                "SELECT c._rid, [{\"item\": c.id}] AS orderByItems, c.id AS payload FROM c \
                 WHERE ({documentdb-formattableorderbyquery-filter}) ORDER BY c.id ASC",
            ),
            (
                "SELECT VALUE t FROM t IN c.tags ORDER BY t.x",
                "SELECT [{\"item\": t.x}] AS orderByItems, t AS payload FROM t IN c.tags \
                 WHERE ({documentdb-formattableorderbyquery-filter}) ORDER BY t.x ASC",
            ),
            ("SELECT TOP 10 VALUE COUNT(c.id) FROM c", "SELECT VALUE [{\"item\": COUNT(c.id)}] FROM c"),
            (
                "SELECT VALUE AVG(c.x) FROM c WHERE c.y",
                "SELECT VALUE [{\"item\": {\"sum\": SUM(c.x), \"count\": COUNT(c.x)}}] FROM c WHERE c.y",
            ),
            (
                "SELECT VALUE max(c.x) FROM c",
                "SELECT VALUE [{\"item\": max(c.x), \"item2\": {\"max\": MAX(c.x), \"count\": COUNT(c.x)}}] FROM c",
            ),
            (
                "SELECT c.k, COUNT(1) AS n, SUM(c.x) FROM c GROUP BY c.k OFFSET 0 LIMIT 1",
                "SELECT [{\"item\": c.k}] AS groupByItems, \
                 {\"k\": c.k, \"n\": {\"item\": COUNT(1)}, \"$1\": {\"item\": SUM(c.x)}} AS payload FROM c GROUP BY c.k",
            ),
            (
                "SELECT VALUE c.k FROM c GROUP BY c.k",
                "SELECT [{\"item\": c.k}] AS groupByItems, c.k AS payload FROM c GROUP BY c.k",
            ),
            ("SELECT COUNT(1) FROM c", "SELECT {\"$1\": {\"item\": COUNT(1)}} AS payload FROM c"),
        ] {
            let info = info(text, ALL).expect(text);
            assert_eq!(info["rewrittenQuery"], expected, "{text}");
            // The server itself must understand what it hands out.
            let asked = expected.replace(RESUME_FILTER, "true");
            if !asked.is_empty() {
                parse(&asked, vec![("@n".to_owned(), json!(3))]).expect(&asked);
            }
        }
    }

    #[test]
    fn what_the_client_is_told_to_do() {
        let told = info("SELECT DISTINCT TOP 7 c.a FROM c ORDER BY c.a DESC", ALL).expect("a plan");
        assert_eq!(
            (&told["distinctType"], &told["top"], &told["orderBy"], &told["orderByExpressions"], &told["limit"]),
            (&json!("Ordered"), &json!(7), &json!(["Descending"]), &json!(["c.a"]), &Value::Null)
        );
        let told = info("SELECT DISTINCT c.a, c.b FROM c ORDER BY c.a OFFSET 5 LIMIT 10", ALL).expect("a plan");
        assert_eq!(
            (&told["distinctType"], &told["offset"], &told["limit"], &told["top"]),
            (&json!("Unordered"), &json!(5), &json!(10), &Value::Null)
        );
        let told = info("SELECT VALUE COUNT(1) FROM c ORDER BY c.x", ALL).expect("a plan");
        assert_eq!((&told["aggregates"], &told["orderBy"]), (&json!(["Count"]), &json!([])));
        let told = info("SELECT c.k, MAX(c.x) AS most FROM c GROUP BY c.k", ALL).expect("a plan");
        assert_eq!(
            (&told["groupByAliasToAggregateType"], &told["aggregates"], &told["groupByExpressions"]),
            (&json!({"k": null, "most": "Max"}), &json!([]), &json!(["c.k"]))
        );
    }

    #[test]
    fn what_a_client_cannot_merge_is_refused() {
        let none = Features::parse("OrderBy, Top, Aggregate");
        assert_eq!(Features::parse("Top,GroupBy, nonvalueaggregate"), ALL);
        for (text, features, part) in [
            ("SELECT c.k FROM c GROUP BY c.k", none, "GroupBy"),
            ("SELECT VALUE COUNT(1) + 5 FROM c", ALL, "only supports 'VALUE <AggregateFunc>'"),
            ("SELECT COUNT(1) + SUM(c.x) FROM c", ALL, "an expression over aggregates"),
            ("SELECT VALUE COUNT(1) FROM (SELECT DISTINCT VALUE c.x FROM c) AS x", ALL, "over a subquery"),
        ] {
            let error = info(text, features).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
        }
        // A client without the feature looks at this list itself, and refuses.
        let told = info("SELECT COUNT(1) FROM c", none).expect("a plan");
        assert_eq!((&told["aggregates"], &told["hasSelectValue"]), (&json!(["Count"]), &json!(false)));
    }
}
