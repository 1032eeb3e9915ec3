//! Tests of replays of several vendors' files: every row is in the database as the file has it.

use std::fs;

use crate::common::{App, rows, sample};

/// Goal: a replay of N rows leaves N rows, per symbol in the order of the file. Method: compare with the file. Its
/// clocks step back, quantities are missing, and prices use scientific notation.
#[test]
fn a_replay_leaves_each_row_in_order() {
    let app = App::new();
    let outcome = app.run(&["--replay", &sample("updates.csv"), "--speed", "0", "--database", "it.db"]);
    outcome.succeeded();
    let text = fs::read_to_string(sample("updates.csv")).unwrap();
    let expected = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let time_ns = fields[0].parse::<i64>().unwrap() * 1000;
        let price = if fields[4].contains('e') { plain(fields[4]) } else { fields[4].to_owned() };
        (time_ns, fields[2].to_owned(), price, Some(fields[5].to_owned()).filter(|text| !text.is_empty()))
    });
    let mut expected: Vec<_> = expected.collect();
    let found = rows(&app.path("it.db"));
    let mut found: Vec<_> = found.into_iter().map(|row| (row.time_ns, row.symbol, row.price, row.quantity)).collect();
    assert_eq!(found.len(), 60);
    expected.sort_by(|a, b| a.1.cmp(&b.1));
    found.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(found, expected, "sorted by symbol alone, which keeps the order within one");
}

/// Writes `1.814e-05` with all its zeros.
fn plain(text: &str) -> String {
    let (digits, exponent) = text.split_once("e-").unwrap();
    let zeros = "0".repeat(exponent.parse::<usize>().unwrap() - 1);
    format!("0.{zeros}{}", digits.replace('.', ""))
}

#[test]
fn a_dump_of_binance_needs_no_configuration() {
    let app = App::new();
    let file = sample("BTCUSDT-trades-2024-08-08.csv");
    app.run(&["--replay", &file, "--speed", "0", "--database", "it.db"]).succeeded();
    let rows = rows(&app.path("it.db"));
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(rows.len(), 40);
    for (row, line) in rows.iter().zip(text.lines()) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((row.id.as_str(), row.symbol.as_str(), row.price.as_str()), (fields[0], "BTCUSDT", fields[1]));
        assert_eq!(row.quantity.as_deref(), Some(fields[2]));
        assert_eq!(row.time_ns.to_string(), format!("{}000000", fields[4]));
        assert_eq!(row.side.as_deref(), Some(if fields[5] == "True" { "sell" } else { "buy" }));
    }
}

/// Goal: real trades that look alike are not dropped, and the database slows the replay down. Method: many equal rows
/// with one id, through a batcher with little room.
#[test]
fn rows_that_are_the_same_are_all_kept() {
    let app = App::new();
    let row = "7,1381132800464,1674100,100\n";
    app.write("spy_trades.csv", &format!("id,ts_ms,price_e4,size\n{}", row.repeat(5_000)));
    let room = ["--set", "trades.limits.max_pending=100", "--set", "trades.limits.max_items=30"];
    let arguments = [&["--replay", "spy_trades.csv", "--speed", "0", "--report", "it.json"], &room[..]].concat();
    app.run(&arguments).succeeded();
    let rows = rows(&app.path("trading_app.db"));
    assert_eq!(rows.len(), 5_000);
    assert!(
        rows.iter().all(|row| (row.id.as_str(), row.symbol.as_str(), row.price.as_str()) == ("7", "SPY", "167.41"))
    );
    let report = app.report("it.json");
    assert_eq!(report["batchers"]["trades"]["delivered"], 5_000);
    assert_eq!(report["batchers"]["prices"]["accepted"], 5_000);
}

#[test]
fn bad_rows_are_reported_with_their_lines_and_left_out() {
    let app = App::new();
    app.write("x.csv", "time_ms,symbol,price\n1,BTC,1\n2,BTC,one\n\n3,BTC\n4,\"BTC,4\n5,B`TC,5\n6,BTC,6\n");
    let outcome = app.run(&["--replay", "x.csv", "--speed", "0", "--database", "it.db", "--report", "it.json"]);
    outcome.succeeded();
    for line in [
        "line 3: price \"one\" is not a decimal number",
        "line 5: wrong number of fields, 2 instead of 3",
        "line 6: a quote is not closed",
        "line 7: symbol \"B`TC\" must not contain '`', found at byte 1",
    ] {
        assert!(outcome.stderr.contains(line), "{}", outcome.stderr);
    }
    assert!(outcome.stdout.contains("4 bad rows were left out"), "{}", outcome.stdout);
    let prices: Vec<String> = rows(&app.path("it.db")).into_iter().map(|row| row.price).collect();
    assert_eq!(prices, ["1", "6"]);
    let report = app.report("it.json");
    assert_eq!((&report["rows"], &report["bad_rows"], &report["bad"][1]["line"]), (&2.into(), &4.into(), &5.into()));
}

/// Goal: names of instruments reach the database as the venue spells them. Method: blanks, another script, 63 bytes.
#[test]
fn symbols_are_kept_as_they_are_spelled() {
    let app = App::new();
    let names = ["SPY   240119C00475000", "UD:1V: GN 2405", "币安人生USDT", &"0x".repeat(31), "<b>&amp;", "A=B C=D"];
    let rows_of = |name: &&str| format!("1704704400000,{name},1\n");
    app.write("x.csv", &format!("time,symbol,price\n{}", names.iter().map(rows_of).collect::<String>()));
    app.run(&["--replay", "x.csv", "--speed", "0", "--database", "it.db", "--report", "it.json"]).succeeded();
    let found: Vec<String> = rows(&app.path("it.db")).into_iter().map(|row| row.symbol).collect();
    assert_eq!(found, names);
    assert_eq!(app.report("it.json")["bad_rows"], 0);
}

/// Goal: an error in a file is reported, and no row is written in its place. Method: an impossible time, a file that
/// could mean two things, and a file whose setting decides between two meanings.
#[test]
fn a_wrong_guess_about_a_file_is_reported() {
    let app = App::new();
    app.write("BTC.csv", "# by hand\ntime,price\n1704704400000000,1\n1704704400001,2\n2704704400002,3\n");
    let outcome = app.run(&["--replay", "BTC.csv", "--database", "it.db"]);
    outcome.succeeded();
    for line in
        ["time time in us or ms", "no rows and no header: line 1", "line 5: time \"2704704400002\" is no time of 1990"]
    {
        assert!(outcome.stderr.contains(line), "{}", outcome.stderr);
    }
    let times: Vec<i64> = rows(&app.path("it.db")).into_iter().map(|row| row.time_ns).collect();
    assert_eq!(times, [1_704_704_400_000_000_000, 1_704_704_400_001_000_000]);

    app.write("BTC.csv", "time;price\n01/02/2024 09:30;38,500\n");
    let outcome = app.run(&["--replay", "BTC.csv", "--speed", "0", "--database", "new.db"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("set replay.decimal"), "{}", outcome.stderr);
    assert!(!app.path("new.db").exists());
    let said = ["--set", "replay.decimal=,", "--set", "replay.date_order=dmy", "--set", "replay.utc_offset=+01:00"];
    app.run(&[&["--replay", "BTC.csv", "--speed", "0", "--database", "new.db"], &said[..]].concat()).succeeded();
    let row = rows(&app.path("new.db")).remove(0);
    assert_eq!((row.time_ns, row.price.as_str()), (1_706_776_200_000_000_000, "38.500"));
}

#[test]
fn a_strict_replay_ends_at_the_first_bad_row() {
    let app = App::new();
    app.write("x.csv", "time_ms,symbol,price\n1,BTC,1\n2,BTC,2\n3,BTC,\n4,BTC,4\n");
    let outcome =
        app.run(&["--replay", "x.csv", "--speed", "0", "--strict", "--database", "it.db", "--report", "it.json"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("error: line 4: price is empty (--strict)"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("line 4").count(), 1, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("1 bad row was left out"), "{}", outcome.stdout);
    let prices: Vec<String> = rows(&app.path("it.db")).into_iter().map(|row| row.price).collect();
    assert_eq!(prices, ["1", "2"], "what came before is written");
    assert_eq!(app.report("it.json")["batchers"]["trades"]["delivered"], 2);
}

#[test]
fn a_named_database_is_kept_and_the_default_one_is_recreated() {
    let app = App::new();
    app.write("BTC.csv", "time_ms,price\n1,1\n");
    for (run, expected) in [(1, 1), (2, 2)] {
        let outcome = app.run(&["--replay", "BTC.csv", "--speed", "0", "--database", "it.db"]);
        outcome.succeeded();
        assert_eq!(rows(&app.path("it.db")).len(), expected);
        assert_eq!(outcome.stderr.contains("it.db exists: rows are added to it"), run == 2);
        app.run(&["--replay", "BTC.csv", "--speed", "0"]).succeeded();
        assert_eq!(rows(&app.path("trading_app.db")).len(), 1);
    }
}
