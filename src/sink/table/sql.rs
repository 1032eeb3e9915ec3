//! SQL that databases share, with every name quoted. Types and placeholders are the dialect's own and come from its
//! sink.

use super::{ColumnType, Conflict, Table};

/// Quotes a name, whatever characters are in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names, quoted and separated by commas.
pub(crate) fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

impl<T> Table<T> {
    /// `CREATE TABLE IF NOT EXISTS`, with the key as the primary key.
    pub(crate) fn create_sql(&self, type_name: impl Fn(ColumnType) -> &'static str) -> String {
        let (key, once) = (self.key_names(), self.once_name());
        let mut parts: Vec<String> = Vec::new();
        for column in &self.columns {
            let name = column.name();
            let not_null = if key.contains(&name) || once == Some(name) { " NOT NULL" } else { "" };
            parts.push(format!("{} {}{not_null}", quoted(name), type_name(column.holds())));
        }
        if !key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(&key)));
        }
        if let Some(once) = once.filter(|once| key != [*once]) {
            parts.push(format!("UNIQUE ({})", quoted(once)));
        }
        format!("CREATE TABLE IF NOT EXISTS {} ({})", self.reference(), parts.join(", "))
    }

    /// The table as SQL reads it, with its schema if one is set.
    pub(crate) fn reference(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }

    /// The table as messages name it, with its schema if one is set.
    #[cfg(feature = "postgres")]
    pub(crate) fn full_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// `verb INTO into (columns) rows`, followed by the conflict rule. `into` is the table as SQL reads it; `rows` is
    /// `VALUES` of placeholders or a `SELECT`, and never has values in it.
    pub(crate) fn insert_sql(&self, verb: &str, into: &str, rows: &str) -> String {
        let names = list(self.columns.iter().map(|column| column.name()));
        format!("{verb} INTO {into} ({names}) {rows}{}", self.conflict_sql())
    }

    /// The same for new keys alone: where the key is there already, nothing happens.
    #[cfg(feature = "sqlite")]
    pub(crate) fn insert_new_sql(&self, into: &str, rows: &str) -> String {
        let names = list(self.columns.iter().map(|column| column.name()));
        format!("INSERT INTO {into} ({names}) {rows} ON CONFLICT ({}) DO NOTHING", list(self.key_names()))
    }

    /// `UPDATE` of the row with the key, with a numbered placeholder per column in the order of the columns. `None` if
    /// the conflict rule does not update, or nothing is left to update.
    #[cfg(feature = "sqlite")]
    pub(crate) fn update_sql(&self, into: &str) -> Option<String> {
        let (key, rest): (Vec<_>, Vec<_>) =
            self.columns.iter().map(|column| column.name()).zip(1..).partition(|(name, _)| self.is_key(name));
        let parts = |columns: &[(&str, usize)], separator| {
            columns.iter().map(|(name, i)| format!("{} = ?{i}", quoted(name))).collect::<Vec<_>>().join(separator)
        };
        (self.conflict == Conflict::Update && !rest.is_empty())
            .then(|| format!("UPDATE {into} SET {} WHERE {}", parts(&rest, ", "), parts(&key, " AND ")))
    }

    fn conflict_sql(&self) -> String {
        let key = self.key_names();
        let target = list(&key);
        let updates: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !key.contains(&column.name()))
            .map(|column| format!("{0} = excluded.{0}", quoted(column.name())))
            .collect();
        match self.conflict {
            Conflict::Fail => match self.once_name() {
                Some(once) => format!(" ON CONFLICT ({}) DO NOTHING", quoted(once)),
                None => String::new(),
            },
            // A row that is all key has nothing to update.
            Conflict::Update if !updates.is_empty() => {
                format!(" ON CONFLICT ({target}) DO UPDATE SET {}", updates.join(", "))
            }
            Conflict::Ignore | Conflict::Update => format!(" ON CONFLICT ({target}) DO NOTHING"),
        }
    }

    /// The columns of the key, spelled as the columns are: some databases fold no case.
    pub(crate) fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|key| self.spelled(key)).collect()
    }

    /// The column that tells one op from another, spelled as the column is.
    pub(crate) fn once_name(&self) -> Option<&str> {
        self.once.as_deref().map(|once| self.spelled(once))
    }

    fn spelled<'a>(&'a self, name: &'a str) -> &'a str {
        let same = |column: &&str| column.eq_ignore_ascii_case(name);
        self.columns.iter().map(|column| column.name()).find(same).unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<i64> {
        Table::new("my \"t\"").integer("id", |op| *op).text("a;b", |_| "").key(["id"])
    }

    fn create(table: &Table<i64>) -> String {
        table.create_sql(|holds| if holds == ColumnType::Integer { "INTEGER" } else { "TEXT" })
    }

    #[test]
    fn names_are_quoted_and_quotes_doubled() {
        assert_eq!(quoted(r#"a"b"#), r#""a""b""#);
        let insert = table().insert_sql("INSERT", &quoted("t"), "VALUES (?, ?)");
        assert_eq!(insert, r#"INSERT INTO "t" ("id", "a;b") VALUES (?, ?)"#);
    }

    #[test]
    fn the_key_is_the_primary_key() {
        assert_eq!(
            create(&table()),
            r#"CREATE TABLE IF NOT EXISTS "my ""t""" ("id" INTEGER NOT NULL, "a;b" TEXT, PRIMARY KEY ("id"))"#
        );
        assert!(create(&table().schema("m\"d")).starts_with(r#"CREATE TABLE IF NOT EXISTS "m""d"."my ""t""" ("#));
    }

    #[test]
    fn the_once_column_is_unique_exactly_once() {
        assert!(
            create(&table().once_by("A;B")).ends_with(r#""a;b" TEXT NOT NULL, PRIMARY KEY ("id"), UNIQUE ("a;b"))"#)
        );
        assert!(create(&table().once_by("ID")).ends_with(r#"PRIMARY KEY ("id"))"#));
    }

    #[test]
    fn each_conflict_rule_has_its_clause() {
        let clause = |rule| table().on_conflict(rule).conflict_sql();
        assert_eq!(clause(Conflict::Fail), "");
        assert_eq!(clause(Conflict::Ignore), r#" ON CONFLICT ("id") DO NOTHING"#);
        assert_eq!(clause(Conflict::Update), r#" ON CONFLICT ("id") DO UPDATE SET "a;b" = excluded."a;b""#);
        let all_key = table().key(["ID", "a;b"]).on_conflict(Conflict::Update).conflict_sql();
        assert_eq!(all_key, r#" ON CONFLICT ("id", "a;b") DO NOTHING"#);
        assert_eq!(table().once_by("A;b").conflict_sql(), r#" ON CONFLICT ("a;b") DO NOTHING"#);
    }
}
