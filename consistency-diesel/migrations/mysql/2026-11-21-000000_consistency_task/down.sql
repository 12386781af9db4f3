DROP VIEW IF EXISTS consistency_task_failed;
DROP VIEW IF EXISTS consistency_task_readable;
DROP TABLE IF EXISTS consistency_order_lock;
DROP TABLE IF EXISTS consistency_task;
