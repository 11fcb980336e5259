//! The change feed: what it tells, from where, and in which pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{
    ChangeFeed, ChangeKind, Clock, CommitSeq, Error, Etag, FeedEntry, FeedMode, FeedPage, FeedStart, Options,
    Precondition, ScanRange, Store,
};

use crate::{Fixture, copy};

/// All that a feed has to tell now, page by page.
pub(crate) fn drain(feed: &mut ChangeFeed) -> Vec<FeedPage> {
    let mut pages = Vec::new();
    loop {
        let page = feed.read().expect("read");
        assert_eq!(page.position, feed.position());
        if page.is_empty() {
            return pages;
        }
        pages.push(page);
    }
}

fn entries(feed: etagdb::Result<ChangeFeed>) -> Vec<FeedEntry> {
    drain(&mut feed.expect("feed")).into_iter().flat_map(|page| page.entries).collect()
}

fn seqs(entries: &[FeedEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq.get()).collect()
}

fn body(document: Option<&etagdb::Document>) -> Option<&str> {
    document.map(|document| std::str::from_utf8(&document.body).expect("UTF-8"))
}

#[test]
fn all_tells_every_commit_with_what_was_before() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let one = docs.put("a", "1", Precondition::Absent).expect("put");
    let two = docs.put("a", "2", one.etag).expect("put");
    let gone = docs.delete("a", two.etag).expect("delete").expect("written");
    let again = docs.put("a", "3", Precondition::Absent).expect("put");

    let told = entries(docs.changes(FeedMode::All, FeedStart::Beginning));
    let kinds: Vec<_> = told.iter().map(|entry| (entry.seq, entry.kind, entry.etag)).collect();
    assert_eq!(
        kinds,
        [
            (one.seq, ChangeKind::Created, one.etag),
            (two.seq, ChangeKind::Replaced, two.etag),
            (gone.seq, ChangeKind::Deleted, gone.etag),
            (again.seq, ChangeKind::Created, again.etag),
        ]
    );
    let bodies: Vec<_> = told.iter().map(|entry| body(entry.document.as_ref())).collect();
    assert_eq!(bodies, [Some("1"), Some("2"), None, Some("3")]);
    let previous: Vec<_> = told
        .iter()
        .map(|entry| entry.previous.as_ref().map(|previous| (previous.etag, body(previous.document.as_ref()))))
        .collect();
    assert_eq!(previous, [None, Some((one.etag, Some("1"))), Some((two.etag, Some("2"))), None]);
    for entry in &told {
        assert_eq!((&entry.id[..], entry.collection(), entry.batch_end), (&b"a"[..], "docs", entry.seq));
    }
    let document = told[1].document.as_ref().expect("not deleted");
    assert_eq!((document.etag, document.seq, document.created), (two.etag, two.seq, one.seq));
    assert_eq!((document.time_ms, told[1].time_ms), (two.time_ms, two.time_ms));

    let bare = docs.changes(FeedMode::All, FeedStart::Beginning).map(|feed| feed.previous_images(false));
    let previous = entries(bare)[1].previous.clone().expect("replaced");
    assert_eq!((previous.etag, previous.document), (one.etag, None));
}

#[test]
fn latest_tells_each_document_once_at_its_newest_version_and_no_deleted_one() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let put = |id: &str, body: &str| docs.put(id, body, Precondition::Any).expect("put").seq.get();
    put("moves", "1");
    let stays = put("stays", "1");
    put("goes", "1");
    docs.delete("goes", Precondition::Present).expect("delete");
    let moves = put("moves", "2");
    docs.delete("never was", Precondition::Any).expect("delete nothing");

    let told = entries(docs.changes(FeedMode::Latest, FeedStart::Beginning));
    assert_eq!(seqs(&told), [stays, moves]);
    let bodies: Vec<_> = told.iter().map(|entry| body(entry.document.as_ref())).collect();
    assert_eq!(bodies, [Some("1"), Some("2")]);
    assert!(told.iter().all(|entry| entry.previous.is_none()));
    assert_eq!((told[0].kind, told[1].kind), (ChangeKind::Created, ChangeKind::Replaced));
}

#[test]
fn latest_tells_a_document_again_when_it_changes_after_it_was_told() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let put = |id: &str, body: &str| docs.put(id, body, Precondition::Any).expect("put").seq.get();
    let first = put("told", "1");
    put("not yet", "1");
    let mut feed = docs.changes(FeedMode::Latest, FeedStart::Beginning).expect("feed").page_entries(1);
    assert_eq!(seqs(&feed.read().expect("read").entries), [first]);
    // Both move to a later place: one that the feed has passed, and one that it has not come to.
    let (not_yet, told) = (put("not yet", "2"), put("told", "2"));
    let rest: Vec<_> = drain(&mut feed).into_iter().flat_map(|page| page.entries).collect();
    assert_eq!(seqs(&rest), [not_yet, told]);
}

#[test]
fn a_document_that_changes_very_often_is_told_once() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    docs.put("cold", "", Precondition::Any).expect("put");
    // More than are looked at in one go, some of them in one batch.
    for _ in 0..30 {
        let mut batch = fixture.store.batch();
        for _ in 0..100 {
            batch.put(&docs, "hot", "", Precondition::Any);
        }
        batch.commit().expect("commit");
    }
    let told = entries(docs.changes(FeedMode::Latest, FeedStart::Beginning));
    assert_eq!(seqs(&told), [1, 3_001]);
    assert_eq!(entries(docs.changes(FeedMode::All, FeedStart::Beginning)).len(), 3_001);
}

#[test]
fn a_feed_begins_where_it_is_told_to() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let written: Vec<_> = (0..5).map(|n| docs.put("a", n.to_string(), Precondition::Any).expect("put")).collect();
    let from = |start: FeedStart| seqs(&entries(docs.changes(FeedMode::All, start)));
    assert_eq!(from(FeedStart::Beginning), [1, 2, 3, 4, 5]);
    assert_eq!(from(FeedStart::After(CommitSeq::new(0))), [1, 2, 3, 4, 5]);
    assert_eq!(from(written[1].seq.into()), [3, 4, 5]);
    assert_eq!(from(written[3].etag.into()), [5]);
    assert_eq!(from(written[4].seq.into()), [0; 0]);

    let mut feed = docs.changes(FeedMode::All, FeedStart::Now).expect("feed");
    assert!(feed.read().expect("read").is_empty());
    let next = docs.put("a", "5", Precondition::Any).expect("put");
    assert_eq!(seqs(&feed.read().expect("read").entries), [next.seq.get()]);
}

#[test]
fn a_start_that_does_not_exist_is_refused() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let foreign = Fixture::new().collection("docs").put("a", "", Precondition::Any).expect("put");
    let written = docs.put("a", "", Precondition::Any).expect("put");
    let future = CommitSeq::new(written.seq.get() + 1);
    let starts = [
        FeedStart::After(future),
        FeedStart::AfterEtag(Etag::NEVER),
        FeedStart::AfterEtag(foreign.etag),
        FeedStart::Since(SystemTime::now() + Duration::from_secs(3_600)),
    ];
    for start in starts {
        for mode in [FeedMode::Latest, FeedMode::All] {
            let refused = docs.changes(mode, start);
            assert!(matches!(refused, Err(Error::Invalid(_))), "{start:?}: {refused:?}");
        }
    }
    let mut page = fixture.store.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    assert_eq!(page.read().expect("read").position_etag, Some(written.etag));
}

/// A wall clock that stands where the test puts it.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Clock for Hands {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn a_feed_begins_at_a_wall_clock_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let hands = Hands::default();
    let set = |ms: u64| hands.0.store(ms, Ordering::SeqCst);
    let store = Options::default().clock(hands.clone()).open(dir.path().join("store")).expect("open");
    let docs = store.collection("docs").expect("collection");
    // The clock is set back once: times of commits never run backwards.
    for ms in [1_000, 2_000, 2_000, 1_500, 4_000] {
        set(ms);
        docs.put("a", "", Precondition::Any).expect("put");
    }
    set(5_000);
    let since = |ms: u64| {
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        seqs(&entries(docs.changes(FeedMode::All, time)))
    };
    assert_eq!(since(0), [1, 2, 3, 4, 5]);
    assert_eq!(since(1_000), [1, 2, 3, 4, 5]);
    assert_eq!(since(1_001), [2, 3, 4, 5]);
    assert_eq!(since(2_000), [2, 3, 4, 5]);
    assert_eq!(since(2_001), [5]);
    assert_eq!(since(4_000), [5]);
    assert_eq!(since(5_000), [0; 0]);
    let ahead = docs.changes(FeedMode::All, UNIX_EPOCH + Duration::from_millis(5_001));
    assert!(matches!(ahead, Err(Error::Invalid(_))));
    let nothing = Fixture::new();
    assert!(nothing.store.changes(FeedMode::All, UNIX_EPOCH).expect("feed").read().expect("read").is_empty());
}

#[test]
fn a_page_never_splits_a_batch_and_a_larger_one_comes_alone() {
    let fixture = Fixture::new();
    let (docs, other) = (fixture.collection("docs"), fixture.collection("other"));
    let sizes = [1usize, 2, 9, 1, 1, 1, 3];
    for (batch_number, &size) in sizes.iter().enumerate() {
        let mut batch = fixture.store.batch();
        for n in 0..size {
            batch.put(&docs, format!("{batch_number} {n}"), vec![b'x'; 10], Precondition::Absent);
        }
        // What does not concern the feed neither counts nor splits.
        batch.put(&other, "x", "", Precondition::Any);
        batch.commit().expect("commit");
    }
    let pages = |feed: ChangeFeed| -> Vec<Vec<usize>> {
        let mut feed = feed;
        drain(&mut feed).iter().map(|page| page.batches().map(<[_]>::len).collect()).collect()
    };
    for mode in [FeedMode::All, FeedMode::Latest] {
        let feed = || docs.changes(mode, FeedStart::Beginning).expect("feed");
        assert_eq!(pages(feed().page_entries(4)), [vec![1, 2], vec![9], vec![1, 1, 1], vec![3]]);
        // Ids have 3 bytes: an entry has 13.
        assert_eq!(pages(feed().page_bytes(4 * 13)), [vec![1, 2], vec![9], vec![1, 1, 1], vec![3]]);
        assert_eq!(pages(feed().page_entries(0)), sizes.map(|size| vec![size]).to_vec(), "0 counts as 1");
        assert_eq!(pages(feed()), [sizes.to_vec()]);
    }
    let whole = fixture.store.changes(FeedMode::All, FeedStart::Beginning).expect("feed").page_entries(4);
    assert_eq!(pages(whole), [vec![2], vec![3], vec![10], vec![2, 2], vec![2], vec![4]]);
}

#[test]
fn a_position_inside_a_batch_is_the_end_of_it() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    let mut batch = fixture.store.batch();
    for n in 0..3 {
        batch.put(&docs, n.to_string(), "", Precondition::Any);
    }
    let written: Vec<_> = batch.commit().expect("commit").into_iter().flatten().collect();
    docs.put("after", "", Precondition::Any).expect("put");
    for inside in &written {
        for start in [FeedStart::After(inside.seq), FeedStart::AfterEtag(inside.etag)] {
            let feed = docs.changes(FeedMode::All, start).expect("feed");
            assert_eq!(feed.position(), written[2].seq);
            assert_eq!(seqs(&entries(Ok(feed))), [4]);
        }
    }
    // So a snapshot, which never splits a batch either, and the feed after it fit together.
    let snapshot = fixture.store.snapshot_at(written[0].seq).expect("snapshot");
    assert_eq!(docs.changes(FeedMode::All, written[0].seq).expect("feed").position(), snapshot.seq());
}

#[test]
fn the_feed_of_the_store_tells_all_collections_in_one_order() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.collection("a"), fixture.collection("b"));
    a.put("x", "", Precondition::Any).expect("put");
    b.put("x", "", Precondition::Any).expect("put");
    a.put("x", "", Precondition::Any).expect("put");
    let told = |mode| {
        let entries = entries(fixture.store.changes(mode, FeedStart::Beginning));
        entries.iter().map(|entry| (entry.collection().to_owned(), entry.seq.get())).collect::<Vec<_>>()
    };
    assert_eq!(told(FeedMode::All), [("a".into(), 1), ("b".into(), 2), ("a".into(), 3)]);
    assert_eq!(told(FeedMode::Latest), [("b".into(), 2), ("a".into(), 3)]);
    assert_eq!(seqs(&entries(b.changes(FeedMode::All, FeedStart::Beginning))), [2]);
}

#[test]
fn a_position_passes_what_does_not_concern_the_feed() {
    let fixture = Fixture::new();
    let (docs, other) = (fixture.collection("docs"), fixture.collection("other"));
    docs.put("x", "", Precondition::Any).expect("put");
    let mut last = CommitSeq::new(0);
    for _ in 0..5 {
        last = other.put("x", "", Precondition::Any).expect("put").seq;
    }
    let mut feed = docs.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    let page = feed.read().expect("read");
    assert_eq!((page.entries.len(), page.position), (1, last));
    // Also where nothing at all was told.
    let last = other.put("x", "", Precondition::Any).expect("put").seq;
    assert_eq!(feed.read().expect("read").position, last);
}

#[test]
fn a_feed_of_some_ids_tells_of_no_others() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for id in ["a/1", "b/1", "a/2", "c/1", "a/1"] {
        docs.put(id, "", Precondition::Any).expect("put");
    }
    let told =
        |mode, range| seqs(&entries(docs.changes(mode, FeedStart::Beginning).map(|feed: ChangeFeed| feed.ids(range))));
    assert_eq!(told(FeedMode::All, ScanRange::prefix("a/")), [1, 3, 5]);
    assert_eq!(told(FeedMode::Latest, ScanRange::prefix("a/")), [3, 5]);
    assert_eq!(told(FeedMode::All, ScanRange::all().from("b").to("c")), [2]);
}

#[test]
fn dropped_collections_are_passed_over_and_their_own_feeds_fail() {
    let fixture = Fixture::new();
    let (docs, dropped) = (fixture.collection("docs"), fixture.collection("dropped"));
    let mut batch = fixture.store.batch();
    batch.put(&docs, "a", "1", Precondition::Any).put(&dropped, "a", "1", Precondition::Any);
    batch.commit().expect("commit");
    dropped.put("b", "1", Precondition::Any).expect("put");
    let mut of_store = fixture.store.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    let mut of_dropped = dropped.changes(FeedMode::All, FeedStart::Beginning).expect("feed");
    // The feed has met the collection before it goes.
    assert_eq!(of_store.read().expect("read").entries.len(), 3);
    fixture.store.drop_collection("dropped").expect("drop");
    let again = fixture.collection("dropped");
    again.put("c", "1", Precondition::Any).expect("put");

    let told = |mode| seqs(&entries(fixture.store.changes(mode, FeedStart::Beginning)));
    assert_eq!((told(FeedMode::All), told(FeedMode::Latest)), (vec![1, 4], vec![1, 4]));
    assert_eq!(seqs(&of_store.read().expect("read").entries), [4]);
    assert!(matches!(of_dropped.read(), Err(Error::Invalid(message)) if message.contains("dropped")));
    assert!(matches!(dropped.changes(FeedMode::All, FeedStart::Now), Err(Error::Invalid(_))));
    assert_eq!(seqs(&entries(again.changes(FeedMode::All, FeedStart::Beginning))), [4], "not its namesake's");
    drop((docs, dropped, again, of_store, of_dropped));
    let fixture = fixture.reopen();
    assert_eq!(seqs(&entries(fixture.store.changes(FeedMode::All, FeedStart::Beginning))), [1, 4]);
}

#[test]
fn a_position_survives_a_reopen() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for n in 0..10 {
        docs.put(n.to_string(), "", Precondition::Any).expect("put");
    }
    let page = docs.changes(FeedMode::All, FeedStart::Beginning).expect("feed").page_entries(4).read().expect("read");
    assert_eq!(seqs(&page.entries), [1, 2, 3, 4]);
    let etag = page.position_etag.expect("there are commits");
    drop(docs);
    let fixture = fixture.reopen();
    let docs = fixture.collection("docs");
    for start in [FeedStart::After(page.position), FeedStart::AfterEtag(etag)] {
        assert_eq!(seqs(&entries(docs.changes(FeedMode::All, start))), [5, 6, 7, 8, 9, 10]);
        assert_eq!(seqs(&entries(docs.changes(FeedMode::Latest, start))), [5, 6, 7, 8, 9, 10]);
    }
}

/// A tail that a power cut took is written anew with the same sequences: the bare position would skip what is new.
#[test]
fn the_etag_of_a_position_is_refused_where_its_commit_was_lost() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (path, older) = (dir.path().join("store"), dir.path().join("older"));
    let put = |path: &std::path::Path| {
        let store = Store::open(path).expect("open");
        let docs = store.collection("docs").expect("collection");
        docs.put("a", "", Precondition::Any).expect("put")
    };
    let kept = put(&path);
    copy(&path, &older);
    let lost = put(&path);
    let instead = put(&older);
    assert_eq!(lost.seq, instead.seq);
    let store = Store::open(&older).expect("open");
    assert!(matches!(store.changes(FeedMode::All, lost.etag), Err(Error::Invalid(_))));
    assert_eq!(seqs(&entries(store.changes(FeedMode::All, kept.etag))), [instead.seq.get()]);
}

/// Most of what happens may not concern a feed; it is passed over for a bounded time only, and never missed.
#[test]
fn a_page_ends_when_its_time_is_over_and_the_next_goes_on() {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for round in 0..3 {
        let others = (0..2_000).map(|n| (format!("other {round} {n}"), "x"));
        docs.bulk_load(others, Precondition::Absent).expect("bulk load");
        docs.put(format!("wanted {round}"), "x", Precondition::Absent).expect("put");
    }
    for mode in [FeedMode::All, FeedMode::Latest] {
        let feed = docs.changes(mode, FeedStart::Beginning).expect("feed").ids(ScanRange::prefix("wanted"));
        let mut feed = feed.page_time(Duration::ZERO);
        let (mut told, mut empty, mut before) = (Vec::new(), 0, CommitSeq::default());
        loop {
            let page = feed.read().expect("read");
            assert!(page.is_end || page.position > before, "each page gets on");
            before = page.position;
            empty += usize::from(page.is_empty() && !page.is_end);
            told.extend(page.entries.into_iter().map(|entry| entry.id));
            if page.is_end {
                break;
            }
        }
        assert_eq!(told, ["wanted 0", "wanted 1", "wanted 2"]);
        assert!(empty > 10, "{empty} pages ended before anything was found");
        // Whoever waits is not told of a page that ended early.
        let feed = docs.changes(mode, FeedStart::Beginning).expect("feed").ids(ScanRange::prefix("wanted"));
        let page = feed.page_time(Duration::ZERO).wait(Duration::from_secs(60)).expect("wait");
        assert_eq!(page.entries.first().map(|entry| &entry.id[..]), Some(&b"wanted 0"[..]));
    }
}
