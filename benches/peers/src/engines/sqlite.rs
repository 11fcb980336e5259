//! SQLite: a write-ahead log, a connection for each reader, and one connection for writers, who take turns: SQLite
//! has one writer at a time, and its own way to wait for a turn is to sleep and try again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior, params};

use crate::engine::{CACHE_BYTES, Engine, Numbers, Opening, Result, Session, Version};

pub(super) fn open(opening: Opening<'_>, run: &mut dyn FnMut(&dyn Engine) -> Result<()>) -> Result<()> {
    let path = opening.dir.join("documents.sqlite");
    let writer = connect(&path)?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit, NORMAL at checkpoints: the two that its documentation names for a log.
    writer.pragma_update(None, "synchronous", if opening.sync { "FULL" } else { "NORMAL" })?;
    writer.execute_batch(
        "CREATE TABLE documents (id BLOB PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
    )?;
    run(&Sqlite { path, writer: Mutex::new(writer), numbers: Numbers::default() })
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    // Its own cache belongs to a connection; the map is shared by all.
    connection.pragma_update(None, "mmap_size", CACHE_BYTES as i64)?;
    Ok(connection)
}

struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    numbers: Numbers,
}

impl Sqlite {
    fn write<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        work(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine for Sqlite {
    fn load(&self, documents: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.write(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO documents VALUES (?, ?, ?)")?;
                for (key, body) in documents {
                    insert.execute(params![key, self.numbers.next() as i64, body])?;
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SqliteSession { engine: self, reader: connect(&self.path)? }))
    }
}

struct SqliteSession<'a> {
    engine: &'a Sqlite,
    reader: Connection,
}

impl Session for SqliteSession<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Version, &[u8])) -> Result<()> {
        let mut select = self.reader.prepare_cached("SELECT version, body FROM documents WHERE id = ?")?;
        let mut rows = select.query([key])?;
        let row = rows.next()?.ok_or("the document is not there")?;
        look(Version::Number(row.get::<_, i64>(0)? as u64), row.get_ref(1)?.as_blob()?);
        Ok(())
    }

    fn put(&mut self, key: &[u8], body: &[u8]) -> Result<()> {
        let version = self.engine.numbers.next() as i64;
        self.engine.write(|connection| {
            connection
                .prepare_cached(
                    "INSERT INTO documents VALUES (?, ?, ?)
                     ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body",
                )?
                .execute(params![key, version, body])?;
            Ok(())
        })
    }

    fn compare_and_swap(&mut self, key: &[u8], expected: Version, body: &[u8]) -> Result<Option<Version>> {
        let expected = expected.number()? as i64;
        let next = self.engine.numbers.next();
        let changed = self.engine.write(|connection| {
            Ok(connection
                .prepare_cached("UPDATE documents SET version = ?, body = ? WHERE id = ? AND version = ?")?
                .execute(params![next as i64, body, key, expected])?)
        })?;
        Ok((changed == 1).then_some(Version::Number(next)))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Result<()> {
        let version = self.engine.numbers.next() as i64;
        self.engine.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut select = transaction.prepare_cached("SELECT body FROM documents WHERE id = ?")?;
                let body = select.query_row([key], |row| Ok(change(row.get_ref(0)?.as_blob()?)))?;
                transaction
                    .prepare_cached("UPDATE documents SET version = ?, body = ? WHERE id = ?")?
                    .execute(params![version, body, key])?;
            }
            Ok(transaction.commit()?)
        })
    }
}
