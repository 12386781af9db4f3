UPDATE consistency_task AS t
SET state = s.state, error_message = s.error, lost_times = s.lost_times, version = t.version % 4611686018427387903 + 1,
    next_execute_time = CASE WHEN s.pause_us = 0 THEN t.next_execute_time
        ELSE strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', s.pause_us / 1000000.0)) END,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM (
    SELECT value ->> 'id' AS id, value ->> 'state' AS state, value ->> 'lost_times' AS lost_times, value ->> 'pause_us' AS pause_us, value ->> 'error' AS error
    FROM json_each({rows})) AS s
WHERE t.id = s.id
