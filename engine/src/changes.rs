//! The change feed: what was committed, in commit order, for those who tail it. Owns where a feed begins, where it
//! stands and how it waits; what a page holds is read by `pages`, and who is woken is known to `visible`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::collection::{Collection, CollectionState};
use crate::document::Document;
use crate::encoding::{self, CollectionNumber};
use crate::error::{Error, Result};
use crate::pages;
use crate::scan::ScanRange;
use crate::store::{Inner, Store};
use crate::visible::{Ready, Scope, Visible};
use crate::{CommitSeq, Etag, clock};

/// Which commits a change feed tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedMode {
    /// The newest version of each changed document, at the place of that version in the commit order.
    ///
    /// Newest means: as of the newest visible commit when the page is read. A document that is written again before
    /// the feed has come to it moves to its later place; one that is written after the feed has told it is told
    /// again, later. So a reader that keeps what it is told by id holds, whenever a page is empty, the current version
    /// of every document that exists.
    ///
    /// Deleted documents are not told, neither the delete nor what was before it: such a reader also still holds what
    /// was deleted since. A position can be of any age: what this mode tells is never dropped by retention.
    Latest,
    /// Every commit: creates, replaces and deletes, each with the version it came after. A position that retention has
    /// passed is [`Error::NotRetained`].
    All,
}

/// Where a change feed begins. A position inside a batch means after that batch: a feed tells a batch whole or not at
/// all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedStart {
    /// At the first commit. With [`FeedMode::All`] this is [`Error::NotRetained`] once retention has dropped something.
    Beginning,
    /// After the commit that is the newest one now.
    Now,
    /// After this commit: the position of another feed, a snapshot's sequence, or 0 for the beginning.
    After(CommitSeq),
    /// After the commit that wrote the version with this etag, in whatever collection. Safer than the bare sequence:
    /// an etag of another store, or of a commit that this store lost to a power cut or a restore, is refused.
    AfterEtag(Etag),
    /// At the first commit made at this time or later, to the millisecond. A time that is still to come is refused.
    Since(SystemTime),
}

impl From<CommitSeq> for FeedStart {
    fn from(seq: CommitSeq) -> FeedStart {
        FeedStart::After(seq)
    }
}

impl From<Etag> for FeedStart {
    fn from(etag: Etag) -> FeedStart {
        FeedStart::AfterEtag(etag)
    }
}

impl From<SystemTime> for FeedStart {
    fn from(time: SystemTime) -> FeedStart {
        FeedStart::Since(time)
    }
}

/// What a commit did to its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// There was no document of this id.
    Created,
    /// There was one, and this is its next version.
    Replaced,
    /// There was one, and now there is none.
    Deleted,
    /// The document expired: the same as a delete, by its time to live.
    Expired,
}

/// One change of one document.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FeedEntry {
    /// The place of the change in the commit order.
    pub seq: CommitSeq,
    /// The sequence of the last write of the batch that the change belongs to: the same for all its entries. A
    /// position to go on from when the batch has been dealt with.
    pub batch_end: CommitSeq,
    /// When it was committed, in milliseconds since the Unix epoch. Later commits never have earlier times.
    pub time_ms: u64,
    /// The document's id.
    pub id: Bytes,
    /// What happened to it. With [`FeedMode::Latest`]: what its newest version was made by, never `Deleted`.
    pub kind: ChangeKind,
    /// The etag that the write was answered with: the new version's, or the tombstone's.
    pub etag: Etag,
    /// The new version; `None` for a deletion.
    pub document: Option<Document>,
    /// The version that was current before; `None` for a creation, and always with [`FeedMode::Latest`].
    pub previous: Option<PreviousVersion>,
    pub(crate) collection: Arc<CollectionState>,
}

impl FeedEntry {
    /// The name of the collection that the document is in.
    pub fn collection(&self) -> &str {
        &self.collection.name
    }
}

/// The version that a change came after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviousVersion {
    /// Its etag.
    pub etag: Etag,
    /// The version itself; `None` when retention has dropped it, and when
    /// [`previous_images`](ChangeFeed::previous_images) is off.
    pub document: Option<Document>,
}

/// Some batches of a change feed, in commit order, each of them whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FeedPage {
    /// The changes, in commit order. Empty when there is nothing more to tell now, or when the page's
    /// [time](ChangeFeed::page_time) was over before anything was found.
    pub entries: Vec<FeedEntry>,
    /// How far the feed has come with this page. All that is visible up to here has been told or does not concern the
    /// feed: at the end of the last entry's batch, or later.
    pub position: CommitSeq,
    /// The position as an etag, for [`FeedStart::AfterEtag`]; `None` before the first commit.
    pub position_etag: Option<Etag>,
    /// Whether it reaches to what was the newest commit when it was read. If not, there may be more to tell already.
    pub is_end: bool,
}

impl FeedPage {
    /// Whether there was nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries by the batch that committed them. Entries that do not concern the feed are not among them.
    pub fn batches(&self) -> impl Iterator<Item = &[FeedEntry]> {
        self.entries.chunk_by(|one, next| one.batch_end == next.batch_end)
    }
}

/// A reader of the change feed of a collection or of a whole store, at its position.
///
/// The feed tells visible commits, and so only those that are as durable as the store's
/// [`Durability`](crate::Durability) promises, in the one order in which the store made them. A batch comes whole, in
/// one page. What is in dropped collections is passed over.
///
/// [`read`](ChangeFeed::read) tells what there is now and returns at once. To tail a feed, wait for more in one of
/// three ways, none of which polls: [`wait`](ChangeFeed::wait) with a timeout, the iterator [`tail`](ChangeFeed::tail),
/// which blocks for as long as it takes, and the future [`ready`](ChangeFeed::ready). Commits in other collections wake
/// nobody.
///
/// A feed has no state but its position: keep [`FeedPage::position`] wherever the results of the work go, and begin
/// there after a restart. A page that was read and not dealt with comes again. Nothing is kept for a feed: where
/// retention drops history, keep the place with a [registered cursor](Store::register_cursor).
///
/// A feed does not keep the store open. When the last handle goes, waiting ends and reading fails with
/// [`Error::Closed`]; a read in progress is finished first.
///
/// # Examples
///
/// ```
/// use etagdb::{ChangeKind, FeedMode, FeedStart, Precondition};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = etagdb::Store::open(dir.path().join("store"))?;
/// let carts = store.collection("carts")?;
/// let first = carts.put("ana", "1 pen", Precondition::Absent)?;
/// carts.put("ana", "2 pens", first.etag)?;
/// carts.delete("ana", Precondition::Present)?;
///
/// let page = carts.changes(FeedMode::All, FeedStart::Beginning)?.read()?;
/// let kinds: Vec<_> = page.entries.iter().map(|entry| entry.kind).collect();
/// assert_eq!(kinds, [ChangeKind::Created, ChangeKind::Replaced, ChangeKind::Deleted]);
/// let replaced = &page.entries[1];
/// assert_eq!(replaced.document.as_ref().expect("not deleted").body, "2 pens");
/// assert_eq!(replaced.previous.as_ref().expect("not created").etag, first.etag);
///
/// // Later, from where the page ended.
/// carts.put("ben", "1 cup", Precondition::Absent)?;
/// let page = carts.changes(FeedMode::All, page.position)?.read()?;
/// assert_eq!(page.entries[0].id, "ben");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChangeFeed {
    store: Weak<Inner>,
    visible: Arc<Visible>,
    pub(crate) request: Request,
    position: CommitSeq,
}

/// What a feed tells, apart from where it stands.
pub(crate) struct Request {
    pub(crate) scope: Scope,
    pub(crate) mode: FeedMode,
    pub(crate) ids: Option<ScanRange>,
    pub(crate) previous_images: bool,
    pub(crate) page_entries: usize,
    pub(crate) page_bytes: usize,
    pub(crate) page_time: Option<Duration>,
    /// The collections met so far, `None` for dropped ones. Numbers are never given twice.
    pub(crate) known: HashMap<CollectionNumber, Option<Arc<CollectionState>>>,
}

impl Store {
    /// Opens the change feed of the whole store. Takes a `CommitSeq`, an `Etag` or a `SystemTime` as well as a
    /// [`FeedStart`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a start that does not exist yet, or an etag that this store has not given out;
    /// [`Error::NotRetained`] for one that retention has passed (only with [`FeedMode::All`]); [`Error::Io`] and
    /// [`Error::Corruption`] when the commit order cannot be read.
    pub fn changes(&self, mode: FeedMode, start: impl Into<FeedStart>) -> Result<ChangeFeed> {
        ChangeFeed::begin(&self.inner, None, mode, start.into())
    }
}

impl Collection {
    /// Opens the change feed of this collection; as [`Store::changes`].
    ///
    /// When the collection is dropped, waiting ends, and reading fails with [`Error::Invalid`].
    ///
    /// # Errors
    ///
    /// As [`Store::changes`], and [`Error::Invalid`] when the collection was dropped.
    pub fn changes(&self, mode: FeedMode, start: impl Into<FeedStart>) -> Result<ChangeFeed> {
        ChangeFeed::begin(self.store(), Some(Arc::clone(self.state())), mode, start.into())
    }
}

impl ChangeFeed {
    /// Most entries in a page, unless [`page_entries`](ChangeFeed::page_entries) says otherwise.
    pub const PAGE_ENTRIES: usize = 1_000;
    /// Most bytes in a page, unless [`page_bytes`](ChangeFeed::page_bytes) says otherwise: 4 MiB.
    pub const PAGE_BYTES: usize = 4 << 20;

    fn begin(store: &Arc<Inner>, scope: Scope, mode: FeedMode, start: FeedStart) -> Result<ChangeFeed> {
        let position = store.position_of(start)?;
        let request = Request {
            scope,
            mode,
            ids: None,
            previous_images: mode == FeedMode::All,
            page_entries: ChangeFeed::PAGE_ENTRIES,
            page_bytes: ChangeFeed::PAGE_BYTES,
            page_time: None,
            known: HashMap::new(),
        };
        request.check(store, position)?;
        Ok(ChangeFeed { store: Arc::downgrade(store), visible: Arc::clone(&store.visible), request, position })
    }

    /// Tells only of documents whose ids are in `range`. What is left out is not read. The rest of a batch still comes
    /// whole, and [`ready`](ChangeFeed::ready) may resolve for what is left out.
    pub fn ids(mut self, range: ScanRange) -> ChangeFeed {
        self.request.ids = Some(range);
        self
    }

    /// Most entries in a page. Default: [`PAGE_ENTRIES`](ChangeFeed::PAGE_ENTRIES); 0 counts as 1. A batch is never
    /// split: one with more entries makes a page of its own.
    pub fn page_entries(mut self, entries: usize) -> ChangeFeed {
        self.request.page_entries = entries.max(1);
        self
    }

    /// Most bytes of ids, bodies and previous images in a page. Default: [`PAGE_BYTES`](ChangeFeed::PAGE_BYTES). A
    /// batch is never split: one with more bytes makes a page of its own.
    pub fn page_bytes(mut self, bytes: usize) -> ChangeFeed {
        self.request.page_bytes = bytes;
        self
    }

    /// Ends a page after this long, full or not, empty or not: passing over what does not concern the feed takes time,
    /// too. [`FeedPage::is_end`] tells such a page from one with nothing more behind it. Each page gets on by at least
    /// one batch. Default: no limit.
    pub fn page_time(mut self, time: Duration) -> ChangeFeed {
        self.request.page_time = Some(time);
        self
    }

    /// Whether [`FeedMode::All`] reads the previous version's body too. Default: true; it costs one more read for each
    /// replace and delete. The previous etag is told either way.
    pub fn previous_images(mut self, read: bool) -> ChangeFeed {
        self.request.previous_images = read && self.request.mode == FeedMode::All;
        self
    }

    /// How far the feed has come: the position of its last page.
    pub fn position(&self) -> CommitSeq {
        self.position
    }

    /// Reads the next page and moves on behind it; an empty page when there is nothing more to tell now. Does not
    /// wait for commits, but reads from disk.
    ///
    /// After an error the feed stands where it stood.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the store was closed; [`Error::Invalid`] when the feed's collection was dropped;
    /// [`Error::NotRetained`] when retention has passed the position (only with [`FeedMode::All`]);
    /// [`Error::Corruption`] and [`Error::Io`] when something cannot be read.
    pub fn read(&mut self) -> Result<FeedPage> {
        let store = self.store.upgrade().ok_or(Error::Closed)?;
        let page = pages::read(&store, &mut self.request, self.position)?;
        self.position = page.position;
        Ok(page)
    }

    /// Reads the next page, and waits for one while there is nothing to tell: at most for `timeout`, and then returns
    /// an empty page.
    ///
    /// # Errors
    ///
    /// As [`read`](ChangeFeed::read); [`Error::Closed`] also when the store is closed meanwhile.
    pub fn wait(&mut self, timeout: Duration) -> Result<FeedPage> {
        self.wait_until(clock::deadline(timeout))
    }

    /// The pages of the feed from here on, each as soon as there is something in it: an iterator that blocks for as
    /// long as that takes, and ends only when the store is closed. After an error it tries the same page again, so
    /// leave the loop on an error that does not pass. Errors as [`read`](ChangeFeed::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{FeedMode, FeedStart, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = etagdb::Store::open(dir.path().join("store"))?;
    /// let carts = store.collection("carts")?;
    /// let mut feed = carts.changes(FeedMode::All, FeedStart::Now)?;
    /// let (sender, changed) = std::sync::mpsc::channel();
    /// let reader = std::thread::spawn(move || {
    ///     for page in feed.tail() {
    ///         for entry in page?.entries {
    ///             let _ = sender.send(entry.id);
    ///         }
    ///     }
    ///     Ok::<_, etagdb::Error>(feed.position())
    /// });
    /// let last = carts.put("ana", "1 pen", Precondition::Absent)?.seq;
    /// assert_eq!(changed.recv()?, "ana");
    /// // The last handles go, the store closes, and the loop ends.
    /// drop((store, carts));
    /// assert_eq!(reader.join().expect("no panic")?, last);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tail(&mut self) -> Tail<'_> {
        Tail { feed: self }
    }

    /// A future that resolves when there may be something to read; [`read`](ChangeFeed::read) then tells. It may
    /// resolve for nothing, so wait again after an empty page.
    ///
    /// It only waits, because reading blocks: an async program awaits it and then reads where blocking is allowed.
    /// It needs no particular runtime, belongs to no feed once made, and can be dropped at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{ChangeFeed, FeedPage};
    ///
    /// async fn next_page(feed: &mut ChangeFeed) -> etagdb::Result<FeedPage> {
    ///     loop {
    ///         feed.ready().await?;
    ///         // In a server: inside `spawn_blocking`.
    ///         let page = feed.read()?;
    ///         if !page.is_empty() {
    ///             return Ok(page);
    ///         }
    ///     }
    /// }
    /// # use std::{pin::pin, task::{Context, Poll, Waker}};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// # let carts = store.collection("carts")?;
    /// # let mut feed = carts.changes(etagdb::FeedMode::All, etagdb::FeedStart::Now)?;
    /// # let mut page = pin!(next_page(&mut feed));
    /// # let mut context = Context::from_waker(Waker::noop());
    /// # assert!(page.as_mut().poll(&mut context).is_pending());
    /// # carts.put("ana", "1 pen", etagdb::Precondition::Absent)?;
    /// # assert!(matches!(page.poll(&mut context), Poll::Ready(Ok(page)) if page.entries.len() == 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ready(&self) -> Ready {
        Ready::new(Arc::clone(&self.visible), self.request.scope.clone(), self.position.get())
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<FeedPage> {
        loop {
            let page = self.read()?;
            if !page.is_empty() || !self.ready().wait_until(deadline)? {
                return Ok(page);
            }
        }
    }
}

/// The pages of a feed, each as soon as there is something in it. Made by [`ChangeFeed::tail`].
#[derive(Debug)]
pub struct Tail<'a> {
    feed: &'a mut ChangeFeed,
}

impl Iterator for Tail<'_> {
    type Item = Result<FeedPage>;

    fn next(&mut self) -> Option<Result<FeedPage>> {
        match self.feed.wait_until(None) {
            Err(Error::Closed) => None,
            page => Some(page),
        }
    }
}

impl fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collection = self.request.scope.as_ref().map(|collection| &collection.name);
        f.debug_struct("ChangeFeed")
            .field("collection", &collection)
            .field("mode", &self.request.mode)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Whether a feed may stand at `position`.
    pub(crate) fn check(&self, store: &Inner, position: CommitSeq) -> Result<()> {
        if let Some(collection) = &self.scope {
            collection.check_live()?;
        }
        match self.mode {
            FeedMode::All => store.check_feed_retained(self.scope.as_deref(), position),
            // The row of a version that is still the newest is never dropped.
            FeedMode::Latest => Ok(()),
        }
    }
}

impl Inner {
    /// The sequence that a feed with this start begins after.
    fn position_of(&self, start: FeedStart) -> Result<CommitSeq> {
        match start {
            FeedStart::Beginning => Ok(CommitSeq::new(0)),
            FeedStart::Now => Ok(self.visible()),
            FeedStart::After(seq) => self.end_of_visible_batch(seq),
            FeedStart::AfterEtag(etag) => {
                let seq = etag.seq();
                if seq.get() == 0 || seq > self.visible() || self.etag(seq.get()) != etag {
                    return Err(Error::Invalid(format!("etag {etag} is of no commit of this store")));
                }
                self.end_of_visible_batch(seq)
            }
            FeedStart::Since(time) => self.before_time(clock::to_ms(time)),
        }
    }

    /// The last commit made before a time.
    fn before_time(&self, time_ms: u64) -> Result<CommitSeq> {
        let newest = self.visible().get();
        let mut rows = self.rocks.feed(1, newest);
        // Times never run backwards, so this is a search for the first row at `time_ms` or later, which is at or after
        // `low` and, if there is one at all, at or before `high`.
        let (mut low, mut high) = (1, newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            rows.seek(&encoding::feed_key(middle));
            let row = rows.row()?.map(|(key, value)| encoding::feed_position(key, value)).transpose()?;
            match row {
                Some(row) if row.time_ms < time_ms => low = row.seq + 1,
                _ => high = middle,
            }
        }
        let now_ms = clock::now_ms(&self.options.clock, 0);
        if low > newest && time_ms > now_ms {
            let ahead = time_ms - now_ms;
            return Err(Error::Invalid(format!("a feed cannot begin {ahead} ms in the future")));
        }
        Ok(CommitSeq::new(low - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precondition;
    use crate::encoding::Horizon;

    /// A reader must not go on in silence over what is not there any more.
    #[test]
    fn a_position_that_retention_has_passed_is_refused_by_all_and_taken_by_latest() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path().join("store")).expect("open");
        let docs = store.collection("docs").expect("collection");
        let put = || docs.put("a", "", Precondition::Any).expect("put").seq;
        let seqs = [put(), put(), put()];
        let mut overtaken = docs.changes(FeedMode::All, seqs[0]).expect("feed");
        docs.state().raise_horizon(Horizon { complete: seqs[2].get(), deletes: 0 });

        let is_refusal = |error: Error| {
            assert!(error.to_string().contains(&format!("oldest still readable is {}", seqs[1])), "{error}");
            matches!(error, Error::NotRetained { asked, oldest } if asked == seqs[0] && oldest == seqs[1])
        };
        assert!(overtaken.read().is_err_and(is_refusal));
        assert_eq!(overtaken.position(), seqs[0], "it stands where it stood");
        assert!(docs.changes(FeedMode::All, seqs[0]).is_err_and(is_refusal));
        assert!(matches!(store.changes(FeedMode::All, FeedStart::Beginning), Err(Error::NotRetained { .. })));
        assert!(store.register_cursor("late", seqs[0]).is_err_and(is_refusal));
        assert_eq!(store.watermark(), seqs[2], "a refused cursor holds nothing");

        let read =
            |mode, start: FeedStart| docs.changes(mode, start).expect("feed").read().expect("read").entries.len();
        assert_eq!(read(FeedMode::All, seqs[1].into()), 1);
        assert_eq!(read(FeedMode::Latest, FeedStart::Beginning), 1);
    }
}
