//! etagdb, with its defaults but for the memory that every engine gets.

use etagdb::{Change, Collection, Durability, Error, Options, Precondition, Store};

use crate::engine::{CACHE_BYTES, Engine, Opening, Result, Session, Version};

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let durability = if opening.sync { Durability::Sync } else { Durability::Buffered };
    let store = Options::default()
        .durability(durability)
        .document_cache_bytes(CACHE_BYTES / 4 * 3)
        .cache_bytes(CACHE_BYTES / 4)
        .open(opening.dir)?;
    let documents = store.collection("documents")?;
    run(&Etagdb { store, documents })
}

struct Etagdb {
    store: Store,
    documents: Collection,
}

impl Engine for Etagdb {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = self.store.batch();
        for (key, body) in documents {
            batch.put(&self.documents, key, body, Precondition::Absent);
        }
        batch.commit()?;
        Ok(())
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(EtagdbSession(&self.documents)))
    }
}

struct EtagdbSession<'a>(&'a Collection);

impl Session for EtagdbSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let document = self.0.get(key)?.ok_or("the document is not there")?;
        look(Version::Etag(document.etag), &document.body);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        self.0.put(key, body, Precondition::Any)?;
        Ok(())
    }

    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
        let Version::Etag(etag) = expected else { return Err("a version of another engine".into()) };
        match self.0.put(key, body, etag) {
            Ok(written) => Ok(Some(Version::Etag(written.etag))),
            Err(Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        self.0.update(key, |current| Ok(Change::Put(change(current.map_or(&[], |document| &document.body)))))?;
        Ok(())
    }
}
