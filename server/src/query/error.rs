//! What is wrong with a query, and where. Owns the error type of the query engine and positions in a query's text;
//! knows nothing of HTTP.

use std::fmt;

/// A place in the text of a query, counted from 1 in lines and characters, as an editor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Position {
    /// The first character of a query.
    pub(crate) const START: Position = Position { line: 1, column: 1 };
}

/// Why a query is refused or cannot be finished: the caller's mistake or a limit, never a defect of the stored
/// documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryError {
    /// What is wrong, naming the offending word where there is one.
    pub(crate) message: String,
    /// The line of the query's text, from 1.
    pub(crate) line: u32,
    /// The character in that line, from 1.
    pub(crate) column: u32,
}

impl QueryError {
    pub(super) fn new(position: Position, message: impl Into<String>) -> Self {
        QueryError { message: message.into(), line: position.line, column: position.column }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.message, self.line, self.column)
    }
}

impl std::error::Error for QueryError {}

/// The result of everything in this module that can fail.
pub(super) type Result<T> = std::result::Result<T, QueryError>;
