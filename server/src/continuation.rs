//! Continuation tokens: where a feed or a query goes on, in text that a client carries and need not understand.
//!
//! Owns the token's bytes. It names the commit that the first page was read at, so that all pages are of one state, and
//! the place reached. Nothing is remembered on the server: a token works after a restart, and one that was not made here,
//! or was made for something else, is refused.
//!
//! ```text
//! u8 format | u8 kind | u64 commit | u64 fingerprint of what is read | kind 1: u32 passed, u32 results, key
//!                                                                   | kind 2: u64 offset      | u32 checksum
//!                                                                   | kinds 3, 4: u16 index, then as 1, 2
//! ```
//! All little-endian, then base64 without padding. SDKs allow 1 KB.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use etagdb::CommitSeq;
use sha2::{Digest, Sha256};

use crate::status::ApiError;

const FORMAT: u8 = 1;
/// Longest storage key that a token holds whole.
const KEY_BYTES_MAX: usize = 600;

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The commit that every page is read at.
    pub(crate) seq: CommitSeq,
    pub(crate) position: Position,
}

/// The place reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Position {
    /// After a document, and perhaps inside the next one's results.
    Document(Place),
    /// After so many results of a list that is made anew for each page.
    Offset(u64),
    /// As [`Position::Document`], in the order of the index with this number.
    Entry(u16, Place),
    /// As [`Position::Offset`], of a list that is made by way of the index with this number.
    OffsetBy(u16, u64),
}

/// The last document passed. A key too long for a token is held by its beginning and the number of documents passed that
/// begin so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) key: Vec<u8>,
    pub(crate) passed: u32,
    /// Results of the next document that were delivered already.
    pub(crate) results: u32,
}

impl Place {
    /// The place to go on from; not in the state that it was reached in, a document known only by its number might be
    /// missed, so such ones are read again.
    pub(crate) fn within(self, found: bool) -> Place {
        if found { self } else { Place { passed: 0, ..self } }
    }

    /// Moves past the document with this storage key.
    pub(crate) fn pass(&mut self, key: &[u8]) {
        self.results = 0;
        match key.get(..KEY_BYTES_MAX).filter(|_| key.len() > KEY_BYTES_MAX) {
            None => {
                self.key = key.to_vec();
                self.passed = 0;
            }
            Some(start) if self.passed > 0 && self.key == start => self.passed = self.passed.saturating_add(1),
            Some(start) => {
                self.key = start.to_vec();
                self.passed = 1;
            }
        }
    }
}

impl Token {
    /// The refusal of a token that does not fit what is asked.
    pub(crate) fn of_another() -> ApiError {
        ApiError::bad_request("The continuation token is invalid: it belongs to another query.")
    }

    /// Writes the token for a reading of `what`: anything that tells this feed or query from others.
    pub(crate) fn encode(&self, what: &[u8]) -> String {
        let mut bytes = vec![FORMAT];
        let kind = match &self.position {
            Position::Document(_) => 1,
            Position::Offset(_) => 2,
            Position::Entry(..) => 3,
            Position::OffsetBy(..) => 4,
        };
        bytes.push(kind);
        bytes.extend(self.seq.get().to_le_bytes());
        bytes.extend(digest::<8>(what));
        if let Position::Entry(index, _) | Position::OffsetBy(index, _) = &self.position {
            bytes.extend(index.to_le_bytes());
        }
        match &self.position {
            Position::Document(place) | Position::Entry(_, place) => {
                bytes.extend(place.passed.to_le_bytes());
                bytes.extend(place.results.to_le_bytes());
                bytes.extend(&place.key);
            }
            Position::Offset(offset) | Position::OffsetBy(_, offset) => bytes.extend(offset.to_le_bytes()),
        }
        bytes.extend(digest::<4>(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that a client sent back.
    pub(crate) fn decode(text: &str, what: &[u8]) -> Result<Token, ApiError> {
        let invalid = || ApiError::bad_request("The continuation token is invalid: it was not made by this server.");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let (bytes, checksum) = bytes.split_last_chunk::<4>().ok_or_else(invalid)?;
        if digest::<4>(bytes) != *checksum {
            return Err(invalid());
        }
        let (&[format, kind], bytes) = bytes.split_first_chunk::<2>().ok_or_else(invalid)?;
        let (seq, bytes) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
        let (fingerprint, bytes) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
        if format != FORMAT {
            return Err(invalid());
        }
        if *fingerprint != digest::<8>(what) {
            return Err(ApiError::bad_request(
                "The continuation token is invalid: it belongs to another container, query or partition key.",
            ));
        }
        let (index, bytes) = match kind {
            3 | 4 => {
                let (index, bytes) = bytes.split_first_chunk::<2>().ok_or_else(invalid)?;
                (u16::from_le_bytes(*index), bytes)
            }
            _ => (0, bytes),
        };
        let position = match kind {
            1 | 3 => {
                let (passed, bytes) = bytes.split_first_chunk::<4>().ok_or_else(invalid)?;
                let (results, key) = bytes.split_first_chunk::<4>().ok_or_else(invalid)?;
                let (passed, results) = (u32::from_le_bytes(*passed), u32::from_le_bytes(*results));
                let place = Place { key: key.to_vec(), passed, results };
                if kind == 1 { Position::Document(place) } else { Position::Entry(index, place) }
            }
            2 | 4 => {
                let offset = u64::from_le_bytes(bytes.try_into().map_err(|_| invalid())?);
                if kind == 2 { Position::Offset(offset) } else { Position::OffsetBy(index, offset) }
            }
            _ => return Err(invalid()),
        };
        Ok(Token { seq: CommitSeq::new(u64::from_le_bytes(*seq)), position })
    }
}

/// The first bytes of a SHA-256, which is more than enough to tell accidents from tokens.
fn digest<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut short = [0; N];
    short.copy_from_slice(&Sha256::digest(bytes)[..N]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(key: &[u8]) -> Token {
        let mut place = Place::default();
        place.pass(key);
        place.results = 3;
        Token { seq: CommitSeq::new(41), position: Position::Document(place) }
    }

    #[test]
    fn a_token_of_the_longest_key_stays_below_a_kilobyte() {
        let token = token(&[7; 16 * 1024]);
        let text = token.encode(b"what");
        assert!(text.len() < 1000, "{}", text.len());
        assert_eq!(Token::decode(&text, b"what").unwrap(), token);
    }

    #[test]
    fn every_kind_of_place_survives_the_way() {
        let place = Place { key: b"key".to_vec(), passed: 2, results: 1 };
        for position in [
            Position::Document(place.clone()),
            Position::Offset(7),
            Position::Entry(300, place),
            Position::OffsetBy(300, 8),
        ] {
            let token = Token { seq: CommitSeq::new(5), position };
            assert_eq!(Token::decode(&token.encode(b"what"), b"what").unwrap(), token);
        }
    }

    #[test]
    fn documents_with_one_long_beginning_are_counted() {
        let long = |last: u8| [vec![7; KEY_BYTES_MAX], vec![last]].concat();
        let mut place = Place::default();
        place.pass(&long(1));
        place.pass(&long(2));
        assert_eq!((place.key.len(), place.passed), (KEY_BYTES_MAX, 2));
        place.pass(b"short");
        assert_eq!((place.key.as_slice(), place.passed), (&b"short"[..], 0));
    }

    #[test]
    fn another_query_does_not_accept_it() {
        let error = Token::decode(&token(b"key").encode(b"one"), b"two").unwrap_err();
        assert!(error.message.contains("another"));
    }

    proptest! {
        #[test]
        fn junk_is_refused(text in "\\PC*") {
            prop_assert!(Token::decode(&text, b"what").is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in 0usize..40, with in 1u8..255) {
            let text = token(b"some key of an item").encode(b"what");
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= with;
            prop_assert!(Token::decode(&URL_SAFE_NO_PAD.encode(bytes), b"what").is_err());
        }
    }
}
