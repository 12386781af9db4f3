SELECT t.id
FROM JSON_TABLE({rows}, '$[*]' COLUMNS (
    id BIGINT PATH '$.id', version BIGINT PATH '$.version', state SMALLINT PATH '$.state')) AS s
STRAIGHT_JOIN consistency_task t ON t.id = s.id
WHERE t.version = s.version AND (t.state = s.state OR (t.state = 6 AND s.state IN (0, 3)))
