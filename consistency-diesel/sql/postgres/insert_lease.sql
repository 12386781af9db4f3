{execute_times}, {lease_owner}, clock_timestamp() + {lease_us} * INTERVAL '1 microsecond'
