SELECT t.id, t.task_id, t.method_name, t.task_parameter, t.version % 4611686018427387903 + 1, MIN(t.execute_times, 2147483646) + 1,
    t.execute_interval_second, t.max_execute_times, CASE WHEN t.order_key IS NOT NULL THEN t.order_policy END, t.meta, t.error_message IS NOT NULL,
    t.cancel_requested, t.lost_times, 0
FROM consistency_task t
WHERE t.queue = {queue} AND t.priority = {priority} AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = {share} AND t.state IN (0, 3)
  AND t.next_execute_time <= strftime('%Y-%m-%d %H:%M:%f', 'now')
  AND t.method_name IN (SELECT value FROM json_each({names}))
  AND (t.order_key IS NULL OR NOT EXISTS (
      SELECT 1 FROM consistency_task e
      WHERE e.order_key = t.order_key AND e.id < t.id AND (e.state = 0 OR e.state = 3 OR e.state = 5 OR e.state = 4 AND e.order_policy = 0))
    AND NOT EXISTS (SELECT 1 FROM consistency_task r WHERE r.order_key = t.order_key AND r.state = 1))
ORDER BY t.next_execute_time, t.id
LIMIT {limit}
