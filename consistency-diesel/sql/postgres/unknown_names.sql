SELECT DISTINCT n.method_name::text
FROM (
    SELECT method_name FROM consistency_task
    WHERE queue = {queue} AND priority = {priority} AND (CASE WHEN execute_mode = 2 AND thread_way = 2 THEN 1 ELSE 0 END) = {share} AND state IN (0, 3)
      AND next_execute_time <= (SELECT clock_timestamp())
    ORDER BY next_execute_time
    LIMIT 10000) AS n
WHERE NOT n.method_name = ANY (ARRAY(SELECT json_array_elements_text({names}::json)))
LIMIT {limit}
