//! Tests of rows that the table does not take: exactly these are refused. All other rows land, in order and once.

use roundlot::sink::{
    sqlite::SqliteSink,
    table::{Conflict, Table},
};

use crate::{File, Trade, file, keyed, mapping, refused, trade, trades, write};

/// Goal: one bad row costs itself alone. Method: its key is there already, as row 57 of 500.
#[tokio::test]
async fn row_57_of_500_is_refused_alone() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, vec![trade(57)]).await.is_empty());
    let failed = write(&sink, trades(0..500)).await;
    assert_eq!(refused(&failed), [57]);
    assert!(failed[0].story.contains("the row breaks a constraint of the table"), "{failed:?}");
    assert!(failed[0].story.contains("UNIQUE constraint failed: trades.id"), "{failed:?}");
    let expected: Vec<i64> = (0..500).collect();
    assert_eq!(file.query("SELECT id FROM trades ORDER BY id").len(), 500);
    assert_eq!(file.ids(), expected, "the key is the rowid");
}

#[tokio::test]
async fn exactly_the_bad_rows_are_refused() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    let bad = [0, 1, 127, 128, 299];
    assert!(write(&sink, trades(bad)).await.is_empty());
    assert_eq!(refused(&write(&sink, trades(0..300)).await), bad.map(|i| i as usize));
    assert_eq!(refused(&write(&sink, trades(0..300)).await), (0..300).collect::<Vec<_>>(), "and if all are bad");
    assert_eq!(file.ids().len(), 300);
}

/// Goal: the rules hold within a batch as they do across batches. Method: the same keys in both places.
#[tokio::test]
async fn repeats_fail_unless_the_rule_says_otherwise() {
    let (file, sink) = with_rule(Conflict::Fail).await;
    assert_eq!(refused(&write(&sink, repeats()).await), [0, 3, 4]);
    assert_eq!(file.query(BY_ID), ["1|old|1", "2|a|2", "3|b|3"]);
}

#[tokio::test]
async fn repeats_are_ignored() {
    let (file, sink) = with_rule(Conflict::Ignore).await;
    assert!(write(&sink, repeats()).await.is_empty());
    assert_eq!(file.query(BY_ID), ["1|old|1", "2|a|2", "3|b|3"]);
}

#[tokio::test]
async fn repeats_update() {
    let (file, sink) = with_rule(Conflict::Update).await;
    assert!(write(&sink, repeats()).await.is_empty());
    assert_eq!(file.query(BY_ID), ["1|new|1", "2|d|2", "3|c|3"]);
}

const BY_ID: &str = "SELECT id, symbol, price FROM trades ORDER BY id";

async fn with_rule(rule: Conflict) -> (File, SqliteSink<Trade>) {
    let file = file();
    let sink = SqliteSink::open(&file, keyed().on_conflict(rule)).await.unwrap();
    assert!(write(&sink, vec![named(1, "old")]).await.is_empty());
    (file, sink)
}

fn repeats() -> Vec<Trade> {
    vec![named(1, "new"), named(2, "a"), named(3, "b"), named(3, "c"), named(2, "d")]
}

fn named(id: i64, symbol: &str) -> Trade {
    Trade { symbol: symbol.into(), price: id.into(), ..trade(id) }
}

#[tokio::test]
async fn a_key_of_several_columns_is_one_key() {
    let file = file();
    let table = mapping().key(["SYMBOL", "id"]).on_conflict(Conflict::Update).create_if_missing();
    let sink = SqliteSink::open(&file, table).await.unwrap();
    let ops = vec![named(1, "a"), named(1, "b"), Trade { price: 9.into(), ..named(1, "a") }];
    assert!(write(&sink, ops).await.is_empty());
    assert_eq!(file.query("SELECT id, symbol, price FROM trades ORDER BY rowid"), ["1|a|9", "1|b|1"]);
}

#[tokio::test]
async fn a_table_that_is_all_key_ignores_repeats() {
    let file = file();
    let table = Table::new("t").integer("id", |op: &i64| *op).key(["id"]).on_conflict(Conflict::Update);
    let sink = SqliteSink::open(&file, table.create_if_missing()).await.unwrap();
    assert!(write(&sink, vec![1, 1, 2]).await.is_empty());
    assert_eq!(file.query("SELECT count(*) FROM t"), ["2"]);
}

/// Goal: `Ignore` is about the key and hides nothing else. Method: rows that break other rules of the table.
#[tokio::test]
async fn ignore_does_not_hide_other_constraints() {
    let file = file();
    file.execute(
        "CREATE TABLE trades (id INT PRIMARY KEY, symbol TEXT NOT NULL CHECK (symbol <> ''), price TEXT UNIQUE)",
    );
    let sink = SqliteSink::open(&file, mapping().key(["id"]).on_conflict(Conflict::Ignore)).await.unwrap();
    let failed =
        write(&sink, vec![named(1, "a"), named(2, ""), named(1, "b"), Trade { price: 1.into(), ..named(3, "c") }]);
    let failed = failed.await;
    assert_eq!(refused(&failed), [1, 3]);
    assert!(failed[0].story.contains("CHECK constraint failed"), "{failed:?}");
    assert!(failed[1].story.contains("UNIQUE constraint failed: trades.price"), "{failed:?}");
    assert_eq!(file.query(BY_ID), ["1|a|1"]);
}

#[tokio::test]
async fn the_rule_of_the_mapping_overrides_that_of_the_table() {
    for clause in ["REPLACE", "IGNORE", "ROLLBACK", "FAIL"] {
        let file = file();
        let key = format!("id INT PRIMARY KEY ON CONFLICT {clause}");
        file.execute(&format!("CREATE TABLE trades ({key}, symbol TEXT, price TEXT)"));
        let sink = SqliteSink::open(&file, mapping().key(["id"])).await.unwrap();
        assert_eq!(refused(&write(&sink, vec![named(1, "a"), named(1, "b"), named(2, "c")]).await), [1], "{clause}");
        assert_eq!(file.query(BY_ID), ["1|a|1", "2|c|2"], "{clause}");
    }
}

/// Goal: SQLite invents no key. Method: NULL in a key of one integer, for which it would, and in one of two columns.
#[tokio::test]
async fn a_missing_key_is_refused() {
    for key in [&["id"][..], &["id", "symbol"]] {
        let file = file();
        let sink = SqliteSink::open(&file, mapping().key(key.iter().copied()).create_if_missing()).await.unwrap();
        let failed = write(&sink, vec![trade(1), Trade { id: None, ..trade(2) }]).await;
        assert_eq!(refused(&failed), [1]);
        assert_eq!(failed[0].story, r#"refused: key column "id" is NULL"#);
        assert_eq!(file.ids(), [1]);
    }
}

/// Goal: an op that a trigger refuses is refused, and its earlier effects land once. Method: each way of SQLite to
/// raise, in the middle of a batch: undo the statement, keep its effects, and end the transaction.
#[tokio::test]
async fn rows_that_a_trigger_refuses_are_refused_alone() {
    for (raise, when) in [("ABORT", "BEFORE"), ("FAIL", "BEFORE"), ("FAIL", "AFTER"), ("ROLLBACK", "AFTER")] {
        let file = file();
        let sink = SqliteSink::open(&file, mapping().create_if_missing()).await.unwrap();
        file.execute(&format!(
            "CREATE TRIGGER no_fives {when} INSERT ON trades WHEN new.id % 50 = 5
             BEGIN SELECT RAISE({raise}, 'no fives today'); END"
        ));
        let failed = write(&sink, trades(0..200)).await;
        assert_eq!(refused(&failed), [5, 55, 105, 155], "{raise} {when}");
        assert!(failed.iter().all(|refusal| refusal.story.contains("no fives today")), "{failed:?}");
        let expected: Vec<i64> = (0..200).filter(|id| id % 50 != 5).collect();
        assert_eq!(file.ids(), expected, "{raise} {when}");
    }
}

/// Goal: a constraint that SQLite checks only at COMMIT finds its row too. Method: a deferred foreign key.
#[tokio::test]
async fn rows_that_break_a_deferred_foreign_key_are_refused_alone() {
    let file = file();
    file.execute(
        "CREATE TABLE pairs (symbol TEXT PRIMARY KEY); INSERT INTO pairs VALUES ('a'), ('b');
         CREATE TABLE trades (id INT, symbol TEXT REFERENCES pairs DEFERRABLE INITIALLY DEFERRED, price TEXT)",
    );
    let sink = SqliteSink::open(&file, mapping()).await.unwrap();
    let ops = (0..100).map(|id| named(id, if id == 41 { "nowhere" } else { "b" })).collect();
    let failed = write(&sink, ops).await;
    assert_eq!(refused(&failed), [41]);
    assert!(failed[0].story.contains("FOREIGN KEY constraint failed"), "{failed:?}");
    assert_eq!(file.ids(), (0..100).filter(|id| *id != 41).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_row_on_which_a_function_of_the_table_fails_is_refused_alone() {
    let file = file();
    file.execute("CREATE TABLE t (x TEXT, side TEXT AS (x ->> 'side') STORED)");
    let sink = SqliteSink::open(&file, Table::new("t").json("x", |op: &String| op)).await.unwrap();
    let ops = ["{}", "not json", r#"{"side":"buy"}"#].map(String::from).into();
    assert_eq!(refused(&write(&sink, ops).await), [1]);
    assert_eq!(file.query("SELECT side FROM t ORDER BY rowid"), ["NULL", "buy"]);
}

#[tokio::test]
async fn a_strict_table_refuses_values_of_the_wrong_type() {
    let file = file();
    file.execute("CREATE TABLE trades (id INTEGER, symbol TEXT, price BLOB) STRICT");
    let sink = SqliteSink::open(&file, mapping()).await.unwrap();
    let failed = write(&sink, trades(0..2)).await;
    assert_eq!(refused(&failed), [0, 1]);
    assert!(failed[0].story.contains("cannot store TEXT value in BLOB column trades.price"), "{failed:?}");
}

/// Goal: a batch that is written again is harmless where the mapping asks for that. Method: the same batch twice, and
/// one that overlaps; the key still refuses a row that is there under another id.
#[tokio::test]
async fn a_replay_is_harmless() {
    let file = file();
    let table = Table::new("trades").text("symbol", |t: &Trade| &t.symbol).integer("id", |t| t.id);
    let sink = SqliteSink::open(&file, table.key(["symbol"]).once_by("id").create_if_missing()).await.unwrap();
    let fills = |ids: std::ops::Range<i64>| ids.map(|id| named(id, &format!("s{id}"))).collect::<Vec<_>>();
    for _ in 0..2 {
        assert!(write(&sink, fills(0..300)).await.is_empty());
    }
    assert!(write(&sink, fills(200..400)).await.is_empty());
    assert_eq!(
        refused(&write(&sink, vec![named(7, "s7"), named(900, "s8"), Trade { id: None, ..trade(1) }]).await),
        [1, 2]
    );
    assert_eq!(file.query("SELECT count(*), max(id) FROM trades"), ["400|399"]);
}
