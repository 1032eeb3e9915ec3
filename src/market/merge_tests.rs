//! Tests of what becomes of two ops that wait.

use super::*;
use crate::market::{Order, OrderKind, Price, Purpose, Side, StopMove, Symbol};

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

fn stop_move(id: u64, text: &str) -> TradeOp {
    TradeOp::StopMove(StopMove { order_id: id.into(), symbol: BTC, side: Side::Sell, stop_price: price(text) })
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

#[test]
fn the_last_stop_move_wins_and_a_cancel_beats_them_all() {
    assert_eq!(TradeOp::merge(stop_move(1, "9"), stop_move(1, "9.5")), Merge::Into(stop_move(1, "9.5")));
    assert_eq!(TradeOp::merge(stop_move(1, "9"), cancel(1)), Merge::Into(cancel(1)));
    assert_eq!(TradeOp::merge(cancel(1), stop_move(1, "9")), Merge::Into(cancel(1)));
    assert_eq!(TradeOp::merge(cancel(1), cancel(1)), Merge::Into(cancel(1)));
}

#[test]
fn an_order_handed_in_twice_is_sent_once() {
    assert_eq!(TradeOp::merge(limit(1, "10").into(), limit(1, "10").into()), Merge::Into(limit(1, "10").into()));
}

/// Goal: nothing is lost, and an id that is used again nets nothing, since the new order is not the one that the
/// waiting cancel or move is about. Method: each pair that needs both ops.
#[test]
fn pairs_that_need_both_ops_stay_apart() {
    let pairs = [
        (cancel(1), limit(1, "10").into()),
        (stop_move(1, "9"), stop(1, "9").into()),
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
    for older in [limit(1, "11").into(), stop(1, "8").into(), stop_move(1, "8")] {
        let Merge::Apart { newer, .. } = TradeOp::merge(older, stop(1, "9").into()) else { panic!("both are sent") };
        for next in [cancel(1), stop_move(1, "9.5"), stop(1, "7").into()] {
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
    assert!(matches!(TradeOp::merge_reused(limit(1, "10").into(), cancel(2)), Merge::Apart { .. }));
}
