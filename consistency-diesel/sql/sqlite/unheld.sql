UPDATE consistency_task
SET state = CASE WHEN cancel_requested = 1 THEN 6 WHEN error_message IS NULL THEN 0 ELSE 3 END, execute_times = MAX(1, execute_times) - 1,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE state = 1 AND lease_until >= strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {ends_us} / 1000000.0 - 0.001))
  AND lease_owner = {node}
  -- Not those inserted leased, which nobody has claimed yet: their transaction may be about to hand them over.
  AND NOT (version % 65536 = 1 AND version > 1)
  AND id NOT IN (SELECT value FROM json_each({ids}))
