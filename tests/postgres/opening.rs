//! Checks at the opening of a sink, and the words of their errors.

use roundlot::{
    Sink,
    sink::{
        postgres::{OpenError, Postgres},
        table::{Conflict, Table, TableError},
    },
};

use crate::{Db, db, keyed, mapping, refused, server::Server, trade, trades, write};

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_wrong_mapping_is_found_before_connecting() {
    let error = Postgres::url("nonsense").open(mapping().integer("ID", |_| 1)).await.unwrap_err();
    assert!(matches!(&error, OpenError::Table(TableError::Duplicate(name)) if name == "ID"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_missing_table_or_column_is_named() {
    let db = db().await;
    let error = db.settings().open(mapping()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"there is no table "trades", and creating it was not asked for"#);
    db.execute(r#"CREATE TABLE trades (id bigint, symbol text, "Price" numeric)"#).await;
    let error = db.settings().open(keyed()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"table "trades" has no column "price""#);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_rule_without_a_unique_key_is_an_error() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id int, symbol text, price numeric, UNIQUE (id, symbol))").await;
    for table in [keyed().on_conflict(Conflict::Ignore), keyed().on_conflict(Conflict::Update), mapping().once_by("id")]
    {
        let error = db.settings().open(table).await.unwrap_err();
        assert!(matches!(error, OpenError::NotUnique { .. }), "{error:?}");
        let text = r#"table "trades" has no unique constraint on ["id"], by which repeats are to be told"#;
        assert_eq!(error.to_string(), text);
    }
    let both = mapping().key(["symbol", "id"]).on_conflict(Conflict::Ignore);
    assert!(db.settings().open(both).await.is_ok());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_view_is_refused_and_a_partitioned_table_is_taken() {
    let db = db().await;
    db.execute("CREATE VIEW trades AS SELECT 1::bigint AS id, 'a'::text AS symbol, 2::numeric AS price").await;
    let error = db.settings().open(mapping()).await.unwrap_err();
    assert_eq!(error.to_string(), r#""trades" is no table"#);
    db.execute(
        "DROP VIEW trades; CREATE TABLE trades (id bigint PRIMARY KEY, symbol text, price numeric) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF trades FOR VALUES FROM (0) TO (1500)",
    )
    .await;
    for (table, from) in [(keyed(), 1), (keyed().on_conflict(Conflict::Update), 1), (keyed(), usize::MAX)] {
        db.execute("TRUNCATE trades").await;
        let sink = db.settings().copy_from(from).stage_from(from).open(table).await.unwrap();
        assert_eq!(refused(&write(&sink, trades(1000..1502)).await), [500, 501], "no partition takes them");
        assert_eq!(db.query("SELECT count(*) FROM low").await, ["500"]);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_generated_column_cannot_be_written() {
    let db = db().await;
    db.execute("CREATE TABLE trades (id bigint GENERATED ALWAYS AS IDENTITY, symbol text, price numeric)").await;
    let error = db.settings().open(mapping()).await.unwrap_err();
    assert!(error.chain().contains(r#"cannot insert a non-DEFAULT value into column "id""#), "{}", error.chain());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn an_existing_table_keeps_its_rows_and_its_other_columns() {
    let db = db().await;
    db.execute("CREATE TABLE trades (note text DEFAULT 'none', price numeric, symbol text, id bigint)").await;
    db.execute("INSERT INTO trades VALUES ('old', '1', 'a', 0)").await;
    let sink = db.open(keyed()).await;
    assert!(write(&sink, vec![trade(1)]).await.is_empty());
    assert_eq!(db.query("SELECT id, note FROM trades").await, ["0|old", "1|none"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_created_table_has_the_types_that_keep_the_values() {
    let db = db().await;
    let table = Table::<i64>::new("t")
        .integer("i", |op| *op)
        .float("f", |_| 1.0)
        .boolean("b", |_| true)
        .decimal("d", |_| rust_decimal::Decimal::ONE)
        .timestamp("at", |op| *op)
        .text("x", |_| "")
        .json("j", |_| "{}")
        .bytes("y", |_| b"")
        .key(["i", "at"])
        .once_by("x")
        .create_if_missing();
    db.open(table).await;
    let types = "SELECT string_agg(attname || ' ' || format_type(atttypid, -1) || CASE WHEN attnotnull THEN '!' ELSE '' END, ', '
        ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0";
    assert_eq!(
        db.query(types).await,
        [
            "i bigint!, f double precision, b boolean, d numeric, at timestamp with time zone!, x text!, j jsonb, y bytea"
        ]
    );
    let unique = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass ORDER BY contype";
    assert_eq!(db.query(unique).await, ["PRIMARY KEY (i, at)", "UNIQUE (x)"]);
}

/// Goal: sinks that are opened at once on a missing table all find it. Method: eight of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn many_may_create_the_same_table_at_once() {
    let db = db().await;
    let opened = futures::future::join_all((0..8).map(|_| tokio::spawn(db.settings().open(keyed())))).await;
    for (i, sink) in (0..).zip(opened) {
        assert!(write(&sink.unwrap().unwrap(), vec![trade(i)]).await.is_empty());
    }
    assert_eq!(db.ids().await.len(), 8);
}

/// Goal: a missing permission is reported at once, and an existing table needs no right to create one.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn only_needed_rights_are_required() {
    let server = Server::start(&[]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!("CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA {} TO clerk", db.schema)).await;
    let clerk = || Postgres::url(db.url().replace("roundlot@", "clerk@"));
    let error = clerk().open(keyed()).await.unwrap_err();
    assert!(error.chain().contains("final: no permission to write to the table"), "{}", error.chain());
    db.execute("CREATE TABLE trades (id bigint PRIMARY KEY, symbol text, price numeric)").await;
    let error = clerk().open(keyed()).await.unwrap_err();
    assert!(error.chain().contains("permission denied for table trades (42501)"), "{}", error.chain());

    db.execute("GRANT INSERT ON trades TO clerk").await;
    let sink = clerk().open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..2)).await.is_empty());
    db.execute("REVOKE INSERT ON trades FROM clerk").await;
    let (kind, said) = crate::fail(&sink, trades(2..4)).await;
    assert_eq!(kind, roundlot::ErrorKind::Refused);
    assert!(said.contains("final: no permission to write to the table"), "{said}");
    db.execute("GRANT INSERT ON trades TO clerk").await;
    assert!(write(&sink, trades(2..4)).await.is_empty(), "and when it is there again, it goes on");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_table_that_was_dropped_is_final_until_it_is_back() {
    let db = db().await;
    for from in [usize::MAX, 1] {
        let sink = db.settings().copy_from(from).open(keyed()).await.unwrap();
        assert!(write(&sink, trades(0..10)).await.is_empty());
        db.execute("DROP TABLE trades").await;
        let (kind, said) = crate::fail(&sink, trades(10..40)).await;
        assert_eq!(kind, roundlot::ErrorKind::Refused);
        assert!(said.contains("final: there is no such table"), "{said}");
        db.execute("CREATE TABLE trades (id bigint, symbol text, price numeric)").await;
        assert!(write(&sink, trades(40..50)).await.is_empty(), "and when it is back, it goes on");
        db.execute("ALTER TABLE trades RENAME COLUMN price TO cost").await;
        let (_, said) = crate::fail(&sink, trades(0..3)).await;
        assert!(said.contains("final: there is no such column") && said.contains("price"), "{said}");
        db.execute("DROP TABLE trades").await;
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn connections_are_opened_when_needed_and_closed_with_the_sink() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).open(keyed()).await.unwrap();
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", db.schema);
    for i in 0..5 {
        assert!(write(&sink, vec![trade(i)]).await.is_empty());
    }
    assert_eq!(db.query(&count).await, ["1"], "one after another need one");
    let batches = (1..4).map(|i| write(&sink, trades(i * 1000..i * 1000 + 100)));
    assert!(futures::future::join_all(batches).await.iter().all(Vec::is_empty));
    assert_eq!(db.query(&count).await, ["3"], "at once they need one each");
    let (first, second) = tokio::join!(sink.close(), sink.close());
    first.and(second).unwrap();
    db.until(&format!("{count} HAVING count(*) = 0")).await;
    let (kind, said) = crate::fail(&sink, vec![trade(9999)]).await;
    assert_eq!((kind, &*said), (roundlot::ErrorKind::Refused, "refused: the PostgreSQL sink is closed"));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn the_number_of_connections_is_limited() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).max_connections(2).open(keyed()).await.unwrap();
    let batches = (0..10).map(|i| write(&sink, trades(i * 1000..i * 1000 + 300)));
    assert!(futures::future::join_all(batches).await.iter().all(Vec::is_empty));
    assert_eq!(db.query("SELECT count(*) FROM trades").await, ["3000"]);
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", db.schema);
    assert_eq!(db.query(&count).await, ["2"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_dropped_sink_ends_its_sessions() {
    let db = db().await;
    drop(Postgres::url(db.named_url("")).open(keyed()).await.unwrap());
    db.until(&format!(
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{}')",
        db.schema
    ))
    .await;
}

/// Goal: opening gives up on a server that accepts a connection and stays silent. Method: a port that never answers.
#[tokio::test(start_paused = true)]
async fn opening_times_out_on_a_server_that_never_answers() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://127.0.0.1:{}/postgres", silent.local_addr().unwrap().port());
    let error = Postgres::url(url).open(mapping()).await.unwrap_err();
    assert!(error.chain().contains("no connection to the server, nothing was written"), "{}", error.chain());
}
