-- MySQL and MariaDB commit at every DDL statement, so each one here may be repeated after a crash in between.
CREATE TABLE IF NOT EXISTS consistency_task (
    id                      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    gmt_create              DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    gmt_modified            DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    task_id                 VARCHAR(500) NOT NULL,
    state                   SMALLINT NOT NULL DEFAULT 0,
    execute_times           INTEGER NOT NULL DEFAULT 0,
    next_execute_time       DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    parameter_types         TEXT NOT NULL,
    method_name             VARCHAR(200) NOT NULL,
    method_sign_name        TEXT NOT NULL,
    execute_interval_second INTEGER NOT NULL DEFAULT 60,
    delay_time              INTEGER NOT NULL DEFAULT 0,
    task_parameter          LONGTEXT NOT NULL,
    execute_mode            SMALLINT NOT NULL DEFAULT 2,
    thread_way              SMALLINT NOT NULL DEFAULT 1,
    error_message           MEDIUMTEXT,
    lost_times              INTEGER NOT NULL DEFAULT 0,
    queue                   VARCHAR(100) NOT NULL DEFAULT 'default',
    priority                SMALLINT NOT NULL DEFAULT 5,
    max_execute_times       INTEGER,
    version                 BIGINT NOT NULL DEFAULT 0,
    -- A waiting row has room for a name: a row that grows when it is claimed splits its page, which costs as much as the claim.
    lease_owner             VARCHAR(100) DEFAULT '                                        ',
    lease_until             DATETIME(6),
    order_key               VARCHAR(100),
    biz_type                VARCHAR(100),
    biz_id                  VARCHAR(100),
    cancel_requested        SMALLINT NOT NULL DEFAULT 0,
    meta                    MEDIUMTEXT,
    order_policy            SMALLINT NOT NULL DEFAULT 0,
    -- The line the row stands in: that of its priority and queue while a claim may take it, else the one line of all others.
    claim_line              VARCHAR(110) AS (CASE WHEN state IN (0, 3) THEN CONCAT(priority, ' ', queue) ELSE '' END) STORED,
    -- Its place in that line, in microseconds since the year 1000. Before a claim, workers' rows stand from the front on, by when they
    -- are due, and those of the scheduling thread from the back on, mirrored. Among the others stands what the rescue looks for: running
    -- rows by the end of their lease (at once where there is none); and behind all of these what the pruning does: finished
    -- rows by when that was. So one index serves all three: here every row has a place in every index, and each change costs.
    claim_place             BIGINT AS (CASE
        WHEN state = 1 THEN COALESCE(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', lease_until), 0)
        WHEN state IN (2, 6, 7)
            THEN 1000000000000000000 + GREATEST(0, COALESCE(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', gmt_modified), 0))
        WHEN state NOT IN (0, 3) THEN NULL
        WHEN execute_mode = 2 AND thread_way = 2
            THEN 2000000000000000000 - TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', next_execute_time)
        ELSE TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1000-01-01 00:00:00', next_execute_time) END) STORED,
    -- Which part the row has in its ordering key: it runs, or it waits and holds up the later ones; NULL where it has none.
    order_place             VARCHAR(106) AS (CASE
        WHEN state = 1 THEN CONCAT('runs ', order_key)
        WHEN state IN (0, 3, 5) OR state = 4 AND order_policy = 0 THEN CONCAT('waits ', order_key) END) STORED,
    CONSTRAINT consistency_task_task_id UNIQUE (task_id),
    -- Checked are the values with which a row would be found by nobody; the statements take whatever else a column can hold.
    CONSTRAINT consistency_task_state CHECK (state BETWEEN 0 AND 7),
    CONSTRAINT consistency_task_priority CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT consistency_task_order_policy CHECK (order_policy BETWEEN 0 AND 2),
    -- Only days that exist, whatever the session's sql_mode allows.
    CONSTRAINT consistency_task_times CHECK (
        next_execute_time >= '1000-01-01' AND (DAY(next_execute_time) BETWEEN 1 AND DAY(LAST_DAY(next_execute_time))) IS TRUE),
    -- The claim: oldest due first within a queue and priority, for workers from the front and for the scheduling thread from the back.
    -- The rescue: running rows by the end of their lease. Pruning: finished rows, the longest finished first.
    INDEX consistency_task_claim (claim_line, claim_place, id),
    -- The running row of an ordering key, and the oldest waiting one.
    INDEX consistency_task_order (order_place, id),
    -- For people: rows of a business object.
    INDEX consistency_task_biz (biz_type, biz_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Rows to lock while a row of an ordering key is inserted: the key's hash picks one, which is held until COMMIT, so that
-- the order of ids is the order of commits.
CREATE TABLE IF NOT EXISTS consistency_order_lock (
    slot SMALLINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

INSERT IGNORE INTO consistency_order_lock (slot)
WITH RECURSIVE slots (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slots WHERE n < 255) SELECT n FROM slots;


CREATE OR REPLACE VIEW consistency_task_readable AS
SELECT id, task_id, method_name AS task,
       CASE state WHEN 0 THEN 'pending' WHEN 1 THEN 'running' WHEN 2 THEN 'succeeded' WHEN 3 THEN 'failed'
                  WHEN 4 THEN 'dead' WHEN 5 THEN 'blocked' WHEN 6 THEN 'cancelled' WHEN 7 THEN 'skipped' END AS state_name,
       state, execute_times AS attempts, max_execute_times AS max_attempts, lost_times,
       next_execute_time, task_parameter AS arguments, parameter_types, error_message,
       CASE execute_mode WHEN 1 THEN 'immediate' ELSE 'scheduled' END AS mode_name,
       CASE thread_way WHEN 1 THEN 'worker' ELSE 'caller' END AS runs_on,
       queue, priority, order_key,
       CASE WHEN order_key IS NOT NULL THEN CASE order_policy WHEN 0 THEN 'block' WHEN 1 THEN 'park' WHEN 2 THEN 'skip' END END AS when_dead,
       biz_type, biz_id, NULLIF(lease_owner, '') AS lease_owner, lease_until, gmt_create, gmt_modified
FROM consistency_task;

CREATE OR REPLACE VIEW consistency_task_failed AS
SELECT id, task_id, method_name AS task, CASE state WHEN 3 THEN 'failed' ELSE 'dead' END AS state_name,
       execute_times AS attempts, max_execute_times AS max_attempts, lost_times,
       CASE state WHEN 3 THEN next_execute_time END AS retried_at, error_message,
       task_parameter AS arguments, parameter_types, method_sign_name AS signature, order_key,
       CASE WHEN order_key IS NOT NULL THEN CASE order_policy WHEN 0 THEN 'block' WHEN 1 THEN 'park' WHEN 2 THEN 'skip' END END AS when_dead,
       biz_type, biz_id, gmt_create, gmt_modified
FROM consistency_task
WHERE state IN (3, 4);
