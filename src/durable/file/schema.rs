//! The tables of a log in SQLite. All names begin with `roundlot_`, so that the file may hold tables of
//! its owner, too.

/// The format of the tables, and the only one that is read. It changes with each letter of [`TABLES`], since files are compared with
/// these.
pub(super) const FORMAT: i64 = 4;

/// A shard's number is that of its log, shifted by 16 bits, and its own. Tables with large rows have row ids, so that a search
/// compares keys in an index: without them, SQLite reads each row that it compares as a whole.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS roundlot_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roundlot_logs (
    name TEXT PRIMARY KEY, log INTEGER NOT NULL UNIQUE, shards INTEGER NOT NULL, next_producer INTEGER NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roundlot_pairings (
    log INTEGER PRIMARY KEY, pairing INTEGER NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS roundlot_shards (
    shard INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, next INTEGER NOT NULL, cursor INTEGER NOT NULL,
    paused INTEGER NOT NULL, idle_terms INTEGER NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS roundlot_producers (
    shard INTEGER NOT NULL, producer INTEGER NOT NULL, frame INTEGER NOT NULL, first INTEGER NOT NULL,
    floor INTEGER NOT NULL, claimed INTEGER NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (shard, producer)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roundlot_frames (
    shard INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, bytes BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (shard, first)
);
CREATE TABLE IF NOT EXISTS roundlot_settled (
    shard INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (shard, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roundlot_intents (
    shard INTEGER NOT NULL, number INTEGER NOT NULL, intent BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (shard, number)
);
CREATE TABLE IF NOT EXISTS roundlot_outcomes (
    shard INTEGER NOT NULL, producer INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    ended TEXT NOT NULL, attempts INTEGER NOT NULL, at INTEGER NOT NULL, schema INTEGER NOT NULL, result BLOB NOT NULL,
    lengths BLOB NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (shard, producer, first)
);
CREATE TABLE IF NOT EXISTS roundlot_charges (
    shard INTEGER NOT NULL, bucket TEXT NOT NULL, key INTEGER NOT NULL, grain INTEGER NOT NULL, at INTEGER NOT NULL,
    cost INTEGER NOT NULL, expires INTEGER NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (shard, bucket, key, grain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roundlot_letters (
    shard INTEGER NOT NULL, producer INTEGER NOT NULL, number INTEGER NOT NULL, op BLOB NOT NULL, schema INTEGER NOT NULL,
    ended TEXT NOT NULL, attempts INTEGER NOT NULL, error BLOB NOT NULL, at INTEGER NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (shard, producer, number)
);
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stable_hash::fnv1a;

    /// Goal: files of earlier builds are not taken for damaged ones. Method: another hash of the tables needs another format.
    #[test]
    fn a_format_is_one_text() {
        assert_eq!((FORMAT, fnv1a(TABLES.as_bytes())), (4, 10_290_235_461_017_239_101));
        let statements = TABLES.split(';').map(str::trim).filter(|statement| !statement.is_empty());
        assert!(statements.clone().count() > 10);
        for statement in statements {
            assert!(
                statement.starts_with("CREATE TABLE IF NOT EXISTS roundlot_"),
                "it is compared with files: {statement}"
            );
        }
    }
}
