//! The runtime's own few connections, apart from the application's: how they are opened, and what is asked on them.

use std::time::Duration;

use consistency_core::error::StoreError;
use diesel::r2d2::{Pool, PooledConnection};
use diesel::result::QueryResult;

use crate::carrier::{Carrier, CarrierManager, Pooled};
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::store_error;
use crate::set_up::SetUp;
use crate::transaction;
use crate::waiting::Waiting;

/// Connections for claiming, settling, renewing, and one for questions from outside.
pub(crate) const OWN_CONNECTIONS: u32 = 4;
/// Longest pause between two tries to open a connection, so that a database that is back is soon used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Connections the runtime's threads can ask on, wherever they come from. Nothing takes longer than its wait and a quarter more,
/// but on SQLite.
pub(crate) trait Connections: Send + Sync + 'static {
    /// Their type.
    type Connection: TaskConnection;
    /// One of them, lent.
    type Lent: Lent<Self::Connection> + Send;

    /// Runs `work` on one of them, to its end.
    ///
    /// # Errors
    /// The database's, or that the wait was in vain.
    fn run<T: Send + 'static>(
        &self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut Self::Connection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError>;

    /// Lends one of them; to a server with a task's transaction begun on it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn lend(&self, waiting: Waiting) -> Result<Self::Lent, StoreError>;
}

/// A connection of the runtime's, until it is dropped.
pub(crate) trait Lent<C> {
    /// The connection; `None` when it was given up.
    fn connection(&mut self) -> Option<&mut C>;
}

/// Whether a task's transaction is begun before its connection is lent.
pub(crate) fn begins_apart<C: TaskConnection>() -> bool {
    C::DIALECT.kind != Kind::Sqlite
}

/// A pool of connections of our own.
pub(crate) struct OwnPool<K: Carrier> {
    pool: Pool<CarrierManager<K>>,
}

impl<K: Carrier> OwnPool<K> {
    /// A pool of `size` connections to `url`, each told `set_up` and there within `limit`. None is opened yet.
    pub(crate) fn open(url: &str, size: u32, set_up: SetUp, limit: Duration) -> Self {
        let pool = Pool::builder()
            .max_size(size.max(1))
            .min_idle(Some(0))
            .connection_timeout(LONGEST_PAUSE * 2)
            // One the server has closed long ago is found out before it is used, not by the work.
            .test_on_check_out(true)
            .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
            .build_unchecked(CarrierManager::new(url, set_up, limit));
        Self { pool }
    }

    fn get(&self, waiting: Waiting) -> Result<PooledConnection<CarrierManager<K>>, StoreError> {
        let got = self.pool.get_timeout(waiting.left());
        got.map_err(|error| StoreError::Transient(waiting.no_connection(&error).into()))
    }
}

impl<K: Carrier> Connections for OwnPool<K> {
    type Connection = K::Connection;
    type Lent = PooledConnection<CarrierManager<K>>;

    fn run<T: Send + 'static>(
        &self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut K::Connection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.get(waiting)?.run(waiting, work).map_err(store_error)
    }

    fn lend(&self, waiting: Waiting) -> Result<Self::Lent, StoreError> {
        let mut lent = self.get(waiting)?;
        if begins_apart::<K::Connection>() {
            lent.run(waiting, async |conn| transaction::send_begin(conn, Duration::ZERO).await).map_err(store_error)?;
        }
        Ok(lent)
    }
}

impl<K: Carrier> Lent<K::Connection> for PooledConnection<CarrierManager<K>> {
    fn connection(&mut self) -> Option<&mut K::Connection> {
        Pooled::connection(self)
    }
}
