DELETE FROM consistency_task
WHERE id IN (
    SELECT id FROM consistency_task
    WHERE (state = 2 OR state = 6 OR state = 7) AND gmt_modified < strftime('%Y-%m-%d %H:%M:%f', 'now', printf('-%.3f seconds', {older_us} / 1000000.0))
    ORDER BY gmt_modified
    LIMIT {limit})
