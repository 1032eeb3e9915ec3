//! What the buttons do. In come wishes, out go commands to the batchers and a sentence for whoever pushed.

use std::{sync::Arc, time::Duration};

use roundlot::{Closed, FlushReport};
use serde::Deserialize;
use tokio::{sync::Mutex, time::timeout};

use crate::{desks::Desks, halt::Halt, numbers, progress::Progress};

/// Nobody waits longer than this for the answer to a button.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the kill switch waits for the bot's last decision. Only a venue that hangs keeps it for longer.
const LAST_DECISION: Duration = Duration::from_millis(500);

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
    halt: Halt,
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
    pub fn new(desks: Desks, halt: Halt, progress: Progress) -> Self {
        Self { desks, halt, progress, held: Arc::default() }
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
                self.pause(desk);
                format!("{} paused: what comes waits", desk.name())
            }
            (What::Resume, desk) => {
                if desk == Desk::Orders {
                    if self.halt.is_halted() {
                        // What was on its way when the switch was pushed may have come back to be tried again.
                        self.desks.orders.withdraw(|_| true).await.map_err(|_| "the app is stopping".to_owned())?;
                    }
                    held.orders = false;
                    self.halt.lift();
                }
                self.resume(desk);
                format!("{} resumed", desk.name())
            }
            (What::Withdraw, Desk::Orders) => {
                held.orders = true;
                let gone = self.kill().await.map_err(|_| "the app is stopping".to_owned())?;
                format!("{} waiting orders withdrawn; the bot is halted until orders are resumed", numbers::count(gone))
            }
            (What::Withdraw, _) => return Err("only orders can be withdrawn".to_owned()),
        };
        tracing::warn!(what = ?wish.what, desk = wish.desk.name(), "a button of the page was pushed");
        Ok(said)
    }

    fn pause(&self, desk: Desk) {
        match desk {
            Desk::Prices => self.desks.prices.pause(),
            Desk::Orders => self.desks.orders.pause(),
            Desk::Trades => self.desks.trades.pause(),
        }
    }

    fn resume(&self, desk: Desk) {
        match desk {
            Desk::Prices => self.desks.prices.resume(),
            Desk::Orders => self.desks.orders.resume(),
            Desk::Trades => self.desks.trades.resume(),
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

    /// Nothing that waits for the venue leaves any more, and nothing new is decided. The bot is halted first, and what
    /// it was just handing in is waited for: otherwise it would fill the buffer again at the next price. The desk is
    /// paused, so that what is on its way and fails is not tried again.
    async fn kill(&self) -> Result<u64, Closed> {
        self.halt.halt();
        self.desks.orders.pause();
        // This makes room, without which the last decision could not be handed in.
        let mut gone = self.desks.orders.withdraw(|_| true).await?.len();
        let _ = timeout(LAST_DECISION, self.halt.quiet()).await;
        gone += self.desks.orders.withdraw(|_| true).await?.len();
        Ok(gone as u64)
    }

    /// The run is over. A batcher that is paused would wait for somebody to resume it as long as the drain may take. What
    /// somebody has held back from the venue is not sent behind their back: it is withdrawn. All else is written.
    pub async fn end(&self) {
        let mut held = self.held.lock().await;
        if held.ended {
            return;
        }
        held.ended = true;
        if held.orders
            && let Ok(gone @ 1..) = self.kill().await
        {
            self.progress.say(&format!("{} orders that were held back are withdrawn", numbers::count(gone)));
        }
        for desk in [Desk::Prices, Desk::Orders, Desk::Trades] {
            self.resume(desk);
        }
    }
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
    let failed = report.refused + report.in_doubt + report.evicted + report.returned + report.lost;
    let [total, delivered, failed] = [report.total(), report.delivered, failed].map(numbers::count);
    format!("{} flushed: of {total} since the last flush {delivered} delivered, {failed} failed", desk.name())
}
