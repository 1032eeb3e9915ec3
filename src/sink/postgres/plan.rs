//! [`Plan`]: what a connection knows of a table, which is everything but the ops: SQL, and which way a batch of a given
//! size takes. Fixed when the sink is opened, except that COPY can be given up for good.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::types::Type;

use super::{options::Postgres, watch::Watch, wire::Field};
use crate::sink::table::{Conflict, Table, sql::quoted};

/// Name of the temporary table for rows that go on under a conflict rule. It is empty again after each transaction.
const STAGE: &str = "pg_temp.roundlot_rows";

/// Maximum size in bytes of a batch that is sent as arrays. A message to the server is at most 1 GB, and both sides
/// hold it several times over.
const MAX_ARRAY_BYTES: usize = 16 << 20;

/// The table as the server has it.
#[derive(Debug)]
pub(super) struct Found {
    /// Name with its schema, as SQL reads it.
    pub(super) into: String,
    /// In the order of the mapping.
    pub(super) fields: Vec<Field>,
    /// Whether COPY would refuse what an INSERT writes, or write it otherwise.
    pub(super) guarded: bool,
    /// Whether rules rewrite an INSERT.
    pub(super) ruled: bool,
    /// Whether we may have temporary tables.
    pub(super) may_stage: bool,
    pub(super) watch: Watch,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fields: Vec<Field>,
    /// One statement that takes an array per column, and the types of the arrays.
    pub(super) unnest: String,
    pub(super) arrays: Vec<Type>,
    /// The same statement as the server plans it, and so checks it, without executing it.
    pub(super) check: String,
    pub(super) bulk: Option<Bulk>,
    /// Whether each row has a statement of its own. A rule acts once per statement. One that counts rows, or checks
    /// whether a row exists, treats many rows differently from one row after the other.
    pub(super) one_by_one: bool,
    /// Number of rows from which a batch goes the bulk way.
    bulk_from: usize,
    /// Whether COPY into the table has met rules or policies that were not there when it was opened. Set once, for all
    /// connections.
    barred: AtomicBool,
}

/// The bulk way: rows go by COPY.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) copy: String,
    /// COPY knows no conflict rule: it then fills a table of its own, and a statement moves the rows on.
    pub(super) stage: Option<Stage>,
    /// Query that detects changes after COPY into the table itself.
    pub(super) watch: Option<Watch>,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) create: String,
    pub(super) merge: String,
    pub(super) empty: String,
}

impl Plan {
    pub(super) fn of<T>(table: &Table<T>, found: &Found, settings: &Postgres) -> Self {
        let sql = Sql { table, found };
        let has_rule = table.conflict() != Conflict::Fail || table.once_column().is_some();
        let staged = has_rule || found.guarded;
        let stage = || Stage {
            create: format!("CREATE TEMP TABLE IF NOT EXISTS roundlot_rows ({}) ON COMMIT DELETE ROWS", sql.cells()),
            merge: sql.insert(STAGE, "ctid"),
            empty: format!("TRUNCATE {STAGE}"),
        };
        let bulk = match staged {
            // COPY applies no rules.
            _ if found.ruled => None,
            false => Some(Bulk {
                copy: sql.copy(&found.into, table.columns().iter().map(|c| quoted(c.name()))),
                stage: None,
                watch: Some(found.watch.clone()),
            }),
            true if found.may_stage => {
                let copy = sql.copy(STAGE, (0..found.fields.len()).map(cell));
                Some(Bulk { copy, stage: Some(stage()), watch: None })
            }
            true => None,
        };
        Self {
            unnest: sql.insert(&sql.unnest(|i| format!("${}", i + 1)), "n"),
            arrays: found.fields.iter().map(|field| field.wire.array()).collect(),
            check: format!("EXPLAIN {}", sql.insert(&sql.unnest(|_| "NULL".into()), "n")),
            bulk,
            one_by_one: found.ruled,
            barred: AtomicBool::new(false),
            bulk_from: if staged { settings.stage_from } else { settings.copy_from },
            fields: found.fields.clone(),
        }
    }

    /// From here on no row goes by COPY: each has an INSERT of its own.
    pub(super) fn bar(&self) {
        self.barred.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_barred(&self) -> bool {
        self.barred.load(Ordering::Relaxed)
    }

    /// The bulk insert path, if `rows` and `bytes` call for it.
    pub(super) fn bulk_for(&self, rows: usize, bytes: usize) -> Option<&Bulk> {
        self.bulk.as_ref().filter(|_| rows >= self.bulk_from || bytes > MAX_ARRAY_BYTES)
    }

    /// Whether the rows must come in smaller batches: there is no bulk insert path, or none in a session that may share
    /// its server process. A single row always has a path.
    pub(super) fn is_too_large(&self, rows: usize, bytes: usize, is_own: bool) -> bool {
        (self.bulk.is_none() || !is_own) && !self.one_by_one && rows > 1 && bytes > MAX_ARRAY_BYTES
    }
}

/// The name of a column's cells on the way.
fn cell(column: usize) -> String {
    format!("c{column}")
}

struct Sql<'a, T> {
    table: &'a Table<T>,
    found: &'a Found,
}

impl<T> Sql<'_, T> {
    /// The arrays as rows, which are counted where their order matters. Side by side in a list, not in FROM, where the
    /// server would store each array's elements once more: that took 1.5 times as long.
    fn unnest(&self, array: impl Fn(usize) -> String) -> String {
        let mut lists: Vec<String> = self
            .fields()
            .map(|(i, field)| format!("unnest({}::{}[]) {}", array(i), field.wire.name(), cell(i)))
            .collect();
        if self.table.conflict() == Conflict::Update {
            lists.push(format!("generate_subscripts({}::{}[], 1) n", array(0), self.found.fields[0].wire.name()));
        }
        format!("(SELECT {}) u", lists.join(", "))
    }

    /// `INSERT INTO` the table from where the cells are, in the order in which they stand there.
    fn insert(&self, from: &str, order: &str) -> String {
        let values: Vec<String> = self.fields().map(|(i, _)| self.value(i)).collect();
        let values = values.join(", ");
        let rows = match self.table.conflict() {
            // The server updates no row twice in one statement, and the last of them would win anyway. In the order of
            // the key, two batches that meet do not wait for each other.
            Conflict::Update => {
                let key = self.key_values();
                format!("SELECT DISTINCT ON ({key}) {values} FROM {from} ORDER BY {key}, {order} DESC")
            }
            Conflict::Fail | Conflict::Ignore => format!("SELECT {values} FROM {from}"),
        };
        self.table.insert_sql("INSERT", &self.found.into, &rows)
    }

    fn value(&self, column: usize) -> String {
        match &self.found.fields[column].cast {
            Some(cast) => format!("{}::{cast}", cell(column)),
            None => cell(column),
        }
    }

    fn key_values(&self) -> String {
        let columns = self.table.columns().iter().enumerate();
        let key: Vec<String> =
            columns.filter(|(_, column)| self.table.is_key(column.name())).map(|(i, _)| self.value(i)).collect();
        key.join(", ")
    }

    fn copy(&self, into: &str, names: impl Iterator<Item = String>) -> String {
        format!("COPY {into} ({}) FROM STDIN (FORMAT binary)", names.collect::<Vec<_>>().join(", "))
    }

    /// The columns of the stage.
    fn cells(&self) -> String {
        let cells: Vec<String> = self.fields().map(|(i, field)| format!("{} {}", cell(i), field.wire.name())).collect();
        cells.join(", ")
    }

    fn fields(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.found.fields.iter().enumerate()
    }
}

/// The table as SQL reads it.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{postgres::wire::Declared, table::ColumnType};

    fn plan(table: &Table<i64>, guarded: bool, may_stage: bool) -> Plan {
        let field = |holds, name: &str, is_enum| {
            let declared = Declared { name: name.into(), reference: format!("\"{name}\""), is_enum, modifier: -1 };
            Field::of(holds, &declared).expect("a way in")
        };
        let fields = vec![field(ColumnType::Integer, "int4", false), field(ColumnType::Text, "side", true)];
        let watch = Watch { table: qualified("s", "t"), columns: vec!["id".into(), "x".into()], shape: String::new() };
        let found = Found { into: qualified("s", "t"), fields, guarded, ruled: false, may_stage, watch };
        Plan::of(table, &found, &Postgres::url("postgres://").copy_from(3).stage_from(5))
    }

    fn table() -> Table<i64> {
        Table::new("t").integer("id", |op| *op).text("x", |_| "").key(["ID"])
    }

    #[test]
    fn arrays_become_rows_in_their_order() {
        let plan = plan(&table(), false, true);
        let rows = "(SELECT unnest($1::int4[]) c0, unnest($2::text[]) c1) u";
        assert_eq!(plan.unnest, format!(r#"INSERT INTO "s"."t" ("id", "x") SELECT c0, c1::"side" FROM {rows}"#));
        assert_eq!(plan.check, format!("EXPLAIN {}", plan.unnest.replace("$1", "NULL").replace("$2", "NULL")));
        let copy = plan.bulk.expect("a way for many");
        assert_eq!(copy.copy, r#"COPY "s"."t" ("id", "x") FROM STDIN (FORMAT binary)"#);
        assert!(copy.stage.is_none());
    }

    #[test]
    fn of_the_rows_of_one_key_the_last_one_counts() {
        let plan = plan(&table().on_conflict(Conflict::Update), false, true);
        let last = |from: &str, order: &str| {
            format!(
                r#"INSERT INTO "s"."t" ("id", "x") SELECT DISTINCT ON (c0) c0, c1::"side" FROM {from} ORDER BY c0, {order} DESC ON CONFLICT ("id") DO UPDATE SET "x" = excluded."x""#
            )
        };
        let rows = "(SELECT unnest($1::int4[]) c0, unnest($2::text[]) c1, generate_subscripts($1::int4[], 1) n) u";
        assert_eq!(plan.unnest, last(rows, "n"));
        let bulk = plan.bulk.expect("a way for many");
        assert_eq!(bulk.copy, "COPY pg_temp.roundlot_rows (c0, c1) FROM STDIN (FORMAT binary)");
        let stage = bulk.stage.expect("a rule needs one");
        assert_eq!(stage.merge, last("pg_temp.roundlot_rows", "ctid"));
        let columns = "(c0 int4, c1 text) ON COMMIT DELETE ROWS";
        assert_eq!(stage.create, format!("CREATE TEMP TABLE IF NOT EXISTS roundlot_rows {columns}"));
    }

    #[test]
    fn size_rule_and_rights_decide_the_way() {
        let from = |plan: &Plan| (1..10).find(|rows| plan.bulk_for(*rows, 0).is_some());
        let is_staged = |plan: &Plan| plan.bulk.as_ref().map(|bulk| bulk.stage.is_some());
        let cases = [
            (plan(&table(), false, false), Some(3), Some(false)),
            (plan(&table(), true, true), Some(5), Some(true)),
            (plan(&table(), true, false), None, None),
            (plan(&table().once_by("x"), false, true), Some(5), Some(true)),
            (plan(&table().on_conflict(Conflict::Ignore), false, false), None, None),
        ];
        for (i, (plan, rows, staged)) in cases.iter().enumerate() {
            assert_eq!((from(plan), is_staged(plan)), (*rows, *staged), "case {i}");
        }
        assert!(cases[0].0.bulk_for(1, MAX_ARRAY_BYTES + 1).is_some(), "many bytes count as many rows");
    }

    #[test]
    fn many_bytes_without_a_bulk_way_are_too_large_unless_in_one_row() {
        let (with, without) = (plan(&table(), true, true), plan(&table(), true, false));
        for rows in [1, 2, 1000] {
            assert!(!with.is_too_large(rows, usize::MAX, true), "{rows}");
            assert!(!without.is_too_large(rows, MAX_ARRAY_BYTES, true), "{rows}");
            assert_eq!(without.is_too_large(rows, MAX_ARRAY_BYTES + 1, true), rows > 1, "{rows}");
            assert_eq!(with.is_too_large(rows, MAX_ARRAY_BYTES + 1, false), rows > 1, "{rows}, behind a pooler");
        }
    }
}
