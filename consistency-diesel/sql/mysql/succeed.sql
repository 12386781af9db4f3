UPDATE JSON_TABLE({charged_leases}, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', version BIGINT PATH '$[1]', charge BIGINT PATH '$[2]')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.state = 2, t.error_message = NULL, t.execute_times = GREATEST(0, LEAST(t.execute_times, 2147483646) + s.charge), t.lost_times = 0,
    t.lease_owner = NULL, t.lease_until = NULL, t.gmt_modified = UTC_TIMESTAMP(6)
WHERE t.version = s.version AND t.state = 1
