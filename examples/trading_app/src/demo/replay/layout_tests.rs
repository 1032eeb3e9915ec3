//! Tests of `layout` and `row`: whole files, in a few lines each.

use crate::demo::{
    replay::testing::{good, none, opened, read, refused},
    settings::{Column, Replay, Unit},
};

#[test]
fn a_header_of_well_known_names_is_enough() {
    let text = "time_us,venue,symbol,kind,price,quantity\n7,X,WAVES/EUR,bbo,1.814e-05,\n5,X,BTC,trade,5860832.0,0.010";
    assert_eq!(
        good(&none(), "updates.csv", text),
        ["updates:2 7000 WAVES/EUR 0.00001814  ", "updates:3 5000 BTC 5860832.0 0.010 "]
    );
    let text = "ts_ms,price_e4,size,exch\n1381132800464,1674100,100,P\n1381132800464,1674001,5,Q";
    assert_eq!(
        good(&none(), "spy_trades.csv", text),
        ["spy_trades:2 1381132800464000000 SPY 167.41 100 ", "spy_trades:3 1381132800464000000 SPY 167.4001 5 "]
    );
    let text = "timestamp,Symbol,side,size,px,trdMatchID\n2024-08-08T00:00:00Z,XBT,Sell,1,2,ab\n2024-08-08T00:00:00Z,XBT,,1,2,";
    assert_eq!(
        good(&none(), "x.csv", text),
        ["ab 1723075200000000000 XBT 2 1 sell", "x:3 1723075200000000000 XBT 2 1 "]
    );
}

#[test]
fn dumps_need_neither_header_nor_settings() {
    let spot = "3748319201,55123.40,0.001,55.1,1723075200123,True,True\n3748319201,55123.41,0.002,110.2,1723075200124,False,True";
    assert_eq!(
        good(&none(), "BTCUSDT-trades-2024-08-08.csv", spot),
        [
            "3748319201 1723075200123000000 BTCUSDT 55123.40 0.001 sell",
            "3748319201 1723075200124000000 BTCUSDT 55123.41 0.002 buy"
        ]
    );
    let micros = "9,55123.4,0.001,55.1,1735689600123456,false";
    assert_eq!(
        good(&none(), "BTCUSD_PERP-trades.csv", micros),
        ["9 1735689600123456000 BTCUSD_PERP 55123.4 0.001 buy"]
    );
    let futures = "id,price,qty,quote_qty,time,is_buyer_maker\n9,55123.4,0.001,55.1,1723075200123,true";
    assert_eq!(good(&none(), "ETHUSDT-trades-x.csv", futures), ["9 1723075200123000000 ETHUSDT 55123.4 0.001 sell"]);
}

/// Goal: a dump with a broken first line is not taken for a file with a header. Method: words in the first line.
#[test]
fn a_broken_first_line_is_no_header() {
    let text = "what,is,this\n9,55123.4,0.001,55.1,1723075200123,true";
    let read = read(&none(), "BTCUSDT-trades.csv", text);
    assert_eq!(read[0], Err("wrong number of fields, 3 instead of 6".to_owned()));
    assert!(read[1].is_ok());
}

#[test]
fn any_file_can_be_described() {
    let settings = Replay {
        time: Some(Column::Number(2)),
        time_unit: Some(Unit::S),
        price: Some(Column::Number(3)),
        price_scale: Some(2),
        quantity: Some(Column::Number(4)),
        side: Some(Column::Number(1)),
        buy: Some(vec!["UP".to_owned()]),
        sell: Some(vec!["down".to_owned()]),
        constant_symbol: Some("BRK.B".parse().unwrap()),
        ..none()
    };
    let text = "up,1723075200.5,12345,1\ndown,1723075201,12300,2\nunknown,1723075201,1,3\nsideways,1723075201,1,1";
    let mut read = read(&settings, "x.csv", text);
    assert_eq!(read.pop().unwrap(), Err("column 1 \"sideways\" is no side: see replay.buy and replay.sell".into()));
    let good: Vec<String> = read.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        good,
        [
            "x:1 1723075200500000000 BRK.B 123.45 1 buy",
            "x:2 1723075201000000000 BRK.B 123 2 sell",
            "x:3 1723075201000000000 BRK.B 0.01 3 "
        ]
    );
    let named = Replay { price: Some(Column::Name("mid".to_owned())), ..none() };
    assert_eq!(good_price(&named, "time_s,price,mid\n1,2,3"), "3");
}

fn good_price(settings: &Replay, text: &str) -> String {
    good(settings, "x.csv", text)[0].split(' ').nth(3).unwrap().to_owned()
}

#[test]
fn an_error_in_a_row_names_its_column() {
    let header = "time_ms,symbol,price,qty";
    let cases = [
        ("1,BTC,12,5", None),
        ("x,BTC,12,5", Some("time_ms \"x\" is not a decimal number")),
        ("1,B TC,12,5", None),
        ("1,B`TC,12,5", Some("symbol \"B`TC\" must not contain '`', found at byte 1")),
        ("1,,12,5", Some("symbol is empty")),
        ("1,BTC,,5", Some("price is empty")),
        ("1,BTC,NaN,5", Some("price \"NaN\" is not a decimal number")),
        ("1,BTC,9223372036854775807,0", Some("price \"9223372036854775807\" is the number that stands for no price")),
        ("1,BTC,-12.5,5", None),
        ("1,BTC,12,", None),
        ("1,BTC,12", Some("wrong number of fields, 3 instead of 4")),
        ("1,BTC,1,200,5", Some("wrong number of fields, 5 instead of 4")),
        ("1,BTC,12,5,", None),
        ("99999999999999999,BTC,12,5", Some("time_ms \"99999999999999999\" is too large for a time")),
        ("1,BTC,a price that nobody can read,5", Some("price \"a price that nobody can …\" is not a decimal number")),
    ];
    for (row, problem) in cases {
        let read = read(&none(), "x.csv", format!("{header}\n1,X,1,1\n{row}")).remove(1);
        assert_eq!(read.err().as_deref(), problem, "{row}");
    }
}

#[test]
fn a_column_that_is_not_found_needs_a_setting() {
    let error = |settings: &Replay, text| refused(settings, "-.csv", text);
    assert!(
        error(&none(), "when,price\n1,2")
            .contains("replay.time to the name of its column, which is one of when, price")
    );
    assert!(error(&none(), "1,2\n1,2").contains("replay.time to the number"));
    assert!(error(&none(), "time_s,price\n1,2").contains("replay.constant_symbol"));
    assert!(error(&none(), "").contains("it is empty"));
    let wrong = |price| Replay { price: Some(price), ..none() };
    assert!(error(&wrong(Column::Name("px".to_owned())), "time_s,price\n1,2").contains("no column is called \"px\""));
    assert!(error(&wrong(Column::Name("px".to_owned())), "1,2\n1,2").contains("it has no header"));
    let wrong = Replay { time: Some(Column::Number(3)), ..none() };
    assert!(error(&wrong, "1,2\n1,2").contains("it has no column 3"));
    for text in ["time_s,price,Price\n1,2,3", "T,p,t\n1704704400,2,3"] {
        assert!(error(&none(), text).contains("more than one column is called"), "{text}");
    }
}

#[test]
fn detected_layouts_are_printed_readably() {
    assert_eq!(
        opened(&none(), "spy_trades.csv", "ts_ms,price_e4,size\n1704704400000,2,3").unwrap().found(),
        "  time ts_ms in ms, price price_e4 over 10^4, symbol always SPY\n  quantity size, side none, id by line"
    );
}
