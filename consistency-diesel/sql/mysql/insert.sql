INSERT INTO consistency_task (
    task_id, state, execute_times, next_execute_time, parameter_types, method_name, method_sign_name,
    execute_interval_second, delay_time, task_parameter, execute_mode, thread_way, queue, priority, max_execute_times,
    version, lease_owner, lease_until, order_key, order_policy, biz_type, biz_id, meta)
VALUES 
