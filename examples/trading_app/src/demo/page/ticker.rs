//! The events of the trader. [`Ticker`] publishes prices at once. Only a few verdicts are kept for each tick of
//! the sampler, since a person cannot read thousands a second. `observer` calls it.

use std::{
    collections::HashMap,
    error::Error,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{
    AckError, End, Outcome,
    market::{Price, PriceUpdate, Symbol, TradeOp},
};

use roundlot_board::{Errors, Publisher};

use super::event::{Event, Line, Verdicts};
use crate::bot::venue::VenueOrderId;

/// Maximum number of verdicts on the page.
const MAX_SHOWN: usize = 32;

/// Maximum number of verdicts that are kept between two ticks. Rare kinds have preference.
const MAX_RETAINED: usize = 3;

/// The events of the trader for the page. A clone tells the same page.
#[derive(Clone)]
pub struct Ticker {
    publisher: Publisher,
    errors: Errors,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    opens: HashMap<Symbol, Price>,
    fresh: Vec<Line>,
    verdicts: Verdicts,
}

impl Ticker {
    pub fn new(publisher: Publisher, errors: Errors) -> Self {
        Self { publisher, errors, state: Arc::default() }
    }

    pub fn on_price(&self, update: &PriceUpdate) {
        let PriceUpdate { symbol, price, .. } = *update;
        let open = *self.state().opens.entry(symbol).or_insert(price);
        self.publish(&Event::Price { symbol, price, open });
    }

    pub fn on_verdict(&self, op: &TradeOp, outcome: &Outcome<VenueOrderId>) {
        // An op that was merged into another one has its result; the error counts for that one.
        let is_merged = matches!(outcome.end, End::Conflated | End::Deduplicated);
        if let Some(reason) = reason(outcome).filter(|_| !is_merged) {
            self.errors.add("orders", outcome.end.name(), reason, 1);
        }
        let mut state = self.state();
        state.verdicts.heard += 1;
        let n = state.verdicts.heard;
        let name = outcome.end.name();
        let seen = |name| state.fresh.iter().filter(|line| line.end == name).count();
        if state.fresh.len() < MAX_RETAINED {
            state.fresh.push(line(n, op, outcome));
        } else if seen(name) == 0
            && let Some(place) = state.fresh.iter().rposition(|line| seen(line.end) > 1)
        {
            state.fresh[place] = line(n, op, outcome);
        }
    }

    /// Returns the latest verdicts for the page.
    pub fn verdicts(&self) -> Verdicts {
        let mut state = self.state();
        let mut fresh = mem::take(&mut state.fresh);
        fresh.sort_by_key(|line| line.n);
        let Verdicts { latest, .. } = &mut state.verdicts;
        fresh.into_iter().for_each(|line| latest.push_front(line));
        latest.truncate(MAX_SHOWN);
        state.verdicts.clone()
    }

    /// Publishes an event. Never waits. A closed page is ignored: its end does not stop the bot.
    pub fn publish(&self, event: &Event) {
        let _ = self.publisher.publish(event.topic(), event);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the destination's reason for a failure, if that is where the failure is from.
fn reason(outcome: &Outcome<VenueOrderId>) -> Option<&(dyn Error + 'static)> {
    match outcome.result.as_ref().err()? {
        AckError::Refused(error) | AckError::Exhausted(error) | AckError::InDoubt(error) => {
            error.source().or(Some(error))
        }
        _ => None,
    }
}

fn line(n: u64, op: &TradeOp, outcome: &Outcome<VenueOrderId>) -> Line {
    let (what, price) = match op {
        TradeOp::Order(order) if order.price().is_none() => ("stop", order.stop_price()),
        TradeOp::Order(order) => ("order", order.price()),
        TradeOp::Cancel(_) => ("cancel", None),
        TradeOp::Amend(amend) if amend.price.is_none() && amend.quantity.is_none() => ("move stop", amend.stop_price),
        TradeOp::Amend(amend) => ("amend", amend.price.or(amend.stop_price)),
        _ => ("other", None),
    };
    let note = match &outcome.result {
        Ok(VenueOrderId(id)) => format!("venue id {id}"),
        Err(_) => reason(outcome).map_or_else(String::new, ToString::to_string),
    };
    Line {
        n,
        what,
        side: op.side().map_or("", |side| side.as_str()),
        symbol: op.symbol().map_or_else(String::new, |symbol| symbol.to_string()),
        price: price.map_or_else(String::new, |price| price.to_string()),
        end: outcome.end.name(),
        note,
        milliseconds: outcome.latency.as_secs_f64() * 1000.0,
        attempts: outcome.attempts,
    }
}
