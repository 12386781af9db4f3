//! What every connection of the runtime's own is told before its first work.

use std::time::Duration;

use diesel::result::QueryResult;

use crate::busy::Busy;
use crate::connection::TaskConnection;
use crate::dialect::Kind;

/// What every connection of the runtime is told first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetUp {
    kind: Kind,
    busy_wait: Duration,
    /// The limit the server's own limits are derived from, on connections that nobody else uses.
    limit: Option<Duration>,
}

impl SetUp {
    /// For connections of type `C`.
    pub(crate) fn of<C: TaskConnection>(busy_wait: Duration) -> Self {
        Self { kind: C::DIALECT.kind, busy_wait, limit: None }
    }

    /// With limits at the server, a little below `limit`: it ends what is slow with a clean error, and does not go on with what
    /// the client has given up. Only for connections on which nothing but the runtime's own statements run.
    pub(crate) fn with_server_limits(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Tells `conn`.
    pub(crate) async fn apply<C: TaskConnection>(self, conn: &mut C) -> QueryResult<()> {
        match self.kind {
            // Writers wait instead of failing; readers and the writer do not block one another.
            Kind::Sqlite => {
                // What is larger than its type SQLite takes for 0.
                let busy_timeout = i32::try_from(self.busy_wait.as_millis()).unwrap_or(i32::MAX);
                // SQL: a PRAGMA binds nothing, and this is a number.
                conn.run_batch(&format!("PRAGMA busy_timeout = {busy_timeout}")).await?;
                // The change to WAL needs the file for itself, and is refused at once when another process makes it too.
                let mut busy = Busy::new(self.busy_wait);
                let mut changed = conn.run_batch("PRAGMA journal_mode = WAL").await;
                while let Some(pause) = busy.pause_after(&changed) {
                    C::pause(pause).await;
                    changed = conn.run_batch("PRAGMA journal_mode = WAL").await;
                }
                changed?;
                conn.run_batch("PRAGMA foreign_keys = ON").await
            }
            // The fence needs to see what others committed, whatever the server's default is.
            Kind::Postgres => {
                let isolation = "SET default_transaction_isolation = 'read committed'";
                // SQL: the limits are numbers of our own.
                conn.run_batch(&format!("{isolation}{}", self.limit.map_or_else(String::new, postgres_limits))).await
            }
            // At REPEATABLE READ a claim's gap locks would block the application's inserts.
            Kind::Mysql => {
                let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
                // SQL: the limits are numbers of our own.
                conn.run_batch(&format!("{isolation}{}", self.limit.map_or_else(String::new, mysql_limits))).await
            }
        }
    }
}

/// The server's limit for a statement.
fn for_statement(limit: Duration) -> Duration {
    (limit * 4 / 5).max(Duration::from_millis(1))
}

/// The server's limit for a lock. Most statements pass over locked rows; who has to wait shall not hold up others for long.
fn for_lock(limit: Duration) -> Duration {
    (limit / 4).max(Duration::from_millis(1))
}

fn postgres_limits(limit: Duration) -> String {
    let (statement, lock) = (for_statement(limit).as_millis(), for_lock(limit).as_millis());
    format!(
        "; SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {statement}"
    )
}

/// What the other of the two does not know stands in comments that only the one reads: MariaDB those with an `M`, and MySQL those
/// with a version number, which MariaDB passes over between 50700 and 50999.
fn mysql_limits(limit: Duration) -> String {
    let statement = for_statement(limit);
    let lock = for_lock(limit).as_secs().max(1);
    format!(
        "; SET SESSION innodb_lock_wait_timeout = {lock} \
         /*M!100300 , max_statement_time = {:.3}, idle_transaction_timeout = {} */ \
         /*!50708 , max_execution_time = {} */",
        statement.as_secs_f64(),
        statement.as_secs().max(1),
        statement.as_millis(),
    )
}
