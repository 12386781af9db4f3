SELECT t.id, t.task_id, t.method_name, t.task_parameter, t.version % 4611686018427387903 + 1, LEAST(t.execute_times, 2147483646) + 1, t.execute_interval_second,
    t.max_execute_times, CASE WHEN t.order_key IS NOT NULL THEN t.order_policy END, t.meta, t.error_message IS NOT NULL, t.cancel_requested, t.lost_times,
    TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', t.next_execute_time)
FROM consistency_task t FORCE INDEX (consistency_task_claim)
WHERE t.claim_line = CONCAT({priority}, ' ', {queue}) AND t.claim_place <= TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6))
  AND JSON_CONTAINS({names}, JSON_QUOTE(t.method_name))
  AND (t.order_key IS NULL OR (
      t.id = (SELECT e.id FROM consistency_task e FORCE INDEX (consistency_task_order)
              WHERE e.order_place = CONCAT('waits ', t.order_key) ORDER BY e.id LIMIT 1)
      AND (SELECT r.id FROM consistency_task r FORCE INDEX (consistency_task_order)
           WHERE r.order_place = CONCAT('runs ', t.order_key) LIMIT 1) IS NULL))
ORDER BY t.claim_place, t.id
LIMIT {limit}
FOR UPDATE SKIP LOCKED
