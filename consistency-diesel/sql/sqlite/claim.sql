UPDATE consistency_task
SET state = 1, version = version % 4611686018427387903 + 1, execute_times = MIN(execute_times, 2147483646) + 1,
    lease_owner = {node}, lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', {lease_us} / 1000000.0)),
    gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE id IN (SELECT value FROM json_each({ids}))
