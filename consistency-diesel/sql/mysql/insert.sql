INSERT INTO consistency_task (
    task_id, task_parameter, biz_id, meta, version,
    state, execute_times, next_execute_time, parameter_types, method_name, method_sign_name, execute_interval_second, delay_time,
    execute_mode, thread_way, queue, priority, max_execute_times, lease_owner, lease_until, order_key, order_policy, biz_type)
