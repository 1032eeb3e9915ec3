//! Checks of a mapping that need no database. The first mistake is reported; every sink runs them when it is opened.

use super::{Conflict, Table, TableError};

impl<T> Table<T> {
    /// Checks the mapping by itself. Every sink does so when it is opened.
    ///
    /// # Errors
    ///
    /// Returns the first mistake found: see [`TableError`].
    pub fn check(&self) -> Result<(), TableError> {
        if let Some(schema) = &self.schema {
            check_name("a schema", schema)?;
        }
        check_name("a table", &self.name)?;
        if self.columns.is_empty() {
            return Err(TableError::NoColumns(self.name.clone()));
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name()).collect();
        let key: Vec<&str> = self.key.iter().map(String::as_str).collect();
        for name in &names {
            check_name("a column", name)?;
        }
        check_distinct(&names)?;
        check_distinct(&key)?;
        if let Some(missing) = key.iter().find(|key| !contains(&names, key)) {
            return Err(TableError::NoKeyColumn((*missing).into()));
        }
        if self.conflict != Conflict::Fail && key.is_empty() {
            return Err(TableError::NoKey(self.conflict));
        }
        if let Some(once) = &self.once {
            if !contains(&names, once) {
                return Err(TableError::NoOnceColumn(once.clone()));
            }
            if self.conflict != Conflict::Fail {
                return Err(TableError::OnceByRule(self.conflict));
            }
        }
        Ok(())
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), TableError> {
    if name.is_empty() || name.contains('\0') {
        return Err(TableError::BadName { what, name: name.into() });
    }
    Ok(())
}

fn check_distinct(names: &[&str]) -> Result<(), TableError> {
    match names.iter().enumerate().find(|(i, name)| contains(&names[..*i], name)) {
        Some((_, twice)) => Err(TableError::Duplicate((*twice).into())),
        None => Ok(()),
    }
}

/// Folds ASCII letters only: databases fold those, or none.
fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str]) -> Table<i64> {
        columns.iter().fold(Table::new("t"), |table, name| table.integer(*name, |op| *op))
    }

    #[test]
    fn a_good_mapping_passes() {
        assert_eq!(table(&["a", "b"]).key(["a"]).once_by("B").check(), Ok(()));
        assert_eq!(table(&["a", "b"]).key(["B"]).on_conflict(Conflict::Update).check(), Ok(()));
        assert_eq!(table(&["\"; drop table t; --", "größe", " "]).check(), Ok(()));
    }

    #[test]
    fn each_mistake_names_its_column() {
        let message = |table: Table<i64>| table.check().expect_err("a mistake").to_string();
        assert_eq!(message(Table::new("")), r#""" cannot name a table: it is empty or contains a NUL"#);
        assert_eq!(message(table(&["a"]).schema("")), r#""" cannot name a schema: it is empty or contains a NUL"#);
        assert_eq!(message(table(&[])), r#"table "t" has no columns"#);
        assert_eq!(message(table(&["a", ""])), r#""" cannot name a column: it is empty or contains a NUL"#);
        assert_eq!(message(table(&["a\0"])), r#""a\0" cannot name a column: it is empty or contains a NUL"#);
        assert_eq!(message(table(&["a", "b", "A"])), r#"column "A" is there twice"#);
        assert_eq!(message(table(&["a"]).key(["a", "A"])), r#"column "A" is there twice"#);
        assert_eq!(message(table(&["a"]).key(["b"])), r#"key column "b" is not among the columns of the table"#);
        assert_eq!(
            message(table(&["a"]).on_conflict(Conflict::Ignore)),
            "the conflict rule Ignore needs a key: name its columns with Table::key",
        );
        assert_eq!(
            message(table(&["a"]).once_by("b")),
            r#"column "b", which is to tell one op from another, is not among the columns of the table"#
        );
        assert_eq!(
            message(table(&["a"]).key(["a"]).on_conflict(Conflict::Update).once_by("a")),
            "once_by needs the conflict rule Fail, Update decides about repeats by the key",
        );
    }
}
