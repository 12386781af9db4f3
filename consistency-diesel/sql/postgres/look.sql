SELECT q.queue, p.priority::bigint, s.share::bigint, w.wait_us
FROM json_array_elements_text({queues}::json) AS q(queue)
CROSS JOIN generate_series(0, 9) AS p(priority)
CROSS JOIN generate_series(0, 1) AS s(share)
CROSS JOIN LATERAL (
    SELECT GREATEST(0, CEIL(EXTRACT(EPOCH FROM LEAST(GREATEST(t.next_execute_time, '1000-01-01 00:00:00+00'), '9999-12-31 00:00:00+00') - clock_timestamp()) * 1000000))::bigint AS wait_us
    FROM consistency_task t
    WHERE t.queue = q.queue AND t.priority = p.priority AND (CASE WHEN t.execute_mode = 2 AND t.thread_way = 2 THEN 1 ELSE 0 END) = s.share AND t.state IN (0, 3)
    ORDER BY t.next_execute_time
    LIMIT 1) AS w
UNION ALL
SELECT '', -1, 0, GREATEST(0, CEIL(EXTRACT(EPOCH FROM LEAST(GREATEST(l.lease_until, '1000-01-01 00:00:00+00'), '9999-12-31 00:00:00+00') - clock_timestamp()) * 1000000))::bigint
FROM (SELECT lease_until FROM consistency_task WHERE state = 1 ORDER BY lease_until NULLS FIRST LIMIT 1) AS l
