//! Tests that no value changes in silence: a value comes back as it went in, is refused, or the sink does not open.

use std::fmt::Debug;

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use roundlot::sink::{
    sqlite::{OpenError, SqliteSink},
    table::{ColumnType, Table, Value},
};
use rusqlite::types::Value as Stored;
use rust_decimal::Decimal;

use crate::{File, file, refusals::Refusal, write};

const TYPES: [&str; 24] = [
    "",
    "BLOB",
    "TEXT",
    "VARCHAR(20)",
    "CLOB",
    "CHARACTER(20)",
    "INTEGER",
    "INT",
    "BIGINT",
    "BOOLEAN",
    "DATE",
    "DATETIME",
    "TIMESTAMP",
    "NUMERIC",
    "DECIMAL(10,2)",
    "STRING",
    "JSON",
    "ANY",
    "REAL",
    "FLOAT",
    "DOUBLE",
    "DOUBLE PRECISION",
    "FLOATING POINT",
    "UUID",
];
const STRICT_TYPES: [&str; 6] = ["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];

/// A file with a table of one column for each type, plain, strict, or as the key of the rows.
fn tables() -> (File, Vec<String>) {
    let file = file();
    let mut names = Vec::new();
    let plain = TYPES.iter().map(|of| (of, ""));
    for (of, strict) in plain.chain(STRICT_TYPES.iter().map(|of| (of, "STRICT"))) {
        for key in ["", "PRIMARY KEY"] {
            let name = format!("{of} {strict} {key}");
            file.execute(&format!("CREATE TABLE \"{name}\" (v {of} {key}, n INT) {strict}"));
            names.push(name);
        }
    }
    (file, names)
}

/// Edges, and some more at random.
fn some<T: Debug>(edges: impl IntoIterator<Item = T>, random: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    edges.into_iter().chain((0..60).map(|_| random.new_tree(&mut runner).unwrap().current())).collect()
}

/// Writes the values into every table, and compares what is there.
async fn round_trip<T>(holds: ColumnType, values: Vec<T>, bind: fn(&T) -> Value<'_>, same: fn(&T, &Stored) -> bool)
where
    T: Clone + Debug + Send + Sync + 'static,
{
    let (file, names) = tables();
    let mut kept = 0;
    for name in names {
        let table = Table::new(name.clone())
            .column("v", holds, move |(_, value): &(i64, T)| bind(value))
            .integer("n", |(n, _)| *n);
        let sink = match SqliteSink::open(&file, table).await {
            Ok(sink) => sink,
            Err(OpenError::NotText { .. } | OpenError::NotKept { .. }) => continue,
            Err(error) => panic!("{name}: {}", error.chain()),
        };
        let ops: Vec<_> = (0..).zip(values.iter().cloned()).collect();
        let failed: Vec<usize> = write(&sink, ops).await.iter().map(|Refusal { op, .. }| *op).collect();
        let connection = file.connect();
        for (n, value) in values.iter().enumerate() {
            let stored: Result<Stored, _> =
                connection.query_row(&format!("SELECT v FROM \"{name}\" WHERE n = ?1"), [n as i64], |row| row.get(0));
            match stored {
                Ok(stored) => assert!(same(value, &stored), "{name}: {value:?} came back as {stored:?}"),
                Err(error) => assert!(failed.contains(&n), "{name}: {value:?}: {error}"),
            }
        }
        kept += values.len() - failed.len();
    }
    assert!(kept > values.len() * 3, "{holds}: nearly nothing was kept");
}

fn integers() -> Vec<i64> {
    let edges =
        [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 1 << 62, 1_700_000_000_123_456_789];
    some(edges, any::<i64>())
}

#[tokio::test]
async fn integers_come_back_as_they_were() {
    for holds in [ColumnType::Integer, ColumnType::Timestamp] {
        round_trip(holds, integers(), |v| (*v).into(), |v, stored| *stored == Stored::Integer(*v)).await;
    }
}

/// Goal: an unsigned integer is kept or refused, never changed. Method: the edges, in one batch.
#[tokio::test]
async fn unsigned_integers_are_exact_or_refused() {
    let edge = i64::MAX as u64;
    let file = file();
    let table = Table::new("t").unsigned("id", |op: &Option<u64>| *op).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let failed = write(&sink, vec![Some(0), Some(edge), Some(edge + 1), Some(u64::MAX), None]).await;
    let stories: Vec<_> = failed.iter().map(|refusal| (refusal.op, refusal.story.as_str())).collect();
    assert_eq!(stories, [2, 3].map(|op| (op, "refused: column \"id\" is beyond the range of SQLite's integers")));
    assert_eq!(file.query("SELECT id FROM t ORDER BY rowid"), ["0", "9223372036854775807", "NULL"]);
}

#[tokio::test]
async fn flags_come_back_as_they_were() {
    let same = |v: &bool, stored: &Stored| *stored == Stored::Integer((*v).into());
    round_trip(ColumnType::Bool, vec![true, false], |v| (*v).into(), same).await;
}

/// Goal: floats keep their value. Method: a whole number may come back as an integer, if that is exactly it.
#[tokio::test]
async fn floats_come_back_as_they_were() {
    let edges = [0.0, -0.0, 0.1, 1e15, 1e16, 9_007_199_254_740_994.0, i64::MAX as f64, i64::MIN as f64];
    let extremes =
        [f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 123_456_789.123_456_78];
    let same = |v: &f64, stored: &Stored| match stored {
        Stored::Real(stored) => stored == v,
        Stored::Integer(stored) => *stored as f64 == *v && *stored as i128 == *v as i128,
        _ => false,
    };
    round_trip(ColumnType::Float, some(edges.into_iter().chain(extremes), any::<f64>()), |v| (*v).into(), same).await;
}

#[tokio::test]
async fn text_comes_back_as_it_was() {
    let edges =
        ["", " ", "0", "007", "1.50", "1e5", " 12 ", "0x10", "9007199254740993", "-0", "inf", "a\0b", "\u{feff}x"];
    let edges = edges.map(String::from);
    let random = prop_oneof!["\\PC{0,20}", "-?[0-9]{1,25}(\\.[0-9]{0,9})?(e[0-9]{1,2})?"];
    let same = |v: &String, stored: &Stored| *stored == Stored::Text(v.clone());
    for holds in [ColumnType::Text, ColumnType::Json] {
        round_trip(holds, some(edges.clone(), random.clone()), |v| v.into(), same).await;
    }
}

#[tokio::test]
async fn bytes_come_back_as_they_were() {
    let edges = [vec![], vec![0], b"123".to_vec(), b"1.50".to_vec(), vec![0xff; 9]];
    let random = prop::collection::vec(any::<u8>(), 0..20);
    let same = |v: &Vec<u8>, stored: &Stored| *stored == Stored::Blob(v.clone());
    round_trip(ColumnType::Bytes, some(edges, random), |v| v.into(), same).await;
}

#[tokio::test]
async fn decimals_come_back_as_they_were() {
    let edges = ["0", "1.50", "-0.00000001", "79228162514264337593543950335", "9007199254740993", "100.000"];
    let edges = edges.map(|text| text.parse::<Decimal>().unwrap());
    let random = (any::<i64>(), 0_u32..18).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale));
    let same = |v: &Decimal, stored: &Stored| *stored == Stored::Text(v.to_string());
    round_trip(ColumnType::Decimal, some(edges, random), |v| (*v).into(), same).await;
}

/// Goal: text is the same in files that keep it as UTF-16. Method: text that such files treat differently, also as a
/// key.
#[tokio::test]
async fn text_is_exact_in_files_of_another_encoding() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let file = file();
        file.execute(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE t (x TEXT PRIMARY KEY)"));
        let sink = SqliteSink::open(&file, Table::new("t").text("x", |op: &String| op).key(["x"])).await.unwrap();
        let texts = ["", "a\0b", "\u{feff}x", "x\u{fffe}", "größe 漢字 🦀", "\u{10ffff}"].map(String::from);
        assert!(write(&sink, texts.to_vec()).await.is_empty());
        assert_eq!(crate::refused(&write(&sink, texts.to_vec()).await), [0, 1, 2, 3, 4, 5]);
        assert_eq!(file.query("SELECT x FROM t ORDER BY rowid"), texts, "{encoding}");
    }
}

/// Goal: a column that would lose digits is named when the sink opens. Method: each of SQLite's names for a float, and
/// text for numbers.
#[tokio::test]
async fn a_column_that_would_change_numbers_is_named() {
    for declared in ["REAL", "FLOAT", "DOUBLE", "TEXT", "VARCHAR(20)"] {
        let file = file();
        file.execute(&format!("CREATE TABLE fills (id {declared}, price TEXT)"));
        let error = SqliteSink::open(&file, Table::new("fills").integer("id", |id: &i64| *id)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                r#"column "id" of table "fills" is to hold integers and must be INTEGER for that, it is {declared}"#
            )
        );
        let time = Table::new("fills").timestamp("id", |id: &i64| *id);
        assert!(matches!(SqliteSink::open(&file, time).await, Err(OpenError::NotKept { .. })), "{declared}");
    }
}

/// Goal: a table that is made anew while the sink is open is looked at again. Method: its column loses digits now.
#[tokio::test]
async fn a_column_that_is_altered_later_is_named() {
    let file = file();
    let ids = || Table::new("t").integer("id", |id: &i64| *id).create_if_missing();
    let sink = SqliteSink::open(&file, ids()).await.unwrap();
    assert!(write(&sink, vec![1]).await.is_empty());
    file.execute("DROP TABLE t; CREATE TABLE t (id DOUBLE)");
    for _ in 0..2 {
        let failed = write(&sink, vec![i64::MAX, 2]).await;
        assert_eq!(crate::refused(&failed), [0, 1]);
        assert!(failed[0].story.contains("must be INTEGER for that, it is DOUBLE"), "{failed:?}");
    }
    file.execute("DROP TABLE t; CREATE TABLE t (id BIGINT)");
    assert!(write(&sink, vec![i64::MAX]).await.is_empty());
    assert_eq!(file.query("SELECT id FROM t"), [i64::MAX.to_string()]);
}
