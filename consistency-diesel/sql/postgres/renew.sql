UPDATE consistency_task
SET lease_until = clock_timestamp() + {lease_us} * INTERVAL '1 microsecond'
WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM json_to_recordset({rows}::json) AS s(id BIGINT, version BIGINT)
    JOIN consistency_task t ON t.id = s.id
    WHERE t.version = s.version AND t.state + 0 = 1
    ORDER BY t.id
    FOR UPDATE OF t SKIP LOCKED))
RETURNING id, cancel_requested::bigint
