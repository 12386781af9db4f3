{execute_times}, {lease_owner}, CASE WHEN {lease_us} IS NOT NULL
    THEN strftime('%Y-%m-%d %H:%M:%f', 'now', printf('+%.3f seconds', {lease_us} / 1000000.0)) END
