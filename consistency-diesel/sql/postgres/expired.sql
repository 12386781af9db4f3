SELECT id, task_id::text, method_name::text, lease_owner::text,
    (CASE WHEN cancel_requested = 1 THEN 6
          WHEN lost_times + 1 >= {crash_budget} OR execute_times >= max_execute_times THEN 4
          ELSE 3 END)::bigint,
    (lost_times + 1)::bigint
FROM consistency_task
WHERE state = 1 AND lease_until < (SELECT clock_timestamp())
ORDER BY lease_until
LIMIT {limit}
FOR UPDATE SKIP LOCKED
