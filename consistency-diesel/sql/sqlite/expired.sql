SELECT id, task_id, method_name, lease_owner, cancel_requested, execute_times, max_execute_times,
    lost_times, CASE WHEN order_key IS NOT NULL THEN order_policy END
FROM consistency_task
WHERE state = 1 AND lease_until <= strftime('%Y-%m-%d %H:%M:%f', 'now')
ORDER BY lease_until
LIMIT {limit}
