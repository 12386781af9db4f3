UPDATE consistency_task AS t
SET lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', {lease_us} / 1000000.0))
FROM (SELECT value ->> 'id' AS id, value ->> 'version' AS version FROM json_each({rows})) AS s
WHERE t.id = s.id AND t.version = s.version AND +t.state = 1
RETURNING id, cancel_requested
