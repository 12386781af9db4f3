SELECT queue, priority, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), due))
FROM (
    SELECT q.queue, p.priority,
        (SELECT t.claim_time FROM consistency_task t
         WHERE t.queue = q.queue AND t.priority = p.priority AND t.claim_time IS NOT NULL
         ORDER BY t.claim_time LIMIT 1) AS due
    FROM JSON_TABLE({queues}, '$[*]' COLUMNS (queue VARCHAR(100) COLLATE utf8mb4_bin PATH '$')) AS q
    CROSS JOIN JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (priority SMALLINT PATH '$')) AS p) AS heads
WHERE due IS NOT NULL
