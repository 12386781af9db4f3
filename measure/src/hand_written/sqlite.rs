//! SQLite: one statement for each step, the ids as a JSON list.

use diesel::connection::SimpleConnection;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::{Claimed, Counter, Finish, HandWritten, listed};
use crate::prepared::Prepared;

const TABLES: &str = "
    CREATE TABLE measure_business (number INTEGER NOT NULL, note TEXT NOT NULL);
    CREATE TABLE measure_hand_written (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, payload TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0, due TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
        lease_until TEXT, error TEXT);
    CREATE INDEX measure_claim ON measure_hand_written (due, id) WHERE state = 0";

impl HandWritten for SqliteConnection {
    fn set_up(&mut self, synchronous: &str) -> QueryResult<()> {
        // SQL: a PRAGMA binds nothing.
        self.batch_execute(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA busy_timeout = 5000"
        ))
    }

    fn make_tables(&mut self) -> QueryResult<()> {
        self.batch_execute(TABLES)
    }

    fn send(&mut self, statement: Prepared) -> QueryResult<()> {
        statement.execute(self).map(drop)
    }

    fn insert_tasks(&mut self, payloads: &[String]) -> QueryResult<()> {
        payloads.iter().try_for_each(|payload| self.insert_task(payload))
    }

    fn claim(&mut self, limit: i64) -> QueryResult<Vec<Claimed>> {
        let text = "
            UPDATE measure_hand_written
            SET state = 1, attempts = attempts + 1, lease_until = strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')
            WHERE id IN (
                SELECT id FROM measure_hand_written
                WHERE state = 0 AND due <= strftime('%Y-%m-%d %H:%M:%f', 'now') ORDER BY due, id LIMIT ?)
            RETURNING id, payload";
        Prepared::new(text, [limit.into()]).load(self)
    }

    fn finish(&mut self, ids: &[i64], how: Finish) -> QueryResult<()> {
        let text = match how {
            Finish::Update => {
                "UPDATE measure_hand_written SET state = 2, lease_until = NULL WHERE id IN (SELECT value FROM json_each(?))"
            }
            Finish::Delete => "DELETE FROM measure_hand_written WHERE id IN (SELECT value FROM json_each(?))",
        };
        self.send(Prepared::new(text, [listed(ids, '[', ']').into()]))
    }

    fn insert_backlog(&mut self, rows: usize, finished: bool) -> QueryResult<()> {
        let text = "
            WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ?)
            INSERT INTO measure_hand_written (name, payload, state, due)
            SELECT 'measure.noop', hex(zeroblob(55)), ?, strftime('%Y-%m-%d %H:%M:%f', 'now', '+365 days') FROM s";
        let state = if finished { 2 } else { 0 };
        self.send(Prepared::new(text, [(rows as i64).into(), state.into()]))
    }

    fn insert_outbox_backlog(&mut self, first: usize, rows: usize, finished: bool) -> QueryResult<()> {
        let text = "
            WITH RECURSIVE s(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM s WHERE n < ?)
            INSERT INTO consistency_task (task_id, method_name, task_parameter, state, next_execute_time)
            SELECT ? || n, 'measure.noop', '{\"number\":1,\"note\":\"' || hex(zeroblob(50)) || '\"}', ?,
                strftime('%Y-%m-%d %H:%M:%f', 'now', '+365 days') FROM s";
        let (state, handle) = if finished { (2, "finished ") } else { (0, "later ") };
        let first = first as i64;
        let last = first + rows as i64 - 1;
        self.send(Prepared::new(text, [first.into(), last.into(), handle.into(), state.into()]))
    }

    fn analyze(&mut self) -> QueryResult<()> {
        self.batch_execute("ANALYZE")
    }

    /// An embedded database counts nothing.
    fn counters(&mut self) -> QueryResult<Vec<Counter>> {
        Ok(Vec::new())
    }
}
