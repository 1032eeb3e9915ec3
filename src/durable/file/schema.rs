//! The tables of a log in SQLite, and the views for people. All names begin with `roundlot_`, so that the file may hold tables of
//! its owner, too.

/// The format of the tables, and the only one that is read.
pub(super) const FORMAT: i64 = 2;

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
    floor INTEGER NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (shard, producer)
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

CREATE VIEW IF NOT EXISTS roundlot_waiting AS
    SELECT l.name AS log, s.shard & 65535 AS shard, s.paused,
        s.next - s.cursor - coalesce((SELECT sum(last - first + 1) FROM roundlot_settled d WHERE d.shard = s.shard), 0) AS ops,
        (SELECT count(*) FROM roundlot_frames f WHERE f.shard = s.shard) AS frames,
        (SELECT sum(length(bytes)) FROM roundlot_frames f WHERE f.shard = s.shard) AS bytes,
        (SELECT count(*) FROM roundlot_intents i WHERE i.shard = s.shard) AS batches_in_doubt
    FROM roundlot_shards s JOIN roundlot_logs l ON l.log = s.shard >> 16;
CREATE VIEW IF NOT EXISTS roundlot_ended AS
    SELECT l.name AS log, o.producer || '-' || (o.shard & 65535) || '-' || o.first AS id, o.count AS ops, o.ended,
        o.attempts, datetime(o.at / 1000000000, 'unixepoch') AS at, CAST(substr(o.result, 2) AS TEXT) AS result
    FROM roundlot_outcomes o JOIN roundlot_logs l ON l.log = o.shard >> 16;
CREATE VIEW IF NOT EXISTS roundlot_dead_letters AS
    SELECT l.name AS log, d.producer || '-' || (d.shard & 65535) || '-' || d.number AS id, d.ended, d.attempts,
        datetime(d.at / 1000000000, 'unixepoch') AS at, CAST(d.op AS TEXT) AS op, CAST(d.error AS TEXT) AS error
    FROM roundlot_letters d JOIN roundlot_logs l ON l.log = d.shard >> 16;
";
