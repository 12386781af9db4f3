UPDATE JSON_TABLE({ids}, '$[*]' COLUMNS (id BIGINT PATH '$')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id AND t.order_key IS NOT NULL
STRAIGHT_JOIN consistency_task r FORCE INDEX (consistency_task_order) ON r.order_place = CONCAT('runs ', t.order_key) AND r.id <> t.id
SET r.gmt_modified = UTC_TIMESTAMP(6)
