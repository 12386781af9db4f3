//! The runtime's own few connections, apart from the application's: how they are opened and set up.

use std::time::Duration;

use consistency_core::error::StoreError;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};
use diesel::result::QueryResult;

use crate::busy::Busy;
use crate::carrier::{Carrier, CarrierManager};
use crate::connection::TaskConnection;
use crate::dialect::Kind;

/// Connections for claiming, settling, renewing, and one for questions from outside.
pub(crate) const OWN_CONNECTIONS: u32 = 4;

/// A pool of connections that the runtime's threads call.
pub(crate) struct Connections<M: ManageConnection> {
    pool: Pool<M>,
    /// A given pool is the application's: its connections are set up at each use.
    set_up_each: Option<SetUp>,
}

impl<K: Carrier> Connections<CarrierManager<K>> {
    /// A pool of `size` connections of our own to `url`. None is opened yet.
    pub(crate) fn open(url: &str, size: u32, busy_wait: Duration) -> Self {
        let pool = Pool::builder()
            .max_size(size.max(1))
            .min_idle(Some(0))
            .connection_timeout(busy_wait)
            // A connection the server has closed is found out before it is used, not by the work.
            .test_on_check_out(true)
            .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
            .build_unchecked(CarrierManager::new(url, SetUp::of::<K::Connection>(busy_wait)));
        Self { pool, set_up_each: None }
    }
}

impl<M: ManageConnection<Connection: Carrier>> Connections<M> {
    /// The application's second pool.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn given(pool: Pool<M>, busy_wait: Duration) -> Self {
        Self { pool, set_up_each: Some(SetUp::of::<<M::Connection as Carrier>::Connection>(busy_wait)) }
    }

    /// A connection of the pool.
    pub(crate) fn get(&self) -> Result<PooledConnection<M>, StoreError> {
        let mut conn = self.pool.get().map_err(|error| StoreError::Transient(Box::new(error)))?;
        if let Some(set_up) = self.set_up_each {
            conn.run(async |conn| set_up.apply(conn).await).map_err(crate::error::store_error)?;
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
