SELECT id FROM consistency_task
WHERE state IN (2, 6, 7) AND gmt_modified < UTC_TIMESTAMP(6) - INTERVAL {older_us} MICROSECOND
ORDER BY id
LIMIT {limit}
FOR UPDATE SKIP LOCKED
