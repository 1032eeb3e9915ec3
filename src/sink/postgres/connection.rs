//! One connection: in come a range of rows and what is to happen before them, out goes whether the server took them.
//! Next room: `session`.

use std::{ops::Range, pin::pin, task::Poll};

use bytes::Bytes;
use futures::{SinkExt, future::join, poll};
use tokio_postgres::{CopyInSink, Error, Statement};

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

/// Statements of one row each that are sent before the answer to the first of them is waited for. More gain nothing, and
/// their answers would pile up.
const AHEAD: usize = 256;

/// A session with the statements of one table, prepared once, and the buffer of the batch that it writes.
pub(super) struct Connection {
    pub(super) session: Session,
    unnest: Statement,
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
        let unnest = session.client().prepare_typed(&plan.unnest, &plan.arrays).await;
        session.rest();
        Ok(Self { session, unnest: unnest?, bulk: None, rows: Rows::default() })
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
        if self.bulk.is_some() {
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
            None if plan.one_by_one => self.each(plan, before, rows).await,
            None => self.unnest(plan, before, rows).await,
        };
        written.map_err(in_statement)
    }

    /// Writes each row by a statement of its own.
    async fn each(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, Error> {
        let client = self.session.client();
        // Waited for: were it canceled, the rows would land one by one.
        client.batch_execute(before).await?;
        for first in rows.clone().step_by(AHEAD) {
            let mut sent = Vec::with_capacity(AHEAD);
            for row in first..rows.end.min(first + AHEAD) {
                let arrays =
                    plan.fields.iter().enumerate().map(move |(i, field)| self.rows.array(field, i, row..row + 1));
                let mut statement = Box::pin(client.execute_raw(&self.unnest, arrays));
                // The first poll sends it.
                match poll!(&mut statement) {
                    Poll::Ready(done) => {
                        done?;
                    }
                    Poll::Pending => sent.push(statement),
                }
            }
            // In their order, so that the error is that of the row, and not of those after it.
            for statement in sent {
                statement.await?;
            }
        }
        Ok(true)
    }

    async fn unnest(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, Error> {
        let client = self.session.client();
        let arrays = plan.fields.iter().enumerate().map(|(i, field)| self.rows.array(field, i, rows.clone()));
        // Polled in this order, so they leave in this order, and the first is not waited for.
        let (begun, written) = join(client.batch_execute(before), client.execute_raw(&self.unnest, arrays)).await;
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
