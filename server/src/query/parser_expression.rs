//! Tokens to tree: scalar expressions. Owns the precedence of operators; knows nothing of what names mean.
//!
//! From loosest to tightest, as in the published grammar: `? :`, `??`, `OR`, `AND`, then `BETWEEN`/`IN`/`LIKE`, then
//! `||`, `|`, `^`, `&`, `= != <>`, `< <= > >=`, shifts, `+ -`, `* / %`, and unary `+ - ~ NOT`. Two of them surprise:
//! `NOT a = b` is `(NOT a) = b`, and `a || b = c` is `a || (b = c)`.

use serde_json::Value;

use super::error::{Position, QueryError, Result};
use super::parser::Parser;
use super::token::Kind;
use super::tree::{BinaryOperator, Expression, MemberStep, Node, SubqueryKind, UnaryOperator};

/// The levels of two-operand operators, loosest first.
const LEVELS: [&[(&str, BinaryOperator)]; 9] = [
    &[("||", BinaryOperator::Concatenate)],
    &[("|", BinaryOperator::BitOr)],
    &[("^", BinaryOperator::BitXor)],
    &[("&", BinaryOperator::BitAnd)],
    &[("=", BinaryOperator::Equal), ("!=", BinaryOperator::NotEqual), ("<>", BinaryOperator::NotEqual)],
    &[
        ("<", BinaryOperator::Less),
        ("<=", BinaryOperator::LessOrEqual),
        (">", BinaryOperator::Greater),
        (">=", BinaryOperator::GreaterOrEqual),
    ],
    &[
        ("<<", BinaryOperator::ShiftLeft),
        (">>", BinaryOperator::ShiftRight),
        (">>>", BinaryOperator::ShiftRightUnsigned),
    ],
    &[("+", BinaryOperator::Add), ("-", BinaryOperator::Subtract)],
    &[("*", BinaryOperator::Multiply), ("/", BinaryOperator::Divide), ("%", BinaryOperator::Modulo)],
];

impl Parser {
    /// Any scalar expression.
    pub(super) fn expression(&mut self) -> Result<Expression> {
        self.nested(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expression> {
        let position = self.position();
        let condition = self.coalesce()?;
        if !self.take_symbol("?") {
            return Ok(condition);
        }
        let consequence = self.expression()?;
        self.expect_symbol(":")?;
        let alternative = self.expression()?;
        Ok(Expression { position, node: Node::Conditional(Box::new([condition, consequence, alternative])) })
    }

    /// One operand, or several between `separator`s joined by `join`.
    fn separated(
        &mut self,
        operand: fn(&mut Self) -> Result<Expression>,
        take_separator: impl Fn(&mut Self) -> bool,
        join: fn(Vec<Expression>) -> Node,
    ) -> Result<Expression> {
        let position = self.position();
        let first = operand(self)?;
        if !take_separator(self) {
            return Ok(first);
        }
        let mut operands = vec![first, operand(self)?];
        while take_separator(self) {
            operands.push(operand(self)?);
        }
        Ok(Expression { position, node: join(operands) })
    }

    fn coalesce(&mut self) -> Result<Expression> {
        self.separated(Self::or, |parser| parser.take_symbol("??"), Node::Coalesce)
    }

    fn or(&mut self) -> Result<Expression> {
        self.separated(Self::and, |parser| parser.take_keyword("OR"), Node::Or)
    }

    fn and(&mut self) -> Result<Expression> {
        self.separated(Self::predicate, |parser| parser.take_keyword("AND"), Node::And)
    }

    /// An operand with, perhaps, `[NOT] BETWEEN`, `IN` or `LIKE` after it.
    fn predicate(&mut self) -> Result<Expression> {
        let position = self.position();
        let operand = self.chain()?;
        let negated =
            self.is_keyword(0, "NOT") && ["BETWEEN", "IN", "LIKE"].iter().any(|keyword| self.is_keyword(1, keyword));
        if negated {
            self.advance();
        }
        let node = if self.take_keyword("BETWEEN") {
            let low = self.chain()?;
            self.expect_keyword("AND")?;
            let high = self.chain()?;
            Node::Between { negated, operands: Box::new([operand, low, high]) }
        } else if self.take_keyword("IN") {
            self.expect_symbol("(")?;
            if self.is_keyword(0, "SELECT") {
                let message =
                    "IN takes a list of values; for a subquery write ARRAY_CONTAINS(ARRAY(SELECT ...), value)";
                return Err(QueryError::new(self.position(), message));
            }
            let list = self.expressions()?;
            self.expect_symbol(")")?;
            Node::In { negated, needle: Box::new(operand), list }
        } else if self.take_keyword("LIKE") {
            let pattern = self.chain()?;
            let escape = self.escape_clause()?;
            Node::Like { negated, operands: Box::new([operand, pattern]), escape }
        } else {
            return Ok(operand);
        };
        Ok(Expression { position, node })
    }

    fn escape_clause(&mut self) -> Result<Option<char>> {
        if !self.take_keyword("ESCAPE") {
            return Ok(None);
        }
        let escape = match self.peek(0) {
            Kind::Text(text) => {
                let mut characters = text.chars();
                characters.next().filter(|_| characters.next().is_none())
            }
            _ => None,
        };
        if escape.is_none() {
            return Err(self.unexpected("a string of one character after ESCAPE"));
        }
        self.advance();
        Ok(escape)
    }

    /// Operands joined by two-operand operators.
    ///
    /// Reads the whole run first and groups it afterwards, tightest level first: one stack frame instead of one for
    /// each level.
    fn chain(&mut self) -> Result<Expression> {
        let mut operands = vec![self.unary()?];
        let mut operators = Vec::new();
        while let Kind::Symbol(symbol) = self.peek(0) {
            let Some(&(_, operator)) = LEVELS.iter().flat_map(|level| level.iter()).find(|(known, _)| known == symbol)
            else {
                break;
            };
            self.advance();
            operators.push(operator);
            operands.push(self.unary()?);
        }
        for level in LEVELS.iter().rev() {
            if operators.is_empty() {
                break;
            }
            (operands, operators) = group(operands, operators, level);
        }
        operands.pop().ok_or_else(|| self.unexpected("an expression"))
    }

    fn unary(&mut self) -> Result<Expression> {
        let position = self.position();
        let operator = match self.peek(0) {
            Kind::Symbol("+") => UnaryOperator::Plus,
            Kind::Symbol("-") => UnaryOperator::Minus,
            Kind::Symbol("~") => UnaryOperator::BitNot,
            Kind::Word(word) if word.eq_ignore_ascii_case("NOT") => UnaryOperator::Not,
            _ => return self.member(),
        };
        self.advance();
        let operand = self.nested(Self::unary)?;
        Ok(Expression { position, node: Node::Unary(operator, Box::new(operand)) })
    }

    /// A primary expression and the accesses after it.
    fn member(&mut self) -> Result<Expression> {
        let base = self.primary()?;
        let mut steps = Vec::new();
        loop {
            if self.take_symbol(".") {
                steps.push(MemberStep::Key(self.name()?));
            } else if self.take_symbol("[") {
                let index = self.expression()?;
                self.expect_symbol("]")?;
                steps.push(match index.node {
                    Node::Literal(Value::String(key)) => MemberStep::Key(key),
                    _ => MemberStep::Computed(index),
                });
            } else if steps.is_empty() {
                return Ok(base);
            } else {
                return Ok(Expression { position: base.position, node: Node::Member(Box::new(base), steps) });
            }
        }
    }

    fn primary(&mut self) -> Result<Expression> {
        let position = self.position();
        let node = match self.peek(0).clone() {
            Kind::Number(number) => self.literal(Value::Number(number)),
            Kind::Text(text) => self.literal(Value::String(text)),
            Kind::Parameter(name) => {
                self.advance();
                Node::Parameter(name)
            }
            Kind::Symbol("(") => return self.parenthesized(),
            Kind::Symbol("[") => {
                self.advance();
                let items = if self.is_symbol(0, "]") { Vec::new() } else { self.expressions()? };
                self.expect_symbol("]")?;
                Node::Array(items)
            }
            Kind::Symbol("{") => {
                self.advance();
                Node::Object(self.properties()?)
            }
            Kind::Word(word) => return self.word(&word, position),
            _ => return Err(self.unexpected("an expression")),
        };
        Ok(Expression { position, node })
    }

    fn literal(&mut self, value: Value) -> Node {
        self.advance();
        Node::Literal(value)
    }

    fn parenthesized(&mut self) -> Result<Expression> {
        let position = self.position();
        self.expect_symbol("(")?;
        let inner = if self.is_keyword(0, "SELECT") {
            Expression { position, node: self.subquery(SubqueryKind::Scalar)? }
        } else {
            self.expression()?
        };
        self.expect_symbol(")")?;
        Ok(inner)
    }

    fn subquery(&mut self, kind: SubqueryKind) -> Result<Node> {
        let select = self.nested(Self::select)?;
        Ok(Node::Subquery(kind, Box::new(select)))
    }

    /// The members of an object literal and its closing brace.
    fn properties(&mut self) -> Result<Vec<(String, Expression)>> {
        let mut properties = Vec::new();
        if self.take_symbol("}") {
            return Ok(properties);
        }
        loop {
            let key = match self.peek(0) {
                Kind::Text(key) | Kind::Word(key) => key.clone(),
                _ => return Err(self.unexpected("a property name")),
            };
            self.advance();
            self.expect_symbol(":")?;
            properties.push((key, self.expression()?));
            if !self.take_symbol(",") {
                self.expect_symbol("}")?;
                return Ok(properties);
            }
        }
    }

    /// An expression that begins with a word: a constant, a subquery, a call or a name.
    fn word(&mut self, word: &str, position: Position) -> Result<Expression> {
        let upper = word.to_ascii_uppercase();
        let calls = self.is_symbol(1, "(");
        let node = match upper.as_str() {
            "TRUE" => self.literal(Value::Bool(true)),
            "FALSE" => self.literal(Value::Bool(false)),
            "NULL" => self.literal(Value::Null),
            "UNDEFINED" => {
                self.advance();
                Node::Undefined
            }
            "EXISTS" | "ARRAY" if calls => {
                self.advance();
                self.advance();
                let kind = if upper == "EXISTS" { SubqueryKind::Exists } else { SubqueryKind::Array };
                let node = self.subquery(kind)?;
                self.expect_symbol(")")?;
                node
            }
            "ALL" | "FIRST" | "LAST" if calls && self.is_keyword(2, "SELECT") => {
                return Err(QueryError::new(position, format!("{upper}(subquery) is not supported")));
            }
            "UDF" if self.is_symbol(1, ".") => {
                return Err(QueryError::new(position, "user-defined functions are not supported"));
            }
            // LEFT and RIGHT are reserved words, and functions.
            "LEFT" | "RIGHT" if calls => {
                self.advance();
                self.call(upper)?
            }
            _ => {
                let name = self.name()?;
                if self.is_symbol(0, "(") { self.call(name)? } else { Node::Name(name) }
            }
        };
        Ok(Expression { position, node })
    }

    /// The arguments of a call to `name`; the next token is the opening parenthesis.
    fn call(&mut self, name: String) -> Result<Node> {
        self.expect_symbol("(")?;
        let arguments = if self.is_symbol(0, ")") { Vec::new() } else { self.expressions()? };
        self.expect_symbol(")")?;
        Ok(Node::Call { name, arguments })
    }
}

/// Joins each run of operands whose operators belong to `level` into one operand.
fn group(
    operands: Vec<Expression>,
    operators: Vec<BinaryOperator>,
    level: &[(&str, BinaryOperator)],
) -> (Vec<Expression>, Vec<BinaryOperator>) {
    let mut grouped = Vec::new();
    let mut remaining = Vec::new();
    let mut operands = operands.into_iter();
    let mut run: Vec<(BinaryOperator, Expression)> = Vec::new();
    let Some(mut first) = operands.next() else { return (grouped, remaining) };
    for (operator, operand) in operators.into_iter().zip(operands) {
        if level.iter().any(|(_, member)| *member == operator) {
            run.push((operator, operand));
        } else {
            grouped.push(chained(first, std::mem::take(&mut run)));
            remaining.push(operator);
            first = operand;
        }
    }
    grouped.push(chained(first, run));
    (grouped, remaining)
}

fn chained(first: Expression, rest: Vec<(BinaryOperator, Expression)>) -> Expression {
    if rest.is_empty() {
        return first;
    }
    Expression { position: first.position, node: Node::Chain(Box::new(first), rest) }
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse_query;
    use super::super::tree::Projection;
    use super::*;

    /// An expression with every grouping written out.
    fn shown(expression: &Expression) -> String {
        let list = |items: &[Expression], separator: &str| items.iter().map(shown).collect::<Vec<_>>().join(separator);
        match &expression.node {
            Node::Literal(value) => value.to_string(),
            Node::Name(name) => name.clone(),
            Node::Unary(operator, operand) => format!("{operator:?}({})", shown(operand)),
            Node::Chain(first, rest) => rest
                .iter()
                .fold(shown(first), |left, (operator, right)| format!("{operator:?}({left}, {})", shown(right))),
            Node::And(operands) => format!("({})", list(operands, " and ")),
            Node::Or(operands) => format!("({})", list(operands, " or ")),
            Node::Coalesce(operands) => format!("({})", list(operands, " ?? ")),
            Node::Conditional(operands) => format!("if({})", list(operands.as_slice(), ", ")),
            Node::Between { negated, operands } => format!("between{negated}({})", list(operands.as_slice(), ", ")),
            Node::In { negated, needle, list: items } => {
                format!("in{negated}({}; {})", shown(needle), list(items, ", "))
            }
            Node::Like { negated, operands, .. } => format!("like{negated}({})", list(operands.as_slice(), ", ")),
            Node::Call { name, arguments } => format!("{name}({})", list(arguments, ", ")),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn operators_group_by_precedence_and_from_the_left() {
        for (text, expected) in [
            ("a + b * c - d", "Subtract(Add(a, Multiply(b, c)), d)"),
            ("a - b - c", "Subtract(Subtract(a, b), c)"),
            ("a * -b", "Multiply(a, Minus(b))"),
            ("a < b = c", "Equal(Less(a, b), c)"),
            ("a & b = c", "BitAnd(a, Equal(b, c))"),
            ("a | b ^ c & d", "BitOr(a, BitXor(b, BitAnd(c, d)))"),
            ("a << 1 + 2", "ShiftLeft(a, Add(1, 2))"),
            ("a || b = c", "Concatenate(a, Equal(b, c))"),
            ("NOT a = b", "Equal(Not(a), b)"),
            ("NOT a AND b", "(Not(a) and b)"),
            ("a OR b AND c OR d", "(a or (b and c) or d)"),
            ("a ?? b OR c", "(a ?? (b or c))"),
            ("a ?? b ? c : d ? e : f", "if((a ?? b), c, if(d, e, f))"),
            ("a BETWEEN 1 AND 2 AND b", "(betweenfalse(a, 1, 2) and b)"),
            ("a NOT IN (1, b + 1) OR c", "(intrue(a; 1, Add(b, 1)) or c)"),
            ("a || b LIKE c || d", "likefalse(Concatenate(a, b), Concatenate(c, d))"),
            ("left(a, 1) = RIGHT(b, 1)", "Equal(LEFT(a, 1), RIGHT(b, 1))"),
            ("(a OR b) AND c", "((a or b) and c)"),
        ] {
            let select = parse_query(&format!("SELECT VALUE {text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
            let Projection::Value(expression) = &select.projection else { panic!("{text}: not a value") };
            assert_eq!(shown(expression), expected, "{text}");
        }
    }
}
