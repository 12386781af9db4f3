SELECT t.id, t.cancel_requested::bigint
FROM json_to_recordset({rows}::json) AS s(id BIGINT, version BIGINT)
JOIN consistency_task t ON t.id = s.id
WHERE t.version = s.version AND t.state + 0 = 1
