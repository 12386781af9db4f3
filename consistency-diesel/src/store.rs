//! The contract of `consistency-core`, kept by a pool of connections; wiring only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::enqueue::Receipt;
use consistency_core::error::StoreError;
use consistency_core::new_task::NewTask;
use consistency_core::rescue::Rescued;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, LeaseId, OutcomeFuture, Outlook, Renewed, Settled, Settlement, Store, TaskStatus,
    TransactionOutcome,
};
use consistency_core::task::{NeededType, TxBody};
use diesel::result::QueryResult;
use parking_lot::{Mutex, MutexGuard};

use crate::claims;
use crate::connection::TaskConnection;
use crate::error::{TransactionError, has_disconnected};
use crate::insert::{Lessor, insert_keyed};
use crate::operations;
use crate::own_transactions::OwnTransactions;
use crate::pool::Connections;
use crate::read_only;
use crate::settle;
use crate::waiting::Waiting;
use crate::write_gate::WriteGate;

/// How many statements must fit into the limit of one operation.
const STATEMENTS_IN_TIME: usize = 100;
/// How many outcomes that take statements of their own go into one operation.
const WITH_ROWS_IN_TIME: usize = 20;
/// Least time for what a lease makes pointless later: a machine may be busy.
const LEASE_WORK_AT_LEAST: Duration = Duration::from_secs(1);

/// The runtime's own connections to one database.
pub(crate) struct DieselStore<R> {
    connections: R,
    /// Where `#[tx]` tasks run, for each connection type they can have.
    transactions: Vec<Box<dyn OwnTransactions>>,
    gate: Arc<WriteGate>,
    /// Longest time for one operation.
    limit: Duration,
    /// Questions and prunes from outside take turns, so that they never use up the runtime's own connections.
    outside: Mutex<()>,
}

impl<R: Connections> DieselStore<R> {
    pub(crate) fn new(
        connections: R,
        transactions: Vec<Box<dyn OwnTransactions>>,
        gate: Arc<WriteGate>,
        limit: Duration,
    ) -> Self {
        Self { connections, transactions, gate, limit, outside: Mutex::new(()) }
    }

    fn waiting(&self, what: &'static str) -> Waiting {
        Waiting::begin(what, self.limit)
    }

    /// For what is written row by row.
    fn waiting_for_rows(&self, what: &'static str, rows: usize) -> Waiting {
        let times = 1 + u32::try_from(rows / STATEMENTS_IN_TIME).unwrap_or(u32::MAX - 1);
        Waiting::begin(what, self.limit.saturating_mul(times))
    }

    /// For what is of no use once half a lease is over.
    fn waiting_within(&self, lease: Duration, what: &'static str) -> Waiting {
        Waiting::begin(what, self.limit.min((lease / 2).max(LEASE_WORK_AT_LEAST)))
    }

    fn write<T: Send + 'static>(
        &self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut R::Connection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.gate.is_held_around() {
            return Err(StoreError::Fatal(Box::new(TransactionError::InsideAnother)));
        }
        let _turn = self.gate.enter();
        self.run(waiting.anew(), work)
    }

    /// A connection that turns out to be read-only is not kept.
    fn run<T: Send + 'static>(
        &self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut R::Connection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.connections.run(waiting, async move |conn: &mut R::Connection| {
            let done = work(&mut *conn).await;
            read_only::let_go_after(conn, &done);
            done
        })
    }

    /// Asks what changes nothing, and once more where a connection turns out to be gone: nobody has tested it for a while. What is
    /// asked twice has no more time than what is asked once.
    fn ask<T: Send + 'static, W>(&self, waiting: Waiting, work: impl Fn() -> W) -> Result<T, StoreError>
    where
        W: AsyncFnOnce(&mut R::Connection) -> QueryResult<T> + Send + 'static,
    {
        match self.run(waiting, work()) {
            Err(error) if has_disconnected(&error) && waiting.left() > self.limit / 2 => self.run(waiting, work()),
            answer => answer,
        }
    }

    /// The turn of a question from outside.
    fn turn(&self, waiting: Waiting) -> Result<MutexGuard<'_, ()>, StoreError> {
        let others = "others from outside take as long";
        self.outside
            .try_lock_for(waiting.left())
            .ok_or_else(|| StoreError::Transient(waiting.no_connection(&others).into()))
    }
}

impl<R: Connections> Store for DieselStore<R> {
    fn connections(&self) -> Vec<NeededType> {
        self.transactions.iter().map(|transactions| transactions.connection()).collect()
    }

    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError> {
        let (rows, node) = (rows.to_vec(), node.to_owned());
        let waiting = self.waiting_for_rows("an insert", rows.len());
        self.write(waiting, async move |conn| {
            let lessor = Lessor { node: &node, lease, guarded: false };
            operations::open_transaction(conn).await?;
            let inserted = insert_each(conn, &rows, lessor).await;
            operations::close_transaction(conn, inserted).await
        })
    }

    fn look(&self, queues: &[String]) -> Result<Outlook, StoreError> {
        let waiting = self.waiting("a look for due tasks");
        self.ask(waiting, || {
            let queues = queues.to_vec();
            async move |conn: &mut R::Connection| operations::look(conn, &queues).await
        })
    }

    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError> {
        let ClaimRequest { node, lease, queue, priority, names, limit, share } = *request;
        let (node, queue, names) = (node.to_owned(), queue.to_owned(), names.to_vec());
        self.write(self.waiting_within(lease, "a claim"), async move |conn| {
            let (node, queue, names) = (&*node, &*queue, &*names);
            let request = ClaimRequest { node, lease, queue, priority, names, limit, share };
            claims::claim(conn, &request).await
        })
    }

    fn put_back_unheld(&self, node: &str, held: &[i64], since: Duration, lease: Duration) -> Result<usize, StoreError> {
        let (node, held) = (node.to_owned(), held.to_vec());
        self.write(self.waiting_within(lease, "what lost claims took"), async move |conn| {
            claims::put_back_unheld(conn, &node, &held, since, lease).await
        })
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let (alone, with_rows): (Vec<_>, Vec<_>) =
            settlements.iter().cloned().partition(|settlement| settlement.follow_ups.is_empty());
        // Those with rows of their own take some statements each: not too many of them within one limit.
        let parts =
            std::iter::once(&*alone).filter(|alone| !alone.is_empty()).chain(with_rows.chunks(WITH_ROWS_IN_TIME));
        let mut answers = HashMap::with_capacity(settlements.len());
        for part in parts.map(<[Settlement]>::to_vec) {
            let leases: Vec<LeaseId> = part.iter().map(|settlement| settlement.lease).collect();
            let rows = part.iter().map(|settlement| settlement.follow_ups.len()).sum();
            let waiting = self.waiting_for_rows("a settlement", rows);
            let settled = self.write(waiting, async move |conn| settle::settle(conn, &part).await)?;
            answers.extend(leases.into_iter().zip(settled));
        }
        Ok(settlements
            .iter()
            .map(|settlement| answers.get(&settlement.lease).copied().unwrap_or(Settled::Lost))
            .collect())
    }

    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        let leases = leases.to_vec();
        let waiting = self.waiting_within(lease, "a renewal of leases");
        self.write(waiting, async move |conn| operations::renew(conn, &leases, lease).await)
    }

    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError> {
        let waiting = self.waiting("a rescue");
        self.write(waiting, async move |conn| operations::rescue(conn, crash_budget, limit).await)
    }

    fn unknown_names(&self, queues: &[String], names: &[String], limit: usize) -> Result<Vec<String>, StoreError> {
        self.ask(self.waiting("a look for unknown names"), || {
            let (queues, names) = (queues.to_vec(), names.to_vec());
            async move |conn: &mut R::Connection| operations::unknown_names(conn, &queues, &names, limit).await
        })
    }

    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        let waiting = self.waiting("a question about a task");
        let _turn = self.turn(waiting)?;
        self.ask(waiting, || {
            let task_id = task_id.to_owned();
            async move |conn: &mut R::Connection| operations::find_status(conn, &task_id).await
        })
    }

    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let waiting = self.waiting("a prune");
        let _turn = self.turn(waiting)?;
        self.write(waiting, async move |conn| operations::prune(conn, older_than, limit).await)
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

    fn gave_up(&self, lease: LeaseId) {
        self.transactions.iter().for_each(|transactions| transactions.gave_up(lease));
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
