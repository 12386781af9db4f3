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
}

impl SetUp {
    /// For connections of type `C`.
    pub(crate) fn of<C: TaskConnection>(busy_wait: Duration) -> Self {
        Self { kind: C::DIALECT.kind, busy_wait }
    }

    /// Tells `conn`.
    pub(crate) async fn apply<C: TaskConnection>(self, conn: &mut C) -> QueryResult<()> {
        match self.kind {
            // Writers wait instead of failing; readers and the writer do not block one another.
            Kind::Sqlite => {
                conn.run_batch(&format!("PRAGMA busy_timeout = {}", self.busy_wait.as_millis())).await?;
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
            Kind::Postgres => conn.run_batch("SET default_transaction_isolation = 'read committed'").await,
            // At REPEATABLE READ a claim's gap locks would block the application's inserts.
            Kind::Mysql => conn.run_batch("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await,
        }
    }
}
