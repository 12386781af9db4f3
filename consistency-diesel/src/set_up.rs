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
    use_of: Use,
}

/// Who uses a connection of the runtime's.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// The bodies of tasks, and single rows' statements.
    Bodies,
    /// The runtime's statements alone; the server's own limits are derived from this one.
    Statements { limit: Duration },
    /// The runtime's statements, and the application: on Diesel's own connections alone.
    #[cfg_attr(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")), allow(dead_code))]
    Shared,
}

/// PostgreSQL keeps the plan of a prepared statement until somebody takes statistics of the table. One made while the table was
/// empty reads it from its beginning to its end, each time, a minute later perhaps beside a million rows. Every statement of the
/// runtime has an index to go by, and is told to.
const BY_INDEX: &str =
    "; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";
/// Where the application's statements run too, plans are made each time instead, from how large the table is then.
const PLANNED_EACH_TIME: &str = "; SET plan_cache_mode = force_custom_plan";

impl SetUp {
    /// For connections of type `C`.
    pub(crate) fn of<C: TaskConnection>(busy_wait: Duration) -> Self {
        Self { kind: C::DIALECT.kind, busy_wait, use_of: Use::Bodies }
    }

    /// For connections on which nothing but the runtime's own statements run: with limits at the server, a little below `limit`,
    /// so that it ends what is slow with a clean error, and does not go on with what the client has given up.
    pub(crate) fn for_statements(self, limit: Duration) -> Self {
        Self { use_of: Use::Statements { limit }, ..self }
    }

    /// For connections on which the runtime's statements and the application's run.
    #[cfg_attr(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")), allow(dead_code))]
    pub(crate) fn shared(self) -> Self {
        Self { use_of: Use::Shared, ..self }
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
                let more = match self.use_of {
                    Use::Bodies => String::new(),
                    Use::Statements { limit } => postgres_limits(limit) + BY_INDEX,
                    Use::Shared => PLANNED_EACH_TIME.to_owned(),
                };
                // SQL: the limits are numbers of our own.
                conn.run_batch(&format!("{isolation}{more}")).await
            }
            // At REPEATABLE READ a claim's gap locks would block the application's inserts.
            Kind::Mysql => {
                let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
                let limits = match self.use_of {
                    Use::Statements { limit } => mysql_limits(limit),
                    Use::Bodies | Use::Shared => String::new(),
                };
                // SQL: the limits are numbers of our own.
                conn.run_batch(&format!("{isolation}{limits}")).await
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
