    {state}, {execute_times},
    COALESCE(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL {due_at_us} MICROSECOND, UTC_TIMESTAMP(6) + INTERVAL {delay_us} MICROSECOND),
    {parameter_types}, {method_name}, {method_sign_name}, {execute_interval_second}, {delay_time},
    {execute_mode}, {thread_way}, {queue}, {priority}, {max_execute_times}, {lease_owner},
    UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND, {order_key}, {order_policy}, {biz_type}
