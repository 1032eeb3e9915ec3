-- Each op of each frame, settled or not: the other views are made of it. A request to withdraw ops is none.
WITH RECURSIVE
nibbles(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM nibbles WHERE i < 16),
-- A frame is read from its front, a byte per row. `field` names the number that the byte belongs to: seven bits of it, the lowest
-- first, and more follow if the eighth bit is set. `value` is the number in its last row. The time and the bytes of an op are
-- rows of their own. `rest` is what follows, as far as numbers go. One frame is read after the other, which is faster: without a
-- limit, SQLite leaves the order out.
bytes(frame, until, at, rest, field, more, shift, value, flags, place, sender, producer, number, time) AS (
    SELECT rowid, length(bytes) - 8, 1, substr(bytes, 2, 80), 'version', 0, 0, 1, 0, -1, 0, 0, 0, 0 FROM roundlot_frames
    UNION ALL
    SELECT frame, until,
        at + CASE WHEN more THEN 1 WHEN field = 'length' THEN max(value, 0) WHEN field = 'frame' THEN 8 ELSE 1 END,
        CASE WHEN NOT more AND field = 'length'
            THEN (SELECT substr(bytes, at + value + 1, 40) FROM roundlot_frames f WHERE f.rowid = frame)
            ELSE substr(rest, CASE WHEN NOT more AND field = 'frame' THEN 9 ELSE 2 END) END,
        CASE WHEN more THEN field
            WHEN field = 'flags' AND value = 16 THEN 'gone'
            WHEN field = 'flags' AND value & 1 THEN 'number'
            WHEN field = 'flags' AND value & 2 OR field = 'number' AND flags & 2 THEN 'producer'
            WHEN field = 'flags' AND value & 8 OR field IN ('number', 'producer') AND flags & 8 THEN 'handle'
            WHEN field IN ('flags', 'number', 'producer', 'handle') THEN 'length'
            ELSE CASE field WHEN 'length' THEN 'op' WHEN 'version' THEN 'sender' WHEN 'sender' THEN 'frame'
                WHEN 'frame' THEN 'time' WHEN 'time' THEN 'schema' WHEN 'schema' THEN 'count' ELSE 'flags' END
        END,
        (more OR field NOT IN ('length', 'frame')) AND hex(substr(rest, 1, 1)) >= '80',
        CASE WHEN more THEN shift + 7 ELSE 0 END,
        CASE WHEN more THEN value ELSE 0 END + ((instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 1, 1)) * 16
            + instr('0123456789ABCDEF', substr(hex(substr(rest, 1, 1)), 2, 1)) - 17 & 127)
            << CASE WHEN more THEN shift + 7 ELSE 0 END),
        CASE WHEN field = 'flags' THEN value ELSE flags END,
        place + CASE WHEN more THEN 0 WHEN field = 'gone' THEN value WHEN field = 'flags' AND value <> 16 THEN 1 ELSE 0 END,
        CASE WHEN field = 'sender' THEN value ELSE sender END,
        CASE WHEN more THEN producer WHEN field = 'flags' THEN sender WHEN field = 'producer' THEN value ELSE producer END,
        CASE WHEN more THEN number WHEN field = 'flags' AND value <> 16 THEN number + 1 WHEN field = 'number' THEN value
            ELSE number END,
        CASE WHEN NOT more AND field = 'frame' THEN (SELECT sum((instr('0123456789ABCDEF', substr(hex(rest), i, 1)) - 1)
            << (i - 1) / 2 * 8 + i % 2 * 4) FROM nibbles) ELSE time END
    FROM bytes WHERE at < until ORDER BY 1 LIMIT -1
)
SELECT f.shard, f.first + b.place AS position, b.producer, b.number, b.time, substr(f.bytes, b.at + 1, b.value) AS op
FROM bytes b JOIN roundlot_frames f ON f.rowid = b.frame WHERE b.field = 'length' AND NOT b.more
    AND NOT b.flags & 32
