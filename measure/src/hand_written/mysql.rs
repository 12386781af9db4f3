//! MySQL and MariaDB: neither tells what an UPDATE has written, so the claim is a locking read and an update of what it found.

use std::fmt::Write as _;

use diesel::connection::SimpleConnection;
use diesel::{Connection, MysqlConnection, QueryResult, RunQueryDsl};

use super::{Claimed, Counter, Finish, HandWritten, listed};
use crate::prepared::Prepared;

const TABLES: &str = "
    CREATE TABLE measure_business (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, number BIGINT NOT NULL, note TEXT NOT NULL);
    CREATE TABLE measure_hand_written (
        id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(200) NOT NULL, payload LONGTEXT NOT NULL,
        state SMALLINT NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
        due DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)), lease_until DATETIME(6), error TEXT,
        KEY measure_claim (state, due, id));";

/// MySQL and MariaDB stop counting rows up after a thousand, each under a name of its own.
trait Recursion {
    fn allow_recursion(&mut self) -> QueryResult<()>;
}

impl Recursion for MysqlConnection {
    fn allow_recursion(&mut self) -> QueryResult<()> {
        self.batch_execute("SET SESSION /*M!100300 max_recursive_iterations = 1000000 */ /*!80000 cte_max_recursion_depth = 1000000 */")
    }
}

impl HandWritten for MysqlConnection {
    fn set_up(&mut self, _synchronous: &str) -> QueryResult<()> {
        self.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    }

    fn make_tables(&mut self) -> QueryResult<()> {
        self.batch_execute(TABLES)
    }

    fn send(&mut self, statement: Prepared) -> QueryResult<()> {
        statement.execute(self).map(drop)
    }

    fn insert_tasks(&mut self, payloads: &[String]) -> QueryResult<()> {
        let mut text = "INSERT INTO measure_hand_written (name, payload) VALUES ".to_owned();
        for (at, payload) in payloads.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // SQL: the payloads are the program's own. Writing to a String does not fail.
            let _ = write!(text, "{comma}('measure.noop','{payload}')");
        }
        diesel::sql_query(text).execute(self).map(drop)
    }

    fn claim(&mut self, limit: i64) -> QueryResult<Vec<Claimed>> {
        self.transaction(|conn| {
            let text = "
                SELECT id, payload FROM measure_hand_written
                WHERE state = 0 AND due <= UTC_TIMESTAMP(6) ORDER BY due, id LIMIT ? FOR UPDATE SKIP LOCKED";
            let claimed: Vec<Claimed> = Prepared::new(text, [limit.into()]).load(conn)?;
            if !claimed.is_empty() {
                let ids: Vec<i64> = claimed.iter().map(|claimed| claimed.id).collect();
                // SQL: numbers.
                diesel::sql_query(format!(
                    "UPDATE measure_hand_written
                     SET state = 1, attempts = attempts + 1, lease_until = UTC_TIMESTAMP(6) + INTERVAL 10 SECOND
                     WHERE id IN {}",
                    listed(&ids, '(', ')')
                ))
                .execute(conn)?;
            }
            Ok(claimed)
        })
    }

    fn finish(&mut self, ids: &[i64], how: Finish) -> QueryResult<()> {
        let list = listed(ids, '(', ')');
        // SQL: numbers.
        let text = match how {
            Finish::Update => {
                format!("UPDATE measure_hand_written SET state = 2, lease_until = NULL WHERE id IN {list}")
            }
            Finish::Delete => format!("DELETE FROM measure_hand_written WHERE id IN {list}"),
        };
        diesel::sql_query(text).execute(self).map(drop)
    }

    fn insert_backlog(&mut self, rows: usize, finished: bool) -> QueryResult<()> {
        let text = "
            INSERT INTO measure_hand_written (name, payload, state, due)
            WITH RECURSIVE s(n) AS (SELECT CAST(1 AS SIGNED) UNION ALL SELECT n + 1 FROM s WHERE n < ?)
            SELECT 'measure.noop', REPEAT('x', 110), ?, UTC_TIMESTAMP(6) + INTERVAL 365 DAY FROM s";
        self.allow_recursion()?;
        let state = if finished { 2 } else { 0 };
        self.send(Prepared::new(text, [(rows as i64).into(), state.into()]))
    }

    fn insert_outbox_backlog(&mut self, first: usize, rows: usize, finished: bool) -> QueryResult<()> {
        let text = "
            INSERT INTO consistency_task
                (task_id, method_name, task_parameter, parameter_types, method_sign_name, state, next_execute_time)
            WITH RECURSIVE s(n) AS (SELECT CAST(? AS SIGNED) UNION ALL SELECT n + 1 FROM s WHERE n < ?)
            SELECT CONCAT(?, n), 'measure.noop', CONCAT('{\"number\":1,\"note\":\"', REPEAT('x', 100), '\"}'), '', '', ?,
                UTC_TIMESTAMP(6) + INTERVAL 365 DAY FROM s";
        self.allow_recursion()?;
        let (state, handle) = if finished { (2, "finished ") } else { (0, "later ") };
        let first = first as i64;
        let last = first + rows as i64 - 1;
        self.send(Prepared::new(text, [first.into(), last.into(), handle.into(), state.into()]))
    }

    fn analyze(&mut self) -> QueryResult<()> {
        self.batch_execute("ANALYZE TABLE consistency_task, measure_hand_written")
    }

    fn counters(&mut self) -> QueryResult<Vec<Counter>> {
        let text = "
            SELECT CAST('log_bytes' AS CHAR) AS name, CAST(VARIABLE_VALUE AS SIGNED) AS value
            FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_OS_LOG_WRITTEN'
            UNION ALL SELECT 'commits', CAST(VARIABLE_VALUE AS SIGNED)
            FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'HANDLER_COMMIT'";
        diesel::sql_query(text).load(self)
    }
}
