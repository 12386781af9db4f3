//! The runtime's own few connections, apart from the application's: how they are opened and set up.

use std::time::Duration;

use consistency_core::error::StoreError;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};

use crate::carrier::{Carrier, CarrierManager};
use crate::set_up::SetUp;

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
