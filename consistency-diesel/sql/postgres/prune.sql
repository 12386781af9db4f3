DELETE FROM consistency_task
WHERE id = ANY (ARRAY(
    SELECT id FROM consistency_task
    WHERE state IN (2, 6, 7) AND gmt_modified < (SELECT clock_timestamp()) - {older_us} * INTERVAL '1 microsecond'
    ORDER BY gmt_modified
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED))
