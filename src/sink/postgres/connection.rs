//! One connection: in come a range of rows and what is to happen before them, out goes whether the server took them.
//! Next room: `session`.

use std::{ops::Range, pin::pin};

use bytes::Bytes;
use futures::{SinkExt, future::join};
use tokio_postgres::{CopyInSink, Error, Statement, types::ToSql};

use super::{
    classify::{Fault, classify},
    plan::Plan,
    rows::Rows,
    session::Session,
};
use crate::sink::table::fault::Doing;

/// What the binary format of COPY begins and ends with.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TAIL: &[u8] = &[0xff; 2];

/// How much is handed to the socket at once.
const CHUNK: usize = 64 << 10;

/// A session with the statements of one table and the buffer of the batch that it writes. The statements are prepared
/// once, if the session has a server process to itself. Otherwise nothing outlives a transaction: a pooler may hand each
/// to another process, where the name of a statement can stand for somebody else's.
pub(super) struct Connection {
    pub(super) session: Session,
    /// None in a session that may share its process.
    unnest: Option<Statement>,
    bulk: Option<Prepared>,
    pub(super) rows: Rows,
}

struct Prepared {
    copy: Statement,
    merge: Option<Statement>,
}

impl Connection {
    pub(super) async fn prepare(mut session: Session, plan: &Plan) -> Result<Self, Error> {
        session.begin();
        let unnest = match session.is_own() {
            true => session.client().prepare_typed(&plan.unnest, &plan.arrays).await.map(Some),
            false => Ok(None),
        };
        session.rest();
        Ok(Self { session, unnest: unnest?, bulk: None, rows: Rows::default() })
    }

    /// Whether its rows are to come in smaller batches, since only COPY would take so many bytes and there is none.
    pub(super) fn is_too_large(&self, plan: &Plan) -> bool {
        plan.is_too_large(self.rows.len(), self.rows.size(), self.unnest.is_some())
    }

    /// Whether it has been made ready for large batches.
    pub(super) fn has_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    /// Runs statements that have no row in them.
    pub(super) async fn control(&self, statements: &str, doing: Doing) -> Result<(), Fault> {
        self.session.client().batch_execute(statements).await.map_err(|error| classify(doing, error))
    }

    /// Whether a transaction that may be open is rolled back.
    pub(super) async fn rolled_back(&self) -> bool {
        self.session.client().batch_execute("ROLLBACK").await.is_ok()
    }

    /// Prepares what this batch needs and has not been used yet. Not inside a transaction, since one that has failed
    /// prepares nothing.
    pub(super) async fn ready(&mut self, plan: &Plan) -> Result<(), Fault> {
        // Neither a temporary table nor the name of a statement would be there in the next transaction.
        if self.bulk.is_some() || self.unnest.is_none() {
            return Ok(());
        }
        let Some(bulk) = plan.bulk_for(self.rows.len(), self.rows.size()) else {
            return Ok(());
        };
        let client = self.session.client();
        let prepare = async {
            let merge = match &bulk.stage {
                Some(stage) => {
                    client.batch_execute(&stage.create).await?;
                    Some(client.prepare(&stage.merge).await?)
                }
                None => None,
            };
            Ok(Prepared { copy: client.prepare(&bulk.copy).await?, merge })
        };
        self.bulk = Some(prepare.await.map_err(in_statement)?);
        Ok(())
    }

    /// Runs the statements of `before` and writes the rows, in as few round trips as that takes. Returns whether they
    /// wait for a COMMIT: a BEGIN that was canceled from outside left the rows to be a transaction of their own, and they
    /// have landed.
    pub(super) async fn insert(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, Fault> {
        let bytes = self.rows.bytes(rows.clone());
        let written = match plan.bulk_for(rows.len(), bytes.len()).and(self.bulk.as_ref()) {
            Some(bulk) => self.copy(bulk, before, bytes).await,
            None => self.unnest(plan, before, rows).await,
        };
        written.map_err(in_statement)
    }

    async fn unnest(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, Error> {
        let client = self.session.client();
        let arrays = plan.fields.iter().enumerate().map(|(i, field)| self.rows.array(field, i, rows.clone()));
        // Polled in this order, so they leave in this order, and the first is not waited for.
        let (begun, written) = match &self.unnest {
            Some(unnest) => join(client.batch_execute(before), client.execute_raw(unnest, arrays)).await,
            None => {
                let arrays: Vec<_> = arrays.collect();
                let typed = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).zip(plan.arrays.iter().cloned());
                let typed: Vec<_> = typed.collect();
                // Parsed and executed in one exchange.
                join(client.batch_execute(before), client.execute_typed(&plan.unnest, &typed)).await
            }
        };
        written?;
        Ok(begun.is_ok())
    }

    async fn copy(&self, bulk: &Prepared, before: &str, rows: Bytes) -> Result<bool, Error> {
        let client = self.session.client();
        let (begun, copying) = join(client.batch_execute(before), client.copy_in(&bulk.copy)).await;
        let mut copying: std::pin::Pin<&mut CopyInSink<Bytes>> = pin!(copying?);
        begun?;
        copying.as_mut().feed(Bytes::from_static(COPY_HEAD)).await?;
        for start in (0..rows.len()).step_by(CHUNK) {
            copying.as_mut().feed(rows.slice(start..rows.len().min(start + CHUNK))).await?;
        }
        copying.as_mut().feed(Bytes::from_static(COPY_TAIL)).await?;
        copying.finish().await?;
        if let Some(merge) = &bulk.merge {
            client.execute(merge, &[]).await?;
        }
        Ok(true)
    }
}

fn in_statement(error: Error) -> Fault {
    classify(Doing::Statement, error)
}
