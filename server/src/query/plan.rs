//! A checked query: every name is a slot, every function a pointer, every parameter its value. Owns the shapes that
//! evaluation runs on; the binder makes them, and only well-formed ones.

use std::sync::Arc;

use serde_json::Value;

use super::error::Position;
use super::functions::{Compiled, Function};
use super::like::Pattern;
use super::tree::{BinaryOperator, SubqueryKind, UnaryOperator};

/// The slot that holds the document itself.
pub(super) const DOCUMENT: usize = 0;

/// One `SELECT`, ready to run.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) sources: Vec<Source>,
    pub(super) filter: Option<Expression>,
    pub(super) grouping: Option<Grouping>,
    /// What comes out of each row or, with a grouping, of each group.
    pub(super) projection: Expression,
    pub(super) distinct: bool,
    pub(super) order: Vec<SortKey>,
    pub(super) offset: u64,
    pub(super) limit: Option<u64>,
    /// How many levels a result can nest beyond the documents it is made of.
    pub(super) height: usize,
}

/// A stream of values bound to a slot.
#[derive(Debug, PartialEq)]
pub(super) struct Source {
    pub(super) slot: usize,
    /// One row for each element of an array, instead of one for the value itself.
    pub(super) iterates: bool,
    pub(super) origin: Origin,
}

/// Where a source's values come from.
#[derive(Debug, PartialEq)]
pub(super) enum Origin {
    Value(Expression),
    Subquery(Box<Plan>),
}

/// How rows are put together. Without keys all rows are one group, which is there even if no row is.
#[derive(Debug, PartialEq)]
pub(super) struct Grouping {
    pub(super) keys: Vec<Expression>,
    pub(super) aggregates: Vec<Aggregate>,
}

/// One aggregate function and what it is computed of.
#[derive(Debug, PartialEq)]
pub(super) struct Aggregate {
    pub(super) kind: AggregateKind,
    pub(super) operand: Expression,
}

/// The aggregate functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AggregateKind {
    Count,
    CountIf,
    Sum,
    Average,
    Minimum,
    Maximum,
}

impl AggregateKind {
    /// The aggregate function of this name, in any case.
    pub(super) fn named(name: &str) -> Option<AggregateKind> {
        match name.to_ascii_uppercase().as_str() {
            "COUNT" => Some(AggregateKind::Count),
            "COUNTIF" => Some(AggregateKind::CountIf),
            "SUM" => Some(AggregateKind::Sum),
            "AVG" => Some(AggregateKind::Average),
            "MIN" => Some(AggregateKind::Minimum),
            "MAX" => Some(AggregateKind::Maximum),
            _ => None,
        }
    }
}

/// One key of `ORDER BY`.
#[derive(Debug, PartialEq)]
pub(super) struct SortKey {
    pub(super) expression: Expression,
    pub(super) descending: bool,
}

/// A use of a source; where it stands does not matter to whether two uses are the same.
#[derive(Clone, Debug)]
pub(super) struct SlotUse {
    pub(super) slot: usize,
    pub(super) name: String,
    pub(super) position: Position,
}

impl PartialEq for SlotUse {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot
    }
}

/// One step of a path.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
    Computed(Expression),
}

/// A call of a system function. Two calls are the same if function and arguments are.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) arguments: Vec<Expression>,
    pub(super) position: Position,
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && self.arguments == other.arguments
    }
}

/// A text matched against a compiled pattern.
#[derive(Debug)]
pub(super) struct Matches {
    pub(super) subject: Expression,
    pub(super) pattern: Compiled,
    pub(super) position: Position,
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject && self.pattern == other.pattern
    }
}

/// A nested query.
#[derive(Debug)]
pub(super) struct Subquery {
    pub(super) kind: SubqueryKind,
    pub(super) plan: Plan,
    pub(super) position: Position,
}

impl PartialEq for Subquery {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.plan == other.plan
    }
}

/// The pattern of a `LIKE`.
#[derive(Debug, PartialEq)]
pub(super) enum LikePattern {
    Fixed(Pattern),
    Computed { pattern: Expression, escape: Option<char> },
}

/// A scalar expression.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    Constant(Value),
    /// The value of a parameter, shared by all its uses.
    Parameter(Arc<Value>),
    Undefined,
    Slot(SlotUse),
    Path(Box<Expression>, Vec<Step>),
    Array(Vec<Expression>),
    Object(Vec<(String, Expression)>),
    Unary(UnaryOperator, Box<Expression>),
    Chain(Box<Expression>, Vec<(BinaryOperator, Expression)>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Coalesce(Vec<Expression>),
    Conditional(Box<[Expression; 3]>),
    Between {
        negated: bool,
        operands: Box<[Expression; 3]>,
    },
    In {
        negated: bool,
        needle: Box<Expression>,
        list: Vec<Expression>,
    },
    Like {
        negated: bool,
        subject: Box<Expression>,
        pattern: Box<LikePattern>,
    },
    Call(Call),
    /// `REGEXMATCH` with a pattern that is known.
    Matches(Box<Matches>),
    Subquery(Box<Subquery>),
    /// The value of a grouping key, in a projection of groups.
    GroupKey(usize),
    /// The value of an aggregate, in a projection of groups.
    Aggregate(usize),
}
