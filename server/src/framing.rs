//! Where the requests of an HTTP/1 connection begin and end, and what hyper would forgive in their heads.
//!
//! Owns a look at the raw bytes, on their way from the socket to hyper, for what two readers of the same bytes may
//! understand differently, and so one of them may take a request for another one's body: a line that ends without CR
//! (RFC 9112, section 2.2, lets a server accept it), more than one length, and a transfer coding that nobody asked for.
//! It changes no byte and answers nothing: it says which request of the connection is to be refused. What else can be
//! wrong with a head hyper refuses itself: folded lines, a space before the colon, lengths that are no numbers.
//!
//! Only heads are read, each line once, for its end and its first letter. A body is passed over by the length that its
//! head gives, and an HTTP/2 connection as a whole: there, frames say where things end.

use memchr::memchr;

/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is wrong with a request, whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A line ends with LF alone.
    BareLineFeed,
    /// There are two fields that say how long the body is.
    TwoLengths,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
}

impl Fault {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Fault::BareLineFeed => "A line of the request's head ends with LF instead of CR LF.",
            Fault::TwoLengths => {
                "The request has more than one header that says how long its body is: one Content-Length or one \
                 Transfer-Encoding."
            }
            Fault::UnknownCoding => "The value of the header 'Transfer-Encoding' must be 'chunked'.",
        }
    }
}

/// Which request of a connection is refused, counted from 1. It is the last one that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) request: usize,
    pub(crate) fault: Fault,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The connection's first bytes, so many of which are those of [`PREFACE`].
    Preface(usize),
    /// Before a request line: empty lines are allowed there.
    Between,
    /// The lines after a request line.
    Fields(Length),
    /// A body, or the rest of a chunk with its line end: so many bytes.
    Body {
        rest: u64,
        chunked: bool,
    },
    ChunkSize,
    Trailers,
    /// Nothing more to look at: HTTP/2, a request that is refused, or one that hyper refuses.
    Over,
}

/// What a head has said so far about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Unsaid,
    Known(u64),
    Chunked,
}

/// The place on one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    place: Place,
    /// How many heads are complete.
    heads: usize,
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    /// Beyond this many bytes hyper gives a line up.
    line_bytes_max: usize,
}

impl Framing {
    pub(crate) fn new(line_bytes_max: usize) -> Framing {
        Framing { place: Place::Preface(0), heads: 0, line: Vec::new(), line_bytes_max }
    }

    /// Looks at what has arrived next. Says at most once which request is refused.
    pub(crate) fn look(&mut self, mut bytes: &[u8]) -> Option<Refused> {
        while !bytes.is_empty() {
            match self.place {
                Place::Over => return None,
                Place::Preface(seen) => {
                    let rest = &PREFACE[seen..];
                    let length = rest.len().min(bytes.len());
                    if bytes[..length] == rest[..length] {
                        self.place = if length == rest.len() { Place::Over } else { Place::Preface(seen + length) };
                        return None;
                    }
                    self.place = Place::Between;
                    let refused = self.look(&PREFACE[..seen]);
                    if refused.is_some() {
                        return refused;
                    }
                }
                Place::Body { rest, chunked } => {
                    let passed = usize::try_from(rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
                    bytes = &bytes[passed..];
                    self.place = match rest - passed as u64 {
                        0 if chunked => Place::ChunkSize,
                        0 => Place::Between,
                        rest => Place::Body { rest, chunked },
                    };
                }
                Place::Between | Place::Fields(_) | Place::ChunkSize | Place::Trailers => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return None;
                    };
                    let (line, rest) = bytes.split_at(end + 1);
                    bytes = rest;
                    if let Err(fault) = self.end_line(line) {
                        self.place = Place::Over;
                        return Some(Refused { request: self.heads + 1, fault });
                    }
                }
            }
        }
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.line.len() + bytes.len() > self.line_bytes_max {
            self.place = Place::Over;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    /// Takes a line's end, with what was kept of its start.
    fn end_line(&mut self, end: &[u8]) -> Result<(), Fault> {
        if self.line.is_empty() {
            return self.read_line(end);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(end);
        let read = self.read_line(&line);
        line.clear();
        self.line = line;
        read
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.strip_suffix(b"\r\n").ok_or(Fault::BareLineFeed)?;
        self.place = match self.place {
            Place::Between if line.is_empty() => Place::Between,
            Place::Between => Place::Fields(Length::Unsaid),
            Place::Fields(length) if line.is_empty() => {
                self.heads += 1;
                match length {
                    Length::Unsaid | Length::Known(0) => Place::Between,
                    Length::Known(rest) => Place::Body { rest, chunked: false },
                    Length::Chunked => Place::ChunkSize,
                }
            }
            Place::Fields(length) => read_field(line, length)?.map_or(Place::Over, Place::Fields),
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => Place::Trailers,
                Some(size) => Place::Body { rest: size.saturating_add(2), chunked: true },
                None => Place::Over,
            },
            Place::Trailers if line.is_empty() => Place::Between,
            place @ (Place::Trailers | Place::Preface(_) | Place::Body { .. } | Place::Over) => place,
        };
        Ok(())
    }
}

/// What is known of the body's length after a field; `None` for a field that hyper refuses.
fn read_field(line: &[u8], length: Length) -> Result<Option<Length>, Fault> {
    let said = match line[0] | 0x20 {
        b'c' => value_of(line, b"content-length").map(|value| number(value, 10).map(Length::Known)),
        b't' => match value_of(line, b"transfer-encoding") {
            Some(coding) if !coding.eq_ignore_ascii_case(b"chunked") => return Err(Fault::UnknownCoding),
            coding => coding.map(|_| Some(Length::Chunked)),
        },
        _ => None,
    };
    match said {
        None => Ok(Some(length)),
        Some(_) if length != Length::Unsaid => Err(Fault::TwoLengths),
        Some(said) => Ok(said),
    }
}

/// The value of a field, if it has this name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    first.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The size in a chunk's first line, whatever its extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    number(line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next()?, 16)
}

/// A number in digits alone: Rust's own parser would take a sign.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of the bytes when they arrive in pieces of these lengths, over and over.
    fn look(bytes: &[u8], pieces: &[usize]) -> Option<Refused> {
        let mut framing = Framing::new(1 << 16);
        let mut rest = bytes;
        for length in pieces.iter().cycle() {
            let (piece, later) = rest.split_at((*length).clamp(1, rest.len().max(1)).min(rest.len()));
            if let Some(refused) = framing.look(piece) {
                return Some(refused);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        None
    }

    fn refused(bytes: &str) -> Option<Refused> {
        let whole = look(bytes.as_bytes(), &[bytes.len()]);
        assert_eq!(look(bytes.as_bytes(), &[1]), whole, "byte for byte");
        whole
    }

    #[test]
    fn every_fault_names_its_request() {
        let good = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let sized = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\n";
        let chunked = "POST / HTTP/1.1\r\nTRANSFER-ENCODING: Chunked\r\n\r\n2;x=\"y\"\r\n\n\n\r\n0\r\nt: 1\r\n\r\n";
        let cases = [
            ("GET / HTTP/1.1\nhost: x\r\n\r\n", Fault::BareLineFeed),
            ("GET / HTTP/1.1\r\nhost: x\n\r\n", Fault::BareLineFeed),
            ("GET / HTTP/1.1\r\nhost: x\r\n\n", Fault::BareLineFeed),
            ("\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", Fault::BareLineFeed),
            ("P\n", Fault::BareLineFeed),
            ("PRI * HTTP/2.0\r\n\r\nSM\n", Fault::BareLineFeed),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Fault::TwoLengths),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", Fault::TwoLengths),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", Fault::TwoLengths),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n", Fault::TwoLengths),
            ("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Fault::UnknownCoding),
        ];
        for (bad, fault) in cases {
            // A request line of HTTP/2 counts as a request of its own when it turns out to be none.
            let itself = 1 + usize::from(bad.starts_with("PRI"));
            assert_eq!(refused(bad), Some(Refused { request: itself, fault }), "{bad:?}");
            let third = format!("{good}{sized}\r\n{chunked}{bad}");
            assert_eq!(refused(&third), Some(Refused { request: 3 + itself, fault }), "{third:?}");
        }
    }

    #[test]
    fn what_is_no_fault_is_let_through() {
        for good in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n\n\n",
            "\r\n\r\nGET / HTTP/1.1\r\ncookie: c\r\nte: trailers\r\nc:\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:5 \r\n\r\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n",
            // hyper's to refuse; what follows is no request.
            "POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n\n\n\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\n\n\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n\n\n\n",
        ] {
            assert_eq!(refused(good), None, "{good:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut framing = Framing::new(1000);
        for _ in 0..1000 {
            assert_eq!(framing.look(&[b'x'; 100]), None);
        }
        assert_eq!(framing.line.capacity(), 0);
    }

    /// One request: its head's lines, and its body as it is sent.
    fn request() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
        let lines = proptest::collection::vec("[a-zA-Z]{1,20}: ?[ -~]{0,30}", 0..6);
        let body = proptest::collection::vec(any::<u8>(), 0..60);
        (lines, body, proptest::option::of(1..20usize)).prop_map(|(mut lines, body, chunks)| {
            lines.insert(0, "POST /x HTTP/1.1".to_owned());
            let Some(size) = chunks else {
                lines.push(format!("Content-Length: {}", body.len()));
                return (lines, body);
            };
            lines.push("transfer-encoding: chunked".to_owned());
            let mut sent = Vec::new();
            for chunk in body.chunks(size) {
                sent.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(b"0\r\n\r\n");
            (lines, sent)
        })
    }

    proptest! {
        /// Whatever the bodies hold and however it all arrives: a bare LF in a head is found, and nothing else.
        #[test]
        fn heads_are_told_from_bodies(
            requests in proptest::collection::vec(request(), 1..6),
            pieces in proptest::collection::vec(1..50usize, 1..8),
            planted in proptest::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        ) {
            let planted = planted.map(|(at, line)| {
                let request = at.index(requests.len());
                // The empty line at the head's end is one, too.
                (request, line.index(requests[request].0.len() + 1))
            });
            let mut bytes = Vec::new();
            for (number, (lines, body)) in requests.iter().enumerate() {
                for (place, line) in lines.iter().map(String::as_str).chain([""]).enumerate() {
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.extend_from_slice(if planted == Some((number, place)) { b"\n" } else { b"\r\n" });
                }
                bytes.extend_from_slice(body);
            }
            let expected = planted.map(|(request, _)| Refused { request: request + 1, fault: Fault::BareLineFeed });
            prop_assert_eq!(look(&bytes, &pieces), expected);
        }
    }
}
