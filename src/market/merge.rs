//! What becomes of two ops of one key. The waiting one and the newer one come in, what has to be sent goes out.

use super::{PriceUpdate, TradeOp};
use crate::stage::Merge;

impl TradeOp {
    /// What becomes of an op that waits and a newer one with the same [`conflation_key`](Self::conflation_key): made
    /// for [`conflate_by`](crate::Stages::conflate_by).
    ///
    /// | waiting | newer | what is sent |
    /// |---|---|---|
    /// | price | price | the later one by its own time; of two of the same time the newer |
    /// | order | its cancel | neither: an order that was never sent is never canceled at the venue |
    /// | stop order | move of its stop | the order with the new stop price |
    /// | order | the same order again | the order, once |
    /// | stop move | stop move | the newer |
    /// | stop move | cancel | the cancel |
    /// | cancel | cancel or stop move | the cancel |
    ///
    /// All other pairs stay [`Apart`](Merge::Apart), so that nothing is lost. Most come of an id that is used again: a
    /// cancel that waits is about an order that the venue has, not about the new order of the same id. Two different
    /// orders of one id that wait together are a mistake for the venue to refuse; a cancel nets the second only.
    ///
    /// An order in flight does not wait, so its cancel finds no partner and goes to the venue.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::{
    ///     market::{Order, Side, Symbol, TradeOp},
    ///     stage::Merge,
    /// };
    ///
    /// let symbol = Symbol::from_static("BTCUSDT");
    /// let order = Order::market(1.into(), symbol, Side::Buy, "0.25".parse()?)?;
    /// let (cancel, order) = (TradeOp::from(order.cancel()), TradeOp::from(order));
    ///
    /// assert_eq!(TradeOp::merge(order.clone(), cancel.clone()), Merge::Net);
    /// assert_eq!(TradeOp::merge(cancel.clone(), order.clone()), Merge::Apart { waiting: cancel, newer: order });
    /// # Ok::<(), roundlot::market::InvalidField>(())
    /// ```
    pub fn merge(waiting: Self, newer: Self) -> Merge<Self> {
        // A caller may conflate by a key of its own, which says less than ours.
        if waiting.conflation_key().is_none() || waiting.conflation_key() != newer.conflation_key() {
            return Merge::Apart { waiting, newer };
        }
        match (waiting, newer) {
            (Self::PriceUpdate(waiting), Self::PriceUpdate(newer)) => {
                PriceUpdate::latest(waiting, newer).map(Self::from).into()
            }
            (Self::Order(_), Self::Cancel(_)) => Merge::Net,
            (Self::Order(order), Self::StopMove(stop)) => match order.with_stop_price(stop.stop_price) {
                Ok(moved) => Merge::Into(moved.into()),
                Err(order) => Merge::Apart { waiting: order.into(), newer: stop.into() },
            },
            (Self::Order(waiting), Self::Order(newer)) if waiting == newer => Merge::Into(waiting.into()),
            (Self::StopMove(_), newer @ (Self::StopMove(_) | Self::Cancel(_))) => Merge::Into(newer),
            (waiting @ Self::Cancel(_), Self::Cancel(_) | Self::StopMove(_)) => Merge::Into(waiting),
            // An id that is used again, or two orders of one id that differ: the venue has to judge both.
            (waiting, newer) => Merge::Apart { waiting, newer },
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
