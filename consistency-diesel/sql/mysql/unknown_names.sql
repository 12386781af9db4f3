SELECT DISTINCT n.method_name
FROM (
    SELECT method_name FROM consistency_task FORCE INDEX (consistency_task_claim)
    WHERE claim_line = CONCAT({priority}, ' ', {queue})
      AND (claim_place <= TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6))
        OR claim_place >= 2000000000000000000 - TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6)))
    LIMIT 10000) AS n
WHERE NOT JSON_CONTAINS({names}, JSON_QUOTE(n.method_name))
LIMIT {limit}
