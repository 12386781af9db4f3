SELECT DISTINCT n.method_name::text
FROM (
    SELECT method_name FROM consistency_task
    WHERE queue = {queue} AND priority = {priority} AND state IN (0, 3) AND next_execute_time <= (SELECT clock_timestamp())
      AND NOT method_name = ANY (ARRAY(SELECT json_array_elements_text({names}::json)))
    LIMIT 1000) AS n
LIMIT {limit}
