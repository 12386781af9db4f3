SELECT queue, priority, MAX(0, CAST(ROUND((julianday(due) - julianday('now')) * 86400000.0) AS INTEGER)) * 1000
FROM (
    SELECT q.value AS queue, p.value AS priority,
        (SELECT t.next_execute_time FROM consistency_task t
         WHERE t.queue = q.value AND t.priority = p.value AND t.state IN (0, 3)
         ORDER BY t.next_execute_time LIMIT 1) AS due
    FROM json_each({queues}) AS q, json_each('[0,1,2,3,4,5,6,7,8,9]') AS p)
WHERE due IS NOT NULL
UNION ALL
SELECT '', -1, MAX(0, CAST(ROUND((julianday(lease_until) - julianday('now')) * 86400000.0) AS INTEGER)) * 1000
FROM (SELECT lease_until FROM consistency_task WHERE state = 1 AND lease_until > '' ORDER BY lease_until LIMIT 1)
