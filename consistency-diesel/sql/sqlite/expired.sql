SELECT id, task_id, method_name, COALESCE(lease_owner, ''), cancel_requested, execute_times, max_execute_times,
    lost_times, CASE WHEN order_key IS NOT NULL THEN order_policy END
FROM consistency_task
WHERE id IN (
    SELECT id FROM (
        SELECT id FROM consistency_task
        WHERE state = 1 AND lease_until <= strftime('%Y-%m-%d %H:%M:%f', 'now')
        ORDER BY lease_until
        LIMIT {limit})
    -- Rows that somebody has set running by hand have no lease.
    UNION ALL SELECT id FROM (SELECT id FROM consistency_task WHERE state = 1 AND lease_until IS NULL LIMIT {limit}))
LIMIT {limit}
