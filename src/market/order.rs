//! A new order: what the venue is asked to do. Checked parts come in, an order that makes sense goes out.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{Cancel, ClientOrderId, InvalidField, OrderKind, Price, Purpose, Quantity, Reason, Side, StopMove, Symbol};

/// A new order.
///
/// Its quantity is above zero and its kind has the prices it needs, so a sink need not look again. It can be cloned
/// but is not `Copy`: an order that was handed in cannot be handed in again by accident.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Order, Priority, Purpose, Side, Symbol};
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
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    id: ClientOrderId,
    symbol: Symbol,
    side: Side,
    kind: OrderKind,
    #[serde(deserialize_with = "Quantity::deserialize_positive")]
    quantity: Quantity,
    purpose: Purpose,
    #[serde(skip)]
    queued: Queued,
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
    /// An order of any kind. Its purpose is [`StopLoss`](Purpose::StopLoss) if it waits for a stop price, since most
    /// that do are, and [`Entry`](Purpose::Entry) otherwise; [`with_purpose`](Self::with_purpose) changes it.
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
        Ok(Self { id, symbol, side, kind, quantity, purpose, queued: Queued::Alone })
    }

    /// An order that takes what is there.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn market(id: ClientOrderId, symbol: Symbol, side: Side, quantity: Quantity) -> Result<Self, InvalidField> {
        Self::new(id, symbol, side, OrderKind::Market, quantity)
    }

    /// An order that trades at this price or a better one.
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

    /// An order that becomes a market order once the market reaches the stop price.
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

    /// The cancel of this order. Made here it has the symbol and side of its order, so that the two meet in one
    /// partition, and its purpose, so that it does not leave before it.
    pub fn cancel(&self) -> Cancel {
        Cancel::new(self.id, self.symbol, self.side, self.purpose)
    }

    /// The move of this order's stop price.
    ///
    /// # Errors
    ///
    /// The order has no stop price: the stop price is not expected.
    pub fn move_stop(&self, stop_price: Price) -> Result<StopMove, InvalidField> {
        match self.kind.stop_price() {
            Some(_) => Ok(StopMove { order_id: self.id, symbol: self.symbol, side: self.side, stop_price }),
            None => Err(InvalidField::new("stop price", Reason::Unexpected)),
        }
    }

    /// The order, noted as one that came while an older op of its id waited.
    pub(super) fn behind(self) -> Self {
        Self { queued: Queued::Behind, ..self }
    }

    /// Whether an older op of its id waited when it came.
    pub(super) const fn is_behind(&self) -> bool {
        matches!(self.queued, Queued::Behind)
    }

    /// The order with its stop elsewhere; the order unchanged if it has none.
    #[expect(clippy::result_large_err, reason = "the order is given back, which is what its caller has anyway")]
    pub(super) fn with_stop_price(self, stop_price: Price) -> Result<Self, Self> {
        let kind = match self.kind {
            OrderKind::Stop { .. } => OrderKind::Stop { stop_price },
            OrderKind::StopLimit { price, .. } => OrderKind::StopLimit { stop_price, price },
            OrderKind::Market | OrderKind::Limit { .. } => return Err(self),
        };
        Ok(Self { kind, ..self })
    }

    /// The caller's name for it.
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

    /// Its kind, with the prices that belong to it.
    pub const fn kind(&self) -> OrderKind {
        self.kind
    }

    /// The limit, if it has one.
    pub const fn price(&self) -> Option<Price> {
        self.kind.price()
    }

    /// The stop price, if it has one.
    pub const fn stop_price(&self) -> Option<Price> {
        self.kind.stop_price()
    }

    /// How much, above zero.
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// What it is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
