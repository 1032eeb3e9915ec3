//! Tests of `once_by` and `Conflict::Ignore`: a batch that is written again is harmless.

use roundlot::sink::table::{Conflict, Table};

use crate::{db, keyed, mapping, named, refused, trade, trades, write};

/// Goal: a replay adds nothing, changes nothing and is accepted. Method: the same batch three times, and one that
/// overlaps, by each way.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_replay_is_harmless() {
    let db = db().await;
    for from in [usize::MAX, 1] {
        let sink = db.settings().stage_from(from).open(mapping().once_by("id").create_if_missing()).await.unwrap();
        db.execute("TRUNCATE trades").await;
        for _ in 0..3 {
            assert!(write(&sink, trades(0..500)).await.is_empty());
        }
        let changed = (400..600).map(|id| named(id, "changed")).collect();
        assert!(write(&sink, changed).await.is_empty());
        assert_eq!(db.ids().await, (0..600).collect::<Vec<_>>());
        assert_eq!(db.query("SELECT min(id), max(id) FROM trades WHERE symbol = 'changed'").await, ["500|599"]);
    }
}

/// Goal: repeats within a batch count as replays, the first stands, and bad rows are still found.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn repeats_within_a_batch_are_written_once() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id bigint UNIQUE, symbol text CHECK (symbol <> ''), price numeric)").await;
    for from in [usize::MAX, 1] {
        db.execute("TRUNCATE trades").await;
        let sink = db.settings().stage_from(from).open(mapping().once_by("id")).await.unwrap();
        let mut ops = vec![named(1, "a"), named(2, ""), named(1, "b"), named(3, "c"), named(2, "d")];
        ops.push(crate::Trade { id: None, ..trade(4) });
        let failed = write(&sink, ops).await;
        assert_eq!(refused(&failed), [1, 5]);
        assert_eq!(failed[1].story, r#"refused: key column "id" is NULL"#);
        assert_eq!(db.query("SELECT id, symbol FROM trades ORDER BY id").await, ["1|a", "2|d", "3|c"]);
    }
}

/// Goal: the column of `once_by` and the key are independent. Method: a key that is there under another id.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn once_does_not_hide_a_key_conflict() {
    let db = db().await;
    let table = Table::new("trades").text("symbol", |t: &crate::Trade| &t.symbol).integer("id", |t| t.id);
    let sink = db.open(table.key(["symbol"]).once_by("id").create_if_missing()).await;
    assert!(write(&sink, vec![named(1, "a"), named(2, "b")]).await.is_empty());
    let failed = write(&sink, vec![named(1, "a"), named(3, "b"), named(4, "d")]).await;
    assert_eq!(refused(&failed), [1]);
    assert_eq!(db.query("SELECT * FROM trades ORDER BY id").await, ["a|1", "b|2", "d|4"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn once_by_needs_the_conflict_rule_fail() {
    let db = db().await;
    let error = db.settings().open(keyed().on_conflict(Conflict::Update).once_by("id")).await.unwrap_err();
    assert_eq!(error.to_string(), "once_by needs the conflict rule Fail, Update decides about repeats by the key");
}
