SELECT task_id, id
FROM consistency_task
WHERE task_id IN (SELECT j.task_id FROM JSON_TABLE({task_ids}, '$[*]' COLUMNS (task_id VARCHAR(500) COLLATE utf8mb4_bin PATH '$')) AS j)
