SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock(hashtextextended('consistency ' || {order_key}, 0))) AS locked
