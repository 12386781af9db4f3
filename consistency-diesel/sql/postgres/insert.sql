INSERT INTO consistency_task (
    task_id, state, execute_times, next_execute_time, parameter_types, method_name, method_sign_name,
    execute_interval_second, delay_time, task_parameter, execute_mode, thread_way, queue, priority, max_execute_times,
    version, lease_owner, lease_until, order_key, order_policy, biz_type, biz_id, meta)
SELECT
    r.task_id,
    CASE WHEN r.leased THEN 1 ELSE 0 END,
    CASE WHEN r.leased AND r.max_execute_times IS NOT NULL THEN 1 ELSE 0 END,
    COALESCE(
        TIMESTAMPTZ 'epoch' + r.due_at_us * INTERVAL '1 microsecond',
        clock_timestamp() + r.delay_us * INTERVAL '1 microsecond'),
    r.parameter_types, r.method_name, r.method_sign_name,
    r.execute_interval_second, r.delay_time, r.task_parameter, r.execute_mode, r.thread_way, r.queue, r.priority, r.max_execute_times,
    CASE WHEN r.leased THEN r.first_version ELSE 0 END,
    CASE WHEN r.leased THEN {node} END,
    CASE WHEN r.leased THEN clock_timestamp() + {lease_us} * INTERVAL '1 microsecond' END,
    r.order_key, r.order_policy, r.biz_type, r.biz_id, r.meta
FROM json_to_recordset({rows}::json) AS r(
    task_id TEXT, leased BOOLEAN, first_version BIGINT, due_at_us BIGINT, delay_us BIGINT, parameter_types TEXT, method_name TEXT, method_sign_name TEXT,
    execute_interval_second INTEGER, delay_time INTEGER, task_parameter TEXT, execute_mode SMALLINT, thread_way SMALLINT, queue TEXT,
    priority SMALLINT, max_execute_times INTEGER, order_key TEXT, order_policy SMALLINT, biz_type TEXT, biz_id TEXT, meta TEXT)
WHERE {guarded} = 0 OR current_setting('consistency.proof', true) = 'open'
ON CONFLICT (task_id) DO NOTHING
RETURNING id, task_id::text
