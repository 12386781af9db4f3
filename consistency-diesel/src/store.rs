//! The contract of `consistency-core`, kept by a pool of connections; wiring only.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::enqueue::Receipt;
use consistency_core::error::StoreError;
use consistency_core::new_task::NewTask;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, Head, LeaseId, OutcomeFuture, Renewed, Rescued, Settled, Settlement, Store, TaskStatus,
    TransactionOutcome,
};
use consistency_core::task::{NeededType, TxBody};
use diesel::r2d2::ManageConnection;
use diesel::result::QueryResult;
use parking_lot::Mutex;

use crate::carrier::Carrier;
use crate::connection::TaskConnection;
use crate::error::store_error;
use crate::insert::{Lessor, insert_keyed};
use crate::operations;
use crate::own_transactions::OwnTransactions;
use crate::pool::Connections;
use crate::write_gate::WriteGate;

/// The runtime's own connections to one database.
pub(crate) struct DieselStore<M: ManageConnection> {
    connections: Connections<M>,
    /// Where `#[tx]` tasks run, for each connection type they can have.
    transactions: Vec<Box<dyn OwnTransactions>>,
    gate: Arc<WriteGate>,
    /// Questions and prunes from outside take turns, so that they never use up the runtime's own connections.
    outside: Mutex<()>,
}

impl<M: ManageConnection<Connection: Carrier>> DieselStore<M> {
    pub(crate) fn new(
        connections: Connections<M>,
        transactions: Vec<Box<dyn OwnTransactions>>,
        gate: Arc<WriteGate>,
    ) -> Self {
        Self { connections, transactions, gate, outside: Mutex::new(()) }
    }

    fn read<T>(&self, work: impl AsyncFnOnce(&mut Connection<M>) -> QueryResult<T>) -> Result<T, StoreError> {
        let mut conn = self.connections.get()?;
        conn.run(work).map_err(store_error)
    }

    fn write<T>(&self, work: impl AsyncFnOnce(&mut Connection<M>) -> QueryResult<T>) -> Result<T, StoreError> {
        let mut conn = self.connections.get()?;
        let _turn = self.gate.enter();
        conn.run(work).map_err(store_error)
    }
}

/// The connection inside those of a pool.
type Connection<M> = <<M as ManageConnection>::Connection as Carrier>::Connection;

impl<M: ManageConnection<Connection: Carrier>> Store for DieselStore<M> {
    fn connections(&self) -> Vec<NeededType> {
        self.transactions.iter().map(|transactions| transactions.connection()).collect()
    }

    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError> {
        let lessor = Lessor { node, lease, guarded: false };
        self.write(async |conn| {
            operations::open_transaction(conn).await?;
            let inserted = insert_each(conn, rows, lessor).await;
            operations::close_transaction(conn, inserted).await
        })
    }

    fn look(&self, queues: &[String]) -> Result<Vec<Head>, StoreError> {
        self.read(async |conn| operations::look(conn, queues).await)
    }

    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError> {
        self.write(async |conn| operations::claim(conn, request).await)
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.write(async |conn| operations::settle(conn, settlements).await)
    }

    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.write(async |conn| operations::renew(conn, leases, lease).await)
    }

    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError> {
        self.write(async |conn| operations::rescue(conn, crash_budget, limit).await)
    }

    fn unknown_names(&self, names: &[String], limit: usize) -> Result<Vec<String>, StoreError> {
        self.read(async |conn| operations::unknown_names(conn, names, limit).await)
    }

    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        let _turn = self.outside.lock();
        self.read(async |conn| operations::find_status(conn, task_id).await)
    }

    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let _turn = self.outside.lock();
        self.write(async |conn| operations::prune(conn, older_than, limit).await)
    }

    fn run_in_transaction<'a>(
        &'a self,
        connection: NeededType,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a> {
        match self.transactions.iter().find(|transactions| transactions.connection() == connection) {
            Some(transactions) => transactions.run(lease, charge, hand_off, body),
            // A start refuses such tasks.
            None => {
                let error = format!("this outbox has no connections of type `{}`", connection.name);
                Box::pin(std::future::ready(TransactionOutcome::NotStarted(StoreError::Fatal(error.into()))))
            }
        }
    }
}

async fn insert_each<C: TaskConnection>(
    conn: &mut C,
    rows: &[NewTask],
    lessor: Lessor<'_>,
) -> QueryResult<Vec<Receipt>> {
    let mut receipts = Vec::with_capacity(rows.len());
    for row in rows {
        receipts.push(insert_keyed(conn, row, lessor).await?);
    }
    Ok(receipts)
}
