//! A new order. Each constructor, setter and reader checks it, so an order that exists does not contradict itself.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{
    Amend, Cancel, ClientOrderId, InvalidField, OrderKind, Price, Purpose, Quantity, Reason, Side, Symbol, TimeInForce,
};

/// A new order.
///
/// Its quantity is above zero, its kind has the prices it needs, and a post-only order can rest, so a sink need not
/// look again. [JSON](crate::market#order) is read through the same checks. An order can be cloned but is not `Copy`:
/// one that was handed in cannot be handed in again by accident.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Order, Priority, Purpose, Side, Symbol, TimeInForce};
///
/// const BTC: Symbol = Symbol::from_static("BTCUSDT");
///
/// let entry = Order::limit(1.into(), BTC, Side::Buy, "61250.10".parse()?, "0.25".parse()?)?;
/// let guard = Order::stop(2.into(), BTC, Side::Sell, "60000".parse()?, "0.25".parse()?)?;
///
/// assert_eq!(entry.purpose(), Purpose::Entry);
/// assert_eq!(guard.purpose(), Purpose::StopLoss);
/// assert!(guard.purpose().priority() > entry.purpose().priority());
///
/// let error = Order::market(3.into(), BTC, Side::Buy, "0.0".parse()?).unwrap_err();
/// assert_eq!(error.to_string(), "quantity is zero");
///
/// let quote = entry.with_time_in_force(TimeInForce::Gtd { until_ns: 1_723_075_200_000_000_000 })?.post_only()?;
/// assert!(quote.is_post_only());
/// assert!(guard.reduce_only().post_only().is_err()); // it has no limit to rest at
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Order {
    id: ClientOrderId,
    symbol: Symbol,
    side: Side,
    kind: OrderKind,
    quantity: Quantity,
    purpose: Purpose,
    time_in_force: TimeInForce,
    post_only: bool,
    reduce_only: bool,
    #[serde(skip)]
    queued: Queued,
}

/// An order as it is read, before the checks. What orders got later may be absent.
#[derive(Deserialize)]
#[serde(rename = "Order")]
struct Unchecked {
    id: ClientOrderId,
    symbol: Symbol,
    side: Side,
    kind: OrderKind,
    quantity: Quantity,
    purpose: Purpose,
    #[serde(default)]
    time_in_force: TimeInForce,
    #[serde(default)]
    post_only: bool,
    #[serde(default)]
    reduce_only: bool,
}

impl TryFrom<Unchecked> for Order {
    type Error = InvalidField;

    fn try_from(read: Unchecked) -> Result<Self, InvalidField> {
        let Unchecked { id, symbol, side, kind, quantity, purpose, time_in_force, post_only, reduce_only } = read;
        let order = Self::new(id, symbol, side, kind, quantity)?.with_purpose(purpose);
        let order = order.with_time_in_force(time_in_force)?;
        let order = if post_only { order.post_only()? } else { order };
        Ok(Self { reduce_only, ..order })
    }
}

/// Whether an op of the same id that may put an order at the venue, or change one there, waited when this order came.
/// Set by [`TradeOp::merge`](super::TradeOp::merge), which must not net such an order. All values are equal, since they
/// are no part of what is ordered.
#[derive(Debug, Clone, Copy, Default)]
enum Queued {
    #[default]
    Alone,
    Behind,
}

impl PartialEq for Queued {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Queued {}

impl Hash for Queued {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Order {
    /// An order of any kind. Its purpose is [`StopLoss`](Purpose::StopLoss) if it waits for a stop price, as most such
    /// orders protect from a loss, and [`Entry`](Purpose::Entry) otherwise; [`with_purpose`](Self::with_purpose)
    /// changes it. It is good till canceled, and neither post-only nor reduce-only.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn new(
        id: ClientOrderId,
        symbol: Symbol,
        side: Side,
        kind: OrderKind,
        quantity: Quantity,
    ) -> Result<Self, InvalidField> {
        let quantity = quantity.positive()?;
        let purpose = if kind.stop_price().is_some() { Purpose::StopLoss } else { Purpose::Entry };
        let time_in_force = TimeInForce::Gtc;
        let (post_only, reduce_only) = (false, false);
        Ok(Self {
            id,
            symbol,
            side,
            kind,
            quantity,
            purpose,
            time_in_force,
            post_only,
            reduce_only,
            queued: Queued::Alone,
        })
    }

    /// A market order: it trades at once, at the best prices there are.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn market(id: ClientOrderId, symbol: Symbol, side: Side, quantity: Quantity) -> Result<Self, InvalidField> {
        Self::new(id, symbol, side, OrderKind::Market, quantity)
    }

    /// A limit order: it trades at this price or a better one.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn limit(
        id: ClientOrderId,
        symbol: Symbol,
        side: Side,
        price: Price,
        quantity: Quantity,
    ) -> Result<Self, InvalidField> {
        Self::new(id, symbol, side, OrderKind::Limit { price }, quantity)
    }

    /// A stop order: it becomes a market order once the market reaches the stop price.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn stop(
        id: ClientOrderId,
        symbol: Symbol,
        side: Side,
        stop_price: Price,
        quantity: Quantity,
    ) -> Result<Self, InvalidField> {
        Self::new(id, symbol, side, OrderKind::Stop { stop_price }, quantity)
    }

    /// The same order for another purpose.
    #[must_use = "the order is returned, not changed in place"]
    pub fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// The same order for another time in force.
    ///
    /// # Errors
    ///
    /// The order is post-only and could not rest: the time in force is not expected. Or the time of
    /// [`Gtd`](TimeInForce::Gtd) is zero or negative.
    pub fn with_time_in_force(self, time_in_force: TimeInForce) -> Result<Self, InvalidField> {
        let expiry = |reason| Err(InvalidField::new("expiry", reason));
        match time_in_force.until_ns() {
            Some(0) => expiry(Reason::Zero),
            Some(i64::MIN..0) => expiry(Reason::Negative),
            _ if self.post_only && !time_in_force.may_rest() => {
                Err(InvalidField::new("time in force", Reason::Unexpected))
            }
            _ => Ok(Self { time_in_force, ..self }),
        }
    }

    /// The same order as one that only adds liquidity: the venue refuses it if it would trade at once. Also called
    /// maker or participate-don't-initiate.
    ///
    /// # Errors
    ///
    /// The order has no limit price, or its time in force does not let it rest: post-only is not expected.
    pub fn post_only(self) -> Result<Self, InvalidField> {
        if self.price().is_some() && self.time_in_force.may_rest() {
            Ok(Self { post_only: true, ..self })
        } else {
            Err(InvalidField::new("post-only", Reason::Unexpected))
        }
    }

    /// The same order as one that only reduces a position: the venue trades no more of it than closes the position.
    #[must_use = "the order is returned, not changed in place"]
    pub fn reduce_only(self) -> Self {
        Self { reduce_only: true, ..self }
    }

    /// The cancel of this order. Made here it has the symbol and side of its order, so that the two meet in one
    /// partition, and its purpose, so that it does not leave before it.
    pub fn cancel(&self) -> Cancel {
        Cancel::new(self.id, self.symbol, self.side, self.purpose)
    }

    /// An amend of this order that changes nothing yet: [`with_price`](Amend::with_price),
    /// [`with_quantity`](Amend::with_quantity) and [`with_stop_price`](Amend::with_stop_price) say what. Made here it
    /// has the symbol and side of its order, so that the two meet in one partition.
    pub const fn amend(&self) -> Amend {
        Amend::new(self.id, self.symbol, self.side)
    }

    /// An amend of this order's stop price, as a trailing stop asks for.
    ///
    /// # Errors
    ///
    /// The order has no stop price: the stop price is not expected.
    pub fn move_stop(&self, stop_price: Price) -> Result<Amend, InvalidField> {
        match self.kind.stop_price() {
            Some(_) => Ok(self.amend().with_stop_price(stop_price)),
            None => Err(InvalidField::new("stop price", Reason::Unexpected)),
        }
    }

    /// The order as the amend leaves it, for a venue in memory, for example.
    ///
    /// # Errors
    ///
    /// The amend is of another order, by its id, symbol or side; or it has a price that the order's kind has no use
    /// for: that field is not expected. Or its quantity is zero.
    pub fn amended(&self, amend: &Amend) -> Result<Self, InvalidField> {
        let check = |holds: bool, field| if holds { Ok(()) } else { Err(InvalidField::new(field, Reason::Unexpected)) };
        check(amend.order_id == self.id, "order id")?;
        check(amend.symbol == self.symbol, "symbol")?;
        check(amend.side == self.side, "side")?;
        let quantity = amend.quantity.unwrap_or(self.quantity).positive()?;
        let kind = self.kind.amended(amend.price, amend.stop_price)?;
        Ok(Self { kind, quantity, ..self.clone() })
    }

    /// The order, noted as one that came while an older op of its id waited.
    pub(super) fn behind(self) -> Self {
        Self { queued: Queued::Behind, ..self }
    }

    /// Whether an older op of its id waited when it came.
    pub(super) const fn is_behind(&self) -> bool {
        matches!(self.queued, Queued::Behind)
    }

    /// The caller's name for the order.
    pub const fn id(&self) -> ClientOrderId {
        self.id
    }

    /// The instrument.
    pub const fn symbol(&self) -> Symbol {
        self.symbol
    }

    /// Buy or sell.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The kind, with the prices that belong to it.
    pub const fn kind(&self) -> OrderKind {
        self.kind
    }

    /// The limit, if the order has one.
    pub const fn price(&self) -> Option<Price> {
        self.kind.price()
    }

    /// The stop price, if the order has one.
    pub const fn stop_price(&self) -> Option<Price> {
        self.kind.stop_price()
    }

    /// The total quantity, above zero.
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// The purpose, which decides the [`Priority`](super::Priority).
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// How long the order stays at the venue.
    pub const fn time_in_force(&self) -> TimeInForce {
        self.time_in_force
    }

    /// Whether the venue refuses the order if it would trade at once.
    pub const fn is_post_only(&self) -> bool {
        self.post_only
    }

    /// Whether the venue trades no more of the order than closes the position.
    pub const fn is_reduce_only(&self) -> bool {
        self.reduce_only
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
