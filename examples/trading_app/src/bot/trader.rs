//! From the feed to the desks. In come chunks of ticks, out go price updates, trades and whatever the strategy makes of
//! them; back come fills and verdicts. The loop of the app.

use std::time::Duration;

use roundlot::{
    AckError, Outcome,
    market::{ClientOrderId, PriceUpdate, Symbol, TradeOp},
};
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    bot::{
        batchers::Desks,
        kill_switch::halt::Halt,
        portfolio::Portfolio,
        strategy::Strategy,
        venue::{PaperVenue, VenueOrderId},
    },
    demo::{
        feed::{BadRow, Chunk, Feed},
        format,
        page::Board,
        progress::Progress,
        unbatched::Sample,
    },
};

pub struct Trader {
    desks: Desks,
    venue: PaperVenue,
    portfolio: Portfolio,
    strategy: Strategy,
    /// One task per op that the venue has not answered yet: as many as the desk has room for.
    answers: JoinSet<Answer>,
    halt: Halt,
    /// What the live page shows, if there is one.
    board: Option<Board>,
    ops: Vec<TradeOp>,
    /// How many orders have failed since the log was told, and the first of them.
    failed: Option<(u64, String)>,
    pub log: Log,
    pub sample: Sample,
}

/// What the run has come to, but for what the batchers count themselves.
#[derive(Debug, Default, Serialize)]
pub struct Log {
    pub rows: u64,
    pub bad_rows: u64,
    /// The first of them.
    pub bad: Vec<BadRow>,
    pub verdicts: Verdicts,
}

/// What the venue said to the ops of the orders desk.
#[derive(Debug, Default, Serialize)]
pub struct Verdicts {
    pub landed: u64,
    /// Canceled before they were sent, and so their cancels.
    pub netted: u64,
    pub failed: u64,
    /// From `submit` to the verdict.
    pub mean_seconds: f64,
    pub max_seconds: f64,
}

/// What became of one op.
struct Answer {
    symbol: Option<Symbol>,
    order: Option<ClientOrderId>,
    /// For the page.
    op: Option<TradeOp>,
    outcome: Outcome<VenueOrderId>,
}

/// Bad rows that are told one by one. A file that was misunderstood has millions.
const TOLD_BAD_ROWS: u64 = 20;

/// Bad rows that are kept for the report: some megabytes. All are counted.
const KEPT_BAD_ROWS: usize = 10_000;

impl Trader {
    pub fn new(desks: Desks, venue: PaperVenue, portfolio: Portfolio, strategy: Strategy, sample: usize) -> Self {
        let (answers, ops, log) = (JoinSet::new(), Vec::new(), Log::default());
        let (halt, board, sample) = (Halt::default(), None, Sample::new(sample));
        Self { desks, venue, portfolio, strategy, answers, halt, board, ops, failed: None, log, sample }
    }

    /// Puts a trader under a kill switch, and its prices and verdicts on a page.
    pub fn watched(self, halt: Halt, board: Option<Board>) -> Self {
        Self { halt, board, ..self }
    }

    /// Trades until the feed ends. Once all is to stop, a desk without room may hold it up for so long and no longer.
    pub async fn run(
        &mut self,
        feed: &mut Feed,
        progress: &Progress,
        stop: &CancellationToken,
        patience: Duration,
    ) -> Result<(), Error> {
        let late = async {
            stop.cancelled().await;
            sleep(patience).await;
        };
        tokio::select! {
            biased;
            traded = self.trade_all(feed, progress) => traded,
            () = late => Err("a desk has had no room since the stop: not all was handed in".into()),
        }
    }

    async fn trade_all(&mut self, feed: &mut Feed, progress: &Progress) -> Result<(), Error> {
        while let Some(chunk) = feed.next().await {
            let Chunk { ticks, bad } = chunk?;
            self.log.note_bad(bad, |message| {
                if !feed.strict {
                    progress.say(message);
                }
            });
            self.log.rows += ticks.len() as u64;
            let updates: Vec<PriceUpdate> = ticks.iter().map(|tick| tick.update()).collect();
            self.sample.take(&ticks, &updates);
            // A database that is slow slows the feed down: this waits for room, and nothing is lost.
            self.desks.trades.send_all(ticks).await?;
            self.desks.prices.send_all(updates.iter().copied()).await?;
            for update in &updates {
                self.trade(update).await?;
            }
            while let Some(answer) = self.answers.try_join_next() {
                self.hear(answer?);
            }
            self.tell_failed();
        }
        Ok(())
    }

    /// Hears the verdicts that are still to come, once the desk is closed and they will.
    pub async fn finish(&mut self) -> Result<(), Error> {
        while let Some(answer) = self.answers.join_next().await {
            self.hear(answer?);
        }
        self.tell_failed();
        Ok(())
    }

    async fn trade(&mut self, update: &PriceUpdate) -> Result<(), Error> {
        if let Some(board) = &self.board {
            board.on_price(update);
        }
        for fill in self.venue.on_price(update) {
            self.portfolio.on_fill(&fill);
            self.strategy.on_fill(&fill);
        }
        let Some(_leave) = self.halt.leave().await else {
            return Ok(());
        };
        for (symbol, order) in self.halt.take_canceled() {
            self.strategy.on_failure(symbol, order);
        }
        self.strategy.on_price(update, &mut self.ops)?;
        self.sample.take_orders(&self.ops);
        for op in self.ops.drain(..) {
            let (symbol, order) = (op.symbol(), op.as_order().map(|order| order.id()));
            // The first await is for room, the second, in a task of its own, for the verdict.
            let shown = self.board.is_some().then(|| op.clone());
            let answer = self.desks.orders.submit(op).await?;
            self.answers.spawn(async move { Answer { symbol, order, op: shown, outcome: answer.outcome().await } });
        }
        Ok(())
    }

    fn hear(&mut self, answer: Answer) {
        let Answer { symbol, order, op, outcome } = answer;
        if let (Some(board), Some(op)) = (&self.board, &op) {
            board.on_verdict(op, &outcome);
        }
        self.log.verdicts.add(&outcome);
        // A netted order is one that the strategy itself has canceled.
        if let (Some(symbol), Some(order), Err(error)) = (symbol, order, outcome.result)
            && !matches!(error, AckError::Netted)
        {
            self.strategy.on_failure(symbol, order);
            let (count, _) = self.failed.get_or_insert_with(|| (0, format!("{:?} {order}: {error}", symbol.as_str())));
            *count += 1;
        }
    }

    /// Logs the orders that have failed since the last time: how many, and the first of them.
    fn tell_failed(&mut self) {
        if let Some((count, first)) = self.failed.take() {
            tracing::debug!(count, %first, "orders failed");
        }
    }
}

impl Log {
    /// Counts bad rows, and says which they are: each of the first, later one line for all that come at once.
    fn note_bad(&mut self, bad: Vec<BadRow>, say: impl Fn(&str)) {
        let all = bad.len();
        let (mut untold, mut last) = (0, None);
        for (i, row) in bad.into_iter().enumerate() {
            self.bad_rows += 1;
            if self.bad_rows <= TOLD_BAD_ROWS {
                say(&row.to_string());
            } else {
                untold += 1;
                last = (i + 1 == all).then(|| row.to_string());
            }
            if self.bad.len() < KEPT_BAD_ROWS {
                self.bad.push(row);
            }
        }
        if let Some(last) = last {
            say(&format!("{} more bad rows, the last of them: {last}", format::count(untold)));
        }
    }
}

impl Verdicts {
    fn add(&mut self, outcome: &Outcome<VenueOrderId>) {
        match &outcome.result {
            Ok(VenueOrderId(_)) => self.landed += 1,
            Err(AckError::Netted) => self.netted += 1,
            Err(_) => self.failed += 1,
        }
        let (seconds, heard) = (outcome.latency.as_secs_f64(), self.landed + self.netted + self.failed);
        self.mean_seconds += (seconds - self.mean_seconds) / heard as f64;
        self.max_seconds = self.max_seconds.max(seconds);
    }
}
