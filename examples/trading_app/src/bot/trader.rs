//! The loop of the bot. [`Trader`] takes chunks of ticks from a [`Source`], sends price updates and trades to their
//! batchers, submits the orders that `strategy` decides on, and passes fills and verdicts back to it. `main` runs it.
//!
//! Invariant: each chunk is handed in completely before the next one is taken. A slow database therefore slows the
//! source down, and no tick is lost.

use std::{mem, time::Duration};

use roundlot::{
    AckError, Outcome,
    market::{PriceUpdate, TradeOp},
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    assignment::{Assignment, Changes, Summary, Takeover},
    batchers::Batchers,
    ids::Ids,
    kill_switch::Halt,
    portfolio::Portfolio,
    settings,
    shards::Shards,
    strategy::Strategy,
    tick::Tick,
    venue::{Fill, Venue, VenueOrderId, wire::Fills},
};

/// A source of market data.
pub trait Source {
    /// Returns ticks that belong together; `None` at the end.
    async fn next(&mut self) -> Option<Result<Vec<Tick>, Error>>;
}

/// Callbacks of a run, for a display or statistics. `()` ignores them all.
pub trait Observer {
    /// Called when a chunk has come from the source.
    fn on_ticks(&mut self, _ticks: &[Tick], _updates: &[PriceUpdate]) {}

    /// Called before the strategy sees this price.
    fn on_price(&mut self, _update: &PriceUpdate) {}

    /// Called when the strategy has decided on these ops at one price, before they are submitted.
    fn on_ops(&mut self, _ops: &[TradeOp]) {}

    /// Called when an op of the strategy has its verdict.
    fn on_verdict(&mut self, _op: &TradeOp, _outcome: &Outcome<VenueOrderId>) {}

    /// Called when a shard of the log was taken over: its symbols are traded from here on.
    fn on_takeover(&mut self, _takeover: &Takeover) {}

    /// Called when a shard was given up.
    fn on_loss(&mut self, _shard: u16) {}
}

impl Observer for () {}

pub struct Trader<O> {
    batchers: Batchers,
    venue: Venue,
    portfolio: Portfolio,
    strategy: Strategy,
    assignment: Assignment,
    halt: Halt,
    observer: O,
    /// One task per op without a verdict: at most `max_pending` of the orders batcher.
    verdicts: JoinSet<Verdict>,
    /// Whether the venue has not taken the last prices.
    venue_is_away: bool,
    /// Ops of the decisions on one chunk, kept to reuse the memory.
    ops: Vec<TradeOp>,
    /// Orders that have failed since the last log line: their count, and a description of the first.
    failed: Option<(u64, String)>,
}

struct Verdict {
    op: TradeOp,
    outcome: Outcome<VenueOrderId>,
}

impl<O: Observer> Trader<O> {
    pub fn new(
        (batchers, venue, portfolio): (Batchers, Venue, Portfolio),
        strategy: &settings::Strategy,
        (shards, halt): (Shards, Halt),
        observer: O,
    ) -> Self {
        let remembers = matches!(venue, Venue::Remote(_));
        let ids = if remembers { batchers.orders.client_ids() } else { Ids::Counted(0) };
        let strategy = Strategy::new(strategy, ids);
        let assignment = Assignment::new(batchers.orders.clone(), venue.clone(), shards);
        let (verdicts, ops) = (JoinSet::new(), Vec::new());
        let (venue_is_away, failed) = (false, None);
        Self { batchers, venue, portfolio, strategy, assignment, halt, observer, verdicts, venue_is_away, ops, failed }
    }

    /// Trades until the source ends. After `stop`, a batcher without room may block for `grace` at most.
    pub async fn run(
        &mut self,
        source: &mut impl Source,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Result<(), Error> {
        let late = async {
            stop.cancelled().await;
            sleep(grace).await;
        };
        tokio::select! {
            biased;
            traded = self.trade_all(source) => traded,
            () = late => Err("a batcher has had no room since the stop: not all was handed in".into()),
        }
    }

    async fn trade_all(&mut self, source: &mut impl Source) -> Result<(), Error> {
        while let Some(ticks) = source.next().await {
            let ticks = ticks?;
            let updates: Vec<PriceUpdate> = ticks.iter().map(Tick::update).collect();
            self.observer.on_ticks(&ticks, &updates);
            // `send_all` waits for permits, so that a slow database slows the source down.
            self.batchers.trades.send_all(ticks).await?;
            self.batchers.prices.send_all(updates.iter().copied()).await?;
            self.trade(&updates).await?;
            while let Some(verdict) = self.verdicts.try_join_next() {
                self.on_verdict(verdict?);
            }
            self.log_failed();
        }
        self.assignment.end(&self.portfolio, &mut self.strategy).await;
        Ok(())
    }

    /// Handles the remaining verdicts, once the batchers are shut down. Returns the observer, and what was taken over.
    pub async fn finish(mut self) -> Result<(O, Summary), Error> {
        while let Some(verdict) = self.verdicts.join_next().await {
            self.on_verdict(verdict?);
        }
        self.log_failed();
        Ok((self.observer, self.assignment.summary()))
    }

    /// Books what these prices have filled, decides on those of symbols that this process trades, and hands in the ops.
    async fn trade(&mut self, updates: &[PriceUpdate]) -> Result<(), Error> {
        for fill in self.fills(updates).await {
            self.portfolio.on_fill(&fill);
            self.strategy.on_fill(&fill)?;
        }
        updates.iter().for_each(|update| self.observer.on_price(update));
        // No shard is given up until all ops of the decisions are handed in.
        let shards = self.assignment.shards().clone();
        let _deciding = shards.deciding().await;
        self.follow().await?;
        // The permit is held until all ops of the decisions are handed in: a pull of the kill switch waits for that.
        let Some(_permit) = self.halt.permit().await else {
            return Ok(());
        };
        for (symbol, order) in self.halt.take_canceled() {
            self.strategy.on_failure(symbol, order);
        }
        for update in updates.iter().filter(|update| self.assignment.trades(update.symbol)) {
            let before = self.ops.len();
            self.strategy.on_price(update, &mut self.ops)?;
            self.observer.on_ops(&self.ops[before..]);
        }
        // The first await is for permits, and for the log. The second one, in a task of each op, is for the verdict.
        let acks = self.batchers.orders.submit_all(self.ops.iter().cloned()).await?;
        for (op, ack) in self.ops.drain(..).zip(acks) {
            self.verdicts.spawn(async move { Verdict { op, outcome: ack.outcome().await } });
        }
        Ok(())
    }

    /// Takes over the shards that this process leads now, and gives up the others.
    async fn follow(&mut self) -> Result<(), Error> {
        let Changes { lost, taken, cancels } = self.assignment.follow(&self.portfolio, &mut self.strategy).await;
        lost.into_iter().for_each(|shard| self.observer.on_loss(shard));
        taken.iter().for_each(|takeover| self.observer.on_takeover(takeover));
        if !cancels.is_empty() {
            // Their verdicts do not matter: an order that has ended meanwhile needs no cancel.
            drop(self.batchers.orders.submit_all(cancels).await?);
        }
        Ok(())
    }

    /// Tells the venue of new prices of the symbols that this process leads, and returns their fills. A venue that is away keeps them
    /// for the next time.
    async fn fills(&mut self, updates: &[PriceUpdate]) -> Vec<Fill> {
        let led: Vec<PriceUpdate> =
            updates.iter().filter(|update| self.assignment.leads(update.symbol)).copied().collect();
        match self.venue.on_prices(&led).await {
            Ok(Fills { fills, last }) => {
                self.venue_is_away = false;
                let first = last.saturating_sub(fills.len() as u64);
                let numbered = fills.into_iter().zip(first + 1..);
                let counted = numbered.filter(|(fill, number)| self.assignment.counts(fill.symbol, *number));
                counted.map(|(fill, _)| fill).collect()
            }
            Err(error) => {
                if !mem::replace(&mut self.venue_is_away, true) {
                    tracing::warn!(%error, "the venue takes no prices");
                }
                Vec::new()
            }
        }
    }

    fn on_verdict(&mut self, verdict: Verdict) {
        let Verdict { op, outcome } = verdict;
        self.observer.on_verdict(&op, &outcome);
        // A netted order is one that the strategy itself has canceled. One in the log is for the next run.
        if let (Some(order), Err(error)) = (op.as_order(), outcome.result)
            && !matches!(error, AckError::Netted | AckError::Detached { .. })
        {
            let (symbol, id) = (order.symbol(), order.id());
            self.strategy.on_failure(symbol, id);
            let (count, _) = self.failed.get_or_insert_with(|| (0, format!("{:?} {id}: {error}", symbol.as_str())));
            *count += 1;
        }
    }

    /// Logs the orders that have failed since the last time: their count, and the first of them.
    fn log_failed(&mut self) {
        if let Some((count, first)) = self.failed.take() {
            tracing::debug!(count, %first, "orders failed");
        }
    }
}
