//! Tests of what becomes of two ops that wait.

use super::*;
use crate::market::{Amend, Order, OrderKind, Price, Purpose, Quantity, Side, Symbol};

const BTC: Symbol = Symbol::from_static("BTCUSDT");
const ETH: Symbol = Symbol::from_static("ETHUSDT");

fn price(text: &str) -> Price {
    text.parse().expect(text)
}

fn update(symbol: Symbol, time_ns: i64, text: &str) -> TradeOp {
    PriceUpdate::new(symbol, price(text), time_ns).into()
}

fn limit(id: u64, text: &str) -> Order {
    Order::limit(id.into(), BTC, Side::Sell, price(text), "1".parse().expect("valid")).expect("valid")
}

fn stop(id: u64, text: &str) -> Order {
    Order::stop(id.into(), BTC, Side::Sell, price(text), "1".parse().expect("valid")).expect("valid")
}

fn amend(id: u64) -> Amend {
    Amend::new(id.into(), BTC, Side::Sell)
}

fn stop_move(id: u64, text: &str) -> TradeOp {
    amend(id).with_stop_price(price(text)).into()
}

fn quantity(text: &str) -> Quantity {
    text.parse().expect(text)
}

fn resize(id: u64, text: &str) -> TradeOp {
    amend(id).with_quantity(quantity(text)).expect("above zero").into()
}

fn reprice(id: u64, text: &str) -> TradeOp {
    amend(id).with_price(price(text)).into()
}

fn cancel(id: u64) -> TradeOp {
    limit(id, "10").cancel().into()
}

#[test]
fn the_latest_price_waits_on_and_old_news_does_not() {
    let (first, second) = (update(BTC, 1, "10"), update(BTC, 2, "11"));
    assert_eq!(TradeOp::merge(first.clone(), second.clone()), Merge::Into(second.clone()));
    assert_eq!(TradeOp::merge(second.clone(), first), Merge::Into(second.clone()), "it came later but is older");
    let tie = update(BTC, 2, "12");
    assert_eq!(TradeOp::merge(second, tie.clone()), Merge::Into(tie));
}

#[test]
fn an_order_and_its_cancel_are_never_sent() {
    for order in [limit(1, "10"), stop(1, "9"), limit(1, "10").with_purpose(Purpose::Liquidation)] {
        let cancel = order.cancel().into();
        assert_eq!(TradeOp::merge(order.into(), cancel), Merge::Net);
    }
}

#[test]
fn an_order_that_was_never_sent_starts_with_its_last_stop() {
    let merged = TradeOp::merge(stop(1, "9").into(), stop_move(1, "9.5"));
    assert_eq!(merged, Merge::Into(stop(1, "9.5").into()));

    let kind = |stop: &str| OrderKind::StopLimit { stop_price: price(stop), price: price("8") };
    let order = |stop| Order::new(1.into(), BTC, Side::Sell, kind(stop), "1".parse().expect("valid")).expect("valid");
    let merged = TradeOp::merge(order("9").into(), stop_move(1, "9.5"));
    assert_eq!(merged, Merge::Into(order("9.5").into()), "the limit stays");
}

/// Goal: an order that was never sent is sent as it was asked for last. Method: each field that an amend has, one after
/// the other and all at once, on the way to a cancel.
#[test]
fn an_order_and_its_amends_become_the_amended_order() {
    let order = |limit: &str, size: &str, stop: &str| {
        let kind = OrderKind::StopLimit { stop_price: price(stop), price: price(limit) };
        Order::new(1.into(), BTC, Side::Sell, kind, quantity(size)).expect("valid").with_purpose(Purpose::Exit)
    };
    let mut waiting = TradeOp::from(order("8", "2", "9"));
    for (amend, expected) in [
        (reprice(1, "7"), order("7", "2", "9")),
        (resize(1, "1.5"), order("7", "1.5", "9")),
        (stop_move(1, "8"), order("7", "1.5", "8")),
        (resize(1, "3"), order("7", "3", "8")),
        (amend(1).with_price(price("6")).with_stop_price(price("6")).into(), order("6", "3", "6")),
    ] {
        let Merge::Into(merged) = TradeOp::merge(waiting, amend) else { panic!("one op is sent") };
        assert_eq!(merged, expected.into());
        waiting = merged;
    }
    assert_eq!(TradeOp::merge(waiting, cancel(1)), Merge::Net);
}

/// Goal: a venue judges what an order has no use for, and a quantity of nothing. Method: amends that fit in part, or
/// not at all.
#[test]
fn an_amend_that_does_not_fit_its_order_is_sent_behind_it() {
    let market = Order::market(1.into(), BTC, Side::Sell, quantity("1")).expect("valid");
    let resized = amend(1).with_quantity(quantity("2")).expect("above zero");
    let mut to_nothing = resized;
    to_nothing.quantity = Some(Quantity::ZERO);
    for (order, amend) in [
        (market.clone(), reprice(1, "9")),
        (market, resized.with_stop_price(price("9")).into()),
        (limit(1, "10"), resized.with_stop_price(price("9")).into()),
        (limit(1, "10"), to_nothing.into()),
        (limit(1, "10"), Amend::new(1.into(), BTC, Side::Buy).with_price(price("9")).into()),
        (stop(1, "9"), resized.with_price(price("9")).into()),
    ] {
        let apart = Merge::Apart { waiting: order.clone().into(), newer: amend.clone() };
        assert_eq!(TradeOp::merge(order.into(), amend), apart);
    }
}

#[test]
fn amends_become_one_with_the_newer_value_of_each_field() {
    let both = |limit: &str, size: &str| {
        TradeOp::from(amend(1).with_price(price(limit)).with_quantity(quantity(size)).expect("above zero"))
    };
    assert_eq!(TradeOp::merge(reprice(1, "10"), reprice(1, "11")), Merge::Into(reprice(1, "11")));
    assert_eq!(TradeOp::merge(reprice(1, "10"), resize(1, "2")), Merge::Into(both("10", "2")));
    assert_eq!(TradeOp::merge(both("10", "2"), resize(1, "3")), Merge::Into(both("10", "3")));
    assert_eq!(TradeOp::merge(resize(1, "3"), both("10", "2")), Merge::Into(both("10", "2")));
    let other_side = TradeOp::from(Amend::new(1.into(), BTC, Side::Buy).with_price(price("9")));
    let apart = Merge::Apart { waiting: resize(1, "2"), newer: other_side.clone() };
    assert_eq!(TradeOp::merge(resize(1, "2"), other_side), apart);
}

#[test]
fn the_last_amend_wins_and_a_cancel_beats_them_all() {
    assert_eq!(TradeOp::merge(stop_move(1, "9"), stop_move(1, "9.5")), Merge::Into(stop_move(1, "9.5")));
    for amend in [stop_move(1, "9"), reprice(1, "9"), resize(1, "9")] {
        assert_eq!(TradeOp::merge(amend.clone(), cancel(1)), Merge::Into(cancel(1)));
        assert_eq!(TradeOp::merge(cancel(1), amend), Merge::Into(cancel(1)));
    }
    assert_eq!(TradeOp::merge(cancel(1), cancel(1)), Merge::Into(cancel(1)));
}

#[test]
fn an_order_handed_in_twice_is_sent_once() {
    assert_eq!(TradeOp::merge(limit(1, "10").into(), limit(1, "10").into()), Merge::Into(limit(1, "10").into()));
}

/// Goal: nothing is lost, and an id that is used again nets nothing, since the new order is not the one that the
/// waiting cancel or amend is about. Method: each pair that needs both ops.
#[test]
fn pairs_that_need_both_ops_stay_apart() {
    let pairs = [
        (cancel(1), limit(1, "10").into()),
        (stop_move(1, "9"), stop(1, "9").into()),
        (resize(1, "2"), stop(1, "9").into()),
        (limit(1, "10").into(), limit(1, "11").into()),
        (limit(1, "10").into(), stop_move(1, "9")),
        // Keys that differ, as with a caller's own key.
        (limit(1, "10").into(), cancel(2)),
        (update(BTC, 1, "10"), update(ETH, 2, "11")),
        (update(BTC, 1, "10"), cancel(1)),
    ];
    for (waiting, newer) in pairs {
        let apart = Merge::Apart { waiting: waiting.clone(), newer: newer.clone() };
        assert_eq!(TradeOp::merge(waiting, newer), apart);
    }
}

/// Goal: a cancel never leaves an older order of its id behind. Method: each op that may wait before an order, the order
/// as the merge returns it, and what comes then.
#[test]
fn an_order_behind_another_op_of_its_id_is_not_netted() {
    for older in [limit(1, "11").into(), stop(1, "8").into(), stop_move(1, "8"), resize(1, "2")] {
        let Merge::Apart { newer, .. } = TradeOp::merge(older, stop(1, "9").into()) else { panic!("both are sent") };
        for next in [cancel(1), stop_move(1, "9.5"), resize(1, "3"), stop(1, "7").into()] {
            let apart = Merge::Apart { waiting: newer.clone(), newer: next.clone() };
            assert_eq!(TradeOp::merge(newer.clone(), next), apart);
        }
        let Merge::Into(again) = TradeOp::merge(newer, stop(1, "9").into()) else { panic!("it is sent once") };
        assert!(matches!(TradeOp::merge(again, cancel(1)), Merge::Apart { .. }), "sent once, and still behind");
    }
    let Merge::Apart { newer, .. } = TradeOp::merge(cancel(1), stop(1, "9").into()) else { panic!("both are sent") };
    assert_eq!(TradeOp::merge(newer, cancel(1)), Merge::Net, "after a cancel nothing of the id is left");
}

#[test]
fn where_ids_are_reused_a_cancel_is_always_sent() {
    assert_eq!(TradeOp::merge_reused(stop(1, "9").into(), cancel(1)), Merge::Into(cancel(1)));
    let apart = Merge::Apart { waiting: stop(1, "9").into(), newer: stop_move(1, "9.5") };
    assert_eq!(TradeOp::merge_reused(stop(1, "9").into(), stop_move(1, "9.5")), apart);
    assert_eq!(TradeOp::merge_reused(stop_move(1, "9"), cancel(1)), Merge::Into(cancel(1)));
    assert_eq!(TradeOp::merge_reused(stop_move(1, "9"), stop_move(1, "8")), Merge::Into(stop_move(1, "8")));
    let apart = Merge::Apart { waiting: resize(1, "2"), newer: stop_move(1, "9") };
    assert_eq!(TradeOp::merge_reused(resize(1, "2"), stop_move(1, "9")), apart, "one of them may not fit");
    assert!(matches!(TradeOp::merge_reused(limit(1, "10").into(), cancel(2)), Merge::Apart { .. }));
}
