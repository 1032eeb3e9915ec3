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

/// Goal: no order is read as another one than was meant. Method: a price that is missing, and one of another kind, which
/// is known, unlike the fields of the test above.
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
