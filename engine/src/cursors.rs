//! Registered cursors: named positions in the change feed that outlive the process and hold retention back. Owns their
//! rows; knows nothing of who reads.

use std::collections::BTreeMap;
use std::fmt;

use crate::encoding::{self, CursorRecord, MAX_NAME_BYTES};
use crate::error::{Error, Result};
use crate::rocks::{Rocks, Rows};
use crate::store::{Inner, Store};
use crate::sync::Mutex;
use crate::watermark::{HoldId, PinKind, Watermark};
use crate::{CommitSeq, clock};

/// A named, durable position in the change feed, as [`Store::cursor`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedCursor {
    /// Its name.
    pub name: String,
    /// What comes after it is kept for its owner.
    pub position: CommitSeq,
    /// When it was registered, in milliseconds since the Unix epoch.
    pub registered_ms: u64,
    /// When it was last moved, in milliseconds since the Unix epoch; at first, when it was registered.
    pub advanced_ms: u64,
}

/// The cursors of an open store, as they are on disk.
#[derive(Default)]
pub(crate) struct Cursors {
    /// Locked through the write to disk, so that what is seen here is durable, and changes come one at a time.
    by_name: Mutex<BTreeMap<String, Registered>>,
}

/// A cursor, and what keeps what it needs.
struct Registered {
    cursor: FeedCursor,
    hold: HoldId,
}

impl Cursors {
    pub(crate) fn load(rocks: &Rocks, watermark: &Watermark) -> Result<Cursors> {
        let mut by_name = BTreeMap::new();
        for (key, value) in rocks.meta_rows(encoding::CURSOR_PREFIX)? {
            let name = encoding::cursor_of_key(&key)?;
            let record: CursorRecord = encoding::decode_record("cursor record", &value)?;
            let CursorRecord { position, registered_ms, advanced_ms } = record;
            let position = CommitSeq::new(position);
            // Nothing it needs was dropped while it was registered.
            let hold = watermark.hold(PinKind::Cursor(name.clone()), advanced_ms, || position);
            let cursor = FeedCursor { name: name.clone(), position, registered_ms, advanced_ms };
            by_name.insert(name, Registered { cursor, hold });
        }
        Ok(Cursors { by_name: Mutex::new(by_name) })
    }

    pub(crate) fn count(&self) -> usize {
        self.by_name.lock().len()
    }
}

impl Store {
    /// Registers a cursor: a named position in the change feed that survives a reopen. What is needed to read the feed
    /// from it on, previous images included, is kept until it is advanced or removed, whatever retention says.
    ///
    /// If there is a cursor of that name it stays where it is. So a consumer registers at every start, and goes on
    /// from where the returned cursor stands. In the middle of a batch means after it. The cursor is on disk when this
    /// returns, under either [`Durability`](crate::Durability); blocks for the sync. `name`: 1 to
    /// [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a position that is not committed yet or a name beyond the limits;
    /// [`Error::NotRetained`] for a position that retention has passed; [`Error::ReadOnly`],
    /// [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part.
    ///
    /// # Examples
    ///
    /// ```
    /// use etagdb::{CommitSeq, FeedMode, Precondition};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = etagdb::Store::open(dir.path().join("store"))?;
    /// # let carts = store.collection("carts")?;
    /// carts.put("ana", "1 pen", Precondition::Absent)?;
    ///
    /// // At every start of the consumer: the first time from the beginning, later from where it was.
    /// let cursor = store.register_cursor("mailer", CommitSeq::new(0))?;
    /// let page = store.changes(FeedMode::All, cursor.position)?.read()?;
    /// for entry in &page.entries {
    ///     println!("{:?} {:?}", entry.kind, entry.id);
    /// }
    /// // Done with these; after a crash before this line they come again.
    /// store.advance_cursor("mailer", page.position)?;
    /// assert_eq!(store.watermark(), page.position);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register_cursor(&self, name: &str, position: CommitSeq) -> Result<FeedCursor> {
        let inner = &self.inner;
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let len = name.len();
            return Err(Error::Invalid(format!("a cursor name has 1 to {MAX_NAME_BYTES} bytes, not {len}")));
        }
        let mut cursors = inner.cursors.by_name.lock();
        if let Some(registered) = cursors.get(name) {
            return Ok(registered.cursor.clone());
        }
        let position = inner.end_of_visible_batch(position)?;
        let now = clock::now_ms(&inner.options.clock, 0);
        let cursor = FeedCursor { name: name.to_owned(), position, registered_ms: now, advanced_ms: now };
        // Held first, asked afterwards: see `Watermark::agree`.
        let hold = inner.watermark.hold_past(PinKind::Cursor(name.to_owned()), now, position);
        let registered = inner.check_feed_retained(None, position).and_then(|()| inner.write_cursor(&cursor));
        match registered {
            Ok(()) => drop(cursors.insert(name.to_owned(), Registered { cursor: cursor.clone(), hold })),
            Err(_) => inner.watermark.release(hold),
        }
        registered.map(|()| cursor)
    }

    /// Moves cursor `name` forward: everything up to `position` has been dealt with and need not be kept for it. In
    /// the middle of a batch means after it. The new position is on disk when this returns, under either
    /// [`Durability`](crate::Durability); blocks for the sync, so move it once a page rather than once an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when there is no such cursor, when it is beyond `position` already, and for a position that
    /// is not committed yet; [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does
    /// not do its part: the cursor then stays where it was.
    pub fn advance_cursor(&self, name: &str, position: CommitSeq) -> Result<()> {
        let inner = &self.inner;
        let mut cursors = inner.cursors.by_name.lock();
        let Some(Registered { cursor, hold }) = cursors.get_mut(name) else {
            return Err(Error::Invalid(format!("there is no cursor {name:?}")));
        };
        let position = inner.end_of_visible_batch(position)?;
        if position < cursor.position {
            let at = cursor.position;
            return Err(Error::Invalid(format!("cursor {name:?} is at {at} and cannot go back to {position}")));
        }
        if position > cursor.position {
            let advanced_ms = clock::now_ms(&inner.options.clock, cursor.advanced_ms);
            let advanced = FeedCursor { position, advanced_ms, ..cursor.clone() };
            inner.write_cursor(&advanced)?;
            *cursor = advanced;
            // The new hold needs nothing that the old one does not.
            let kind = PinKind::Cursor(name.to_owned());
            let old = std::mem::replace(hold, inner.watermark.hold(kind, advanced_ms, || position));
            inner.watermark.release(old);
        }
        Ok(())
    }

    /// Removes cursor `name`, durably, and with it its hold on history; false when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::OutcomeUnknown`] and [`Error::DiskFull`] when the disk does not do its part.
    pub fn remove_cursor(&self, name: &str) -> Result<bool> {
        let inner = &self.inner;
        let mut cursors = inner.cursors.by_name.lock();
        let Some(hold) = cursors.get(name).map(|registered| registered.hold) else {
            return Ok(false);
        };
        let mut rows = Rows::default();
        inner.rocks.delete_meta(&mut rows, &encoding::cursor_key(name));
        inner.write_cursor_rows(rows)?;
        cursors.remove(name);
        inner.watermark.release(hold);
        Ok(true)
    }

    /// Where cursor `name` stands, if there is one.
    pub fn cursor(&self, name: &str) -> Option<FeedCursor> {
        self.inner.cursors.by_name.lock().get(name).map(|registered| registered.cursor.clone())
    }

    /// All registered cursors, in byte order of their names.
    pub fn cursors(&self) -> Vec<FeedCursor> {
        self.inner.cursors.by_name.lock().values().map(|registered| registered.cursor.clone()).collect()
    }
}

impl Inner {
    fn write_cursor(&self, cursor: &FeedCursor) -> Result<()> {
        let record = encoding::encode_record(&CursorRecord {
            position: cursor.position.get(),
            registered_ms: cursor.registered_ms,
            advanced_ms: cursor.advanced_ms,
        })?;
        let mut rows = Rows::default();
        self.rocks.put_meta(&mut rows, &encoding::cursor_key(&cursor.name), &record);
        self.write_cursor_rows(rows)
    }

    fn write_cursor_rows(&self, rows: Rows) -> Result<()> {
        self.health.check()?;
        // Synced under `Buffered` too: retention drops what lies behind a cursor, and were the move lost after that,
        // the cursor would stand where nothing is left.
        self.write_durably(rows)
    }
}

impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursors").field("count", &self.count()).finish()
    }
}
