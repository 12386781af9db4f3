SELECT t.id, t.cancel_requested
FROM json_each({rows}) AS s
JOIN consistency_task t ON t.id = s.value ->> 'id'
WHERE t.version = s.value ->> 'version' AND +t.state = 1
