//! [`Shape`]: the table as the file has it: its kind, the types of its columns, its triggers. [`Shape::mode`] decides
//! how rows are written, or why they cannot be. The writer reads the shape when the file is opened, and inside a
//! transaction after each change of the schema. The decision thus holds for all rows of that transaction.

use std::{collections::HashMap, path::Path};

use rusqlite::Connection;

use super::{
    OpenError,
    plan::{Mode, Plan, type_name},
};

#[derive(Debug)]
pub(super) struct Shape {
    strict: bool,
    /// Declared types, by the column's name in lower case. Empty if there is no such table.
    declared: HashMap<String, String>,
    /// The SQL of each trigger on the table, in upper case, with single blanks between words.
    triggers: Vec<String>,
    /// Whether a constraint of the table says `ON CONFLICT REPLACE` or `ON CONFLICT IGNORE`.
    own_rule: bool,
}

/// SQLite's column affinities: which values a column converts when they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    /// Converts nothing.
    Blob,
    Real,
    Numeric,
}

impl Shape {
    pub(super) fn look(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        // Hidden columns of kinds 2 and 3 are generated ones: SQLite itself says that nothing can be written to them.
        let mut columns =
            connection.prepare("SELECT name, type FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1")?;
        let declared =
            columns.query_map([table], |row| Ok((row.get::<_, String>(0)?.to_ascii_lowercase(), row.get(1)?)));
        let mut strict = connection.prepare("SELECT strict FROM pragma_table_list(?1) WHERE schema = 'main'")?;
        let strict = strict.query_map([table], |row| row.get(0))?.next().transpose()?.unwrap_or(false);
        let triggers = sql_of(connection, "type = 'trigger' AND tbl_name", table)?;
        let tables = sql_of(connection, "type = 'table' AND name", table)?;
        let own_rule = |sql: &String| {
            sql.split("ON CONFLICT").skip(1).map(str::trim_start).any(|rule| {
                let says = |word| rule.starts_with(word);
                says("REPLACE") || says("IGNORE")
            })
        };
        Ok(Self {
            strict,
            declared: declared?.collect::<Result<_, _>>()?,
            own_rule: tables.iter().any(own_rule),
            triggers,
        })
    }

    /// Decides how rows of this mapping are written, so that no value is changed, and the rules of the mapping and
    /// inside of triggers hold.
    pub(super) fn mode(&self, plan: &Plan, path: &Path) -> Result<Mode, OpenError> {
        let table = || plan.table.clone();
        if self.declared.is_empty() {
            return Err(OpenError::NoTable { path: path.into(), table: table() });
        }
        for (column, holds) in &plan.columns {
            let Some(declared) = self.declared.get(&column.to_ascii_lowercase()) else {
                return Err(OpenError::NoColumn { table: table(), column: column.clone() });
            };
            let kept_as = type_name(*holds);
            if !keeps(kept_as, affinity(declared, self.strict)) {
                let (column, holds, declared) = (column.clone(), *holds, declared.clone());
                return Err(if kept_as == "TEXT" {
                    OpenError::NotText { table: table(), column, holds, declared }
                } else {
                    OpenError::NotKept { table: table(), column, holds, kept_as, declared }
                });
            }
        }
        if self.triggers.is_empty() {
            return Ok(Mode::Bare);
        }
        if self.own_rule {
            return Err(OpenError::TwoRules { table: table() });
        }
        let any = |part: &str| self.triggers.iter().any(|sql| sql.contains(part));
        // A trigger that leaves a row out looks like a conflict afterwards, and its row must not be updated then.
        let inserts_then_updates = plan.update.is_some() && any("UPDATE") && !any("RAISE(IGNORE");
        Ok(if inserts_then_updates { Mode::InsertThenUpdate } else { Mode::Triggers })
    }
}

/// The SQL of the objects of which `what` is `table`, as [`Shape::triggers`] describes.
fn sql_of(connection: &Connection, what: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let query = format!("SELECT sql FROM main.sqlite_schema WHERE {what} = ?1 COLLATE NOCASE AND sql IS NOT NULL");
    let mut query = connection.prepare(&query)?;
    query.query_map([table], |row| Ok(words(&row.get::<_, String>(0)?)))?.collect()
}

fn words(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words.join(" ").to_ascii_uppercase().replace("RAISE (", "RAISE(").replace("RAISE( ", "RAISE(")
}

/// Applies SQLite's rules, in their order: <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
fn affinity(declared: &str, strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let says = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    // In other tables ANY is a name like any other, and makes numbers.
    if declared.is_empty() || (strict && declared == "ANY") {
        Affinity::Blob
    } else if says(&["INT"]) {
        Affinity::Integer
    } else if says(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if says(&["BLOB"]) {
        Affinity::Blob
    } else if says(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// Whether values of one of SQLite's types come back from such a column as they went in.
fn keeps(kept_as: &str, affinity: Affinity) -> bool {
    match (kept_as, affinity) {
        (_, Affinity::Blob) | ("BLOB", _) => true,
        // A float that is a whole number may become an integer, which has the same value.
        ("REAL", affinity) => affinity != Affinity::Text,
        // 53 bits are left in a float; text sorts and compares by characters.
        ("INTEGER", affinity) => matches!(affinity, Affinity::Integer | Affinity::Numeric),
        (_, affinity) => affinity == Affinity::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_declared_type_converts_as_sqlite_says() {
        let types = [
            (Affinity::Integer, &["INTEGER", "int", "BIGINT", "CHARINT", "FLOATING POINT"][..]),
            (Affinity::Text, &["TEXT", "varchar(20)", "CLOB", "NATIVE CHARACTER(70)", "CHARBLOB"]),
            (Affinity::Blob, &["BLOB", "", "long blob"]),
            (Affinity::Real, &["REAL", "FLOAT", "double precision"]),
            (Affinity::Numeric, &["NUMERIC", "DECIMAL(10,5)", "BOOLEAN", "DATE", "DATETIME", "STRING", "JSON", "any"]),
        ];
        for (expected, types) in types {
            for declared in types {
                assert_eq!(affinity(declared, false), expected, "{declared}");
            }
        }
        assert_eq!(affinity("any", true), Affinity::Blob);
    }

    #[test]
    fn sql_is_compared_by_words() {
        assert_eq!(words("raise\n (  ignore )"), "RAISE(IGNORE )");
        assert_eq!(words("on\n\tconflict  Replace"), "ON CONFLICT REPLACE");
    }

    #[test]
    fn the_table_s_own_rule_is_seen() {
        let connection = Connection::open_in_memory().expect("memory");
        let own_rule = |sql: &str| {
            connection.execute_batch(sql).expect("valid");
            Shape::look(&connection, "T").expect("a look").own_rule
        };
        assert!(own_rule("CREATE TABLE t (id INT UNIQUE on  conflict replace)"));
        assert!(own_rule(
            "DROP TABLE t; CREATE TABLE t (id INT, x UNIQUE ON CONFLICT ABORT NOT NULL ON CONFLICT IGNORE)"
        ));
        assert!(!own_rule("DROP TABLE t; CREATE TABLE t (id INT UNIQUE ON CONFLICT FAIL)"));
    }
}
