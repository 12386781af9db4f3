UPDATE JSON_TABLE({ids}, '$[*]' COLUMNS (id BIGINT PATH '$')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
SET t.lease_until = UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND
