//! The documents between the reader and the acknowledgement: bounds how many there are, and knows the place in the input
//! before which every document is settled.
//!
//! Workers settle documents in any order; the settled prefix only grows when the oldest one is settled. That prefix is
//! what the journal may claim.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use super::journal::Tally;
use super::reader::Position;

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Stored; nothing was there before.
    Created,
    /// Stored in place of another.
    Replaced,
    /// Bad, and passed over.
    Skipped,
}

/// How far the import is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Every document before this place is settled.
    pub(super) position: Position,
    /// What became of those, earlier runs included.
    pub(super) settled: Tally,
    /// What became of all documents this run has settled, in any order.
    pub(super) run: Tally,
}

/// Shared by one reader, which admits documents, and the workers, which settle them.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    room: Condvar,
    documents_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    /// Documents from `progress.position` on, oldest first.
    open: VecDeque<Open>,
    bytes: usize,
    /// Only documents with a smaller number are still worth sending.
    end: u64,
}

#[derive(Debug)]
struct Open {
    end: Position,
    bytes: usize,
    outcome: Option<Outcome>,
}

impl Window {
    /// Starts at `position`, after documents with the outcomes in `settled`.
    pub(super) fn new(position: Position, settled: Tally, documents_max: usize, bytes_max: usize) -> Window {
        let progress = Progress { position, settled, run: Tally::default() };
        let state = State { progress, open: VecDeque::new(), bytes: 0, end: u64::MAX };
        Window { state: Mutex::new(state), room: Condvar::new(), documents_max, bytes_max }
    }

    /// Takes in the next document of the input, which ends at `end`; waits for room. False if no more are wanted.
    pub(super) fn admit(&self, end: Position, bytes: usize) -> bool {
        let mut state = self.state.lock();
        // A document beyond the limit of bytes may go alone.
        let fits = |state: &State| {
            let bytes_fit = state.open.is_empty() || state.bytes + bytes <= self.bytes_max;
            bytes_fit && state.open.len() < self.documents_max
        };
        while end.documents < state.end && !fits(&state) {
            self.room.wait(&mut state);
        }
        if end.documents >= state.end {
            return false;
        }
        state.bytes += bytes;
        state.open.push_back(Open { end, bytes, outcome: None });
        true
    }

    /// Whether the document with this number should still be sent.
    pub(super) fn wants(&self, number: u64) -> bool {
        number < self.state.lock().end
    }

    /// Says what became of the document with this number.
    pub(super) fn settle(&self, number: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        let State { progress, open, bytes, .. } = &mut *state;
        let first = progress.position.documents + 1;
        let Some(document) = number.checked_sub(first).and_then(|index| open.get_mut(index as usize)) else {
            return;
        };
        document.outcome = Some(outcome);
        *bytes -= std::mem::take(&mut document.bytes);
        progress.run.count(outcome);
        while let Some(Open { end, outcome: Some(outcome), .. }) = open.front() {
            progress.position = *end;
            progress.settled.count(*outcome);
            open.pop_front();
        }
        // A reader woken for each document would sleep again after one; half a window is worth waking for.
        let half_empty = state.open.len() <= self.documents_max / 2 && state.bytes <= self.bytes_max / 2;
        drop(state);
        if half_empty {
            self.room.notify_one();
        }
    }

    /// Sends no document with this number or a greater one any more.
    pub(super) fn stop_before(&self, number: u64) {
        let mut state = self.state.lock();
        state.end = state.end.min(number);
        drop(state);
        self.room.notify_one();
    }

    /// How far the import is now.
    pub(super) fn progress(&self) -> Progress {
        self.state.lock().progress
    }
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Created => self.created += 1,
            Outcome::Replaced => self.replaced += 1,
            Outcome::Skipped => self.skipped += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn position(documents: u64) -> Position {
        Position { documents, offset: documents * 10, ..Position::START }
    }

    fn window(documents_max: usize, bytes_max: usize) -> Window {
        Window::new(position(5), Tally { created: 5, ..Tally::default() }, documents_max, bytes_max)
    }

    #[test]
    fn the_settled_prefix_waits_for_the_oldest_document() {
        let window = window(10, 100);
        for number in 6..=8 {
            assert!(window.admit(position(number), 1));
        }
        window.settle(7, Outcome::Replaced);
        window.settle(8, Outcome::Skipped);
        let progress = window.progress();
        assert_eq!((progress.position, progress.settled.stored()), (position(5), 5));
        assert_eq!(progress.run, Tally { created: 0, replaced: 1, skipped: 1 });
        window.settle(6, Outcome::Created);
        let progress = window.progress();
        assert_eq!(progress.position, position(8));
        assert_eq!(progress.settled, Tally { created: 6, replaced: 1, skipped: 1 });
    }

    #[test]
    fn a_full_window_makes_the_reader_wait() {
        for (documents_max, bytes_max) in [(2, 100), (10, 2)] {
            let window = window(documents_max, bytes_max);
            assert!(window.admit(position(6), 1) && window.admit(position(7), 1));
            thread::scope(|scope| {
                let (admitted, is_admitted) = mpsc::channel();
                let window = &window;
                scope.spawn(move || admitted.send(window.admit(position(8), 1)));
                assert!(is_admitted.try_recv().is_err());
                window.settle(6, Outcome::Created);
                assert_eq!(is_admitted.recv(), Ok(true));
            });
        }
    }

    #[test]
    fn a_document_larger_than_the_window_goes_alone() {
        let window = window(10, 100);
        assert!(window.admit(position(6), 1000));
        window.settle(6, Outcome::Created);
        assert!(window.admit(position(7), 1));
    }

    #[test]
    fn stopping_wakes_the_reader_and_spares_the_documents_before() {
        let window = window(2, 100);
        assert!(window.admit(position(6), 1) && window.admit(position(7), 1));
        thread::scope(|scope| {
            let reader = scope.spawn(|| window.admit(position(8), 1));
            window.stop_before(7);
            assert!(!reader.join().unwrap());
        });
        assert!(window.wants(6) && !window.wants(7));
        window.stop_before(9);
        assert!(!window.wants(7), "the first stop counts");
    }
}
