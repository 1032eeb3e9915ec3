//! The views of a file, for people with nothing but a shell of SQLite. They read the bytes of frames, intents and outcomes, whose
//! formats are those of `frame`, `intent` and `outcomes`. No code of the log reads a view.

use rusqlite::{Connection, ErrorCode, OptionalExtension};

/// The names of the views, and the statements behind them. A view comes after those that it reads.
const VIEWS: [(&str, &str); 7] = [
    ("roundlot_ops_of_frames", include_str!("views/roundlot_ops_of_frames.sql")),
    ("roundlot_ops_of_intents", include_str!("views/roundlot_ops_of_intents.sql")),
    ("roundlot_summary", include_str!("views/roundlot_summary.sql")),
    ("roundlot_waiting", include_str!("views/roundlot_waiting.sql")),
    ("roundlot_in_doubt", include_str!("views/roundlot_in_doubt.sql")),
    ("roundlot_ended", include_str!("views/roundlot_ended.sql")),
    ("roundlot_dead_letters", include_str!("views/roundlot_dead_letters.sql")),
];

/// Makes the views that are missing or those of another version. A file that has all of them is not changed.
pub(super) fn put_views(connection: &Connection) -> rusqlite::Result<()> {
    let mut batch = String::new();
    for (name, select) in VIEWS {
        let wanted = format!("CREATE VIEW {name} AS\n{}", select.trim_end());
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = ?1";
        let found: Option<String> = connection.query_row(sql, [name], |row| row.get(0)).optional()?;
        if found.as_ref() != Some(&wanted) {
            batch.push_str(&format!("DROP VIEW IF EXISTS {name}; {wanted};\n"));
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    let made = connection.execute_batch(&format!("BEGIN IMMEDIATE; {batch} COMMIT"));
    if made.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    match made {
        // A log must open and drain without a free page, and no code needs a view.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        durable::{
            codec::{Json, OpCodec},
            file::schema::TABLES,
            frame::{Entry, Frame, KEY_BYTES, Packer},
            intent::{Intent, IntentOp},
            log::sums::signed,
            outcomes::{Results, only},
            withdraw::Withdrawn,
        },
        rules::outcome::{End, OpId, Outcome},
    };

    /// A file of one log with one shard, 3.
    fn file() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        put_views(&connection).unwrap();
        connection.execute_batch("INSERT INTO roundlot_logs VALUES ('orders', 0, 4, 1, 0)").unwrap();
        connection.execute_batch("INSERT INTO roundlot_shards VALUES (3, 1, 0, 0, 0, 0, 0)").unwrap();
        connection
    }

    fn rows<V>(
        connection: &Connection,
        sql: &str,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<V>,
    ) -> Vec<V> {
        connection.prepare(sql).unwrap().query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    /// Numbers of all lengths that the log has.
    fn number() -> impl Strategy<Value = u64> {
        (0..63_u32, any::<u64>()).prop_map(|(bits, number)| number >> 2 >> bits)
    }

    fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let entry = (0..3_u8, number(), number(), 0..300_u32, any::<bool>());
        // Most entries follow the one before, so that no number of theirs is in the frame.
        let withdraws = false;
        let entry = entry.prop_map(move |(kind, producer, number, handle, may_repeat)| match kind {
            0 => Entry { producer, number, handle, may_repeat, withdraws },
            _ => Entry { producer: 7, number: 1, handle: 1, may_repeat, withdraws },
        });
        (entry, prop::collection::vec(any::<u8>(), 0..200), any::<u8>()).prop_map(|(entry, op, kind)| match kind {
            0..32 => (Entry { may_repeat: false, withdraws: true, ..entry }, vec![kind; KEY_BYTES]),
            _ => (entry, op),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Goal: the views read frames as the log does. Method: frames of any ops and of requests, of which any are left out; a few
        /// ops are settled, by the cursor or in a run.
        #[test]
        fn ops_are_read_from_frames(
            frames in prop::collection::vec((prop::collection::vec(entry(), 1..20), any::<u32>()), 1..4),
            time in number(), cursor in 0..30_i64, run in (0..60_i64, 0..9_i64),
        ) {
            let (connection, mut first, mut expected) = (file(), 0, Vec::new());
            for (entries, gone) in &frames {
                let (mut packer, mut next) = (Packer::new(7), 1);
                for (entry, op) in entries {
                    let number = if entry.number == 1 { next } else { entry.number };
                    next = number + 1;
                    packer.push(Entry { number, ..*entry }, op);
                }
                let frame = packer.seal(first, time, 3).without(&mut |place| gone >> place & 1 == 1).unwrap();
                let row = (signed(first), signed(first + frame.count - 1), &frame.bytes[..]);
                connection.execute("INSERT INTO roundlot_frames VALUES (3, ?1, ?2, ?3, 0)", row).unwrap();
                let mut read = Frame::open(frame.bytes.clone()).unwrap().entries().unwrap();
                read.retain(|(_, entry, _)| !entry.withdraws);
                expected.extend(read.into_iter().map(|(place, entry, range)| {
                    let id = OpId::new(entry.producer, 3, entry.number).to_string();
                    (signed(first + place), id, frame.bytes[range].to_vec())
                }));
                first += frame.count;
            }
            let (start, end) = (cursor + 1 + run.0, cursor + 1 + run.0 + run.1);
            connection.execute("UPDATE roundlot_shards SET cursor = ?1", [cursor]).unwrap();
            connection.execute("INSERT INTO roundlot_settled VALUES (3, ?1, ?2, 0)", [start, end]).unwrap();
            expected.retain(|(position, ..)| *position >= cursor && !(start..=end).contains(position));
            let sql = "SELECT w.position, w.id, o.op, o.time FROM roundlot_waiting w JOIN roundlot_ops_of_frames o USING (position) \
                ORDER BY position";
            let found = rows(&connection, sql, |row| {
                assert_eq!(row.get::<_, i64>(3)?, signed(time));
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            });
            prop_assert_eq!(found, expected);
        }

        /// Goal: the views read intents as the log does. Method: intents of any ops, some with more positions than a view reads
        /// at once.
        #[test]
        fn ops_are_read_from_intents(
            ops in prop::collection::vec(
                (
                    prop_oneof![9 => prop::collection::vec(number(), 1..6), 1 => prop::collection::vec(number(), 900)],
                    0..300_u32,
                    prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
                ),
                0..12,
            ),
            schema in any::<u32>(),
        ) {
            let connection = file();
            let ops: Vec<_> = ops.into_iter().map(|(positions, attempts, op)| IntentOp { positions, attempts, op }).collect();
            let mut expected = Vec::new();
            for (op, place) in ops.iter().zip(1_i64..) {
                let positions = op.positions.iter().map(|at| (place, signed(*at), op.attempts, op.op.clone()));
                expected.extend(positions);
            }
            expected.sort_unstable();
            let intent = Intent { alone: false, schema, ops }.encode();
            connection.execute("INSERT INTO roundlot_intents VALUES (3, 9, ?1, 0)", [intent]).unwrap();
            let sql = "SELECT place, position, attempts, op FROM roundlot_ops_of_intents WHERE shard = 3 AND intent = 9";
            let mut found =
                rows(&connection, sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<Vec<u8>>>(3)?)));
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        /// Goal: the view of outcomes reads each result as the log does. Method: receipts that are alike and others, and answers to
        /// requests, which are none.
        #[test]
        fn results_are_read_from_outcomes(receipts in prop::collection::vec("a?|[a-z\n]{0,300}", 1..60)) {
            let connection = file();
            let mut results = Results::default();
            for (receipt, number) in receipts.iter().zip(5..) {
                let end = if receipt.len() % 4 == 1 { End::Conflated } else { End::Delivered };
                let outcome = Outcome { result: Ok(receipt.clone()), end, attempts: 1, latency: Duration::ZERO };
                results.push(&Json as &dyn OpCodec<String, String>, (7, number), &outcome);
                results.push_withdrawn((8, number), &Withdrawn::new(number as u32 / 4));
            }
            let mut expected = Vec::new();
            for row in results.into_rows() {
                let (first, count, producer) = (signed(row.first), signed(row.count), signed(row.producer));
                let values = (first, count, &row.result, &row.lengths, producer, row.end);
                let sql = "INSERT INTO roundlot_outcomes VALUES (3, ?5, ?1, ?2, ?6, 1, 0, 0, ?3, ?4, 0)";
                connection.execute(sql, values).unwrap();
                if row.producer == 8 {
                    continue;
                }
                expected.extend((row.first..row.first + row.count).map(|number| {
                    let row = only(&row, number).unwrap();
                    let result = String::from_utf8(row.result[1..].to_vec()).unwrap();
                    (OpId::new(7, 3, number).to_string(), row.end.to_owned(), result)
                }));
            }
            let found = rows(&connection, "SELECT id, ended, result FROM roundlot_ended", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            prop_assert_eq!(found, expected);
        }
    }

    /// Goal: times are those of the log. Method: a frame with a known one.
    #[test]
    fn a_time_is_text() {
        let (connection, mut packer) = (file(), Packer::new(7));
        packer.push(Entry { producer: 7, number: 1, handle: 1, may_repeat: false, withdraws: false }, b"buy");
        let frame = packer.seal(1, 1_700_000_000_123_456_789, 0);
        connection.execute("INSERT INTO roundlot_frames VALUES (3, 0, 0, ?1, 0)", [&frame.bytes[..]]).unwrap();
        let sql = "SELECT accepted || ' ' || op FROM roundlot_waiting";
        assert_eq!(rows(&connection, sql, |row| row.get::<_, String>(0)), ["2023-11-14 22:13:20.123 buy"]);
    }

    /// Goal: opening a file changes no view that is right, and replaces one of another version. Method: the version of the schema
    /// goes up with each change.
    #[test]
    fn views_are_made_once() {
        let connection = file();
        let version = || connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0)).unwrap();
        let made = version();
        put_views(&connection).unwrap();
        assert_eq!(version(), made);
        connection.execute_batch("DROP VIEW roundlot_ended; CREATE VIEW roundlot_ended AS SELECT 1 AS ops").unwrap();
        connection.execute_batch("DROP VIEW roundlot_waiting").unwrap();
        put_views(&connection).unwrap();
        for (name, _) in VIEWS.iter().filter(|(name, _)| *name != "roundlot_summary") {
            let count = rows(&connection, &format!("SELECT count(*) FROM {name}"), |row| row.get::<_, i64>(0));
            assert_eq!(count, [0], "{name}");
        }
    }
}
