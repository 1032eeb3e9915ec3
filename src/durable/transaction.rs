//! [`Transaction`]: what a transactional sink is given: its part of a transaction of the log.

#[cfg(feature = "testing")]
use std::collections::BTreeMap;
use std::marker::PhantomData;

#[cfg(any(feature = "durable-file", feature = "testing"))]
use crate::rules::batch::SinkError;

/// The sink's part of a transaction of the log. All that is written through it takes effect together with the record that the ops
/// of the batch are settled, or not at all. [`Term::transaction`](super::Term::transaction) lends it to a closure.
#[derive(Debug)]
pub struct Transaction<'a> {
    engine: EngineOf<'a>,
    lent: PhantomData<&'a mut ()>,
}

#[derive(Debug)]
enum EngineOf<'a> {
    #[cfg(feature = "durable-file")]
    Sqlite(&'a rusqlite::Connection),
    #[cfg(feature = "testing")]
    Memory(&'a mut BTreeMap<String, String>),
    #[expect(dead_code, reason = "the lifetime is in use without any engine, too")]
    None(PhantomData<&'a ()>),
}

impl<'a> Transaction<'a> {
    #[cfg(feature = "durable-file")]
    pub(crate) fn sqlite_of(connection: &'a rusqlite::Connection) -> Self {
        Self { engine: EngineOf::Sqlite(connection), lent: PhantomData }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn memory_of(rows: &'a mut BTreeMap<String, String>) -> Self {
        Self { engine: EngineOf::Memory(rows), lent: PhantomData }
    }

    /// The connection of a log in a [`File`](super::File), for any SQL but what would end the transaction, change the connection or
    /// touch the tables of the log: an authorizer refuses COMMIT, ROLLBACK, savepoints, ATTACH, PRAGMA, and writes to tables whose
    /// names begin with `roundlot_`. Prepare statements with
    /// [`prepare_cached`](rusqlite::Connection::prepare_cached).
    ///
    /// # Errors
    ///
    /// Refuses if the log is in no file.
    #[cfg(feature = "durable-file")]
    #[cfg_attr(docsrs, doc(cfg(feature = "durable-file")))]
    pub fn sqlite(&mut self) -> Result<&rusqlite::Connection, SinkError> {
        match &self.engine {
            EngineOf::Sqlite(connection) => Ok(connection),
            _ => Err(SinkError::refused("the log is in no file")),
        }
    }

    /// The rows of a [`MemoryLog`](crate::testing::MemoryLog): any keys and values, to test a transactional sink.
    ///
    /// # Errors
    ///
    /// Refuses if the log is not in memory.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn memory(&mut self) -> Result<&mut BTreeMap<String, String>, SinkError> {
        match &mut self.engine {
            EngineOf::Memory(rows) => Ok(rows),
            _ => Err(SinkError::refused("the log is not in memory")),
        }
    }
}
