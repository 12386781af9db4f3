SELECT id, task_id, method_name, lease_owner,
    CASE WHEN cancel_requested = 1 THEN 6
         WHEN lost_times + 1 >= {crash_budget} OR execute_times >= max_execute_times THEN 4
         ELSE 3 END,
    lost_times + 1
FROM consistency_task
WHERE lease_until < UTC_TIMESTAMP(6) AND state = 1
ORDER BY lease_until
LIMIT {limit}
FOR UPDATE SKIP LOCKED
