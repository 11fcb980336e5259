//! sled: its own compare-and-swap, and a flush before the answer where a write must be on disk.

use sled::{Config, Db};

use crate::engine::{CACHE_BYTES, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let db = Config::default().path(opening.dir).cache_capacity(CACHE_BYTES as u64).open()?;
    run(&Sled { db, sync: opening.sync, numbers: Numbers::default() })
}

struct Sled {
    db: Db,
    sync: bool,
    numbers: Numbers,
}

impl Sled {
    /// Waits until what was written is on disk, if it must be. Who waits at the same time shares the work.
    fn settle(&self) -> Result<()> {
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (key, body) in documents {
            batch.insert(key.as_slice(), pack(self.numbers.next(), body));
        }
        self.db.apply_batch(batch)?;
        self.settle()
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SledSession(self)))
    }
}

struct SledSession<'a>(&'a Sled);

impl Session for SledSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let value = self.0.db.get(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        self.0.db.insert(key, pack(self.0.numbers.next(), body))?;
        self.0.settle()
    }

    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
        // It compares whole values, so the one with the expected version must be at hand.
        let value = self.0.db.get(key)?.ok_or("the document is not there")?;
        if unpack(&value)?.0 != expected.number()? {
            return Ok(None);
        }
        let next = self.0.numbers.next();
        if self.0.db.compare_and_swap(key, Some(&value), Some(pack(next, body)))?.is_err() {
            return Ok(None);
        }
        self.0.settle()?;
        Ok(Some(Version::Number(next)))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        let next = self.0.numbers.next();
        self.0.db.update_and_fetch(key, |value| {
            let (_, body) = unpack(value?).ok()?;
            Some(pack(next, &change(body)))
        })?;
        self.0.settle()
    }
}
