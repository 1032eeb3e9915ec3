//! What the writer thread has to know of a table, which is all but the ops: in comes the mapping, out goes SQL. Next
//! room: `open`.

use crate::sink::table::{ColumnType, Table, TableError, sql::quoted};

/// How many texts and byte strings one statement binds at most, and how many rows. SQLite keeps short ones in a pool of
/// some more slots, beyond which each costs an allocation: binding took twice as long per row with 500 as with up to
/// 100. More rows than this gain nothing.
const STATEMENT_TEXTS: usize = 60;

/// How many values one statement may bind: the limit that the bundled SQLite is compiled with.
const STATEMENT_VALUES: usize = 32_766;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) table: String,
    pub(super) columns: Vec<(String, ColumnType)>,
    pub(super) create: Option<String>,
    /// By falling number of rows; the last takes one. A failure ends the transaction, so that SQLite need not
    /// remember how to undo the statement by itself.
    pub(super) fast: Vec<Insert<String>>,
    /// Takes one row. A failure undoes that row alone.
    pub(super) careful: Insert<String>,
}

/// An insert of so many rows, as text or prepared.
#[derive(Debug)]
pub(super) struct Insert<S> {
    pub(super) rows: usize,
    pub(super) statement: S,
}

impl Plan {
    pub(super) fn of<T>(table: &Table<T>) -> Result<Self, TableError> {
        table.check()?;
        check_schema(table)?;
        let tuple = format!("({})", vec!["?"; table.columns().len()].join(", "));
        let into = quoted(table.name());
        let insert = |verb, rows| {
            let values = format!("VALUES {}", vec![tuple.as_str(); rows].join(", "));
            Insert { rows, statement: table.insert_sql(verb, &into, &values) }
        };
        Ok(Self {
            table: table.name().into(),
            columns: table.columns().iter().map(|column| (column.name().into(), column.holds())).collect(),
            create: table.creates().then(|| table.create_sql(type_name)),
            // The word after OR also overrides what the table was created with, so that the mapping's rule holds.
            fast: statement_rows(table).into_iter().map(|rows| insert("INSERT OR ROLLBACK", rows)).collect(),
            careful: insert("INSERT OR ABORT", 1),
        })
    }
}

/// SQLite has no schemas but the names of open files, of which a sink has one.
fn check_schema<T>(table: &Table<T>) -> Result<(), TableError> {
    if let Some(schema) = table.schema_name() {
        return Err(TableError::NoSchemas { table: table.name().into(), schema: schema.into() });
    }
    match table.name().split_once('.') {
        Some((file, rest)) if ["main", "temp"].iter().any(|name| name.eq_ignore_ascii_case(file.trim_matches('"'))) => {
            let advice = format!("Table::new({:?})", rest.trim_matches('"'));
            Err(TableError::DottedName { name: table.name().into(), advice })
        }
        _ => Ok(()),
    }
}

/// The numbers of rows for which there is a statement, falling: three of them serve every size of batch.
fn statement_rows<T>(table: &Table<T>) -> Vec<usize> {
    let width = table.columns().len();
    let texts = table.columns().iter().filter(|column| matches!(type_name(column.holds()), "TEXT" | "BLOB")).count();
    let many = (STATEMENT_TEXTS / texts.max(1)).min(STATEMENT_VALUES / width);
    let mut rows = vec![many, many / 4, 1];
    rows.retain(|rows| *rows > 0);
    rows.dedup();
    rows
}

/// The type that keeps the values of such a column as they are.
pub(super) fn type_name(holds: ColumnType) -> &'static str {
    match holds {
        ColumnType::Integer | ColumnType::Bool | ColumnType::Timestamp => "INTEGER",
        ColumnType::Float => "REAL",
        ColumnType::Text | ColumnType::Decimal | ColumnType::Json => "TEXT",
        ColumnType::Bytes => "BLOB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(integers: usize, texts: usize) -> Table<i64> {
        let table = (0..integers).fold(Table::new("t"), |table, i| table.integer(format!("i{i}"), |op| *op));
        (0..texts).fold(table, |table, i| table.text(format!("t{i}"), |_| ""))
    }

    #[test]
    fn statements_take_ever_fewer_rows_down_to_one() {
        assert_eq!(statement_rows(&table(1, 5)), [12, 3, 1]);
        assert_eq!(statement_rows(&table(6, 0)), [60, 15, 1]);
        assert_eq!(statement_rows(&table(0, 30)), [2, 1]);
        assert_eq!(statement_rows(&table(0, 60)), [1]);
        assert_eq!(statement_rows(&table(0, 61)), [1]);
    }

    #[test]
    fn no_statement_binds_more_than_sqlite_allows() {
        for width in [1, 300, 400, 2000] {
            for rows in statement_rows(&table(width, 0)) {
                assert!(rows * width <= STATEMENT_VALUES, "{rows} rows of {width}");
            }
        }
    }

    #[test]
    fn a_wrong_mapping_has_no_plan() {
        assert!(Plan::of(&table(0, 0)).is_err());
        let message = |table: Table<i64>| Plan::of(&table).expect_err("a mistake").to_string();
        let text = r#"this database has no schemas, and table "t" is to be in schema "md": leave out Table::schema, and open the file that has the table"#;
        assert_eq!(message(table(1, 0).schema("md")), text);
        let dotted = Table::new("main.t").integer("id", |id| *id).create_if_missing();
        let text = r#""main.t" is taken for the name of one table, dot included; did you mean Table::new("t")?"#;
        assert_eq!(message(dotted), text);
        assert!(Plan::of(&Table::<i64>::new("md.t").integer("id", |id| *id)).is_ok(), "a name with a dot in it");
    }

    #[test]
    fn a_table_is_created_only_when_asked() {
        assert!(Plan::of(&table(1, 0)).is_ok_and(|plan| plan.create.is_none()));
        assert!(Plan::of(&table(1, 0).create_if_missing()).is_ok_and(|plan| plan.create.is_some()));
    }
}
