{execute_times}, {lease_owner}, UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND
