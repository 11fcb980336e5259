//! Tree to plan: what names mean. Owns scoping, parameters, the checks that need no document (unknown functions, arity,
//! aggregates in the wrong place, `SELECT *` over a join) and the limits that keep evaluation bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::{Number, Value};

use super::computed::ComputedProperty;
use super::error::{Position, QueryError, Result};
use super::functions::{self, Compiled};
use super::like::Pattern;
use super::plan::{
    Aggregate, AggregateKind, Call, DOCUMENT, Expression, Grouping, LikePattern, Matches, Origin, Plan, SlotUse,
    SortKey, Source, Step, Subquery,
};
use super::regroup::regroup;
use super::tree::{self, Count, MemberStep, Node, PathStep, Projection, Select, SubqueryKind, UnaryOperator};
use super::value;

/// The service's documented limit on joins in one query.
const MAX_JOINS: usize = 10;

/// How many keys GROUP BY may have: each is looked for at every place of the select list.
const MAX_GROUPING_KEYS: usize = 500;

/// How many levels a result may nest beyond the documents it is made of: nested queries can stack literals on one
/// another, and every later stage recurses once per level.
const MAX_RESULT_HEIGHT: usize = 256;

/// Turns a syntax tree into a plan.
///
/// # Errors
/// Names, parameters or functions that do not exist, and everything else that can be said to be wrong before a document
/// is seen.
pub(super) fn bind(select: &Select, parameters: Vec<(String, Value)>, computed: &[ComputedProperty]) -> Result<Plan> {
    let mut binder = Binder::new(computed);
    for (name, value) in parameters {
        match binder.parameters.entry(name) {
            Entry::Occupied(entry) => {
                let message = format!("the parameter '{}' is given twice", entry.key());
                return Err(QueryError::new(Position::START, message));
            }
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(value));
            }
        }
    }
    binder.select(select, &Names { outer: None, names: Vec::new() })
}

/// Checks the expression of a computed property.
///
/// # Errors
/// As [`bind`].
pub(super) fn check_computed(property: &ComputedProperty) -> Result<()> {
    Binder::new(&[]).computed_value(property, DOCUMENT).map(drop)
}

/// The sources that an expression can name, innermost first.
struct Names<'n> {
    outer: Option<&'n Names<'n>>,
    names: Vec<(String, usize)>,
}

impl Names<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        let own = self.names.iter().find(|(known, _)| known == name).map(|(_, slot)| *slot);
        own.or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.outer.is_none_or(Names::is_empty)
    }
}

/// What an aggregate function means where the binder stands.
enum Aggregates {
    /// It is a mistake in this clause.
    Forbidden(&'static str),
    /// It belongs to this query's groups.
    Collected(Vec<Aggregate>),
}

struct Binder<'c> {
    parameters: HashMap<String, Arc<Value>>,
    /// How far the values of each slot can nest beyond those of documents.
    heights: Vec<usize>,
    computed: &'c [ComputedProperty],
    /// The slots that hold whole documents.
    documents: Vec<usize>,
}

impl<'c> Binder<'c> {
    fn new(computed: &'c [ComputedProperty]) -> Self {
        Binder { parameters: HashMap::new(), heights: vec![0], computed, documents: vec![DOCUMENT] }
    }

    /// The expression of a computed property, over the document in a slot.
    fn computed_value(&mut self, property: &ComputedProperty, slot: usize) -> Result<Expression> {
        let names = Names { outer: None, names: vec![(property.alias.clone(), slot)] };
        // A computed property cannot name another one: they would need an order.
        let others = std::mem::take(&mut self.computed);
        let mut place = Aggregates::Forbidden("a computed property");
        let value = self.expression(&property.expression, &names, &mut place);
        self.computed = others;
        value
    }

    /// What a path begins with, when that is a computed property of a document.
    fn computed_step(&mut self, base: &Expression, step: Option<&MemberStep>) -> Result<Option<Expression>> {
        let (Expression::Slot(slot_use), Some(MemberStep::Key(key))) = (base, step) else { return Ok(None) };
        if !self.documents.contains(&slot_use.slot) {
            return Ok(None);
        }
        let property = self.computed.iter().find(|property| property.name == *key);
        property.map(|property| self.computed_value(property, slot_use.slot)).transpose()
    }

    fn select(&mut self, select: &Select, outer: &Names<'_>) -> Result<Plan> {
        let mut names = Names { outer: Some(outer), names: Vec::new() };
        let mut sources = Vec::new();
        if let Some(from) = &select.from {
            if from.joins.len() > MAX_JOINS {
                return Err(QueryError::new(
                    select.position,
                    format!("the query has {} joins; the limit is {MAX_JOINS}", from.joins.len()),
                ));
            }
            for source in std::iter::once(&from.first).chain(&from.joins) {
                sources.push(self.source(source, &mut names)?);
            }
        }
        let filter = match &select.filter {
            Some(filter) => Some(self.expression(filter, &names, &mut Aggregates::Forbidden("WHERE"))?),
            None => None,
        };
        if select.group_by.len() > MAX_GROUPING_KEYS {
            let message = format!("GROUP BY has {} keys; the limit is {MAX_GROUPING_KEYS}", select.group_by.len());
            return Err(QueryError::new(select.position, message));
        }
        let keys = self.expressions(&select.group_by, &names, &mut Aggregates::Forbidden("GROUP BY"))?;
        let mut aggregates = Aggregates::Collected(Vec::new());
        let mut projection = self.projection(select, &sources, &names, &mut aggregates)?;
        let mut order = Vec::new();
        for key in &select.order_by {
            let expression = self.expression(&key.expression, &names, &mut Aggregates::Forbidden("ORDER BY"))?;
            order.push(SortKey { expression, descending: key.descending });
        }
        let aggregates = match aggregates {
            Aggregates::Collected(aggregates) => aggregates,
            Aggregates::Forbidden(_) => Vec::new(),
        };
        let grouping =
            if keys.is_empty() && aggregates.is_empty() { None } else { Some(Grouping { keys, aggregates }) };
        if let Some(grouping) = &grouping {
            if !grouping.keys.is_empty() && !order.is_empty() {
                // So says the service's documentation of GROUP BY.
                return Err(QueryError::new(select.position, "ORDER BY is not supported in the presence of GROUP BY"));
            }
            // The order of rows cannot matter to the one group that they make.
            order.clear();
            let own: Vec<usize> = sources.iter().map(|source| source.slot).collect();
            regroup(&mut projection, &grouping.keys, &own)?;
        }
        if let (Some(_), Some(Count::Literal(_, position) | Count::Parameter(_, position))) =
            (&select.top, &select.offset)
        {
            return Err(QueryError::new(*position, "OFFSET LIMIT cannot be used together with TOP"));
        }
        let offset = self.count(select.offset.as_ref())?.unwrap_or(0);
        let limit = self.count(select.top.as_ref().or(select.limit.as_ref()))?;
        let height = self.height(&projection);
        if height > MAX_RESULT_HEIGHT {
            return Err(QueryError::new(
                select.position,
                format!("the result can nest {height} levels deep; the limit is {MAX_RESULT_HEIGHT}"),
            ));
        }
        Ok(Plan { sources, filter, grouping, projection, distinct: select.distinct, order, offset, limit, height })
    }

    fn source(&mut self, source: &tree::Source, names: &mut Names<'_>) -> Result<Source> {
        let (origin, height) = match &source.origin {
            tree::Origin::Subquery(select) => {
                let plan = self.select(select, names)?;
                let height = plan.height;
                (Origin::Subquery(Box::new(plan)), height)
            }
            tree::Origin::Path { root, steps } => {
                let slot = match names.find(root) {
                    Some(slot) => slot,
                    // The first source is the container, whatever the author calls it.
                    None if names.is_empty() => DOCUMENT,
                    None => return Err(unresolved(root, source.position)),
                };
                let base = Expression::Slot(SlotUse { slot, name: root.clone(), position: source.position });
                let steps: Vec<Step> = steps.iter().map(constant_step).collect();
                let value = if steps.is_empty() { base } else { Expression::Path(Box::new(base), steps) };
                (Origin::Value(value), self.height_of(slot))
            }
        };
        let slot = self.heights.len();
        self.heights.push(height);
        if let Origin::Value(Expression::Slot(slot_use)) = &origin
            && !source.iterates
            && self.documents.contains(&slot_use.slot)
        {
            self.documents.push(slot);
        }
        if let Some(alias) = &source.alias {
            if names.names.iter().any(|(known, _)| known == alias) {
                return Err(QueryError::new(source.position, format!("the name '{alias}' is given to two sources")));
            }
            names.names.push((alias.clone(), slot));
        }
        Ok(Source { slot, iterates: source.iterates, origin })
    }

    fn projection(
        &mut self,
        select: &Select,
        sources: &[Source],
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Expression> {
        match &select.projection {
            Projection::Value(expression) => self.expression(expression, names, aggregates),
            Projection::List(items) => self.object(items, names, aggregates),
            Projection::Star => match sources {
                [source] => {
                    let name = names.names.first().map_or("*", |(name, _)| name).to_owned();
                    Ok(Expression::Slot(SlotUse { slot: source.slot, name, position: select.position }))
                }
                [] => Err(QueryError::new(select.position, "'SELECT *' needs a FROM clause")),
                _ => Err(QueryError::new(select.position, "'SELECT *' is only valid with a single input set")),
            },
        }
    }

    fn expressions(
        &mut self,
        list: &[tree::Expression],
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Vec<Expression>> {
        list.iter().map(|expression| self.expression(expression, names, aggregates)).collect()
    }

    fn pair(
        &mut self,
        pair: &[tree::Expression; 2],
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<[Expression; 2]> {
        let [first, second] = pair;
        Ok([self.expression(first, names, aggregates)?, self.expression(second, names, aggregates)?])
    }

    fn triple(
        &mut self,
        triple: &[tree::Expression; 3],
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Box<[Expression; 3]>> {
        let [first, second, third] = triple;
        let first = self.expression(first, names, aggregates)?;
        let second = self.expression(second, names, aggregates)?;
        Ok(Box::new([first, second, self.expression(third, names, aggregates)?]))
    }

    fn object(
        &mut self,
        members: &[(String, tree::Expression)],
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Expression> {
        let mut bound = Vec::new();
        for (name, expression) in members {
            bound.push((name.clone(), self.expression(expression, names, aggregates)?));
        }
        let constant: Option<_> =
            bound.iter().map(|(name, member)| Some((name.clone(), constant(member)?.clone()))).collect();
        Ok(constant.map_or_else(|| Expression::Object(bound), |members| Expression::Constant(Value::Object(members))))
    }

    fn expression(
        &mut self,
        expression: &tree::Expression,
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Expression> {
        let position = expression.position;
        Ok(match &expression.node {
            Node::Literal(value) => Expression::Constant(value.clone()),
            Node::Undefined => Expression::Undefined,
            Node::Name(name) => {
                let slot = names.find(name).ok_or_else(|| unresolved(name, position))?;
                Expression::Slot(SlotUse { slot, name: name.clone(), position })
            }
            Node::Parameter(name) => Expression::Parameter(Arc::clone(self.parameter(name, position)?)),
            Node::Member(base, steps) => {
                let mut base = self.expression(base, names, aggregates)?;
                let mut steps = steps.as_slice();
                if let Some(value) = self.computed_step(&base, steps.first())? {
                    base = value;
                    steps = steps.get(1..).unwrap_or_default();
                }
                if steps.is_empty() {
                    return Ok(base);
                }
                let mut bound = Vec::new();
                for step in steps {
                    bound.push(match step {
                        MemberStep::Key(key) => Step::Key(key.clone()),
                        MemberStep::Computed(index) => computed_step(self.expression(index, names, aggregates)?),
                    });
                }
                Expression::Path(Box::new(base), bound)
            }
            Node::Array(items) => {
                let items = self.expressions(items, names, aggregates)?;
                let constant: Option<Vec<Value>> = items.iter().map(|item| constant(item).cloned()).collect();
                constant.map_or_else(|| Expression::Array(items), |items| Expression::Constant(Value::Array(items)))
            }
            Node::Object(members) => self.object(members, names, aggregates)?,
            Node::Unary(operator, operand) => {
                let operand = self.expression(operand, names, aggregates)?;
                match (operator, &operand) {
                    (UnaryOperator::Minus, Expression::Constant(Value::Number(number))) => {
                        Expression::Constant(negative(number))
                    }
                    _ => Expression::Unary(*operator, Box::new(operand)),
                }
            }
            Node::Chain(first, rest) => {
                let first = Box::new(self.expression(first, names, aggregates)?);
                let mut bound = Vec::new();
                for (operator, operand) in rest {
                    bound.push((*operator, self.expression(operand, names, aggregates)?));
                }
                Expression::Chain(first, bound)
            }
            Node::And(operands) => Expression::And(self.expressions(operands, names, aggregates)?),
            Node::Or(operands) => Expression::Or(self.expressions(operands, names, aggregates)?),
            Node::Coalesce(operands) => Expression::Coalesce(self.expressions(operands, names, aggregates)?),
            Node::Conditional(operands) => Expression::Conditional(self.triple(operands, names, aggregates)?),
            Node::Between { negated, operands } => {
                Expression::Between { negated: *negated, operands: self.triple(operands, names, aggregates)? }
            }
            Node::In { negated, needle, list } => Expression::In {
                negated: *negated,
                needle: Box::new(self.expression(needle, names, aggregates)?),
                list: self.expressions(list, names, aggregates)?,
            },
            Node::Like { negated, operands, escape } => {
                let [subject, pattern] = self.pair(operands, names, aggregates)?;
                let pattern = match text(&pattern) {
                    Some(text) => LikePattern::Fixed(Pattern::new(text, *escape)),
                    None => LikePattern::Computed { pattern, escape: *escape },
                };
                Expression::Like { negated: *negated, subject: Box::new(subject), pattern: Box::new(pattern) }
            }
            Node::Call { name, arguments } => self.call(name, arguments, position, names, aggregates)?,
            Node::Subquery(kind, select) => {
                let mut plan = self.select(select, names)?;
                match kind {
                    // One result answers the question.
                    SubqueryKind::Exists => plan.limit = Some(plan.limit.unwrap_or(1).min(1)),
                    SubqueryKind::Array => plan.height += 1,
                    SubqueryKind::Scalar => {}
                }
                Expression::Subquery(Box::new(Subquery { kind: *kind, plan, position }))
            }
        })
    }

    fn call(
        &mut self,
        name: &str,
        arguments: &[tree::Expression],
        position: Position,
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Expression> {
        if let Some(kind) = AggregateKind::named(name) {
            return self.aggregate(kind, name, arguments, position, names, aggregates);
        }
        if name.eq_ignore_ascii_case("IIF") {
            let [condition, consequence, alternative] = arguments else {
                return Err(wrong_arity("IIF", 3, 3, arguments.len(), position));
            };
            let condition = self.expression(condition, names, aggregates)?;
            let consequence = self.expression(consequence, names, aggregates)?;
            let alternative = self.expression(alternative, names, aggregates)?;
            return Ok(Expression::Conditional(Box::new([condition, consequence, alternative])));
        }
        let Some(function) = functions::find(name) else {
            let message = match functions::unsupported(name) {
                Some(area) => format!("'{name}' is not supported: {area} is not part of this server"),
                None => format!("'{name}' is not a recognized built-in function name"),
            };
            return Err(QueryError::new(position, message));
        };
        if !(function.least..=function.most).contains(&arguments.len()) {
            return Err(wrong_arity(function.name, function.least, function.most, arguments.len(), position));
        }
        let mut arguments = self.expressions(arguments, names, aggregates)?;
        if function.name == "REGEXMATCH" {
            let modifiers = arguments.get(2).map_or(Some(""), text);
            if let Some((pattern, modifiers)) = arguments.get(1).and_then(text).zip(modifiers) {
                let compiled = Compiled::new(pattern, modifiers);
                let compiled =
                    compiled.map_err(|message| QueryError::new(position, format!("REGEXMATCH: {message}")))?;
                return Ok(match compiled {
                    Some(pattern) => {
                        Expression::Matches(Box::new(Matches { subject: arguments.swap_remove(0), pattern, position }))
                    }
                    None => Expression::Undefined,
                });
            }
        }
        Ok(Expression::Call(Call { function, arguments, position }))
    }

    fn aggregate(
        &mut self,
        kind: AggregateKind,
        name: &str,
        arguments: &[tree::Expression],
        position: Position,
        names: &Names<'_>,
        aggregates: &mut Aggregates,
    ) -> Result<Expression> {
        if let Aggregates::Forbidden(place) = aggregates {
            return Err(QueryError::new(
                position,
                format!("the aggregate function {} cannot be used in {place}", name.to_uppercase()),
            ));
        }
        let [operand] = arguments else {
            return Err(wrong_arity(&name.to_uppercase(), 1, 1, arguments.len(), position));
        };
        let operand = self.expression(operand, names, &mut Aggregates::Forbidden("another aggregate function"))?;
        let Aggregates::Collected(collected) = aggregates else { return Ok(Expression::Undefined) };
        collected.push(Aggregate { kind, operand });
        Ok(Expression::Aggregate(collected.len() - 1))
    }

    fn parameter(&self, name: &str, position: Position) -> Result<&Arc<Value>> {
        let missing = || QueryError::new(position, format!("the parameter '{name}' is not supplied"));
        self.parameters.get(name).ok_or_else(missing)
    }

    fn count(&self, count: Option<&Count>) -> Result<Option<u64>> {
        let (value, position) = match count {
            None => return Ok(None),
            Some(Count::Literal(number, position)) => (Value::Number(number.clone()), *position),
            Some(Count::Parameter(name, position)) => (self.parameter(name, *position)?.as_ref().clone(), *position),
        };
        let count = value::as_whole(&value).and_then(|count| u64::try_from(count).ok());
        let wrong = || {
            QueryError::new(
                position,
                format!("TOP, OFFSET and LIMIT take a whole number that is not negative, not {value}"),
            )
        };
        count.map(Some).ok_or_else(wrong)
    }

    fn height_of(&self, slot: usize) -> usize {
        self.heights.get(slot).copied().unwrap_or(0)
    }

    /// How many levels the value of an expression can nest beyond the documents it is made of.
    fn height(&self, expression: &Expression) -> usize {
        let tallest = |list: &[Expression]| list.iter().map(|item| self.height(item)).max().unwrap_or(0);
        match expression {
            Expression::Slot(slot_use) => self.height_of(slot_use.slot),
            Expression::Path(base, _) => self.height(base),
            Expression::Array(items) => 1 + tallest(items),
            Expression::Object(members) => 1 + members.iter().map(|(_, member)| self.height(member)).max().unwrap_or(0),
            Expression::Coalesce(operands) => tallest(operands),
            Expression::Conditional(operands) => tallest(operands.as_slice()),
            Expression::Call(call) => call.function.height + tallest(&call.arguments),
            Expression::Subquery(subquery) => subquery.plan.height,
            // A key can be any value; what it was made of has been counted where it was bound, and it adds no level.
            Expression::GroupKey(_) | Expression::Aggregate(_) => self.heights.iter().copied().max().unwrap_or(0),
            Expression::Constant(_)
            | Expression::Parameter(_)
            | Expression::Undefined
            | Expression::Unary(..)
            | Expression::Chain(..)
            | Expression::And(_)
            | Expression::Or(_)
            | Expression::Between { .. }
            | Expression::In { .. }
            | Expression::Like { .. }
            | Expression::Matches(_) => 0,
        }
    }
}

fn unresolved(name: &str, position: Position) -> QueryError {
    QueryError::new(
        position,
        format!("identifier '{name}' could not be resolved; the sources of this query are named in its FROM clause"),
    )
}

fn wrong_arity(name: &str, least: usize, most: usize, found: usize, position: Position) -> QueryError {
    let wanted = match (least, most) {
        (least, most) if least == most => format!("{least}"),
        (least, usize::MAX) => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    };
    QueryError::new(position, format!("the {name} function takes {wanted} argument(s), not {found}"))
}

/// The value of a literal. A parameter is not one here: it may be large, and be used often.
fn constant(expression: &Expression) -> Option<&Value> {
    match expression {
        Expression::Constant(value) => Some(value),
        _ => None,
    }
}

/// The text that an expression always is.
fn text(expression: &Expression) -> Option<&str> {
    match expression {
        Expression::Constant(Value::String(text)) => Some(text),
        Expression::Parameter(parameter) => parameter.as_str(),
        _ => None,
    }
}

fn constant_step(step: &PathStep) -> Step {
    match step {
        PathStep::Key(key) => Step::Key(key.clone()),
        // An index beyond the address space is beyond every array.
        PathStep::Index(index) => Step::Index(usize::try_from(*index).unwrap_or(usize::MAX)),
    }
}

fn computed_step(index: Expression) -> Step {
    match index {
        Expression::Constant(Value::String(key)) => Step::Key(key),
        Expression::Constant(value) if value::as_whole(&value).is_some_and(|index| index >= 0) => {
            Step::Index(value::as_whole(&value).and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX))
        }
        index => Step::Computed(index),
    }
}

/// Minus a literal, exactly where 64 bits can hold it.
fn negative(number: &Number) -> Value {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let exact = whole.and_then(|whole| i64::try_from(-whole).ok());
    exact.map_or_else(|| Number::from_f64(-value::double(number)).map_or(Value::Null, Value::Number), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parser::parse_query;
    use super::*;

    fn plan(text: &str) -> Plan {
        bind(&parse_query(text).expect(text), vec![("@p".to_owned(), json!([1]))], &[]).expect(text)
    }

    #[test]
    fn literals_are_folded_and_parameters_shared() {
        assert_eq!(plan("SELECT VALUE [1, {a: -2.5}]").projection, Expression::Constant(json!([1, {"a": -2.5}])));
        assert_eq!(plan("SELECT VALUE -9223372036854775808").projection, Expression::Constant(json!(i64::MIN)));
        assert_eq!(plan("SELECT VALUE @p").projection, Expression::Parameter(Arc::new(json!([1]))));
        assert!(matches!(plan("SELECT VALUE [@p, @p]").projection, Expression::Array(items) if items.len() == 2));
        assert!(matches!(plan("SELECT VALUE [undefined]").projection, Expression::Array(_)));
    }

    #[test]
    fn names_are_resolved_innermost_first() {
        let plan = plan("SELECT VALUE (SELECT VALUE c FROM c IN c.items) FROM c");
        let Expression::Subquery(subquery) = &plan.projection else { panic!("not a subquery") };
        let (outer, inner) = (&plan.sources[0], &subquery.plan.sources[0]);
        let slot = |expression: &Expression| match expression {
            Expression::Slot(slot_use) => Some(slot_use.slot),
            Expression::Path(base, _) => match base.as_ref() {
                Expression::Slot(slot_use) => Some(slot_use.slot),
                _ => None,
            },
            _ => None,
        };
        assert!(matches!(&outer.origin, Origin::Value(value) if slot(value) == Some(DOCUMENT)));
        assert!(matches!(&inner.origin, Origin::Value(value) if slot(value) == Some(outer.slot)));
        assert_eq!(slot(&subquery.plan.projection), Some(inner.slot));
    }

    #[test]
    fn heights_add_up_through_nested_queries() {
        for (text, height) in [
            ("SELECT VALUE c FROM c", 0),
            ("SELECT c.a FROM c", 1),
            ("SELECT VALUE {a: [x, 1]} FROM (SELECT VALUE [c] FROM c) AS x", 3),
            ("SELECT VALUE ARRAY(SELECT i FROM i IN c.i) FROM c", 2),
            ("SELECT VALUE OBJECTTOARRAY(c) FROM c", 2),
            ("SELECT c.k, COUNT(1) FROM c GROUP BY c.k", 1),
        ] {
            assert_eq!(plan(text).height, height, "{text}");
        }
    }
}
