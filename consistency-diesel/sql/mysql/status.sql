SELECT id, task_id, method_name, state, execute_times, lost_times, error_message, NULLIF(lease_owner, ''),
    GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_execute_time))
FROM consistency_task WHERE task_id = {task_id}
