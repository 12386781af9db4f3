UPDATE consistency_task AS t
SET state = s.state, error_message = s.error, lost_times = s.lost_times,
    lease_owner = NULL, lease_until = NULL, gmt_modified = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM (
    SELECT value ->> 'id' AS id, value ->> 'state' AS state, value ->> 'lost_times' AS lost_times, value ->> 'error' AS error
    FROM json_each({rows})) AS s
WHERE t.id = s.id
