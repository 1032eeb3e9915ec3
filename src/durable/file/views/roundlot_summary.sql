-- The state of each shard in numbers, which are there at once however many ops wait. `batches_in_doubt` counts the batches that
-- may have been sent, those that are being written included. `bytes` are those of frames. With a ledger in PostgreSQL, what is
-- in doubt, has ended or is dead is there, and `waiting` counts ops that have ended until all before them have. Where several
-- processes share the file, `waiting` and `ended` count their requests to withdraw ops, too.
SELECT l.name AS log, s.shard & 65535 AS shard, s.paused,
    s.next - s.cursor - coalesce((SELECT sum(last - first + 1) FROM roundlot_settled d WHERE d.shard = s.shard), 0) AS waiting,
    (SELECT count(*) FROM roundlot_intents i WHERE i.shard = s.shard) AS batches_in_doubt,
    (SELECT coalesce(sum(count), 0) FROM roundlot_outcomes o WHERE o.shard = s.shard) AS ended,
    (SELECT count(*) FROM roundlot_letters d WHERE d.shard = s.shard) AS dead_letters,
    (SELECT count(*) FROM roundlot_frames f WHERE f.shard = s.shard) AS frames,
    (SELECT coalesce(sum(length(bytes)), 0) FROM roundlot_frames f WHERE f.shard = s.shard) AS bytes
FROM roundlot_shards s JOIN roundlot_logs l ON l.log = s.shard >> 16
