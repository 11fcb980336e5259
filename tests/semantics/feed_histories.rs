//! Random histories, and what their change feed makes of them: replaying it from anywhere rebuilds the state.

use std::collections::{BTreeMap, BTreeSet};

use etagdb::{ChangeKind, CommitSeq, Document, FeedEntry, FeedMode, FeedStart, Precondition, ScanRange};
use proptest::prelude::*;

use crate::changes::drain;
use crate::{Fixture, quiet};

#[derive(Debug, Clone)]
enum Step {
    /// Writes to collection and id; `None` deletes.
    Batch(Vec<(usize, usize, Option<Vec<u8>>)>),
    Drop(usize),
    Maintain,
    Reopen,
}

/// What a reader of a feed stands at, while the history goes on.
struct Reader {
    mode: FeedMode,
    scope: Option<usize>,
    page_entries: usize,
    position: CommitSeq,
    seen: Vec<FeedEntry>,
}

const COLLECTIONS: [&str; 3] = ["a", "b", "c"];
const IDS: [&[u8]; 4] = [b"a", b"a\0", b"\0\xff", b"\xff"];

fn step() -> impl Strategy<Value = Step> {
    let body = prop_oneof![1 => Just(None), 3 => prop::collection::vec(any::<u8>(), 0..4).prop_map(Some)];
    let write = (0..COLLECTIONS.len(), 0..IDS.len(), body);
    prop_oneof![
        8 => prop::collection::vec(write.clone(), 1..2).prop_map(Step::Batch),
        8 => prop::collection::vec(write, 2..9).prop_map(Step::Batch),
        1 => (0..COLLECTIONS.len()).prop_map(Step::Drop),
        1 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

/// Documents by collection and id.
type State = BTreeMap<(String, Vec<u8>), Document>;

fn state(fixture: &Fixture, at: CommitSeq) -> State {
    let snapshot = fixture.store.snapshot_at(at).expect("snapshot");
    let mut state = State::new();
    for name in fixture.store.collections() {
        let collection = fixture.collection(&name);
        for entry in snapshot.scan(&collection, &ScanRange::all()).expect("scan") {
            let (id, document) = entry.expect("entry");
            state.insert((name.clone(), id.to_vec()), document);
        }
    }
    state
}

fn key(entry: &FeedEntry) -> (String, Vec<u8>) {
    (entry.collection().to_owned(), entry.id.to_vec())
}

/// Carries out what `All` tells, and checks each entry against the state that it comes upon.
fn replay(state: &mut State, entries: &[FeedEntry]) {
    for entry in entries {
        let before = match &entry.document {
            Some(document) => {
                assert_eq!((document.etag, document.seq), (entry.etag, entry.seq));
                state.insert(key(entry), document.clone())
            }
            None => state.remove(&key(entry)),
        };
        let told = entry.previous.as_ref();
        assert_eq!(told.map(|previous| previous.etag), before.as_ref().map(|before| before.etag));
        assert_eq!(told.and_then(|previous| previous.document.clone()), before);
        let kind = match (&before, &entry.document) {
            (None, Some(_)) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Replaced,
            (_, None) => ChangeKind::Deleted,
        };
        assert_eq!(entry.kind, kind);
    }
}

impl Reader {
    fn read_page(&mut self, fixture: &Fixture) {
        let mut feed = match self.scope {
            None => fixture.store.changes(self.mode, self.position),
            Some(n) => fixture.collection(COLLECTIONS[n]).changes(self.mode, self.position),
        }
        .expect("feed")
        .page_entries(self.page_entries);
        let page = feed.read().expect("read");
        assert!(page.position >= self.position);
        let batches = page.batches().count();
        assert!(page.entries.len() <= self.page_entries || batches == 1, "{batches} batches in too large a page");
        if self.mode == FeedMode::Latest {
            let current = state(fixture, fixture.store.last_commit());
            for entry in &page.entries {
                assert_eq!(entry.document.as_ref(), current.get(&key(entry)), "what is told is the newest");
            }
        }
        self.position = page.position;
        self.seen.extend(page.entries);
    }
}

fn run(steps: &[Step]) {
    let mut fixture = Fixture::with(quiet());
    COLLECTIONS.iter().for_each(|name| drop(fixture.collection(name)));
    let mut ends = vec![CommitSeq::new(0)];
    let mut readers: Vec<Reader> = [FeedMode::All, FeedMode::Latest]
        .into_iter()
        .flat_map(|mode| [(mode, None), (mode, Some(0))])
        .map(|(mode, scope)| Reader { mode, scope, page_entries: 3, position: CommitSeq::new(0), seen: Vec::new() })
        .collect();
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Batch(writes) => {
                let collections = COLLECTIONS.map(|name| fixture.collection(name));
                let mut batch = fixture.store.batch();
                for (collection, id, body) in writes {
                    match body {
                        Some(body) => batch.put(&collections[*collection], IDS[*id], body, Precondition::Any),
                        None => batch.delete(&collections[*collection], IDS[*id], Precondition::Any),
                    };
                }
                batch.commit().expect("commit");
                ends.push(fixture.store.last_commit());
            }
            Step::Drop(n) => {
                fixture.store.drop_collection(COLLECTIONS[*n]).expect("drop");
                for reader in &mut readers {
                    reader.seen.retain(|entry| entry.collection() != COLLECTIONS[*n]);
                }
            }
            Step::Maintain => drop(fixture.store.run_maintenance().expect("maintenance")),
            Step::Reopen => fixture = fixture.reopen_with(quiet()),
        }
        // The readers come at different paces.
        for (m, reader) in readers.iter_mut().enumerate() {
            if n % (m + 1) == 0 {
                reader.read_page(&fixture);
            }
        }
    }

    let states: BTreeMap<CommitSeq, State> = ends.iter().map(|&end| (end, state(&fixture, end))).collect();
    let now = &states[&fixture.store.last_commit()];
    // From any position, even one inside a batch, replaying all that comes after it leads from the state then to now.
    // Where a batch began with what was dropped since, a position in there is as good as the end of the batch before.
    let state_at = |position: CommitSeq| states.range(..=position).next_back().expect("the beginning").1;
    for seq in 0..=fixture.store.last_commit().get() {
        let mut feed = fixture.store.changes(FeedMode::All, CommitSeq::new(seq)).expect("feed").page_entries(2);
        // A feed begins, and a page ends, between batches, where there is a state to compare with.
        let mut replayed = state_at(feed.position()).clone();
        for page in drain(&mut feed) {
            replay(&mut replayed, &page.entries);
            assert_eq!(&replayed, state_at(page.position));
        }
        assert_eq!(&replayed, now, "from {seq}");
    }

    for reader in &mut readers {
        loop {
            let before = reader.seen.len();
            reader.read_page(&fixture);
            if reader.seen.len() == before {
                break;
            }
        }
        let name = reader.scope.map(|n| COLLECTIONS[n]);
        let in_scope = |collection: &str| name.is_none_or(|name| name == collection);
        assert!(reader.seen.is_sorted_by(|one, next| one.seq < next.seq));
        if reader.mode == FeedMode::All {
            // Read in pieces, as the history went on, it told the same as it tells in one go.
            let start = CommitSeq::new(0);
            let whole = drain(&mut fixture.store.changes(FeedMode::All, start).expect("feed"));
            let whole = whole.iter().flat_map(|page| &page.entries).filter(|entry| in_scope(entry.collection()));
            assert!(reader.seen.iter().map(|entry| entry.seq).eq(whole.map(|entry| entry.seq)));
        }
        // The last word on each document that there is is its current version.
        let told: State = reader.seen.iter().filter_map(|entry| Some((key(entry), entry.document.clone()?))).collect();
        for (key, document) in now.iter().filter(|((collection, _), _)| in_scope(collection)) {
            assert_eq!(told.get(key), Some(document));
        }
    }

    // From the beginning and in one go, `Latest` tells what there is, each document once, and nothing else.
    let latest = drain(&mut fixture.store.changes(FeedMode::Latest, FeedStart::Beginning).expect("feed"));
    let keys: BTreeSet<_> = latest.iter().flat_map(|page| &page.entries).map(key).collect();
    assert_eq!(latest.iter().map(|page| page.entries.len()).sum::<usize>(), keys.len());
    assert!(keys.iter().eq(now.keys()));
}

proptest! {
    // The seed of a failing history is printed with it, and proptest shrinks it to the shortest that fails.
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_feed_from_any_position_rebuilds_the_state(steps in prop::collection::vec(step(), 1..30)) {
        run(&steps);
    }
}
