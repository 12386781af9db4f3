DROP VIEW consistency_task_failed;
DROP VIEW consistency_task_readable;
DROP TABLE consistency_task;
DROP DOMAIN IF EXISTS consistency_task_state;
DROP DOMAIN IF EXISTS consistency_task_priority;
DROP DOMAIN IF EXISTS consistency_task_policy;
