SELECT queue, priority, share, GREATEST(0, due - TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6)))
FROM (
    SELECT q.queue, p.priority, 0 AS share,
        (SELECT t.claim_place FROM consistency_task t FORCE INDEX (consistency_task_claim)
         WHERE t.claim_line = CONCAT(p.priority, ' ', q.queue)
         ORDER BY t.claim_place LIMIT 1) AS due
    FROM JSON_TABLE({queues}, '$[*]' COLUMNS (queue VARCHAR(100) COLLATE utf8mb4_bin PATH '$')) AS q
    CROSS JOIN JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (priority SMALLINT PATH '$')) AS p
    UNION ALL
    SELECT q.queue, p.priority, 1 AS share,
        2000000000000000000 - (
            SELECT t.claim_place FROM consistency_task t FORCE INDEX (consistency_task_claim)
            WHERE t.claim_line = CONCAT(p.priority, ' ', q.queue)
            ORDER BY t.claim_place DESC LIMIT 1) AS due
    FROM JSON_TABLE({queues}, '$[*]' COLUMNS (queue VARCHAR(100) COLLATE utf8mb4_bin PATH '$')) AS q
    CROSS JOIN JSON_TABLE('[0,1,2,3,4,5,6,7,8,9]', '$[*]' COLUMNS (priority SMALLINT PATH '$')) AS p) AS heads
WHERE due < 1000000000000000000
UNION ALL
SELECT '', -1, 0, GREATEST(0, claim_place - TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6)))
FROM (SELECT claim_place FROM consistency_task FORCE INDEX (consistency_task_claim)
      WHERE claim_line = '' AND claim_place < 1000000000000000000 ORDER BY claim_place LIMIT 1) AS l
