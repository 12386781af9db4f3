{delay_time}, COALESCE(
    TIMESTAMPTZ 'epoch' + {due_at_us} * INTERVAL '1 microsecond',
    clock_timestamp() + {delay_us} * INTERVAL '1 microsecond')
