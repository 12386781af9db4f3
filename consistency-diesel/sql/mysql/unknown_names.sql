SELECT DISTINCT n.method_name
FROM (
    SELECT method_name FROM consistency_task FORCE INDEX (consistency_task_claim)
    WHERE queue = {queue} AND priority = {priority} AND claim_time <= UTC_TIMESTAMP(6)
      AND NOT JSON_CONTAINS({names}, JSON_QUOTE(method_name))
    LIMIT 1000) AS n
LIMIT {limit}
