//! Evaluation of expressions against bound values. Owns the meaning of every operator and the three-valued logic; rows,
//! groups and order are `collect`'s.
//!
//! The rules are those of the offline engine that Microsoft tests its .NET SDK with, where the documentation is silent
//! or differs:
//!
//! * arithmetic is on doubles and undefined unless both operands are numbers; bits are those of 32-bit integers, as in
//!   JavaScript;
//! * `=` and `!=` are undefined only if an operand is; `<` and its kin also between types and for arrays and objects;
//! * `AND` is false if any operand is false, `OR` true if any is true, and otherwise both are undefined unless all
//!   operands are boolean;
//! * `a BETWEEN b AND c` is `a >= b AND a <= c`; `IN` is undefined only for an undefined needle;
//! * undefined members and items of literals are left out; a condition that is not `true` takes the second branch.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::{Map, Value};

use super::collect;
use super::error::{Position, QueryError, Result};
use super::like::Pattern;
use super::plan::{Expression, LikePattern, Step, Subquery};
use super::tree::{BinaryOperator, SubqueryKind, UnaryOperator};
use super::value;

/// How much work one document (and the end of a query) may cost, in steps of some ten nanoseconds or bytes copied:
/// joins multiply and strings double, and a query must not hang.
const MAX_WORK: usize = 40_000_000;

/// A value that may be undefined, borrowed from a document or a plan where possible.
pub(super) type Evaluated<'v> = Option<Cow<'v, Value>>;

/// What is the same for all of one evaluation.
#[derive(Debug)]
pub(super) struct Context {
    /// When the query began, in units of 100 ns since 1970: every clock function of one query says the same.
    pub(super) ticks: i64,
    work: Cell<usize>,
}

impl Context {
    pub(super) fn new(ticks: i64) -> Self {
        Context { ticks, work: Cell::new(0) }
    }

    /// Accounts for work.
    ///
    /// # Errors
    /// There was too much of it; the message has no place because no single expression is to blame.
    pub(super) fn charge(&self, work: usize) -> std::result::Result<(), String> {
        let total = self.work.get().saturating_add(work);
        self.work.set(total);
        if total > MAX_WORK {
            Err("the query does too much work for one document (joins, subqueries or string growth)".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Values bound to slots, innermost first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'s> {
    pub(super) slot: usize,
    pub(super) value: &'s Value,
    pub(super) outer: Option<&'s Scope<'s>>,
}

/// The values of a group, for a projection of groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupValues<'s> {
    pub(super) keys: &'s [Option<Value>],
    pub(super) aggregates: &'s [Option<Value>],
}

/// Everything an expression can refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'s> {
    pub(super) scope: Option<&'s Scope<'s>>,
    pub(super) group: GroupValues<'s>,
    pub(super) context: &'s Context,
}

impl<'s> Frame<'s> {
    fn slot(&self, slot: usize) -> Option<&'s Value> {
        let mut scope = self.scope;
        while let Some(bound) = scope {
            if bound.slot == slot {
                return Some(bound.value);
            }
            scope = bound.outer;
        }
        None
    }

    /// [`Context::charge`] with an error that belongs to the whole query.
    pub(super) fn charge(&self, work: usize) -> Result<()> {
        self.context.charge(work).map_err(|message| QueryError::new(Position::START, message))
    }

    /// Accounts for comparing two values, where that is more than a step.
    fn charge_comparison(&self, left: &Value, right: &Value) -> Result<()> {
        match (left, right) {
            (Value::String(left), Value::String(right)) => self.charge(left.len().min(right.len()) / 16),
            (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
                self.charge(value::weight(left) / 16)
            }
            _ => Ok(()),
        }
    }

    /// A value to keep; a copy is work, and so is the place that it takes.
    pub(super) fn keep(&self, value: Cow<'_, Value>) -> Result<Value> {
        match value {
            Cow::Owned(value) => {
                self.charge(size_of::<Value>())?;
                Ok(value)
            }
            Cow::Borrowed(value) => {
                self.charge(value::weight(value))?;
                Ok(value.clone())
            }
        }
    }
}

/// Whether a condition holds: only `true` does.
pub(super) fn is_true(expression: &Expression, frame: Frame<'_>) -> Result<bool> {
    Ok(boolean(&evaluate(expression, frame)?) == Some(true))
}

/// The value of an expression.
///
/// # Errors
/// Too much work, a scalar subquery with several results, or a function that cannot go on; never a value of the wrong
/// type, which is undefined.
pub(super) fn evaluate<'v>(expression: &'v Expression, frame: Frame<'v>) -> Result<Evaluated<'v>> {
    frame.charge(1)?;
    Ok(match expression {
        Expression::Constant(value) => Some(Cow::Borrowed(value)),
        Expression::Parameter(value) => Some(Cow::Borrowed(value.as_ref())),
        Expression::Undefined => None,
        Expression::Slot(slot_use) => frame.slot(slot_use.slot).map(Cow::Borrowed),
        Expression::GroupKey(key) => frame.group.keys.get(*key).and_then(Option::as_ref).map(Cow::Borrowed),
        Expression::Aggregate(index) => frame.group.aggregates.get(*index).and_then(Option::as_ref).map(Cow::Borrowed),
        Expression::Path(base, steps) => path(evaluate(base, frame)?, steps, frame)?,
        Expression::Array(items) => {
            let mut array = Vec::new();
            for item in items {
                if let Some(item) = evaluate(item, frame)? {
                    array.push(frame.keep(item)?);
                }
            }
            owned(Value::Array(array))
        }
        Expression::Object(members) => {
            let mut object = Map::new();
            for (name, member) in members {
                if let Some(member) = evaluate(member, frame)? {
                    frame.charge(name.len())?;
                    object.insert(name.clone(), frame.keep(member)?);
                }
            }
            owned(Value::Object(object))
        }
        Expression::Unary(operator, operand) => unary(*operator, evaluate(operand, frame)?),
        Expression::Chain(first, rest) => {
            let mut left = evaluate(first, frame)?;
            for (operator, right) in rest {
                left = binary(*operator, left, evaluate(right, frame)?, frame)?;
            }
            left
        }
        Expression::And(operands) => logical(operands, false, frame)?,
        Expression::Or(operands) => logical(operands, true, frame)?,
        Expression::Coalesce(operands) => {
            let mut first = None;
            for operand in operands {
                first = evaluate(operand, frame)?;
                if first.is_some() {
                    break;
                }
            }
            first
        }
        Expression::Conditional(operands) => {
            let [condition, consequence, alternative] = operands.as_ref();
            if is_true(condition, frame)? { evaluate(consequence, frame)? } else { evaluate(alternative, frame)? }
        }
        Expression::Between { negated, operands } => {
            let [operand, low, high] = operands.as_ref();
            let (operand, low, high) = (evaluate(operand, frame)?, evaluate(low, frame)?, evaluate(high, frame)?);
            let above = related(&operand, &low, std::cmp::Ordering::is_ge);
            let below = related(&operand, &high, std::cmp::Ordering::is_le);
            let between = match (above, below) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            between.and_then(|between| owned(Value::Bool(between != *negated)))
        }
        Expression::In { negated, needle, list } => {
            let Some(needle) = evaluate(needle, frame)? else { return Ok(None) };
            let mut found = false;
            for item in list {
                if let Some(item) = evaluate(item, frame)? {
                    frame.charge_comparison(&needle, &item)?;
                    found = value::equals(&needle, &item);
                    if found {
                        break;
                    }
                }
            }
            owned(Value::Bool(found != *negated))
        }
        Expression::Like { negated, subject, pattern } => like(&evaluate(subject, frame)?, pattern, *negated, frame)?,
        Expression::Call(call) => {
            let mut arguments = Vec::with_capacity(call.arguments.len());
            for argument in &call.arguments {
                arguments.push(evaluate(argument, frame)?);
            }
            let result = (call.function.evaluate)(&arguments, frame.context);
            let result = result
                .map_err(|message| QueryError::new(call.position, format!("{}: {message}", call.function.name)))?;
            result.map(Cow::Owned)
        }
        Expression::Matches(matches) => {
            let subject = evaluate(&matches.subject, frame)?;
            let Some(text) = subject.as_deref().and_then(Value::as_str) else { return Ok(None) };
            let found = matches.pattern.is_match(text, frame.context);
            owned(Value::Bool(found.map_err(|message| QueryError::new(matches.position, message))?))
        }
        Expression::Subquery(subquery) => self::subquery(subquery, frame)?,
    })
}

fn owned<'v>(value: Value) -> Evaluated<'v> {
    Some(Cow::Owned(value))
}

fn boolean(value: &Evaluated<'_>) -> Option<bool> {
    value.as_deref().and_then(Value::as_bool)
}

fn path<'v>(mut value: Evaluated<'v>, steps: &'v [Step], frame: Frame<'v>) -> Result<Evaluated<'v>> {
    for step in steps {
        let Some(found) = value else { return Ok(None) };
        value = match step {
            Step::Key(key) => member(found, key),
            Step::Index(index) => item(found, *index),
            Step::Computed(index) => match evaluate(index, frame)?.as_deref() {
                Some(Value::String(key)) => member(found, key),
                Some(index) => value::as_whole(index)
                    .and_then(|index| usize::try_from(index).ok())
                    .and_then(|index| item(found, index)),
                None => None,
            },
        };
    }
    Ok(value)
}

fn member<'v>(value: Cow<'v, Value>, key: &str) -> Evaluated<'v> {
    match value {
        Cow::Borrowed(value) => value.as_object()?.get(key).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut members)) => members.swap_remove(key).map(Cow::Owned),
        Cow::Owned(_) => None,
    }
}

fn item(value: Cow<'_, Value>, index: usize) -> Evaluated<'_> {
    match value {
        Cow::Borrowed(value) => value.as_array()?.get(index).map(Cow::Borrowed),
        Cow::Owned(Value::Array(mut items)) => (index < items.len()).then(|| Cow::Owned(items.swap_remove(index))),
        Cow::Owned(_) => None,
    }
}

/// `AND` (decided by a false operand) or `OR` (decided by a true one).
fn logical<'v>(operands: &'v [Expression], decisive: bool, frame: Frame<'v>) -> Result<Evaluated<'v>> {
    let mut all_boolean = true;
    for operand in operands {
        match boolean(&evaluate(operand, frame)?) {
            Some(value) if value == decisive => return Ok(owned(Value::Bool(decisive))),
            Some(_) => {}
            None => all_boolean = false,
        }
    }
    Ok(all_boolean.then(|| Cow::Owned(Value::Bool(!decisive))))
}

fn unary(operator: UnaryOperator, operand: Evaluated<'_>) -> Evaluated<'_> {
    let operand = operand?;
    let result = match operator {
        UnaryOperator::Not => Some(Value::Bool(!operand.as_bool()?)),
        UnaryOperator::Plus => value::number(value::as_double(&operand)?),
        UnaryOperator::Minus => value::number(-value::as_double(&operand)?),
        UnaryOperator::BitNot => Some(Value::from(!bits(value::as_double(&operand)?))),
    };
    result.map(Cow::Owned)
}

fn related(left: &Evaluated<'_>, right: &Evaluated<'_>, accept: fn(std::cmp::Ordering) -> bool) -> Option<bool> {
    value::relate(left.as_deref()?, right.as_deref()?).map(accept)
}

fn binary<'v>(
    operator: BinaryOperator,
    left: Evaluated<'v>,
    right: Evaluated<'v>,
    frame: Frame<'v>,
) -> Result<Evaluated<'v>> {
    let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
    frame.charge_comparison(&left, &right)?;
    let relation =
        |accept: fn(std::cmp::Ordering) -> bool| value::relate(&left, &right).map(|order| Value::Bool(accept(order)));
    let arithmetic =
        |operation: fn(f64, f64) -> f64| value::number(operation(value::as_double(&left)?, value::as_double(&right)?));
    let bitwise = |operation: fn(i32, i32) -> i64| {
        Some(Value::from(operation(bits(value::as_double(&left)?), bits(value::as_double(&right)?))))
    };
    let result = match operator {
        BinaryOperator::Equal => Some(Value::Bool(value::equals(&left, &right))),
        BinaryOperator::NotEqual => Some(Value::Bool(!value::equals(&left, &right))),
        BinaryOperator::Less => relation(std::cmp::Ordering::is_lt),
        BinaryOperator::LessOrEqual => relation(std::cmp::Ordering::is_le),
        BinaryOperator::Greater => relation(std::cmp::Ordering::is_gt),
        BinaryOperator::GreaterOrEqual => relation(std::cmp::Ordering::is_ge),
        BinaryOperator::Add => arithmetic(|left, right| left + right),
        BinaryOperator::Subtract => arithmetic(|left, right| left - right),
        BinaryOperator::Multiply => arithmetic(|left, right| left * right),
        BinaryOperator::Divide => arithmetic(|left, right| left / right),
        BinaryOperator::Modulo => arithmetic(|left, right| left % right),
        BinaryOperator::BitAnd => bitwise(|left, right| i64::from(left & right)),
        BinaryOperator::BitOr => bitwise(|left, right| i64::from(left | right)),
        BinaryOperator::BitXor => bitwise(|left, right| i64::from(left ^ right)),
        // The distance is taken modulo 32, as in JavaScript, which `wrapping_sh*` does.
        BinaryOperator::ShiftLeft => bitwise(|left, right| i64::from(left.wrapping_shl(right.cast_unsigned()))),
        BinaryOperator::ShiftRight => bitwise(|left, right| i64::from(left.wrapping_shr(right.cast_unsigned()))),
        BinaryOperator::ShiftRightUnsigned => {
            bitwise(|left, right| i64::from(left.cast_unsigned().wrapping_shr(right.cast_unsigned())))
        }
        BinaryOperator::Concatenate => match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => {
                frame.charge(left.len() + right.len())?;
                Some(Value::String([left, right].concat()))
            }
            _ => None,
        },
    };
    Ok(result.map(Cow::Owned))
}

/// The 32 bits that JavaScript's operators see: the integer part modulo 2^32, two's complement.
pub(super) fn bits(double: f64) -> i32 {
    // JSON has neither infinities nor NaN, so the remainder is a whole number below 2^32 in size.
    let remainder = (double.trunc() % 4_294_967_296.0) as i64;
    (remainder & 0xffff_ffff) as u32 as i32
}

fn like<'v>(
    subject: &Evaluated<'v>,
    pattern: &'v LikePattern,
    negated: bool,
    frame: Frame<'v>,
) -> Result<Evaluated<'v>> {
    let computed;
    let pattern = match pattern {
        LikePattern::Fixed(pattern) => pattern,
        LikePattern::Computed { pattern, escape } => {
            let pattern = evaluate(pattern, frame)?;
            let Some(text) = pattern.as_deref().and_then(Value::as_str) else { return Ok(None) };
            frame.charge(text.len())?;
            computed = Pattern::new(text, *escape);
            &computed
        }
    };
    let Some(text) = subject.as_deref().and_then(Value::as_str) else { return Ok(None) };
    frame.charge(pattern.work(text) / 4)?;
    Ok(owned(Value::Bool(pattern.matches(text) != negated)))
}

fn subquery<'v>(subquery: &'v Subquery, frame: Frame<'v>) -> Result<Evaluated<'v>> {
    let mut results = collect::run(&subquery.plan, frame)?;
    Ok(match subquery.kind {
        SubqueryKind::Exists => owned(Value::Bool(!results.is_empty())),
        SubqueryKind::Array => owned(Value::Array(results)),
        SubqueryKind::Scalar => {
            if results.len() > 1 {
                return Err(QueryError::new(
                    subquery.position,
                    "the cardinality of a scalar subquery result set cannot be greater than one",
                ));
            }
            results.pop().map(Cow::Owned)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_javascript() {
        for (double, expected) in [
            (0.0, 0),
            (-0.5, 0),
            (1.9, 1),
            (-1.9, -1),
            (2_147_483_647.0, i32::MAX),
            (2_147_483_648.0, i32::MIN),
            (4_294_967_295.0, -1),
            (4_294_967_296.0, 0),
            (-2_147_483_649.0, i32::MAX),
            (6_442_450_944.0, i32::MIN),
            (1e300, 0),
        ] {
            assert_eq!(bits(double), expected, "{double}");
        }
    }
}
