SELECT id, task_id, method_name, lease_owner, cancel_requested, execute_times, max_execute_times,
    lost_times, CASE WHEN order_key IS NOT NULL THEN order_policy END
FROM consistency_task
WHERE lease_until <= UTC_TIMESTAMP(6) AND state = 1
ORDER BY lease_until
LIMIT {limit}
FOR UPDATE SKIP LOCKED
