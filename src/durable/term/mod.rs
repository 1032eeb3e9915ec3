//! The leader of a shard: a task that begins a term, reads all that the log holds, and runs the ops through an accumulator of
//! this crate until it leaves or the term ends. `join` spawns one per shard.
//!
//! | file | holds |
//! |---|---|
//! | `running` | the loop of a term |
//! | `recover` | its beginning: what the log holds, and what may have landed |
//! | `intake` | frames and commands |
//! | `settle` | batches that come back, ends, and records that have committed |
//! | `draft` | the next record, and its effects |
//! | `doubts` | intents in the log, and the ops that they put in doubt |
//! | `positions` | what is settled, and where an op is |

mod doubts;
mod draft;
mod intake;
mod positions;
mod recover;
mod running;
mod settle;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    builder::OnUndecodable,
    command::Command,
    error::JoinError,
    log::{Answer, LogError},
    shared::Shared,
    step::Step,
};
use crate::{
    rules::{config::retry::Retry, panics, stage::Stages},
    sink::Sink,
};
use draft::Effects;
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
}

/// State that a leader keeps from term to term.
pub(crate) struct Account<T, R> {
    /// The position up to which ops are counted. `None` before the first term.
    counted_to: Option<u64>,
    /// Positions below that one whose permits the leader has not released.
    unreleased: usize,
    /// Positions that are read and not settled.
    open: usize,
    /// The effects of a record whose commit has no known result.
    unknown: Option<Effects<T, R>>,
}

impl<T, R> Account<T, R> {
    pub(crate) fn new() -> Self {
        Self { counted_to: None, unreleased: 0, open: 0, unknown: None }
    }
}

/// The pause before another term or another request to the log, from the first to the longest.
pub(crate) const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Why a term ended.
#[derive(Debug)]
enum TermEnd {
    /// The process leaves the log.
    Left,
    /// Another term may begin.
    Again(String),
    /// The log is closed.
    Closed,
    /// The log holds what this process can't read.
    Unreadable(String),
}

impl From<LogError> for TermEnd {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Closed => Self::Closed,
            LogError::Damaged(why) => Self::Unreadable(why),
            error => Self::Again(error.to_string()),
        }
    }
}

/// Repeats a request that changes nothing until the log answers it, or the time to leave is over.
async fn ask<'a, V>(abort: &CancellationToken, request: impl Fn() -> Answer<'a, V>) -> Result<V, TermEnd> {
    let mut pause = PAUSE.0;
    loop {
        match request().await {
            Err(error) if error.is_passing() => tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                () = abort.cancelled() => return Err(error.into()),
            },
            result => return Ok(result?),
        }
    }
}

/// The recipe of the stages, called once per term.
pub(crate) type Recipe<T> = Arc<dyn Fn() -> Stages<T> + Send + Sync>;

/// The parts that a leader is given once, and keeps over its terms.
pub(crate) struct Leader<T, R> {
    pub(crate) shared: Arc<Shared<T, R>>,
    pub(crate) shard: u16,
    pub(crate) recipe: Recipe<T>,
    pub(crate) retry: Retry,
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
    /// Runs terms until the process leaves. `ready` is told how the first one began.
    pub(crate) async fn run<S: Sink<T, R>>(
        mut self,
        sink: impl Fn(Term) -> S + Send,
        ready: oneshot::Sender<Result<(), JoinError>>,
    ) {
        // A leader that panics must not leave callers waiting.
        let _detach = DetachOnDrop(Arc::clone(&self.shared));
        let (mut ready, mut pause) = (Some(ready), PAUSE.0);
        while !self.commands.is_closed() {
            let ran = AssertUnwindSafe(self.term(&sink, &mut ready)).catch_unwind().await;
            self.shared.shard(self.shard).stats().leads = false;
            let end = ran.unwrap_or_else(|panic| TermEnd::Again(format!("it panicked: {}", panics::message(&*panic))));
            let (name, shard) = (&self.shared.name, self.shard);
            match end {
                TermEnd::Left => {
                    info!(batcher = %name, shard, "left the log");
                    break;
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
                TermEnd::Again(why) => {
                    tell(&mut ready, JoinError::Open(why.clone()));
                    warn!(batcher = %name, shard, why, "the term has ended");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
            }
        }
    }

    async fn term<S: Sink<T, R>>(
        &mut self,
        sink: &(impl Fn(Term) -> S + Send),
        ready: &mut Option<oneshot::Sender<Result<(), JoinError>>>,
    ) -> TermEnd {
        let frames = self.shared.log.follow(self.shard);
        Step::Term.before();
        let state = match self.shared.log.begin(self.shard).await {
            Ok(state) => state,
            Err(error) => return error.into(),
        };
        Step::Term.after();
        let term = Term { name: Arc::clone(&self.shared.name), shard: self.shard, epoch: state.epoch };
        info!(batcher = %term.name, shard = term.shard, epoch = term.epoch, "a term begins");
        let mut running = Running::new(self, sink(term), frames, &state);
        let end = match running.recover(state).await {
            Ok(()) => {
                if let Some(ready) = ready.take() {
                    // A caller that gave up on joining drops the batcher, which then leaves.
                    let _ = ready.send(Ok(()));
                }
                running.run().await
            }
            Err(end) => end,
        };
        running.wind_down().await;
        end
    }
}

/// Tells the caller of `join` why the first term did not begin.
fn tell(ready: &mut Option<oneshot::Sender<Result<(), JoinError>>>, error: JoinError) {
    if let Some(ready) = ready.take() {
        let _ = ready.send(Err(error));
    }
}

/// Ends what callers wait for when a leader is gone.
struct DetachOnDrop<T, R>(Arc<Shared<T, R>>);

impl<T, R> Drop for DetachOnDrop<T, R> {
    fn drop(&mut self) {
        self.0.permits.close();
        self.0.waiters.detach_all();
    }
}
