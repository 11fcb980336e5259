//! LMDB through heed: a read transaction for each read, one writer at a time, a commit for each write.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use crate::engine::{Decide, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

/// Address space, not memory.
const MAP_BYTES: usize = 64 << 30;

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(256);
    #[expect(unsafe_code, reason = "memory maps are unsafe to open: others could change the file")]
    // SAFETY: the directory is new and belongs to this run; nobody else opens or changes its files. Without the
    // sync a crash of the machine may damage the file, which is then not opened again.
    let env = unsafe {
        if !opening.sync {
            options.flags(EnvFlags::NO_SYNC);
        }
        options.open(opening.dir)?
    };
    let documents = env
        .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    run(&Lmdb { env: &env, documents, numbers: Numbers::default() })
}

struct Lmdb<'a> {
    env: &'a Env,
    documents: Database<'a, Bytes, Bytes>,
    numbers: Numbers,
}

impl Lmdb<'_> {
    /// `None` if `decide` gave up.
    fn transact(&self, key: &[u8], decide: Decide<'_>) -> Result<Option<Version>> {
        let mut transaction = self.env.write_txn()?;
        let value = self.documents.get(&transaction, key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(value)?;
        let Some(body) = decide(version, body) else { return Ok(None) };
        let next = self.numbers.next();
        self.documents.put(&mut transaction, key, &pack(next, &body))?;
        transaction.commit()?;
        Ok(Some(Version::Number(next)))
    }
}

impl Engine for Lmdb<'_> {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, body) in documents {
            self.documents.put(&mut transaction, key, &pack(self.numbers.next(), body))?;
        }
        Ok(transaction.commit()?)
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(LmdbSession(self)))
    }
}

struct LmdbSession<'a>(&'a Lmdb<'a>);

impl Session for LmdbSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let transaction = self.0.env.read_txn()?;
        let value = self.0.documents.get(&transaction, key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(value)?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        let mut transaction = self.0.env.write_txn()?;
        self.0.documents.put(&mut transaction, key, &pack(self.0.numbers.next(), body))?;
        Ok(transaction.commit()?)
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
