//! The merge functions of [`TradeOp`]: they decide which of an op that waits and a newer one of its key are sent. The
//! accumulator calls them for the youngest op that waits under a key.

use super::{PriceUpdate, TradeOp};
use crate::rules::stage::Merge;

impl TradeOp {
    /// Merges an op that waits with a newer one of the same [`conflation_key`](Self::conflation_key): made for
    /// [`conflate_by`](crate::Stages::conflate_by).
    ///
    /// | waiting | newer | what is sent |
    /// |---|---|---|
    /// | price | price | the later one by its own time; of two of the same time the newer |
    /// | order, the only one of its id that waits | its cancel | neither: both callers are told `Netted` |
    /// | order behind another order or an amend of its id | cancel | all of them, in order: nothing is netted |
    /// | order, the only one of its id that waits | an amend that fits it | the order with the new values |
    /// | order | an amend that does not fit it, or behind another op of its id | all of them, in order |
    /// | order | the same order again | the order, once |
    /// | order | another order of its id | both, in order |
    /// | amend | amend of the same side | one amend, with the newer value of each field |
    /// | amend | cancel | the cancel |
    /// | cancel | cancel or amend | the cancel |
    /// | cancel | order | both, in order; the next cancel nets this order and leaves the first cancel |
    ///
    /// All other pairs stay [`Apart`](Merge::Apart), so that nothing is lost.
    ///
    /// # Amends
    ///
    /// An amend fits an order that [`Order::amended`](super::Order::amended) can apply it to: a stop price needs an
    /// order with a stop, a price needs one with a limit. The quantity of an amend is the new total. An order that
    /// waits has no fills yet, so it is sent with that quantity.
    ///
    /// Amends that became one are taken or refused by the venue as one. If it refuses one field, the other field stays
    /// as it was too, and the callers of both amends get that result. [`merge_reused`](Self::merge_reused) merges only
    /// amends of the same fields, where this cannot happen.
    ///
    /// # Ids that are used again
    ///
    /// After a cancel of an id no order of that id rests at the venue, and an order has the values of its last amends,
    /// as if each op had been sent alone. Two orders of one id may wait together, and an id may be used again after its
    /// cancel.
    ///
    /// A merge sees only what waits. An order in flight does not wait, so its cancel finds no partner and goes to the
    /// venue. A *second* order of that id would wait, and net with that cancel. Programs that use an id again before the
    /// first order of it is filled or canceled take [`merge_reused`](Self::merge_reused) instead.
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
            (Self::Order(order), Self::Cancel(_)) if !order.is_behind() => Merge::Net,
            (Self::Order(order), Self::Amend(amend)) if !order.is_behind() => match order.amended(&amend) {
                Ok(amended) => Merge::Into(amended.into()),
                Err(_) => Merge::Apart { waiting: order.into(), newer: amend.into() },
            },
            (Self::Order(waiting), Self::Order(newer)) if waiting == newer => Merge::Into(waiting.into()),
            (Self::Amend(waiting), Self::Amend(newer)) if waiting.side == newer.side => {
                Merge::Into(waiting.followed_by(newer).into())
            }
            (Self::Amend(_), newer @ Self::Cancel(_)) => Merge::Into(newer),
            (waiting @ Self::Cancel(_), Self::Cancel(_) | Self::Amend(_)) => Merge::Into(waiting),
            // The next op meets the newer order alone, which therefore notes that an older op waits.
            (waiting @ (Self::Order(_) | Self::Amend(_)), Self::Order(newer)) => {
                Merge::Apart { waiting, newer: newer.behind().into() }
            }
            // An order after a cancel of its id, or behind an older op of it: the venue has to judge each.
            (waiting, newer) => Merge::Apart { waiting, newer },
        }
    }

    /// Like [`merge`](Self::merge), for programs that may use an id again while an order of it is at the venue: an id
    /// made of the price, or a caller that retries.
    ///
    /// A cancel is always sent, because an older order of its id may be at the venue. It takes the place of an order
    /// that waits, which is not sent; that order's caller is told `Conflated`, with the result of the cancel.
    ///
    /// An amend is sent behind an order that waits, as it may be meant for the order at the venue. Amends become one
    /// only if they change the same fields, because it is not known which of them fit the order at the venue.
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
    /// assert_eq!(TradeOp::merge_reused(order, cancel.clone()), Merge::Into(cancel));
    /// # Ok::<(), roundlot::market::InvalidField>(())
    /// ```
    pub fn merge_reused(waiting: Self, newer: Self) -> Merge<Self> {
        if waiting.conflation_key() != newer.conflation_key() {
            return Merge::Apart { waiting, newer };
        }
        match (waiting, newer) {
            (Self::Order(_), cancel @ Self::Cancel(_)) => Merge::Into(cancel),
            (waiting @ Self::Order(_), newer @ Self::Amend(_)) => Merge::Apart { waiting, newer },
            (Self::Amend(waiting), Self::Amend(newer)) if !waiting.changes_same_fields(&newer) => {
                Merge::Apart { waiting: waiting.into(), newer: newer.into() }
            }
            (waiting, newer) => Self::merge(waiting, newer),
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
