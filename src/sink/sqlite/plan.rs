//! [`Plan`]: what the writer thread knows of a table, which is everything but the ops: SQL and the ways to write rows.
//! Fixed when the sink is opened.

use crate::sink::table::{ColumnType, Table, TableError, sql::quoted};

/// Way to write rows; depends on the table in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The table has no triggers.
    Bare,
    /// The table has triggers, so no statement may override rules inside of them.
    Triggers,
    /// The table has triggers, and rows may be updated, by a statement of their own. SQLite runs an update's triggers
    /// inside an insert as if they said `UPDATE OR ABORT`.
    InsertThenUpdate,
}

/// Maximum number of texts and byte strings, and of rows, that one statement binds. SQLite pools short ones in some
/// more slots, beyond which each costs an allocation: 500 took twice as long per row as up to 100. More rows gain
/// nothing.
const STATEMENT_TEXTS: usize = 60;

/// Maximum number of values in one statement: the limit that the bundled SQLite is compiled with.
const STATEMENT_VALUES: usize = 32_766;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) table: String,
    pub(super) columns: Vec<(String, ColumnType)>,
    pub(super) create: Option<String>,
    /// For a table without triggers. The word after OR overrides what the table was created with, so that the mapping's
    /// rule holds. A failure of many rows ends the transaction, so SQLite need not remember how to undo the statement.
    /// A failure of one row undoes that row alone.
    bare: Inserts<String>,
    /// For a table with triggers: a word after OR would also override the rules of the statements inside them.
    plain: Inserts<String>,
    /// Inserts one row if its key is new, and leaves it to `update` otherwise.
    new: Inserts<String>,
    /// Updates the row with the key of the values that are bound, if the mapping's rule says so.
    pub(super) update: Option<String>,
}

/// The statements for many rows and for one.
#[derive(Debug)]
pub(super) struct Inserts<S> {
    /// Sorted by falling number of rows; the last inserts one.
    pub(super) fast: Vec<Insert<S>>,
    /// Inserts one row. A failure undoes that row alone.
    pub(super) careful: Insert<S>,
}

/// An insert of a fixed number of rows, as text or prepared.
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
        let values = |rows| format!("VALUES {}", vec![tuple.as_str(); rows].join(", "));
        let insert = |verb, rows| Insert { rows, statement: table.insert_sql(verb, &into, &values(rows)) };
        let inserts = |fast, careful| Inserts {
            fast: statement_rows(table).into_iter().map(|rows| insert(fast, rows)).collect(),
            careful: insert(careful, 1),
        };
        let new = || Insert { rows: 1, statement: table.insert_new_sql(&into, &values(1)) };
        Ok(Self {
            table: table.name().into(),
            columns: table.columns().iter().map(|column| (column.name().into(), column.holds())).collect(),
            create: table.creates().then(|| table.create_sql(type_name)),
            bare: inserts("INSERT OR ROLLBACK", "INSERT OR ABORT"),
            plain: inserts("INSERT", "INSERT"),
            new: Inserts { fast: vec![new()], careful: new() },
            update: table.update_sql(&into),
        })
    }

    pub(super) fn inserts(&self, mode: Mode) -> &Inserts<String> {
        match mode {
            Mode::Bare => &self.bare,
            Mode::Triggers => &self.plain,
            Mode::InsertThenUpdate => &self.new,
        }
    }

    /// Statements for a row that was not new; each is for the case that the one before has changed none.
    pub(super) fn updates(&self, mode: Mode) -> impl Iterator<Item = &str> {
        let update = self.update.as_deref().filter(|_| mode == Mode::InsertThenUpdate);
        update.into_iter().flat_map(|update| [update, &self.plain.careful.statement])
    }
}

/// SQLite's schemas are the names of open files, of which a sink has one.
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
    use crate::sink::table::Conflict;

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

    /// Goal: no statement reaches into the triggers of a table. Method: those for tables that have some say nothing
    /// after INSERT and UPDATE.
    #[test]
    fn statements_for_tables_with_triggers_are_plain() {
        let table = table(2, 0).key(["i1"]).on_conflict(Conflict::Update);
        let plan = Plan::of(&table).expect("a mapping");
        for mode in [Mode::Triggers, Mode::InsertThenUpdate] {
            let inserts = plan.inserts(mode);
            for insert in inserts.fast.iter().chain([&inserts.careful]) {
                assert!(insert.statement.starts_with("INSERT INTO "), "{}", insert.statement);
            }
        }
        assert_eq!(plan.update.as_deref(), Some(r#"UPDATE "t" SET "i0" = ?1 WHERE "i1" = ?2"#));
        assert!(plan.inserts(Mode::InsertThenUpdate).careful.statement.ends_with(r#" ON CONFLICT ("i1") DO NOTHING"#));
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
