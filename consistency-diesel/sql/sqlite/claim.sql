UPDATE consistency_task
SET state = 1, version = (version + 1) % 4611686018427387904, execute_times = MIN(execute_times, 2147483646) + 1,
    lease_owner = {node}, lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', {lease_us} / 1000000.0)),
    gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE id IN (
    SELECT t.id
    FROM consistency_task t
    WHERE t.queue = {queue} AND t.priority = {priority} AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = {share} AND t.state IN (0, 3)
      AND t.next_execute_time <= strftime('%Y-%m-%d %H:%M:%f', 'now')
      AND t.method_name IN (SELECT value FROM json_each({names}))
      AND (t.order_key IS NULL OR NOT EXISTS (
          SELECT 1 FROM consistency_task e
          WHERE e.order_key = t.order_key AND e.id < t.id AND (e.state IN (0, 3, 5) OR e.state = 4 AND e.order_policy = 0))
        AND NOT EXISTS (SELECT 1 FROM consistency_task r WHERE r.order_key = t.order_key AND r.state = 1))
    ORDER BY t.next_execute_time, t.id
    LIMIT {limit})
RETURNING id, task_id, method_name, task_parameter, version, execute_times, execute_interval_second,
    max_execute_times, CASE WHEN order_key IS NOT NULL THEN order_policy END, meta, error_message IS NOT NULL, cancel_requested, lost_times,
    CAST(ROUND((julianday(next_execute_time) - 2440587.5) * 86400000.0) AS INTEGER) * 1000
