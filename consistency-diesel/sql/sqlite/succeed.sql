UPDATE consistency_task AS t
SET state = 2, error_message = NULL, execute_times = MAX(0, MIN(t.execute_times, 2147483646) + (t.id IN (SELECT value FROM json_each({charged})))), lost_times = 0,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM json_each({versions_by_id}) AS s
WHERE t.id = CAST(s.key AS INTEGER) AND t.version = s.value AND +t.state = 1
