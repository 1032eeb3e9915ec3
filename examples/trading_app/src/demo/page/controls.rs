//! The buttons of the page: [`Controls`] runs a [`Command`] and returns a sentence for its sender. The board calls it for each request.
//!
//! Invariant: commands are executed one at a time, flushes aside, and none after [`Controls::end`].

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use roundlot::Closed;
use roundlot_board::{Action, Command, Control, flushed};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    bot::{
        Error,
        batchers::Batchers,
        kill_switch::{Counts, KillSwitch, SharedCounts},
        orders::{Ended, Unwithdrawn},
    },
    demo::{format, progress::Progress},
};

/// Maximum time until the answer to a button: two seconds, since a person waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A batcher of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Prices,
    Orders,
    Trades,
}

/// The controls. A clone controls the same batchers.
#[derive(Clone)]
pub struct Controls {
    batchers: Batchers,
    switch: KillSwitch,
    progress: Progress,
    /// Lock that a command holds while it is executed.
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whether orders were paused or withdrawn, and not resumed. `Stats` show a pause later, once the batcher has seen
    /// it.
    orders_held: bool,
    ended: bool,
}

impl Controls {
    pub fn new(batchers: Batchers, switch: KillSwitch, progress: Progress) -> Self {
        // A pause of an earlier run is in the log.
        let state = State { orders_held: batchers.orders.stats().paused, ended: false };
        Self { batchers, switch, progress, state: Arc::new(Mutex::new(state)) }
    }

    async fn push(&self, action: Action, batcher: Target) -> Result<String, String> {
        let mut state = self.state.lock().await;
        if state.ended {
            return Err("the app is stopping".to_owned());
        }
        let answer = match (action, batcher) {
            // A flush may take long, and delays no other command.
            (Action::Flush, batcher) => {
                drop(state);
                return self.flush(batcher).await;
            }
            (Action::Pause, batcher) => {
                state.orders_held |= batcher == Target::Orders;
                self.pause(batcher).await.map_err(failed)?;
                format!("{} paused: what comes waits", batcher.name())
            }
            (Action::Resume, batcher) => {
                if batcher == Target::Orders {
                    if self.switch.halt().is_halted() && !self.batchers.orders.is_shared() {
                        // Orders that were sent while the bot was halted must not leave at the resume.
                        self.switch.withdraw(&SharedCounts::default()).await.map_err(failed)?;
                    }
                    state.orders_held = false;
                    self.switch.halt().lift();
                }
                self.resume(batcher).await.map_err(failed)?;
                format!("{} resumed", batcher.name())
            }
            (Action::Withdraw, Target::Orders) => {
                state.orders_held = true;
                let counts = self.kill().await.map_err(failed)?;
                format!("{}. The bot is halted until orders are resumed", described(&counts))
            }
            _ => return Err("only orders can be withdrawn".to_owned()),
        };
        tracing::warn!(what = ?action, batcher = batcher.name(), "a button of the page was pushed");
        Ok(answer)
    }

    async fn pause(&self, batcher: Target) -> Result<(), Error> {
        match batcher {
            Target::Prices => self.batchers.prices.pause().await?,
            Target::Orders => self.batchers.orders.pause().await?,
            Target::Trades => self.batchers.trades.pause().await?,
        }
        Ok(())
    }

    async fn resume(&self, batcher: Target) -> Result<(), Error> {
        match batcher {
            Target::Prices => self.batchers.prices.resume().await?,
            Target::Orders => self.batchers.orders.resume().await?,
            Target::Trades => self.batchers.trades.resume().await?,
        }
        Ok(())
    }

    async fn flush(&self, batcher: Target) -> Result<String, String> {
        let flush = async {
            let outcomes = match batcher {
                Target::Prices => self.batchers.prices.flush().await?.outcomes,
                Target::Orders => self.batchers.orders.flush().await?,
                Target::Trades => self.batchers.trades.flush().await?.outcomes,
            };
            Ok::<_, Error>(outcomes)
        };
        match timeout(PATIENCE, flush).await {
            Ok(Ok(outcomes)) => Ok(flushed(batcher.name(), &outcomes)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Ok(format!("{} will be flushed as soon as they can be; not done yet", batcher.name())),
        }
    }

    /// Pulls the kill switch and returns its counts. If the venue is slow, returns early: the pull goes on in a task,
    /// which prints the counts at its end.
    async fn kill(&self) -> Result<Counts, Error> {
        let counts = SharedCounts::default();
        let (switch, shared, progress) = (self.switch.clone(), counts.clone(), self.progress.clone());
        let mut pull = tokio::spawn(async move { switch.pull(&shared).await });
        match timeout(PATIENCE, &mut pull).await {
            Ok(Ok(result)) => result?,
            // The task panicked: its counts so far are all that is known.
            Ok(Err(_)) => {}
            Err(_) => {
                let shared = counts.clone();
                tokio::spawn(async move {
                    let _ = pull.await;
                    progress.say(&format!("kill switch: {}", described(&shared.counts())));
                });
            }
        }
        Ok(counts.counts())
    }

    /// Resumes all batchers at the end of the run, since a paused one would delay the drain. Orders that were held back
    /// and add risk are withdrawn, not sent at the last moment. Paused orders in a log stay there, for the next run.
    pub async fn end(&self) {
        let mut state = self.state.lock().await;
        if state.ended {
            return;
        }
        state.ended = true;
        let orders = &self.batchers.orders;
        let is_kept = orders.is_shared() || (orders.log_stats().is_some() && !self.switch.halt().is_halted());
        if state.orders_held && !is_kept {
            // A pull that is under way ends first, unless the venue hangs.
            let _ = timeout(PATIENCE, self.switch.idle()).await;
            let counts = SharedCounts::default();
            let done = self.switch.withdraw(&counts).await;
            if let (Ok(()), withdrawn @ 1..) = (done, counts.counts().withdrawn) {
                self.progress.say(&format!("{} orders that were held back are withdrawn", format::count(withdrawn)));
            }
        }
        for batcher in Target::ALL {
            if batcher == Target::Orders && is_kept {
                continue;
            }
            // A batcher that has ended by itself has nothing to resume.
            let _ = self.resume(batcher).await;
        }
    }
}

impl Control for Controls {
    fn execute(&self, Command { action, batcher, .. }: Command) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let target = Target::ALL.into_iter().find(|target| target.name() == batcher);
            self.push(action, target.ok_or("there is no such batcher")?).await
        })
    }

    fn is_halted(&self, batcher: &str) -> bool {
        batcher == Target::Orders.name() && self.switch.halt().is_halted()
    }
}

/// Says why a command was not executed: a batcher has ended, or the venue can't be asked.
fn failed(error: Error) -> String {
    match error.is::<Closed>() || error.is::<Ended>() || error.is::<Unwithdrawn>() {
        true => "the app is stopping".to_owned(),
        false => error.to_string(),
    }
}

impl Target {
    const ALL: [Self; 3] = [Self::Prices, Self::Orders, Self::Trades];

    fn name(self) -> &'static str {
        match self {
            Self::Prices => "prices",
            Self::Orders => "orders",
            Self::Trades => "trades",
        }
    }
}

/// Describes the counts of a pull in a sentence.
fn described(counts: &Counts) -> String {
    let [withdrawn, changes, reducing] = [counts.withdrawn, counts.changes, counts.reducing].map(format::count);
    let [canceled, failed, kept] = [counts.canceled, counts.failed, counts.kept].map(format::count);
    let end = match counts.done {
        true => format!(", {failed} failed; {kept} that reduce stay there"),
        false => " so far: it has not answered all, and this goes on".to_owned(),
    };
    if counts.paused_all {
        return format!(
            "all bots of the log are paused, and their orders wait; {canceled} orders canceled at the venue{end}"
        );
    }
    format!(
        "{withdrawn} waiting orders withdrawn; let go: {changes} cancels and moved stops, {reducing} orders that reduce; \
         {canceled} orders canceled at the venue{end}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_switch_response_has_all_counts_and_its_state() {
        let counts =
            Counts { withdrawn: 1234, changes: 2, reducing: 1, canceled: 3, failed: 4, kept: 5, ..Counts::default() };
        let counts = Counts { done: true, ..counts };
        let expected = "1,234 waiting orders withdrawn; let go: 2 cancels and moved stops, 1 orders that reduce; \
                        3 orders canceled at the venue, 4 failed; 5 that reduce stay there";
        assert_eq!(described(&counts), expected);
        let all = described(&Counts { paused_all: true, ..counts.clone() });
        assert!(
            all.starts_with("all bots of the log are paused") && all.ends_with("; 5 that reduce stay there"),
            "{all}"
        );
        let unfinished = described(&Counts { done: false, ..counts });
        let end = "3 orders canceled at the venue so far: it has not answered all, and this goes on";
        assert!(unfinished.ends_with(end), "{unfinished}");
    }
}
