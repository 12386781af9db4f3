SELECT t.id
FROM json_to_recordset({rows}::json) AS s(id BIGINT, version BIGINT, state SMALLINT)
JOIN consistency_task t ON t.id = s.id
WHERE t.version = s.version AND (t.state = s.state OR (t.state = 6 AND s.state IN (0, 3)))
