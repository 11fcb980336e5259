//! Tree to text, for queries that are handed out rewritten. Owns where parentheses are needed; reading the text again
//! gives the same tree.

use std::fmt::Write as _;

use serde_json::Value;

use super::parser::{implied_name, is_reserved};
use super::tree::{
    BinaryOperator, Count, Expression, MemberStep, Node, Origin, PathStep, Projection, Select, Source, SubqueryKind,
    UnaryOperator,
};

/// How tightly a construct binds, loosest first, as the parser has it.
const CONDITIONAL: u8 = 0;
const COALESCE: u8 = 1;
const OR: u8 = 2;
const AND: u8 = 3;
const PREDICATE: u8 = 4;
const CHAIN: u8 = 5;
const UNARY: u8 = 14;
const PRIMARY: u8 = 15;

/// A whole query.
pub(super) fn select(select: &Select) -> String {
    let mut printer = Printer { out: String::new() };
    printer.select(select);
    printer.out
}

/// One expression.
pub(super) fn expression(expression: &Expression) -> String {
    let mut printer = Printer { out: String::new() };
    printer.expression(expression, CONDITIONAL);
    printer.out
}

struct Printer {
    out: String,
}

impl Printer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn select(&mut self, select: &Select) {
        self.put("SELECT ");
        if select.distinct {
            self.put("DISTINCT ");
        }
        if let Some(top) = &select.top {
            self.put("TOP ");
            self.count(top);
            self.put(" ");
        }
        self.projection(&select.projection);
        if let Some(from) = &select.from {
            self.put(" FROM ");
            self.source(&from.first);
            for join in &from.joins {
                self.put(" JOIN ");
                self.source(join);
            }
        }
        if let Some(filter) = &select.filter {
            self.put(" WHERE ");
            self.expression(filter, CONDITIONAL);
        }
        if !select.group_by.is_empty() {
            self.put(" GROUP BY ");
            self.list(&select.group_by);
        }
        for (index, key) in select.order_by.iter().enumerate() {
            self.put(if index == 0 { " ORDER BY " } else { ", " });
            self.expression(&key.expression, CONDITIONAL);
            self.put(if key.descending { " DESC" } else { " ASC" });
        }
        if let (Some(offset), Some(limit)) = (&select.offset, &select.limit) {
            self.put(" OFFSET ");
            self.count(offset);
            self.put(" LIMIT ");
            self.count(limit);
        }
    }

    fn projection(&mut self, projection: &Projection) {
        match projection {
            Projection::Star => self.put("*"),
            Projection::Value(value) => {
                self.put("VALUE ");
                self.expression(value, CONDITIONAL);
            }
            Projection::List(items) => {
                for (index, (name, expression)) in items.iter().enumerate() {
                    if index > 0 {
                        self.put(", ");
                    }
                    self.expression(expression, CONDITIONAL);
                    // A name with a dollar is one that the parser gave, and will give again.
                    if implied_name(expression).as_ref() != Some(name) && !name.starts_with('$') {
                        self.put(" AS ");
                        self.put(name);
                    }
                }
            }
        }
    }

    fn source(&mut self, source: &Source) {
        if let Some(alias) = source.alias.as_ref().filter(|_| source.iterates) {
            self.put(alias);
            self.put(" IN ");
        }
        let implied = match &source.origin {
            Origin::Subquery(select) => {
                self.put("(");
                self.select(select);
                self.put(")");
                None
            }
            Origin::Path { root, steps } => {
                self.put(root);
                let mut implied = root;
                for step in steps {
                    match step {
                        PathStep::Key(key) => {
                            self.key(key, true);
                            implied = key;
                        }
                        PathStep::Index(index) => {
                            let _ = write!(self.out, "[{index}]");
                        }
                    }
                }
                Some(implied)
            }
        };
        if let Some(alias) = source.alias.as_ref().filter(|alias| !source.iterates && Some(*alias) != implied) {
            self.put(" AS ");
            self.put(alias);
        }
    }

    fn count(&mut self, count: &Count) {
        match count {
            Count::Literal(number, _) => self.put(&number.to_string()),
            Count::Parameter(name, _) => self.put(name),
        }
    }

    fn list(&mut self, expressions: &[Expression]) {
        self.joined(expressions, ", ", CONDITIONAL);
    }

    fn joined(&mut self, expressions: &[Expression], separator: &str, level: u8) {
        for (index, expression) in expressions.iter().enumerate() {
            if index > 0 {
                self.put(separator);
            }
            self.expression(expression, level);
        }
    }

    /// An expression where only what binds at least as tightly as `level` can stand without parentheses.
    fn expression(&mut self, expression: &Expression, level: u8) {
        let parenthesized = level_of(&expression.node) < level;
        if parenthesized {
            self.put("(");
        }
        self.node(&expression.node);
        if parenthesized {
            self.put(")");
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Literal(value) => self.put(&value.to_string()),
            Node::Undefined => self.put("undefined"),
            Node::Name(name) | Node::Parameter(name) => self.put(name),
            Node::Member(base, steps) => {
                self.expression(base, PRIMARY);
                let mut named = matches!(base.node, Node::Name(_));
                for step in steps {
                    match step {
                        MemberStep::Key(key) => self.key(key, named),
                        MemberStep::Computed(index) => {
                            self.put("[");
                            self.expression(index, CONDITIONAL);
                            self.put("]");
                        }
                    }
                    named = true;
                }
            }
            Node::Array(items) => {
                self.put("[");
                self.list(items);
                self.put("]");
            }
            Node::Object(members) => {
                self.put("{");
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        self.put(", ");
                    }
                    self.put(&quoted(key));
                    self.put(": ");
                    self.expression(member, CONDITIONAL);
                }
                self.put("}");
            }
            Node::Unary(operator, operand) => {
                self.put(match operator {
                    UnaryOperator::Plus => "+",
                    // Two of them would begin a comment.
                    UnaryOperator::Minus => "- ",
                    UnaryOperator::BitNot => "~",
                    UnaryOperator::Not => "NOT ",
                });
                self.expression(operand, UNARY);
            }
            Node::Chain(first, rest) => {
                let tighter = level_of(node) + 1;
                self.expression(first, tighter);
                for (operator, operand) in rest {
                    let _ = write!(self.out, " {} ", symbol(*operator).0);
                    self.expression(operand, tighter);
                }
            }
            Node::And(operands) => self.joined(operands, " AND ", AND + 1),
            Node::Or(operands) => self.joined(operands, " OR ", OR + 1),
            Node::Coalesce(operands) => self.joined(operands, " ?? ", COALESCE + 1),
            Node::Conditional(operands) => {
                let [condition, consequence, alternative] = operands.as_ref();
                self.expression(condition, CONDITIONAL + 1);
                self.put(" ? ");
                self.expression(consequence, CONDITIONAL);
                self.put(" : ");
                self.expression(alternative, CONDITIONAL);
            }
            Node::Between { negated, operands } => {
                let [subject, low, high] = operands.as_ref();
                self.expression(subject, CHAIN);
                self.put(if *negated { " NOT BETWEEN " } else { " BETWEEN " });
                self.expression(low, CHAIN);
                self.put(" AND ");
                self.expression(high, CHAIN);
            }
            Node::In { negated, needle, list } => {
                self.expression(needle, CHAIN);
                self.put(if *negated { " NOT IN (" } else { " IN (" });
                self.list(list);
                self.put(")");
            }
            Node::Like { negated, operands, escape } => {
                let [subject, pattern] = operands.as_ref();
                self.expression(subject, CHAIN);
                self.put(if *negated { " NOT LIKE " } else { " LIKE " });
                self.expression(pattern, CHAIN);
                if let Some(escape) = escape {
                    self.put(" ESCAPE ");
                    self.put(&quoted(&escape.to_string()));
                }
            }
            Node::Call { name, arguments } => {
                self.put(name);
                self.put("(");
                self.list(arguments);
                self.put(")");
            }
            Node::Subquery(kind, select) => {
                self.put(match kind {
                    SubqueryKind::Scalar => "(",
                    SubqueryKind::Exists => "EXISTS(",
                    SubqueryKind::Array => "ARRAY(",
                });
                self.select(select);
                self.put(")");
            }
        }
    }

    /// One step of a path by its name.
    fn key(&mut self, key: &str, after_name: bool) {
        let mut characters = key.chars();
        let word = characters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
            && characters.all(|character| character == '_' || character.is_ascii_alphanumeric());
        if word && after_name && !is_reserved(key) {
            self.put(".");
            self.put(key);
        } else {
            self.put("[");
            self.put(&quoted(key));
            self.put("]");
        }
    }
}

/// A string literal.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn level_of(node: &Node) -> u8 {
    match node {
        Node::Conditional(_) => CONDITIONAL,
        Node::Coalesce(_) => COALESCE,
        Node::Or(_) => OR,
        Node::And(_) => AND,
        Node::Between { .. } | Node::In { .. } | Node::Like { .. } => PREDICATE,
        Node::Chain(_, rest) => rest.first().map_or(UNARY, |(operator, _)| symbol(*operator).1),
        Node::Unary(..) => UNARY,
        Node::Literal(_)
        | Node::Undefined
        | Node::Name(_)
        | Node::Parameter(_)
        | Node::Member(..)
        | Node::Array(_)
        | Node::Object(_)
        | Node::Call { .. }
        | Node::Subquery(..) => PRIMARY,
    }
}

/// How an operator is written, and how tightly it binds.
fn symbol(operator: BinaryOperator) -> (&'static str, u8) {
    match operator {
        BinaryOperator::Concatenate => ("||", CHAIN),
        BinaryOperator::BitOr => ("|", CHAIN + 1),
        BinaryOperator::BitXor => ("^", CHAIN + 2),
        BinaryOperator::BitAnd => ("&", CHAIN + 3),
        BinaryOperator::Equal => ("=", CHAIN + 4),
        BinaryOperator::NotEqual => ("!=", CHAIN + 4),
        BinaryOperator::Less => ("<", CHAIN + 5),
        BinaryOperator::LessOrEqual => ("<=", CHAIN + 5),
        BinaryOperator::Greater => (">", CHAIN + 5),
        BinaryOperator::GreaterOrEqual => (">=", CHAIN + 5),
        BinaryOperator::ShiftLeft => ("<<", CHAIN + 6),
        BinaryOperator::ShiftRight => (">>", CHAIN + 6),
        BinaryOperator::ShiftRightUnsigned => (">>>", CHAIN + 6),
        BinaryOperator::Add => ("+", CHAIN + 7),
        BinaryOperator::Subtract => ("-", CHAIN + 7),
        BinaryOperator::Multiply => ("*", CHAIN + 8),
        BinaryOperator::Divide => ("/", CHAIN + 8),
        BinaryOperator::Modulo => ("%", CHAIN + 8),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::limits::SEEDS;
    use super::super::parser::parse_query;
    use super::*;

    #[test]
    fn parentheses_stand_only_where_they_change_the_meaning() {
        for (text, expected) in [
            ("select * from c where (c.a = 1) and (c.b = 2)", "SELECT * FROM c WHERE c.a = 1 AND c.b = 2"),
            ("SELECT VALUE (1 + 2) * 3", "SELECT VALUE (1 + 2) * 3"),
            ("SELECT VALUE 1 + 2 * 3 - - 4", "SELECT VALUE 1 + 2 * 3 - - 4"),
            ("SELECT VALUE 1 - (2 - 3)", "SELECT VALUE 1 - (2 - 3)"),
            ("SELECT VALUE NOT (c.a = 1) FROM c", "SELECT VALUE NOT (c.a = 1) FROM c"),
            ("SELECT VALUE (a ? b : c) ? d : e FROM c", "SELECT VALUE (a ? b : c) ? d : e FROM c"),
            ("SELECT c['a'].b['order'], c.x + 1, 2 AS d FROM c", "SELECT c.a.b[\"order\"], c.x + 1, 2 AS d FROM c"),
            ("SELECT VALUE 'it\\'s' || @p.x[0]", "SELECT VALUE \"it's\" || @p[\"x\"][0]"),
            ("SELECT t FROM c JOIN t IN c['x y'].z", "SELECT t FROM c JOIN t IN c[\"x y\"].z"),
            (
                "SELECT DISTINCT TOP 5 c.a FROM root AS c ORDER BY c.a, c.b DESC",
                "SELECT DISTINCT TOP 5 c.a FROM root AS c ORDER BY c.a ASC, c.b DESC",
            ),
            (
                "SELECT VALUE EXISTS(SELECT 1 FROM (SELECT 2) AS x) FROM c OFFSET @a LIMIT 2",
                "SELECT VALUE EXISTS(SELECT 1 FROM (SELECT 2) AS x) FROM c OFFSET @a LIMIT 2",
            ),
        ] {
            assert_eq!(select(&parse_query(text).expect(text)), expected, "{text}");
        }
    }

    /// Any expression, as text.
    fn expressions() -> impl Strategy<Value = String> {
        let leaf =
            prop::sample::select(vec!["1", "2.5", "c.x", "@p", "'a\\n\"'", "null", "undefined", "c['a b']", "true"])
                .prop_map(str::to_owned);
        leaf.prop_recursive(4, 32, 3, |inner| {
            let operator = prop::sample::select(vec![
                "+", "-", "*", "/", "%", "||", "|", "&", "^", "=", "!=", "<", ">=", "<<", ">>>", "??", "AND", "OR",
            ]);
            let (a, b, c) = (inner.clone(), inner.clone(), inner.clone());
            prop_oneof![
                4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, with, b)| format!("({a}) {with} {b}")),
                1 => inner.clone().prop_map(|a| format!("NOT ({a})")),
                1 => inner.clone().prop_map(|a| format!("- ({a})")),
                1 => (a, b, c).prop_map(|(a, b, c)| format!("({a}) ? {b} : {c}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) NOT BETWEEN (1) AND ({b})")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) IN ({b}, 2)")),
                1 => inner.clone().prop_map(|a| format!("({a}) LIKE 'x%' ESCAPE '!'")),
                1 => inner.clone().prop_map(|a| format!("ABS({a})[{a}].k")),
                1 => inner.prop_map(|a| format!("{{k: [{a}], 'l m': (SELECT VALUE {a})}}")),
            ]
        })
    }

    proptest! {
        #[test]
        fn printing_and_reading_again_changes_nothing(expression in expressions()) {
            let text = format!("SELECT VALUE {expression} FROM c");
            if let Ok(tree) = parse_query(&text) {
                let printed = select(&tree);
                let again = parse_query(&printed).unwrap_or_else(|error| panic!("{text}\n{printed}\n{error}"));
                prop_assert_eq!(&select(&again), &printed);
                prop_assert_eq!(shape(&tree), shape(&again), "{}", printed);
            }
        }
    }

    #[test]
    fn every_kind_of_query_survives() {
        for text in SEEDS {
            let tree = parse_query(text).expect(text);
            let again = parse_query(&select(&tree)).expect(text);
            assert_eq!(shape(&tree), shape(&again), "{text}");
        }
    }

    /// A tree without its positions.
    fn shape(select: &Select) -> String {
        let text = format!("{select:?}");
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("Position {") {
            out.push_str(&rest[..at]);
            rest = rest[at..].find('}').map_or("", |end| &rest[at + end + 1..]);
        }
        out + rest
    }
}
