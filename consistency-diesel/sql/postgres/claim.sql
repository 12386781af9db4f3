UPDATE consistency_task
SET state = 1, version = version % 4611686018427387903 + 1, execute_times = LEAST(execute_times, 2147483646) + 1,
    lease_owner = {node}, lease_until = clock_timestamp() + {lease_us} * INTERVAL '1 microsecond', gmt_modified = clock_timestamp()
WHERE id = ANY (ARRAY(
    SELECT t.id
    FROM consistency_task t
    WHERE t.queue = {queue} AND t.priority = {priority} AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = {share} AND t.state IN (0, 3)
      AND t.next_execute_time <= (SELECT clock_timestamp())
      AND t.method_name = ANY (ARRAY(SELECT json_array_elements_text({names}::json)))
      AND (t.order_key IS NULL
        -- Not of a key known to be held up: one look-up in memory for each of many rows behind the same head. (Sorted as the index
        -- of keys is, some key asked for, and the time hidden, for the planner to take no other.)
        OR t.order_key NOT IN (
          (SELECT r.order_key FROM consistency_task r WHERE r.order_key > '' AND r.state = 1 ORDER BY r.order_key LIMIT 1000)
          UNION ALL
          (SELECT d.order_key FROM consistency_task d
           WHERE d.order_key IS NOT NULL AND d.state = 3 AND d.next_execute_time + INTERVAL '0' > (SELECT clock_timestamp())
             AND COALESCE((
               SELECT false
               FROM (VALUES (0, 0), (0, 1), (0, 2), (3, 0), (3, 1), (3, 2), (4, 0), (5, 0), (5, 1), (5, 2)) AS waits(state, order_policy)
               CROSS JOIN LATERAL (
                 SELECT 1 FROM consistency_task e
                 WHERE e.state = waits.state AND e.order_policy = waits.order_policy AND e.order_key = d.order_key AND e.id + 0 < d.id
                 LIMIT 1) AS earlier
               LIMIT 1), true)
           ORDER BY d.order_policy, d.order_key
           LIMIT 1000)
          UNION ALL
          (SELECT d.order_key FROM consistency_task d
           WHERE d.order_key IS NOT NULL AND d.state = 4 AND d.order_policy = 0
             AND COALESCE((
               SELECT false
               FROM (VALUES (0, 0), (0, 1), (0, 2), (3, 0), (3, 1), (3, 2), (4, 0), (5, 0), (5, 1), (5, 2)) AS waits(state, order_policy)
               CROSS JOIN LATERAL (
                 SELECT 1 FROM consistency_task e
                 WHERE e.state = waits.state AND e.order_policy = waits.order_policy AND e.order_key = d.order_key AND e.id + 0 < d.id
                 LIMIT 1) AS earlier
               LIMIT 1), true)
           ORDER BY d.order_key
           LIMIT 1000))
        -- The first of its key: most others meet an earlier one at the first step. And none of the key runs.
        AND COALESCE((
          SELECT false
          FROM (VALUES (0, 0), (0, 1), (0, 2), (3, 0), (3, 1), (3, 2), (4, 0), (5, 0), (5, 1), (5, 2)) AS waits(state, order_policy)
          CROSS JOIN LATERAL (
            SELECT 1 FROM consistency_task e
            WHERE e.state = waits.state AND e.order_policy = waits.order_policy AND e.order_key = t.order_key AND e.id + 0 < t.id
            LIMIT 1) AS earlier
          LIMIT 1), true)
        AND COALESCE((SELECT false FROM consistency_task r WHERE r.order_key = t.order_key AND r.state = 1 LIMIT 1), true))
    ORDER BY t.next_execute_time, t.id
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED))
RETURNING id, task_id::text, method_name::text, task_parameter, version, execute_times::bigint, execute_interval_second::bigint,
    max_execute_times::bigint, (CASE WHEN order_key IS NOT NULL THEN order_policy END)::bigint, meta, (error_message IS NOT NULL)::int::bigint, cancel_requested::bigint, lost_times::bigint,
    (EXTRACT(EPOCH FROM GREATEST(next_execute_time, '1000-01-01 00:00:00+00')) * 1000000)::bigint
