//! What is asked of an order that the venue may already have: to cancel it, or to move its stop.

use serde::{Deserialize, Serialize};

use super::{ClientOrderId, Price, Purpose, Side, Symbol};

/// Asks for an order to be canceled.
///
/// [`Order::cancel`](super::Order::cancel) makes it with all that has to agree with the order. Without the order at
/// hand, fill in what it had: a cancel with another symbol or side does not meet its order while both wait, and
/// reaches the venue before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cancel {
    /// The order, by the caller's name for it.
    pub order_id: ClientOrderId,
    /// The instrument of the order.
    pub symbol: Symbol,
    /// The side of the order.
    pub side: Side,
    /// What the order was for. A cancel is as urgent as its order: were it more urgent, it would leave before an order
    /// that waits and miss it; were it less, the order's replacement would overtake it.
    pub purpose: Purpose,
}

impl Cancel {
    /// The cancel of the order that has this id, symbol, side and purpose.
    pub const fn new(order_id: ClientOrderId, symbol: Symbol, side: Side, purpose: Purpose) -> Self {
        Self { order_id, symbol, side, purpose }
    }
}

/// Asks for the stop price of an order to be moved, as a trailing stop does. The latest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopMove {
    /// The stop order itself, by the caller's name for it, and never the order that opened the position: once that
    /// one is canceled, moves under its name are dropped. Where the venue keeps one stop for each position, give the
    /// stop a name of its own.
    pub order_id: ClientOrderId,
    /// The instrument of the stop order.
    pub symbol: Symbol,
    /// The side of the stop order: the stop of a long position sells.
    pub side: Side,
    /// Where the stop stands from now on.
    pub stop_price: Price,
}
