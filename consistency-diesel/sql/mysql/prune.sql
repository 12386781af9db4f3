DELETE t FROM JSON_TABLE({ids}, '$[*]' COLUMNS (id BIGINT PATH '$')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
