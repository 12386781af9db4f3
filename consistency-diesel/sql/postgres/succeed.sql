UPDATE consistency_task t
SET state = 2, error_message = NULL, execute_times = GREATEST(0, LEAST(GREATEST(0, t.execute_times), 2147483646) + s.charge), lost_times = 0,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
FROM unnest({id_array}::bigint[], {version_array}::bigint[], {charge_array}::bigint[]) AS s(id, version, charge)
WHERE t.id = s.id AND t.version = s.version AND t.state + 0 = 1
