//! One operation of a trading app, with the functions that the stages call: partition, key and priority. Its merge
//! functions stand in `merge`.

use serde::{Deserialize, Serialize};

use super::{Amend, Cancel, ClientOrderId, Order, PriceUpdate, Priority, Side, Symbol};

/// One operation of a trading app. Its JSON is [shown](crate::market#tradeop) by an example of each kind.
///
/// Its methods are made for [`Stages`](crate::Stages): partition by [`symbol`](Self::symbol) and
/// [`side`](Self::side), conflate by [`conflation_key`](Self::conflation_key) with [`merge`](Self::merge), order by
/// [`priority`](Self::priority).
///
/// # Examples
///
/// ```
/// use roundlot::{
///     market::{InvalidField, PriceUpdate, Priority, Symbol, TradeOp},
///     stage::Merge,
/// };
///
/// let at = |time_ns, price: &str| -> Result<TradeOp, InvalidField> {
///     let symbol = Symbol::from_static("BTCUSDT");
///     Ok(TradeOp::from(PriceUpdate::new(symbol, price.parse()?, time_ns)))
/// };
/// let (early, late) = (at(1, "61250.10")?, at(2, "61250.20")?);
///
/// assert_eq!(early.priority(), Priority::Normal);
/// assert_eq!(early.conflation_key(), late.conflation_key());
/// assert_eq!(TradeOp::merge(early.clone(), late.clone()), Merge::Into(late.clone()));
/// assert_eq!(TradeOp::merge(late.clone(), early), Merge::Into(late)); // it came later, but is older
/// # Ok::<(), InvalidField>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TradeOp {
    /// A new price of an instrument.
    PriceUpdate(PriceUpdate),
    /// A new order.
    Order(Order),
    /// The cancel of an order.
    Cancel(Cancel),
    /// A new price, quantity or stop price for an order.
    Amend(Amend),
}

/// Ops with the same key may become one while they wait. [`TradeOp::conflation_key`] makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConflationKey {
    /// The price of an instrument: the latest counts.
    Price(Symbol),
    /// All ops of one order: the order, its amends, its cancel. The symbol is part of the key because
    /// some callers number their orders by symbol.
    Order(Symbol, ClientOrderId),
}

impl TradeOp {
    /// The instrument of the op. Each op of today has one.
    pub const fn symbol(&self) -> Option<Symbol> {
        match self {
            Self::PriceUpdate(update) => Some(update.symbol),
            Self::Order(order) => Some(order.symbol()),
            Self::Cancel(cancel) => Some(cancel.symbol),
            Self::Amend(amend) => Some(amend.symbol),
        }
    }

    /// The side of the order that the op makes or changes; `None` for prices.
    pub const fn side(&self) -> Option<Side> {
        match self {
            Self::Order(order) => Some(order.side()),
            Self::Cancel(cancel) => Some(cancel.side),
            Self::Amend(amend) => Some(amend.side),
            Self::PriceUpdate(_) => None,
        }
    }

    /// How soon the op has to leave.
    ///
    /// * An order for a stop-loss or a liquidation is critical, any other is high.
    /// * A cancel is as urgent as the order it cancels, so it leaves neither before that order, even where nothing is
    ///   conflated, nor after the order that replaces it.
    /// * An amend is high, whatever its order is for: until it lands the order stands as it was. Trailing stops that move
    ///   with each tick would otherwise crowd out what protects a position without a stop.
    /// * A price is normal.
    pub const fn priority(&self) -> Priority {
        match self {
            Self::Order(order) => order.purpose().priority(),
            Self::Cancel(cancel) => cancel.purpose.priority(),
            Self::Amend(_) => Priority::High,
            Self::PriceUpdate(_) => Priority::Normal,
        }
    }

    /// Ops of the same key may be merged while they wait. Each op of today has a key.
    ///
    /// An order, its amends and its cancel have the same key. Two orders of one symbol do not.
    ///
    /// **Merge by [`TradeOp::merge`], not by [`stage::latest`](crate::stage::latest)**, which would drop an order when
    /// it is amended.
    pub const fn conflation_key(&self) -> Option<ConflationKey> {
        match self {
            Self::PriceUpdate(update) => Some(ConflationKey::Price(update.symbol)),
            Self::Order(order) => Some(ConflationKey::Order(order.symbol(), order.id())),
            Self::Cancel(cancel) => Some(ConflationKey::Order(cancel.symbol, cancel.order_id)),
            Self::Amend(amend) => Some(ConflationKey::Order(amend.symbol, amend.order_id)),
        }
    }

    /// Whether the op is a new order, and not the change of one.
    pub const fn is_order(&self) -> bool {
        matches!(self, Self::Order(_))
    }

    /// Whether the op is a cancel.
    pub const fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel(_))
    }

    /// The order, if the op is a new one.
    pub const fn as_order(&self) -> Option<&Order> {
        match self {
            Self::Order(order) => Some(order),
            _ => None,
        }
    }
}

impl From<PriceUpdate> for TradeOp {
    fn from(update: PriceUpdate) -> Self {
        Self::PriceUpdate(update)
    }
}

impl From<Order> for TradeOp {
    fn from(order: Order) -> Self {
        Self::Order(order)
    }
}

impl From<Cancel> for TradeOp {
    fn from(cancel: Cancel) -> Self {
        Self::Cancel(cancel)
    }
}

impl From<Amend> for TradeOp {
    fn from(amend: Amend) -> Self {
        Self::Amend(amend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Purpose;

    const BTC: Symbol = Symbol::from_static("BTCUSDT");
    const ETH: Symbol = Symbol::from_static("ETHUSDT");

    fn order(id: u64, symbol: Symbol) -> Order {
        Order::market(id.into(), symbol, Side::Sell, "1".parse().expect("valid")).expect("valid")
    }

    fn amend(id: u64) -> TradeOp {
        order(id, BTC).amend().with_price("9".parse().expect("valid")).into()
    }

    fn price(symbol: Symbol) -> TradeOp {
        PriceUpdate::new(symbol, "10".parse().expect("valid"), 1).into()
    }

    #[test]
    fn priorities_are_as_the_desk_wants_them() {
        let of = |purpose| order(1, BTC).with_purpose(purpose);
        for purpose in [Purpose::StopLoss, Purpose::Liquidation] {
            assert_eq!(TradeOp::from(of(purpose)).priority(), Priority::Critical);
        }
        for purpose in [Purpose::Entry, Purpose::Exit] {
            assert_eq!(TradeOp::from(of(purpose)).priority(), Priority::High);
        }
        assert_eq!(amend(1).priority(), Priority::High);
        assert_eq!(price(BTC).priority(), Priority::Normal);
    }

    /// Goal: without conflation a cancel does not overtake its order. Method: the two have the same priority.
    #[test]
    fn a_cancel_is_as_urgent_as_its_order() {
        for purpose in [Purpose::Entry, Purpose::Exit, Purpose::StopLoss, Purpose::Liquidation] {
            let order = order(1, BTC).with_purpose(purpose);
            assert_eq!(TradeOp::from(order.cancel()).priority(), TradeOp::from(order).priority());
        }
    }

    #[test]
    fn all_that_is_asked_of_an_order_has_one_address() {
        let order = order(1, BTC);
        let (cancel, order) = (TradeOp::from(order.cancel()), TradeOp::from(order));
        let address = |op: &TradeOp| (op.symbol(), op.side(), op.conflation_key());
        assert_eq!(address(&order), (Some(BTC), Some(Side::Sell), Some(ConflationKey::Order(BTC, 1.into()))));
        assert_eq!(address(&cancel), address(&order));
        assert_eq!(address(&amend(1)), address(&order));
        assert_eq!(address(&price(BTC)), (Some(BTC), None, Some(ConflationKey::Price(BTC))));
    }

    #[test]
    fn orders_of_one_symbol_and_like_ids_of_two_symbols_stay_apart() {
        let key = |id, symbol| TradeOp::from(order(id, symbol)).conflation_key();
        assert_ne!(key(1, BTC), key(2, BTC));
        assert_ne!(key(1, BTC), key(1, ETH));
        assert_ne!(price(BTC).conflation_key(), price(ETH).conflation_key());
    }

    #[test]
    fn orders_and_cancels_are_told_apart() {
        let order = order(1, BTC);
        let cancel = TradeOp::from(order.cancel());
        let op = TradeOp::from(order.clone());
        assert!(op.is_order() && !op.is_cancel());
        assert!(cancel.is_cancel() && !cancel.is_order());
        assert_eq!(op.as_order(), Some(&order));
        assert!(!amend(1).is_order() && price(BTC).as_order().is_none());
    }
}
