UPDATE JSON_TABLE({ids}, '$[*]' COLUMNS (id BIGINT PATH '$')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.state = 1, t.version = (t.version + 1) % 4611686018427387904, t.execute_times = LEAST(t.execute_times, 2147483646) + 1,
    t.lease_owner = {node}, t.lease_until = UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND, t.gmt_modified = UTC_TIMESTAMP(6)
