UPDATE consistency_task FORCE INDEX (consistency_task_claim)
SET state = CASE WHEN cancel_requested = 1 THEN 6 WHEN error_message IS NULL THEN 0 ELSE 3 END, execute_times = GREATEST(1, execute_times) - 1,
    lease_owner = NULL, lease_until = NULL, gmt_modified = UTC_TIMESTAMP(6)
WHERE claim_line = '' AND claim_place >= TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', UTC_TIMESTAMP(6) + INTERVAL {ends_us} MICROSECOND)
  AND claim_place < 1000000000000000000 AND state = 1 AND lease_owner = {node}
  -- Not those inserted leased, which nobody has claimed yet: their transaction may be about to hand them over.
  AND NOT (version % 65536 = 1 AND version > 1)
  AND NOT JSON_CONTAINS({ids}, CAST(id AS CHAR))
