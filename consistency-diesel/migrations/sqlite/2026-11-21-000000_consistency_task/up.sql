-- Times are UTC text with milliseconds, the precision of SQLite's clock; they compare as text.
CREATE TABLE consistency_task (
    id                      INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    gmt_create              TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    gmt_modified            TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    task_id                 TEXT NOT NULL,
    state                   INTEGER NOT NULL DEFAULT 0,
    execute_times           INTEGER NOT NULL DEFAULT 0,
    next_execute_time       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    parameter_types         TEXT NOT NULL DEFAULT '',
    method_name             TEXT NOT NULL,
    method_sign_name        TEXT NOT NULL DEFAULT '',
    execute_interval_second INTEGER NOT NULL DEFAULT 60,
    delay_time              INTEGER NOT NULL DEFAULT 0,
    task_parameter          TEXT NOT NULL DEFAULT '{}',
    execute_mode            INTEGER NOT NULL DEFAULT 2,
    thread_way              INTEGER NOT NULL DEFAULT 1,
    error_message           TEXT,
    lost_times              INTEGER NOT NULL DEFAULT 0,
    queue                   TEXT NOT NULL DEFAULT 'default',
    priority                INTEGER NOT NULL DEFAULT 5,
    max_execute_times       INTEGER,
    version                 INTEGER NOT NULL DEFAULT 0,
    lease_owner             TEXT,
    lease_until             TEXT,
    order_key               TEXT,
    biz_type                TEXT,
    biz_id                  TEXT,
    cancel_requested        INTEGER NOT NULL DEFAULT 0,
    meta                    TEXT,
    order_policy            INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT consistency_task_task_id UNIQUE (task_id),
    -- Checked are the values with which a row would be found by nobody; the statements take whatever else a column can hold.
    CONSTRAINT consistency_task_state CHECK (state BETWEEN 0 AND 7),
    CONSTRAINT consistency_task_priority CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT consistency_task_order_policy CHECK (order_policy BETWEEN 0 AND 2),
    CONSTRAINT consistency_task_next_execute_time CHECK (
        julianday(next_execute_time) IS NOT NULL AND next_execute_time GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'),
    -- By itself, for SQLite makes those checks alone whose columns are written.
    CONSTRAINT consistency_task_lease_until CHECK (
        lease_until IS NULL OR julianday(lease_until) IS NOT NULL AND lease_until GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]*')
) STRICT;

-- The claim: oldest due first within a queue, a priority, and what is for workers or for the scheduling thread. Rows that cannot be
-- claimed are not in it.
CREATE INDEX consistency_task_claim
    ON consistency_task (queue, priority, (CASE WHEN execute_mode = 2 AND thread_way = 2 THEN 1 ELSE 0 END), next_execute_time, id)
    WHERE state IN (0, 3);
-- The rescue: rows by the end of their lease, those without one first.
CREATE INDEX consistency_task_lease_until ON consistency_task (lease_until) WHERE state = 1;
-- The oldest row of an ordering key that waits and holds up the later ones. (For a list of more than two values SQLite fills a
-- table of its own, for every row that is written.)
CREATE INDEX consistency_task_order ON consistency_task (order_key, id)
    WHERE order_key IS NOT NULL AND (state = 0 OR state = 3 OR state = 5 OR state = 4 AND order_policy = 0);
-- Of one ordering key never two run, whoever claims: also where a person has put an old row back at the same moment.
CREATE UNIQUE INDEX consistency_task_order_running ON consistency_task (order_key) WHERE order_key IS NOT NULL AND state = 1;
-- Pruning: finished rows, the longest finished first.
CREATE INDEX consistency_task_finished ON consistency_task (gmt_modified) WHERE state = 2 OR state = 6 OR state = 7;
-- For people: rows of a business object.
CREATE INDEX consistency_task_biz ON consistency_task (biz_type, biz_id) WHERE biz_type IS NOT NULL;

CREATE VIEW consistency_task_readable AS
SELECT id, task_id, method_name AS task,
       CASE state WHEN 0 THEN 'pending' WHEN 1 THEN 'running' WHEN 2 THEN 'succeeded' WHEN 3 THEN 'failed'
                  WHEN 4 THEN 'dead' WHEN 5 THEN 'blocked' WHEN 6 THEN 'cancelled' WHEN 7 THEN 'skipped' END AS state_name,
       state, execute_times AS attempts, max_execute_times AS max_attempts, lost_times,
       next_execute_time, task_parameter AS arguments, parameter_types, error_message,
       CASE execute_mode WHEN 1 THEN 'immediate' ELSE 'scheduled' END AS mode_name,
       CASE thread_way WHEN 1 THEN 'worker' ELSE 'caller' END AS runs_on,
       queue, priority, order_key,
       CASE WHEN order_key IS NOT NULL THEN CASE order_policy WHEN 0 THEN 'block' WHEN 1 THEN 'park' WHEN 2 THEN 'skip' END END AS when_dead,
       biz_type, biz_id, lease_owner, lease_until, gmt_create, gmt_modified
FROM consistency_task;

CREATE VIEW consistency_task_failed AS
SELECT id, task_id, method_name AS task, CASE state WHEN 3 THEN 'failed' ELSE 'dead' END AS state_name,
       execute_times AS attempts, max_execute_times AS max_attempts, lost_times,
       CASE state WHEN 3 THEN next_execute_time END AS retried_at, error_message,
       task_parameter AS arguments, parameter_types, method_sign_name AS signature, order_key,
       CASE WHEN order_key IS NOT NULL THEN CASE order_policy WHEN 0 THEN 'block' WHEN 1 THEN 'park' WHEN 2 THEN 'skip' END END AS when_dead,
       biz_type, biz_id, gmt_create, gmt_modified
FROM consistency_task
WHERE state IN (3, 4);
