SELECT t.id, t.task_id, t.method_name, t.task_parameter, t.version + 1, t.execute_times + 1, t.execute_interval_second,
    t.max_execute_times, t.meta, t.error_message IS NOT NULL, t.cancel_requested,
    TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', t.next_execute_time)
FROM consistency_task t FORCE INDEX (consistency_task_claim)
WHERE t.queue = {queue} AND t.priority = {priority} AND t.claim_time <= UTC_TIMESTAMP(6)
  AND JSON_CONTAINS({names}, JSON_QUOTE(t.method_name))
  AND (t.execute_mode = 2 AND t.thread_way = 2) = {serial}
  AND (t.order_key IS NULL OR NOT EXISTS (
      SELECT 1 FROM consistency_task e
      WHERE e.order_key = t.order_key AND e.id < t.id AND e.state IN (0, 1, 3, 4, 5)))
ORDER BY t.claim_time, t.id
LIMIT {limit}
FOR UPDATE SKIP LOCKED
