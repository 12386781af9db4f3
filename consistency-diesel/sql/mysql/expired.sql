SELECT id, task_id, method_name, TRIM(COALESCE(lease_owner, '')), cancel_requested, execute_times, max_execute_times,
    lost_times, CASE WHEN order_key IS NOT NULL THEN order_policy END
FROM consistency_task FORCE INDEX (consistency_task_claim)
WHERE claim_line = '' AND claim_place <= TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6))
ORDER BY claim_place
LIMIT {limit}
FOR UPDATE SKIP LOCKED
