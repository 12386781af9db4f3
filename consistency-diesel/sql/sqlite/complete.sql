UPDATE consistency_task
SET state = 2, error_message = NULL, execute_times = MAX(0, MIN(execute_times, 2147483646) + {charge}), lost_times = 0,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE id = {id} AND version = {version} AND state = 1
