SELECT id, gmt_create, gmt_modified, task_id, state, execute_times, next_execute_time, parameter_types, method_name, method_sign_name,
    execute_interval_second, delay_time, task_parameter, execute_mode, thread_way, error_message, lost_times, queue, priority,
    max_execute_times, version, lease_owner, lease_until, order_key, biz_type, biz_id, cancel_requested, meta, order_policy,
    claim_line, claim_place, order_place
FROM consistency_task WHERE 1 = 0
