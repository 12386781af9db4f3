SELECT queue, priority, share, MAX(0, CAST(ROUND((julianday(due) - julianday('now')) * 86400000.0) AS INTEGER)) * 1000
FROM (
    SELECT q.value AS queue, p.value AS priority, s.value AS share,
        (SELECT t.next_execute_time FROM consistency_task t
         WHERE t.queue = q.value AND t.priority = p.value AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = s.value AND t.state IN (0, 3)
         ORDER BY t.next_execute_time LIMIT 1) AS due
    FROM json_each({queues}) AS q, json_each('[0,1,2,3,4,5,6,7,8,9]') AS p, json_each('[0,1]') AS s)
WHERE due IS NOT NULL
UNION ALL
SELECT '', -1, 0, wait
FROM (
    SELECT MIN(wait) AS wait
    FROM (
        -- Set running by hand, without a lease.
        SELECT 0 AS wait FROM (SELECT id FROM consistency_task WHERE state = 1 AND lease_until IS NULL LIMIT 1)
        UNION ALL
        SELECT COALESCE(MAX(0, CAST(ROUND((julianday(lease_until) - julianday('now')) * 86400000.0) AS INTEGER)), 0) * 1000
        FROM (SELECT lease_until FROM consistency_task WHERE state = 1 AND lease_until >= '' ORDER BY lease_until LIMIT 1)))
WHERE wait IS NOT NULL
