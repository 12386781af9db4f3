UPDATE consistency_task
SET state = CASE WHEN cancel_requested = 1 THEN 6 WHEN error_message IS NULL THEN 0 ELSE 3 END, execute_times = GREATEST(1, execute_times) - 1,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
WHERE state = 1 AND lease_until >= (SELECT clock_timestamp()) + {ends_us} * INTERVAL '1 microsecond' AND lease_owner = {node}
  -- Not those inserted leased, which nobody has claimed yet: their transaction may be about to hand them over.
  AND NOT (version % 65536 = 1 AND version > 1)
  AND id <> ALL (ARRAY(SELECT json_array_elements_text({ids}::json)::bigint))
