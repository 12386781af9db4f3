FROM (
    SELECT value ->> 0 AS task_id, value ->> 1 AS task_parameter, value ->> 2 AS biz_id, value ->> 3 AS meta, value ->> 4 AS version
    FROM json_each({rows})) AS r
