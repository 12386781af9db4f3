UPDATE consistency_task FORCE INDEX (consistency_task_lease_until)
SET state = CASE WHEN cancel_requested = 1 THEN 6 WHEN error_message IS NULL THEN 0 ELSE 3 END, execute_times = GREATEST(0, execute_times - 1),
    lease_owner = NULL, lease_until = NULL, gmt_modified = UTC_TIMESTAMP(6)
WHERE state = 1 AND lease_until >= UTC_TIMESTAMP(6) + INTERVAL {ends_us} MICROSECOND AND lease_owner = {node}
  -- Not those inserted leased, which nobody has claimed yet: their transaction may be about to hand them over.
  AND NOT (version % 65536 = 1 AND version > 1)
  AND NOT JSON_CONTAINS({ids}, CAST(id AS CHAR))
