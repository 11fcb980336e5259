//! SurrealKV: reads in place, commits as futures on a tokio runtime, each waited for by the thread that made it.

use surrealkv::{Durability, Error, Mode, Transaction, Tree, TreeBuilder};
use tokio::runtime::Runtime;

use crate::engine::{CACHE_BYTES, Decide, Engine, Numbers, Opening, Result, Session, Version, pack, unpack};

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let tree = {
        // It starts tasks of its own.
        let _inside = runtime.enter();
        TreeBuilder::new().with_path(opening.dir.to_path_buf()).with_block_cache_capacity(CACHE_BYTES as u64).build()?
    };
    let durability = if opening.sync { Durability::Immediate } else { Durability::Eventual };
    let engine = SurrealKv { tree, runtime, durability, numbers: Numbers::default() };
    let outcome = run(&engine);
    engine.runtime.block_on(engine.tree.close())?;
    outcome
}

struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
    numbers: Numbers,
}

impl SurrealKv {
    /// False if another transaction was faster.
    fn commit(&self, mut transaction: Transaction) -> Result<bool> {
        transaction.set_durability(self.durability);
        match self.runtime.block_on(transaction.commit()) {
            Ok(()) => Ok(true),
            Err(Error::TransactionWriteConflict | Error::TransactionRetry) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// `None` if another transaction was faster or `decide` gave up.
    fn transact(&self, key: &[u8], decide: Decide<'_>) -> Result<Option<Version>> {
        let mut transaction = self.tree.begin()?;
        let value = transaction.get(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        let Some(body) = decide(version, body) else { return Ok(None) };
        let next = self.numbers.next();
        transaction.set(key, pack(next, &body))?;
        Ok(self.commit(transaction)?.then_some(Version::Number(next)))
    }
}

impl Engine for SurrealKv {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        for (key, body) in documents {
            transaction.set(key.as_slice(), pack(self.numbers.next(), body))?;
        }
        if self.commit(transaction)? { Ok(()) } else { Err("a conflict while loading".into()) }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SurrealKvSession(self)))
    }
}

struct SurrealKvSession<'a>(&'a SurrealKv);

impl Session for SurrealKvSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let transaction = self.0.tree.begin_with_mode(Mode::ReadOnly)?;
        let value = transaction.get(key)?.ok_or("the document is not there")?;
        let (version, body) = unpack(&value)?;
        look(Version::Number(version), body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        loop {
            let mut transaction = self.0.tree.begin_with_mode(Mode::WriteOnly)?;
            transaction.set(key, pack(self.0.numbers.next(), body))?;
            // Two writers of one document conflict even if neither has read it.
            if self.0.commit(transaction)? {
                return Ok(());
            }
        }
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
