//! Names for versions: the etag and the commit sequence. Owns their text form; never touches the disk.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The opaque name of one version of one document.
///
/// No two versions of a store ever share an etag: not after delete and recreate, not after a crash, not in a copied
/// or restored directory, not with the clock set back. Compare etags with `==`; they have no order. The text form is
/// a lower-case hyphenated UUID.
///
/// # Examples
///
/// ```
/// use etagdb::Etag;
///
/// let etag: Etag = "8c2d6f04-1b7e-4f3a-0000-000000000029".parse()?;
/// assert_eq!(etag.to_string(), "8c2d6f04-1b7e-4f3a-0000-000000000029");
/// assert!("8C2D6F04-1B7E-4F3A-0000-000000000029".parse::<Etag>().is_err(), "one spelling only");
/// # Ok::<(), etagdb::ParseEtagError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Etag(u128);

impl Etag {
    /// An etag that no version has or will have: `Precondition::Match(Etag::NEVER)` always fails.
    pub const NEVER: Etag = Etag(0);

    /// Bytes of the text form.
    pub const TEXT_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

    /// Writes the text form into `buffer` and returns it, as [`Display`](fmt::Display) writes it: for those who write many
    /// and need no `String`.
    pub fn write_to(self, buffer: &mut [u8; Etag::TEXT_BYTES]) -> &str {
        Uuid::from_u128(self.0).hyphenated().encode_lower(buffer)
    }

    /// High 64 bits the epoch, low 64 bits the commit sequence. Sequences start at 1, so this is never `NEVER`.
    pub(crate) fn new(epoch: u64, seq: CommitSeq) -> Etag {
        Etag(u128::from(epoch) << 64 | u128::from(seq.0))
    }

    /// The etag of another write of the same batch, from the sequence that one has. This is for who stores something in
    /// a batch about the batch's other writes, whose etags do not exist before the commit. For a sequence outside the
    /// batch it may be the etag of nothing.
    #[must_use]
    pub fn of_same_batch(self, seq: CommitSeq) -> Etag {
        // One batch is written under one epoch.
        Etag(self.0 >> 64 << 64 | u128::from(seq.0))
    }

    /// The commit sequence in it. Whether this store gave the etag out is for the epoch to say.
    pub(crate) fn seq(self) -> CommitSeq {
        // The cut keeps the low 64 bits.
        CommitSeq(self.0 as u64)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_to(&mut [0; Etag::TEXT_BYTES]))
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Etag({self})")
    }
}

impl FromStr for Etag {
    type Err = ParseEtagError;

    /// Reads exactly what [`Display`](fmt::Display) writes; every other spelling of the UUID is an error, because
    /// HTTP compares etags character by character (RFC 9110, section 8.8.3.2).
    ///
    /// # Errors
    ///
    /// [`ParseEtagError`] for anything else.
    fn from_str(text: &str) -> Result<Etag, ParseEtagError> {
        let etag = Uuid::try_parse(text).map(|uuid| Etag(uuid.as_u128())).map_err(|_| ParseEtagError)?;
        if etag.write_to(&mut [0; Etag::TEXT_BYTES]) == text { Ok(etag) } else { Err(ParseEtagError) }
    }
}

/// The text is not an etag as [`Etag`]'s `Display` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseEtagError;

impl fmt::Display for ParseEtagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an etag: expected a lower-case hyphenated UUID")
    }
}

impl std::error::Error for ParseEtagError {}

/// The place of a write in the store's total commit order, from 1. Every write has its own, also inside a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(u64);

impl CommitSeq {
    /// Makes a commit sequence from its number, for example from a stored position.
    pub const fn new(number: u64) -> CommitSeq {
        CommitSeq(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_is_the_high_half_and_sequence_the_low_half() {
        let etag = Etag::new(0x0123_4567_89ab_cdef, CommitSeq(0x29));
        assert_eq!(etag.to_string(), "01234567-89ab-cdef-0000-000000000029");
        assert_eq!(etag.to_string().parse(), Ok(etag));
    }

    #[test]
    fn the_writes_of_a_batch_differ_in_the_low_half() {
        let (epoch, last) = (0xFFFF_FFFF_FFFF_FFFF, CommitSeq(0x29));
        assert_eq!(Etag::new(epoch, last).of_same_batch(CommitSeq(0x28)), Etag::new(epoch, CommitSeq(0x28)));
        assert_eq!(Etag::new(7, CommitSeq(u64::MAX)).of_same_batch(last), Etag::new(7, last));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "*",
            "01234567-89AB-cdef-0000-000000000029",
            "0123456789abcdef0000000000000029",
            "{01234567-89ab-cdef-0000-000000000029}",
            "\"01234567-89ab-cdef-0000-000000000029\"",
        ] {
            assert_eq!(text.parse::<Etag>(), Err(ParseEtagError), "{text:?}");
        }
    }
}
