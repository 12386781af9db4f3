UPDATE consistency_task
SET state = 1, version = version + 1, execute_times = execute_times + 1,
    lease_owner = {node}, lease_until = clock_timestamp() + {lease_us} * INTERVAL '1 microsecond', gmt_modified = clock_timestamp()
WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM consistency_task t
    WHERE t.queue = {queue} AND t.priority = {priority} AND t.state IN (0, 3)
      AND t.next_execute_time <= (SELECT clock_timestamp())
      AND t.method_name = ANY (ARRAY(SELECT json_array_elements_text({names}::json)))
      AND (t.execute_mode = 2 AND t.thread_way = 2) = ({serial} = 1)
      AND (t.order_key IS NULL OR NOT EXISTS (
          SELECT 1 FROM consistency_task e
          WHERE e.order_key = t.order_key AND e.id < t.id AND e.state IN (0, 1, 3, 4, 5)))
    ORDER BY t.next_execute_time, t.id
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED))
RETURNING id, task_id::text, method_name::text, task_parameter, version, execute_times::bigint, execute_interval_second::bigint,
    max_execute_times::bigint, meta, (error_message IS NOT NULL)::int::bigint, cancel_requested::bigint,
    (EXTRACT(EPOCH FROM next_execute_time) * 1000000)::bigint
