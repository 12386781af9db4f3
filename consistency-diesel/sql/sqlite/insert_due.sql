{delay_time}, CASE
    WHEN {due_at_us} IS NOT NULL THEN strftime('%Y-%m-%d %H:%M:%f', ({due_at_us} + 999) / 1000 / 1000.0, 'unixepoch')
    WHEN {delay_us} = 0 THEN strftime('%Y-%m-%d %H:%M:%f', 'now')
    -- SQLite's clock has milliseconds and cuts the rest off: one more, so that nothing runs early.
    ELSE strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', ({delay_us} + 1999) / 1000 / 1000.0))
END
