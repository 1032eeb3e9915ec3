//! Pages of a file that hold nothing. The writer gives them back when it is idle.

use rusqlite::Connection;

/// Gives pages back to the file system that hold nothing. The pragma has a row per page, and must be run to its end: a statement that
/// is given up before commits without a word to the hook by which the end of the WAL is known.
pub(super) fn give_back(connection: &Connection, pages: u32) -> rusqlite::Result<()> {
    let mut vacuum = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({pages}) /* roundlot */"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::open::{self, Connected},
        *,
    };

    /// Goal: pages that hold nothing are given back, and the end of the WAL is known afterwards. Method: rows that are removed, a WAL that
    /// begins anew with the pages given back, and the frames that it then has.
    #[test]
    fn pages_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(open::open(&path, &super::super::File::at(&path)).unwrap());
        let Connected { connection, mut watch, .. } = open::connect(&path, 16 << 20, true).unwrap();
        let fill = "CREATE TABLE a (b); INSERT INTO a SELECT randomblob(4000) FROM generate_series(1, 300)";
        let fill = fill.replace(
            "generate_series(1, 300)",
            "(WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n)",
        );
        connection.execute_batch(&format!("{fill}; DELETE FROM a; PRAGMA wal_checkpoint")).unwrap();
        let free = || connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, u32>(0)).unwrap();
        let before = free();
        assert!(before > 200);
        give_back(&connection, 200).unwrap();
        assert_eq!(free(), before - 200);
        let wal = open::beside(&path, "-wal");
        let end = watch.end(&wal).unwrap();
        assert_eq!(end.damage(&wal).unwrap(), None);
        assert!((1..20).contains(&end.frames), "{} frames in a WAL that began anew", end.frames);
    }
}
