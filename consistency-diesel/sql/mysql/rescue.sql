UPDATE JSON_TABLE({rows}, '$[*]' COLUMNS (
    id BIGINT PATH '$.id', state SMALLINT PATH '$.state', lost_times INTEGER PATH '$.lost_times', pause_us BIGINT PATH '$.pause_us',
    error MEDIUMTEXT COLLATE utf8mb4_bin PATH '$.error')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.state = s.state, t.error_message = s.error, t.lost_times = s.lost_times, t.version = t.version % 4611686018427387903 + 1,
    t.next_execute_time = CASE WHEN s.pause_us = 0 THEN t.next_execute_time ELSE UTC_TIMESTAMP(6) + INTERVAL s.pause_us MICROSECOND END,
    t.lease_owner = NULL, t.lease_until = NULL, t.gmt_modified = UTC_TIMESTAMP(6)
