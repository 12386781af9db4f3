//! The outbox as applications hold it: transactions that enqueue, questions about tasks, and the end.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::call::Call;
use consistency_core::dispatch::{EnqueueOnly, HandOff};
use consistency_core::enqueue::Receipt;
use consistency_core::error::StoreError;
use consistency_core::health::Trouble;
use consistency_core::runtime::{RunningTask, Runtime};
use consistency_core::store::{Store, TaskStatus};
use diesel::result::QueryResult;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use crate::builder::OutboxBuilder;
use crate::connection::{Answer, AsTaskConnection, TaskConnection, answer};
use crate::dialect::Kind;
use crate::error::{TransactionError, refused};
use crate::insert::{Lessor, insert_keyed};
use crate::notify::Notifications;
use crate::proof;
use crate::source::Source;
use crate::test_outbox::{TestOutboxBuilder, TestRun};
use crate::transaction::Opening;
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
    busy_wait: Duration,
    gate: Arc<WriteGate>,
    /// Dropped with the last handle.
    _notifications: Option<Notifications>,
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
        busy_wait: Duration,
        gate: Arc<WriteGate>,
        notifications: Option<Notifications>,
    ) -> Self {
        Self { inner: Arc::new(Inner { role, kind, busy_wait, gate, _notifications: notifications }) }
    }

    /// Stores calls in the transaction you have open on `conn`, and leaves their start to the poller. On an asynchronous
    /// connection `.await` the answer.
    ///
    /// Prefer `transaction`: it starts immediate tasks at once and waits for SQLite's write lock.
    ///
    /// # Errors
    /// A [`TransactionError`] inside a Diesel error when no transaction is open or it has ended underneath.
    pub fn join<'c, A: AsTaskConnection>(
        &'c self,
        conn: &'c mut A,
    ) -> Answer<'c, A::Connection, QueryResult<Joined<'c, A::Connection>>> {
        let conn = conn.as_task_connection();
        answer::<A::Connection, _>(async move {
            self.check_connection::<A::Connection>()?;
            proof::of_open_transaction(conn).await?;
            Ok(Joined { conn, outbox: self.clone() })
        })
    }

    /// What the table says of the task with this public handle (the key, or what [`Receipt::task_id`] answered).
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        let (outbox, task_id) = (self.clone(), task_id.to_owned());
        apart(move || outbox.store()?.status(&task_id)).await.unwrap_or_else(|error| Err(interrupted(error)))
    }

    /// As [`status`](Self::status), from code that is not `async`; in a future it would hold up its thread.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn status_blocking(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        on_plain_thread(|| self.store()?.status(task_id))
    }

    /// Deletes at most `limit` finished rows (succeeded, cancelled, skipped) that last changed longer than `older_than` ago;
    /// returns how many. Dead and unfinished rows are never touched.
    ///
    /// # Errors
    /// When the database cannot be asked; call it again.
    pub async fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let outbox = self.clone();
        apart(move || outbox.store()?.prune(older_than, limit)).await.unwrap_or_else(|error| Err(interrupted(error)))
    }

    /// As [`prune`](Self::prune), from code that is not `async`; in a future it would hold up its thread.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub fn prune_blocking(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        on_plain_thread(|| self.store()?.prune(older_than, limit))
    }

    /// The bodies under way in this process.
    pub fn running(&self) -> Vec<RunningTask> {
        match &self.inner.role {
            Role::Running(runtime, _) => runtime.running(),
            Role::EnqueueOnly(..) | Role::Test(_) => Vec::new(),
        }
    }

    /// What this node's own work with the database has been failing at longest: looking for due tasks, writing outcomes, or
    /// renewing leases. `None` when all of it succeeded the last time it was tried, and always for an outbox that runs nothing.
    ///
    /// For readiness and alarms. It does not ask the database: it says what the node met, at the latest at its last look
    /// (`poll_interval`). A node in trouble goes on trying, and needs no restart.
    pub fn trouble(&self) -> Option<Trouble> {
        self.runtime().and_then(|runtime| runtime.trouble())
    }

    /// The name of this node in `lease_owner`; empty for an enqueue-only outbox.
    pub fn node(&self) -> &str {
        self.hand_off().node()
    }

    /// Stops running tasks: see [`shutdown_blocking`](Self::shutdown_blocking). Transactions still store their calls.
    pub async fn shutdown(&self) {
        let outbox = self.clone();
        if let Err(error) = apart(move || outbox.shutdown_blocking()).await {
            tracing::error!(%error, "the shutdown was interrupted");
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

    pub(crate) fn hand_off(&self) -> &dyn HandOff {
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

    pub(crate) fn opening(&self) -> Opening<'_> {
        Opening {
            gate: Some(&self.inner.gate),
            busy_wait: self.inner.busy_wait,
            inside_another: matches!(self.inner.role, Role::Test(_)),
            begun: false,
            limit: None,
        }
    }

    /// The test run, of an outbox made by `for_test`.
    pub(crate) fn test_run(&self) -> Option<&TestRun> {
        match &self.inner.role {
            Role::Test(test) => Some(test),
            _ => None,
        }
    }

    /// The runtime, of an outbox that runs tasks.
    pub(crate) fn runtime(&self) -> Option<&Arc<Runtime>> {
        match &self.inner.role {
            Role::Running(runtime, _) => Some(runtime),
            Role::EnqueueOnly(..) | Role::Test(_) => None,
        }
    }

    /// Whether the connection speaks to the outbox's kind of database.
    pub(crate) fn check_connection<C: TaskConnection>(&self) -> QueryResult<()> {
        if self.inner.kind == C::DIALECT.kind {
            return Ok(());
        }
        Err(TransactionError::WrongDatabase { wanted: self.inner.kind.name(), found: C::DIALECT.kind.name() }.into())
    }
}

/// Runs blocking `work` where it holds up no future.
///
/// # Errors
/// When the Tokio runtime ends before the work does.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await,
        Err(_) => Ok(work()),
    }
}

/// Runs blocking `work` to its end on this thread; inside a Tokio runtime on a thread of its own, with that runtime around it,
/// for the runtime's own connections may be asynchronous, and a thread that drives futures cannot wait for them.
pub(crate) fn on_plain_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let Ok(around) = Handle::try_current() else { return work() };
    let work = || {
        let _context = around.enter();
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

fn interrupted(error: JoinError) -> StoreError {
    StoreError::Transient(Box::new(error))
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
    /// Stores `call` now, pending; the poller of some process starts it after your commit. On an asynchronous connection
    /// `.await` the answer.
    ///
    /// # Errors
    /// As [`TaskTx::enqueue`](crate::task_tx::TaskTx::enqueue).
    pub fn enqueue(&mut self, call: Call) -> Answer<'_, C, QueryResult<Receipt>> {
        answer::<C, _>(async move {
            let row = self.outbox.hand_off().rules().check(call).map_err(refused)?;
            // An error that was ignored may have ended the transaction since the last call.
            proof::of_open_transaction(&mut *self.conn).await?;
            insert_keyed(&mut *self.conn, &row, Lessor::NOBODY).await
        })
    }
}

impl<C: TaskConnection> std::fmt::Debug for Joined<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Joined")
    }
}
