//! Every row lands, in order, with exactly the values of its op, whatever way the batch takes.

use roundlot::{
    Batch, Sink,
    sink::{
        postgres::PostgresSink,
        table::{ColumnType, Table, Value},
    },
};
use rust_decimal::Decimal;

use crate::{Db, db, keyed, mapping, one_column, refused, texts, trades, write};

/// Writes the ops by arrays and by COPY, to a table of its own each, and returns the refused ones, the same of both.
async fn by_both_ways<T: Clone + Send + 'static>(db: &Db, table: impl Fn() -> Table<T>, ops: Vec<T>) -> Vec<String> {
    let mut stories = Vec::new();
    for copy_from in [usize::MAX, 1] {
        let sink: PostgresSink<T> = db.settings().copy_from(copy_from).open(table()).await.unwrap();
        let failed = write(&sink, ops.clone()).await;
        refused(&failed);
        stories
            .push(failed.into_iter().map(|refusal| format!("{}: {}", refusal.op, refusal.story)).collect::<Vec<_>>());
    }
    assert_eq!(stories[0], stories[1]);
    stories.swap_remove(0)
}

/// Returns the rows of a query on table `t`, where each row was written twice.
async fn twice(db: &Db, sql: &str) -> Vec<String> {
    let all = db.query(sql).await;
    let (first, second) = all.split_at(all.len() / 2);
    assert_eq!(first, second, "both ways are one");
    first.to_vec()
}

/// Goal: a batch of any size lands whole and in order. Method: sizes around every threshold.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn all_rows_land_in_order() {
    let db = db().await;
    let sink = db.open(mapping().create_if_missing()).await;
    let mut expected = Vec::new();
    for size in [1, 2, 57, 500, 1000, 2499, 2500, 2501, 6000] {
        // Falling, so that the order is not that of the ids by chance.
        let ids: Vec<i64> = (0..size).rev().collect();
        assert!(write(&sink, trades(ids.clone())).await.is_empty());
        expected.extend(ids);
    }
    assert_eq!(db.ids().await, expected);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn integers_flags_and_null_are_exact() {
    let db = db().await;
    let table = || {
        Table::new("t").integer("i", |op: &Option<i64>| *op).boolean("b", |op| op.map(|i| i > 0)).create_if_missing()
    };
    let ops = vec![Some(i64::MIN), Some(-1), Some(0), Some(i64::MAX), None];
    assert!(by_both_ways(&db, table, ops).await.is_empty());
    assert_eq!(
        twice(&db, "SELECT i, pg_typeof(i), b FROM t").await,
        [
            "-9223372036854775808|bigint|f",
            "-1|bigint|f",
            "0|bigint|f",
            "9223372036854775807|bigint|t",
            "NULL|bigint|NULL",
        ]
    );
}

/// Goal: points in time are kept, rounded down to the server's microsecond. Method: around 1970 and 2000 and at the
/// ends.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn timestamps_are_rounded_down_to_microseconds() {
    let db = db().await;
    db.execute("SET timezone = 'UTC'").await;
    let table = || Table::new("t").timestamp("at", |op: &Option<i64>| *op).create_if_missing();
    let ops = [0, 1_999, -1, -1_000, 946_684_800_000_000_000, 1_723_075_200_123_456_789, i64::MIN, i64::MAX];
    assert!(by_both_ways(&db, table, ops.into_iter().map(Some).chain([None]).collect()).await.is_empty());
    assert_eq!(
        twice(&db, "SELECT at FROM t").await,
        [
            "1970-01-01 00:00:00+00",
            "1970-01-01 00:00:00.000001+00",
            "1969-12-31 23:59:59.999999+00",
            "1969-12-31 23:59:59.999999+00",
            "2000-01-01 00:00:00+00",
            "2024-08-08 00:00:00.123456+00",
            "1677-09-21 00:12:43.145224+00",
            "2262-04-11 23:47:16.854775+00",
            "NULL",
        ]
    );
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn decimals_keep_every_digit() {
    let db = db().await;
    let table = || Table::new("t").decimal("d", |op: &Option<Decimal>| *op).create_if_missing();
    let digits = [
        "0",
        "0.00",
        "1.50",
        "-0.00000001",
        "100.000",
        "10000",
        "99990000.0001",
        "79228162514264337593543950335",
        "-7.9228162514264337593543950335",
        "0.0000000000000000000000000001",
        "1234567890123456789012345678",
    ];
    let ops = digits.iter().map(|text| Some(text.parse().unwrap())).chain([None]).collect();
    assert!(by_both_ways(&db, table, ops).await.is_empty());
    assert_eq!(twice(&db, "SELECT d FROM t").await, [&texts(digits)[..], &texts(["NULL"])].concat());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn floats_are_exact() {
    let db = db().await;
    let table = || Table::new("t").float("f", |op: &f64| *op).create_if_missing();
    let floats = [f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 0.1, 5e-324];
    assert!(by_both_ways(&db, table, floats.to_vec()).await.is_empty());
    let bits = twice(&db, "SELECT encode(float8send(f), 'hex') FROM t").await;
    assert_eq!(bits, floats.map(|float| format!("{:016x}", float.to_bits())));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn text_is_exact_and_nul_is_refused_alone() {
    let db = db().await;
    let table = || one_column("x", ColumnType::Text, |op: &Option<String>| op.as_deref().into());
    let long = "x".repeat(100_000);
    let good = [
        "",
        " ",
        "007",
        "\\N",
        "\\.",
        "größe 漢字 🦀",
        "it's \"q\"",
        "'); DROP TABLE t; --",
        "a,b{}\tc",
        "NULL",
        &long,
    ];
    let ops =
        good.iter().map(|text| Some((*text).to_owned())).chain([None, Some("a\0b".into()), Some("a\nb\r".into())]);
    let failed = by_both_ways(&db, table, ops.collect()).await;
    assert_eq!(failed, [r#"12: refused: column "x" contains a NUL character, which PostgreSQL cannot store in text"#]);
    assert_eq!(twice(&db, "SELECT x FROM t").await, [&good[..], &["NULL", "a\nb\r"]].concat());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn bytes_are_exact_and_may_be_large() {
    let db = db().await;
    let table = || Table::new("t").bytes("x", |op: &Vec<u8>| op).create_if_missing();
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(by_both_ways(&db, table, vec![vec![], vec![0, 255, 39, 92], large.clone(), vec![7]]).await.is_empty());
    assert_eq!(twice(&db, "SELECT length(x) FROM t").await, ["0", "4", "20000000", "1"]);
    assert_eq!(twice(&db, "SELECT encode(x, 'hex') FROM t WHERE length(x) = 4").await, ["00ff275c"]);
    let stored: Vec<u8> = db.client.query_one("SELECT x FROM t WHERE length(x) > 4 LIMIT 1", &[]).await.unwrap().get(0);
    assert!(stored == large);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn json_is_json_and_nonsense_is_refused_alone() {
    let db = db().await;
    let table = || Table::new("t").json("x", |op: &String| op).create_if_missing();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let ops = [r#"{"side":"buy"}"#, "not json", "[1.50, null]", r#""a\u0000b""#, &deep, "\"\""];
    let failed = by_both_ways(&db, table, ops.map(String::from).to_vec()).await;
    assert_eq!(failed.len(), 3, "{failed:?}");
    assert!(failed[0].starts_with("1: refused: a value does not suit the type of its column"), "{failed:?}");
    assert!(failed[1].starts_with("3: refused: a value does not suit"), "{failed:?}");
    assert!(failed[2].starts_with("4: refused: the row is larger or deeper than PostgreSQL takes"), "{failed:?}");
    assert_eq!(
        twice(&db, "SELECT x, jsonb_typeof(x) FROM t").await[..2],
        [r#"{"side": "buy"}|object"#, "[1.50, null]|array"]
    );
}

/// Goal: a name is only ever a name. Method: names made to break out, and a table beside them that must survive.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn names_of_any_kind_are_quoted() {
    let db = db().await;
    db.execute("CREATE TABLE victim (x int); INSERT INTO victim VALUES (1)").await;
    let names = [
        "\"); DROP TABLE victim; --",
        "größe 漢字",
        "select",
        "a.b",
        "x'y`z]",
        " ",
        "$1",
        "Upper",
        "\", \"",
        "roundlot_rows",
    ];
    for name in names {
        let table = names.iter().fold(Table::new(name), |table, name| table.integer(*name, |op: &i64| *op));
        let table = table.key([names[0]]).on_conflict(roundlot::sink::table::Conflict::Update).create_if_missing();
        let sink = db.settings().stage_from(2).open(table).await.unwrap();
        assert!(write(&sink, vec![1]).await.is_empty(), "{name}");
        assert!(write(&sink, vec![1, 2]).await.is_empty(), "{name}");
        let quoted = name.replace('"', "\"\"");
        assert_eq!(db.query(&format!("SELECT count(*) FROM \"{quoted}\"")).await, ["2"], "{name}");
    }
    assert_eq!(db.query("SELECT * FROM victim").await, ["1"]);
}

/// Goal: an unsigned integer is kept or refused, never changed. Method: the edges, into the columns of a created table and
/// of one that has `numeric`.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn unsigned_integers_are_exact_or_refused() {
    let edge = i64::MAX as u64;
    let ops = vec![Some(0), Some(edge), Some(edge + 1), Some(u64::MAX), None];
    let table = || Table::new("t").unsigned("id", |op: &Option<u64>| *op).create_if_missing();
    let first = db().await;
    let failed = by_both_ways(&first, table, ops.clone()).await;
    assert_eq!(failed, [2, 3].map(|op| format!("{op}: refused: column \"id\" is beyond the range of bigint")));
    assert_eq!(twice(&first, "SELECT id FROM t").await, ["0", "9223372036854775807", "NULL"]);

    let second = db().await;
    second.query("CREATE TABLE t (id numeric)").await;
    assert!(by_both_ways(&second, table, ops).await.is_empty());
    let kept = ["0", "9223372036854775807", "9223372036854775808", "18446744073709551615", "NULL"];
    assert_eq!(twice(&second, "SELECT id FROM t").await, kept);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_value_of_the_wrong_type_is_refused_alone() {
    let db = db().await;
    let table = one_column("x", ColumnType::Integer, |op: &i64| if *op == 3 { "three".into() } else { (*op).into() });
    let sink = db.open(table).await;
    let failed = write(&sink, (0..300).collect()).await;
    assert_eq!(refused(&failed), [3]);
    assert_eq!(failed[0].story, r#"refused: column "x" holds integers, its closure returned text"#);
    assert_eq!(db.query("SELECT count(*), sum(x) FROM t").await, [format!("299|{}", 299 * 300 / 2 - 3)]);
    let none = db.open(one_column("x", ColumnType::Integer, |_: &i64| Value::Bool(true))).await;
    assert_eq!(refused(&write(&none, vec![1, 2]).await), [0, 1]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn ops_with_a_verdict_are_not_written() {
    let db = db().await;
    let sink = db.open(keyed()).await;
    let mut batch = Batch::for_test(trades(0..4));
    batch.accept(1, ());
    batch.refuse(2, roundlot::SinkError::refused("not today"));
    sink.write(&mut batch).await.map(drop).unwrap();
    assert_eq!(db.ids().await, [0, 3]);
    assert!(batch.verdict(2).unwrap().is_err());
}

/// Goal: a table as wide as PostgreSQL takes it is written. Method: 1,600 columns, by both ways.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn wide_tables_are_written() {
    let db = db().await;
    let table = || {
        let columns = (0..1600_i64).map(|i| (format!("c{i}"), i));
        columns
            .fold(Table::new("t"), |table, (name, i)| table.boolean(name, move |op: &i64| (op + i) % 3 == 0))
            .create_if_missing()
    };
    assert!(by_both_ways(&db, table, (0..100).collect()).await.is_empty());
    assert_eq!(twice(&db, "SELECT c0, c1599 FROM t").await[..3], ["t|t", "f|f", "f|f"]);
    assert_eq!(db.query("SELECT count(*) FROM t").await, ["200"]);
}

/// Goal: a column's closure that panics refuses its op alone. Method: in the first row, a later one and the last, in each
/// way of writing, and in all rows.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_panic_in_a_closure_refuses_its_op_alone() {
    for from in [usize::MAX, 1] {
        let db = db().await;
        let boom = |id: &i64| if *id == 777 { panic!("boom") } else { *id };
        let table = Table::new("trades").integer("id", |id: &i64| *id).integer("more", boom).create_if_missing();
        let sink = db.settings().copy_from(from).open(table).await.unwrap();
        for (late, first) in [0, 1, 299].into_iter().zip([1000, 2000, 3000]) {
            let mut ops: Vec<i64> = (first..first + 300).collect();
            ops[late] = 777;
            let refusals = write(&sink, ops).await;
            assert_eq!(refused(&refusals), [late], "the others land");
            assert!(refusals[0].story.contains("panicked: boom"), "{}", refusals[0].story);
        }
        assert_eq!(refused(&write(&sink, vec![777, 777]).await), [0, 1]);
        assert_eq!(db.query("SELECT count(*), count(more) FROM trades").await, ["897|897"]);
    }
}
