UPDATE consistency_task t
SET state = s.state, error_message = s.error, lost_times = s.lost_times, version = t.version % 4611686018427387903 + 1,
    next_execute_time = CASE WHEN s.pause_us = 0 THEN t.next_execute_time ELSE clock_timestamp() + s.pause_us * INTERVAL '1 microsecond' END,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
FROM json_to_recordset({rows}::json) AS s(id BIGINT, state SMALLINT, lost_times INTEGER, pause_us BIGINT, error TEXT)
WHERE t.id = s.id
