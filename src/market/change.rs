//! Changes of an order that the venue may already have: a cancel, and an amend of its price, quantity or stop.

use serde::{Deserialize, Serialize};

use super::{ClientOrderId, InvalidField, Price, Purpose, Quantity, Side, Symbol};

/// Asks for an order to be canceled.
///
/// [`Order::cancel`](super::Order::cancel) makes it with the id, symbol, side and purpose of the order. Without the
/// order at hand, give the values that it had: a cancel with another symbol or side does not meet its order while both
/// wait, and reaches the venue before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cancel {
    /// The order, by the caller's name for it.
    pub order_id: ClientOrderId,
    /// The instrument of the order.
    pub symbol: Symbol,
    /// The side of the order.
    pub side: Side,
    /// The purpose of the order. A cancel is as urgent as its order. A more urgent one would leave before an order that
    /// waits, and miss it. A less urgent one would be overtaken by the order's replacement.
    pub purpose: Purpose,
}

impl Cancel {
    /// The cancel of the order that has this id, symbol, side and purpose.
    pub const fn new(order_id: ClientOrderId, symbol: Symbol, side: Side, purpose: Purpose) -> Self {
        Self { order_id, symbol, side, purpose }
    }
}

/// Asks for an order to be changed, and not replaced by another one: a new price, quantity or stop price. Fields that
/// are `None` stay as they are. This is a cancel/replace of FIX and the `modify` or `amend` of a venue.
///
/// [`Order::amend`](super::Order::amend) makes it with the id, symbol and side of the order.
///
/// Amends of one order that wait become one, see [`TradeOp::merge`](super::TradeOp::merge).
///
/// # Examples
///
/// ```
/// use roundlot::market::{Order, Side, Symbol};
///
/// let symbol = Symbol::from_static("BTCUSDT");
/// let order = Order::limit(1.into(), symbol, Side::Buy, "61250.10".parse()?, "0.25".parse()?)?;
///
/// let amend = order.amend().with_price("61240".parse()?).with_quantity("0.20".parse()?)?;
/// assert_eq!(amend.stop_price, None);
///
/// let amended = order.amended(&amend)?;
/// assert_eq!((amended.price(), amended.quantity()), (Some("61240".parse()?), "0.20".parse()?));
///
/// let error = order.amend().with_quantity("0".parse()?).unwrap_err();
/// assert_eq!(error.to_string(), "quantity is zero"); // a cancel does that
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Amend {
    /// The order, by the caller's name for it. A trailing stop names the stop order itself, and never the order that
    /// opened the position: once that one is canceled, amends under its id are dropped. Where the venue keeps one stop
    /// for each position, give the stop an id of its own.
    pub order_id: ClientOrderId,
    /// The instrument of the order.
    pub symbol: Symbol,
    /// The side of the order: the stop of a long position sells.
    pub side: Side,
    /// The new limit of the order.
    pub price: Option<Price>,
    /// The new total quantity of the order, above zero, with what has been filled already.
    #[serde(default, deserialize_with = "Quantity::deserialize_positive_option")]
    pub quantity: Option<Quantity>,
    /// The new stop price of the order.
    pub stop_price: Option<Price>,
}

impl Amend {
    /// An amend of the order that has this id, symbol and side. It changes nothing yet.
    pub const fn new(order_id: ClientOrderId, symbol: Symbol, side: Side) -> Self {
        Self { order_id, symbol, side, price: None, quantity: None, stop_price: None }
    }

    /// The same amend with a new limit for the order.
    #[must_use = "the amend is returned, not changed in place"]
    pub const fn with_price(self, price: Price) -> Self {
        Self { price: Some(price), ..self }
    }

    /// The same amend with a new total quantity for the order. What has been filled counts: an order of 10 of which 4
    /// are filled has 1 left after an amend to 5.
    ///
    /// # Errors
    ///
    /// The quantity is zero.
    pub fn with_quantity(self, quantity: Quantity) -> Result<Self, InvalidField> {
        Ok(Self { quantity: Some(quantity.positive()?), ..self })
    }

    /// The same amend with a new stop price for the order.
    #[must_use = "the amend is returned, not changed in place"]
    pub const fn with_stop_price(self, stop_price: Price) -> Self {
        Self { stop_price: Some(stop_price), ..self }
    }

    /// Combines this amend and a newer one into one. The newer value of each field counts.
    pub(super) fn followed_by(self, newer: Self) -> Self {
        Self {
            price: newer.price.or(self.price),
            quantity: newer.quantity.or(self.quantity),
            stop_price: newer.stop_price.or(self.stop_price),
            ..newer
        }
    }

    /// Whether both change the same fields.
    pub(super) fn changes_same_fields(&self, other: &Self) -> bool {
        let fields = |amend: &Self| [amend.price.is_some(), amend.quantity.is_some(), amend.stop_price.is_some()];
        fields(self) == fields(other)
    }
}
