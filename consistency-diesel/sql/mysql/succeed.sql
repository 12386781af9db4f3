UPDATE consistency_task FORCE INDEX (PRIMARY)
SET state = 2, error_message = NULL, execute_times = GREATEST(0, LEAST(execute_times, 2147483646) + {charge}), lost_times = 0,
    lease_owner = NULL, lease_until = NULL, gmt_modified = UTC_TIMESTAMP(6)
WHERE id IN ({id_list}) AND (id, version) IN ({lease_list}) AND state = 1
