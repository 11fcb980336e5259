//! Splits an import's input into documents: one per line (NDJSON), or the elements of one JSON array.
//!
//! Owns where a document starts and ends, and its place for messages and for the journal. Reads forward only, holds one
//! document at a time, and never looks inside it: what is between two boundaries is judged by `document.rs`.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

/// The longest text of one document. An item holds at most 2 MiB; the rest is room for white space.
pub(super) const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// The deepest nesting that is followed to find the end of an array's element. A document may nest far less.
const NESTING_MAX: usize = 10_000;

/// How the input separates its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// One document per line; empty lines are passed over.
    Ndjson,
    /// One JSON array of documents.
    Array,
}

/// A place between two documents, from which reading can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Documents before this place, bad ones included.
    pub(super) documents: u64,
    /// Bytes before this place.
    pub(super) offset: u64,
    /// The line this place is on; the first is 1.
    pub(super) line: u64,
    /// Where that line starts, in bytes.
    pub(super) line_start: u64,
    /// A digest of the documents before this place, which tells whether another input begins in the same way.
    pub(super) digest: u64,
}

impl Position {
    /// The beginning of every input.
    pub(super) const START: Position = Position { documents: 0, offset: 0, line: 1, line_start: 0, digest: 0 };
}

/// One document's text and where it stands.
#[derive(Debug)]
pub(super) struct Record {
    /// Where the text starts.
    pub(super) start: Position,
    /// Where reading goes on after it.
    pub(super) end: Position,
    /// The text, without white space around it; `None` if it is longer than the limit and was passed over.
    pub(super) text: Option<Vec<u8>>,
}

impl Record {
    /// Counts documents from 1.
    pub(super) fn number(&self) -> u64 {
        self.end.documents
    }

    /// Names the place `line` lines and `column` bytes (both counted from 1) into the text.
    pub(super) fn place(&self, form: Form, line: usize, column: usize) -> Place {
        let (line, column) = (line.max(1) as u64, column.max(1) as u64);
        let first_column = self.start.offset - self.start.line_start;
        Place {
            form,
            element: self.number(),
            line: self.start.line + line - 1,
            column: if line == 1 { first_column + column } else { column },
            offset: self.start.offset,
        }
    }
}

/// A place in the input as a message names it. Columns count bytes from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    form: Form,
    element: u64,
    line: u64,
    column: u64,
    offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { form, element, line, column, offset } = self;
        match form {
            Form::Ndjson => write!(f, "line {line}, column {column}"),
            Form::Array => write!(f, "element {element} at byte {offset} (line {line}, column {column})"),
        }
    }
}

/// Why the input cannot be followed any further.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The operating system refused.
    Io(io::Error),
    /// The input is not what it should be, and where the next document starts cannot be told.
    Broken(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// Reads documents one after the other.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    form: Form,
    position: Position,
    array: ArrayState,
    document_bytes_max: usize,
}

/// What may come next in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArrayState {
    First,
    Next,
    Closed,
}

impl<R: BufRead> Reader<R> {
    /// Starts at the beginning of an input and tells its form by the first byte that is no white space.
    pub(super) fn new(input: R) -> Result<Reader<R>, ReadError> {
        let mut reader = Reader {
            input,
            form: Form::Ndjson,
            position: Position::START,
            array: ArrayState::First,
            document_bytes_max: DOCUMENT_BYTES_MAX,
        };
        reader.skip_byte_order_mark()?;
        match reader.skip_white_space()? {
            Some(b'[') => {
                reader.pass_byte()?;
                reader.form = Form::Array;
            }
            Some(0x1f) => {
                return Err(ReadError::Broken(
                    "the input is compressed with gzip: pass it on as `gzip -dc FILE | etagdb import ... -`".into(),
                ));
            }
            _ => {}
        }
        Ok(reader)
    }

    /// Goes on in the middle of an input: `input` must stand at `position.offset`.
    pub(super) fn resume(input: R, form: Form, position: Position) -> Reader<R> {
        let array = if position.documents == 0 { ArrayState::First } else { ArrayState::Next };
        Reader { input, form, position, array, document_bytes_max: DOCUMENT_BYTES_MAX }
    }

    /// How the input separates its documents.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Where reading goes on.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Reads the next document, or `None` after the last one.
    ///
    /// # Errors
    /// After an error nothing more can be read. A document that is merely bad is no error here.
    pub(super) fn next(&mut self) -> Result<Option<Record>, ReadError> {
        match self.form {
            Form::Ndjson => self.next_line(),
            Form::Array => self.next_element(),
        }
    }

    fn next_line(&mut self) -> Result<Option<Record>, ReadError> {
        if self.skip_white_space()?.is_none() {
            return Ok(None);
        }
        let start = self.position;
        let mut text = Vec::new();
        // One byte more than the limit: the line's end.
        let limit = self.document_bytes_max as u64 + 1;
        let mut read = self.input.by_ref().take(limit).read_until(b'\n', &mut text)? as u64;
        let mut ended = text.last() == Some(&b'\n');
        let too_long = !ended && read == limit;
        if too_long {
            let rest = skip_line(&mut self.input)?;
            read += rest.bytes;
            ended = rest.ended;
        }
        self.position.offset += read;
        if ended {
            self.position.line += 1;
            self.position.line_start = self.position.offset;
        }
        text.truncate(text.trim_ascii_end().len());
        Ok(Some(self.record(start, (!too_long).then_some(text))))
    }

    fn next_element(&mut self) -> Result<Option<Record>, ReadError> {
        if self.array == ArrayState::Closed {
            return Ok(None);
        }
        let mut next = self.skip_white_space()?;
        match (self.array, next) {
            (_, Some(b']')) => {
                self.pass_byte()?;
                self.array = ArrayState::Closed;
                return match self.skip_white_space()? {
                    None => Ok(None),
                    Some(byte) => Err(self.broken(&format!("{} after the end of the array", name(byte)))),
                };
            }
            (ArrayState::Next, Some(b',')) => {
                self.pass_byte()?;
                next = self.skip_white_space()?;
                if next == Some(b']') {
                    return Err(self.broken("the array ends after a comma"));
                }
            }
            (ArrayState::Next, Some(byte)) => {
                return Err(self.broken(&format!("expected `,` or `]` after an element, found {}", name(byte))));
            }
            _ => {}
        }
        let start = self.position;
        let text = match next {
            None => return Err(self.broken("the input ends inside the array: it is not complete")),
            Some(b'{' | b'[' | b'"') => self.value()?,
            Some(b',' | b'}' | b':') => return Err(self.broken("expected a document")),
            Some(_) => self.scalar()?,
        };
        self.array = ArrayState::Next;
        Ok(Some(self.record(start, text)))
    }

    /// Reads an object, an array or a string up to the byte that closes it.
    fn value(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let start = self.position;
        let mut text = Some(Vec::new());
        let mut scan = Scan::default();
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                let place = self.place_at(start);
                return Err(ReadError::Broken(format!("{place}: the input ends inside this element")));
            }
            let mut used = available.len();
            let mut done = false;
            let mut fault = None;
            for (index, &byte) in available.iter().enumerate() {
                match scan.step(byte) {
                    Ok(false) => {}
                    Ok(true) => {
                        (used, done) = (index + 1, true);
                        break;
                    }
                    Err(reason) => {
                        (used, fault) = (index, Some(reason));
                        break;
                    }
                }
            }
            if let Some(bytes) = &mut text {
                if bytes.len() + used > self.document_bytes_max {
                    text = None;
                } else {
                    bytes.extend_from_slice(&available[..used]);
                }
            }
            self.pass(used)?;
            if let Some(reason) = fault {
                return Err(self.broken(&reason));
            }
            if done {
                return Ok(text);
            }
        }
    }

    /// Reads anything else up to a separator: no document, but where it ends is clear.
    fn scalar(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut text = Some(Vec::new());
        loop {
            let available = self.input.fill_buf()?;
            let end =
                available.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n'));
            let used = end.unwrap_or(available.len());
            let done = end.is_some() || available.is_empty();
            if let Some(bytes) = &mut text {
                if bytes.len() + used > self.document_bytes_max {
                    text = None;
                } else {
                    bytes.extend_from_slice(&available[..used]);
                }
            }
            self.pass(used)?;
            if done {
                return Ok(text);
            }
        }
    }

    fn record(&mut self, start: Position, text: Option<Vec<u8>>) -> Record {
        self.position.documents += 1;
        self.position.digest = match &text {
            Some(text) => digest(self.position.digest, text),
            None => digest(self.position.digest, b"too long"),
        };
        Record { start, end: self.position, text }
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), ReadError> {
        let utf16 =
            "the input is UTF-16: convert it first, as in `iconv -f UTF-16 -t UTF-8 FILE | etagdb import ... -`";
        match self.peek()? {
            Some(0xfe | 0xff) => return Err(ReadError::Broken(utf16.into())),
            Some(0xef) => {}
            _ => return Ok(()),
        }
        for expected in [0xef, 0xbb, 0xbf] {
            if self.peek()? != Some(expected) {
                return Err(ReadError::Broken("the input starts with bytes that are not UTF-8".into()));
            }
            self.pass_byte()?;
        }
        // No editor counts the mark as a column.
        self.position.line_start = self.position.offset;
        Ok(())
    }

    /// Passes over white space, and says what comes next.
    fn skip_white_space(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let available = self.input.fill_buf()?;
            let end = available.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            let next = end.map(|end| available[end]);
            let (used, done) = (end.unwrap_or(available.len()), end.is_some() || available.is_empty());
            self.pass(used)?;
            if done {
                return Ok(next);
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn pass_byte(&mut self) -> Result<(), ReadError> {
        self.pass(1)
    }

    /// Consumes `count` bytes of what is buffered, counting lines.
    fn pass(&mut self, count: usize) -> Result<(), ReadError> {
        let available = &self.input.fill_buf()?[..count];
        for (index, _) in available.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.position.line += 1;
            self.position.line_start = self.position.offset + index as u64 + 1;
        }
        self.position.offset += count as u64;
        self.input.consume(count);
        Ok(())
    }

    fn broken(&self, reason: &str) -> ReadError {
        ReadError::Broken(format!("{}: {reason}", self.place_at(self.position)))
    }

    fn place_at(&self, position: Position) -> Place {
        Place {
            form: self.form,
            element: self.position.documents + 1,
            line: position.line,
            column: position.offset - position.line_start + 1,
            offset: position.offset,
        }
    }
}

/// Follows one JSON value far enough to see where it ends.
#[derive(Default)]
struct Scan {
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Takes one byte; true if it closes the value.
    fn step(&mut self, byte: u8) -> Result<bool, String> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    return Ok(self.open.is_empty());
                }
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' if self.open.len() == NESTING_MAX => {
                return Err(format!("nested more than {NESTING_MAX} deep"));
            }
            b'{' => self.open.push(b'}'),
            b'[' => self.open.push(b']'),
            b'}' | b']' => {
                if self.open.pop() != Some(byte) {
                    return Err(format!("{} closes nothing that is open", name(byte)));
                }
                return Ok(self.open.is_empty());
            }
            _ => {}
        }
        Ok(false)
    }
}

/// What was passed over of a line.
struct Skipped {
    bytes: u64,
    ended: bool,
}

/// Passes over the rest of a line, without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<Skipped> {
    let mut skipped = Skipped { bytes: 0, ended: false };
    loop {
        let available = input.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(available.len(), |end| end + 1);
        skipped.ended = end.is_some();
        let done = end.is_some() || available.is_empty();
        input.consume(used);
        skipped.bytes += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}

/// Names a byte in a message.
fn name(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("`{}`", char::from(byte)) } else { format!("byte 0x{byte:02x}") }
}

/// Chains `text` to the digest of what came before. It tells an edited input from the same one, not a forged one.
fn digest(before: u64, text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut state = mix(before, text.len() as u64);
    let mut words = text.chunks_exact(8);
    for word in &mut words {
        state = mix(state, word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    mix(state, words.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Reads everything, with a buffer so small that every boundary falls somewhere.
    fn read(input: &str) -> Result<Vec<(String, String)>, String> {
        let mut all = Vec::new();
        for capacity in [1, 2, 3, 7, 4096] {
            let read = read_with(BufReader::with_capacity(capacity, input.as_bytes()));
            all.push(read);
        }
        let first = all.swap_remove(0);
        for other in all {
            assert_eq!(first, other, "the buffer's size changed what was read");
        }
        first
    }

    fn read_with(input: impl BufRead) -> Result<Vec<(String, String)>, String> {
        let describe = |error| match error {
            ReadError::Broken(reason) => reason,
            ReadError::Io(error) => error.to_string(),
        };
        let mut reader = Reader::new(input).map_err(describe)?;
        reader.document_bytes_max = 40;
        let mut documents = Vec::new();
        while let Some(record) = reader.next().map_err(describe)? {
            let place = record.place(reader.form(), 1, 1).to_string();
            let text = record.text.map_or("(too long)".into(), |text| String::from_utf8_lossy(&text).into_owned());
            documents.push((place, text));
        }
        Ok(documents)
    }

    fn texts(input: &str) -> Vec<String> {
        read(input).unwrap().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn lines_are_documents() {
        assert_eq!(texts("{\"a\":1}\n{\"a\":2}\n"), ["{\"a\":1}", "{\"a\":2}"]);
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(texts("{\"a\":1}\n{\"a\":2}"), ["{\"a\":1}", "{\"a\":2}"]);
    }

    #[test]
    fn byte_order_mark_line_ends_and_empty_lines_are_passed_over() {
        let read = read("\u{feff}{\"a\":1}\r\n\r\n  \t\r\n {\"a\":2} \r\n\n").unwrap();
        assert_eq!(
            read,
            [
                ("line 1, column 1".to_owned(), "{\"a\":1}".to_owned()),
                ("line 4, column 2".to_owned(), "{\"a\":2}".to_owned())
            ]
        );
    }

    #[test]
    fn nothing_is_no_document() {
        for input in ["", "\n", " \r\n\t", "\u{feff}", "[]", " [ ] \n", "\u{feff}[\n]\n"] {
            assert_eq!(texts(input), Vec::<String>::new(), "{input:?}");
        }
    }

    #[test]
    fn elements_are_documents() {
        let input = " [ {\"a\":\"]},\\\"{[\"} ,\n{\"b\":[{},[]]},{}\n]\n";
        assert_eq!(
            read(input).unwrap(),
            [
                ("element 1 at byte 3 (line 1, column 4)".to_owned(), "{\"a\":\"]},\\\"{[\"}".to_owned()),
                ("element 2 at byte 21 (line 2, column 1)".to_owned(), "{\"b\":[{},[]]}".to_owned()),
                ("element 3 at byte 35 (line 2, column 15)".to_owned(), "{}".to_owned()),
            ]
        );
    }

    #[test]
    fn elements_that_are_no_objects_are_kept_apart() {
        assert_eq!(texts("[1, \"a,]b\", null,[1,[2]],{}]"), ["1", "\"a,]b\"", "null", "[1,[2]]", "{}"]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over_and_reading_goes_on() {
        let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(32));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(33));
        assert_eq!(exact.len(), 40);
        assert_eq!(texts(&format!("{exact}\n{long}\n{{}}\n")), [exact.as_str(), "(too long)", "{}"]);
        assert_eq!(texts(&format!("{{}}\n{long}")), ["{}", "(too long)"]);
        assert_eq!(texts(&format!("[{exact},{long},{{}}]")), [exact.as_str(), "(too long)", "{}"]);
    }

    #[test]
    fn a_broken_array_is_named_with_its_place() {
        for (input, message) in [
            ("[", "element 1 at byte 1 (line 1, column 2): the input ends inside the array: it is not complete"),
            ("[{}", "element 2 at byte 3 (line 1, column 4): the input ends inside the array: it is not complete"),
            ("[{},\n", "element 2 at byte 5 (line 2, column 1): the input ends inside the array: it is not complete"),
            ("[{},\n{\"a\":[1]", "element 2 at byte 5 (line 2, column 1): the input ends inside this element"),
            ("[{\"a\":\"]}", "element 1 at byte 1 (line 1, column 2): the input ends inside this element"),
            ("[{},]", "element 2 at byte 4 (line 1, column 5): the array ends after a comma"),
            ("[,{}]", "element 1 at byte 1 (line 1, column 2): expected a document"),
            ("[{} {}]", "element 2 at byte 4 (line 1, column 5): expected `,` or `]` after an element, found `{`"),
            ("[{}]\n{}", "element 2 at byte 5 (line 2, column 1): `{` after the end of the array"),
            ("[{\"a\":[1}]", "element 1 at byte 8 (line 1, column 9): `}` closes nothing that is open"),
        ] {
            assert_eq!(read(input).unwrap_err(), message, "{input:?}");
        }
    }

    #[test]
    fn other_encodings_are_named() {
        assert!(read_with(&b"\xff\xfe{\0}\0"[..]).unwrap_err().contains("UTF-16"));
        assert!(read_with(&b"\x1f\x8b\x08\0"[..]).unwrap_err().contains("gzip"));
        assert!(read_with(&b"\xef\xbb{}"[..]).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn deep_nesting_is_refused_without_following_it() {
        let input = "[".repeat(NESTING_MAX + 2);
        assert!(read_with(input.as_bytes()).unwrap_err().contains("nested more than"));
    }

    #[test]
    fn reading_goes_on_at_any_position() {
        for input in ["\u{feff}{\"a\":1}\r\n\n{\"b\":2}\n{\"c\":3}", "\n[{\"a\":1},\n 2 , {\"c\":3}\n]\n"] {
            let mut whole = Reader::new(input.as_bytes()).unwrap();
            let mut places = vec![(whole.form(), Position::START)];
            let mut records = Vec::new();
            while let Some(record) = whole.next().unwrap() {
                places.push((whole.form(), record.end));
                records.push((record.start, record.end, record.text));
            }
            for (done, (form, position)) in places.into_iter().enumerate().skip(1) {
                let rest = &input.as_bytes()[position.offset as usize..];
                let mut resumed = Reader::resume(rest, form, position);
                for expected in &records[done..] {
                    let record = resumed.next().unwrap().unwrap();
                    assert_eq!(&(record.start, record.end, record.text), expected);
                }
                assert!(resumed.next().unwrap().is_none());
            }
        }
    }

    #[test]
    fn an_edited_document_changes_the_digest_and_white_space_does_not() {
        let digest = |input: &str| {
            let mut reader = Reader::new(input.as_bytes()).unwrap();
            while reader.next().unwrap().is_some() {}
            reader.position().digest
        };
        assert_eq!(digest("{\"a\":1}\n{\"b\":2}\n"), digest("[ {\"a\":1},\n\n{\"b\":2}]"));
        assert_ne!(digest("{\"a\":1}\n{\"b\":2}\n"), digest("{\"a\":1}\n{\"b\":3}\n"));
        assert_ne!(digest("{\"a\":1}\n{\"b\":2}\n"), digest("{\"b\":2}\n{\"a\":1}\n"));
        assert_ne!(digest("{\"a\":1}\n"), digest("{\"a\":1}\n{\"b\":2}\n"));
    }
}
