-- Each op that has ended, until its outcome is forgotten. `result` is the receipt or the error. A result that begins with 3 is that
-- of a request to withdraw ops, which is no op.
WITH RECURSIVE
-- The parts of rows whose ops did not end alike: a line of JSON and what is behind it, or no line and all that is left.
parts(outcome, first, line, rest) AS (
    SELECT rowid, first, NULL, result FROM roundlot_outcomes WHERE ended = 'mixed'
    UNION ALL
    SELECT outcome, CASE WHEN line IS NULL THEN first ELSE first + json_extract(line, '$[0]') END,
        CASE WHEN line IS NULL THEN CAST(substr(rest, 1, instr(rest, x'0A') - 1) AS TEXT) END,
        CASE WHEN line IS NULL THEN substr(rest, instr(rest, x'0A') + 1)
            ELSE substr(rest, 1 + json_extract(line, '$[4]') + json_extract(line, '$[5]')) END
    FROM parts WHERE length(rest) > 0
),
-- Rows of ops that ended alike.
alike(outcome, first, count, ended, attempts, lengths, result) AS (
    SELECT rowid, first, count, ended, attempts, lengths, result FROM roundlot_outcomes WHERE ended <> 'mixed'
    UNION ALL
    SELECT outcome, first, json_extract(line, '$[0]'), json_extract(line, '$[1]'), json_extract(line, '$[2]'),
        substr(rest, 1, json_extract(line, '$[4]')), substr(rest, 1 + json_extract(line, '$[4]'), json_extract(line, '$[5]'))
    FROM parts WHERE line IS NOT NULL
),
-- A row per op, or per byte of its length where results differ. The result of an op begins behind `at` bytes.
ops(outcome, first, count, place, at, rest, more, shift, length) AS (
    SELECT outcome, first, count, -1, 0, lengths, 0, 0, 0 FROM alike
    UNION ALL
    SELECT outcome, first, count, place + NOT more, CASE WHEN more THEN at ELSE at + length + 1 END, substr(rest, 2),
        hex(substr(rest, 1, 1)) >= '80', CASE WHEN more THEN shift + 7 ELSE 0 END,
        CASE WHEN more THEN length ELSE 0 END + ((instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 1, 1)) * 16
            + instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 2, 1)) - 17 & 127)
            << CASE WHEN more THEN shift + 7 ELSE 0 END)
    FROM ops WHERE more OR place + 1 < count ORDER BY 1, 2 LIMIT -1
)
SELECT l.name AS log, o.shard & 65535 AS shard, o.producer || '-' || (o.shard & 65535) || '-' || (a.first + p.place) AS id,
    a.ended, a.attempts, strftime('%Y-%m-%d %H:%M:%f', o.at / 1e9, 'unixepoch') AS at,
    CAST(CASE length(a.lengths) WHEN 0 THEN substr(a.result, 2) ELSE substr(a.result, p.at + 1, p.length) END AS TEXT) AS result
FROM ops p JOIN alike a ON a.outcome = p.outcome AND a.first = p.first JOIN roundlot_outcomes o ON o.rowid = p.outcome
    JOIN roundlot_logs l ON l.log = o.shard >> 16
WHERE p.place >= 0 AND NOT p.more AND substr(a.result, 1, 1) <> x'03'
ORDER BY o.shard, o.at, o.producer, a.first + p.place
