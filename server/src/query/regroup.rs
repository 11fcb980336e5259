//! The last check of a query that groups: what its projection may use. Owns the rewrite of grouping keys in a
//! projection into [`Expression::GroupKey`] and the refusal of everything that differs from row to row.

use super::error::{QueryError, Result};
use super::plan::{Expression, LikePattern, Origin, Plan, Step};

/// Replaces the grouping keys in `expression` by their value in the group.
///
/// # Errors
/// A use of one of the query's `own` sources that is neither in a key nor in an aggregate.
pub(super) fn regroup(expression: &mut Expression, keys: &[Expression], own: &[usize]) -> Result<()> {
    if let Some(key) = keys.iter().position(|key| key == expression) {
        *expression = Expression::GroupKey(key);
        return Ok(());
    }
    match expression {
        Expression::Slot(slot_use) if own.contains(&slot_use.slot) => {
            let message = format!(
                "'{}' is used in the select list but is neither in GROUP BY nor in an aggregate function",
                slot_use.name
            );
            Err(QueryError::new(slot_use.position, message))
        }
        Expression::Subquery(subquery) => regroup_plan(&mut subquery.plan, keys, own),
        _ => for_each_operand(expression, &mut |operand| regroup(operand, keys, own)),
    }
}

fn regroup_plan(plan: &mut Plan, keys: &[Expression], own: &[usize]) -> Result<()> {
    let mut visit = |expression: &mut Expression| regroup(expression, keys, own);
    for source in &mut plan.sources {
        match &mut source.origin {
            Origin::Value(value) => visit(value)?,
            Origin::Subquery(inner) => regroup_plan(inner, keys, own)?,
        }
    }
    plan.filter.as_mut().map_or(Ok(()), &mut visit)?;
    if let Some(grouping) = &mut plan.grouping {
        grouping.keys.iter_mut().try_for_each(&mut visit)?;
        grouping.aggregates.iter_mut().try_for_each(|aggregate| visit(&mut aggregate.operand))?;
    }
    plan.order.iter_mut().try_for_each(|key| visit(&mut key.expression))?;
    visit(&mut plan.projection)
}

/// Calls `visit` for each expression directly inside `expression`.
pub(super) fn for_each_operand(
    expression: &mut Expression,
    visit: &mut dyn FnMut(&mut Expression) -> Result<()>,
) -> Result<()> {
    match expression {
        Expression::Constant(_)
        | Expression::Parameter(_)
        | Expression::Undefined
        | Expression::Slot(_)
        | Expression::GroupKey(_)
        | Expression::Aggregate(_)
        | Expression::Subquery(_) => Ok(()),
        Expression::Path(base, steps) => {
            visit(base)?;
            steps.iter_mut().try_for_each(|step| match step {
                Step::Computed(index) => visit(index),
                Step::Key(_) | Step::Index(_) => Ok(()),
            })
        }
        Expression::Object(members) => members.iter_mut().try_for_each(|(_, member)| visit(member)),
        Expression::Unary(_, operand) => visit(operand),
        Expression::Chain(first, rest) => {
            visit(first)?;
            rest.iter_mut().try_for_each(|(_, operand)| visit(operand))
        }
        Expression::Array(operands)
        | Expression::And(operands)
        | Expression::Or(operands)
        | Expression::Coalesce(operands) => operands.iter_mut().try_for_each(visit),
        Expression::Conditional(operands) | Expression::Between { operands, .. } => {
            operands.iter_mut().try_for_each(visit)
        }
        Expression::In { needle, list, .. } => {
            visit(needle)?;
            list.iter_mut().try_for_each(visit)
        }
        Expression::Like { subject, pattern, .. } => {
            visit(subject)?;
            match pattern.as_mut() {
                LikePattern::Fixed(_) => Ok(()),
                LikePattern::Computed { pattern, .. } => visit(pattern),
            }
        }
        Expression::Matches(matches) => visit(&mut matches.subject),
        Expression::Call(call) => call.arguments.iter_mut().try_for_each(visit),
    }
}
