-- Each op that has ended, until its outcome is forgotten. `result` is the receipt or the error. A result that begins with 3 is that
-- of a request to withdraw ops, which is no op.
WITH RECURSIVE
-- A row per op, or per byte of its length where results differ. The result of an op begins behind `at` bytes.
ops(outcome, count, place, at, rest, more, shift, length) AS (
    SELECT rowid, count, -1, 0, lengths, 0, 0, 0 FROM roundlot_outcomes
    UNION ALL
    SELECT outcome, count, place + NOT more, CASE WHEN more THEN at ELSE at + length + 1 END, substr(rest, 2),
        hex(substr(rest, 1, 1)) >= '80', CASE WHEN more THEN shift + 7 ELSE 0 END,
        CASE WHEN more THEN length ELSE 0 END + ((instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 1, 1)) * 16
            + instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 2, 1)) - 17 & 127)
            << CASE WHEN more THEN shift + 7 ELSE 0 END)
    FROM ops WHERE more OR place + 1 < count ORDER BY 1 LIMIT -1
)
SELECT l.name AS log, o.shard & 65535 AS shard, o.producer || '-' || (o.shard & 65535) || '-' || (o.first + p.place) AS id,
    o.ended, o.attempts, strftime('%Y-%m-%d %H:%M:%f', o.at / 1e9, 'unixepoch') AS at,
    CAST(CASE length(o.lengths) WHEN 0 THEN substr(o.result, 2) ELSE substr(o.result, p.at + 1, p.length) END AS TEXT) AS result
FROM ops p JOIN roundlot_outcomes o ON o.rowid = p.outcome JOIN roundlot_logs l ON l.log = o.shard >> 16
WHERE p.place >= 0 AND NOT p.more AND substr(o.result, 1, 1) <> x'03'
ORDER BY o.shard, o.at, o.producer, o.first + p.place
