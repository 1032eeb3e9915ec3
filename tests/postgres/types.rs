//! Existing tables with other types than the sink would create. A value that fits exactly is written, one that does not
//! is refused alone. A type that never fits is an error at the opening.

use roundlot::sink::{
    postgres::OpenError,
    table::{ColumnType, Conflict, Table},
};
use rust_decimal::Decimal;

use crate::{db, refused, write};

/// Goal: types that keep the values are written to as they are. Method: all of them, by each way, with rules and without.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn types_that_keep_the_values_are_taken() {
    let db = db().await;
    db.execute(
        "SET timezone = 'UTC';
         CREATE TYPE side AS ENUM ('buy', 'sell'); CREATE DOMAIN symbol AS varchar(8) CHECK (value <> '');
         CREATE DOMAIN way AS side; CREATE DOMAIN ticker AS symbol;
         CREATE TABLE t (i2 smallint, i4 integer, i8 numeric(20), d numeric(10, 2), v varchar(8), c char(4), at timestamp,
             j json, jt text, s side, w way, x symbol, y ticker, id integer PRIMARY KEY, other text DEFAULT 'none')",
    )
    .await;
    let table = || {
        Table::new("t")
            .integer("i2", |op: &i64| *op)
            .integer("i4", |op| *op)
            .integer("i8", |op| *op)
            .decimal("d", |op| Decimal::new(*op, 3) * Decimal::TEN)
            .text("v", |_| "größe")
            .text("c", |_| "BTC ")
            .timestamp("at", |op| 1_723_075_200_000_000_000 + op)
            .json("j", |_| r#"{"a": 1}"#)
            .json("jt", |_| "[1,  2]")
            .text("s", |op| if op % 2 == 0 { "buy" } else { "sell" })
            .text("w", |_| "sell")
            .text("x", |_| "BTCUSDT")
            .text("y", |_| "ETHUSDT")
            .integer("id", |op| *op)
            .key(["id"])
    };
    let expected = |i: i64| {
        let side = if i % 2 == 0 { "buy" } else { "sell" };
        let d = Decimal::new(i, 2);
        let time = format!("2024-08-08 00:00:00{}", if i >= 1000 { ".000001" } else { "" });
        format!("{i}|{i}|{i}|{d}|größe|BTC |{time}|{{\"a\": 1}}|[1,  2]|{side}|sell|BTCUSDT|ETHUSDT|{i}|none")
    };
    for rule in [Conflict::Fail, Conflict::Ignore, Conflict::Update] {
        for from in [usize::MAX, 1] {
            db.execute("TRUNCATE t").await;
            let sink = db.settings().copy_from(from).stage_from(from).open(table().on_conflict(rule)).await.unwrap();
            assert!(write(&sink, vec![7, 1008, 100]).await.is_empty(), "{rule:?} {from}");
            assert_eq!(db.query("SELECT * FROM t ORDER BY id").await, [7, 100, 1008].map(expected), "{rule:?} {from}");
        }
    }
}

/// Goal: a value that does not fit is refused by row, never cut or rounded. Method: one of each kind among good ones.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn values_that_do_not_fit_are_refused_alone() {
    let db = db().await;
    db.execute(
        "CREATE TYPE side AS ENUM ('buy', 'sell'); CREATE TABLE t (i integer, d numeric(6, 2), v varchar(3), s side)",
    )
    .await;
    type Op = (i64, &'static str, &'static str, &'static str);
    let table = || {
        Table::new("t")
            .integer("i", |op: &Op| op.0)
            .decimal("d", |op| op.1.parse::<Decimal>().unwrap())
            .text("v", |op| op.2)
            .text("s", |op| op.3)
    };
    let ops: [Op; 6] = [
        (1, "1.25", "abc", "buy"),
        (1 << 31, "1", "a", "buy"),
        (2, "1.255", "a", "buy"),
        (3, "12345", "a", "buy"),
        (4, "1.2500", "abcd", "buy"),
        (5, "9999.990", "a", "hold"),
    ];
    let whys = [
        r#"column "i" is beyond the range of integer"#,
        r#"column "d" has more digits behind the point than the column keeps"#,
        "numeric field overflow (22003)",
        "value too long for type character varying(3) (22001)",
        "invalid input value for enum side: \"hold\" (22P02)",
    ];
    for from in [usize::MAX, 1] {
        let sink = db.settings().copy_from(from).open(table()).await.unwrap();
        let failed = write(&sink, ops.to_vec()).await;
        assert_eq!(refused(&failed), [1, 2, 3, 4, 5]);
        for (refusal, why) in failed.iter().zip(whys) {
            assert!(refusal.story.contains(why), "{refusal:?}");
        }
    }
    assert_eq!(db.query("SELECT * FROM t").await, ["1|1.25|abc|buy"; 2]);
}

/// Goal: a type that would change every other value is reported with the column's name when the sink is opened.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn types_that_would_change_values_are_named() {
    let db = db().await;
    let cases = [
        (ColumnType::Integer, "text", "integers"),
        (ColumnType::Float, "real", "floats"),
        (ColumnType::Float, "numeric(10,2)", "floats"),
        (ColumnType::Decimal, "double precision", "decimals"),
        (ColumnType::Decimal, "money", "decimals"),
        (ColumnType::Decimal, "numeric(3,-2)", "decimals"),
        (ColumnType::Timestamp, "date", "timestamps"),
        (ColumnType::Timestamp, "bigint", "timestamps"),
        (ColumnType::Text, "date", "text"),
        (ColumnType::Text, "time without time zone", "text"),
        (ColumnType::Text, "inet", "text"),
        (ColumnType::Text, "bit(3)", "text"),
        (ColumnType::Text, "interval", "text"),
        (ColumnType::Text, "jsonb", "text"),
        (ColumnType::Integer, "uuid", "integers"),
        (ColumnType::Text, "integer[]", "text"),
        (ColumnType::Bytes, "text", "bytes"),
        (ColumnType::Bool, "integer", "flags"),
        (ColumnType::Json, "bytea", "json"),
    ];
    for (holds, declared, plural) in cases {
        db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (x {declared})")).await;
        let table = Table::new("t").column("x", holds, |_: &i64| roundlot::sink::table::Value::Null);
        let error = db.settings().open(table).await.unwrap_err();
        assert!(matches!(error, OpenError::WrongType { .. }), "{error:?}");
        let text =
            format!(r#"column "x" of table "t" is to hold {plural}, which {declared} cannot keep exactly; it may be "#);
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

/// Goal: a table that changes under the sink gives a clear error, final only while the change lasts. Method: columns
/// get other types, by each way.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_column_that_changes_its_type_is_final_or_harmless() {
    let db = db().await;
    for from in [usize::MAX, 1] {
        db.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (x integer)").await;
        let table = Table::new("t").integer("x", |op: &i64| *op);
        let sink = db.settings().copy_from(from).open(table).await.unwrap();
        assert!(write(&sink, vec![1]).await.is_empty());
        db.execute("ALTER TABLE t ALTER x TYPE bigint").await;
        if from == 1 {
            let (kind, story) = crate::fail(&sink, vec![2, 3]).await;
            assert_eq!(kind, roundlot::ErrorKind::Refused, "{story}");
            assert!(story.contains("final: the columns of the table have changed since it was opened"), "{story}");
            assert_eq!(db.query("SELECT x FROM t").await, ["1"]);
        } else {
            assert!(write(&sink, vec![2, 3]).await.is_empty(), "the server converts");
            assert_eq!(db.query("SELECT x FROM t").await, ["1", "2", "3"]);
        }
    }
}
