INSERT INTO consistency_task (
    task_id, state, execute_times, next_execute_time, parameter_types, method_name, method_sign_name,
    execute_interval_second, delay_time, task_parameter, execute_mode, thread_way, queue, priority, max_execute_times,
    version, lease_owner, lease_until, order_key, order_policy, biz_type, biz_id, meta)
SELECT
    r.value ->> 'task_id',
    r.value ->> 'leased',
    (r.value ->> 'leased') AND (r.value ->> 'max_execute_times') IS NOT NULL,
    CASE
        WHEN (r.value ->> 'due_at_us') IS NOT NULL
            THEN strftime('%Y-%m-%d %H:%M:%f', ((r.value ->> 'due_at_us') + 999) / 1000 / 1000.0, 'unixepoch')
        WHEN (r.value ->> 'delay_us') = 0 THEN strftime('%Y-%m-%d %H:%M:%f', 'now')
        -- SQLite's clock has milliseconds and cuts the rest off: one more, so that nothing runs early.
        ELSE strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', ((r.value ->> 'delay_us') + 1999) / 1000 / 1000.0))
    END,
    r.value ->> 'parameter_types', r.value ->> 'method_name', r.value ->> 'method_sign_name',
    r.value ->> 'execute_interval_second', r.value ->> 'delay_time', r.value ->> 'task_parameter', r.value ->> 'execute_mode',
    r.value ->> 'thread_way', r.value ->> 'queue', r.value ->> 'priority', r.value ->> 'max_execute_times',
    CASE WHEN r.value ->> 'leased' THEN r.value ->> 'first_version' ELSE 0 END,
    CASE WHEN r.value ->> 'leased' THEN {node} END,
    CASE WHEN r.value ->> 'leased' THEN strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', {lease_us} / 1000000.0)) END,
    r.value ->> 'order_key', r.value ->> 'order_policy', r.value ->> 'biz_type', r.value ->> 'biz_id', r.value ->> 'meta'
FROM json_each({rows}) AS r
WHERE true
ON CONFLICT (task_id) DO NOTHING
RETURNING id, task_id
