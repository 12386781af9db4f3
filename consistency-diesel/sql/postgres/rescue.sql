UPDATE consistency_task t
SET state = s.state, error_message = s.error, lost_times = s.lost_times,
    lease_owner = NULL, lease_until = NULL, gmt_modified = clock_timestamp()
FROM json_to_recordset({rows}::json) AS s(id BIGINT, state SMALLINT, lost_times INTEGER, error TEXT)
WHERE t.id = s.id
