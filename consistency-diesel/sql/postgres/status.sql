SELECT id, task_id::text, method_name::text, state::bigint, execute_times::bigint, lost_times::bigint, error_message, lease_owner::text,
    GREATEST(0, CEIL(EXTRACT(EPOCH FROM LEAST(GREATEST(next_execute_time, '1000-01-01 00:00:00+00'), '9999-12-31 00:00:00+00') - clock_timestamp()) * 1000000))::bigint
FROM consistency_task WHERE task_id = {task_id}
