//! The runtime's own connections for `#[tx]` tasks, of either world.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::store::{LeaseId, OutcomeFuture, TransactionOutcome};
use consistency_core::task::{NeededType, TxBody};
use diesel::r2d2::ManageConnection;
use parking_lot::{Condvar, Mutex};

use crate::blocking_connection::BlockingConnection;
use crate::pool::Connections;
use crate::transaction::{self, Opening};
use crate::write_gate::WriteGate;

/// Connections of one type, in each of which one `#[tx]` task can run at a time.
pub(crate) trait OwnTransactions: Send + Sync {
    /// Their type.
    fn connection(&self) -> NeededType;

    /// Runs `body` in a transaction on one of them. It waits for one as long as it takes, so that a long task fails nobody.
    fn run<'a>(
        &'a self,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a>;
}

/// Connections of Diesel's own.
pub(crate) struct BlockingTransactions<M: ManageConnection> {
    connections: Connections<M>,
    free: Permits,
    gate: Arc<WriteGate>,
    busy_wait: Duration,
}

impl<M: ManageConnection> BlockingTransactions<M> {
    /// At most `most` at a time, on `connections`.
    pub(crate) fn new(connections: Connections<M>, most: usize, gate: Arc<WriteGate>, busy_wait: Duration) -> Self {
        Self { connections, free: Permits::new(most), gate, busy_wait }
    }
}

impl<M: ManageConnection<Connection: BlockingConnection>> OwnTransactions for BlockingTransactions<M> {
    fn connection(&self) -> NeededType {
        NeededType::of::<M::Connection>()
    }

    fn run<'a>(
        &'a self,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a> {
        Box::pin(async move {
            let _permit = self.free.take();
            match self.connections.get() {
                Ok(mut conn) => {
                    let opening = Opening { gate: Some(&self.gate), busy_wait: self.busy_wait, inside_another: false };
                    transaction::run_task(&mut *conn, lease, charge, hand_off, opening, body).await
                }
                Err(error) => TransactionOutcome::NotStarted(error),
            }
        })
    }
}

/// A counted right to go on.
struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    fn new(count: usize) -> Self {
        Self { free: Mutex::new(count.max(1)), returned: Condvar::new() }
    }

    fn take(&self) -> Permit<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.returned.wait(&mut free);
        }
        *free -= 1;
        Permit(self)
    }
}

struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(feature = "async")]
pub(crate) use asynchronous::AsyncTransactions;

#[cfg(feature = "async")]
mod asynchronous {
    use std::marker::PhantomData;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use bb8::{ManageConnection, Pool};
    use consistency_core::dispatch::HandOff;
    use consistency_core::error::StoreError;
    use consistency_core::store::{LeaseId, OutcomeFuture, TransactionOutcome};
    use consistency_core::task::{NeededType, TxBody};
    use tokio::sync::Semaphore;

    use super::OwnTransactions;
    use crate::async_connection::AsyncTaskConnection;
    use crate::set_up::SetUp;
    use crate::statement::Statement;
    use crate::transaction::{self, Opening};
    use crate::write_gate::WriteGate;

    /// Connections of diesel-async, on the Tokio runtime of the bodies.
    pub(crate) struct AsyncTransactions<C: AsyncTaskConnection> {
        url: String,
        most: usize,
        free: Semaphore,
        pool: OnceLock<Pool<Manager<C>>>,
        gate: Arc<WriteGate>,
        busy_wait: Duration,
    }

    impl<C: AsyncTaskConnection> AsyncTransactions<C> {
        /// At most `most` at a time, to `url`. No connection is opened yet.
        pub(crate) fn new(url: &str, most: usize, gate: Arc<WriteGate>, busy_wait: Duration) -> Self {
            let most = most.clamp(1, Semaphore::MAX_PERMITS);
            Self { url: url.to_owned(), most, free: Semaphore::new(most), pool: OnceLock::new(), gate, busy_wait }
        }

        /// Made at the first use, inside the Tokio runtime that its connections live on.
        fn pool(&self) -> &Pool<Manager<C>> {
            self.pool.get_or_init(|| {
                let set_up = SetUp::of::<C>(self.busy_wait);
                Pool::builder()
                    .max_size(u32::try_from(self.most).unwrap_or(u32::MAX))
                    .connection_timeout(self.busy_wait)
                    // Without these there is no reaper to be left behind.
                    .max_lifetime(None)
                    .idle_timeout(None)
                    .build_unchecked(Manager { url: self.url.clone(), set_up, connection: PhantomData })
            })
        }
    }

    /// Opens connections set up for the runtime.
    struct Manager<C> {
        url: String,
        set_up: SetUp,
        connection: PhantomData<fn() -> C>,
    }

    impl<C: AsyncTaskConnection> ManageConnection for Manager<C> {
        type Connection = C;
        type Error = diesel::r2d2::Error;

        async fn connect(&self) -> Result<C, Self::Error> {
            let mut conn = C::dial(&self.url).await.map_err(diesel::r2d2::Error::ConnectionError)?;
            self.set_up.apply(&mut conn).await.map_err(diesel::r2d2::Error::QueryError)?;
            Ok(conn)
        }

        async fn is_valid(&self, conn: &mut C) -> Result<(), Self::Error> {
            // The very answer: that of a statement nobody waited for must not pass for it.
            let nonce = i64::from(rand::random::<u32>());
            let asked = conn.load_ids(Statement::new("SELECT {nonce}", &[("nonce", nonce.into())])).await;
            match asked.map_err(diesel::r2d2::Error::QueryError)?.as_slice() {
                [answer] if *answer == nonce => Ok(()),
                _ => Err(diesel::r2d2::Error::QueryError(diesel::result::Error::BrokenTransactionManager)),
            }
        }

        fn has_broken(&self, conn: &mut C) -> bool {
            // While a panic unwinds, a wrapped connection may still be in use and would panic again.
            std::thread::panicking() || conn.is_broken()
        }
    }

    impl<C: AsyncTaskConnection> OwnTransactions for AsyncTransactions<C> {
        fn connection(&self) -> NeededType {
            NeededType::of::<C>()
        }

        fn run<'a>(
            &'a self,
            lease: LeaseId,
            charge: i64,
            hand_off: &'a dyn HandOff,
            body: &'a mut TxBody<'_>,
        ) -> OutcomeFuture<'a> {
            Box::pin(async move {
                // An error means that it was closed, which nobody does.
                let _permit = self.free.acquire().await.ok();
                match self.pool().get().await {
                    Ok(mut conn) => {
                        let gate = Some(&*self.gate);
                        let opening = Opening { gate, busy_wait: self.busy_wait, inside_another: false };
                        transaction::run_task(&mut *conn, lease, charge, hand_off, opening, body).await
                    }
                    Err(error) => TransactionOutcome::NotStarted(StoreError::Transient(Box::new(error))),
                }
            })
        }
    }
}
