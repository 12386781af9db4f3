SELECT id FROM consistency_task FORCE INDEX (consistency_task_finished)
WHERE finished_time < UTC_TIMESTAMP(6) - INTERVAL {older_us} MICROSECOND
ORDER BY finished_time
LIMIT {limit}
FOR UPDATE SKIP LOCKED
