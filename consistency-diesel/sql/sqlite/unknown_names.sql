SELECT DISTINCT method_name
FROM (
    SELECT method_name FROM consistency_task
    WHERE queue = {queue} AND priority = {priority} AND state IN (0, 3)
      AND next_execute_time <= strftime('%Y-%m-%d %H:%M:%f', 'now')
      AND method_name NOT IN (SELECT value FROM json_each({names}))
    LIMIT 1000)
LIMIT {limit}
