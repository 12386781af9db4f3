//! A `#[tx]` task on the caller's thread runs on the caller's own connection, where its type is the one the task takes.

use consistency_core::dispatch::{CallerRun, HandOff};
use consistency_core::executor::Transact;
use consistency_core::lane::Held;
use consistency_core::runtime::Runtime;
use consistency_core::store::{ClaimedTask, OutcomeFuture};
use consistency_core::task::{NeededType, TxBody};
#[cfg(feature = "async")]
use diesel::connection::TransactionManagerStatus;

use crate::connection::TaskConnection;
#[cfg(feature = "async")]
use crate::dialect::Kind;
use crate::transaction::{self, Opening};

/// The connection that has just committed the row.
pub(crate) struct CallersConnection<'c, C> {
    pub(crate) conn: &'c mut C,
    pub(crate) hand_off: &'c dyn HandOff,
    pub(crate) opening: Opening<'c>,
}

impl<C: TaskConnection> CallersConnection<'_, C> {
    /// Whether the task takes a transaction on this very type of connection.
    pub(crate) fn suits(runtime: &Runtime, run: &CallerRun) -> bool {
        let body = runtime.executor().body(&run.task);
        body.and_then(|body| body.connection()) == Some(NeededType::of::<C>())
    }

    /// Ends what an attempt that was dropped has left open, at its time limit or by a shutdown. The connection stays broken only
    /// where the database does not answer in time, or nobody knows what is open.
    #[cfg(feature = "async")]
    pub(crate) async fn end_what_is_open(&mut self) {
        // Where answers can be mistaken, that of the dropped statement would be taken for ours: the connection stays broken.
        if C::MISTAKES_ANSWERS || self.conn.open_depth().is_some() {
            return;
        }
        let over = match tokio::time::timeout(self.opening.busy_wait, self.conn.run_batch("ROLLBACK")).await {
            Ok(Ok(())) => true,
            // Rolled back already, when the attempt was dropped.
            Ok(Err(error)) => C::DIALECT.kind == Kind::Sqlite && error.to_string().contains("no transaction is active"),
            Err(_) => false,
        };
        if over && !self.conn.is_cut_off() {
            *self.conn.transaction_status() = TransactionManagerStatus::default();
        }
    }
}

impl<C: TaskConnection> Transact for CallersConnection<'_, C> {
    fn transact<'a>(&'a mut self, task: &'a ClaimedTask, body: &'a mut TxBody<'_>) -> OutcomeFuture<'a> {
        let (lease, charge) = (task.lease, task.charge_when_run());
        Box::pin(transaction::run_task(&mut *self.conn, lease, charge, self.hand_off, self.opening, body))
    }
}

/// Committed rows that wait for their turn on the caller. Should its future be dropped first, they are put back instead of
/// being renewed for ever by the heartbeat.
#[cfg(feature = "async")]
pub(crate) struct Waiting<'r> {
    pub(crate) runtime: &'r Runtime,
    pub(crate) runs: std::vec::IntoIter<CallerRun>,
}

#[cfg(feature = "async")]
impl Iterator for Waiting<'_> {
    type Item = CallerRun;

    fn next(&mut self) -> Option<CallerRun> {
        self.runs.next()
    }
}

#[cfg(feature = "async")]
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for run in self.runs.by_ref() {
            self.runtime.executor().release(&run.task, "its caller gave up before it started");
        }
    }
}

/// A committed row as the executor takes it.
pub(crate) fn held(run: CallerRun) -> Held {
    Held { task: run.task, lease: run.lease }
}
