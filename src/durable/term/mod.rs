//! The leader of a shard: a task that begins a term, reads all that the log holds, and runs the ops through an accumulator of
//! this crate until it leaves or the term ends. `join` spawns one per shard.
//!
//! | file | holds |
//! |---|---|
//! | `ask` | requests that are repeated until the log answers |
//! | `following` | the time in which another process leads |
//! | `sent` | ops of this process meanwhile |
//! | `account` | what is kept from term to term |
//! | `handover` | from following to leading and back |
//! | `running` | the loop of a term |
//! | `upkeep` | compaction, and outcomes that are forgotten |
//! | `recover` | its beginning: what the log holds, and what may have landed |
//! | `found` | what an earlier term may have written |
//! | `intake` | frames |
//! | `commands` | commands of handles |
//! | `end` | why a term ends, and how its writes do |
//! | `requests` | requests of other processes to withdraw ops |
//! | `settle` | batches that come back, ends, and records that have committed |
//! | `outgoing` | batches on their way out |
//! | `lent` | a batch on its way through a transaction |
//! | `ledger` | a batch in a transaction of a ledger |
//! | `draft` | the next record, and its effects |
//! | `doubts` | intents in the log, and the ops that they put in doubt |
//! | `kept` | frames that hold ops which are not settled |
//! | `quota` | what was drawn from it |
//! | `wall` | whether the wall clock can be trusted |
//! | `flagged` | ids that may be repeats, of which the log forgets nothing |
//! | `positions` | what is settled, and where an op is |

mod account;
mod ask;
mod commands;
mod doubts;
mod draft;
mod end;
mod flagged;
mod following;
mod found;
mod handover;
mod intake;
mod kept;
#[cfg(feature = "postgres")]
mod ledger;
mod lent;
mod outgoing;
mod positions;
mod quota;
mod recover;
mod requests;
mod running;
mod sent;
mod settle;
mod upkeep;
mod wall;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    command::Command,
    error::JoinError,
    log::{LogError, StoredFrame, lead::Lead},
    meter,
    settings::OnUndecodable,
    shared::Shared,
    step::Step,
};
#[cfg(doc)]
use crate::sink::{ErrorKind, Guarantee};
use crate::{
    durable::transaction::Transaction,
    rules::{
        batch::{Batch, Settled, SinkError},
        config::retry::Retry,
        panics,
        stage::Stages,
    },
    sink::Sink,
};
pub(crate) use account::Account;
use ask::ask;
use end::TermEnd;
use handover::Arrivals;
use lent::Lent;
pub(crate) use quota::QuotaRecipe;
use running::Running;

/// A term: the time in which one process leads a shard of a log. A sink is made for each, which the fence is a birthmark of:
/// when a newer term has begun, nothing of this one is recorded any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Term {
    name: Arc<str>,
    shard: u16,
    epoch: u64,
}

impl Term {
    /// The name of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shard.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Counts the terms of the shard, over all processes.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Writes a batch in a transaction of the log: what `work` writes, and the record that the ops it answers are settled, take
    /// effect together or not at all. A sink that writes all it accepts so is [`Transactional`](Guarantee::Transactional), and
    /// each op takes effect exactly once.
    ///
    /// `work` is called on the thread of the log, and may be called again if the transaction was undone. It answers the ops as
    /// [`Sink::write`] does. An op that it accepts or refuses is settled with the commit; one that it leaves without a verdict
    /// or wants to [`retry`](Batch::retry) is not. An error, also one that is due to time, undoes all that was written and every
    /// verdict. In a [`File`](super::File) SQL is ended after
    /// [`transaction_timeout`](super::Durable::transaction_timeout). **Work that hangs outside of SQL holds up the file.**
    ///
    /// # Errors
    ///
    /// * The error of `work`, or [`Transient`](ErrorKind::Transient) if it panicked or took too long. By one that says
    ///   [`Refused`](ErrorKind::Refused), the batch is halved until the ops that are refused stand alone.
    /// * [`Refused`](ErrorKind::Refused) if what it wrote can't be committed, as by a deferred foreign key.
    /// * [`Fenced`](ErrorKind::Fenced) if a newer term has begun.
    /// * [`Outage`](ErrorKind::Outage) if the shard was paused meanwhile or the log could not store it. Nothing has landed.
    /// * [`Ambiguous`](ErrorKind::Ambiguous) if the commit has no known result. The term ends, and the next one knows.
    /// * [`Outage`](ErrorKind::Outage) if the batch was not lent to a transactional sink: [`Sink::guarantee`] must say so, and
    ///   the batch must be the one that the sink was given, of the types of the durable batcher.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the work may still be done. The batch is empty from then on, and the write should end: the batcher takes the
    /// batch back and knows what has landed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "durable-file")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use roundlot::{Batch, Settled, Sink, SinkError, durable::{Durable, File, Term}, sink::Guarantee};
    ///
    /// /// Adds amounts to a balance, each exactly once.
    /// struct Balance(Term);
    ///
    /// impl Sink<i64> for Balance {
    ///     async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
    ///         let add = |transaction: &mut roundlot::durable::Transaction<'_>, batch: &mut Batch<i64>| {
    ///             let database = transaction.sqlite()?;
    ///             database.execute("CREATE TABLE IF NOT EXISTS balance (amount INTEGER)", [])?;
    ///             let amount: i64 = batch.pending().sum();
    ///             database.execute("INSERT INTO balance VALUES (?1)", [amount])?;
    ///             Ok(batch.accept_all())
    ///         };
    ///         self.0.transaction(batch, add).await
    ///     }
    ///
    ///     fn guarantee(&self) -> Guarantee {
    ///         Guarantee::Transactional
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("balance.db");
    /// let balance = Durable::new("balance", File::at(&path)).sink(Balance).join().await?;
    /// balance.handle().submit(7).await?.await?;
    /// balance.leave().await?;
    /// let database = rusqlite::Connection::open(&path)?;
    /// let amount: i64 = database.query_row("SELECT sum(amount) FROM balance", [], |row| row.get(0))?;
    /// assert_eq!(amount, 7);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "durable-file"))]
    /// # fn main() {}
    /// ```
    pub async fn transaction<T, R, F>(&self, batch: &mut Batch<T, R>, work: F) -> Result<Settled, SinkError>
    where
        T: Send + 'static,
        R: Clone + Send + 'static,
        F: FnMut(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError> + Send + 'static,
    {
        let ticket = batch.ticket_mut().clone();
        match ticket.and_then(|ticket| ticket.downcast::<Lent<T, R>>().ok()) {
            Some(lent) => lent.write(batch, work).await,
            None => Err(SinkError::outage("the batch was not lent to a sink that says it is transactional")),
        }
    }
}

/// The pause before another term or another request to the log, from the first to the longest.
pub(crate) const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The recipe of the stages, called once per term.
pub(crate) type Recipe<T> = Arc<dyn Fn() -> Stages<T> + Send + Sync>;

/// The parts that a leader is given once, and keeps over its terms.
pub(crate) struct Leader<T, R> {
    pub(crate) shared: Arc<Shared<T, R>>,
    pub(crate) shard: u16,
    pub(crate) recipe: Recipe<T>,
    pub(crate) retry: Retry,
    pub(crate) quota: Option<QuotaRecipe<T>>,
    pub(crate) on_undecodable: Option<OnUndecodable>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command<T>>,
    /// Canceled when the process leaves: nothing is cut any more.
    pub(crate) stop: CancellationToken,
    /// Canceled when the time to leave is over: writes are given up.
    pub(crate) abort: CancellationToken,
    pub(crate) account: Account<T, R>,
}

impl<T, R> Leader<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    /// Leads the shard or follows it until the process leaves. `ready` is told how that began.
    pub(crate) async fn run<S: Sink<T, R>>(
        mut self,
        sink: impl Fn(Term) -> S + Send,
        ready: oneshot::Sender<Result<(), JoinError>>,
    ) {
        // A leader that panics must not leave callers waiting.
        let _detach = DetachOnDrop(Arc::clone(&self.shared), self.shard);
        let (mut ready, mut pause) = (Some(ready), PAUSE.0);
        let mut frames = self.shared.log.follow(self.shard);
        let (mut lead, mut unable_until) = (None::<Lead>, None);
        while !self.commands.is_closed() {
            let end = match lead.take() {
                Some(held) => {
                    let ran = AssertUnwindSafe(self.term(&sink, &mut ready, &mut frames, &held)).catch_unwind().await;
                    self.shared.shard(self.shard).stats().leads = false;
                    let end = ran
                        .unwrap_or_else(|panic| TermEnd::Again(format!("it panicked: {}", panics::message(&*panic))));
                    meter::term_ended(&self.shared.name_of(self.shard), end.name());
                    let gives_up = self.gives_up(&end);
                    if let Some(unable) = gives_up.filter(|unable| !unable.is_zero()) {
                        unable_until = Some(Instant::now() + unable);
                    }
                    // Terms that follow each other have the same lead.
                    lead = gives_up.is_none().then_some(held);
                    if gives_up.is_some()
                        && let Some(last) = self.account.last_term.take()
                    {
                        self.hand_over(last);
                    }
                    end
                }
                None => {
                    let began = || {
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(Ok(()));
                        }
                    };
                    match self.follow(&mut frames, unable_until, began).await {
                        Ok(Some(free)) => {
                            lead = Some(free);
                            continue;
                        }
                        Ok(None) => TermEnd::Left,
                        Err(end) => end,
                    }
                }
            };
            let (name, shard) = (&self.shared.name, self.shard);
            match end {
                TermEnd::Left => {
                    info!(batcher = %name, shard, "left the log");
                    break;
                }
                TermEnd::HandedOver => {
                    info!(batcher = %name, shard, "the shard is handed over to another process");
                    pause = PAUSE.0;
                    continue;
                }
                TermEnd::Closed => {
                    tell(&mut ready, JoinError::Open(LogError::Closed.to_string()));
                    error!(batcher = %name, shard, "the log is closed");
                    break;
                }
                TermEnd::Unreadable(why) => {
                    tell(&mut ready, JoinError::Unreadable(why.clone()));
                    error!(batcher = %name, shard, why, "the shard is held: its log can't be read");
                    pause = PAUSE.1;
                }
                TermEnd::Again(why) | TermEnd::Fenced(why) => {
                    tell(&mut ready, JoinError::Open(why.clone()));
                    warn!(batcher = %name, shard, why, "the term has ended");
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
            }
        }
    }

    async fn term<S: Sink<T, R>>(
        &mut self,
        sink: &(impl Fn(Term) -> S + Send),
        ready: &mut Option<oneshot::Sender<Result<(), JoinError>>>,
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
        lead: &Lead,
    ) -> TermEnd {
        Step::Term.before();
        // The log has these frames when the term begins, unless it went back.
        self.account.early.extend(std::iter::from_fn(|| frames.try_recv().ok()));
        let state = match self.shared.log.begin(self.shard).await {
            Ok(state) => state,
            Err(error) => return self.could_not_begin(error),
        };
        Step::Term.after();
        self.account.failed_begins = 0;
        if let Err(end) = self.look_back(state.epoch, state.next) {
            return end;
        }
        let early = match self.take_over(frames, state.next) {
            Ok(early) => early,
            Err(end) => return end,
        };
        let term = Term { name: Arc::clone(&self.shared.name), shard: self.shard, epoch: state.epoch };
        info!(batcher = %term.name, shard = term.shard, epoch = term.epoch, "a term begins");
        let asked_back = lead.asked_back.clone();
        let mut running = Running::new(self, sink(term), Arrivals { frames, early }, asked_back, &state);
        let mut is_recovered = false;
        let end = match running.recover(state).await {
            Ok(()) => {
                is_recovered = true;
                // A caller that has joined sees at once whether the log is paused.
                running.publish();
                // An earlier leader may have left dead letters, and have settled what a flush waits for.
                running.leader.shared.letters.notify_one();
                running.end_flushes();
                if !running.leader.account.flushes.is_empty() {
                    running.accumulator.press();
                }
                if let Some(ready) = ready.take() {
                    // A caller that gave up on joining drops the batcher, which then leaves.
                    let _ = ready.send(Ok(()));
                }
                let Err(end) = running.run().await;
                end
            }
            Err(end) => end,
        };
        running.wind_down().await;
        let last = is_recovered.then(|| running.last_term());
        let early = std::mem::take(&mut running.frames.early);
        self.account.early = early;
        if let Some(last) = last {
            self.account.last_term = Some(last);
        }
        end
    }
}

/// Tells the caller of `join` why the first term did not begin.
fn tell(ready: &mut Option<oneshot::Sender<Result<(), JoinError>>>, error: JoinError) {
    if let Some(ready) = ready.take() {
        let _ = ready.send(Err(error));
    }
}

/// Ends what callers wait for in a shard when its leader is gone.
struct DetachOnDrop<T, R>(Arc<Shared<T, R>>, u16);

impl<T, R> Drop for DetachOnDrop<T, R> {
    fn drop(&mut self) {
        self.0.permits.close();
        self.0.waiters.detach(|id| id.shard() == self.1);
        self.0.shard(self.1).requests.close();
    }
}
