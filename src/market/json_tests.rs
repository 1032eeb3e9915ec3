//! Tests of the JSON of the trading nouns.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;

const BTC: Symbol = Symbol::from_static("BTCUSDT");

fn price(text: &str) -> Price {
    text.parse().expect(text)
}

fn quantity(text: &str) -> Quantity {
    text.parse().expect(text)
}

/// Reads back what was written, with a field more at the end of it.
fn reread<T: Serialize + DeserializeOwned>(noun: &T) -> T {
    let mut json = serde_json::to_value(noun).expect("it can be written");
    let fields = json.as_object_mut().expect("an object");
    fields.insert("added_by_a_later_version".to_owned(), json!({"any": ["thing"]}));
    serde_json::from_value(json).expect("it can be read")
}

/// The examples in a section of the documentation.
fn examples(section: &str) -> Vec<Value> {
    let (_, rest) = include_str!("json.md").split_once(section).expect("the section is there");
    let block = rest.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("it has examples");
    serde_json::Deserializer::from_str(block).into_iter().collect::<Result<_, _>>().expect(block)
}

/// Reads an example, and sees that it is written in the same way.
fn read<T: Serialize + DeserializeOwned>(example: &Value) -> T {
    let noun: T = serde_json::from_value(example.clone()).expect("it can be read");
    assert_eq!(&serde_json::to_value(&noun).expect("it can be written"), example);
    noun
}

fn error<T: DeserializeOwned>(json: Value) -> String {
    serde_json::from_value::<T>(json).err().expect("it is refused").to_string()
}

/// Goal: a later version may add fields without breaking readers of this one. Method: a field more in each struct.
#[test]
fn fields_that_a_struct_does_not_know_are_skipped() {
    let update = PriceUpdate::new(BTC, price("61250.10"), 1);
    assert_eq!(reread(&update), update);
    let quote = Quote::new(BTC, price("9"), quantity("1"), price("10"), quantity("2"), 1);
    assert_eq!(reread(&quote), quote);
    let trade = Trade::new(7.into(), BTC, price("10"), quantity("1"), Some(Side::Buy), 1);
    assert_eq!(reread(&trade), trade);
    let order = Order::limit(1.into(), BTC, Side::Sell, price("10"), quantity("1")).expect("valid");
    assert_eq!(reread(&order), order);
    assert_eq!(reread(&order.cancel()), order.cancel());
    let amend = order.amend().with_price(price("11"));
    assert_eq!(reread(&amend), amend);
    let kind: OrderKind = serde_json::from_value(json!({"limit": {"price": "10", "new": 1}})).expect("it can be read");
    assert_eq!(kind, order.kind());
}

/// Goal: no order is read as another one than was meant. Method: a price that is missing, and one of another kind,
/// which is known, unlike the fields of the test above.
#[test]
fn a_kind_is_read_with_its_own_prices_only() {
    for (json, message) in [
        (json!({"limit": {}}), "price is missing"),
        (json!({"limit": {"price": null}}), "price is missing"),
        (json!({"limit": {"price": "10", "stop_price": "9"}}), "stop price is not expected here"),
        (json!({"stop": {"price": "10", "stop_price": "9"}}), "price is not expected here"),
        (json!({"stop_limit": {"price": "10"}}), "stop price is missing"),
    ] {
        assert_eq!(error::<OrderKind>(json), message);
    }
    error::<OrderKind>(json!({"market": {"price": "10"}}));
    error::<OrderKind>(json!({"iceberg": {"price": "10"}}));
}

#[test]
fn an_amend_is_read_with_the_fields_that_it_changes() {
    let read = |field: &str, value: &str| {
        let mut json = json!({"order_id": "1", "symbol": "BTCUSDT", "side": "sell"});
        json[field] = value.into();
        json
    };
    let amend = Amend::new(1.into(), BTC, Side::Sell).with_price(price("10"));
    assert_eq!(serde_json::from_value::<Amend>(read("price", "10")).expect("valid"), amend);
    assert_eq!(error::<Amend>(read("quantity", "0.0")), "quantity is zero");
    assert_eq!(error::<Amend>(read("quantity", "-1")), "quantity is negative");
}

/// Goal: the documentation tells the truth and leaves nothing out. Method: read each example of it, and look for each
/// kind of order, and each time in force.
#[test]
fn each_documented_order_is_read_and_written() {
    let orders: Vec<Order> = examples("## `Order`").iter().map(read).collect();
    let (price, stop_price) = (price("61250.10"), price("60000"));
    let stop_limit = OrderKind::StopLimit { stop_price, price: self::price("59900") };
    let kinds = [OrderKind::Market, OrderKind::Limit { price }, OrderKind::Stop { stop_price }, stop_limit];
    assert!(orders.iter().map(Order::kind).eq(kinds));
    let gtd = TimeInForce::Gtd { until_ns: 1_723_075_200_000_000_000 };
    assert!(orders.iter().map(Order::time_in_force).eq([TimeInForce::Ioc, gtd, TimeInForce::Gtc, TimeInForce::Fok]));
    assert!(orders.iter().map(Order::is_post_only).eq([false, true, false, false]));
    assert!(orders.iter().map(Order::is_reduce_only).eq([false, false, true, true]));
}

#[test]
fn each_documented_op_is_read_and_written() {
    let ops: Vec<TradeOp> = examples("## `TradeOp`").iter().map(read).collect();
    let [TradeOp::PriceUpdate(_), TradeOp::Order(order), TradeOp::Cancel(cancel), TradeOp::Amend(amend)] = &ops[..]
    else {
        panic!("an op of each kind, not {ops:?}")
    };
    assert_eq!(*cancel, order.cancel());
    assert!(order.amended(amend).is_ok());
}

/// Goal: no order that contradicts itself gets in by JSON. Method: a valid one, with one field changed.
#[test]
fn an_order_is_read_through_its_checks() {
    let limit = &examples("## `Order`")[1];
    let with = |field: &str, value: Value| {
        let mut order = limit.clone();
        order[field] = value;
        order
    };
    for (order, message) in [
        (with("quantity", "0".into()), "quantity is zero"),
        (with("kind", "market".into()), "post-only is not expected here"),
        (with("time_in_force", "fok".into()), "post-only is not expected here"),
        (with("time_in_force", json!({"gtd": {"until_ns": 0}})), "expiry is zero"),
    ] {
        assert_eq!(error::<Order>(order), message);
    }
    error::<Order>(with("time_in_force", "gtd".into()));
    error::<Order>(with("time_in_force", "day".into()));
}

#[test]
fn an_order_is_read_without_the_fields_that_may_be_absent() {
    let mut order = examples("## `Order`")[1].clone();
    let fields = order.as_object_mut().expect("an object");
    fields.retain(|name, _| !["time_in_force", "post_only", "reduce_only"].contains(&name.as_str()));
    let order: Order = serde_json::from_value(order).expect("it can be read");
    assert!(order.time_in_force() == TimeInForce::Gtc && !order.is_post_only() && !order.is_reduce_only());
}
