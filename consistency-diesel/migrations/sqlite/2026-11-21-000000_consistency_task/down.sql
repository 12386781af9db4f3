DROP VIEW consistency_task_failed;
DROP VIEW consistency_task_readable;
DROP TABLE consistency_task;
