//! What the buttons do: commands to the batchers and the kill switch, and a sentence for whoever pushed. `server` calls
//! it for each command.

use std::{sync::Arc, time::Duration};

use roundlot::{Closed, FlushReport};
use serde::Deserialize;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    desks::Desks,
    kill::{Counts, KillSwitch, Tally},
    numbers,
    progress::Progress,
};

/// Nobody waits longer than this for the answer to a button.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    #[serde(rename = "do")]
    what: What,
    desk: Desk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Pause,
    Resume,
    Flush,
    Withdraw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Desk {
    Prices,
    Orders,
    Trades,
}

/// A clone controls the same batchers.
#[derive(Clone)]
pub struct Controls {
    desks: Desks,
    switch: KillSwitch,
    progress: Progress,
    /// Locked while a wish is fulfilled, so that none comes after the end.
    held: Arc<Mutex<Held>>,
}

/// What was wished for so far. A batcher's own statistics tell of a pause when it has heard of it, which is a bit later.
#[derive(Default)]
struct Held {
    orders: bool,
    ended: bool,
}

impl Controls {
    pub fn new(desks: Desks, switch: KillSwitch, progress: Progress) -> Self {
        Self { desks, switch, progress, held: Arc::default() }
    }

    /// Fulfills a wish, or says why not.
    pub async fn fulfill(&self, wish: Wish) -> Result<String, String> {
        let mut held = self.held.lock().await;
        if held.ended {
            return Err("the app is stopping".to_owned());
        }
        let said = match (wish.what, wish.desk) {
            // It may take as long as it wants, and holds nothing up.
            (What::Flush, desk) => {
                drop(held);
                return self.flush(desk).await;
            }
            (What::Pause, desk) => {
                held.orders |= desk == Desk::Orders;
                self.pause(desk).await.map_err(stopping)?;
                format!("{} paused: what comes waits", desk.name())
            }
            (What::Resume, desk) => {
                if desk == Desk::Orders {
                    if self.switch.halt().is_halted() {
                        // What was handed in while the bot was halted was not wanted then.
                        self.switch.withdraw(&Tally::default()).await.map_err(stopping)?;
                    }
                    held.orders = false;
                    self.switch.halt().lift();
                }
                self.resume(desk).await.map_err(stopping)?;
                format!("{} resumed", desk.name())
            }
            (What::Withdraw, Desk::Orders) => {
                held.orders = true;
                format!("{}. The bot is halted until orders are resumed", self.kill().await.map_err(stopping)?)
            }
            (What::Withdraw, _) => return Err("only orders can be withdrawn".to_owned()),
        };
        tracing::warn!(what = ?wish.what, desk = wish.desk.name(), "a button of the page was pushed");
        Ok(said)
    }

    async fn pause(&self, desk: Desk) -> Result<(), Closed> {
        match desk {
            Desk::Prices => self.desks.prices.pause().await,
            Desk::Orders => self.desks.orders.pause().await,
            Desk::Trades => self.desks.trades.pause().await,
        }
    }

    async fn resume(&self, desk: Desk) -> Result<(), Closed> {
        match desk {
            Desk::Prices => self.desks.prices.resume().await,
            Desk::Orders => self.desks.orders.resume().await,
            Desk::Trades => self.desks.trades.resume().await,
        }
    }

    async fn flush(&self, desk: Desk) -> Result<String, String> {
        let flush = async {
            match desk {
                Desk::Prices => self.desks.prices.flush().await,
                Desk::Orders => self.desks.orders.flush().await,
                Desk::Trades => self.desks.trades.flush().await,
            }
        };
        match timeout(PATIENCE, flush).await {
            Ok(Ok(report)) => Ok(flushed(desk, &report)),
            Ok(Err(_)) => Err("the app is stopping".to_owned()),
            Err(_) => Ok(format!("{} will be flushed as soon as they can be; not done yet", desk.name())),
        }
    }

    /// Pulls the kill switch, and says what it has come to. A venue that takes its time is not waited for: the switch goes
    /// on by itself, and says at its end what it has come to then.
    async fn kill(&self) -> Result<Counts, Closed> {
        let tally = Tally::default();
        let (switch, counted, progress) = (self.switch.clone(), tally.clone(), self.progress.clone());
        let mut pulled = tokio::spawn(async move { switch.pull(&counted).await });
        match timeout(PATIENCE, &mut pulled).await {
            Ok(Ok(result)) => result?,
            // It panicked: what it has counted is all there is to say.
            Ok(Err(_)) => {}
            Err(_) => {
                let counted = tally.clone();
                tokio::spawn(async move {
                    let _ = pulled.await;
                    progress.say(&format!("kill switch: {}", counted.counts()));
                });
            }
        }
        Ok(tally.counts())
    }

    /// The run is over. A batcher that is paused would wait for somebody to resume it as long as the drain may take. Orders
    /// that were held back from the venue and add risk are withdrawn, not sent at the last moment. All else is written.
    pub async fn end(&self) {
        let mut held = self.held.lock().await;
        if held.ended {
            return;
        }
        held.ended = true;
        if held.orders {
            // A switch that is being pulled ends first, unless the venue hangs.
            let _ = timeout(PATIENCE, self.switch.quiet()).await;
            let tally = Tally::default();
            let done = self.switch.withdraw(&tally).await;
            if let (Ok(()), gone @ 1..) = (done, tally.counts().withdrawn) {
                self.progress.say(&format!("{} orders that were held back are withdrawn", numbers::count(gone)));
            }
        }
        for desk in [Desk::Prices, Desk::Orders, Desk::Trades] {
            // One that has ended by itself has nothing to resume.
            let _ = self.resume(desk).await;
        }
    }
}

fn stopping(_: Closed) -> String {
    "the app is stopping".to_owned()
}

impl Desk {
    fn name(self) -> &'static str {
        match self {
            Self::Prices => "prices",
            Self::Orders => "orders",
            Self::Trades => "trades",
        }
    }
}

/// What a flush has come to since the last one.
fn flushed(desk: Desk, report: &FlushReport) -> String {
    let failed = report.outcomes.failed();
    let [total, delivered, failed] = [report.total(), report.outcomes.delivered, failed].map(numbers::count);
    format!("{} flushed: of {total} since the last flush {delivered} delivered, {failed} failed", desk.name())
}
