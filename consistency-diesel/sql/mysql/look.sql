SELECT queue, priority, share, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), due))
FROM (
    SELECT q.queue, p.priority, s.share,
        (SELECT t.claim_time FROM consistency_task t FORCE INDEX (consistency_task_claim)
         WHERE t.queue = q.queue AND t.priority = p.priority AND t.claim_share = s.share
         ORDER BY t.claim_time LIMIT 1) AS due
    FROM JSON_TABLE({queues}, '$[*]' COLUMNS (queue VARCHAR(100) COLLATE utf8mb4_bin PATH '$')) AS q
    CROSS JOIN JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (priority SMALLINT PATH '$')) AS p
    CROSS JOIN JSON_TABLE('[0,1]', '$[*]' COLUMNS (share SMALLINT PATH '$')) AS s) AS heads
WHERE due < TIMESTAMP'9999-12-31 00:00:00'
UNION ALL
SELECT '', -1, 0, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_until))
FROM (SELECT lease_until FROM consistency_task WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1) AS l
