-- Each dead letter.
SELECT l.name AS log, d.shard & 65535 AS shard, d.producer || '-' || (d.shard & 65535) || '-' || d.number AS id, d.ended,
    d.attempts, strftime('%Y-%m-%d %H:%M:%f', d.at / 1e9, 'unixepoch') AS at, CAST(d.op AS TEXT) AS op,
    CAST(d.error AS TEXT) AS error
FROM roundlot_letters d JOIN roundlot_logs l ON l.log = d.shard >> 16
