    -- The proof that the caller's transaction is open: without it the state is none, which its type refuses. (A column that refuses
    -- NULL would have the server log the row.)
    CASE WHEN {guarded} = 0 OR current_setting('consistency.proof', true) = 'open' THEN {state} ELSE -1 END,
    {execute_times},
    COALESCE(
        TIMESTAMPTZ 'epoch' + {due_at_us} * INTERVAL '1 microsecond',
        clock_timestamp() + {delay_us} * INTERVAL '1 microsecond'),
    {parameter_types}, {method_name}, {method_sign_name}, {execute_interval_second}, {delay_time},
    {execute_mode}, {thread_way}, {queue}, {priority}, {max_execute_times}, {lease_owner},
    clock_timestamp() + {lease_us} * INTERVAL '1 microsecond', {order_key}, {order_policy}, {biz_type}
