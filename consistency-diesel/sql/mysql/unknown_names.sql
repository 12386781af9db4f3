SELECT DISTINCT n.method_name
FROM (
    SELECT method_name FROM consistency_task FORCE INDEX (consistency_task_claim)
    WHERE queue = {queue} AND priority = {priority} AND claim_share = {share} AND claim_time <= UTC_TIMESTAMP(6)
    ORDER BY claim_time
    LIMIT 10000) AS n
WHERE NOT JSON_CONTAINS({names}, JSON_QUOTE(n.method_name))
LIMIT {limit}
