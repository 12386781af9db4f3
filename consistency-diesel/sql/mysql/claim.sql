UPDATE JSON_TABLE({ids}, '$[*]' COLUMNS (id BIGINT PATH '$')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.state = 1, t.version = t.version + 1, t.execute_times = t.execute_times + 1,
    t.lease_owner = {node}, t.lease_until = UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND, t.gmt_modified = UTC_TIMESTAMP(6)
