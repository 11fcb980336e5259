//! RocksDB's log format, read by us: its `MANIFEST` is written in it. Owns the cutting of a file into records and the
//! judgement that a byte is where no whole record is; never writes, never decides what that means for the store.
//!
//! A file is a row of blocks of 32 KiB. Each block holds fragments, none of which crosses into the next one; what is
//! too short for a fragment's head at the end of a block is filled with zeros:
//!
//! ```text
//! +------------------+--------+------+---------+
//! | masked CRC-32C   | length | type | payload |     type: 1 a whole record; 2, 3, 4 its first, a middle, its last
//! | u32 LE           | u16 LE | u8   | bytes   |     fragment. The checksum is over type and payload.
//! +------------------+--------+------+---------+
//! ```
//!
//! RocksDB knows more types (of recycled and of compressed logs); a store's options never make it write them, so here
//! they are damage. That matters: RocksDB looks at the type before the checksum, and one flipped bit that turns type
//! 1 into 5 makes its reader go round for ever at the same byte. Here each step either passes at least a head's
//! length of the file or ends, so reading takes time in proportion to the file, whatever is in it.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

const BLOCK_BYTES: usize = 32 * 1024;
const HEAD_BYTES: usize = 4 + 2 + 1;
/// How much is read from the file at a time, in blocks.
const READ_BLOCKS: usize = 32;

/// What comes next in a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A whole record.
    Record {
        /// Where in the file it begins.
        offset: u64,
        /// Its first bytes, as many as the reader was asked to keep.
        head: &'a [u8],
    },
    /// The file ends here, behind a whole record.
    End,
    /// What comes next is no whole record.
    Bad(Fault),
}

/// A place where there should be a record, or the end of the file, and is something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where the record begins that is not whole. Everything before it is.
    pub(crate) offset: u64,
    /// What is wrong.
    pub(crate) what: &'static str,
    /// Whether RocksDB must not be shown it: its reader would never come back.
    pub(crate) endless: bool,
    /// The file offset of the fragment that is wrong, and of what comes after it if its length can be believed.
    at: u64,
    next: Option<u64>,
}

/// One fragment, or why there is none.
enum Fragment {
    Whole { kind: u8, offset: u64, start: usize, end: usize },
    End,
    Bad(Fault),
}

/// Reads a log from one of its records on.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: File,
    /// How much of each record is kept.
    keep: usize,
    record: Vec<u8>,
    buffer: Vec<u8>,
    /// The file offset of the buffer's beginning, a multiple of the block size.
    base: u64,
    /// How much of the buffer is filled, and where in it the next fragment begins.
    filled: usize,
    at: usize,
    /// Where the last whole record ended.
    whole: u64,
}

impl LogReader {
    /// Opens the log at `path`, to keep the first `keep` bytes of each record.
    pub(crate) fn open(path: &Path, keep: usize) -> std::io::Result<LogReader> {
        LogReader::open_at(path, keep, 0)
    }

    /// As [`open`](LogReader::open), to begin at `offset`, where a record begins or the file ends.
    pub(crate) fn open_at(path: &Path, keep: usize, offset: u64) -> std::io::Result<LogReader> {
        let file = File::open(path)?;
        let mut reader = LogReader {
            file,
            keep,
            record: Vec::new(),
            buffer: vec![0; READ_BLOCKS * BLOCK_BYTES],
            base: 0,
            filled: 0,
            at: 0,
            whole: offset,
        };
        reader.seek(offset)?;
        Ok(reader)
    }

    /// Where the last whole record ended.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// The next record. After [`Step::End`] or [`Step::Bad`] there is nothing more to ask for.
    pub(crate) fn step(&mut self) -> std::io::Result<Step<'_>> {
        self.record.clear();
        let mut begun: Option<u64> = None;
        let fault = loop {
            let (kind, offset, start, end) = match self.fragment()? {
                Fragment::Whole { kind, offset, start, end } => (kind, offset, start, end),
                Fragment::End if begun.is_none() => return Ok(Step::End),
                Fragment::End => break Fault::new(self.position(), None, "the file ends in the middle of a record"),
                Fragment::Bad(fault) => break fault,
            };
            let after = self.base + end as u64;
            match (kind, begun) {
                (1 | 2, None) => begun = Some(offset),
                (3 | 4, Some(_)) => {}
                (1 | 2, Some(_)) => break Fault::new(offset, Some(offset), "a record begins inside another"),
                _ => break Fault::new(offset, Some(after), "the beginning of a record is missing"),
            }
            let room = self.keep.saturating_sub(self.record.len());
            self.record.extend_from_slice(&self.buffer[start..end.min(start.saturating_add(room))]);
            if matches!(kind, 1 | 4) {
                self.whole = after;
                return Ok(Step::Record { offset: begun.unwrap_or(offset), head: &self.record });
            }
        };
        Ok(Step::Bad(Fault { offset: begun.unwrap_or(fault.offset), ..fault }))
    }

    /// The first bytes of a record that begins somewhere behind a fault, if there is one to be found: right behind
    /// the fragment that is wrong, or at the beginning of a later block.
    pub(crate) fn record_after(&mut self, fault: &Fault) -> std::io::Result<Option<Vec<u8>>> {
        let mut from = fault.next.unwrap_or_else(|| next_block(fault.at));
        loop {
            self.seek(from)?;
            loop {
                match self.fragment()? {
                    Fragment::Whole { kind: 1 | 2, start, end, .. } => {
                        return Ok(Some(self.buffer[start..end.min(start.saturating_add(self.keep))].to_vec()));
                    }
                    Fragment::Whole { .. } => {}
                    Fragment::End => return Ok(None),
                    Fragment::Bad(fault) => {
                        from = next_block(fault.at);
                        break;
                    }
                }
            }
        }
    }

    fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    fn seek(&mut self, offset: u64) -> std::io::Result<()> {
        let within = offset % BLOCK_BYTES as u64;
        self.base = offset - within;
        self.file.seek(SeekFrom::Start(self.base))?;
        self.fill()?;
        self.at = (within as usize).min(self.filled);
        Ok(())
    }

    /// Fills the buffer from where the file stands.
    fn fill(&mut self) -> std::io::Result<()> {
        (self.filled, self.at) = (0, 0);
        while self.filled < self.buffer.len() {
            match self.file.read(&mut self.buffer[self.filled..]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn fragment(&mut self) -> std::io::Result<Fragment> {
        loop {
            let block_end = (self.at / BLOCK_BYTES + 1) * BLOCK_BYTES;
            if block_end - self.at < HEAD_BYTES && block_end <= self.filled {
                // What fills up a block.
                self.at = block_end;
            }
            if self.at < self.filled || self.filled < self.buffer.len() {
                break;
            }
            self.base += self.filled as u64;
            self.fill()?;
        }
        let offset = self.position();
        if self.at >= self.filled {
            return Ok(Fragment::End);
        }
        let end = ((self.at / BLOCK_BYTES + 1) * BLOCK_BYTES).min(self.filled);
        let cut = "the file ends in the middle of a record";
        let Some(&[c0, c1, c2, c3, l0, l1, kind]) = self.buffer[self.at..end].first_chunk::<HEAD_BYTES>() else {
            return Ok(Fragment::Bad(Fault::new(offset, None, cut)));
        };
        let start = self.at + HEAD_BYTES;
        let payload = usize::from(u16::from_le_bytes([l0, l1]));
        let fits = start + payload <= end;
        let next = fits.then(|| self.base + (start + payload) as u64);
        let bad = |what| {
            let endless = matches!(kind, 5..=8 | 11 | 131);
            Ok(Fragment::Bad(Fault { endless, ..Fault::new(offset, next, what) }))
        };
        if kind == 0 && payload == 0 {
            // Such a head says nothing about its length.
            return Ok(Fragment::Bad(Fault::new(offset, None, "zeros where a record should be")));
        }
        if !fits {
            return bad(if end < block_of(self.at) { cut } else { "a record's length is beyond its block" });
        }
        let found = crc32c::crc32c(&self.buffer[start - 1..start + payload]);
        if mask(found) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return bad("a record's checksum is wrong");
        }
        if !(1..=4).contains(&kind) {
            return bad("a record has a type that is never written");
        }
        self.at = start + payload;
        Ok(Fragment::Whole { kind, offset, start, end: start + payload })
    }
}

impl Fault {
    fn new(at: u64, next: Option<u64>, what: &'static str) -> Fault {
        Fault { offset: at, what, endless: false, at, next }
    }
}

/// Where the block ends that `at` is in.
fn block_of(at: usize) -> usize {
    (at / BLOCK_BYTES + 1) * BLOCK_BYTES
}

fn next_block(offset: u64) -> u64 {
    (offset / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64
}

/// Checksums are stored like this, because the checksum of data that holds its own checksum is no use.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Writes records as RocksDB does; what is read back in tests is also read from files that RocksDB wrote.
#[cfg(test)]
pub(crate) fn encode_log(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for record in records {
        let (mut rest, mut first) = (&record[..], true);
        loop {
            let left = BLOCK_BYTES - out.len() % BLOCK_BYTES;
            if left < HEAD_BYTES {
                out.resize(out.len() + left, 0);
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(left - HEAD_BYTES));
            let kind = match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), now);
            out.extend_from_slice(&mask(crc).to_le_bytes());
            out.extend_from_slice(&(now.len() as u16).to_le_bytes());
            out.push(kind);
            out.extend_from_slice(now);
            (rest, first) = (later, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All records of a log, and the fault it ends in.
    fn read(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, Option<Fault>) {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), bytes).expect("write");
        let mut reader = LogReader::open(file.path(), usize::MAX).expect("open");
        let mut records = Vec::new();
        loop {
            match reader.step().expect("read") {
                Step::Record { offset, head } => records.push((offset, head.to_vec())),
                Step::End => return (records, None),
                Step::Bad(fault) => return (records, Some(fault)),
            }
        }
    }

    fn record(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + len) as u8).collect()
    }

    #[test]
    fn records_across_blocks_and_reads_come_back() {
        // Lengths that leave nothing, one byte to a head's length, and more at the end of a block.
        for first in BLOCK_BYTES - 20..BLOCK_BYTES + 4 {
            let written = [record(first), record(0), record(3), record(READ_BLOCKS * BLOCK_BYTES + 5), record(9)];
            let (read, fault) = read(&encode_log(&written));
            assert_eq!(fault, None);
            assert!(read.iter().map(|(_, bytes)| bytes).eq(&written), "first of {first} bytes");
        }
    }

    #[test]
    fn reading_can_begin_at_any_record() {
        let written: Vec<_> = (0..200).map(|n| record(n * 37)).collect();
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), encode_log(&written)).expect("write");
        let (all, _) = read(&encode_log(&written));
        for (index, (offset, _)) in all.iter().enumerate() {
            let mut reader = LogReader::open_at(file.path(), usize::MAX, *offset).expect("open");
            let Step::Record { offset: found, head } = reader.step().expect("read") else { panic!("no record") };
            assert_eq!((found, head), (*offset, &written[index][..]));
        }
    }

    #[test]
    fn what_follows_a_fault_is_found_in_its_block_and_in_later_ones() {
        let written: Vec<_> = (0..40).map(|n| record(3000 + n)).collect();
        let (all, _) = read(&encode_log(&written));
        let mut bytes = encode_log(&written);
        let at = all[3].0 as usize;
        bytes[at + 20] ^= 1;
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let after = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).expect("write");
            let mut reader = LogReader::open(file.path(), 8).expect("open");
            loop {
                if let Step::Bad(fault) = reader.step().expect("read") {
                    assert_eq!(fault.offset as usize, at);
                    return reader.record_after(&fault).expect("read");
                }
            }
        };
        assert_eq!(after(&bytes), Some(record(3004)[..8].to_vec()), "its length can be believed");
        bytes[at..at + 7].fill(0);
        let next = all.iter().position(|(offset, _)| *offset > BLOCK_BYTES as u64).expect("a later block");
        assert_eq!(after(&bytes), Some(written[next][..8].to_vec()), "in the next block");
        bytes[at..].fill(0);
        assert_eq!(after(&bytes), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the bytes are, reading ends, and all that comes back was written.
        #[test]
        fn a_damaged_byte_ends_reading_before_it(
            lengths in prop::collection::vec(0usize..5000, 1..40),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let written: Vec<_> = lengths.into_iter().map(record).collect();
            let mut bytes = encode_log(&written);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let (read, fault) = read(&bytes);
            prop_assert!(read.iter().map(|(_, bytes)| bytes).eq(written.iter().take(read.len())));
            // Only what fills up a block is not looked at.
            let filler = at % BLOCK_BYTES > BLOCK_BYTES - HEAD_BYTES;
            prop_assert!(fault.is_some() || filler);
            if let Some(fault) = fault {
                prop_assert!(fault.offset as usize <= at);
            }
        }

        #[test]
        fn noise_is_read_to_an_end(bytes in prop::collection::vec(0u8..12, 0..70_000)) {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            std::fs::write(file.path(), &bytes).expect("write");
            let mut reader = LogReader::open(file.path(), 16).expect("open");
            let fault = loop {
                match reader.step().expect("read") {
                    Step::Record { .. } => {}
                    Step::End => break None,
                    Step::Bad(fault) => break Some(fault),
                }
            };
            if let Some(fault) = fault {
                let _ = reader.record_after(&fault).expect("read");
            }
        }
    }
}
