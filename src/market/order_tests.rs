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
    assert_eq!((moved.order_id, moved.symbol, moved.side), (stop.id(), BTC, Side::Sell));
    assert_eq!(stop.with_stop_price(moved.stop_price).expect("has a stop").stop_price(), Some(price("9.5")));

    let plain = Order::market(8.into(), BTC, Side::Sell, quantity("1")).expect("valid");
    assert_eq!(plain.move_stop(price("9")).expect_err("none").to_string(), "stop price is not expected here");
    assert_eq!(plain.clone().with_stop_price(price("9")), Err(plain));
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
