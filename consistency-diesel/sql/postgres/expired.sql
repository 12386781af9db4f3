SELECT id, task_id::text, method_name::text, COALESCE(lease_owner, '')::text, cancel_requested::bigint, execute_times::bigint, max_execute_times::bigint,
    lost_times::bigint, (CASE WHEN order_key IS NOT NULL THEN order_policy END)::bigint
FROM consistency_task
WHERE state = 1 AND lease_until <= (SELECT clock_timestamp())
ORDER BY lease_until
LIMIT {limit}
FOR UPDATE SKIP LOCKED
