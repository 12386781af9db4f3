UPDATE consistency_task FORCE INDEX (PRIMARY)
SET state = 1, version = version % 4611686018427387903 + 1, execute_times = LEAST(execute_times, 2147483646) + 1,
    lease_owner = {node}, lease_until = UTC_TIMESTAMP(6) + INTERVAL {lease_us} MICROSECOND, gmt_modified = UTC_TIMESTAMP(6)
WHERE id IN ({id_list})
