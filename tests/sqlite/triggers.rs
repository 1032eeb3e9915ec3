//! Tests of tables with triggers: they hold the same rows as after plain statements.

use std::cell::Cell;

use proptest::prelude::*;
use roundlot::sink::{
    sqlite::{OpenError, SqliteSink},
    table::{Conflict, Table},
};

use crate::{File, Trade, file, mapping, refused, trade, write};

const TABLES: &str = "CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, price TEXT);
     CREATE TABLE latest (symbol TEXT PRIMARY KEY, price TEXT);
     CREATE TABLE seen (symbol TEXT PRIMARY KEY, price TEXT);";
const TRADES: &str = "SELECT id, symbol, price FROM trades ORDER BY id";
const LATEST: &str = "SELECT symbol, price FROM latest ORDER BY symbol";

fn of(id: i64, symbol: &str, price: &str) -> Trade {
    Trade { id: Some(id), symbol: symbol.into(), price: price.parse().unwrap() }
}

fn four() -> Vec<Trade> {
    vec![of(1, "BTC", "1.50"), of(2, "BTC", "1.60"), of(3, "ETH", "2.00"), of(4, "BTC", "1.70")]
}

/// A mapping to the columns of a trade, for each rule about rows that are there already.
fn rules() -> [Table<Trade>; 4] {
    let keyed = || mapping().key(["id"]);
    [mapping(), mapping().once_by("id"), keyed().on_conflict(Conflict::Ignore), keyed().on_conflict(Conflict::Update)]
}

/// Goal: the rule of a statement inside of a trigger holds. Method: one that replaces and one that ignores, under each
/// rule of the mapping, which a plain INSERT leaves alone.
#[tokio::test]
async fn a_trigger_keeps_its_own_rule() {
    for (rule, btc) in [("REPLACE", "1.70"), ("IGNORE", "1.50")] {
        for table in rules() {
            let file = file();
            file.execute(&format!(
                "{TABLES} CREATE TRIGGER keep AFTER INSERT ON trades BEGIN
                 INSERT OR {rule} INTO latest VALUES (NEW.symbol, NEW.price); END"
            ));
            let name = format!("{rule} {table:?}");
            let sink = SqliteSink::open(&file, table).await.unwrap();
            assert!(write(&sink, four()).await.is_empty(), "{name}");
            assert_eq!(file.query(LATEST), [format!("BTC|{btc}"), "ETH|2.00".into()], "{name}");
            assert_eq!(file.query(TRADES).len(), 4, "{name}");
        }
    }
}

/// Goal: the same for triggers that a trigger sets off. Method: the inner one replaces, in a table whose own constraint
/// would ignore.
#[tokio::test]
async fn a_trigger_behind_a_trigger_keeps_its_rule() {
    let file = file();
    file.execute(&format!(
        "{TABLES} CREATE TABLE first (symbol TEXT PRIMARY KEY ON CONFLICT IGNORE, price TEXT);
         CREATE TRIGGER outer AFTER INSERT ON trades BEGIN
           INSERT INTO first VALUES (NEW.symbol, NEW.price);
           INSERT OR REPLACE INTO latest VALUES (NEW.symbol, NEW.price); END;
         CREATE TRIGGER inner AFTER INSERT ON latest BEGIN
           INSERT OR REPLACE INTO seen VALUES (NEW.symbol, NEW.price); END"
    ));
    let sink = SqliteSink::open(&file, mapping()).await.unwrap();
    assert!(write(&sink, four()).await.is_empty());
    assert_eq!(file.query(LATEST), ["BTC|1.70", "ETH|2.00"]);
    assert_eq!(file.query("SELECT symbol, price FROM seen ORDER BY symbol"), ["BTC|1.70", "ETH|2.00"]);
    assert_eq!(file.query("SELECT symbol, price FROM first ORDER BY symbol"), ["BTC|1.50", "ETH|2.00"]);
}

/// Goal: a row that is updated sets off the triggers of an update, and their rules hold. Method: SQLite runs those of an
/// upsert as if it said OR ABORT; a validation before the insert still sees each row.
#[tokio::test]
async fn an_update_keeps_the_rules_of_its_triggers() {
    let file = file();
    file.execute(&format!(
        "{TABLES} CREATE TABLE calls (what TEXT);
         CREATE TRIGGER check_price BEFORE INSERT ON trades BEGIN
           INSERT INTO calls VALUES ('before'); SELECT RAISE(ABORT, 'bad price') WHERE NEW.price = '13'; END;
         CREATE TRIGGER inserted AFTER INSERT ON trades BEGIN
           INSERT OR REPLACE INTO latest VALUES (NEW.symbol, NEW.price); END;
         CREATE TRIGGER updated AFTER UPDATE ON trades BEGIN
           INSERT OR REPLACE INTO latest VALUES (NEW.symbol, NEW.price); END"
    ));
    let table = mapping().key(["id"]).on_conflict(Conflict::Update);
    let sink = SqliteSink::open(&file, table).await.unwrap();
    assert!(write(&sink, four()).await.is_empty());
    let failed = write(&sink, vec![of(1, "BTC", "9"), of(3, "ETH", "13"), of(5, "SOL", "5"), of(3, "BTC", "3")]).await;
    assert_eq!(refused(&failed), [1]);
    assert!(failed[0].story.contains("bad price"), "{failed:?}");
    assert_eq!(file.query(TRADES), ["1|BTC|9", "2|BTC|1.60", "3|BTC|3", "4|BTC|1.70", "5|SOL|5"]);
    assert_eq!(file.query(LATEST), ["BTC|3", "ETH|2.00", "SOL|5"]);
    assert_eq!(file.query("SELECT count(*) FROM calls"), ["7"], "none for the row that was refused");
}

/// Goal: the row that is updated is the one whose key is there, however the table compares keys. Method: a unique index
/// that folds case, on a column that does not, in a table with a trigger of an update.
#[tokio::test]
async fn an_update_finds_the_key_as_the_table_compares_it() {
    for trigger in ["", "CREATE TRIGGER updated AFTER UPDATE ON trades BEGIN SELECT 1; END"] {
        let file = file();
        file.execute(&format!(
            "CREATE TABLE trades (id INT, symbol TEXT, price TEXT);
             CREATE UNIQUE INDEX keys ON trades (symbol COLLATE NOCASE); {trigger}"
        ));
        let table = mapping().key(["symbol"]).on_conflict(Conflict::Update);
        let sink = SqliteSink::open(&file, table).await.unwrap();
        assert!(write(&sink, vec![of(1, "BTC", "1"), of(2, "btc", "2"), of(3, "eth", "3")]).await.is_empty());
        assert_eq!(file.query(TRADES), ["2|BTC|2", "3|eth|3"]);
    }
}

/// Goal: triggers that come and go while the sink is open are found. Method: by another connection, between writes.
#[tokio::test]
async fn triggers_that_come_later_keep_their_rules() {
    for table in rules() {
        let file = file();
        file.execute(TABLES);
        let updates = table.conflict() == Conflict::Update;
        let sink = SqliteSink::open(&file, table).await.unwrap();
        assert!(write(&sink, vec![of(1, "BTC", "1"), of(2, "BTC", "2")]).await.is_empty());
        assert!(file.query(LATEST).is_empty());
        for event in ["INSERT", "UPDATE"] {
            file.execute(&format!(
                "CREATE TRIGGER on_{event} AFTER {event} ON trades BEGIN
                 INSERT OR REPLACE INTO latest VALUES (NEW.symbol, NEW.price); END"
            ));
        }
        assert!(write(&sink, vec![of(3, "BTC", "3"), of(4, "BTC", "4")]).await.is_empty());
        assert_eq!(file.query(LATEST), ["BTC|4"]);
        if updates {
            assert!(write(&sink, vec![of(1, "BTC", "5"), of(2, "BTC", "6")]).await.is_empty());
            assert_eq!(file.query(LATEST), ["BTC|6"]);
        }
        file.execute("DROP TRIGGER on_INSERT; DROP TRIGGER on_UPDATE");
        assert!(write(&sink, vec![of(7, "BTC", "7")]).await.is_empty());
        assert_eq!(file.query("SELECT count(*) FROM trades"), ["5"]);
        assert_ne!(file.query(LATEST), ["BTC|7"]);
    }
}

/// Goal: a row that a trigger leaves out is left out, and its op accepted, since the table treats such a row so.
/// Method: a trigger that stores the row elsewhere, as for partitions; under the rule Update the old row stays.
#[tokio::test]
async fn a_row_that_a_trigger_takes_elsewhere_is_accepted() {
    for table in rules() {
        let file = file();
        file.execute(&format!(
            "{TABLES} CREATE TRIGGER elsewhere BEFORE INSERT ON trades WHEN NEW.symbol = 'ETH' BEGIN
               INSERT OR REPLACE INTO seen VALUES (NEW.symbol, NEW.price); SELECT RAISE ( IGNORE ); END;
             CREATE TRIGGER updated AFTER UPDATE ON trades BEGIN SELECT 1; END;
             INSERT INTO trades VALUES (3, 'old', '0')"
        ));
        let sink = SqliteSink::open(&file, table).await.unwrap();
        assert!(write(&sink, four()).await.is_empty());
        assert_eq!(file.query(TRADES), ["1|BTC|1.50", "2|BTC|1.60", "3|old|0", "4|BTC|1.70"]);
        assert_eq!(file.query("SELECT * FROM seen"), ["ETH|2.00"]);
    }
}

/// Goal: a conflict between the mapping's rule and those of the triggers is reported where SQLite cannot keep both.
/// Method: a table that replaces by itself has a trigger, when it is opened and later.
#[tokio::test]
async fn a_table_with_a_rule_of_its_own_and_triggers_is_named() {
    let trigger = "CREATE TRIGGER keep AFTER INSERT ON trades BEGIN SELECT 1; END";
    for rule in ["REPLACE", "IGNORE"] {
        let file = file();
        file.execute(&format!("CREATE TABLE trades (id INT PRIMARY KEY ON CONFLICT {rule}, symbol TEXT, price TEXT)"));
        let sink = SqliteSink::open(&file, mapping().key(["id"])).await.unwrap();
        assert!(write(&sink, vec![trade(1)]).await.is_empty());
        file.execute(trigger);
        let error = SqliteSink::open(&file, mapping().key(["id"])).await.unwrap_err();
        assert!(matches!(&error, OpenError::TwoRules { table } if table == "trades"), "{error:?}");
        let failed = write(&sink, vec![trade(2), trade(3)]).await;
        assert_eq!(refused(&failed), [0, 1]);
        assert!(failed[0].story.contains("has triggers and an ON CONFLICT rule of its own"), "{failed:?}");
        file.execute("DROP TRIGGER keep");
        assert!(write(&sink, vec![trade(2), trade(3)]).await.is_empty());
        assert_eq!(file.ids(), [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_view_whose_trigger_takes_rows_is_written() {
    let file = file();
    file.execute(&format!(
        "{TABLES} CREATE VIEW inbox AS SELECT id, symbol, price FROM trades;
         CREATE TRIGGER take INSTEAD OF INSERT ON inbox BEGIN
           INSERT INTO trades VALUES (NEW.id, NEW.symbol, NEW.price);
           INSERT OR REPLACE INTO latest VALUES (NEW.symbol, NEW.price); END"
    ));
    let table =
        Table::new("inbox").integer("id", |t: &Trade| t.id).text("symbol", |t| &t.symbol).decimal("price", |t| t.price);
    let sink = SqliteSink::open(&file, table).await.unwrap();
    assert!(write(&sink, four()).await.is_empty());
    assert_eq!(refused(&write(&sink, vec![of(5, "a", "1"), of(4, "b", "1"), of(6, "c", "1")]).await), [1]);
    assert_eq!(file.query("SELECT count(*) FROM trades"), ["6"]);
    assert_eq!(file.query(LATEST), ["BTC|1.70", "ETH|2.00", "a|1", "c|1"]);
}

/// Goal: tables of every kind are written. Method: the kinds of SQLite that go beyond a plain table, with a bad row each.
#[tokio::test]
async fn tables_of_every_kind_are_written() {
    let tables = [
        "CREATE TABLE trades (id INT PRIMARY KEY, symbol TEXT, price TEXT) WITHOUT ROWID",
        "CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, price TEXT) STRICT",
        "CREATE TABLE trades (id ANY PRIMARY KEY, symbol ANY, price ANY) STRICT",
        "CREATE TABLE trades (id INT PRIMARY KEY, symbol TEXT, price TEXT, twice INT AS (id * 2) STORED)",
        "CREATE TABLE trades (id INT PRIMARY KEY, symbol TEXT, price TEXT, twice INT AS (id * 2) UNIQUE)",
    ];
    for create in tables {
        let file = file();
        file.execute(create);
        let trigger =
            "CREATE TRIGGER keep AFTER INSERT ON trades BEGIN SELECT RAISE(ABORT, 'no') WHERE NEW.id = 7; END";
        for round in 0..2 {
            let sink = SqliteSink::open(&file, mapping().key(["id"])).await.unwrap();
            let ids = [1, 2, 3, 2].map(|id| of(id + round * 10, "a", "1"));
            assert_eq!(refused(&write(&sink, ids.into()).await), [3], "{create}");
            assert_eq!(
                refused(&write(&sink, vec![of(7, "a", "1"), of(9 - round, "a", "1")]).await).len(),
                round as usize
            );
            file.execute(if round == 0 { "DELETE FROM trades WHERE id = 7" } else { "SELECT 1" });
            if round == 0 {
                file.execute(trigger);
            }
        }
        assert_eq!(file.query("SELECT count(*) FROM trades"), ["8"], "{create}");
    }
}

#[tokio::test]
async fn a_full_text_table_is_written() {
    let file = file();
    file.execute("CREATE VIRTUAL TABLE notes USING fts5 (body)");
    let sink = SqliteSink::open(&file, Table::new("notes").text("body", |op: &String| op)).await.unwrap();
    let ops: Vec<String> = (0..300).map(|i| format!("order {i} filled")).collect();
    assert!(write(&sink, ops).await.is_empty());
    assert_eq!(file.query("SELECT count(*) FROM notes WHERE notes MATCH 'filled'"), ["300"]);
}

#[tokio::test]
async fn a_generated_column_is_named() {
    let file = file();
    file.execute("CREATE TABLE trades (id INT, symbol TEXT, price TEXT AS (symbol) STORED)");
    let error = SqliteSink::open(&file, mapping()).await.unwrap_err();
    assert!(error.chain().contains("cannot INSERT into generated column"), "{}", error.chain());
}

/// Writes the rows as a program by hand would: one plain statement each, and an update where the key exists and the
/// rule says so.
fn by_hand(file: &File, ops: &[Trade], rule: Conflict) {
    let connection = file.connect();
    for op in ops {
        let values = rusqlite::params![op.id, op.symbol, op.price.to_string()];
        let there = "SELECT count(*) FROM trades WHERE id = ?1";
        let there: i64 = connection.query_row(there, [op.id], |row| row.get(0)).unwrap();
        connection.execute_batch("SAVEPOINT row").unwrap();
        let done = match (there, rule) {
            (0, _) | (_, Conflict::Fail) => connection.execute("INSERT INTO trades VALUES (?1, ?2, ?3)", values),
            (_, Conflict::Update) => {
                connection.execute("UPDATE trades SET symbol = ?2, price = ?3 WHERE id = ?1", values)
            }
            (_, Conflict::Ignore) => Ok(0),
        };
        // A trigger that says OR FAIL keeps the earlier effects of its statement, also of an op that is refused.
        connection.execute_batch(if done.is_ok() { "RELEASE row" } else { "ROLLBACK TO row; RELEASE row" }).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: whatever triggers do, the tables are as after plain statements. Method: random rows under random rules, in
    /// the triggers and of the mapping, through the sink and by hand.
    #[test]
    fn tables_are_as_after_plain_statements(
        ops in prop::collection::vec((0_i64..12, 0_i64..5, 0_i64..9), 1..40),
        words in prop::array::uniform4(prop::sample::select(vec!["OR REPLACE", "OR IGNORE", "OR ABORT", "OR FAIL", ""])),
        rule in prop::sample::select(vec![Conflict::Fail, Conflict::Ignore, Conflict::Update]),
        size in 1_usize..40,
    ) {
        let ops: Vec<Trade> = ops.into_iter().map(|(id, symbol, price)| of(id, &format!("S{symbol}"), &price.to_string())).collect();
        let events = ["AFTER INSERT", "AFTER UPDATE"];
        let schema: String = events.iter().zip(words.chunks(2)).enumerate().map(|(i, (event, words))| format!(
            "CREATE TRIGGER t{i} {event} ON trades BEGIN
               INSERT {} INTO latest VALUES (NEW.symbol, NEW.price);
               INSERT {} INTO seen SELECT NEW.symbol, NEW.price WHERE NEW.price > '4'; END;", words[0], words[1],
        )).collect();
        let (ours, hand) = (file(), file());
        for file in [&ours, &hand] {
            file.execute(&format!("{TABLES}{schema}"));
        }
        by_hand(&hand, &ops, rule);
        let failures = Cell::new(0);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let sink = SqliteSink::open(&ours, mapping().key(["id"]).on_conflict(rule)).await.unwrap();
            for ops in ops.chunks(size) {
                failures.set(failures.get() + refused(&write(&sink, ops.to_vec()).await).len());
            }
        });
        for query in [TRADES, LATEST, "SELECT symbol, price FROM seen ORDER BY symbol"] {
            prop_assert_eq!(ours.query(query), hand.query(query), "{} refused", failures.get());
        }
    }
}
