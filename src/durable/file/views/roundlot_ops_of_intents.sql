-- Each op of each intent, with a row per position that it stands for: the other views are made of it. `op` is null where the op
-- is sent as its frame has it.
WITH RECURSIVE
-- An intent is read from its front, a byte per row, as a frame is. `part` is some of what follows. `place` counts the ops of
-- the intent, and `left` the positions of one that are still to come.
bytes(intent, until, at, part, field, more, shift, value, place, left, attempts) AS (
    SELECT rowid, length(intent), 1, substr(intent, 2, 4000), 'version', 0, 0, 1, 0, 0, 0 FROM roundlot_intents
    UNION ALL
    SELECT intent, until,
        at + CASE WHEN NOT more AND field = 'length' THEN max(value, 0) ELSE 1 END,
        CASE WHEN NOT more AND field = 'length'
            THEN (SELECT substr(intent, at + value + 1, 4000) FROM roundlot_intents i WHERE i.rowid = bytes.intent)
            WHEN length(part) < 2
            THEN (SELECT substr(intent, at + 2, 4000) FROM roundlot_intents i WHERE i.rowid = bytes.intent)
            ELSE substr(part, 2) END,
        CASE WHEN more THEN field
            WHEN field = 'count' AND value > 0 OR field = 'position' AND left > 1 THEN 'position'
            ELSE CASE field WHEN 'version' THEN 'alone' WHEN 'alone' THEN 'schema' WHEN 'schema' THEN 'ops'
                WHEN 'count' THEN 'attempts' WHEN 'position' THEN 'attempts' WHEN 'attempts' THEN 'has op'
                WHEN 'has op' THEN CASE WHEN value THEN 'length' ELSE 'count' END WHEN 'length' THEN 'op'
                ELSE 'count' END
        END,
        (more OR field <> 'length') AND hex(substr(part, 1, 1)) >= '80',
        CASE WHEN more THEN shift + 7 ELSE 0 END,
        CASE WHEN more THEN value ELSE 0 END + ((instr('0123456789ABCDEF', substr(hex(substr(part, 1, 1)), 1, 1)) * 16
            + instr('0123456789ABCDEF', substr(hex(substr(part, 1, 1)), 2, 1)) - 17 & 127)
            << CASE WHEN more THEN shift + 7 ELSE 0 END),
        place + (NOT more AND field = 'count'),
        CASE WHEN more THEN left WHEN field = 'count' THEN value WHEN field = 'position' THEN left - 1 ELSE left END,
        CASE WHEN field = 'attempts' THEN value ELSE attempts END
    FROM bytes WHERE at < until ORDER BY 1 LIMIT -1
),
positions AS (SELECT intent, place, value AS position FROM bytes WHERE field = 'position' AND NOT more),
ops AS (
    SELECT intent, place, attempts, at, CASE field WHEN 'length' THEN value END AS length FROM bytes
    WHERE field = 'length' AND NOT more OR field = 'has op' AND value = 0
)
SELECT i.shard, i.number AS intent, o.place, p.position, o.attempts,
    CASE WHEN o.length IS NOT NULL THEN substr(i.intent, o.at + 1, o.length) END AS op
FROM ops o JOIN positions p ON p.intent = o.intent AND p.place = o.place JOIN roundlot_intents i ON i.rowid = o.intent
