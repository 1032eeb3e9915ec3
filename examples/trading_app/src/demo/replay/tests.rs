//! Tests of whole files as vendors export them, a few lines each: the stored ticks, and the setting that a refusal asks
//! for.

use super::*;
use crate::demo::{
    replay::testing::{good, none, opened, read, refused, rows, set},
    settings,
};

impl Replay {
    /// All rows, with their line numbers.
    pub fn all(mut self) -> Vec<Read> {
        let mut all = Vec::new();
        while let Some(row) = self.next().unwrap() {
            all.push(row);
        }
        all
    }

    /// Rows up to the end of the file, or to what ends the reading.
    pub fn lossy(mut self) -> Vec<Read> {
        std::iter::from_fn(|| self.next().ok().flatten()).collect()
    }
}

/// 2024-01-08 00:00:00 UTC.
const DAY: i64 = 1_704_672_000;

/// Returns the time of each row in seconds since then, with their fraction.
fn seconds(settings: &settings::Replay, text: &str) -> Vec<String> {
    let tick = |(_, tick): Read| {
        let nanos = tick.unwrap().time_ns - DAY * 1_000_000_000;
        format!("{}.{:03}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) / 1_000_000)
    };
    opened(settings, "ABC.csv", text).unwrap().all().into_iter().map(tick).collect()
}

/// Returns prices, quantities and sides of all rows.
fn money(settings: &settings::Replay, text: &str) -> Vec<String> {
    let money = |row: String| row.splitn(4, ' ').nth(3).unwrap().trim_end().to_owned();
    good(settings, "ABC.csv", text).into_iter().map(money).collect()
}

#[test]
fn calendar_numbers_are_dates() {
    assert_eq!(seconds(&none(), "date,symbol,close\n20240108,ABC,1\n20240109,ABC,1"), ["0.000", "86400.000"]);
    for (time, expected) in
        [("20240108093000", "34200.000"), ("20240108093000123", "34200.123"), ("202401080930", "34200.000")]
    {
        assert_eq!(seconds(&none(), &format!("timestamp,price\n{time},1")), [expected]);
    }
    assert!(refused(&none(), "ABC.csv", "time,price\n2024010809,1").contains("set replay.time_unit"));
    assert_eq!(seconds(&set("time_unit = \"digits\""), "time,price\n2024010809,1"), ["32400.000"]);
    assert!(refused(&none(), "ABC.csv", "time,price\n45299.5,1").contains("set replay.time_unit"));
    assert_eq!(seconds(&set("time_unit = \"excel\""), "time,price\n45299.3958333333,1"), ["34200.000"]);
}

#[test]
fn a_time_of_day_is_joined_with_its_date() {
    let cases = [
        (
            "<TICKER>,<PER>,<DATE>,<TIME>,<CLOSE>\nABC.US,D,20240108,000000,1\nABC.US,D,20240109,000000,1",
            ["0.000", "86400.000"],
        ),
        (
            "<DATE>\t<TIME>\t<BID>\t<LAST>\n2024.01.08\t00:05:01.123\t1\t1\n2024.01.08\t15:30:00.000\t1\t1",
            ["301.123", "55800.000"],
        ),
        ("date,time,price\n2024-01-08,93000,1\n2024-01-08,153000,1", ["34200.000", "55800.000"]),
        ("DATE,TIME_M,PRICE\n08JAN2024,9:30:00.123456789,1\n08JAN2024,16:00:00,1", ["34200.123", "57600.000"]),
        ("Date;Time;Price\n13.01.2024;9:30:00 AM;1\n08.01.2024;12:00:00 AM;1", ["466200.000", "0.000"]),
        ("date,time_ms,price\n2024-01-08,34200123,1\n2024-01-09,1,1", ["34200.123", "86400.001"]),
    ];
    for (text, expected) in cases {
        assert_eq!(seconds(&none(), text), expected, "{text}");
    }
    let one = set("constant_date = \"2024-01-08\"\ntime = 1\nprice = 2\ntime_unit = \"s\"");
    assert_eq!(seconds(&one, "34200.017459617,1\n34200.5,1"), ["34200.017", "34200.500"]);
    let named = set("time = \"hora\"\ndate = \"dia\"");
    assert_eq!(seconds(&named, "dia,hora,price\n20240108,000001123,1"), ["1.123"]);
}

/// Goal: no half of a time is read alone, and each guess is confirmed by its rows. Method: files that lack a part, or
/// could mean two things.
#[test]
fn ambiguous_times_are_refused_with_the_setting_to_use() {
    let cases = [
        ("time,price\n09:30:00,1", "set replay.date"),
        ("time,price\n153000,1", "set replay.time_unit"),
        ("time,price\n1,1", "set replay.time_unit"),
        ("date,time,price\n20240108,34200,1\n20240108,34201,1", "set replay.time_unit"),
        ("date,hora,price\n20240108,09:30:00,1\n20240108,09:31:00,1", "set replay.date and replay.time"),
        ("time,price\n01/08/2024 09:30:00,1\n02/08/2024 09:30:00,1", "set replay.date_order"),
        ("date,time,price\n01/08/2024,09:30:00,1", "set replay.date_order"),
        ("time,price\n13/01/2024,1\n01/13/2024,1", "set replay.date_order"),
        ("time_ms,price\n1704704400,1\n1704704401,1", "set replay.time_unit"),
        ("time,price\n1.7047E+12,1", "has lost digits"),
        ("time,price\n2024-01-08 09:30:00 EST,1", "set replay.utc_offset"),
        ("time,price\nsoon,1\nlater,1\n1704704400,1", "\"soon\" is no time"),
        ("time,price\n45299.5,1", "to \"excel\""),
        ("date,time,price\n240108,093000,1", "column date holds no dates"),
        ("<DATE>\t<TIME>\t<BID>\t<LAST>\n2024.01.08\t00:05:01\t1.09\t\n", "set replay.price"),
    ];
    for (text, expected) in cases {
        let problem = refused(&none(), "ABC.csv", text);
        assert!(problem.contains(expected), "{text}: {problem}");
    }
    for (settings, text) in [
        ("time = \"date\"", "date,time,price\n20240108,153000,1"),
        ("time = \"date\"", "date,hora,price\n1985-01-08,15:30,1"),
    ] {
        assert!(refused(&set(settings), "ABC.csv", text).contains("set replay.date and replay.time"), "{text}");
    }
    assert_eq!(seconds(&set("time = \"date\""), "date,time,price\n20240108,000000,1"), ["0.000"]);
    let text = "time,price\n01/08/2024 9:30 AM,1";
    assert_eq!(seconds(&set("date_order = \"mdy\""), text), ["34200.000"]);
    assert_eq!(seconds(&none(), "time,price\n01/08/2024,1\n01/13/2024,1"), ["0.000", "432000.000"]);
    assert_eq!(seconds(&set("utc_offset = \"-05:00\""), "time,price\n2024-01-08 09:30,1"), ["52200.000"]);
}

#[test]
fn offsets_are_read() {
    let text = "time,symbol,price\n2024-01-08T09:30:00.123-05:00,ABC,1\n2024-01-08T14:30:00+0000,ABC,1\n\
                2024-01-08 14:30:01 UTC,ABC,1\n2024-01-08 14:30:02+00,ABC,1\n2024-01-08T14:30:03.5Z,ABC,1";
    assert_eq!(seconds(&none(), text), ["52200.123", "52200.000", "52201.000", "52202.000", "52203.500"]);
}

/// Goal: each row is read in its own unit, wherever the unit changes in a file. Method: more rows than the sample has.
#[test]
fn units_of_time_are_detected_row_by_row() {
    let mut text = "time,symbol,price\n".to_owned();
    text.extend((0..2 * SAMPLE).map(|i| format!("{},UK100,7583.11\n", 1_653_580_800_000_000 + i * 1000)));
    text.push_str("1653580800512,UK100,7583\n1653580800513000000,UK100,1\n1653580800.514,UK100,1\n1653580,UK100,1\n");
    let rows = rows(&none(), "x.csv", &text);
    let time = |line: usize| rows[line - 2].1.clone().unwrap().split(' ').nth(1).unwrap().to_owned();
    let first = 2 * SAMPLE + 2;
    assert_eq!(
        [time(first), time(first + 1), time(first + 2)],
        ["1653580800512000000", "1653580800513000000", "1653580800514000000"]
    );
    let (line, last) = rows.last().unwrap();
    assert_eq!(*line as usize, first + 3);
    assert!(last.as_ref().unwrap_err().starts_with("time \"1653580\" is no time of 1990 to ten years ahead"));
}

#[test]
fn a_time_that_cannot_be_is_a_bad_row() {
    let text = "time_ms,symbol,price\n0,BTC,1\n1704704400000,BTC,1\n2704704400100,BTC,1\n1704704400200,BTC,1\n1104704400200,BTC,1";
    let read = read(&none(), "x.csv", text);
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert!(read[2].as_ref().unwrap_err().contains("\"2704704400100\" lies in 2055, outside of 1990"));
    assert!(read[4].as_ref().unwrap_err().contains("lies in 2005, years away from the rows around it"));
    let found = |text| opened(&none(), "BTC.csv", text).unwrap().found();
    assert!(found("time_us,price\n0,1\n5,1").contains("before 1990"));
    assert!(found("date,price\n1985-01-02,1\n1985-01-03,1").contains("before 1990"));
    assert!(!found("time_us,price\n1704704400000000,1").contains("before 1990"));
}

#[test]
fn decimal_commas_are_no_thousands() {
    let text =
        "time;symbol;price;qty;side\n1704704400000;BTCEUR;38500,25;0,5;buy\n1704704401000;BTCEUR;38501,00;1,25;sell";
    assert_eq!(money(&none(), text), ["38500.25 0.5 buy", "38501.00 1.25 sell"]);
    assert_eq!(money(&none(), "time,price,qty\n1704704400,\"38500,25\",\"0,5\""), ["38500.25 0.5"]);
    assert_eq!(money(&none(), "time,price,qty\n1704704400,\"38,500.25\",\"1,000\""), ["38500.25 1000"]);
    assert!(refused(&none(), "ABC.csv", "time;price\n1704704400;38,500").contains("set replay.decimal"));
    assert_eq!(money(&set("decimal = \",\""), "time;price\n1704704400;38,500"), ["38.500"]);
    assert_eq!(money(&set("decimal = \".\""), "time;price\n1704704400;38,500"), ["38500"]);
    let mixed = read(&none(), "ABC.csv", "time;price\n1704704400;1,5\n1704704400;2,5\n1704704400;38.25");
    assert!(mixed[2].as_ref().unwrap_err().contains("has a point"), "{mixed:?}");
    assert_eq!(seconds(&none(), "time;price\n1704672000,5;1,5"), ["0.500"]);
}

#[test]
fn whole_numbers_of_a_fraction_need_a_setting() {
    let text = "ts_event,action,side,price,size,sequence,symbol\n1703462400000000000,T,B,4799250000000,2,1,ESH4\n\
                1703462400000000050,T,A,4799000000000,1,2,ESH4\n1703462400000000090,T,N,9223372036854775807,0,3,ESH4";
    assert!(refused(&none(), "x.csv", text).contains("set replay.price_scale"));
    let read = read(&set("price_scale = 9"), "x.csv", text);
    assert_eq!(read[0].as_deref(), Ok("x:2 1703462400000000000 ESH4 4799.25 2 buy"));
    assert_eq!(read[1].as_deref(), Ok("x:3 1703462400000000050 ESH4 4799 1 sell"));
    assert!(read[2].as_ref().unwrap_err().contains("stands for no price"));
    let spread = "ts_event,price,symbol\n1703462400000000000,-250000000,A\n1703462400000000000,0,A";
    assert!(refused(&none(), "x.csv", spread).contains("set replay.price_scale"));
    let rupiah = "time,price\n1704704400,1500000000";
    assert_eq!(money(&none(), rupiah), ["1500000000"]);
    assert!(refused(&none(), "ABC.csv", "time,price\n1704704400,150000000000").contains("or to 0"));
    assert!(refused(&none(), "ABC.csv", "time_s,price_e4\n1704704400,167.41").contains("set replay.price_scale"));
    assert_eq!(money(&set("price_scale = 2"), "time,price\n1704704400,1.5e3"), ["15"]);
}

/// Goal: widely used exports are read without a setting. Method: the header of each, and a row.
#[test]
fn well_known_exports_need_no_settings() {
    let cases = [
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nx,ABC,1704724200000000,1704724200100000,7,buy,1.5,2",
        "id,exchange,symbol,date,price,amount,taker_side_sell\n7,x,ABC,1704724200000,1.5,2,false",
        "#RIC,Domain,Date-Time,GMT Offset,Type,Price,Volume,Side\nABC,Price,2024-01-08T14:30:00.000000000Z,-5,Trade,1.5,2,B",
        "timestamp,symbol,side,size,price,tickDirection\n2024-01-08D14:30:00.000000000,ABC,Buy,2,1.5,PlusTick",
        "Date,Timestamp,Event Type,Ticker,Price,Quantity,Side\n20240108,14:30:00.000,TRADE,ABC,1.5,2,B",
        "Gmt time;Symbol;Close;Volume;Side\n08.01.2024 14:30:00.000;ABC;1.5;2;BID",
        "time_exchange;symbol;price;base_amount;taker_side\n2024-01-08T14:30:00.0000000Z;ABC;1.5;2;BUY",
        "market,trade_timestamp,timestamp,trade_price,size,ask_bid\nABC,1,1704724200000,1.5,2,BID",
        "created_time|instrument_name|trade_id|side|price|size\n1704724200000|ABC|7|buy|1.5|2",
    ];
    for text in cases {
        let row = good(&none(), "x.csv", text).remove(0);
        let (_, row) = row.split_once(' ').unwrap();
        assert_eq!(row, "1704724200000000000 ABC 1.5 2 buy", "{text}");
    }
}

/// Goal: lines below the rows spoil no guess. Method: more such lines than rows.
#[test]
fn summaries_are_bad_rows() {
    let text = "time,symbol,price\n1704704400,ABC,1\n\nTotal: 1 row\n# end\nas of,2024\n";
    let read = read(&none(), "x.csv", text);
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(read[1], Err("wrong number of fields, 1 instead of 3".to_owned()));
}

#[test]
fn sides_have_many_names() {
    let side = |word: &str| money(&none(), &format!("time,price,side\n1704704400,1,{word}")).remove(0);
    for (word, expected) in [
        ("B", "1  buy"),
        ("A", "1  sell"),
        ("Bid", "1  buy"),
        ("ask", "1  sell"),
        ("BUY_SIDE", "1  buy"),
        ("1", "1  buy"),
        ("2", "1  sell"),
        ("-1", "1  sell"),
        ("N", "1"),
        ("", "1"),
    ] {
        assert_eq!(side(word), expected, "{word}");
    }
    let flag = |word: &str| money(&none(), &format!("time,price,is_buyer_maker\n1704704400,1,{word}")).remove(0);
    assert_eq!([flag("1"), flag("FALSE"), flag("t")], ["1  sell", "1  buy", "1  sell"]);
    assert!(refused(&none(), "ABC.csv", "time,price,side\n1704704400,1,0").contains("set replay.buy and replay.sell"));
}

#[test]
fn the_sign_of_a_quantity_is_its_side_where_nothing_else_is() {
    let text =
        "id,time,symbol,amount,price\n1,1704704400000,B,0.5,42000\n2,1704704400100,B,-0.25,1\n3,1704704400200,B,0,-1";
    assert_eq!(money(&none(), text), ["42000 0.5 buy", "1 0.25 sell", "-1 0"]);
    let with_side = read(&none(), "ABC.csv", "time,side,qty,price\n1704704400,buy,-1,1\n1704704400,buy,1,1");
    assert_eq!(with_side[0], Err("qty \"-1\" is negative".to_owned()));
    let mut late = "time,qty,price\n".to_owned() + &"1704704400,1,1\n".repeat(SAMPLE);
    late.push_str("1704704400,-1,1\n");
    let late = read(&none(), "ABC.csv", late);
    assert!(late[SAMPLE].as_ref().unwrap_err().contains("set replay.side_by_sign"));
}

/// Goal: a guess that is nearly right is not taken. Method: counts from other days, minutes and seconds without hours,
/// 32nds of bonds, turnovers, and a session over midnight under one date.
#[test]
fn columns_that_resemble_another_are_not_stored_as_it() {
    for time in ["638403210000000000", "757987200000000000", "757987200000000"] {
        let problem = refused(&none(), "ABC.csv", format!("time,price\n{time},1\n{time},2"));
        assert!(problem.contains("another day than 1970"), "{problem}");
    }
    assert!(opened(&set("time_unit = \"ns\""), "ABC.csv", "time,price\n757987200000000000,1").is_ok());
    let spreadsheet = "date,time,price\n2024-01-08,09:30.5,1\n2024-01-08,10:31.5,1";
    assert!(opened(&none(), "ABC.csv", spreadsheet).is_err());
    let bonds = "time,price,qty\n2024-01-08T09:30:00Z,110'160,1\n2024-01-08T09:30:00Z,110'165,1";
    assert!(refused(&none(), "ZN.csv", bonds).contains("32nds"));
    assert_eq!(money(&set("decimal = \".\""), bonds), ["110160. 1", "110165. 1"].map(|row| row.replace(". ", " ")));
    for lot in [1, 100] {
        let row =
            |volume: i64, price: &str, amount: i64| format!("2024-01-08,09:30:00,{price},{volume},{}", amount * lot);
        let text =
            ["date,time,price,volume,amount".to_owned(), row(200, "10.5", 2100), row(31, "10.51", 326)].join("\n");
        assert_eq!(money(&none(), &text), ["10.5 200", "10.51 31"]);
    }
    assert_eq!(money(&none(), "date,time,price,volume,amount\n2024-01-08,09:30:00,10.5,900,3"), ["10.5 3"]);
    let night = "time,price\n22:00:00,1\n23:59:59,1\n00:00:01,1\n21:59:59,1\n23:00:00,1";
    let rows = read(&set("constant_date = \"2024-01-08\""), "ABC.csv", night);
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, false]);
    assert!(rows[2].as_ref().unwrap_err().contains("past midnight"));
    let backwards = "time,price\n22:00:00,1\n13:00:00,1\n06:00:00,1\n00:00:01,1";
    assert!(read(&set("constant_date = \"2024-01-08\""), "ABC.csv", backwards).iter().all(Result::is_ok));
}
