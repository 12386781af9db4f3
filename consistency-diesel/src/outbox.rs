//! The outbox as applications hold it: transactions that enqueue, questions about tasks, and the end.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::call::Call;
use consistency_core::dispatch::{CallerRun, EnqueueOnly, HandOff};
use consistency_core::enqueue::Receipt;
use consistency_core::error::StoreError;
use consistency_core::lane::Held;
use consistency_core::runtime::{RunningTask, Runtime};
use consistency_core::store::{Store, TaskStatus};
use consistency_core::task::{Body, NeededType};
use diesel::result::{Error, QueryResult};

use crate::builder::OutboxBuilder;
use crate::connection::{AsTaskConnection, TaskConnection};
use crate::dialect::Kind;
use crate::error::{TransactionError, refused};
use crate::insert::{Lessor, insert_keyed};
use crate::proof;
use crate::source::Source;
use crate::task_tx::TaskTx;
use crate::test_outbox::{TestOutboxBuilder, TestRun};
use crate::transaction::{self, Opening};
use crate::write_gate::WriteGate;

/// A handle on the outbox of one database. Cheap to clone; keep one for the life of the application.
///
/// Call [`shutdown`](Self::shutdown) before the process ends. When the last handle is dropped without it, the outbox stops in
/// the background; what a process that ends at once leaves behind, others take over when its leases run out.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    role: Role,
    kind: Kind,
    connection: NeededType,
    busy_wait: Duration,
    gate: Arc<WriteGate>,
}

/// What this process does with the table.
pub(crate) enum Role {
    /// Stores and runs.
    Running(Arc<Runtime>, Arc<dyn Store>),
    /// Stores only.
    EnqueueOnly(EnqueueOnly, Arc<dyn Store>),
    /// Runs on the connection of a test.
    Test(Box<TestRun>),
}

impl Outbox {
    /// Starts to set up an outbox on `source`: a URL (`sqlite://FILE`, `postgres://..`, `mysql://..`) or an r2d2 pool of its own.
    pub fn builder(source: impl Into<Source>) -> OutboxBuilder {
        OutboxBuilder::new(source.into())
    }

    /// Starts to set up an outbox for tests: it has no threads and no connection, and runs tasks on the test's own.
    pub fn for_test<C: TaskConnection>() -> TestOutboxBuilder<C> {
        TestOutboxBuilder::new()
    }

    pub(crate) fn new(
        role: Role,
        kind: Kind,
        connection: NeededType,
        busy_wait: Duration,
        gate: Arc<WriteGate>,
    ) -> Self {
        Self { inner: Arc::new(Inner { role, kind, connection, busy_wait, gate }) }
    }

    /// Runs `work` in a transaction on `conn`, with the calls it enqueues: both are committed, or neither.
    ///
    /// After the commit immediate tasks start at once, on a worker or, with `run_on = caller`, on this thread before this
    /// function returns. A task that fails is stored as failed and retried; it never makes an error of a committed
    /// transaction. An error or a panic of `work` rolls back.
    ///
    /// # Errors
    /// The error of `work`; a Diesel error that BEGIN, the flush or COMMIT met; or a [`TransactionError`] inside one: a
    /// transaction is open already, it ended underneath, or the outcome of COMMIT is unknown. In all but the last case
    /// nothing is stored.
    ///
    /// # Panics
    /// Only if `work` does; the transaction is rolled back first.
    pub fn transaction<A, T, E>(
        &self,
        conn: &mut A,
        work: impl FnOnce(&mut TaskTx<'_, A::Connection>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        A: AsTaskConnection,
        E: From<Error>,
    {
        let conn = conn.as_task_connection();
        self.check_connection::<A::Connection>()?;
        let (value, for_caller) = transaction::run(conn, self.hand_off(), self.opening(), work)?;
        for run in for_caller {
            self.run_on_caller(conn, run);
        }
        if let Role::Test(test) = &self.inner.role {
            test.after_commit(conn)?;
        }
        Ok(value)
    }

    /// Stores calls in the transaction you have open on `conn`, and leaves their start to the poller.
    ///
    /// Prefer [`transaction`](Self::transaction): it starts immediate tasks at once and waits for SQLite's write lock.
    ///
    /// # Errors
    /// A [`TransactionError`] inside a Diesel error when no transaction is open or it has ended underneath.
    pub fn join<'c, A: AsTaskConnection>(&self, conn: &'c mut A) -> QueryResult<Joined<'c, A::Connection>> {
        let conn = conn.as_task_connection();
        self.check_connection::<A::Connection>()?;
        proof::of_open_transaction(conn)?;
        Ok(Joined { conn, outbox: self.clone() })
    }

    /// What the table says of the task with this public handle (the key, or what [`Receipt::task_id`] answered).
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        self.store()?.status(task_id)
    }

    /// Deletes at most `limit` finished rows (succeeded, cancelled, skipped) that last changed longer than `older_than` ago;
    /// returns how many. Dead and unfinished rows are never touched.
    ///
    /// # Errors
    /// When the database cannot be asked; call it again.
    pub fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store()?.prune(older_than, limit)
    }

    /// The bodies under way in this process.
    pub fn running(&self) -> Vec<RunningTask> {
        match &self.inner.role {
            Role::Running(runtime, _) => runtime.running(),
            Role::EnqueueOnly(..) | Role::Test(_) => Vec::new(),
        }
    }

    /// The name of this node in `lease_owner`; empty for an enqueue-only outbox.
    pub fn node(&self) -> &str {
        self.hand_off().node()
    }

    /// Stops running tasks: see [`shutdown_blocking`](Self::shutdown_blocking). Transactions still store their calls.
    pub async fn shutdown(&self) {
        let outbox = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                if let Err(error) = runtime.spawn_blocking(move || outbox.shutdown_blocking()).await {
                    tracing::error!(%error, "the shutdown was interrupted");
                }
            }
            Err(_) => outbox.shutdown_blocking(),
        }
    }

    /// Stops running tasks: claims nothing more, gives running attempts `shutdown_grace`, puts back the rest without an
    /// attempt, and writes every outcome. A second call returns at once.
    ///
    /// Do not call it on a thread that drives `async` tasks: it would wait for what it holds up.
    pub fn shutdown_blocking(&self) {
        if let Role::Running(runtime, _) = &self.inner.role {
            runtime.shutdown();
        }
    }

    fn hand_off(&self) -> &dyn HandOff {
        match &self.inner.role {
            Role::Running(runtime, _) => &**runtime,
            Role::EnqueueOnly(hand_off, _) => hand_off,
            Role::Test(test) => test.hand_off(),
        }
    }

    fn store(&self) -> Result<&dyn Store, StoreError> {
        match &self.inner.role {
            Role::Running(_, store) | Role::EnqueueOnly(_, store) => Ok(&**store),
            Role::Test(_) => Err(StoreError::Fatal(
                "a test outbox has no connection of its own; query `consistency_task` on yours".into(),
            )),
        }
    }

    fn opening(&self) -> Opening<'_> {
        Opening {
            gate: Some(&self.inner.gate),
            busy_wait: self.inner.busy_wait,
            inside_another: matches!(self.inner.role, Role::Test(_)),
        }
    }

    /// The test run, of an outbox made by `for_test`.
    pub(crate) fn test_run(&self) -> Option<&TestRun> {
        match &self.inner.role {
            Role::Test(test) => Some(test),
            _ => None,
        }
    }

    fn check_connection<C: TaskConnection>(&self) -> QueryResult<()> {
        if self.inner.connection == NeededType::of::<C>() {
            return Ok(());
        }
        Err(TransactionError::WrongDatabase { wanted: self.inner.kind.name(), found: C::DIALECT.kind.name() }.into())
    }

    /// Runs a committed task before the helper returns. A `#[tx]` task uses the caller's own connection.
    fn run_on_caller<C: TaskConnection>(&self, conn: &mut C, run: CallerRun) {
        let Role::Running(runtime, _) = &self.inner.role else { return };
        let executor = runtime.executor();
        if !matches!(executor.body(&run.task), Some(Body::Transactional { .. })) {
            return runtime.run_on_caller(run);
        }
        let held = Held { task: run.task, lease: run.lease };
        executor.run_transaction_on_caller(held, &mut |task, body| {
            transaction::run_task(conn, task.lease, task.charge_when_run(), &**runtime, self.opening(), body)
        });
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({}, {})", self.inner.kind.name(), self.node())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Role::Running(runtime, _) = &self.role {
            runtime.stop_in_background();
        }
    }
}

/// A transaction of the caller's own, to store calls in.
pub struct Joined<'c, C: TaskConnection> {
    conn: &'c mut C,
    outbox: Outbox,
}

impl<C: TaskConnection> Joined<'_, C> {
    /// Stores `call` now, pending; the poller of some process starts it after your commit.
    ///
    /// # Errors
    /// As [`TaskTx::enqueue`].
    pub fn enqueue(&mut self, call: Call) -> QueryResult<Receipt> {
        let row = self.outbox.hand_off().rules().check(call).map_err(refused)?;
        // An error that was ignored may have ended the transaction since the last call.
        proof::of_open_transaction(&mut *self.conn)?;
        insert_keyed(&mut *self.conn, &row, Lessor::NOBODY)
    }
}

impl<C: TaskConnection> std::fmt::Debug for Joined<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Joined")
    }
}
