//! The symbols that this process trades: those of the shards that it leads, once each shard has been taken over. [`Assignment`] takes a
//! shard over in three steps, and gives it up when its term has ended. `trader` asks it before each decision.
//!
//! 1. A term begins, and its leader sends what waits in the log: what an earlier leader has accepted, and may have sent. A flush
//!    tells when all of that is settled.
//! 2. The session of the shard at the venue is opened: no call of an earlier leader lands from here on.
//! 3. The account is read. Positions and resting orders of the shard's symbols are those of the venue, whatever this process or an
//!    earlier one has seen. Then the strategy trades these symbols.
//!
//! Invariant: each fill of a traded symbol is booked once: it is in the account that was read, by its number, or it comes later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    time::Duration,
};

use roundlot::{
    Outcomes, durable,
    market::{Symbol, TradeOp},
};
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Error,
    orders::Orders,
    portfolio::Portfolio,
    shards::{Led, Shards},
    strategy::Strategy,
    venue::{Venue, wire::Statement},
};

/// Pause before another flush: some commits of a log.
const FLUSH_AGAIN: Duration = Duration::from_millis(20);

pub struct Assignment {
    orders: Orders,
    venue: Venue,
    shards: Shards,
    /// The shard of each symbol that was seen.
    of_symbol: HashMap<Symbol, u16>,
    /// Shards that have been taken over, and not lost.
    held: BTreeMap<u16, Held>,
    /// Terms of shards that are being taken over. Their symbols are not traded.
    recovering: BTreeMap<u16, u64>,
    /// Terms of those among them of which all earlier ops are settled.
    settled: BTreeMap<u16, u64>,
    flushes: JoinSet<BTreeMap<u16, u64>>,
    /// Whether the log was paused at the last look, if several processes share it.
    was_paused: bool,
    /// Whether the venue could not be asked at the last attempt.
    is_away: bool,
    /// Whether symbols or shards have come or gone since the last note of them.
    has_changed: bool,
    summary: Summary,
}

/// A shard that has been taken over.
struct Held {
    term: u64,
    /// Number of the last fill that is in the account that was read.
    fills: u64,
}

/// Changes of the assignment.
#[derive(Debug, Default)]
pub struct Changes {
    /// Shards that this process leads no more.
    pub lost: Vec<u16>,
    pub taken: Vec<Takeover>,
    /// Cancels of resting orders that the strategy has no place for.
    pub cancels: Vec<TradeOp>,
}

/// A shard that was taken over, and what the venue had of its symbols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Takeover {
    pub shard: u16,
    pub term: u64,
    /// Number of symbols with a position.
    pub positions: usize,
    /// Number of resting orders.
    pub resting: usize,
}

/// Takeovers of a run, until now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How the ops ended that the log had, before this process began to trade. Expired ones were outdated while no process led.
    pub recovered_ends: Outcomes,
    /// Takeovers of shards, the first ones included.
    pub takeovers: u64,
    /// Shards that were given up to other processes, or because a term has failed.
    pub lost: u64,
    /// Shards that this process leads, in order.
    pub leads: Vec<Lead>,
}

/// A shard that this process leads, and the symbols of it that were seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lead {
    pub shard: u16,
    pub term: u64,
    pub symbols: Vec<Symbol>,
}

impl Assignment {
    pub fn new(orders: Orders, venue: Venue, shards: Shards) -> Self {
        Self {
            orders,
            venue,
            shards,
            of_symbol: HashMap::new(),
            held: BTreeMap::new(),
            recovering: BTreeMap::new(),
            settled: BTreeMap::new(),
            flushes: JoinSet::new(),
            was_paused: false,
            is_away: false,
            has_changed: false,
            summary: Summary::default(),
        }
    }

    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Whether this process leads the shard of a symbol, so that it tells the venue of its price.
    pub fn leads(&mut self, symbol: Symbol) -> bool {
        let shard = self.shard_of(symbol);
        self.held.contains_key(&shard) || self.recovering.contains_key(&shard)
    }

    /// Whether the strategy may decide on a symbol.
    pub fn trades(&mut self, symbol: Symbol) -> bool {
        let shard = self.shard_of(symbol);
        self.held.contains_key(&shard) && !self.recovering.contains_key(&shard)
    }

    /// Whether a fill with this number is of a symbol that is held, and not in the account that was read.
    pub fn counts(&mut self, symbol: Symbol, number: u64) -> bool {
        let shard = self.shard_of(symbol);
        self.held.get(&shard).is_some_and(|held| number > held.fills)
    }

    fn shard_of(&mut self, symbol: Symbol) -> u16 {
        *self.of_symbol.entry(symbol).or_insert_with(|| {
            self.has_changed = true;
            self.orders.shard_of(symbol)
        })
    }

    fn symbols_of(&self, shard: u16) -> BTreeSet<Symbol> {
        self.of_symbol.iter().filter(|(_, of)| **of == shard).map(|(symbol, _)| *symbol).collect()
    }

    /// Gives up shards whose term has ended, begins to take over those whose term has begun, and ends takeovers that can be ended. The
    /// caller decides from then on, and holds [`Shards::deciding`] meanwhile.
    pub async fn follow(&mut self, portfolio: &Portfolio, strategy: &mut Strategy) -> Changes {
        let led = self.shards.current();
        let mut changes = Changes { lost: self.give_up(&led, portfolio, strategy), ..Changes::default() };
        let new =
            led.iter().filter(|(shard, _)| !self.held.contains_key(shard) && !self.recovering.contains_key(shard));
        let mut terms: BTreeMap<u16, u64> = new.map(|(shard, led)| (*shard, led.term)).collect();
        // A pause of a shared log stops all bots. Whoever ends it may have canceled orders, so all shards are taken over anew.
        let is_paused = self.orders.is_shared() && self.orders.stats().paused;
        if is_paused && !mem::replace(&mut self.was_paused, is_paused) {
            terms.extend(self.held.iter().map(|(shard, held)| (*shard, held.term)));
        }
        self.was_paused = is_paused;
        if !terms.is_empty() {
            self.begin(terms);
        }
        while let Some(flushed) = self.flushes.try_join_next() {
            // A task that panicked is one of a flush that will not come to an end.
            self.settled.extend(flushed.unwrap_or_default());
        }
        self.settled.retain(|shard, term| self.recovering.get(shard) == Some(term));
        if !is_paused && !self.settled.is_empty() {
            let due = led.into_iter().filter(|(shard, _)| self.settled.contains_key(shard)).collect();
            self.take_over(due, portfolio, strategy, &mut changes).await;
        }
        if mem::take(&mut self.has_changed) || !changes.lost.is_empty() || !changes.taken.is_empty() {
            self.shards.note(self.summary());
        }
        changes
    }

    /// Begins to take over shards in these terms.
    fn begin(&mut self, terms: BTreeMap<u16, u64>) {
        self.recovering.extend(&terms);
        let orders = self.orders.clone();
        if orders.log_stats().is_none() {
            // No op survives from an earlier run.
            self.settled.extend(terms);
            return;
        }
        self.flushes.spawn(async move {
            // A flush ends early where the batcher begins anew, after a doubtful commit for example.
            while orders.flush().await.is_err() && !orders.is_closed() {
                sleep(FLUSH_AGAIN).await;
            }
            terms
        });
    }

    /// Gives up shards that are led no more, or in another term.
    fn give_up(&mut self, led: &BTreeMap<u16, Led>, portfolio: &Portfolio, strategy: &mut Strategy) -> Vec<u16> {
        let is_led = |shard: u16, term: u64| led.get(&shard).is_some_and(|led| led.term == term);
        self.recovering.retain(|shard, term| is_led(*shard, *term));
        let lost = self.held.iter().filter(|(shard, held)| !is_led(**shard, held.term));
        let lost: Vec<u16> = lost.map(|(shard, _)| *shard).collect();
        for shard in &lost {
            self.held.remove(shard);
            let symbols = self.symbols_of(*shard);
            portfolio.replace(&symbols, &BTreeMap::new());
            strategy.forget(&symbols);
        }
        self.summary.lost += lost.len() as u64;
        lost
    }

    /// Takes over shards from the account at the venue. If that can't be asked, the next call does.
    async fn take_over(
        &mut self,
        due: BTreeMap<u16, Led>,
        portfolio: &Portfolio,
        strategy: &mut Strategy,
        changes: &mut Changes,
    ) {
        let statement = match statement(&self.venue, &due).await {
            Ok(statement) => statement,
            Err(error) => {
                if !mem::replace(&mut self.is_away, true) {
                    tracing::warn!(%error, "shards are not taken over: the venue can't be asked");
                }
                return;
            }
        };
        self.is_away = false;
        if self.summary.takeovers == 0 {
            self.summary.recovered_ends = self.ends();
        }
        let fills = statement.as_ref().map_or(0, |statement| statement.fills);
        let mut parts: BTreeMap<u16, Statement> = BTreeMap::new();
        let Statement { positions, resting, .. } = statement.unwrap_or_default();
        for (symbol, position) in positions {
            parts.entry(self.shard_of(symbol)).or_default().positions.insert(symbol, position);
        }
        for order in resting {
            parts.entry(self.shard_of(order.symbol())).or_default().resting.push(order);
        }
        for (shard, Led { term, .. }) in due {
            let part = parts.remove(&shard).unwrap_or_default();
            let symbols = self.symbols_of(shard);
            portfolio.replace(&symbols, &part.positions);
            strategy.forget(&symbols);
            changes.cancels.extend(strategy.restore(&part));
            let positions = part.positions.values().filter(|position| !position.quantity.is_zero()).count();
            changes.taken.push(Takeover { shard, term, positions, resting: part.resting.len() });
            self.held.insert(shard, Held { term, fills });
            self.recovering.remove(&shard);
            self.settled.remove(&shard);
            self.summary.takeovers += 1;
        }
    }

    /// Takes over what is led and not taken over yet, for the report of a run that trades no more.
    pub async fn end(&mut self, portfolio: &Portfolio, strategy: &mut Strategy) {
        let mut led = self.shards.current();
        self.give_up(&led, portfolio, strategy);
        led.retain(|shard, _| !self.held.contains_key(shard));
        if !led.is_empty() {
            self.take_over(led, portfolio, strategy, &mut Changes::default()).await;
        }
    }

    pub fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        if summary.takeovers == 0 {
            summary.recovered_ends = self.ends();
        }
        let leads = self.held.iter().map(|(shard, held)| {
            let symbols = self.symbols_of(*shard).into_iter().collect();
            Lead { shard: *shard, term: held.term, symbols }
        });
        summary.leads = leads.collect();
        summary
    }

    fn ends(&self) -> Outcomes {
        self.orders.log_stats().map_or_else(Outcomes::default, |durable::Stats { outcomes, .. }| outcomes)
    }
}

/// Ends all calls of earlier terms at the venue, and then reads the account. `None` of a venue that began with this run.
async fn statement(venue: &Venue, due: &BTreeMap<u16, Led>) -> Result<Option<Statement>, Error> {
    let Venue::Remote(venue) = venue else { return Ok(None) };
    for led in due.values() {
        if let Venue::Remote(lane) = &led.venue {
            lane.open().await?;
        }
    }
    venue.begin().await.map(Some)
}
