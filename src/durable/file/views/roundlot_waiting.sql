-- Each op that has not ended, in the order of the log. `in_doubt` is 1 where the op may have been sent. An op that repeats an id
-- is a row of its own until the log knows what it repeats. With a ledger in PostgreSQL, which has the intents, `in_doubt` is 0,
-- and ops that have ended stay until their frame is removed.
SELECT l.name AS log, s.shard & 65535 AS shard, o.position, o.producer || '-' || (s.shard & 65535) || '-' || o.number AS id,
    strftime('%Y-%m-%d %H:%M:%f', o.time / 1e9, 'unixepoch') AS accepted,
    (o.shard, o.position) IN (SELECT shard, position FROM roundlot_ops_of_intents) AS in_doubt, CAST(o.op AS TEXT) AS op
FROM roundlot_ops_of_frames o JOIN roundlot_shards s ON s.shard = o.shard JOIN roundlot_logs l ON l.log = s.shard >> 16
WHERE o.position >= s.cursor AND o.position > coalesce((
    SELECT d.last FROM roundlot_settled d WHERE d.shard = o.shard AND d.first <= o.position ORDER BY d.first DESC LIMIT 1
), -1)
ORDER BY o.shard, o.position
