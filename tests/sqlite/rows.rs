//! Every row lands, in order, with exactly the values of its op.

use roundlot::{
    Batch, Sink,
    sink::{
        sqlite::SqliteSink,
        table::{ColumnType, Table, Value},
    },
};
use rust_decimal::Decimal;

use crate::{file, keyed, mapping, one_column, refused, trades, write};

/// Goal: a batch of any size lands whole and in order. Method: sizes around every statement and block size.
#[tokio::test]
async fn all_rows_land_in_order() {
    let file = file();
    let sink = SqliteSink::open(&file, mapping().create_if_missing()).await.unwrap();
    let mut expected = Vec::new();
    for size in [1, 2, 7, 8, 29, 30, 31, 127, 128, 129, 255, 256, 257, 500, 1000] {
        // Falling, so that the order is not that of the ids by chance.
        let ids: Vec<i64> = (0..size).rev().collect();
        assert!(write(&sink, trades(ids.clone())).await.is_empty());
        expected.extend(ids);
    }
    assert_eq!(file.ids(), expected);
}

/// Goal: every value comes out as it went in. Method: the edges of each type, with SQLite's own view of the type.
#[tokio::test]
async fn integers_and_timestamps_are_exact() {
    let file = file();
    let table = Table::new("t")
        .integer("i", |op: &Option<i64>| *op)
        .timestamp("at", |op| *op)
        .boolean("b", |op| op.map(|i| i > 0))
        .create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let ops = vec![Some(i64::MIN), Some(-1), Some(0), Some(i64::MAX), None];
    assert!(write(&sink, ops).await.is_empty());
    assert_eq!(
        file.query("SELECT i, typeof(i), at, typeof(at), b FROM t"),
        [
            "-9223372036854775808|integer|-9223372036854775808|integer|0",
            "-1|integer|-1|integer|0",
            "0|integer|0|integer|0",
            "9223372036854775807|integer|9223372036854775807|integer|1",
            "NULL|null|NULL|null|NULL",
        ]
    );
}

#[tokio::test]
async fn decimals_are_text_with_every_digit() {
    let file = file();
    let table = Table::new("t").decimal("d", |op: &Option<Decimal>| *op).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let texts = ["0", "1.50", "-0.00000001", "100.000", "79228162514264337593543950335", "0.1"];
    let ops = texts.iter().map(|text| Some(text.parse().unwrap())).chain([None]).collect();
    assert!(write(&sink, ops).await.is_empty());
    assert_eq!(file.query("SELECT d FROM t WHERE typeof(d) = 'text' ORDER BY rowid"), texts);
    assert_eq!(file.query("SELECT count(*) FROM t WHERE d IS NULL"), ["1"]);
}

#[tokio::test]
async fn floats_are_exact_and_nan_is_refused_alone() {
    let file = file();
    let table = Table::new("t").float("f", |op: &f64| *op).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let failed = write(&sink, vec![f64::MAX, f64::NAN, f64::MIN_POSITIVE, f64::INFINITY, -0.5]).await;
    assert_eq!(refused(&failed), [1]);
    assert_eq!(failed[0].story, r#"refused: column "f" is NaN, which SQLite cannot store"#);
    assert_eq!(
        file.query("SELECT f FROM t"),
        [f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, -0.5].map(|f| format!("{f:?}"))
    );
}

#[tokio::test]
async fn text_is_exact() {
    let file = file();
    let table = one_column("x", ColumnType::Text, |op: &Option<String>| op.as_deref().into());
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let texts = ["", " ", "007", "1e5", "größe 漢字 🦀", "it's \"quoted\"", "'); DROP TABLE t; --", "a\0b", "NULL"];
    let ops = texts.iter().map(|text| Some((*text).to_owned())).chain([None]).collect();
    assert!(write(&sink, ops).await.is_empty());
    assert_eq!(file.query("SELECT x FROM t WHERE typeof(x) = 'text' ORDER BY rowid"), texts);
    assert_eq!(file.query("SELECT count(*) FROM t WHERE x IS NULL"), ["1"]);
}

#[tokio::test]
async fn bytes_are_exact_and_may_be_large() {
    let file = file();
    let table = Table::new("t").bytes("x", |op: &Vec<u8>| op).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(write(&sink, vec![vec![], vec![0, 255, 39], large.clone(), vec![7]]).await.is_empty());
    assert_eq!(file.query("SELECT typeof(x), length(x) FROM t"), ["blob|0", "blob|3", "blob|20000000", "blob|1"]);
    let stored: Vec<u8> = file.connect().query_row("SELECT x FROM t WHERE rowid = 3", [], |row| row.get(0)).unwrap();
    assert!(stored == large);
    assert!(write(&sink, vec![vec![8]]).await.is_empty(), "and the next batch is small again");
}

#[tokio::test]
async fn json_is_text_that_sqlite_can_read() {
    let file = file();
    let table = Table::new("t").json("x", |op: &String| op).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    assert!(write(&sink, vec![r#"{"side":"buy"}"#.to_owned()]).await.is_empty());
    assert_eq!(file.query("SELECT x ->> 'side' FROM t"), ["buy"]);
}

/// Goal: a name is only ever a name. Method: names made to break out, and a table beside them that must survive.
#[tokio::test]
async fn names_of_any_kind_are_quoted() {
    let file = file();
    file.execute("CREATE TABLE victim (x); INSERT INTO victim VALUES (1)");
    let names = ["\"); DROP TABLE victim; --", "größe 漢字", "select", "a.b", "x'y`z]", " ", "?1"];
    for name in names {
        let table = names.iter().fold(Table::new(name), |table, name| table.integer(*name, |op: &i64| *op));
        let sink = SqliteSink::open(&file, table.key([names[0]]).create_if_missing()).await.unwrap();
        assert!(write(&sink, vec![1, 2]).await.is_empty(), "{name}");
        let quoted = name.replace('"', "\"\"");
        assert_eq!(file.query(&format!("SELECT count(*) FROM \"{quoted}\"")), ["2"], "{name}");
    }
    assert_eq!(file.query("SELECT * FROM victim"), ["1"]);
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused_alone() {
    let file = file();
    let table = one_column("x", ColumnType::Integer, |op: &i64| if *op == 3 { "three".into() } else { (*op).into() });
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let failed = write(&sink, (0..300).collect()).await;
    assert_eq!(refused(&failed), [3]);
    assert_eq!(failed[0].story, r#"refused: column "x" holds integers, its closure returned text"#);
    assert_eq!(file.query("SELECT count(*), sum(x) FROM t"), [format!("299|{}", 299 * 300 / 2 - 3)]);
}

#[tokio::test]
async fn a_batch_of_nothing_but_wrong_values_writes_nothing() {
    let file = file();
    let sink =
        SqliteSink::open(&file, one_column("x", ColumnType::Text, |op: &i64| Value::Integer(*op))).await.unwrap();
    assert_eq!(refused(&write(&sink, vec![1, 2]).await), [0, 1]);
    assert_eq!(file.query("SELECT count(*) FROM t"), ["0"]);
}

#[tokio::test]
async fn ops_with_a_verdict_are_not_written() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    let mut batch = Batch::for_test(trades(0..4));
    batch.accept(1, ());
    batch.refuse(2, roundlot::SinkError::refused("not today"));
    sink.write(&mut batch).await.map(drop).unwrap();
    assert_eq!(file.ids(), [0, 3]);
    assert!(batch.verdict(2).unwrap().is_err());
}

/// Goal: wide tables stay within the number of values that SQLite binds at once. Method: up to its most columns.
#[tokio::test]
async fn wide_tables_are_written() {
    for width in [400, 2000] {
        let file = file();
        let table = (0..width).fold(Table::new("t"), |table, i| table.integer(format!("c{i}"), move |op: &i64| op + i));
        let sink = SqliteSink::open(&file, table.create_if_missing()).await.unwrap();
        assert!(write(&sink, (0..100).collect()).await.is_empty());
        let last = width - 1;
        assert_eq!(file.query(&format!("SELECT count(*), sum(c{last} - c0) FROM t")), [format!("100|{}", 100 * last)]);
    }
}
