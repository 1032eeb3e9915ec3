-- Each op that may have been sent and has not ended, as it is sent. `intent` is the number of its batch. An op that others were
-- merged into has the ids and positions of all of them.
WITH
ops AS MATERIALIZED (SELECT shard, intent, place, position, attempts, op FROM roundlot_ops_of_intents),
waiting AS MATERIALIZED (SELECT log, shard, position, id, op FROM roundlot_waiting WHERE in_doubt),
-- An op that was tried again may be named by two intents: the newest one counts.
newest AS (
    SELECT shard, first, max(intent) AS intent, place
    FROM (SELECT shard, intent, place, min(position) AS first FROM ops GROUP BY shard, intent, place) GROUP BY shard, first
)
SELECT log, shard, intent, group_concat(id, ' ') AS ids, group_concat(position, ' ') AS positions, attempts,
    coalesce(max(sent), max(op)) AS op
FROM (
    SELECT w.log, w.shard, o.intent, n.first, w.id, w.position, o.attempts, CAST(o.op AS TEXT) AS sent,
        -- Where the intent has no op, it is sent as the frame of its first position has it.
        CASE WHEN w.position = n.first THEN w.op END AS op
    FROM newest n JOIN ops o ON o.shard = n.shard AND o.intent = n.intent AND o.place = n.place
        JOIN waiting w ON w.shard = o.shard AND w.position = o.position
    ORDER BY o.shard, o.intent, n.first, o.position
)
GROUP BY shard, intent, first
