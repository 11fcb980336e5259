//! Tokens to tree: the clauses of a query. Owns which words are keywords and the order of the clauses; expressions are
//! parsed in `parser_expression`, names are resolved later, in `bind`.
//!
//! The grammar is the one that Microsoft publishes with its .NET SDK (`sql.g4`), plus what the service takes beyond it:
//! comments, unquoted names in object literals, the shift operators and `<>`.

use super::error::{Position, QueryError, Result};
use super::token::{Kind, Token, tokenize};
use super::tree::{Count, Expression, From, MemberStep, Node, OrderKey, Origin, PathStep, Projection, Select, Source};

/// How deep parentheses, literals, subqueries, unary operators and conditionals may nest. The parser and every later
/// stage recurse once per level, so this bounds the stack.
pub(super) const MAX_NESTING: usize = 100;

/// Words that cannot be used as a name without quoting, in any case (`ALL`, `FIRST`, `LAST` and `RANK` can).
const RESERVED: [&str; 31] = [
    "AND",
    "ARRAY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "DESC",
    "DISTINCT",
    "ESCAPE",
    "EXISTS",
    "FALSE",
    "FROM",
    "GROUP",
    "IN",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "OR",
    "ORDER",
    "RIGHT",
    "SELECT",
    "TOP",
    "TRUE",
    "UDF",
    "UNDEFINED",
    "VALUE",
    "WHERE",
];

/// Parses a whole query.
///
/// # Errors
/// Anything the grammar does not allow, with the place of the first token that does not fit.
pub(super) fn parse_query(text: &str) -> Result<Select> {
    let mut parser = Parser::new(text)?;
    let select = parser.select()?;
    parser.expect_end()?;
    Ok(select)
}

/// Parses `from c where ...`, the condition of a patch; the service also takes the `where` part alone being absent.
///
/// # Errors
/// As [`parse_query`].
pub(super) fn parse_condition(text: &str) -> Result<Select> {
    let mut parser = Parser::new(text)?;
    let position = parser.position();
    let from = parser.sources()?;
    let from = Some(from.ok_or_else(|| parser.unexpected("'FROM'"))?);
    let filter = parser.filter()?;
    parser.expect_end()?;
    Ok(Select {
        position,
        distinct: false,
        top: None,
        projection: Projection::Star,
        from,
        filter,
        group_by: Vec::new(),
        order_by: Vec::new(),
        offset: None,
        limit: None,
    })
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    /// How many levels of nesting enclose the next token.
    depth: usize,
}

impl Parser {
    fn new(text: &str) -> Result<Self> {
        Ok(Parser { tokens: tokenize(text)?, next: 0, depth: 0 })
    }

    /// The token `ahead` of the next one; past the end it is the end again.
    pub(super) fn peek(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.next + ahead).map_or(&Kind::End, |token| &token.kind)
    }

    /// Where the next token starts.
    pub(super) fn position(&self) -> Position {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(Position::START, |token| token.position)
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Whether the word `ahead` is this keyword, in any case.
    pub(super) fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.peek(ahead), Kind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Takes the next word if it is this keyword.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(0, keyword);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect_keyword(&mut self, keyword: &str) -> Result<()> {
        if self.take_keyword(keyword) { Ok(()) } else { Err(self.unexpected(&format!("'{keyword}'"))) }
    }

    pub(super) fn is_symbol(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek(ahead), Kind::Symbol(found) if *found == symbol)
    }

    /// Takes the next token if it is this symbol.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(0, symbol);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&format!("'{symbol}'"))) }
    }

    /// The error for a next token that does not fit.
    pub(super) fn unexpected(&self, wanted: &str) -> QueryError {
        QueryError::new(
            self.position(),
            format!("syntax error, expected {wanted} but found {}", self.peek(0).describe()),
        )
    }

    fn expect_end(&self) -> Result<()> {
        if *self.peek(0) == Kind::End { Ok(()) } else { Err(self.unexpected("the end of the query")) }
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_NESTING {
            return Err(QueryError::new(self.position(), format!("the query nests deeper than {MAX_NESTING} levels")));
        }
        self.depth += 1;
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    /// A name that is not a keyword.
    pub(super) fn name(&mut self) -> Result<String> {
        match self.peek(0) {
            Kind::Word(word) if is_reserved(word) => {
                let message = format!("syntax error, '{word}' is a reserved word; as a property write it [\"{word}\"]");
                Err(QueryError::new(self.position(), message))
            }
            Kind::Word(word) => {
                let name = word.clone();
                self.advance();
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    /// Whether a name, and not a keyword, comes next.
    fn is_name(&self) -> bool {
        matches!(self.peek(0), Kind::Word(word) if !is_reserved(word))
    }

    /// One `SELECT` up to where it can go no further.
    pub(super) fn select(&mut self) -> Result<Select> {
        let position = self.position();
        self.expect_keyword("SELECT")?;
        // The grammar says DISTINCT before TOP; the other order is unambiguous, so it is taken too.
        let mut distinct = self.take_keyword("DISTINCT");
        let top = if self.take_keyword("TOP") { Some(self.count()?) } else { None };
        distinct |= self.take_keyword("DISTINCT");
        let projection = self.projection()?;
        let from = self.sources()?;
        let filter = self.filter()?;
        let group_by = if self.take_keyword("GROUP") {
            self.expect_keyword("BY")?;
            self.expressions()?
        } else {
            Vec::new()
        };
        let order_by = self.order_by()?;
        let (offset, limit) = if self.take_keyword("OFFSET") {
            let offset = self.count()?;
            self.expect_keyword("LIMIT")?;
            (Some(offset), Some(self.count()?))
        } else {
            (None, None)
        };
        Ok(Select { position, distinct, top, projection, from, filter, group_by, order_by, offset, limit })
    }

    fn projection(&mut self) -> Result<Projection> {
        if self.take_symbol("*") {
            return Ok(Projection::Star);
        }
        if self.take_keyword("VALUE") {
            return Ok(Projection::Value(self.expression()?));
        }
        let mut items = Vec::new();
        let mut unnamed = 0;
        loop {
            let expression = self.expression()?;
            let alias =
                if self.take_keyword("AS") || self.is_name() { Some(self.name()?) } else { implied_name(&expression) };
            let name = alias.unwrap_or_else(|| {
                unnamed += 1;
                format!("${unnamed}")
            });
            items.push((name, expression));
            if !self.take_symbol(",") {
                return Ok(Projection::List(items));
            }
        }
    }

    fn sources(&mut self) -> Result<Option<From>> {
        if !self.take_keyword("FROM") {
            return Ok(None);
        }
        let first = self.source()?;
        let mut joins = Vec::new();
        while self.take_keyword("JOIN") {
            joins.push(self.source()?);
        }
        Ok(Some(From { first, joins }))
    }

    fn source(&mut self) -> Result<Source> {
        let position = self.position();
        if self.is_name() && self.is_keyword(1, "IN") {
            let alias = Some(self.name()?);
            self.expect_keyword("IN")?;
            let (origin, _) = self.origin()?;
            return Ok(Source { position, alias, iterates: true, origin });
        }
        let (origin, implied) = self.origin()?;
        let alias = if self.take_keyword("AS") || self.is_name() { Some(self.name()?) } else { implied };
        Ok(Source { position, alias, iterates: false, origin })
    }

    /// Where values come from, and the name they have if none is given.
    fn origin(&mut self) -> Result<(Origin, Option<String>)> {
        if self.take_symbol("(") {
            let select = self.nested(Self::select)?;
            self.expect_symbol(")")?;
            return Ok((Origin::Subquery(Box::new(select)), None));
        }
        let root = self.name()?;
        let mut implied = root.clone();
        let mut steps = Vec::new();
        loop {
            if self.take_symbol(".") {
                let key = self.name()?;
                implied.clone_from(&key);
                steps.push(PathStep::Key(key));
            } else if self.take_symbol("[") {
                match self.peek(0).clone() {
                    Kind::Text(key) => {
                        implied.clone_from(&key);
                        steps.push(PathStep::Key(key));
                    }
                    Kind::Number(number) => {
                        let index = number.as_u64().ok_or_else(|| self.unexpected("a non-negative whole number"))?;
                        steps.push(PathStep::Index(index));
                    }
                    _ => return Err(self.unexpected("a quoted name or an index")),
                }
                self.advance();
                self.expect_symbol("]")?;
            } else {
                return Ok((Origin::Path { root, steps }, Some(implied)));
            }
        }
    }

    fn filter(&mut self) -> Result<Option<Expression>> {
        if self.take_keyword("WHERE") { self.expression().map(Some) } else { Ok(None) }
    }

    fn order_by(&mut self) -> Result<Vec<OrderKey>> {
        let mut keys = Vec::new();
        if !self.take_keyword("ORDER") {
            return Ok(keys);
        }
        self.expect_keyword("BY")?;
        if self.is_keyword(0, "RANK") && !matches!(self.peek(1), Kind::Symbol("." | "[")) {
            return Err(QueryError::new(
                self.position(),
                "ORDER BY RANK (full-text and vector ranking) is not supported",
            ));
        }
        loop {
            let expression = self.expression()?;
            let descending = self.take_keyword("DESC");
            if !descending {
                self.take_keyword("ASC");
            }
            keys.push(OrderKey { expression, descending });
            if !self.take_symbol(",") {
                return Ok(keys);
            }
        }
    }

    /// The operand of `TOP`, `OFFSET` or `LIMIT`.
    fn count(&mut self) -> Result<Count> {
        let position = self.position();
        let count = match self.peek(0) {
            Kind::Number(number) => Count::Literal(number.clone(), position),
            Kind::Parameter(name) => Count::Parameter(name.clone(), position),
            _ => return Err(self.unexpected("a number or a parameter")),
        };
        self.advance();
        Ok(count)
    }

    /// One or more expressions between commas.
    pub(super) fn expressions(&mut self) -> Result<Vec<Expression>> {
        let mut list = vec![self.expression()?];
        while self.take_symbol(",") {
            list.push(self.expression()?);
        }
        Ok(list)
    }
}

/// Whether a word needs quoting to be a name.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// The property name that the service gives to an item of the select list without alias: the last name of a path.
pub(super) fn implied_name(expression: &Expression) -> Option<String> {
    match &expression.node {
        Node::Name(name) => Some(name.clone()),
        Node::Member(_, steps) => match steps.last()? {
            MemberStep::Key(key) => Some(key.clone()),
            MemberStep::Computed(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_found_in_order_whatever_their_case() {
        let text = "select distinct top 5 c.a, c['b'] AS d, 1, c.e f, [2] from Families.x[0] c join t in c.t where c.a \
                    group by c.a order by c.a desc, c.b asc offset @o limit 10";
        let select = parse_query(text).expect("parses");
        assert!(select.distinct && select.top.is_some() && select.filter.is_some() && select.offset.is_some());
        let Projection::List(items) = &select.projection else { panic!("not a list") };
        assert_eq!(items.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "d", "$1", "f", "$2"]);
        let from = select.from.expect("sources");
        assert_eq!((from.first.alias.as_deref(), from.first.iterates), (Some("c"), false));
        assert!(matches!(&from.first.origin, Origin::Path { root, steps } if root == "Families" && steps.len() == 2));
        assert_eq!((from.joins.len(), from.joins[0].alias.as_deref(), from.joins[0].iterates), (1, Some("t"), true));
        assert_eq!(select.order_by.iter().map(|key| key.descending).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_source_without_alias_is_called_by_its_last_name() {
        for (text, expected) in [
            ("SELECT * FROM c", Some("c")),
            ("SELECT * FROM c.a.b", Some("b")),
            ("SELECT * FROM c['x y'][0]", Some("x y")),
            ("SELECT * FROM c AS d", Some("d")),
            ("SELECT * FROM (SELECT 1)", None),
            ("SELECT * FROM first", Some("first")),
        ] {
            let from = parse_query(text).expect(text).from.expect(text);
            assert_eq!(from.first.alias.as_deref(), expected, "{text}");
        }
    }
}
