//! The runtime's own few connections, apart from the application's: how they are opened and set up.

use std::time::Duration;

use consistency_core::error::StoreError;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool, PooledConnection};
use diesel::result::QueryResult;

use crate::connection::TaskConnection;
use crate::dialect::Kind;

/// Connections for claiming, settling, renewing, and one for questions from outside.
pub(crate) const OWN_CONNECTIONS: u32 = 4;

/// Where the runtime's connections come from.
pub(crate) struct Connections<C: TaskConnection> {
    own: Pool<ConnectionManager<C>>,
    transactions: Pool<ConnectionManager<C>>,
    /// Given pools are the application's: their connections are set up at each use.
    set_up_each: Option<SetUp>,
}

impl<C: TaskConnection> Connections<C> {
    /// Two pools of our own on `url`. No connection is opened yet.
    pub(crate) fn open(url: &str, transactions: usize, busy_wait: Duration) -> Self {
        let set_up = SetUp { kind: C::DIALECT.kind, busy_wait };
        let pool = |size: u32| {
            Pool::builder()
                .max_size(size.max(1))
                .min_idle(Some(0))
                .connection_timeout(busy_wait)
                // A connection the server has closed is found out before it is used, not by the work.
                .test_on_check_out(true)
                .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
                .connection_customizer(Box::new(set_up))
                .build_unchecked(ConnectionManager::new(url))
        };
        Self {
            own: pool(OWN_CONNECTIONS),
            transactions: pool(u32::try_from(transactions).unwrap_or(u32::MAX)),
            set_up_each: None,
        }
    }

    /// The application's second pool.
    pub(crate) fn given(pool: Pool<ConnectionManager<C>>, busy_wait: Duration) -> Self {
        let set_up_each = Some(SetUp { kind: C::DIALECT.kind, busy_wait });
        Self { own: pool.clone(), transactions: pool, set_up_each }
    }

    /// A connection for the runtime's own work.
    pub(crate) fn get(&self) -> Result<PooledConnection<ConnectionManager<C>>, StoreError> {
        self.from(&self.own)
    }

    /// A connection for a `#[tx]` task.
    pub(crate) fn get_for_transaction(&self) -> Result<PooledConnection<ConnectionManager<C>>, StoreError> {
        self.from(&self.transactions)
    }

    fn from(&self, pool: &Pool<ConnectionManager<C>>) -> Result<PooledConnection<ConnectionManager<C>>, StoreError> {
        let mut conn = pool.get().map_err(|error| StoreError::Transient(Box::new(error)))?;
        if let Some(set_up) = self.set_up_each {
            set_up.apply(&mut *conn).map_err(crate::error::store_error)?;
        }
        Ok(conn)
    }
}

/// What every connection of the runtime is told first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetUp {
    kind: Kind,
    busy_wait: Duration,
}

impl SetUp {
    pub(crate) fn new(kind: Kind, busy_wait: Duration) -> Self {
        Self { kind, busy_wait }
    }

    pub(crate) fn apply<C: TaskConnection>(self, conn: &mut C) -> QueryResult<()> {
        match self.kind {
            // Writers wait instead of failing; readers and the writer do not block one another.
            Kind::Sqlite => {
                conn.batch_execute(&format!("PRAGMA busy_timeout = {}", self.busy_wait.as_millis()))?;
                conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")
            }
            // The fence needs to see what others committed, whatever the server's default is.
            Kind::Postgres => conn.batch_execute("SET default_transaction_isolation = 'read committed'"),
            // At REPEATABLE READ a claim's gap locks would block the application's inserts.
            Kind::Mysql => conn.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        }
    }
}

impl<C: TaskConnection> CustomizeConnection<C, diesel::r2d2::Error> for SetUp {
    fn on_acquire(&self, conn: &mut C) -> Result<(), diesel::r2d2::Error> {
        self.apply(conn).map_err(diesel::r2d2::Error::QueryError)
    }
}
