//! Tests of orders and their kinds.

use serde::de::value::{Error, MapDeserializer};

use super::*;

const BTC: Symbol = Symbol::from_static("BTCUSDT");

fn price(text: &str) -> Price {
    text.parse().expect(text)
}

fn quantity(text: &str) -> Quantity {
    text.parse().expect(text)
}

#[test]
fn each_kind_has_its_prices() {
    let of = |kind| Order::new(1.into(), BTC, Side::Buy, kind, quantity("1")).expect("valid");
    let prices = |order: Order| (order.price(), order.stop_price());
    let (limit, stop) = (price("10"), price("9"));
    assert_eq!(prices(of(OrderKind::Market)), (None, None));
    assert_eq!(prices(of(OrderKind::Limit { price: limit })), (Some(limit), None));
    assert_eq!(prices(of(OrderKind::Stop { stop_price: stop })), (None, Some(stop)));
    assert_eq!(prices(of(OrderKind::StopLimit { stop_price: stop, price: limit })), (Some(limit), Some(stop)));
}

#[test]
fn no_order_is_for_nothing() {
    let none = quantity("0.000");
    let orders = [
        Order::market(1.into(), BTC, Side::Buy, none),
        Order::limit(1.into(), BTC, Side::Buy, price("1"), none),
        Order::stop(1.into(), BTC, Side::Buy, price("1"), none),
    ];
    for order in orders {
        let error = order.expect_err("zero");
        assert_eq!((error.field(), error.reason()), ("quantity", Reason::Zero));
    }
}

/// Goal: an order that is read from a row is as sound as one that is made. Method: each kind with each set of prices.
#[test]
fn parts_that_do_not_fit_name_the_field() {
    let (limit, stop) = (Some(price("10")), Some(price("9")));
    let error = |word, price, stop| OrderKind::from_parts(word, price, stop).expect_err(word).to_string();
    assert_eq!(error("limit", None, None), "price is missing");
    assert_eq!(error("limit", limit, stop), "stop price is not expected here");
    assert_eq!(error("market", limit, None), "price is not expected here");
    assert_eq!(error("market", None, stop), "stop price is not expected here");
    assert_eq!(error("stop", None, None), "stop price is missing");
    assert_eq!(error("stop", limit, stop), "price is not expected here");
    assert_eq!(error("stop_limit", None, stop), "price is missing");
    assert_eq!(error("stop_limit", limit, None), "stop price is missing");
    assert_eq!(error("iceberg", limit, None), "order kind is an unknown word");

    assert_eq!(OrderKind::from_parts("MARKET", None, None), Ok(OrderKind::Market));
    assert_eq!(OrderKind::from_parts("Limit", limit, None).map(|kind| kind.price()), Ok(limit));
    assert_eq!(OrderKind::from_parts("stop", None, stop).map(|kind| kind.stop_price()), Ok(stop));
    assert!(OrderKind::from_parts("stop_limit", limit, stop).is_ok());
}

#[test]
fn a_stop_is_for_a_loss_unless_told_otherwise() {
    let stop = Order::stop(1.into(), BTC, Side::Sell, price("9"), quantity("1")).expect("valid");
    assert_eq!(stop.purpose(), Purpose::StopLoss);
    assert_eq!(stop.with_purpose(Purpose::Entry).purpose(), Purpose::Entry);
}

#[test]
fn what_follows_from_an_order_has_its_address() {
    let stop = Order::stop(7.into(), BTC, Side::Sell, price("9"), quantity("1")).expect("valid");
    let cancel = stop.cancel();
    assert_eq!((cancel.order_id, cancel.symbol, cancel.side), (stop.id(), BTC, Side::Sell));
    assert_eq!(cancel.purpose, Purpose::StopLoss);
    let moved = stop.move_stop(price("9.5")).expect("has a stop");
    assert_eq!(moved, Amend::new(stop.id(), BTC, Side::Sell).with_stop_price(price("9.5")));
    assert_eq!(stop.amended(&moved).expect("has a stop").stop_price(), Some(price("9.5")));

    let plain = Order::market(8.into(), BTC, Side::Sell, quantity("1")).expect("valid");
    assert_eq!(plain.move_stop(price("9")).expect_err("none").to_string(), "stop price is not expected here");
}

/// Goal: an amend changes what it names and nothing else. Method: each field and all of them, on each kind of order.
#[test]
fn an_amend_applies_to_the_fields_that_its_order_has() {
    let (old, new) = (price("9"), price("8"));
    let of = |kind, quantity: &str| {
        let order = Order::new(1.into(), BTC, Side::Sell, kind, quantity.parse().expect("valid")).expect("valid");
        order.with_purpose(Purpose::Exit)
    };
    let amended = |kind, amend: fn(Amend, Price) -> Amend| {
        let order = of(kind, "2");
        order.amended(&amend(order.amend(), new)).map(|order| order.kind()).map_err(|error| error.to_string())
    };
    let kinds = |price, stop_price| {
        [
            OrderKind::Market,
            OrderKind::Limit { price },
            OrderKind::Stop { stop_price },
            OrderKind::StopLimit { stop_price, price },
        ]
    };
    let [market, limit, stop, both] = kinds(old, old);
    let no_price = Err("price is not expected here".to_owned());
    let no_stop = Err("stop price is not expected here".to_owned());
    let by_price = kinds(old, old).map(|kind| amended(kind, Amend::with_price));
    assert_eq!(by_price, [no_price.clone(), Ok(kinds(new, old)[1]), no_price.clone(), Ok(kinds(new, old)[3])]);
    let by_stop = kinds(old, old).map(|kind| amended(kind, Amend::with_stop_price));
    assert_eq!(by_stop, [no_stop.clone(), no_stop.clone(), Ok(kinds(old, new)[2]), Ok(kinds(old, new)[3])]);
    let by_both = kinds(old, old).map(|kind| amended(kind, |amend, to| amend.with_price(to).with_stop_price(to)));
    assert_eq!(by_both, [no_price.clone(), no_stop, no_price, Ok(kinds(new, new)[3])]);

    for kind in [market, limit, stop, both] {
        let order = of(kind, "2");
        assert_eq!(order.amended(&order.amend()), Ok(order.clone()), "nothing is asked for");
        let amend = order.amend().with_quantity(quantity("1.5")).expect("above zero");
        assert_eq!(order.amended(&amend), Ok(of(kind, "1.5")), "the new total");
    }
}

#[test]
fn an_amend_of_another_order_or_to_nothing_is_refused() {
    let order = Order::limit(1.into(), BTC, Side::Sell, price("9"), quantity("2")).expect("valid");
    let error = |amend: Amend| order.amended(&amend).expect_err("refused").to_string();
    let eth = Symbol::from_static("ETHUSDT");
    assert_eq!(error(Amend::new(2.into(), BTC, Side::Sell)), "order id is not expected here");
    assert_eq!(error(Amend::new(1.into(), eth, Side::Sell)), "symbol is not expected here");
    assert_eq!(error(Amend::new(1.into(), BTC, Side::Buy)), "side is not expected here");

    let zero = order.amend().with_quantity(Quantity::ZERO).expect_err("a cancel does that");
    assert_eq!((zero.field(), zero.reason()), ("quantity", Reason::Zero));
    // The field is public, so the check of `with_quantity` can be gone around.
    let mut by_hand = order.amend();
    by_hand.quantity = Some(Quantity::ZERO);
    assert_eq!(error(by_hand), "quantity is zero");
}

/// Goal: serde is no way around the checks. Method: the smallest row, with a quantity and without.
#[test]
fn serde_checks_what_it_reads() {
    let read = |quantity: &'static str| {
        let row = [
            ("id", "1"),
            ("symbol", "BTCUSDT"),
            ("side", "BUY"),
            ("kind", "market"),
            ("quantity", quantity),
            ("purpose", "exit"),
        ];
        Order::deserialize(MapDeserializer::<_, Error>::new(row.into_iter()))
    };
    let expected =
        Order::market(1.into(), BTC, Side::Buy, quantity("2.50")).expect("valid").with_purpose(Purpose::Exit);
    assert_eq!(read("2.50"), Ok(expected));
    assert_eq!(read("0").expect_err("zero").to_string(), "quantity is zero");
    assert_eq!(read("-1").expect_err("negative").to_string(), "quantity is negative");
}

/// Goal: a venue gets no order that contradicts itself. Method: both orders of asking for both, on each kind of order.
#[test]
fn a_post_only_order_can_rest() {
    let (limit, gtd) = (price("10"), TimeInForce::Gtd { until_ns: 1 });
    let of = |kind| Order::new(1.into(), BTC, Side::Buy, kind, quantity("1")).expect("valid");
    for kind in [OrderKind::Limit { price: limit }, OrderKind::StopLimit { stop_price: limit, price: limit }] {
        for may_rest in [TimeInForce::Gtc, gtd] {
            let order = of(kind).post_only().and_then(|order| order.with_time_in_force(may_rest)).expect("may rest");
            assert!(order.is_post_only() && order.time_in_force() == may_rest);
            let same = of(kind).with_time_in_force(may_rest).and_then(Order::post_only);
            assert_eq!(same, Ok(order));
        }
        for at_once in [TimeInForce::Ioc, TimeInForce::Fok] {
            let order = of(kind).with_time_in_force(at_once).expect("each kind may trade at once");
            assert_eq!(order.post_only().expect_err("no rest").to_string(), "post-only is not expected here");
            let error = of(kind).post_only().and_then(|order| order.with_time_in_force(at_once)).expect_err("no rest");
            assert_eq!(error.to_string(), "time in force is not expected here");
        }
    }
    for kind in [OrderKind::Market, OrderKind::Stop { stop_price: limit }] {
        assert_eq!(of(kind).post_only().expect_err("no limit").to_string(), "post-only is not expected here");
    }
}

#[test]
fn an_order_expires_at_a_time() {
    let order = || Order::market(1.into(), BTC, Side::Buy, quantity("1")).expect("valid");
    let error = |until_ns| order().with_time_in_force(TimeInForce::Gtd { until_ns }).expect_err("no time").to_string();
    assert_eq!(error(0), "expiry is zero");
    assert_eq!([error(-1), error(i64::MIN)], ["expiry is negative"; 2]);
    assert!(order().with_time_in_force(TimeInForce::Gtd { until_ns: i64::MAX }).is_ok());
}

/// Goal: neither a purpose nor an amend takes a condition off an order. Method: an order with all of them, changed.
#[test]
fn a_changed_order_keeps_its_conditions() {
    let order = Order::limit(1.into(), BTC, Side::Sell, price("10"), quantity("1")).expect("valid").reduce_only();
    let order = order.with_time_in_force(TimeInForce::Gtd { until_ns: 7 }).and_then(Order::post_only).expect("valid");
    let amended = order.amended(&order.amend().with_price(price("11"))).expect("it fits");
    let changed = amended.with_purpose(Purpose::Exit);
    assert!(changed.is_post_only() && changed.is_reduce_only());
    assert_eq!(changed.time_in_force().until_ns(), Some(7));
    assert_ne!(order, Order::limit(1.into(), BTC, Side::Sell, price("10"), quantity("1")).expect("valid"));
}
