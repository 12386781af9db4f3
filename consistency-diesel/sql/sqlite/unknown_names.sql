SELECT DISTINCT n.method_name
FROM (
    SELECT method_name FROM consistency_task
    WHERE queue = {queue} AND priority = {priority} AND (CASE WHEN execute_mode = 2 AND thread_way = 2 THEN 1 ELSE 0 END) = {share} AND state IN (0, 3)
      AND next_execute_time <= strftime('%Y-%m-%d %H:%M:%f', 'now')
    ORDER BY next_execute_time
    LIMIT 10000) AS n
WHERE n.method_name NOT IN (SELECT value FROM json_each({names}))
LIMIT {limit}
