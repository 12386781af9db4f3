UPDATE JSON_TABLE({rows}, '$[*]' COLUMNS (
    id BIGINT PATH '$.id', version BIGINT PATH '$.version', state SMALLINT PATH '$.state', due_us BIGINT PATH '$.due_us',
    charge INTEGER PATH '$.charge', losses SMALLINT PATH '$.losses',
    error MEDIUMTEXT COLLATE utf8mb4_bin PATH '$.error')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.state = CASE WHEN t.cancel_requested = 1 AND s.state IN (0, 3) THEN 6 ELSE s.state END,
    t.error_message = CASE WHEN s.state = 2 THEN NULL ELSE COALESCE(s.error, t.error_message) END,
    t.next_execute_time = CASE WHEN s.due_us IS NULL THEN t.next_execute_time ELSE UTC_TIMESTAMP(6) + INTERVAL s.due_us MICROSECOND END,
    t.execute_times = GREATEST(0, LEAST(t.execute_times, 2147483646) + s.charge),
    t.lost_times = CASE s.losses WHEN 0 THEN t.lost_times WHEN 1 THEN LEAST(t.lost_times, 2147483646) + 1 ELSE 0 END,
    t.lease_owner = NULL, t.lease_until = NULL, t.gmt_modified = UTC_TIMESTAMP(6)
WHERE t.version = s.version AND t.state = 1
