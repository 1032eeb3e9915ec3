//! The decisions of the bot. [`Strategy`] turns prices, fills and failures into orders, cancels and moved stops; it
//! knows neither channels nor batches. `trader` calls it and submits the ops.
//!
//! Invariant: per pair there is at most one entry, one exit and one stop that the strategy has not canceled or seen
//! end. A cancel may come too late, so exits and stops are reduce-only: the venue sells no more than is held.

use std::collections::{BTreeSet, HashMap};

use roundlot::market::{
    ClientOrderId, InvalidField, Order, Price, PriceUpdate, Purpose, Quantity, Side, Symbol, TradeOp,
};
use rust_decimal::Decimal;

use super::{
    Error,
    ids::{Ids, placed_at},
    settings,
    venue::{Fill, wire::Statement},
};

/// Buys dips and sells spikes of each pair. A flat pair has a bid below the market. A held pair has an offer above the
/// market and a stop that trails the highest price. Bid and offer are replaced when the price has moved.
pub struct Strategy {
    notional: Decimal,
    entry: Decimal,
    exit: Decimal,
    stop: Decimal,
    requote: Decimal,
    pairs: HashMap<Symbol, Pair>,
    ids: Ids,
}

struct Pair {
    held: Quantity,
    entry: Option<Order>,
    exit: Option<Order>,
    /// The resting stop and its current stop price. `trail` moves the price up; `forget` clears both.
    stop: Option<(Order, Price)>,
}

/// Minimum number of decimal places of an order's price: two, for cents. A market price with more places raises it.
const MIN_PLACES: u32 = 2;

/// Number of decimal places of a bought quantity. With six, the last place is worth 0.10 at a price of 100,000.
const QUANTITY_PLACES: u32 = 6;

impl Strategy {
    pub fn new(settings: &settings::Strategy, ids: Ids) -> Self {
        let part = |percent: Quantity| percent.to_decimal() / Decimal::ONE_HUNDRED;
        Self {
            notional: settings.notional.to_decimal(),
            entry: Decimal::ONE - part(settings.entry_percent),
            exit: Decimal::ONE + part(settings.exit_percent),
            stop: Decimal::ONE - part(settings.stop_percent),
            requote: part(settings.requote_percent),
            pairs: HashMap::new(),
            ids,
        }
    }

    /// Goes on from what others have left, or an earlier run: positions and resting orders at the venue. Returns cancels of resting
    /// orders that the strategy has no place for.
    pub fn restore(&mut self, statement: &Statement) -> Vec<TradeOp> {
        for (symbol, position) in &statement.positions {
            // The strategy never sells short, so a negative quantity is not its own.
            let held = Quantity::new(position.quantity).unwrap_or(Quantity::ZERO);
            self.pairs.entry(*symbol).or_insert(Pair::FLAT).held = held;
        }
        let mut resting: Vec<&Order> = statement.resting.iter().collect();
        // The newest order takes the place.
        resting.sort_by_key(|order| placed_at(order.id()));
        let mut ops = Vec::new();
        for order in resting {
            let pair = self.pairs.entry(order.symbol()).or_insert(Pair::FLAT);
            ops.extend(pair.adopt(order).map(|replaced| replaced.cancel().into()));
        }
        ops
    }

    /// Forgets all of these symbols, which another bot trades from now on, or which are restored next.
    pub fn forget(&mut self, symbols: &BTreeSet<Symbol>) {
        self.pairs.retain(|symbol, _| !symbols.contains(symbol));
    }

    /// Adds the ops for a new price to `ops`. A price at which no quantity can be bought adds none.
    pub fn on_price(&mut self, update: &PriceUpdate, ops: &mut Vec<TradeOp>) -> Result<(), InvalidField> {
        let market = update.price.to_decimal();
        let bought = self.notional.checked_div(market).unwrap_or_default().round_dp(QUANTITY_PLACES);
        if market <= Decimal::ZERO || bought.is_zero() {
            return Ok(());
        }
        let place = |factor: Decimal| {
            let places = market.scale().max(MIN_PLACES);
            Price::new(market.checked_mul(factor).unwrap_or(market).round_dp(places))
        };
        let pair = self.pairs.entry(update.symbol).or_insert(Pair::FLAT);
        let mut quotes = Quotes { symbol: update.symbol, ids: &mut self.ids, ops };
        let least_move = market.saturating_mul(self.requote);
        if pair.held.is_zero() {
            quotes.cancel(&mut pair.exit);
            quotes.cancel(&mut pair.stop.take().map(|(stop, _)| stop));
            let bid = Quote { side: Side::Buy, price: place(self.entry), quantity: Quantity::new(bought)? };
            quotes.replace(&mut pair.entry, bid, least_move, Purpose::Entry)
        } else {
            quotes.cancel(&mut pair.entry);
            quotes.trail(&mut pair.stop, place(self.stop), pair.held)?;
            let offer = Quote { side: Side::Sell, price: place(self.exit), quantity: pair.held };
            quotes.replace(&mut pair.exit, offer, least_move, Purpose::Exit)
        }
    }

    /// Books a filled order. A sale of more than is held is an error: the bot no longer knows its position.
    pub fn on_fill(&mut self, fill: &Fill) -> Result<(), Error> {
        let pair = self.pairs.entry(fill.symbol).or_insert(Pair::FLAT);
        let held = match fill.side {
            Side::Buy => pair.held.checked_add(fill.quantity),
            Side::Sell => pair.held.checked_sub(fill.quantity),
        };
        pair.held = held.ok_or_else(|| {
            let Fill { order_id, symbol, side, quantity, .. } = fill;
            format!("order {order_id} has filled a {side} of {quantity} {symbol}, but the bot holds {}", pair.held)
        })?;
        pair.forget(fill.order_id);
        Ok(())
    }

    /// Forgets an order that failed, or that the kill switch has canceled. The next price may place a new one.
    pub fn on_failure(&mut self, symbol: Symbol, order: ClientOrderId) {
        if let Some(pair) = self.pairs.get_mut(&symbol) {
            pair.forget(order);
        }
    }
}

impl Pair {
    const FLAT: Self = Self { held: Quantity::ZERO, entry: None, exit: None, stop: None };

    /// Takes over an order of an earlier run. Returns the one whose place it takes.
    fn adopt(&mut self, order: &Order) -> Option<Order> {
        match (order.purpose(), order.stop_price()) {
            (_, Some(at)) => self.stop.replace((order.clone(), at)).map(|(stop, _)| stop),
            (Purpose::Entry, None) => self.entry.replace(order.clone()),
            (_, None) => self.exit.replace(order.clone()),
        }
    }

    fn forget(&mut self, order: ClientOrderId) {
        self.entry.take_if(|entry| entry.id() == order);
        self.exit.take_if(|exit| exit.id() == order);
        self.stop.take_if(|(stop, _)| stop.id() == order);
    }
}

/// A limit order that the strategy wants to rest.
struct Quote {
    side: Side,
    price: Price,
    quantity: Quantity,
}

/// Collects the ops of one pair.
struct Quotes<'a> {
    symbol: Symbol,
    ids: &'a mut Ids,
    ops: &'a mut Vec<TradeOp>,
}

impl Quotes<'_> {
    fn cancel(&mut self, working: &mut Option<Order>) {
        if let Some(order) = working.take() {
            self.ops.push(order.cancel().into());
        }
    }

    /// Replaces a working order that has moved away from its quote. If the old order and its cancel are both still
    /// waiting, the batcher nets them, and neither is sent.
    fn replace(
        &mut self,
        working: &mut Option<Order>,
        quote: Quote,
        least_move: Decimal,
        purpose: Purpose,
    ) -> Result<(), InvalidField> {
        let moved = |order: &Order| {
            let apart = order.price().and_then(|price| price.checked_sub(quote.price)).unwrap_or(quote.price);
            // An offer sells exactly the position. A bid is not replaced for a small difference in quantity.
            (quote.side == Side::Sell && order.quantity() != quote.quantity) || apart.to_decimal().abs() >= least_move
        };
        if working.as_ref().is_some_and(|order| !moved(order)) {
            return Ok(());
        }
        self.cancel(working);
        let mut order =
            Order::limit(self.ids.next(), self.symbol, quote.side, quote.price, quote.quantity)?.with_purpose(purpose);
        if purpose == Purpose::Exit {
            order = order.reduce_only();
        }
        self.ops.push(order.clone().into());
        *working = Some(order);
        Ok(())
    }

    /// Moves the stop up, never down. Replaces the stop when the position has changed.
    fn trail(&mut self, stop: &mut Option<(Order, Price)>, to: Price, held: Quantity) -> Result<(), InvalidField> {
        match stop {
            Some((order, at)) if order.quantity() == held => {
                if to > *at {
                    self.ops.push(order.move_stop(to)?.into());
                    *at = to;
                }
            }
            _ => {
                self.cancel(&mut stop.take().map(|(order, _)| order));
                let order = Order::stop(self.ids.next(), self.symbol, Side::Sell, to, held)?.reduce_only();
                self.ops.push(order.clone().into());
                *stop = Some((order, to));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::ConflationKey;

    use super::*;
    use crate::bot::{position::Position, venue::PaperVenue};

    const BTC: Symbol = Symbol::from_static("BTC");

    fn strategy() -> Strategy {
        with(Ids::Counted(0))
    }

    fn with(ids: Ids) -> Strategy {
        let percent = |text: &str| text.parse().unwrap();
        let settings = settings::Strategy {
            cash: percent("1000"),
            notional: percent("1000"),
            entry_percent: percent("1"),
            exit_percent: percent("2"),
            stop_percent: percent("3"),
            requote_percent: percent("0.5"),
        };
        Strategy::new(&settings, ids)
    }

    /// The ops at a price, in words.
    fn at(strategy: &mut Strategy, price: &str) -> Vec<String> {
        let mut ops = Vec::new();
        let price = price.parse().unwrap();
        strategy.on_price(&PriceUpdate::new(BTC, price, 0), &mut ops).unwrap();
        let say = |op: &TradeOp| match op {
            TradeOp::Order(order) => {
                let price = order.price().or(order.stop_price()).unwrap();
                format!("{} {} {} at {}", order.id(), order.side(), order.quantity(), price.to_decimal().normalize())
            }
            TradeOp::Cancel(cancel) => format!("cancel {}", cancel.order_id),
            TradeOp::Amend(amend) => {
                format!("move {} to {}", amend.order_id, amend.stop_price.unwrap().to_decimal().normalize())
            }
            other => format!("{other:?}"),
        };
        ops.iter().map(say).collect()
    }

    fn fill(strategy: &mut Strategy, id: u64, side: Side, quantity: &str) {
        let (order_id, price, quantity) = (id.into(), "1".parse().unwrap(), quantity.parse().unwrap());
        strategy.on_fill(&Fill { order_id, symbol: BTC, side, price, quantity }).unwrap();
    }

    #[test]
    fn a_pair_is_bought_trailed_and_sold() {
        let mut bot = strategy();
        assert_eq!(at(&mut bot, "100"), ["1 buy 10 at 99"]);
        assert_eq!(at(&mut bot, "100.2"), [""; 0], "near enough");
        assert_eq!(at(&mut bot, "125"), ["cancel 1", "2 buy 8 at 123.75"]);
        fill(&mut bot, 2, Side::Buy, "8");
        assert_eq!(at(&mut bot, "100"), ["3 sell 8 at 97", "4 sell 8 at 102"]);
        assert_eq!(at(&mut bot, "110"), ["move 3 to 106.7", "cancel 4", "5 sell 8 at 112.2"]);
        assert_eq!(at(&mut bot, "109"), ["cancel 5", "6 sell 8 at 111.18"], "the stop stays");
        fill(&mut bot, 6, Side::Sell, "8");
        assert_eq!(at(&mut bot, "100"), ["cancel 3", "7 buy 10 at 99"]);
    }

    #[test]
    fn a_failed_order_is_placed_again() {
        let mut bot = strategy();
        at(&mut bot, "100");
        bot.on_failure(BTC, 1.into());
        assert_eq!(at(&mut bot, "100"), ["2 buy 10 at 99"]);
        fill(&mut bot, 2, Side::Buy, "10");
        at(&mut bot, "100");
        bot.on_failure(BTC, 3.into());
        assert_eq!(at(&mut bot, "100"), ["5 sell 10 at 97"], "a position without a stop gets one");
    }

    /// Goal: a fill that crosses a cancel does no harm. Method: the old bid is filled after it was replaced.
    #[test]
    fn a_fill_that_crosses_its_cancel_is_held_and_sold() {
        let mut bot = strategy();
        at(&mut bot, "100");
        at(&mut bot, "125");
        fill(&mut bot, 1, Side::Buy, "10");
        assert_eq!(at(&mut bot, "125"), ["cancel 2", "3 sell 10 at 121.25", "4 sell 10 at 127.5"]);
    }

    /// Goal: a position is sold once, and the bot knows what it holds. Method: cancels are too late at the venue, so that
    /// the stop is reached after the offer has filled.
    #[test]
    fn a_stop_and_an_offer_do_not_both_sell_a_position() {
        let (mut bot, venue) = (strategy(), PaperVenue::new(settings::Venue::reliable_for_test(), 1));
        let (mut held, mut ops) = (Vec::new(), Vec::new());
        for price in ["100", "98", "120", "90"] {
            let update = PriceUpdate::new(BTC, price.parse().unwrap(), 0);
            for fill in venue.on_price(&update) {
                bot.on_fill(&fill).unwrap();
            }
            bot.on_price(&update, &mut ops).unwrap();
            ops.drain(..).filter_map(|op| op.as_order().cloned()).for_each(|order| venue.rest_for_test(&order));
            let position = venue.account().positions.get(&BTC).copied().unwrap_or_default();
            assert_eq!(bot.pairs[&BTC].held.to_decimal(), position, "at {price}");
            held.push(position.normalize().to_string());
        }
        assert_eq!(held, ["0", "10", "0", "8.333333"], "bought at 99, sold at 102, bought at 118.80");
    }

    /// Goal: a bot that starts again moves its stop and replaces its offer, and cancels what it has no place for. Method: what a venue
    /// has left of it. Then another bot takes the pair.
    #[test]
    fn a_strategy_goes_on_from_what_rests() {
        let (price, quantity) = (|text: &str| text.parse().unwrap(), "8".parse::<Quantity>().unwrap());
        let sell = |id: u64, at| Order::limit(id.into(), BTC, Side::Sell, price(at), quantity).unwrap();
        let [old, offer] =
            [(1, "103"), (2, "104")].map(|(id, at)| sell(id, at).with_purpose(Purpose::Exit).reduce_only());
        let stop = Order::stop(3.into(), BTC, Side::Sell, price("106"), quantity).unwrap().reduce_only();
        let mut position = Position::default();
        position.quantity = quantity.to_decimal();
        let (positions, resting) = ([(BTC, position)].into(), vec![old, stop, offer]);
        let statement = Statement { positions, resting, ..Statement::default() };

        let mut bot = with(Ids::ByTime(0));
        let cancels: Vec<_> = bot.restore(&statement).into_iter().map(|op| op.conflation_key()).collect();
        assert_eq!(cancels, [Some(ConflationKey::Order(BTC, 1.into()))], "two offers for one position");
        assert_eq!(at(&mut bot, "102"), [""; 0], "stop and offer are as they should be");
        let ops = at(&mut bot, "110");
        assert_eq!(ops[..2], ["move 3 to 106.7", "cancel 2"]);
        assert!(ops[2].ends_with(" sell 8 at 112.2") && ops[2].len() > 30, "an id by time: {}", ops[2]);
        fill(&mut bot, 3, Side::Sell, "8");
        assert_eq!(at(&mut bot, "100").len(), 2, "the offer is canceled, and a bid is placed");
        bot.forget(&BTreeSet::from([BTC]));
        assert!(bot.pairs.is_empty());
    }

    #[test]
    fn a_sale_of_more_than_is_held_is_an_error() {
        let mut bot = strategy();
        fill(&mut bot, 1, Side::Buy, "2");
        let (price, quantity) = ("1".parse().unwrap(), "5".parse().unwrap());
        let sale = Fill { order_id: 2.into(), symbol: BTC, side: Side::Sell, price, quantity };
        let error = bot.on_fill(&sale).unwrap_err().to_string();
        assert_eq!(error, "order 2 has filled a sell of 5 BTC, but the bot holds 2");
    }

    #[test]
    fn unaffordable_prices_add_no_ops() {
        let mut bot = strategy();
        for price in ["0", "-37.63", "99999999999999999999", "79228162514264337593543950335"] {
            assert_eq!(at(&mut bot, price), [""; 0], "{price}");
        }
    }
}
