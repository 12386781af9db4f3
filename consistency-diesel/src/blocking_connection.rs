//! What Diesel's own connections have in common: what they do blocks.

use consistency_core::task::Blocking;
use diesel::connection::{AnsiTransactionManager, LoadConnection};
use diesel::migration::MigrationConnection;
use diesel::r2d2::{ConnectionManager, PooledConnection, R2D2Connection};

use crate::connection::{AsTaskConnection, TaskConnection};

/// One of Diesel's own connections: `SqliteConnection`, `PgConnection` or `MysqlConnection`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to diesel-async; this helper takes Diesel's own connections",
    note = "write `use consistency_diesel::async_prelude::*;` instead of `prelude::*`, and `outbox.transaction(&mut conn, async |tx| {{ .. }}).await`"
)]
pub trait BlockingConnection:
    TaskConnection<World = Blocking>
    + LoadConnection<TransactionManager = AnsiTransactionManager>
    + R2D2Connection
    + MigrationConnection
{
}

impl<C: BlockingConnection> AsTaskConnection for PooledConnection<ConnectionManager<C>> {
    type Connection = C;

    fn as_task_connection(&mut self) -> &mut C {
        self
    }
}
