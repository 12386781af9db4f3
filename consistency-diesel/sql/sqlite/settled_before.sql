SELECT t.id
FROM json_each({rows}) AS s
JOIN consistency_task t ON t.id = s.value ->> 'id'
WHERE t.version = s.value ->> 'version'
  AND (t.state = s.value ->> 'state' OR (t.state = 6 AND s.value ->> 'state' IN (0, 3)))
