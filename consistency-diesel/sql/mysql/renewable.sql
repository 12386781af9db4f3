SELECT t.id, t.cancel_requested
FROM JSON_TABLE({rows}, '$[*]' COLUMNS (id BIGINT PATH '$.id', version BIGINT PATH '$.version')) AS s
STRAIGHT_JOIN consistency_task t FORCE INDEX (PRIMARY) ON t.id = s.id
WHERE t.version = s.version AND t.state = 1
ORDER BY t.id
FOR UPDATE SKIP LOCKED
