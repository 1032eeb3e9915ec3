//! Tables in a schema: named separately, written to by each way, and found when the name alone is ambiguous.

use roundlot::sink::{
    postgres::{OpenError, PostgresSink},
    table::{Conflict, Table, TableError},
};

use crate::{Db, db, refused, write};

type Fill = (i64, &'static str);

fn fills(name: &str) -> Table<Fill> {
    Table::new(name).integer("id", |fill: &Fill| fill.0).text("symbol", |fill| fill.1).key(["id"])
}

/// A test's own second schema, which is not on the search path, with a name that has to be quoted.
async fn md() -> (Db, String) {
    let db = db().await;
    let md = format!("{} Md", db.schema);
    db.execute(&format!("CREATE SCHEMA \"{md}\"")).await;
    (db, md)
}

async fn error(db: &Db, table: Table<Fill>) -> OpenError {
    db.settings().open(table).await.unwrap_err()
}

/// Goal: a table in a schema is created, opened and written to by each way and under each rule. One of the same name on
/// the search path is left alone.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_table_in_a_schema_is_written_to() {
    let (db, md) = md().await;
    db.execute("CREATE TABLE fills (id bigint PRIMARY KEY, symbol text)").await;
    for (rule, kept) in [(Conflict::Fail, "a"), (Conflict::Ignore, "a"), (Conflict::Update, "c")] {
        for from in [usize::MAX, 1] {
            db.execute(&format!("DROP TABLE IF EXISTS \"{md}\".fills")).await;
            let table = fills("fills").schema(&md).on_conflict(rule).create_if_missing();
            let sink: PostgresSink<Fill> = db.settings().copy_from(from).stage_from(from).open(table).await.unwrap();
            let failed = write(&sink, vec![(1, "a"), (2, "b"), (1, "c")]).await;
            assert_eq!(refused(&failed), if rule == Conflict::Fail { vec![2] } else { vec![] });
            let rows = db.query(&format!("SELECT * FROM \"{md}\".fills ORDER BY id")).await;
            assert_eq!(rows, [format!("1|{kept}"), "2|b".into()], "{rule:?} {from}");
        }
    }
    let once = fills("fills").schema(&md).once_by("id");
    assert!(write(&db.open(once).await, vec![(2, "x"), (3, "c")]).await.is_empty());
    assert_eq!(db.query(&format!("SELECT count(*) FROM \"{md}\".fills")).await, ["3"]);
    assert_eq!(db.query("SELECT count(*) FROM fills").await, ["0"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn errors_name_the_schema() {
    let (db, md) = md().await;
    let said = error(&db, fills("fills").schema(&md)).await.to_string();
    assert_eq!(said, format!(r#"there is no table "{md}.fills", and creating it was not asked for"#));
    db.execute(&format!("CREATE TABLE \"{md}\".fills (id bigint)")).await;
    let said = error(&db, fills("fills").schema(&md)).await.to_string();
    assert_eq!(said, format!(r#"table "{md}.fills" has no column "symbol""#));
    db.execute(&format!("ALTER TABLE \"{md}\".fills ADD symbol text")).await;
    let said = error(&db, fills("fills").schema(&md).on_conflict(Conflict::Update)).await.to_string();
    assert!(said.contains(&format!(r#"table "{md}.fills" has no unique constraint on ["id"]"#)), "{said}");
    for table in [fills("fills").schema("nowhere"), fills("fills").schema("nowhere").create_if_missing()] {
        let error = error(&db, table).await;
        assert!(matches!(&error, OpenError::NoSchema(name) if name == "nowhere"), "{error:?}");
        assert_eq!(error.to_string(), r#"there is no schema "nowhere", and only tables are created"#);
    }
}

/// Goal: a name as SQL reads it is not taken for the name of a table. Method: each way to write it, with the table there
/// or not, to be created or not.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_table_name_with_a_schema_in_it_is_refused() {
    let db = db().await;
    let schema = &db.schema;
    for sql in ["SELECT 1", "CREATE TABLE fills (id bigint PRIMARY KEY, symbol text)"] {
        db.execute(sql).await;
        let names = [
            format!("{schema}.fills"),
            format!("{}.fills", schema.to_uppercase()),
            format!("\"{schema}\".\"fills\""),
            format!("postgres.{schema}.fills"),
        ];
        for name in names {
            for table in [fills(&name), fills(&name).create_if_missing(), fills(&name).schema(schema)] {
                let error = error(&db, table).await;
                assert!(matches!(error, OpenError::Table(TableError::DottedName { .. })), "{error:?}");
                let advice = format!(r#"did you mean Table::new("fills").schema("{schema}")?"#);
                assert!(error.to_string().ends_with(&advice), "{error}");
            }
        }
    }
    assert!(matches!(error(&db, fills("nowhere.fills")).await, OpenError::NoTable(_)));
    assert!(matches!(error(&db, fills(".")).await, OpenError::NoTable(_)));
    db.execute(&format!("CREATE TABLE \"{schema}.fills\" (id bigint, symbol text)")).await;
    assert!(
        write(&db.open(fills(&format!("{schema}.fills"))).await, vec![(1, "a")]).await.is_empty(),
        "it has that name"
    );
}

/// Goal: no rows go into a table that ends with its connection. Method: by schema, and by search path.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn temporary_tables_are_refused() {
    let db = db().await;
    assert!(matches!(error(&db, fills("fills").schema("pg_temp").create_if_missing()).await, OpenError::NoSchema(_)));
    let url = db.url().replace(&db.schema, "pg_temp");
    let error = PostgresSink::open(url, fills("fills").create_if_missing()).await.unwrap_err();
    assert!(matches!(error, OpenError::Temporary(_)), "{error:?}");
}
