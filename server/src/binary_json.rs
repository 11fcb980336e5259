//! Cosmos binary JSON, the form in which the Rust SDK sends items by default, turned into JSON text.
//!
//! Owns the format: a first byte `80`, then one value, each value headed by a marker. It reads only; answers are text, which
//! every SDK takes. Input is bounded by the caller; depth ([`MAX_DEPTH`]) and the length of the text are bounded here,
//! because a reference to an earlier string is short however long that string is.
//!
//! ```text
//! 00..1F  the number itself                       C7..CF  numbers of fixed width
//! 20..3F  a name that everybody knows             D0..D2  null, false, true
//! 40..67  a name from a dictionary not sent       D3      a GUID
//! 71..7F  base64, GUIDs and packed characters     D7..DC  numbers of fixed width
//! 80..BF  a string, its length in the marker      DD..DF  bytes
//! C0..C2  a string, its length after the marker   E0..EF  arrays and objects
//! C3..C6  a string that stands at an offset       F0..F3  arrays of numbers of one kind
//! ```
//!
//! Numbers are little-endian. Lengths count bytes and come before counts of items.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::document::{self, MAX_DEPTH};
use crate::status::ApiError;

/// What every body in binary JSON begins with, and no UTF-8 text does.
const PREAMBLE: u8 = 0x80;
/// Longest text made of one body: several times the largest item.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// Below this, every whole number is a float, and is written without a fraction as the service does.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// The names of markers 20 to 3F.
const KNOWN_STRINGS: [&str; 32] = [
    "$s",
    "$t",
    "$v",
    "_attachments",
    "_etag",
    "_rid",
    "_self",
    "_ts",
    "attachments/",
    "coordinates",
    "geometry",
    "GeometryCollection",
    "id",
    "url",
    "Value",
    "label",
    "LineString",
    "link",
    "MultiLineString",
    "MultiPoint",
    "MultiPolygon",
    "name",
    "Name",
    "Type",
    "Point",
    "Polygon",
    "properties",
    "type",
    "value",
    "Feature",
    "FeatureCollection",
    "_id",
];

const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";
const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";
const DATE_TIME: &[u8; 16] = b" 0123456789:-.TZ";

/// Where a body stops being binary JSON, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BinaryJsonError {
    offset: usize,
    what: Cow<'static, str>,
}

impl fmt::Display for BinaryJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body is not valid binary JSON: at byte {}, {}", self.offset, self.what)
    }
}

impl std::error::Error for BinaryJsonError {}

/// True if the body is binary JSON rather than text.
fn is_binary(body: &[u8]) -> bool {
    body.first() == Some(&PREAMBLE)
}

/// Returns the text of a body of either kind; text as it is.
pub(crate) fn as_text(body: &[u8]) -> Result<Cow<'_, [u8]>, ApiError> {
    if !is_binary(body) {
        return Ok(body.into());
    }
    let text =
        to_text(body).map_err(|error| ApiError::bad_request(format!("The request body is invalid: {error}.")))?;
    Ok(text.into())
}

/// Returns the text of a body in binary JSON.
pub(crate) fn to_text(body: &[u8]) -> Result<Vec<u8>, BinaryJsonError> {
    let mut reader = Reader { bytes: body, at: 0, end: body.len() };
    let mut text = Vec::with_capacity(body.len() + body.len() / 2);
    if reader.byte()? != PREAMBLE {
        return Err(error(0, "there is no 80, with which binary JSON begins"));
    }
    reader.value(1, &mut text)?;
    if reader.at < body.len() {
        return Err(error(reader.at, "something follows the value"));
    }
    Ok(text)
}

fn error(offset: usize, what: impl Into<Cow<'static, str>>) -> BinaryJsonError {
    BinaryJsonError { offset, what: what.into() }
}

/// A place in the body, and the end of the innermost container around it, beyond which nothing is read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        let start = self.at;
        let marker = self.byte()?;
        match marker {
            0x20..=0xC6 => document::write_string(out, &self.string(start, marker)?),
            0xE0..=0xEF if depth > MAX_DEPTH => {
                return Err(error(start, format!("values are nested deeper than {MAX_DEPTH} levels")));
            }
            0xE0..=0xEF => self.container(start, marker, depth, out)?,
            0x00..=0x1F => write_number(marker, out),
            0xD0 => out.extend_from_slice(b"null"),
            0xD1 => out.extend_from_slice(b"false"),
            0xD2 => out.extend_from_slice(b"true"),
            0xD3 => document::write_string(out, &self.guid()?),
            0xC7 => write_number(u64::from_le_bytes(self.array()?), out),
            0xC8 => write_number(self.byte()?, out),
            0xC9..=0xCB => self.number(start, marker + 0x10, out)?,
            0xCC => self.number(start, 0xCE, out)?,
            0xCD | 0xCE | 0xD7..=0xDC => self.number(start, marker, out)?,
            0xDD..=0xDF => {
                let length = self.length(1 << (marker - 0xDD))?;
                document::write_string(out, &STANDARD.encode(self.take(length)?));
            }
            0xF0 | 0xF1 => {
                let kind = self.byte()?;
                let count = self.length(1 << (marker - 0xF0))?;
                self.numbers(start, kind, count, out)?;
            }
            0xF2 | 0xF3 => self.arrays_of_numbers(start, marker, out)?,
            0xCF | 0xD4..=0xD6 | 0xF4..=0xFF => {
                return Err(error(start, format!("{marker:02X} marks no kind of value")));
            }
        }
        within_bounds(start, out)
    }

    /// Reads an array or an object. The low bits of the marker say how it is framed: empty, one item, or a length of one, two
    /// or four bytes, without and with a count behind it.
    fn container(&mut self, start: usize, marker: u8, depth: usize, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        let is_object = marker >= 0xE8;
        out.push(if is_object { b'{' } else { b'[' });
        match marker & 0x07 {
            0 => {}
            1 => self.item(is_object, depth, out)?,
            framing => {
                let width = 1 << ((framing - 2) % 3);
                let length = self.length(width)?;
                let count = if framing >= 5 { Some(self.length(width)?) } else { None };
                let end = self.at.checked_add(length).filter(|end| *end <= self.end);
                let end = end.ok_or_else(|| error(start, "a container is longer than what surrounds it"))?;

                let outer_end = std::mem::replace(&mut self.end, end);
                let mut items = 0;
                while self.at < end {
                    if items > 0 {
                        out.push(b',');
                    }
                    self.item(is_object, depth, out)?;
                    items += 1;
                }
                self.end = outer_end;
                if count.is_some_and(|count| count != items) {
                    return Err(error(start, format!("a container holds {items} items, which is not its count")));
                }
            }
        }
        out.push(if is_object { b'}' } else { b']' });
        Ok(())
    }

    fn item(&mut self, in_object: bool, depth: usize, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        if in_object {
            let start = self.at;
            let marker = self.byte()?;
            document::write_string(out, &self.string(start, marker)?);
            out.push(b':');
        }
        self.value(depth + 1, out)
    }

    fn string(&mut self, start: usize, marker: u8) -> Result<Cow<'a, str>, BinaryJsonError> {
        let width = match marker {
            0xC3..=0xC6 => usize::from(marker - 0xC2),
            _ => return self.direct_string(start, marker),
        };
        let target = self.length(width)?;
        let mut earlier = Reader { bytes: self.bytes, at: target, end: start };
        let marker = earlier.byte().map_err(|_| error(start, "a string refers to something that is not before it"))?;
        // A reference to a reference could go round in circles, so there is none.
        earlier.direct_string(target, marker)
    }

    fn direct_string(&mut self, start: usize, marker: u8) -> Result<Cow<'a, str>, BinaryJsonError> {
        let length = match marker {
            0x20..=0x3F => return Ok(KNOWN_STRINGS[usize::from(marker - 0x20)].into()),
            0x40..=0x67 => return Err(error(start, "a string is named by a dictionary that was not sent")),
            0x71 => return self.base64(start, 1, &STANDARD),
            0x72 => return self.base64(start, 2, &STANDARD),
            0x73 => return self.base64(start, 1, &URL_SAFE),
            0x74 => return self.base64(start, 2, &URL_SAFE),
            0x75 => return Ok(self.guid_string(LOWER_HEX)?.into()),
            0x76 => return Ok(self.guid_string(UPPER_HEX)?.into()),
            0x77 => return Ok(format!("\"{}\"", self.guid_string(LOWER_HEX)?).into()),
            0x78 => return self.nibbles(start, LOWER_HEX),
            0x79 => return self.nibbles(start, UPPER_HEX),
            0x7A => return self.nibbles(start, DATE_TIME),
            0x7B..=0x7D => {
                let count = self.length(1)?;
                let base = self.byte()?;
                return self.packed(start, count, u32::from(marker - 0x7B) + 4, base);
            }
            0x7E | 0x7F => {
                let count = self.length(1 << (marker - 0x7E))?;
                return self.packed(start, count, 7, 0);
            }
            0x80..=0xBF => usize::from(marker & 0x3F),
            0xC0..=0xC2 => self.length(1 << (marker - 0xC0))?,
            _ => return Err(error(start, format!("{marker:02X} stands where there must be a string"))),
        };
        let start = self.at;
        std::str::from_utf8(self.take(length)?)
            .map(Cow::Borrowed)
            .map_err(|utf8| error(start + utf8.valid_up_to(), "a string is not UTF-8"))
    }

    /// Reads the bytes that base64 text stands for: how many groups of four characters it has, how many of those are padding,
    /// or the complement of that if the padding is not written, and the bytes.
    fn base64(&mut self, start: usize, width: usize, alphabet: &impl Engine) -> Result<Cow<'a, str>, BinaryJsonError> {
        let characters = self.length(width)? * 4;
        let padding = self.byte()?;
        let (padding, written) = if padding > 2 { (!padding, false) } else { (padding, true) };
        let digits = characters.checked_sub(usize::from(padding)).filter(|_| padding <= 2);
        let digits = digits.ok_or_else(|| error(start, "base64 has more padding than there can be"))?;
        let mut text = alphabet.encode(self.take(digits * 3 / 4)?);
        if !written {
            text.truncate(digits);
        }
        Ok(text.into())
    }

    /// Reads a GUID's digits, two to a byte, the low half first.
    fn guid_string(&mut self, digits: &[u8; 16]) -> Result<String, BinaryJsonError> {
        let mut text = String::with_capacity(38);
        for (index, byte) in self.array::<16>()?.into_iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(digits[usize::from(byte & 0x0F)].into());
            text.push(digits[usize::from(byte >> 4)].into());
        }
        Ok(text)
    }

    /// Reads a GUID as .NET keeps it: the first three of its five numbers little-endian.
    fn guid(&mut self) -> Result<String, BinaryJsonError> {
        let mut bytes = self.array::<16>()?;
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        // The digits of each byte the other way round are the form above.
        let swapped = bytes.map(|byte| byte.rotate_left(4));
        Reader { bytes: &swapped, at: 0, end: swapped.len() }.guid_string(LOWER_HEX)
    }

    /// Reads characters of an alphabet of sixteen, two to a byte, the low half first.
    fn nibbles(&mut self, start: usize, alphabet: &[u8; 16]) -> Result<Cow<'a, str>, BinaryJsonError> {
        let count = self.length(1)?;
        let bytes = self.take(count.div_ceil(2))?;
        let mut text: String = bytes
            .iter()
            .flat_map(|byte| [byte & 0x0F, byte >> 4])
            .map(|nibble| char::from(alphabet[usize::from(nibble)]))
            .collect();
        if text.len() > count {
            if bytes.last().is_some_and(|byte| byte >> 4 != 0) {
                return Err(error(start, "a string of halves of bytes has something in the last, unused half"));
            }
            text.truncate(count);
        }
        Ok(text.into())
    }

    /// Reads characters of `bits` bits each, the lowest first, which count from `base`.
    fn packed(&mut self, start: usize, count: usize, bits: u32, base: u8) -> Result<Cow<'a, str>, BinaryJsonError> {
        let mut bytes = self.take((count * bits as usize).div_ceil(8))?.iter();
        let mut text = String::with_capacity(count);
        let (mut held, mut held_bits) = (0_u32, 0);
        for _ in 0..count {
            if held_bits < bits {
                held |= u32::from(bytes.next().copied().unwrap_or_default()) << held_bits;
                held_bits += 8;
            }
            let code = u32::from(base) + (held & ((1 << bits) - 1));
            held >>= bits;
            held_bits -= bits;
            let code = u8::try_from(code).ok().filter(u8::is_ascii);
            text.push(code.ok_or_else(|| error(start, "a packed string has a character beyond ASCII"))?.into());
        }
        Ok(text.into())
    }

    /// Reads a number of the kinds that arrays of numbers may have.
    fn number(&mut self, start: usize, kind: u8, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        match kind {
            0xD7 => write_number(self.byte()?, out),
            0xD8 => write_number(i8::from_le_bytes(self.array()?), out),
            0xD9 => write_number(i16::from_le_bytes(self.array()?), out),
            0xDA => write_number(i32::from_le_bytes(self.array()?), out),
            0xDB => write_number(i64::from_le_bytes(self.array()?), out),
            0xDC => write_number(u32::from_le_bytes(self.array()?), out),
            0xCD => write_float(start, f32::from_le_bytes(self.array()?).into(), out)?,
            0xCE => write_float(start, f64::from_le_bytes(self.array()?), out)?,
            other => return Err(error(start, format!("{other:02X} marks no kind of number that an array has"))),
        }
        Ok(())
    }

    fn numbers(&mut self, start: usize, kind: u8, count: usize, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        out.push(b'[');
        for index in 0..count {
            if index > 0 {
                out.push(b',');
            }
            self.number(start, kind, out)?;
        }
        out.push(b']');
        within_bounds(start, out)
    }

    /// Reads arrays of one length: the marker of the inner ones, the kind of number, how many are in each, and how many arrays.
    fn arrays_of_numbers(&mut self, start: usize, marker: u8, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
        let width = 1 << (marker - 0xF2);
        let inner = self.byte()?;
        if inner != marker - 2 {
            return Err(error(start, format!("{inner:02X} is not what arrays marked {marker:02X} are made of")));
        }
        let kind = self.byte()?;
        let count = self.length(width)?;
        let arrays = self.length(width)?;
        out.push(b'[');
        for index in 0..arrays {
            if index > 0 {
                out.push(b',');
            }
            self.numbers(start, kind, count, out)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Reads a length, a count or an offset of one to four bytes.
    fn length(&mut self, width: usize) -> Result<usize, BinaryJsonError> {
        Ok(self.take(width)?.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn byte(&mut self) -> Result<u8, BinaryJsonError> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BinaryJsonError> {
        let start = self.at;
        // The slice is as long as the array, whose length was asked for.
        self.take(N)?.try_into().map_err(|_| error(start, "a value is cut off"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BinaryJsonError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken =
            taken.ok_or_else(|| error(self.at, format!("{length} more bytes are needed, and there are fewer")))?;
        self.at += length;
        Ok(taken)
    }
}

fn within_bounds(start: usize, out: &[u8]) -> Result<(), BinaryJsonError> {
    if out.len() > MAX_TEXT_BYTES {
        return Err(error(start, format!("the text grows beyond {MAX_TEXT_BYTES} bytes")));
    }
    Ok(())
}

fn write_number(number: impl fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn write_float(start: usize, number: f64, out: &mut Vec<u8>) -> Result<(), BinaryJsonError> {
    let whole = number.fract() == 0.0 && number.abs() < MAX_EXACT_FLOAT;
    if whole && !(number == 0.0 && number.is_sign_negative()) {
        write_number(number as i64, out);
        return Ok(());
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => write_number(number, out),
        None => return Err(error(start, format!("there is the number {number}, which JSON does not have"))),
    }
    Ok(())
}

#[cfg(test)]
#[path = "binary_json_tests.rs"]
mod tests;
