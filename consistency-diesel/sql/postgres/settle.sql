UPDATE consistency_task t
SET state = CASE WHEN t.cancel_requested = 1 AND s.state IN (0, 3) THEN 6 ELSE s.state END,
    error_message = CASE WHEN s.state = 2 THEN NULL ELSE COALESCE(s.error, t.error_message) END,
    next_execute_time = CASE WHEN s.due_us IS NULL THEN t.next_execute_time ELSE clock_timestamp() + s.due_us * INTERVAL '1 microsecond' END,
    execute_times = GREATEST(0, LEAST(GREATEST(0, t.execute_times), 2147483646) + s.charge),
    lost_times = CASE s.losses WHEN 0 THEN t.lost_times WHEN 1 THEN LEAST(t.lost_times, 2147483646) + 1 ELSE 0 END,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
FROM json_to_recordset({rows}::json) AS s(
    id BIGINT, version BIGINT, state SMALLINT, due_us BIGINT, charge INTEGER, losses SMALLINT, error TEXT)
WHERE t.id = s.id AND t.version = s.version AND t.state + 0 = 1
RETURNING t.id
