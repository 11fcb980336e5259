//! What the recorded process writes, as a pure function of a seed, so that whoever finds a batch in a store can tell
//! whether it is whole and right. Shared by `power-child`, which writes it, and the tests, which check it.

use crate::random::Random;

/// Added to a seed: bodies are so large that a short life writes many segments of the log, and memory tables to files.
pub(crate) const LARGE: u64 = 1 << 40;

/// The name of the collection that batches are written to.
pub(crate) const DOCS: &str = "docs";

/// One write of a batch: a document's id, and its new body or `None` for its deletion.
pub(crate) type Write = (String, Option<Vec<u8>>);

/// The id of the document that counts a writer's batches; each batch of his begins with it.
pub(crate) fn counter(writer: u64) -> String {
    format!("writer {writer}")
}

/// The body of that document after his batch `number`.
pub(crate) fn count(writer: u64, number: u64) -> Vec<u8> {
    format!("{writer} {number}").into_bytes()
}

/// Writer and number, from the body of a counter.
pub(crate) fn parse_count(body: &[u8]) -> Option<(u64, u64)> {
    let (writer, number) = str::from_utf8(body).ok()?.split_once(' ')?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}

/// Batch `number` of a writer: his counter, and up to four documents that all writers share. Deleting a document that
/// is not there writes nothing.
pub(crate) fn batch(seed: u64, writer: u64, number: u64) -> Vec<Write> {
    let mut random = Random::new(seed ^ (writer << 56) ^ number.wrapping_mul(0x9e37_79b9));
    let mut writes = vec![(counter(writer), Some(count(writer, number)))];
    let scale = if seed & LARGE == 0 { 1 } else { 12 };
    for _ in 0..random.below(5) {
        let id = format!("document {}", random.below(60));
        let len = match random.below(40) {
            0 => 20_000 + random.below(20_000),
            1..8 => random.below(4_000),
            _ => random.below(400),
        };
        let body = (random.below(6) > 0).then(|| {
            let start = random.next();
            (0..scale * len).map(|at| (start.wrapping_mul(at | 1) >> 17) as u8).collect()
        });
        writes.push((id, body));
    }
    writes
}
