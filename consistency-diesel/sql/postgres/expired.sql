SELECT id, task_id::text, method_name::text, COALESCE(lease_owner, '')::text, cancel_requested::bigint, execute_times::bigint, max_execute_times::bigint,
    lost_times::bigint, (CASE WHEN order_key IS NOT NULL THEN order_policy END)::bigint
FROM consistency_task
WHERE id = ANY (
    -- Rows that somebody has set running by hand have no lease, or none that ends. (Sorted as the index is, for the planner to take it.)
    ARRAY(
        SELECT id FROM consistency_task
        WHERE state = 1 AND lease_until IS NULL
        ORDER BY lease_until NULLS FIRST
        LIMIT {limit}
        FOR UPDATE SKIP LOCKED)
    || ARRAY(
        SELECT id FROM consistency_task
        WHERE state = 1 AND lease_until = 'infinity'
        ORDER BY lease_until NULLS FIRST
        LIMIT {limit}
        FOR UPDATE SKIP LOCKED)
    || ARRAY(
        SELECT id FROM consistency_task
        WHERE state = 1 AND lease_until <= (SELECT clock_timestamp())
        ORDER BY lease_until NULLS FIRST
        LIMIT {limit}
        FOR UPDATE SKIP LOCKED))
LIMIT {limit}
-- They are locked already: what they say now.
FOR UPDATE
