//! [`Connection`]: a session with the prepared statements of one table and the buffer of one batch. It writes a range
//! of rows in as few round trips as possible. The writer calls it, one batch at a time.

use std::{
    ops::Range,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

use bytes::Bytes;
use futures::{
    SinkExt,
    future::{OptionFuture, join},
    poll,
};
use tokio_postgres::{CopyInSink, Error, Row, Statement, error::SqlState, types::ToSql};

use super::{
    classify::{ClassifiedError, classify},
    plan::{Bulk, Plan},
    rows::Rows,
    session::Session,
    watch::{Change, Watch, changed},
};
use crate::sink::{
    ErrorKind,
    table::classified::{Phase, Scope},
};

/// Header and trailer of the binary format of COPY.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TAIL: &[u8] = &[0xff; 2];

/// Bytes passed to the socket at once.
const CHUNK: usize = 64 << 10;

/// Single-row statements sent before the first answer is awaited. More gain nothing, and their answers would pile up.
const AHEAD: usize = 256;

/// A session with the statements of one table and the buffer of the batch that it writes. Statements are prepared once,
/// if the session has a server process to itself. Otherwise nothing outlives a transaction: a pooler may hand each to
/// another process, where a statement's name can belong to another client.
pub(super) struct Connection {
    pub(super) session: Session,
    /// None in a session that may share its process.
    unnest: Option<Statement>,
    bulk: Option<Prepared>,
    /// Set when the client library counts one answer too few, as after a COPY that did not begin. The answer that it
    /// reports for a statement is then that of the statement before.
    out_of_step: AtomicBool,
    pub(super) rows: Rows,
}

struct Prepared {
    copy: Statement,
    merge: Option<Statement>,
    watch: Option<Statement>,
}

impl Connection {
    pub(super) async fn prepare(mut session: Session, plan: &Plan) -> Result<Self, Error> {
        session.begin();
        let unnest = match session.is_own() {
            true => session.client().prepare_typed(&plan.unnest, &plan.arrays).await.map(Some),
            false => Ok(None),
        };
        session.rest();
        Ok(Self { session, unnest: unnest?, bulk: None, out_of_step: AtomicBool::new(false), rows: Rows::default() })
    }

    /// Whether the rows must come in smaller batches: only COPY would take their bytes, and it is not available.
    pub(super) fn is_too_large(&self, plan: &Plan) -> bool {
        plan.is_too_large(self.rows.len(), self.rows.size(), self.unnest.is_some())
    }

    /// Whether it has been made ready for large batches.
    pub(super) fn has_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    /// Runs statements without any row.
    pub(super) async fn control(&self, statements: &str, phase: Phase) -> Result<(), ClassifiedError> {
        self.session.client().batch_execute(statements).await.map_err(|error| classify(phase, error))
    }

    /// Whether a transaction that may be open is rolled back.
    pub(super) async fn rolled_back(&self) -> bool {
        !self.is_out_of_step() && self.session.client().batch_execute("ROLLBACK").await.is_ok()
    }

    fn is_out_of_step(&self) -> bool {
        self.out_of_step.load(Ordering::Relaxed)
    }

    /// Prepares what this batch needs and has not been used yet. Not inside a transaction, since one that has failed
    /// prepares nothing.
    pub(super) async fn ready(&mut self, plan: &Plan) -> Result<(), ClassifiedError> {
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
            let watch = OptionFuture::from(bulk.watch.as_ref().map(|_| client.prepare(Watch::SQL))).await;
            Ok(Prepared { copy: client.prepare(&bulk.copy).await?, merge, watch: watch.transpose()? })
        };
        self.bulk = Some(prepare.await.map_err(in_statement)?);
        Ok(())
    }

    /// Runs the statements of `before` and writes the rows, in as few round trips as possible. Returns whether the rows
    /// wait for a COMMIT. They do not after a BEGIN that was canceled from outside: the rows were a transaction of
    /// their own, and have landed.
    pub(super) async fn insert(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, ClassifiedError> {
        let bytes = self.rows.bytes(rows.clone());
        let bulk = plan.bulk_for(rows.len(), bytes.len()).zip(self.bulk.as_ref());
        let written = match bulk.filter(|_| !plan.is_barred()) {
            Some((bulk, prepared)) => return self.copy(plan, bulk, prepared, before, bytes).await,
            None if plan.one_by_one || plan.is_barred() => self.each(plan, before, rows).await,
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
                let mut statement = Box::pin(self.statement(plan, row..row + 1));
                // The first poll sends it.
                match poll!(&mut statement) {
                    Poll::Ready(done) => {
                        done?;
                    }
                    Poll::Pending => sent.push(statement),
                }
            }
            // In their order, so that the error is that of the row, and not of a later one.
            for statement in sent {
                statement.await?;
            }
        }
        Ok(true)
    }

    async fn unnest(&self, plan: &Plan, before: &str, rows: Range<usize>) -> Result<bool, Error> {
        // Polled in this order, so they leave in this order, and the first is not waited for.
        let (begun, written) = join(self.session.client().batch_execute(before), self.statement(plan, rows)).await;
        written?;
        Ok(begun.is_ok())
    }

    /// Sends the statement that takes arrays.
    async fn statement(&self, plan: &Plan, rows: Range<usize>) -> Result<u64, Error> {
        let client = self.session.client();
        let arrays = plan.fields.iter().enumerate().map(|(i, field)| self.rows.array(field, i, rows.clone()));
        if let Some(unnest) = &self.unnest {
            return client.execute_raw(unnest, arrays).await;
        }
        let arrays: Vec<_> = arrays.collect();
        let typed = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).zip(plan.arrays.iter().cloned());
        let typed: Vec<_> = typed.collect();
        // Parsed and executed in one exchange.
        client.execute_typed(&plan.unnest, &typed).await
    }

    async fn copy(
        &self,
        plan: &Plan,
        bulk: &Bulk,
        prepared: &Prepared,
        before: &str,
        rows: Bytes,
    ) -> Result<bool, ClassifiedError> {
        let change = match (self.copied(bulk, prepared, before, rows).await, &bulk.watch) {
            (Ok(Some(now)), Some(watch)) => watch.change(&now),
            (Ok(_), _) => Change::None,
            // Policies are refused by COPY itself.
            (Err(error), Some(_)) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => Change::Guarded,
            (Err(error), _) if self.is_out_of_step() => return Err(not_begun(in_statement(error))),
            (Err(error), _) => return Err(in_statement(error)),
        };
        match change {
            Change::None => return Ok(true),
            Change::Guarded => plan.bar(),
            Change::Shape => {}
        }
        Err(changed(change))
    }

    /// Writes rows by COPY, and returns what is to be seen of the table then.
    async fn copied(&self, bulk: &Bulk, prepared: &Prepared, before: &str, rows: Bytes) -> Result<Option<Row>, Error> {
        let client = self.session.client();
        let (begun, copying) = join(client.batch_execute(before), client.copy_in(&prepared.copy)).await;
        if copying.is_err() {
            self.out_of_step.store(true, Ordering::Relaxed);
        }
        let mut copying: std::pin::Pin<&mut CopyInSink<Bytes>> = pin!(copying?);
        begun?;
        copying.as_mut().feed(Bytes::from_static(COPY_HEAD)).await?;
        for start in (0..rows.len()).step_by(CHUNK) {
            copying.as_mut().feed(rows.slice(start..rows.len().min(start + CHUNK))).await?;
        }
        copying.as_mut().feed(Bytes::from_static(COPY_TAIL)).await?;
        let watch = bulk.watch.as_ref().zip(prepared.watch.as_ref());
        let look = watch.map(|(watch, statement)| async move {
            client.query_opt(statement, &[&watch.table, &watch.columns]).await
        });
        // In one round trip.
        let (copied, seen) = join(copying.finish(), OptionFuture::from(look)).await;
        copied?;
        if let Some(merge) = &prepared.merge {
            client.execute(merge, &[]).await?;
        }
        Ok(seen.transpose()?.flatten())
    }
}

fn in_statement(error: Error) -> ClassifiedError {
    classify(Phase::Statement, error)
}

/// A COPY that did not begin has met no row.
fn not_begun(classified: ClassifiedError) -> ClassifiedError {
    match classified.scope {
        Scope::Batch => classified,
        Scope::Row => ClassifiedError { scope: Scope::Batch, kind: ErrorKind::Transient, ..classified },
    }
}
