//! The SQL that databases share: in comes a mapping, out goes text with every name quoted. Types and placeholders are
//! the dialect's own and come in from its sink.

use super::{ColumnType, Conflict, Table};

/// A name as SQL reads it, whatever characters are in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl<T> Table<T> {
    /// `CREATE TABLE IF NOT EXISTS`, with the key as the primary key.
    pub(crate) fn create_sql(&self, type_name: impl Fn(ColumnType) -> &'static str) -> String {
        let mut parts: Vec<String> = Vec::new();
        for column in &self.columns {
            let not_null = if self.is_key(column.name()) { " NOT NULL" } else { "" };
            parts.push(format!("{} {}{not_null}", quoted(column.name()), type_name(column.holds())));
        }
        if !self.key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(self.key.iter())));
        }
        format!("CREATE TABLE IF NOT EXISTS {} ({})", quoted(&self.name), parts.join(", "))
    }

    /// `verb INTO table (columns) VALUES tuples`, followed by the conflict rule. `tuples` are placeholders, never
    /// values.
    pub(crate) fn insert_sql(&self, verb: &str, tuples: &str) -> String {
        let names = list(self.columns.iter().map(|column| column.name()));
        format!("{verb} INTO {} ({names}) VALUES {tuples}{}", quoted(&self.name), self.conflict_sql())
    }

    fn conflict_sql(&self) -> String {
        let target = list(self.key.iter());
        let assignments: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !self.is_key(column.name()))
            .map(|column| format!("{0} = excluded.{0}", quoted(column.name())))
            .collect();
        match self.conflict {
            Conflict::Fail => String::new(),
            // A row that is all key has nothing to update.
            Conflict::Update if !assignments.is_empty() => {
                format!(" ON CONFLICT ({target}) DO UPDATE SET {}", assignments.join(", "))
            }
            Conflict::Ignore | Conflict::Update => format!(" ON CONFLICT ({target}) DO NOTHING"),
        }
    }
}

fn list(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    names.map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<i64> {
        Table::new("my \"t\"").integer("id", |op| *op).text("a;b", |_| "").key(["id"])
    }

    #[test]
    fn names_are_quoted_and_quotes_doubled() {
        assert_eq!(quoted(r#"a"b"#), r#""a""b""#);
        assert_eq!(table().insert_sql("INSERT", "(?, ?)"), r#"INSERT INTO "my ""t""" ("id", "a;b") VALUES (?, ?)"#);
    }

    #[test]
    fn the_key_is_the_primary_key() {
        assert_eq!(
            table().create_sql(|holds| if holds == ColumnType::Integer { "INTEGER" } else { "TEXT" }),
            r#"CREATE TABLE IF NOT EXISTS "my ""t""" ("id" INTEGER NOT NULL, "a;b" TEXT, PRIMARY KEY ("id"))"#
        );
    }

    #[test]
    fn each_conflict_rule_has_its_clause() {
        let clause = |rule| table().on_conflict(rule).conflict_sql();
        assert_eq!(clause(Conflict::Fail), "");
        assert_eq!(clause(Conflict::Ignore), r#" ON CONFLICT ("id") DO NOTHING"#);
        assert_eq!(clause(Conflict::Update), r#" ON CONFLICT ("id") DO UPDATE SET "a;b" = excluded."a;b""#);
        let all_key = table().key(["ID", "a;b"]).on_conflict(Conflict::Update).conflict_sql();
        assert_eq!(all_key, r#" ON CONFLICT ("ID", "a;b") DO NOTHING"#);
    }
}
