//! Text to tokens. Owns the lexical rules of Cosmos SQL (words, numbers, strings, parameters, symbols, comments); never
//! looks at grammar: whether a word is a keyword is the parser's question.

use serde_json::Number;

use super::error::{Position, QueryError, Result};

/// The service's documented limit on the length of a query.
const MAX_TEXT_BYTES: usize = 512 * 1024;

/// One lexical unit and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) position: Position,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name or keyword, spelled as in the text.
    Word(String),
    /// `@name`, with the at sign.
    Parameter(String),
    /// A numeric literal, without sign.
    Number(Number),
    /// A string literal, escapes resolved.
    Text(String),
    /// Punctuation or an operator.
    Symbol(&'static str),
    /// The end of the text; always the last token, and only there.
    End,
}

impl Kind {
    /// How an error message names this token.
    pub(super) fn describe(&self) -> String {
        match self {
            Kind::Word(word) => format!("'{word}'"),
            Kind::Parameter(name) => format!("'{name}'"),
            Kind::Number(number) => format!("'{number}'"),
            Kind::Text(text) => {
                let shown: String = text.chars().take(32).collect();
                format!("the string '{shown}'")
            }
            Kind::Symbol(symbol) => format!("'{symbol}'"),
            Kind::End => "the end of the query".to_owned(),
        }
    }
}

/// Longest first, so that `<=` is never read as `<` and `=`.
const SYMBOLS: [&str; 30] = [
    ">>>", "!=", "<>", "<=", ">=", "<<", ">>", "||", "??", "(", ")", "[", "]", "{", "}", ",", ".", ":", "*", "/", "%",
    "+", "-", "<", ">", "=", "&", "|", "^", "~",
];

/// Splits a query into tokens, ending with [`Kind::End`].
///
/// # Errors
/// A character that begins no token, an unterminated string or comment, a bad escape, a number no double can hold, or
/// too long a text.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the query is {} bytes long; the limit is {MAX_TEXT_BYTES}", text.len());
        return Err(QueryError::new(Position::START, message));
    }
    let mut scanner = Scanner { rest: text, position: Position::START };
    let mut tokens = Vec::new();
    loop {
        scanner.skip_blanks()?;
        let position = scanner.position;
        let kind = scanner.next_kind()?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, position });
        if end {
            return Ok(tokens);
        }
    }
}

struct Scanner<'t> {
    rest: &'t str,
    position: Position,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        if character == '\n' {
            self.position.line += 1;
            self.position.column = 1;
        } else {
            self.position.column += 1;
        }
        Some(character)
    }

    fn bump_many(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    /// Takes characters while `accept` holds, and hands them back.
    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(character) = self.peek().filter(|&character| accept(character)) {
            taken.push(character);
            self.bump();
        }
        taken
    }

    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            if self.rest.starts_with("--") {
                while self.peek().is_some_and(|character| character != '\n') {
                    self.bump();
                }
            } else if self.rest.starts_with("/*") {
                let start = self.position;
                self.bump_many(2);
                while !self.rest.starts_with("*/") {
                    if self.bump().is_none() {
                        return Err(QueryError::new(start, "this comment is never closed by '*/'"));
                    }
                }
                self.bump_many(2);
            } else if self.peek().is_some_and(|character| character.is_whitespace() || character == '\u{feff}') {
                self.bump();
            } else {
                return Ok(());
            }
        }
    }

    fn next_kind(&mut self) -> Result<Kind> {
        let Some(first) = self.peek() else { return Ok(Kind::End) };
        if is_word_start(first) {
            return Ok(Kind::Word(self.take_while(is_word_part)));
        }
        if first.is_ascii_digit() || (first == '.' && self.rest[1..].starts_with(|next: char| next.is_ascii_digit())) {
            return self.number();
        }
        if first == '"' || first == '\'' {
            return self.string(first);
        }
        if first == '@' {
            let position = self.position;
            self.bump();
            let name = self.take_while(is_word_part);
            if name.is_empty() {
                return Err(QueryError::new(position, "a parameter name must follow '@'"));
            }
            return Ok(Kind::Parameter(format!("@{name}")));
        }
        // A lone '?' is the ternary; it is not in the table because '??' would have to come first there too.
        let symbol =
            SYMBOLS.iter().copied().find(|symbol| self.rest.starts_with(symbol)).or((first == '?').then_some("?"));
        let Some(symbol) = symbol else {
            return Err(QueryError::new(self.position, format!("unexpected character '{}'", first.escape_debug())));
        };
        self.bump_many(symbol.len());
        Ok(Kind::Symbol(symbol))
    }

    fn number(&mut self) -> Result<Kind> {
        let position = self.position;
        let mut digits = self.take_while(|character| character.is_ascii_digit());
        let mut whole = true;
        if self.peek() == Some('.') {
            whole = false;
            self.bump();
            digits.push('.');
            digits.push_str(&self.take_while(|character| character.is_ascii_digit()));
        }
        if self.peek().is_some_and(|character| matches!(character, 'e' | 'E')) {
            whole = false;
            self.bump();
            digits.push('e');
            if let Some(sign) = self.peek().filter(|character| matches!(character, '+' | '-')) {
                self.bump();
                digits.push(sign);
            }
            let exponent = self.take_while(|character| character.is_ascii_digit());
            if exponent.is_empty() {
                return Err(QueryError::new(position, "a number's exponent needs digits"));
            }
            digits.push_str(&exponent);
        }
        if self.peek().is_some_and(is_word_part) {
            return Err(QueryError::new(
                position,
                format!("a number cannot be followed by a letter, as in '{digits}{}'", self.take_while(is_word_part)),
            ));
        }
        let exact = if whole { digits.parse::<u64>().ok().map(Number::from) } else { None };
        // Beyond 64 bits a literal is the nearest double, as for every JSON reader of the service.
        let number = exact.or_else(|| digits.parse::<f64>().ok().and_then(Number::from_f64));
        number.map(Kind::Number).ok_or_else(|| QueryError::new(position, "this number is too large for a double"))
    }

    fn string(&mut self, quote: char) -> Result<Kind> {
        let start = self.position;
        self.bump();
        let mut text = String::new();
        loop {
            let position = self.position;
            match self.bump() {
                None => return Err(QueryError::new(start, format!("this string is never closed by {quote}"))),
                Some('\\') => text.push(self.escape(position)?),
                Some(character) if character == quote => return Ok(Kind::Text(text)),
                Some(character) => text.push(character),
            }
        }
    }

    /// The character after a backslash, which was at `position`.
    fn escape(&mut self, position: Position) -> Result<char> {
        match self.bump() {
            Some(character @ ('"' | '\'' | '\\' | '/')) => Ok(character),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => {
                let bad = || QueryError::new(position, "\\u needs four hexadecimal digits that name a character");
                let first = self.code_unit().ok_or_else(bad)?;
                let units = if (0xd800..0xdc00).contains(&first) {
                    if !self.rest.starts_with("\\u") {
                        return Err(bad());
                    }
                    self.bump_many(2);
                    vec![first, self.code_unit().ok_or_else(bad)?]
                } else {
                    vec![first]
                };
                char::decode_utf16(units).next().and_then(std::result::Result::ok).ok_or_else(bad)
            }
            _ => Err(QueryError::new(position, "unknown escape; a backslash itself is written \\\\")),
        }
    }

    fn code_unit(&mut self) -> Option<u16> {
        let mut unit = 0u16;
        for _ in 0..4 {
            let digit = self.peek()?.to_digit(16)?;
            self.bump();
            unit = (unit << 4) | u16::try_from(digit).ok()?;
        }
        Some(unit)
    }
}

fn is_word_start(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

fn is_word_part(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokenize(text).expect("tokens").into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn words_numbers_strings_parameters_and_symbols() {
        let number = |value: u64| Kind::Number(value.into());
        assert_eq!(
            kinds("c.x>=@min -- note\n/* more */ 'it\\'s' \"\\u0041\\ud83d\\ude00\" 12 .5 1e2 a??b"),
            vec![
                Kind::Word("c".into()),
                Kind::Symbol("."),
                Kind::Word("x".into()),
                Kind::Symbol(">="),
                Kind::Parameter("@min".into()),
                Kind::Text("it's".into()),
                Kind::Text("A😀".into()),
                number(12),
                Kind::Number(Number::from_f64(0.5).expect("finite")),
                Kind::Number(Number::from_f64(100.0).expect("finite")),
                Kind::Word("a".into()),
                Kind::Symbol("??"),
                Kind::Word("b".into()),
                Kind::End,
            ]
        );
    }

    #[test]
    fn an_error_says_line_and_column() {
        for (text, line, column) in [
            ("SELECT\n  #", 2, 3),
            ("'open", 1, 1),
            ("a /* open", 1, 3),
            ("'\\q'", 1, 2),
            ("'\\ud800'", 1, 2),
            ("'\\ud800\\u0041'", 1, 2),
            ("1e999", 1, 1),
            ("12ab", 1, 1),
            ("1e", 1, 1),
            ("@", 1, 1),
        ] {
            let error = tokenize(text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        }
    }

    #[test]
    fn a_text_beyond_the_limit_is_refused() {
        let error = tokenize(&" ".repeat(MAX_TEXT_BYTES + 1)).expect_err("too long");
        assert!(error.message.contains("the limit is 524288"), "{error}");
    }
}
