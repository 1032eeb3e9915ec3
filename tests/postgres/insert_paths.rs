//! The way that a batch takes: by its size and the conflict rule, as the settings promise.

use roundlot::{
    ErrorKind,
    sink::{
        postgres::Postgres,
        table::{Conflict, Table},
    },
};

use crate::{Db, Trade, db, keyed, mapping, trades, write};

/// A table that notes the statement that wrote to it, and how many rows it has had since.
async fn noted() -> Db {
    let db = db().await;
    db.execute(
        "CREATE TABLE trades (id bigint PRIMARY KEY, symbol text, price numeric);
         CREATE TABLE notes (nr serial, statement text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO notes (statement) VALUES (current_query()); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON trades FOR EACH STATEMENT EXECUTE FUNCTION note()",
    )
    .await;
    db
}

const WAY: &str =
    "SELECT CASE WHEN statement LIKE 'COPY%' THEN 'copy' WHEN statement LIKE '%roundlot_rows%' THEN 'stage'
    WHEN statement LIKE '%unnest(%' THEN 'unnest' ELSE statement END FROM notes ORDER BY nr";

async fn ways(db: &Db, settings: Postgres, table: Table<Trade>, sizes: &[i64]) -> Vec<String> {
    db.execute("TRUNCATE trades, notes").await;
    let sink = settings.open(table).await.unwrap();
    let mut next = 0;
    for size in sizes {
        assert!(write(&sink, trades(next..next + size)).await.is_empty());
        next += size;
    }
    assert_eq!(db.query("SELECT count(*) FROM trades").await, [next.to_string()]);
    db.query(WAY).await
}

const SIZES: [i64; 5] = [1, 50, 1000, 5000, 20_000];

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn size_and_conflict_rule_decide_the_insert_path() {
    let db = noted().await;
    let usual = |table| ways(&db, db.settings(), table, &SIZES);
    assert_eq!(usual(keyed()).await, ["unnest", "unnest", "unnest", "copy", "copy"]);
    for table in [keyed().on_conflict(Conflict::Ignore), keyed().on_conflict(Conflict::Update), mapping().once_by("id")]
    {
        assert_eq!(usual(table).await, ["unnest", "unnest", "unnest", "unnest", "stage"]);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn thresholds_can_be_set() {
    let db = noted().await;
    let sizes = [1, 9, 10, 11];
    let settings = || db.settings().copy_from(10).stage_from(11);
    assert_eq!(ways(&db, settings(), keyed(), &sizes).await, ["unnest", "unnest", "copy", "copy"]);
    let update = keyed().on_conflict(Conflict::Update);
    assert_eq!(ways(&db, settings(), update, &sizes).await, ["unnest", "unnest", "unnest", "stage"]);
    let never = db.settings().copy_from(usize::MAX);
    assert_eq!(ways(&db, never, keyed(), &[20_000]).await, ["unnest"]);
}

/// Goal: no message to the server grows beyond what it takes. Method: few rows, many bytes.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn batches_with_many_bytes_are_written_by_copy() {
    let db = noted().await;
    let big = |id| Trade { symbol: "x".repeat(6_000_000), ..crate::trade(id) };
    let sink = db.open(keyed()).await;
    assert!(write(&sink, vec![big(1), big(2)]).await.is_empty());
    assert!(write(&sink, vec![big(3), big(4), big(5)]).await.is_empty());
    assert_eq!(db.query(WAY).await, ["unnest", "copy"]);
    assert_eq!(db.query("SELECT DISTINCT length(symbol) FROM trades").await, ["6000000"]);
}

/// Goal: without the right to temporary tables any batch can still be written. Smaller ones are asked for where arrays
/// would exceed what the server takes. Method: a user without that right; many rows, and then many bytes.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn without_temporary_tables_batches_go_as_arrays() {
    let server = crate::server::Server::start(&[]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!(
        "CREATE ROLE clerk LOGIN; REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;
         GRANT ALL ON SCHEMA {} TO clerk",
        db.schema
    ))
    .await;
    let url = db.url().replace("roundlot@", "clerk@");
    let sink = Postgres::url(url).open(keyed().on_conflict(Conflict::Update)).await.unwrap();
    assert!(write(&sink, trades(0..20_000)).await.is_empty());
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["20000"]);
    let big = |id, length| Trade { symbol: "x".repeat(length), ..crate::trade(id) };
    let (kind, said) = crate::fail(&sink, (1..4).map(|id| big(id, 6_000_000)).collect()).await;
    assert_eq!(kind, ErrorKind::TooLarge);
    assert_eq!(
        said,
        "batch too large: the values of the batch exceed 16 MiB, and there is no COPY without temporary tables"
    );
    assert!(write(&sink, vec![big(1, 18_000_000)]).await.is_empty(), "by itself it goes");
}

/// Goal: policies on rows hold, and refuse rows alone. Method: a table with one, which COPY does not write to.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_row_against_a_policy_is_refused_alone() {
    let server = crate::server::Server::start(&[]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!(
        "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA {} TO clerk;
         CREATE TABLE trades (id bigint, symbol text, price numeric); GRANT ALL ON trades TO clerk;
         ALTER TABLE trades ENABLE ROW LEVEL SECURITY;
         CREATE POLICY small ON trades USING (true) WITH CHECK (id <> 57)",
        db.schema
    ))
    .await;
    let url = db.url().replace("roundlot@", "clerk@");
    for settings in [Postgres::url(&url), Postgres::url(&url).stage_from(2)] {
        let sink = settings.open(mapping()).await.unwrap();
        let failed = write(&sink, trades(0..500)).await;
        assert_eq!(crate::refused(&failed), [57]);
        assert!(failed[0].story.contains("a policy of the table does not take the row"), "{failed:?}");
        assert_eq!(db.query("SELECT count(*) FROM trades").await, ["499"]);
        db.execute("TRUNCATE trades").await;
    }
}
