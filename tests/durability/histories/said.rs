//! What clients of a store ask and are told, as text lines in one order: a line before each call, one after each answer.
//! Shared by `history-child`, which says them, and the tests, which judge them. No value is written twice, so that a
//! reader's answer tells whose write he saw.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// A client begins to ask something.
    Asks { client: u64 },
    /// What he is going to write; before it is sent.
    Intends { client: u64, writes: Vec<Intent> },
    /// What he was told.
    Told { client: u64, answer: Answer },
}

/// A write that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: String,
    /// The value that nobody else writes; `None` for a deletion.
    pub(crate) value: Option<u64>,
    pub(crate) expected: Expected,
}

/// The condition of a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Expected {
    Anything,
    Nothing,
    Exactly(String),
}

/// A document as somebody saw it; `version` is `None` when there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) version: Option<Version>,
}

/// A version of which the etag was told, and perhaps the body: the values that are in it, the last written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) etag: String,
    pub(crate) body: Option<Vec<u64>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Documents, all at one moment; with `all_of`, all there were whose ids begin so.
    Saw { seen: Vec<Seen>, all_of: Option<String> },
    /// All that was intended is written, with these etags where they were told; and what was seen was current up to then.
    Wrote { seen: Vec<Seen>, etags: Vec<Option<String>> },
    /// Nothing was written, for this is what is there.
    Refused { current: Seen, expected: Expected },
    /// Nothing was written.
    Nothing,
    /// Perhaps all was written, perhaps nothing.
    Unknown,
    /// A page of the change feed, from after one commit up to another: sequence, id and etag of each entry.
    Fed { every_version: bool, after: u64, position: u64, entries: Vec<(u64, String, String)> },
}

impl Said {
    /// The line, with its end.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", serde_json::to_string(self).expect("no map with other keys than text"))
    }
}

/// The values in a document's text.
pub(crate) fn values(text: &[u8]) -> Vec<u64> {
    let text = str::from_utf8(text).expect("UTF-8");
    text.split(' ').map(|value| value.parse().expect("a number")).collect()
}
