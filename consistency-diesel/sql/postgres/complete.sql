UPDATE consistency_task
SET state = 2, error_message = NULL, execute_times = GREATEST(0, LEAST(GREATEST(0, execute_times), 2147483646) + {charge}), lost_times = 0,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
WHERE id = {id} AND version = {version} AND state = 1 AND current_setting('consistency.proof', true) = 'open'
