//! The demo's view of a run: [`RunObserver`] feeds the live page, takes the sample for `unbatched`, and sums up the
//! verdicts for the report. `trader` calls it.

use roundlot::{
    AckError, Outcome,
    market::{PriceUpdate, TradeOp},
};
use serde::Serialize;

use super::{page::Board, unbatched::Sample};
use crate::bot::{tick::Tick, trader::Observer, venue::VenueOrderId};

pub struct RunObserver {
    /// The live page, if there is one.
    pub board: Option<Board>,
    pub sample: Sample,
    pub verdicts: Verdicts,
}

/// Verdicts of the venue, summed up.
#[derive(Debug, Default, Serialize)]
pub struct Verdicts {
    pub landed: u64,
    /// Number of orders that were canceled before they were sent, and of their cancels.
    pub netted: u64,
    pub failed: u64,
    /// Mean time from `submit` to the verdict.
    pub mean_seconds: f64,
    pub max_seconds: f64,
}

impl RunObserver {
    pub fn new(board: Option<Board>, sample: Sample) -> Self {
        Self { board, sample, verdicts: Verdicts::default() }
    }
}

impl Observer for RunObserver {
    fn on_ticks(&mut self, ticks: &[Tick], updates: &[PriceUpdate]) {
        self.sample.take(ticks, updates);
    }

    fn on_price(&mut self, update: &PriceUpdate) {
        if let Some(board) = &self.board {
            board.on_price(update);
        }
    }

    fn on_ops(&mut self, ops: &[TradeOp]) {
        self.sample.take_orders(ops);
    }

    fn on_verdict(&mut self, op: &TradeOp, outcome: &Outcome<VenueOrderId>) {
        if let Some(board) = &self.board {
            board.on_verdict(op, outcome);
        }
        self.verdicts.add(outcome);
    }
}

impl Verdicts {
    fn add(&mut self, outcome: &Outcome<VenueOrderId>) {
        match &outcome.result {
            Ok(VenueOrderId(_)) => self.landed += 1,
            Err(AckError::Netted) => self.netted += 1,
            Err(_) => self.failed += 1,
        }
        let (seconds, count) = (outcome.latency.as_secs_f64(), self.landed + self.netted + self.failed);
        self.mean_seconds += (seconds - self.mean_seconds) / count as f64;
        self.max_seconds = self.max_seconds.max(seconds);
    }
}
