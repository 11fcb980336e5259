//! Resource ids: the short binary names that SDKs see as `_rid`.
//!
//! Owns their layout and their text, and nothing else: it never hands out a number and never knows whether one is taken.
//! An id contains its parent's, so a client can tell the container of an item by its first bytes:
//!
//! ```text
//! database      4 bytes   number, big-endian
//! container     8 bytes   database, then number, big-endian with the top bit set
//! document     16 bytes   container, then number, little-endian with 0x0 in the top four bits
//! key range    16 bytes   container, then number, little-endian with 0x5 in the top four bits
//! offer         3 bytes   number, big-endian
//! ```
//!
//! The text is base64 with `-` in place of `/`, because it is used in paths.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

/// Marks the number of a container, which follows the number of its database.
const CONTAINER_BIT: u32 = 1 << 31;
/// The bits of a document's or key range's number that are left to it; above them stands the kind.
const NUMBER_MASK: u64 = (1 << KIND_SHIFT) - 1;
const KIND_SHIFT: u32 = 60;
const DOCUMENT_KIND: u64 = 0;
const KEY_RANGE_KIND: u64 = 5;

const TEXT: GeneralPurpose = match Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-") {
    Ok(alphabet) => GeneralPurpose::new(&alphabet, PAD),
    Err(_) => panic!("the alphabet has 64 different printable characters"),
};

/// A text that is no resource id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RidError {
    text: String,
    kind: &'static str,
}

impl fmt::Display for RidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not the resource id of {}", self.text, self.kind)
    }
}

impl std::error::Error for RidError {}

/// The resource id of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DatabaseRid(pub(crate) u32);

/// The resource id of a container. Numbers stay below 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ContainerRid {
    /// The number of the database.
    pub(crate) database: u32,
    /// The number of the container in it.
    pub(crate) container: u32,
}

/// The resource id of an item. Numbers stay below 2^60, which no commit sequence reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DocumentRid {
    /// The container that holds the item.
    pub(crate) container: ContainerRid,
    /// The number of the item in it.
    pub(crate) document: u64,
}

/// The resource id of a partition key range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyRangeRid {
    /// The container that the range is part of.
    pub(crate) container: ContainerRid,
    /// The number of the range in it.
    pub(crate) range: u32,
}

/// The resource id of an offer. Numbers stay below 2^24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OfferRid(pub(crate) u32);

impl ContainerRid {
    /// Returns the resource id of the database that holds the container.
    pub(crate) fn database_rid(self) -> DatabaseRid {
        DatabaseRid(self.database)
    }

    fn bytes(self) -> [u8; 8] {
        let container = self.container | CONTAINER_BIT;
        (u64::from(self.database) << 32 | u64::from(container)).to_be_bytes()
    }

    fn from_bytes(bytes: [u8; 8]) -> Option<ContainerRid> {
        let number = u64::from_be_bytes(bytes);
        let (database, container) = ((number >> 32) as u32, number as u32);
        (container & CONTAINER_BIT != 0).then_some(ContainerRid { database, container: container & !CONTAINER_BIT })
    }

    /// Returns the bytes of something inside the container.
    fn child_bytes(self, kind: u64, number: u64) -> [u8; 16] {
        let child = (kind << KIND_SHIFT) | (number & NUMBER_MASK);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.bytes());
        bytes[8..].copy_from_slice(&child.to_le_bytes());
        bytes
    }

    fn child_from_bytes(bytes: [u8; 16], kind: u64) -> Option<(ContainerRid, u64)> {
        let (parent, child) = bytes.split_at(8);
        let container = ContainerRid::from_bytes(parent.try_into().ok()?)?;
        let child = u64::from_le_bytes(child.try_into().ok()?);
        (child >> KIND_SHIFT == kind).then_some((container, child & NUMBER_MASK))
    }
}

impl DocumentRid {
    /// Bytes of the text.
    pub(crate) const TEXT_BYTES: usize = 24;

    /// Reads a text, if it is an item's resource id. Most texts that are tried are none, and need no words why not.
    pub(crate) fn read(text: &str) -> Option<DocumentRid> {
        let (container, document) = ContainerRid::child_from_bytes(decode(text)?, DOCUMENT_KIND)?;
        Some(DocumentRid { container, document })
    }

    /// Writes the text into `buffer` and returns it.
    pub(crate) fn write_to(self, buffer: &mut [u8; DocumentRid::TEXT_BYTES]) -> &str {
        let bytes = self.container.child_bytes(DOCUMENT_KIND, self.document);
        // Sixteen bytes fill the buffer, with letters of the alphabet.
        let length = TEXT.encode_slice(bytes, buffer).unwrap_or_default();
        std::str::from_utf8(&buffer[..length]).unwrap_or_default()
    }
}

impl fmt::Display for DatabaseRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TEXT.encode(self.0.to_be_bytes()))
    }
}

impl fmt::Display for ContainerRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TEXT.encode(self.bytes()))
    }
}

impl fmt::Display for DocumentRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_to(&mut [0; DocumentRid::TEXT_BYTES]))
    }
}

impl fmt::Display for KeyRangeRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TEXT.encode(self.container.child_bytes(KEY_RANGE_KIND, u64::from(self.range))))
    }
}

impl fmt::Display for OfferRid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, number @ ..] = self.0.to_be_bytes();
        f.write_str(&TEXT.encode(number))
    }
}

impl FromStr for DatabaseRid {
    type Err = RidError;

    fn from_str(text: &str) -> Result<Self, RidError> {
        decode(text).map(|bytes| DatabaseRid(u32::from_be_bytes(bytes))).ok_or_else(|| error(text, "a database"))
    }
}

impl FromStr for ContainerRid {
    type Err = RidError;

    fn from_str(text: &str) -> Result<Self, RidError> {
        decode(text).and_then(ContainerRid::from_bytes).ok_or_else(|| error(text, "a container"))
    }
}

impl FromStr for DocumentRid {
    type Err = RidError;

    fn from_str(text: &str) -> Result<Self, RidError> {
        DocumentRid::read(text).ok_or_else(|| error(text, "an item"))
    }
}

impl FromStr for OfferRid {
    type Err = RidError;

    fn from_str(text: &str) -> Result<Self, RidError> {
        decode(text).map(|[a, b, c]| OfferRid(u32::from_be_bytes([0, a, b, c]))).ok_or_else(|| error(text, "an offer"))
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if Some(text.len()) != base64::encoded_len(N, true) {
        return None;
    }
    // The longest id has 24 letters, of which the last two are padding.
    let mut bytes = [0; DocumentRid::TEXT_BYTES / 4 * 3];
    let length = TEXT.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..length)?.try_into().ok()
}

fn error(text: &str, kind: &'static str) -> RidError {
    RidError { text: text.to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTAINER: ContainerRid = ContainerRid { database: 1, container: 1 };

    #[test]
    fn layouts_are_the_services() {
        assert_eq!(DatabaseRid(1).to_string(), "AAAAAQ==");
        assert_eq!(CONTAINER.to_string(), "AAAAAYAAAAE=");
        assert_eq!(DocumentRid { container: CONTAINER, document: 1 }.to_string(), "AAAAAYAAAAEBAAAAAAAAAA==");
        assert_eq!(KeyRangeRid { container: CONTAINER, range: 0 }.to_string(), "AAAAAYAAAAEAAAAAAAAAUA==");
        assert_eq!(OfferRid(1).to_string(), "AAAB");
    }

    #[test]
    fn text_is_safe_in_a_path() {
        assert_eq!(DatabaseRid(u32::MAX).to_string(), "-----w==");
        assert_eq!("-----w==".parse(), Ok(DatabaseRid(u32::MAX)));
    }

    #[test]
    fn kinds_are_not_mistaken_for_each_other() {
        let range = KeyRangeRid { container: CONTAINER, range: 7 }.to_string();
        assert!(range.parse::<DocumentRid>().is_err());
        assert!(CONTAINER.to_string().parse::<DatabaseRid>().is_err());
        assert!(DatabaseRid(1).to_string().parse::<ContainerRid>().is_err());
        assert!("AAAAAQAAAAE=".parse::<ContainerRid>().is_err(), "the container bit is missing");
        assert_eq!("///".parse::<OfferRid>().unwrap_err().to_string(), "`///` is not the resource id of an offer");
    }

    proptest! {
        #[test]
        fn texts_read_back(database: u32, container in 0..CONTAINER_BIT, document in 0..=NUMBER_MASK, offer in 0..1_u32 << 24) {
            let container = ContainerRid { database, container };
            let document = DocumentRid { container, document };
            prop_assert_eq!(DatabaseRid(database).to_string().parse(), Ok(DatabaseRid(database)));
            prop_assert_eq!(container.to_string().parse(), Ok(container));
            prop_assert_eq!(document.to_string().parse(), Ok(document));
            prop_assert_eq!(OfferRid(offer).to_string().parse(), Ok(OfferRid(offer)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[A-Za-z0-9+=/-]{0,30}") {
            let _ = (text.parse::<DatabaseRid>(), text.parse::<ContainerRid>(), text.parse::<DocumentRid>(), text.parse::<OfferRid>());
        }
    }
}
