//! The contract of `consistency-core`, kept by a Diesel connection pool; wiring only.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::enqueue::Receipt;
use consistency_core::error::{StoreError, TaskError};
use consistency_core::new_task::NewTask;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, Head, LeaseId, Renewed, Rescued, Settled, Settlement, Store, TaskStatus,
    TransactionOutcome,
};
use consistency_core::task::{NeededType, TxParts};
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel::result::QueryResult;
use parking_lot::{Condvar, Mutex};

use crate::connection::TaskConnection;
use crate::error::store_error;
use crate::insert::{Lessor, insert_keyed};
use crate::operations;
use crate::pool::Connections;
use crate::transaction::{self, Opening};
use crate::write_gate::WriteGate;

/// The runtime's own connections to one database.
pub(crate) struct DieselStore<C: TaskConnection> {
    connections: Connections<C>,
    busy_wait: Duration,
    /// How many `#[tx]` tasks may run now. They wait here as long as it takes, so that a long one fails nobody.
    transactions: Permits,
    gate: Arc<WriteGate>,
    /// Questions and prunes from outside take turns, so that they never use up the runtime's own connections.
    outside: Mutex<()>,
}

impl<C: TaskConnection> DieselStore<C> {
    pub(crate) fn new(
        connections: Connections<C>,
        transactions: usize,
        busy_wait: Duration,
        gate: Arc<WriteGate>,
    ) -> Self {
        Self { connections, busy_wait, transactions: Permits::new(transactions), gate, outside: Mutex::new(()) }
    }

    fn read<T>(&self, work: impl FnOnce(&mut C) -> QueryResult<T>) -> Result<T, StoreError> {
        let mut conn = self.connections.get()?;
        work(&mut conn).map_err(store_error)
    }

    fn write<T>(&self, work: impl FnOnce(&mut C) -> QueryResult<T>) -> Result<T, StoreError> {
        let mut conn = self.connections.get()?;
        let _turn = self.gate.enter();
        work(&mut conn).map_err(store_error)
    }

    fn transaction_connection(&self) -> Result<PooledConnection<ConnectionManager<C>>, StoreError> {
        self.connections.get_for_transaction()
    }
}

impl<C: TaskConnection> Store for DieselStore<C> {
    fn connection(&self) -> Option<NeededType> {
        Some(NeededType::of::<C>())
    }

    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError> {
        let lessor = Lessor { node, lease, guarded: false };
        self.write(|conn| {
            operations::begin(conn, |conn| rows.iter().map(|row| insert_keyed(conn, row, lessor)).collect())
        })
    }

    fn look(&self, queues: &[String]) -> Result<Vec<Head>, StoreError> {
        self.read(|conn| operations::look(conn, queues))
    }

    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError> {
        self.write(|conn| operations::claim(conn, request))
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.write(|conn| operations::settle(conn, settlements))
    }

    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.write(|conn| operations::renew(conn, leases, lease))
    }

    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError> {
        self.write(|conn| operations::rescue(conn, crash_budget, limit))
    }

    fn unknown_names(&self, names: &[String], limit: usize) -> Result<Vec<String>, StoreError> {
        self.read(|conn| operations::unknown_names(conn, names, limit))
    }

    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        let _turn = self.outside.lock();
        self.read(|conn| operations::find_status(conn, task_id))
    }

    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let _turn = self.outside.lock();
        self.write(|conn| operations::prune(conn, older_than, limit))
    }

    fn run_in_transaction(
        &self,
        lease: LeaseId,
        charge: i64,
        hand_off: &dyn HandOff,
        body: &mut dyn FnMut(TxParts<'_>) -> Result<(), TaskError>,
    ) -> TransactionOutcome {
        let _permit = self.transactions.take();
        match self.transaction_connection() {
            Ok(mut conn) => {
                let opening = Opening { gate: Some(&self.gate), busy_wait: self.busy_wait, inside_another: false };
                transaction::run_task(&mut *conn, lease, charge, hand_off, opening, body)
            }
            Err(error) => TransactionOutcome::NotStarted(error),
        }
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
