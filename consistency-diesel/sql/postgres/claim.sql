UPDATE consistency_task
SET state = 1, version = (version + 1) % 4611686018427387904, execute_times = LEAST(execute_times, 2147483646) + 1,
    lease_owner = {node}, lease_until = clock_timestamp() + {lease_us} * INTERVAL '1 microsecond', gmt_modified = clock_timestamp()
WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM consistency_task t
    WHERE t.queue = {queue} AND t.priority = {priority} AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = {share} AND t.state IN (0, 3)
      AND t.next_execute_time <= (SELECT clock_timestamp())
      AND t.method_name = ANY (ARRAY(SELECT json_array_elements_text({names}::json)))
      AND (t.order_key IS NULL
        -- Not of a key known to be held up: one look-up in memory for each of many rows behind the same head.
        OR t.order_key NOT IN (
          (SELECT r.order_key FROM consistency_task r WHERE r.order_key IS NOT NULL AND r.state = 1 LIMIT 1000)
          UNION ALL
          (SELECT d.order_key FROM consistency_task d
           WHERE d.order_key IS NOT NULL AND (d.state = 3 OR d.state = 4 AND d.order_policy = 0)
             AND (d.state = 4 OR d.next_execute_time > (SELECT clock_timestamp()))
             AND d.id <= (
              SELECT e.id FROM consistency_task e
              WHERE e.order_key = d.order_key AND (e.state IN (0, 3, 5) OR e.state = 4 AND e.order_policy = 0)
              ORDER BY e.id + 0 LIMIT 1)
           LIMIT 1000))
        -- The first of its key, and none of the key runs.
        AND t.id <= (
          SELECT e.id FROM consistency_task e
          WHERE e.order_key = t.order_key AND (e.state IN (0, 3, 5) OR e.state = 4 AND e.order_policy = 0)
          ORDER BY e.id + 0 LIMIT 1)
        AND COALESCE((SELECT false FROM consistency_task r WHERE r.order_key = t.order_key AND r.state = 1 LIMIT 1), true))
    ORDER BY t.next_execute_time, t.id
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED))
RETURNING id, task_id::text, method_name::text, task_parameter, version, execute_times::bigint, execute_interval_second::bigint,
    max_execute_times::bigint, (CASE WHEN order_key IS NOT NULL THEN order_policy END)::bigint, meta, (error_message IS NOT NULL)::int::bigint, cancel_requested::bigint, lost_times::bigint,
    (EXTRACT(EPOCH FROM next_execute_time) * 1000000)::bigint
