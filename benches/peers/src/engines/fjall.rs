//! fjall, its optimistic transactions.

use fjall::{KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, PersistMode, Readable};

use crate::engine::{CACHE_BYTES, Decide, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let db = OptimisticTxDatabase::builder(opening.dir).cache_size(CACHE_BYTES as u64).open()?;
    let documents = db.keyspace("documents", || KeyspaceCreateOptions::default().expect_point_read_hits(true))?;
    // A commit that asks for nothing is handed to the operating system. `fdatasync` is what the other logs do.
    let persist = opening.sync.then_some(PersistMode::SyncData);
    run(&Fjall { db, documents, persist, numbers: Numbers::default() })
}

struct Fjall {
    db: OptimisticTxDatabase,
    documents: OptimisticTxKeyspace,
    persist: Option<PersistMode>,
    numbers: Numbers,
}

impl Fjall {
    /// `None` if another transaction was faster or `decide` gave up.
    fn transact(&self, key: &[u8], decide: Decide<'_>) -> Result<Option<Version>> {
        let mut transaction = self.db.write_tx()?.durability(self.persist);
        let value = transaction.get(&self.documents, key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        let Some(body) = decide(version, body) else { return Ok(None) };
        let next = self.numbers.next();
        transaction.insert(&self.documents, key, pack(next, &body));
        Ok(transaction.commit()?.is_ok().then_some(Version::Number(next)))
    }
}

impl Engine for Fjall {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.db.write_tx()?.durability(self.persist);
        for (key, body) in documents {
            transaction.insert(&self.documents, key.as_slice(), pack(self.numbers.next(), body));
        }
        Ok(transaction.commit()??)
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(FjallSession(self)))
    }
}

struct FjallSession<'a>(&'a Fjall);

impl Session for FjallSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let value = self.0.documents.get(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        let mut transaction = self.0.db.write_tx()?.durability(self.0.persist);
        transaction.insert(&self.0.documents, key, pack(self.0.numbers.next(), body));
        // It has read nothing, so it cannot conflict.
        Ok(transaction.commit()??)
    }

    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
        let expected = expected.number()?;
        self.0.transact(key, &mut |version, _| (version == expected).then(|| body.to_vec()))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        while self.0.transact(key, &mut |_, body| Some(change(body)))?.is_none() {}
        Ok(())
    }
}
