UPDATE consistency_task AS t
SET state = CASE WHEN t.cancel_requested = 1 AND s.state IN (0, 3) THEN 6 ELSE s.state END,
    error_message = CASE WHEN s.state = 2 THEN NULL ELSE COALESCE(s.error, t.error_message) END,
    next_execute_time = CASE WHEN s.due_us IS NULL THEN t.next_execute_time
        ELSE strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', (s.due_us + 1999) / 1000 / 1000.0)) END,
    execute_times = MAX(0, MIN(t.execute_times, 2147483646) + s.charge),
    lost_times = CASE s.losses WHEN 0 THEN t.lost_times WHEN 1 THEN MIN(t.lost_times, 2147483646) + 1 ELSE 0 END,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM (
    SELECT value ->> 'id' AS id, value ->> 'version' AS version, value ->> 'state' AS state, value ->> 'due_us' AS due_us,
        value ->> 'charge' AS charge, value ->> 'losses' AS losses, value ->> 'error' AS error
    FROM json_each({rows})) AS s
WHERE t.id = s.id AND t.version = s.version AND +t.state = 1
RETURNING id
