//! The syntax tree: what a query says, names unresolved. Owns the shapes only; the parser builds them and the binder
//! turns them into a plan.
//!
//! Operators of one precedence level are kept as flat lists and member accesses as one path, so the height of a tree is
//! the nesting that the author wrote (which the parser bounds) and not the length of `a OR b OR c ...`.

use serde_json::Value;

use super::error::Position;

/// One `SELECT`, top level or nested.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) position: Position,
    pub(super) distinct: bool,
    pub(super) top: Option<Count>,
    pub(super) projection: Projection,
    pub(super) from: Option<From>,
    pub(super) filter: Option<Expression>,
    pub(super) group_by: Vec<Expression>,
    pub(super) order_by: Vec<OrderKey>,
    pub(super) offset: Option<Count>,
    pub(super) limit: Option<Count>,
}

/// What comes out of each row.
#[derive(Clone, Debug)]
pub(super) enum Projection {
    Star,
    Value(Expression),
    /// Result properties in order, under the name that the author or the service gives them.
    List(Vec<(String, Expression)>),
}

/// A number of rows: a literal or a parameter.
#[derive(Clone, Debug)]
pub(super) enum Count {
    Literal(serde_json::Number, Position),
    Parameter(String, Position),
}

/// `FROM first JOIN .. JOIN ..`
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) first: Source,
    pub(super) joins: Vec<Source>,
}

/// One named stream of values.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) position: Position,
    /// The name that the rest of the query uses; absent for an unnamed subquery.
    pub(super) alias: Option<String>,
    /// `alias IN origin`: one row for each element of the array, instead of one for the value itself.
    pub(super) iterates: bool,
    pub(super) origin: Origin,
}

/// Where a source's values come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Path { root: String, steps: Vec<PathStep> },
    Subquery(Box<Select>),
}

/// One constant step of a source's path.
#[derive(Clone, Debug)]
pub(super) enum PathStep {
    Key(String),
    Index(u64),
}

/// One key of `ORDER BY`.
#[derive(Clone, Debug)]
pub(super) struct OrderKey {
    pub(super) expression: Expression,
    pub(super) descending: bool,
}

/// A scalar expression and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) position: Position,
    pub(super) node: Node,
}

/// The kinds of scalar expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Literal(Value),
    Undefined,
    Name(String),
    Parameter(String),
    /// `base.key` and `base[expression]`, in order.
    Member(Box<Expression>, Vec<MemberStep>),
    Array(Vec<Expression>),
    Object(Vec<(String, Expression)>),
    Unary(UnaryOperator, Box<Expression>),
    /// Operators of one precedence level, applied from left to right.
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
        operands: Box<[Expression; 2]>,
        escape: Option<char>,
    },
    Call {
        name: String,
        arguments: Vec<Expression>,
    },
    Subquery(SubqueryKind, Box<Select>),
}

/// One step of a member access.
#[derive(Clone, Debug)]
pub(super) enum MemberStep {
    Key(String),
    Computed(Expression),
}

/// How a nested query's results become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubqueryKind {
    /// The only result, or undefined if there is none.
    Scalar,
    /// Whether there is a result.
    Exists,
    /// All results.
    Array,
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnaryOperator {
    Plus,
    Minus,
    BitNot,
    Not,
}

/// Operators with two operands, other than the logical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOperator {
    Multiply,
    Divide,
    Modulo,
    Add,
    Subtract,
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    BitAnd,
    BitXor,
    BitOr,
    Concatenate,
}
