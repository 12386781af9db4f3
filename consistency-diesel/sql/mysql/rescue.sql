UPDATE JSON_TABLE({rows}, '$[*]' COLUMNS (
    id BIGINT PATH '$.id', state SMALLINT PATH '$.state', lost_times INTEGER PATH '$.lost_times',
    error MEDIUMTEXT COLLATE utf8mb4_bin PATH '$.error')) AS s
STRAIGHT_JOIN consistency_task t ON t.id = s.id
SET t.state = s.state, t.error_message = s.error, t.lost_times = s.lost_times,
    t.lease_owner = NULL, t.lease_until = NULL, t.gmt_modified = UTC_TIMESTAMP(6)
