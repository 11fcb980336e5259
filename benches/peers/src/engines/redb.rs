//! redb: one writer at a time, a commit for each write, as the crate's documentation shows.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{CACHE_BYTES, Decide, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

const DOCUMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("documents");

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(opening.dir.join("documents.redb"))?;
    let durability = if opening.sync { Durability::Immediate } else { Durability::None };
    run(&Redb { db, durability, numbers: Numbers::default() })
}

struct Redb {
    db: Database,
    durability: Durability,
    numbers: Numbers,
}

impl Redb {
    /// `None` if `decide` gave up.
    fn transact(&self, key: &[u8], decide: Decide<'_>) -> Result<Option<Version>> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(self.durability)?;
        let next = self.numbers.next();
        {
            let mut table = transaction.open_table(DOCUMENTS)?;
            let body = {
                let value = table.get(key)?.ok_or("the document is not there")?;
                let (version, body) = unpack(value.value())?;
                decide(version, body)
            };
            let Some(body) = body else { return Ok(None) };
            table.insert(key, pack(next, &body).as_slice())?;
        }
        transaction.commit()?;
        Ok(Some(Version::Number(next)))
    }
}

impl Engine for Redb {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let transaction = self.db.begin_write()?;
        {
            let mut table = transaction.open_table(DOCUMENTS)?;
            for (key, body) in documents {
                table.insert(key.as_slice(), pack(self.numbers.next(), body).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RedbSession(self)))
    }
}

struct RedbSession<'a>(&'a Redb);

impl Session for RedbSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let table = self.0.db.begin_read()?.open_table(DOCUMENTS)?;
        let value = table.get(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(value.value())?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        let mut transaction = self.0.db.begin_write()?;
        transaction.set_durability(self.0.durability)?;
        transaction.open_table(DOCUMENTS)?.insert(key, pack(self.0.numbers.next(), body).as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
        let expected = expected.number()?;
        self.0.transact(key, &mut |version, _| (version == expected).then(|| body.to_vec()))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        self.0.transact(key, &mut |_, body| Some(change(body)))?;
        Ok(())
    }
}
