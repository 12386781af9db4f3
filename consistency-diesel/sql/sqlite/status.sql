SELECT id, task_id, method_name, state, execute_times, lost_times, error_message, lease_owner,
    MAX(0, CAST(ROUND((julianday(next_execute_time) - julianday('now')) * 86400000.0) AS INTEGER)) * 1000
FROM consistency_task WHERE task_id = {task_id}
