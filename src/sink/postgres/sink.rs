//! The sink itself: in comes a batch, whose rows go to the server on a connection of their own, out go the verdicts.
//! Next room: `pool`.

use std::fmt;

use super::{OpenError, Postgres, open, pool::Pool, writer};
use crate::{
    batch::{Batch, Settled},
    sink::{ErrorKind, Sink, SinkError, table::Table},
};

/// A [`Sink`] that writes each batch to a PostgreSQL table, in one transaction.
pub struct PostgresSink<T> {
    table: Table<T>,
    pool: Pool,
}

impl<T> PostgresSink<T> {
    /// Connects to the database of this URL with the default settings of [`Postgres`].
    ///
    /// # Cancel safety
    ///
    /// As [`Postgres::open`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(url: impl AsRef<str>, table: Table<T>) -> Result<Self, OpenError> {
        Self::open_with(Postgres::url(url), table).await
    }

    pub(super) async fn open_with(settings: Postgres, table: Table<T>) -> Result<Self, OpenError> {
        let pool = open::open(&settings, &table).await?;
        Ok(Self { table, pool })
    }
}

impl<T: Send + 'static> Sink<T> for PostgresSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let mut connection = self.pool.take().await?;
        let plan = &self.pool.plan;
        for (i, error) in connection.rows.fill(&self.table, &plan.fields, batch)? {
            batch.refuse(i, error);
        }
        if connection.rows.len() == 0 {
            return batch.settled();
        }
        connection.begin();
        let written = writer::write(&mut connection, plan).await;
        match written {
            Ok(failed) => {
                connection.sound();
                for (row, error) in failed {
                    batch.refuse(connection.rows.op(row), error);
                }
                Ok(batch.accept_all())
            }
            Err(fault) => {
                // What may be better next time may be so because of another connection.
                if fault.kind == ErrorKind::Refused && connection.rolled_back().await {
                    connection.sound();
                }
                Err(fault.into())
            }
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.pool.close().await;
        Ok(())
    }
}

impl<T> fmt::Debug for PostgresSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink").field("table", &self.table).finish_non_exhaustive()
    }
}
