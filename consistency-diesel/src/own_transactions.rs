//! The runtime's own connections for `#[tx]` tasks, of either world.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::error::StoreError;
use consistency_core::store::{LeaseId, OutcomeFuture, TransactionOutcome};
use consistency_core::task::{NeededType, TxBody};
use parking_lot::{Condvar, Mutex};

use crate::blocking_connection::BlockingConnection;
use crate::pool::{Connections, Lent, begins_apart};
use crate::read_only;
use crate::transaction::{self, Opening};
use crate::waiting::Waiting;
use crate::write_gate::WriteGate;

/// What a start waits for, in words.
const BEGIN: &str = "the begin of a task's transaction";

/// Connections of one type, in each of which one `#[tx]` task can run at a time.
pub(crate) trait OwnTransactions: Send + Sync {
    /// Their type.
    fn connection(&self) -> NeededType;

    /// Runs `body` in a transaction on one of them. It waits for other tasks to be done with theirs as long as it takes, so that
    /// a long task fails nobody; for the database it waits only so long.
    fn run<'a>(
        &'a self,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a>;

    /// Counts this row's attempt no more: its thread may hang for ever, and with it its connection.
    fn gave_up(&self, lease: LeaseId);
}

/// Connections of Diesel's own.
pub(crate) struct BlockingTransactions<R> {
    connections: R,
    free: Permits,
    gate: Arc<WriteGate>,
    busy_wait: Duration,
    limit: Duration,
}

impl<R> BlockingTransactions<R> {
    /// At most `most` at a time, on `connections`; of these at most `lendable` are lent, those of attempts given up among them.
    pub(crate) fn new(
        connections: R,
        (most, lendable): (usize, usize),
        gate: Arc<WriteGate>,
        busy_wait: Duration,
        limit: Duration,
    ) -> Self {
        Self { connections, free: Permits::new(most, lendable), gate, busy_wait, limit }
    }
}

impl<R: Connections<Connection: BlockingConnection>> OwnTransactions for BlockingTransactions<R> {
    fn connection(&self) -> NeededType {
        NeededType::of::<R::Connection>()
    }

    fn run<'a>(
        &'a self,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a> {
        Box::pin(async move {
            let _permit = self.free.take(lease);
            let mut lent = match self.connections.lend(Waiting::begin(BEGIN, self.limit)) {
                Ok(lent) => lent,
                Err(error) => return TransactionOutcome::NotStarted(error),
            };
            let Some(conn) = lent.connection() else {
                return TransactionOutcome::NotStarted(StoreError::Transient("the connection was given up".into()));
            };
            let opening = Opening {
                gate: Some(&self.gate),
                busy_wait: self.busy_wait,
                inside_another: false,
                begun: begins_apart::<R::Connection>(),
                limit: None,
            };
            let outcome = transaction::run_task(&mut *conn, lease, charge, hand_off, opening, body).await;
            read_only::let_go_after_task(conn, &outcome);
            outcome
        })
    }

    fn gave_up(&self, lease: LeaseId) {
        self.free.give_back(lease);
    }
}

/// Counted rights to go on, each in the name of a row, and the connections behind them.
struct Permits {
    state: Mutex<PermitState>,
    returned: Condvar,
}

struct PermitState {
    free: usize,
    held: HashSet<LeaseId>,
    /// Connections not lent. An attempt given up keeps its own until it ends, although its right is given back.
    lendable: usize,
}

impl Permits {
    fn new(count: usize, lendable: usize) -> Self {
        let state = PermitState { free: count.max(1), held: HashSet::new(), lendable: lendable.max(1) };
        Self { state: Mutex::new(state), returned: Condvar::new() }
    }

    fn take(&self, lease: LeaseId) -> Permit<'_> {
        let mut state = self.state.lock();
        while state.free == 0 || state.lendable == 0 {
            self.returned.wait(&mut state);
        }
        state.free -= 1;
        state.lendable -= 1;
        state.held.insert(lease);
        Permit { permits: self, lease }
    }

    /// Gives the right of this row back, if it still has one.
    fn give_back(&self, lease: LeaseId) {
        let mut state = self.state.lock();
        if state.held.remove(&lease) {
            state.free += 1;
            self.returned.notify_one();
        }
    }
}

struct Permit<'a> {
    permits: &'a Permits,
    lease: LeaseId,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.state.lock().lendable += 1;
        self.permits.give_back(self.lease);
        // Its right may have been given back before, and somebody wait for the connection alone.
        self.permits.returned.notify_one();
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

    use super::{BEGIN, OwnTransactions};
    use crate::async_connection::AsyncTaskConnection;
    use crate::read_only;
    use crate::set_up::SetUp;
    use crate::statement::Statement;
    use crate::transaction::{self, Opening};
    use crate::waiting::Waiting;
    use crate::write_gate::WriteGate;

    /// Connections of diesel-async, on the Tokio runtime of the bodies.
    pub(crate) struct AsyncTransactions<C: AsyncTaskConnection> {
        url: String,
        most: usize,
        free: Semaphore,
        pool: OnceLock<Pool<Manager<C>>>,
        gate: Arc<WriteGate>,
        busy_wait: Duration,
        limit: Duration,
    }

    impl<C: AsyncTaskConnection> AsyncTransactions<C> {
        /// At most `most` at a time, to `url`. No connection is opened yet.
        pub(crate) fn new(url: &str, most: usize, gate: Arc<WriteGate>, busy_wait: Duration, limit: Duration) -> Self {
            let most = most.clamp(1, Semaphore::MAX_PERMITS);
            Self {
                url: url.to_owned(),
                most,
                free: Semaphore::new(most),
                pool: OnceLock::new(),
                gate,
                busy_wait,
                limit,
            }
        }

        /// Made at the first use, inside the Tokio runtime that its connections live on.
        fn pool(&self) -> &Pool<Manager<C>> {
            self.pool.get_or_init(|| {
                let set_up = SetUp::of::<C>(self.busy_wait);
                Pool::builder()
                    .max_size(u32::try_from(self.most).unwrap_or(u32::MAX))
                    .connection_timeout(self.limit)
                    // Without these there is no reaper to be left behind.
                    .max_lifetime(None)
                    .idle_timeout(None)
                    .build_unchecked(Manager {
                        url: self.url.clone(),
                        set_up,
                        limit: self.limit,
                        connection: PhantomData,
                    })
            })
        }
    }

    /// Opens connections set up for the runtime.
    struct Manager<C> {
        url: String,
        set_up: SetUp,
        limit: Duration,
        connection: PhantomData<fn() -> C>,
    }

    impl<C: AsyncTaskConnection> ManageConnection for Manager<C> {
        type Connection = C;
        type Error = diesel::r2d2::Error;

        async fn connect(&self) -> Result<C, Self::Error> {
            let waiting = Waiting::begin("a new connection", self.limit);
            let connect = async {
                let mut conn = C::dial(&self.url).await.map_err(diesel::r2d2::Error::ConnectionError)?;
                self.set_up.apply(&mut conn).await.map_err(diesel::r2d2::Error::QueryError)?;
                Ok(conn)
            };
            let in_vain = |_| Err(diesel::r2d2::Error::QueryError(waiting.in_vain("")));
            tokio::time::timeout(waiting.left(), connect).await.unwrap_or_else(in_vain)
        }

        async fn is_valid(&self, conn: &mut C) -> Result<(), Self::Error> {
            // The very answer: that of a statement nobody waited for must not pass for it.
            let nonce = i64::from(rand::random::<u32>());
            let waiting = Waiting::for_ping(self.limit);
            let asked = conn.load_ids(Statement::new("SELECT {nonce}", [("nonce", nonce.into())]));
            let asked = tokio::time::timeout(waiting.left(), asked).await.unwrap_or_else(|_| Err(waiting.in_vain("")));
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
                        let (busy_wait, limit) = (self.busy_wait, Some(self.limit));
                        let opening = Opening { gate, busy_wait, inside_another: false, begun: false, limit };
                        let outcome = transaction::run_task(&mut *conn, lease, charge, hand_off, opening, body).await;
                        read_only::let_go_after_task(&mut *conn, &outcome);
                        outcome
                    }
                    Err(error) => {
                        let error = Waiting::begin(BEGIN, self.limit).no_connection(&error);
                        TransactionOutcome::NotStarted(StoreError::Transient(error.into()))
                    }
                }
            })
        }

        /// The end of its future gives everything back.
        fn gave_up(&self, _lease: LeaseId) {}
    }
}
