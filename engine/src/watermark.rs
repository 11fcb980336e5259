//! Who still needs which version. Owns the list of holds and says what they pin; never drops anything itself.
//!
//! Two kinds of need. Whoever reads *at* a sequence q (a snapshot, a transaction) needs, of each document, the newest
//! version at or below q, and nothing else. Whoever reads *from* a sequence on (a cursor of the change feed) needs
//! every version that was current at that sequence or came later.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::CommitSeq;
use crate::sync::Mutex;

/// Something that keeps old versions from being dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pin {
    /// What it is.
    pub kind: PinKind,
    /// The commit sequence that it reads at, or from on.
    pub seq: CommitSeq,
    /// Since when, by the store's [`Clock`](crate::Clock).
    pub since: SystemTime,
}

/// What a [`Pin`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinKind {
    /// A live [`Snapshot`](crate::Snapshot).
    Snapshot,
    /// A transaction that has neither committed nor ended.
    Transaction,
    /// A registered cursor of the change feed, by its name.
    Cursor(String),
}

/// Names a hold to [`Watermark::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HoldId {
    seq: CommitSeq,
    number: u64,
}

impl HoldId {
    pub(crate) fn seq(self) -> CommitSeq {
        self.seq
    }
}

/// The live holds.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    by_seq: BTreeMap<HoldId, Hold>,
    next_number: u64,
    /// How often a hold was taken at a sequence that may have been in the past.
    past_holds: u64,
}

#[derive(Debug)]
struct Hold {
    kind: PinKind,
    since_ms: u64,
}

/// What the holds need, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The sequences that somebody reads at, ascending.
    pub(crate) at: Vec<u64>,
    /// The lowest sequence that somebody reads from on.
    pub(crate) from: Option<u64>,
    past_holds: u64,
}

impl Watermark {
    /// Takes a hold at the sequence that `choose` returns: the newest visible one. `choose` runs under the same lock
    /// as [`oldest`](Watermark::oldest) and [`agree`](Watermark::agree), so a hold that has chosen its sequence
    /// cannot be missed by somebody who computes what may go.
    pub(crate) fn hold(&self, kind: PinKind, since_ms: u64, choose: impl FnOnce() -> CommitSeq) -> HoldId {
        self.holds.lock().add(kind, since_ms, choose())
    }

    /// Takes a hold at a sequence that may be in the past. Whether all that is needed there still exists is to be asked
    /// afterwards: what [`agree`](Watermark::agree) announced is announced by then, and it announces nothing more
    /// against this hold.
    pub(crate) fn hold_past(&self, kind: PinKind, since_ms: u64, seq: CommitSeq) -> HoldId {
        let mut holds = self.holds.lock();
        holds.past_holds += 1;
        holds.add(kind, since_ms, seq)
    }

    pub(crate) fn release(&self, id: HoldId) {
        self.holds.lock().by_seq.remove(&id);
    }

    /// The oldest sequence that somebody holds, or `newest` where nobody does.
    pub(crate) fn oldest(&self, newest: impl FnOnce() -> CommitSeq) -> CommitSeq {
        let holds = self.holds.lock();
        holds.by_seq.keys().next().map_or_else(newest, |id| id.seq)
    }

    /// What the holds need now.
    pub(crate) fn needs(&self) -> Needs {
        let holds = self.holds.lock();
        let mut needs = Needs { past_holds: holds.past_holds, ..Needs::default() };
        for (id, hold) in &holds.by_seq {
            if matches!(hold.kind, PinKind::Cursor(_)) {
                needs.from.get_or_insert(id.seq.get());
            } else if needs.at.last() != Some(&id.seq.get()) {
                needs.at.push(id.seq.get());
            }
        }
        needs
    }

    /// Runs `announce` and returns true if no hold in the past was taken since `needs` was computed; else does
    /// nothing. A hold at the newest visible sequence does not matter: nothing that it needs is superseded by a
    /// commit that was visible before.
    pub(crate) fn agree(&self, needs: &Needs, announce: impl FnOnce()) -> bool {
        let holds = self.holds.lock();
        let unchanged = holds.past_holds == needs.past_holds;
        if unchanged {
            announce();
        }
        unchanged
    }

    /// Live snapshots.
    pub(crate) fn snapshots(&self) -> usize {
        self.holds.lock().by_seq.values().filter(|hold| hold.kind == PinKind::Snapshot).count()
    }

    /// All holds, the oldest sequence first.
    pub(crate) fn pins(&self) -> Vec<Pin> {
        let holds = self.holds.lock();
        let pin = |(id, hold): (&HoldId, &Hold)| Pin {
            kind: hold.kind.clone(),
            seq: id.seq,
            since: UNIX_EPOCH + Duration::from_millis(hold.since_ms),
        };
        holds.by_seq.iter().map(pin).collect()
    }
}

impl Holds {
    fn add(&mut self, kind: PinKind, since_ms: u64, seq: CommitSeq) -> HoldId {
        self.next_number += 1;
        let id = HoldId { seq, number: self.next_number };
        self.by_seq.insert(id, Hold { kind, since_ms });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(watermark: &Watermark, seq: u64) -> HoldId {
        watermark.hold(PinKind::Snapshot, seq * 10, || CommitSeq::new(seq))
    }

    #[test]
    fn the_oldest_hold_counts_until_its_last_release() {
        let watermark = Watermark::default();
        let oldest = || watermark.oldest(|| CommitSeq::new(99)).get();
        assert_eq!(oldest(), 99);
        let (five, again, nine) = (at(&watermark, 5), at(&watermark, 5), at(&watermark, 9));
        assert_eq!((oldest(), watermark.snapshots()), (5, 3));
        assert_eq!(watermark.needs().at, [5, 9]);
        watermark.release(five);
        assert_eq!(oldest(), 5);
        watermark.release(again);
        assert_eq!(oldest(), 9);
        watermark.release(nine);
        assert_eq!((oldest(), watermark.snapshots()), (99, 0));
    }

    #[test]
    fn cursors_need_what_comes_after_and_readers_what_was_there() {
        let watermark = Watermark::default();
        at(&watermark, 5);
        let cursor = |seq| watermark.hold(PinKind::Cursor("audit".into()), 0, || CommitSeq::new(seq));
        cursor(8);
        cursor(7);
        let needs = watermark.needs();
        assert_eq!((needs.at, needs.from), (vec![5], Some(7)));
        let pins = watermark.pins();
        assert_eq!((&pins[0].kind, pins[0].seq.get()), (&PinKind::Snapshot, 5));
        assert_eq!(pins[0].since, UNIX_EPOCH + Duration::from_millis(50));
        assert_eq!(pins[1].kind, PinKind::Cursor("audit".into()));
    }

    #[test]
    fn only_a_hold_in_the_past_voids_what_was_computed() {
        let watermark = Watermark::default();
        let needs = watermark.needs();
        at(&watermark, 9);
        assert!(watermark.agree(&needs, || {}));
        watermark.hold_past(PinKind::Snapshot, 0, CommitSeq::new(3));
        assert!(!watermark.agree(&needs, || panic!("announced against a hold")));
        assert_eq!(watermark.needs().at, [3, 9]);
    }
}
