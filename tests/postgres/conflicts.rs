//! Tests of rows that the table does not take: exactly these are refused. All other rows land, in order and once, by
//! each way of writing.

use roundlot::sink::{
    postgres::PostgresSink,
    table::{Conflict, Table},
};

use crate::{Db, Trade, db, keyed, mapping, named, refused, trade, trades, write};

/// Returns two sinks: one writes by arrays, and one by COPY, through a staging table where a rule needs it.
async fn both_ways(db: &Db, table: impl Fn() -> Table<Trade>) -> [PostgresSink<Trade>; 2] {
    let arrays = db.settings().copy_from(usize::MAX).stage_from(usize::MAX).open(table()).await.unwrap();
    let copy = db.settings().copy_from(2).stage_from(2).open(table()).await.unwrap();
    [arrays, copy]
}

/// Goal: one bad row costs itself alone. Method: its key is there already, as row 57 of 500.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn row_57_of_500_is_refused_alone() {
    let db = db().await;
    for sink in both_ways(&db, keyed).await {
        db.execute("TRUNCATE trades").await;
        assert!(write(&sink, vec![trade(57)]).await.is_empty());
        let failed = write(&sink, trades(0..500)).await;
        assert_eq!(refused(&failed), [57]);
        let story = &failed[0].story;
        assert!(story.contains("the row breaks a constraint of the table"), "{story}");
        assert!(story.contains(r#"unique constraint "trades_pkey" (23505)"#), "{story}");
        let expected: Vec<i64> = std::iter::once(57).chain((0..500).filter(|id| *id != 57)).collect();
        assert_eq!(db.ids().await, expected);
        assert!(write(&sink, trades(500..600)).await.is_empty(), "and the connection is as good as new");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn exactly_the_bad_rows_are_refused() {
    let db = db().await;
    for sink in both_ways(&db, keyed).await {
        db.execute("TRUNCATE trades").await;
        let bad = [0, 1, 127, 128, 299];
        assert!(write(&sink, trades(bad)).await.is_empty());
        assert_eq!(refused(&write(&sink, trades(0..300)).await), bad.map(|i| i as usize));
        assert_eq!(refused(&write(&sink, trades(0..300)).await), (0..300).collect::<Vec<_>>(), "and if all are bad");
        assert_eq!(refused(&write(&sink, trades(5..6)).await), [0], "and if there is only one");
        assert_eq!(db.ids().await.len(), 300);
    }
}

const BY_ID: &str = "SELECT id, symbol, price FROM trades ORDER BY id";

/// Goal: the rules hold within a batch as they do across batches, as if row came after row. Method: the same keys in
/// both places.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn repeats_follow_the_rule() {
    let expected: [(Conflict, &[usize], [&str; 3]); 3] = [
        (Conflict::Fail, &[0, 3, 4], ["1|old|1", "2|a|2", "3|b|3"]),
        (Conflict::Ignore, &[], ["1|old|1", "2|a|2", "3|b|3"]),
        (Conflict::Update, &[], ["1|new|1", "2|d|2", "3|c|3"]),
    ];
    let db = db().await;
    for (rule, failed, rows) in expected {
        for sink in both_ways(&db, || keyed().on_conflict(rule)).await {
            db.execute("TRUNCATE trades").await;
            assert!(write(&sink, vec![named(1, "old")]).await.is_empty());
            let repeats = vec![named(1, "new"), named(2, "a"), named(3, "b"), named(3, "c"), named(2, "d")];
            assert_eq!(refused(&write(&sink, repeats).await), failed, "{rule:?}");
            assert_eq!(db.query(BY_ID).await, rows, "{rule:?}");
        }
    }
}

/// Goal: a bad row under a rule is found as well, and its repeats go on as row by row. Method: the last row of a key
/// breaks a constraint, so that the one before it stands.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_bad_repeat_leaves_the_one_before_it() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id int PRIMARY KEY, symbol varchar(8) CHECK (symbol <> ''), price numeric)").await;
    for sink in both_ways(&db, || keyed().on_conflict(Conflict::Update)).await {
        db.execute("TRUNCATE trades").await;
        let ops =
            vec![named(1, "a"), named(2, "b"), named(1, "c"), named(1, ""), named(2, "too long for it"), named(3, "d")];
        let failed = write(&sink, ops).await;
        assert_eq!(refused(&failed), [3, 4]);
        assert!(failed[0].story.contains("trades_symbol_check"), "{failed:?}");
        assert!(failed[1].story.contains("a value does not suit the type of its column"), "{failed:?}");
        assert_eq!(db.query(BY_ID).await, ["1|c|1", "2|b|2", "3|d|3"]);
    }
}

/// Goal: the server's idea of what is the same decides. Method: keys that differ as bytes and not as what they are.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn the_server_decides_which_keys_are_equal() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id bigint, symbol char(5), price numeric PRIMARY KEY, UNIQUE (symbol))").await;
    let priced = |price: &str, symbol: &str| Trade { price: price.parse().unwrap(), ..named(1, symbol) };
    for sink in both_ways(&db, || mapping().key(["price"]).on_conflict(Conflict::Update)).await {
        db.execute("TRUNCATE trades").await;
        assert!(write(&sink, vec![priced("1.0", "a"), priced("1.00", "b"), priced("2", "c")]).await.is_empty());
        assert_eq!(db.query("SELECT symbol FROM trades ORDER BY 1").await, ["b    ", "c    "]);
    }
    for sink in both_ways(&db, || mapping().key(["symbol"]).on_conflict(Conflict::Update)).await {
        db.execute("TRUNCATE trades").await;
        assert!(write(&sink, vec![priced("1", "a"), priced("2", "a "), priced("3", "b")]).await.is_empty());
        assert_eq!(db.query("SELECT price FROM trades ORDER BY 1").await, ["2", "3"]);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_key_of_several_columns_is_one_key() {
    let db = db().await;
    let table = || mapping().key(["SYMBOL", "id"]).on_conflict(Conflict::Update).create_if_missing();
    for sink in both_ways(&db, table).await {
        db.execute("TRUNCATE trades").await;
        let ops = vec![named(1, "a"), named(1, "b"), Trade { price: 9.into(), ..named(1, "a") }];
        assert!(write(&sink, ops).await.is_empty());
        assert_eq!(db.query("SELECT id, symbol, price FROM trades ORDER BY symbol").await, ["1|a|9", "1|b|1"]);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_table_that_is_all_key_ignores_repeats() {
    let db = db().await;
    let table = Table::new("t").integer("id", |op: &i64| *op).key(["id"]).on_conflict(Conflict::Update);
    let sink = db.open(table.create_if_missing()).await;
    assert!(write(&sink, vec![1, 1, 2]).await.is_empty());
    assert_eq!(db.query("SELECT count(*) FROM t").await, ["2"]);
}

/// Goal: `Ignore` is about the key and hides nothing else. Method: rows that break other rules of the table.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn ignore_does_not_hide_other_constraints() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id int8 PRIMARY KEY, symbol text CHECK (symbol <> ''), price numeric UNIQUE)")
        .await;
    for sink in both_ways(&db, || mapping().key(["id"]).on_conflict(Conflict::Ignore)).await {
        db.execute("TRUNCATE trades").await;
        let third = Trade { price: 1.into(), ..named(3, "c") };
        let failed = write(&sink, vec![named(1, "a"), named(2, ""), named(1, "b"), third]).await;
        assert_eq!(refused(&failed), [1, 3]);
        assert!(failed[1].story.contains("trades_price_key"), "{failed:?}");
        assert_eq!(db.query(BY_ID).await, ["1|a|1"]);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_missing_key_is_refused() {
    let db = db().await;
    let sink = db.open(keyed()).await;
    let failed = write(&sink, vec![trade(1), Trade { id: None, ..trade(2) }]).await;
    assert_eq!(refused(&failed), [1]);
    assert_eq!(failed[0].story, r#"refused: key column "id" is NULL"#);
    assert_eq!(db.ids().await, [1]);
}

/// Goal: a row that a trigger refuses is refused alone, whatever error code it raises. Method: in the middle of a
/// batch.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rows_that_a_trigger_refuses_are_refused_alone() {
    let db = db().await;
    for code in ["P0001", "TRD01", "XX000"] {
        let sinks = both_ways(&db, || mapping().create_if_missing()).await;
        db.execute(&format!(
            "CREATE OR REPLACE FUNCTION no_fives() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF new.id % 50 = 5 THEN RAISE EXCEPTION 'no fives today' USING ERRCODE = '{code}'; END IF;
                 RETURN new; END $$;
             CREATE OR REPLACE TRIGGER no_fives BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION no_fives()"
        ))
        .await;
        for sink in sinks {
            db.execute("TRUNCATE trades").await;
            let failed = write(&sink, trades(0..200)).await;
            assert_eq!(refused(&failed), [5, 55, 105, 155], "{code}");
            assert!(failed.iter().all(|refusal| refusal.story.contains("no fives today")), "{failed:?}");
            assert_eq!(db.ids().await, (0..200).filter(|id| id % 50 != 5).collect::<Vec<_>>(), "{code}");
        }
    }
}

/// Goal: a constraint that is checked only at COMMIT finds its row too. Method: a deferred foreign key and a deferred
/// unique constraint.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rows_that_break_a_deferred_constraint_are_refused_alone() {
    let db = db().await;
    db.execute(
        "CREATE TABLE pairs (symbol text PRIMARY KEY); INSERT INTO pairs VALUES ('a'), ('b');
         CREATE TABLE trades (id int UNIQUE DEFERRABLE INITIALLY DEFERRED,
             symbol text REFERENCES pairs DEFERRABLE INITIALLY DEFERRED, price numeric)",
    )
    .await;
    for sink in both_ways(&db, mapping).await {
        db.execute("TRUNCATE trades").await;
        let ops = (0..100).map(|id| named(if id == 77 { 5 } else { id }, if id == 41 { "nowhere" } else { "b" }));
        let failed = write(&sink, ops.collect()).await;
        assert_eq!(refused(&failed), [41, 77]);
        assert!(failed[0].story.contains("foreign key constraint"), "{failed:?}");
        assert_eq!(db.ids().await, (0..100).filter(|id| ![41, 77].contains(id)).collect::<Vec<_>>());
        assert_eq!(refused(&write(&sink, vec![named(200, "nowhere")]).await), [0], "and if it is alone");
    }
}

/// Goal: writers that meet lose nothing. Method: another one holds the row that the batch is to update, and changes it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_concurrent_writer_is_waited_for() {
    let db = db().await;
    let sink = db.open(keyed().on_conflict(Conflict::Update)).await;
    assert!(write(&sink, vec![named(7, "old")]).await.is_empty());
    let other = db.other().await;
    other.batch_execute("BEGIN; UPDATE trades SET symbol = 'other' WHERE id = 7").await.unwrap();
    let writing = write(&sink, trades(0..50));
    let release = async {
        db.until("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unnest%'").await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (failed, ()) = tokio::join!(writing, release);
    assert!(failed.is_empty());
    assert_eq!(db.query("SELECT symbol FROM trades WHERE id = 7").await, ["PAIR0"]);
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["50"]);
}

/// Goal: a writer that inserts the same key first makes one refusal, not a lost batch. Method: it commits while the
/// batch waits for it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_concurrent_writer_of_the_same_key_wins_alone() {
    let db = db().await;
    let sink = db.open(keyed()).await;
    let other = db.other().await;
    other.batch_execute("BEGIN; INSERT INTO trades VALUES (57, 'other', 0)").await.unwrap();
    let release = async {
        db.until("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unnest%'").await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (failed, ()) = tokio::join!(write(&sink, trades(0..500)), release);
    assert_eq!(refused(&failed), [57]);
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["500"]);
}

/// Goal: batches that run at once and meet in many rows all land in the end. Method: a batcher of many writes in
/// flight, whose batches update the same few keys in any order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn concurrent_updates_all_land() {
    let db = db().await;
    let sink = db.open(keyed().on_conflict(Conflict::Update)).await;
    let stages = roundlot::Stages::new().partition_by(|trade: &Trade| trade.symbol.clone());
    let limits = roundlot::Limits::new(50).max_in_flight(4);
    let (desk, worker) = roundlot::Batcher::new(sink).stages(stages).limits(limits).spawn();
    for round in 0..4000_i64 {
        desk.send(named(round * 7919 % 40, ["a", "b", "c", "d"][round as usize % 4])).await.unwrap();
    }
    let report = desk.flush().await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused), (4000, 0));
    worker.shutdown().await.unwrap();
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["40"]);
}
