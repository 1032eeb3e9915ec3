//! Tests that all ways to write a batch give the same table: COPY, arrays, and batches of one row, for each kind of
//! table.

use roundlot::{
    ErrorKind,
    sink::{
        postgres::Postgres,
        table::{Conflict, Table},
    },
};

use crate::{Db, Trade, db, fail, mapping, named, refused, server::Server, trade, trades, write};

/// The settings of each way, and the number of rows in its batches.
const WAYS: [(&str, usize, usize); 4] =
    [("copy", 1, 1000), ("arrays", usize::MAX, 1000), ("halves", 4, 5), ("rows", 1, 1)];

/// Writes the ops to tables of the way's own. Returns the refusals and the rows of the query afterwards.
async fn by(way: (&str, usize, usize), sql: &str, table: Table<Trade>, ops: &[Trade], query: &str) -> Vec<String> {
    let db = db().await;
    db.execute(sql).await;
    let sink = match db.settings().copy_from(way.1).stage_from(way.1).open(table).await {
        Ok(sink) => sink,
        Err(error) => return vec![error.chain().replace(&db.schema, "schema")],
    };
    let mut found = Vec::new();
    for (batch, ops) in ops.chunks(way.2).enumerate() {
        let failed = write(&sink, ops.to_vec()).await;
        refused(&failed);
        // Messages differ in the place of a row in its part, as in the context of an error; the row at fault must not
        // differ.
        found.extend(failed.iter().map(|refusal| {
            format!("{}: {}", batch * way.2 + refusal.op, refusal.story.split(" (").next().unwrap_or_default())
        }));
    }
    found.extend(db.query(query).await);
    found
}

/// Asserts that all ways end alike, and returns how.
async fn alike(sql: &str, table: impl Fn() -> Table<Trade>, ops: &[Trade], query: &str) -> Vec<String> {
    let expected = by(WAYS[0], sql, table(), ops, query).await;
    for way in &WAYS[1..] {
        assert_eq!(by(*way, sql, table(), ops, query).await, expected, "{}: {sql}", way.0);
    }
    expected
}

const TRADES: &str = "CREATE TABLE trades (id bigint, symbol text, price numeric);";
const ALL: &str = "SELECT id, symbol FROM trades ORDER BY ctid";

fn ops() -> Vec<Trade> {
    [(1, "a"), (2, "b"), (1, "c"), (3, "a"), (2, "d"), (4, "b"), (1, "a"), (5, "e"), (6, "a")]
        .map(|(id, symbol)| named(id, symbol))
        .to_vec()
}

/// Goal: rules of a table hold for each row, whatever the size of its batch. Method: rules that move, pass over, double
/// and count rows, with conditions and without.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rules_act_on_each_row() {
    let archive = format!("{TRADES} CREATE TABLE archive (id bigint, symbol text, price numeric);");
    let both =
        "SELECT 'trades', id, symbol FROM trades UNION ALL SELECT 'archive', id, symbol FROM archive ORDER BY 1, 2, 3";

    let instead = "CREATE RULE r AS ON INSERT TO trades DO INSTEAD INSERT INTO archive VALUES (NEW.*)";
    let found = alike(&format!("{archive} {instead}"), mapping, &ops(), both).await;
    assert!(found.len() == 9 && found.iter().all(|row| row.starts_with("archive")), "{found:?}");

    let some = "CREATE RULE r AS ON INSERT TO trades WHERE NEW.id > 2 DO INSTEAD INSERT INTO archive VALUES (NEW.*)";
    let found = alike(&format!("{archive} {some}"), mapping, &ops(), both).await;
    assert_eq!(found.iter().filter(|row| row.starts_with("archive")).count(), 4, "{found:?}");

    let also = "CREATE RULE r AS ON INSERT TO trades DO ALSO INSERT INTO archive VALUES (NEW.*)";
    assert_eq!(alike(&format!("{archive} {also}"), mapping, &ops(), both).await.len(), 18);

    let nothing = "CREATE RULE r AS ON INSERT TO trades DO INSTEAD NOTHING";
    assert!(alike(&format!("{archive} {nothing}"), mapping, &ops(), both).await.is_empty());

    let notices = "CREATE RULE r AS ON INSERT TO trades DO ALSO NOTIFY news; CREATE RULE s AS ON INSERT TO trades DO ALSO SELECT NEW.id";
    assert_eq!(alike(&format!("{TRADES} {notices}"), mapping, &ops(), ALL).await.len(), 9);

    let selects = "CREATE RULE r AS ON INSERT TO trades DO INSTEAD SELECT NEW.id, NEW.symbol";
    assert!(alike(&format!("{TRADES} {selects}"), mapping, &ops(), ALL).await.is_empty());

    let disabled = format!("{instead}; ALTER TABLE trades DISABLE RULE r");
    assert_eq!(alike(&format!("{archive} {disabled}"), mapping, &ops(), ALL).await.len(), 9);

    let new_ones =
        "CREATE RULE r AS ON INSERT TO trades WHERE EXISTS (SELECT FROM trades WHERE id = NEW.id) DO INSTEAD NOTHING";
    let first = ["1|a", "2|b", "3|a", "4|b", "5|e", "6|a"];
    assert_eq!(alike(&format!("{TRADES} {new_ones}"), mapping, &ops(), ALL).await, first);
    let unique = TRADES.replace("bigint", "bigint PRIMARY KEY");
    assert_eq!(alike(&format!("{unique} {new_ones}"), mapping, &ops(), ALL).await, first);

    let counted = "CREATE TABLE positions (symbol text PRIMARY KEY, n int);
        INSERT INTO positions VALUES ('a', 0), ('b', 0);
        CREATE RULE r AS ON INSERT TO trades DO ALSO UPDATE positions SET n = n + 1 WHERE symbol = NEW.symbol";
    let sums = "SELECT symbol, n FROM positions ORDER BY 1";
    assert_eq!(alike(&format!("{TRADES} {counted}"), mapping, &ops(), sums).await, ["a|4", "b|2"]);

    let guarded = "CREATE TABLE archive (id bigint, symbol text CHECK (symbol <> 'c'), price numeric);";
    let found = alike(&format!("{TRADES} {guarded} {instead}"), mapping, &ops(), "SELECT count(*) FROM archive").await;
    assert!(found.len() == 2 && found[0].starts_with("2: refused: the row breaks a constraint"), "{found:?}");
    assert_eq!(found[1], "8");

    // The server takes a conflict rule only beside rules that do nothing else, and says so at once.
    for table in [|| mapping().key(["id"]).on_conflict(Conflict::Update), || mapping().once_by("id")] {
        assert_eq!(alike(&format!("{unique} {new_ones}"), table, &ops(), ALL).await, first);
        let archive = archive.replacen("bigint", "bigint PRIMARY KEY", 1);
        let found = alike(&format!("{archive} {also}"), table, &ops(), ALL).await;
        let said = "ON CONFLICT clause cannot be used with table that has INSERT or UPDATE rules";
        assert!(found.len() == 1 && found[0].contains(said), "{found:?}");
    }
}

/// Goal: many rows under a rule are written in order, and those at fault are found. Method: more rows than are sent ahead.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_large_batch_is_written_alike_under_a_rule() {
    let db = db().await;
    db.execute(TRADES).await;
    db.execute("ALTER TABLE trades ADD CHECK (id <> 777); CREATE TABLE log (nr serial, id bigint)").await;
    db.execute("CREATE RULE r AS ON INSERT TO trades DO ALSO INSERT INTO log (id) VALUES (NEW.id)").await;
    let sink = db.settings().copy_from(1).open(mapping()).await.unwrap();
    assert_eq!(refused(&write(&sink, (0..3000).rev().map(trade).collect()).await), [2999 - 777]);
    let expected: Vec<i64> = (0..3000).rev().filter(|id| *id != 777).collect();
    assert_eq!(db.ids().await, expected);
    assert_eq!(db.query("SELECT count(*) FROM log").await, ["2999"]);
    assert_eq!(refused(&write(&sink, vec![trade(777)]).await), [0]);
}

/// Goal: all else that a table can have acts the same on COPY and on arrays. Method: one of each kind.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn all_kinds_of_tables_are_written_alike() {
    let trigger = |when: &str, each: &str, body: &str| {
        format!(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER t {when} INSERT ON trades FOR EACH {each} EXECUTE FUNCTION f();"
        )
    };
    let skips = trigger(
        "BEFORE",
        "ROW",
        "IF EXISTS (SELECT FROM trades WHERE id = new.id) THEN RETURN NULL; END IF; RETURN new;",
    );
    let moves = trigger(
        "BEFORE",
        "ROW",
        "IF new.id > 2 THEN INSERT INTO archive VALUES (new.*); RETURN NULL; END IF; RETURN new;",
    );
    let changes = trigger("BEFORE", "ROW", "new.symbol := upper(new.symbol); RETURN new;");
    let counts = trigger("AFTER", "ROW", "UPDATE n SET n = n + 1; RETURN NULL;");
    let refuses = trigger("AFTER", "ROW", "IF new.id = 3 THEN RAISE 'no threes'; END IF; RETURN NULL;");
    let archive = "CREATE TABLE archive (LIKE trades);";
    // For each kind: the number of refused rows, and the number of lines that the query finds.
    let cases: [(&str, [usize; 2], String, &str); 14] = [
        ("a trigger that passes over rows", [0, 6], format!("{TRADES} {skips}"), ALL),
        (
            "a trigger that moves rows",
            [0, 4],
            format!("{TRADES} {archive} {moves}"),
            "SELECT id FROM archive ORDER BY ctid",
        ),
        ("a trigger that changes rows", [0, 9], format!("{TRADES} {changes}"), ALL),
        (
            "a trigger that counts",
            [0, 1],
            format!("{TRADES} CREATE TABLE n AS SELECT 0 AS n; {counts}"),
            "SELECT n FROM n",
        ),
        ("a trigger that refuses", [1, 8], format!("{TRADES} {refuses}"), ALL),
        (
            "a domain that is left out",
            [9, 0],
            format!("CREATE DOMAIN venue AS text NOT NULL; {TRADES} ALTER TABLE trades ADD v venue"),
            ALL,
        ),
        (
            "a domain with a default that is left out",
            [0, 9],
            format!("CREATE DOMAIN venue AS text DEFAULT 'X' NOT NULL; {TRADES} ALTER TABLE trades ADD v venue"),
            "SELECT id, v FROM trades ORDER BY ctid",
        ),
        (
            "a check that reads the table",
            [1, 8],
            format!(
                "{TRADES} CREATE FUNCTION few(bigint) RETURNS bool LANGUAGE plpgsql AS
                     $$ BEGIN RETURN (SELECT count(*) FROM trades WHERE id = $1) < 2; END $$;
                 ALTER TABLE trades ADD CHECK (few(id))"
            ),
            ALL,
        ),
        (
            "a domain whose check reads the table",
            [5, 4],
            "CREATE TABLE trades (symbol text, price numeric);
             CREATE FUNCTION few(bigint) RETURNS bool LANGUAGE plpgsql AS
                 $$ BEGIN RETURN (SELECT count(*) FROM trades) < 4; END $$;
             CREATE DOMAIN small AS bigint CHECK (few(value)); ALTER TABLE trades ADD id small"
                .into(),
            ALL,
        ),
        (
            "partitions with a check, a trigger and a rule",
            [2, 7],
            format!(
                "CREATE TABLE trades (id bigint, symbol text, price numeric) PARTITION BY RANGE (id);
                 CREATE TABLE low PARTITION OF trades FOR VALUES FROM (0) TO (3); CREATE TABLE n AS SELECT 0 AS n;
                 CREATE TABLE high PARTITION OF trades (CHECK (symbol <> 'e')) FOR VALUES FROM (3) TO (6);
                 CREATE RULE r AS ON INSERT TO low DO INSTEAD NOTHING;
                 {}",
                counts.replace("ON trades", "ON high")
            ),
            "SELECT id, n FROM trades, n ORDER BY id",
        ),
        (
            "defaults, sequences and identities",
            [0, 4],
            format!(
                "{TRADES} ALTER TABLE trades ADD nr serial, ADD i int GENERATED ALWAYS AS IDENTITY,
                     ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED, ADD x text DEFAULT 'x'"
            ),
            "SELECT id, nr - min(nr) OVER (), i - min(i) OVER (), twice, x FROM trades WHERE id > 2 ORDER BY ctid",
        ),
        (
            "an identity that is written",
            [0, 9],
            TRADES.replace("bigint", "bigint GENERATED BY DEFAULT AS IDENTITY"),
            "SELECT id FROM trades ORDER BY ctid",
        ),
        ("an identity that may not be", [0, 1], TRADES.replace("bigint", "bigint GENERATED ALWAYS AS IDENTITY"), ALL),
        (
            "a table that others inherit from",
            [3, 6],
            format!("{TRADES} CREATE TABLE more (x int) INHERITS (trades); ALTER TABLE trades ADD UNIQUE (id)"),
            "SELECT id, symbol FROM ONLY trades ORDER BY ctid",
        ),
    ];
    for (kind, expected, sql, query) in &cases {
        let found = alike(sql, mapping, &ops(), query).await;
        let refusals = found.iter().filter(|line| line.contains(": refused: ")).count();
        assert_eq!([refusals, found.len() - refusals], *expected, "{kind}: {found:?}");
    }
}

/// Goal: a table that gets a rule or a policy while the sink is open is written alike by batches of any size. Method: each
/// of them, between two batches by COPY.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rules_and_policies_that_come_later_hold_for_large_batches() {
    let server = Server::start(&["fsync = off"]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!(
        "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA {0} TO clerk;
         ALTER DEFAULT PRIVILEGES IN SCHEMA {0} GRANT ALL ON TABLES TO clerk; CREATE TABLE archive (id bigint)",
        db.schema
    ))
    .await;
    let rule = "CREATE RULE r AS ON INSERT TO trades DO INSTEAD INSERT INTO archive VALUES (NEW.id)";
    let policy = "ALTER TABLE trades ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON trades USING (true) WITH CHECK (id <> 57)";
    for (change, kept, moved, failed) in [(rule, 10, 300, vec![]), (policy, 309, 0, vec![47])] {
        for from in [1, usize::MAX] {
            db.execute(&format!("DROP TABLE IF EXISTS trades; TRUNCATE archive; {TRADES}")).await;
            let url = db.url().replace("roundlot@", "clerk@");
            let sink = Postgres::url(url).copy_from(from).open(mapping()).await.unwrap();
            assert!(write(&sink, trades(0..10)).await.is_empty());
            db.execute(change).await;
            assert_eq!(refused(&write(&sink, trades(10..310)).await), failed, "{from} {change}");
            assert_eq!(db.query("SELECT count(*) FROM trades").await, [kept.to_string()], "{from} {change}");
            assert_eq!(db.query("SELECT count(*) FROM archive").await, [moved.to_string()], "{from} {change}");
        }
    }
}

/// Goal: the right to insert into the columns of the mapping is enough, and its lack is reported when the sink is
/// opened. Method: a user who may write to some columns, by each way.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rights_to_columns_are_enough_for_each_way() {
    let server = Server::start(&["fsync = off"]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!(
        "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA {0} TO clerk; {TRADES}
         ALTER TABLE trades ADD note text; GRANT INSERT (id, symbol, price) ON trades TO clerk",
        db.schema
    ))
    .await;
    let clerk = || Postgres::url(db.url().replace("roundlot@", "clerk@"));
    for from in [1, usize::MAX] {
        let sink = clerk().copy_from(from).open(mapping()).await.unwrap();
        assert!(write(&sink, trades(0..3)).await.is_empty());
        let error = clerk().copy_from(from).open(mapping().text("note", |_| "")).await.unwrap_err();
        assert!(error.chain().contains("final: no permission to write to the table"), "{}", error.chain());
    }
    assert_eq!(db.ids().await, [0, 1, 2, 0, 1, 2]);
}

/// Goal: COPY never reads the bytes of one type as those of another. Method: a column gets a type of the same size while
/// the sink is open.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_column_that_changed_its_type_is_noticed() {
    let db = db().await;
    db.execute(TRADES).await;
    let sink = db.settings().copy_from(2).open(mapping()).await.unwrap();
    assert!(write(&sink, trades(1..3)).await.is_empty());
    db.execute("ALTER TABLE trades ADD note text").await;
    assert!(write(&sink, trades(3..5)).await.is_empty(), "a new column is nothing to the sink");
    db.execute("ALTER TABLE trades ALTER id TYPE double precision").await;
    let (kind, said) = fail(&sink, trades(5..7)).await;
    assert_eq!(kind, ErrorKind::Refused, "{said}");
    assert!(said.contains("final: the columns of the table have changed since it was opened"), "{said}");
    assert!(write(&sink, trades(7..8)).await.is_empty(), "the server converts");
    assert_eq!(db.query("SELECT id FROM trades ORDER BY 1").await, ["1", "2", "3", "4", "7"]);
}

/// Goal: a foreign table is written alike as well. Method: one that stands for a table of the same server.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn foreign_tables_are_written_alike() {
    let server = Server::start(&[]);
    let db = Db::on(&server.url()).await;
    db.execute(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '127.0.0.1', port '{}', dbname 'postgres');
         CREATE USER MAPPING FOR roundlot SERVER here OPTIONS (user 'roundlot');
         CREATE TABLE far (id bigint CHECK (id <> 3), symbol text, price numeric, x text DEFAULT 'far');
         CREATE FOREIGN TABLE trades (id bigint, symbol text, price numeric) SERVER here
             OPTIONS (schema_name '{}', table_name 'far');",
        server.port, db.schema
    ))
    .await;
    for from in [1, usize::MAX] {
        let sink = Postgres::url(db.url()).copy_from(from).stage_from(from).open(mapping()).await.unwrap();
        assert_eq!(refused(&write(&sink, ops()).await), [3]);
        assert_eq!(db.query("SELECT count(*), min(x) FROM far").await, ["8|far"]);
        db.execute("TRUNCATE far").await;
    }
}
