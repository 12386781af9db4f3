//! What scenarios in the async form need beside [`Stage`]: Tokio runtimes, connections of diesel-async,
//! commits on them, and words between bodies and tests that nobody blocks for.

use std::sync::Arc;

use consistency_core::call::Call;
use consistency_core::state::State;
use consistency_diesel::async_connection::AsyncTaskConnection;
use consistency_diesel::async_transact::AsyncTransact;
use consistency_diesel::blocking_connection::BlockingConnection;
use diesel::result::Error;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::database::Database;
use crate::recorder::DEADLINE;
use crate::stage::Stage;

/// Runs a test's future to its end, on a runtime of its own.
pub fn drive(test: impl Future<Output = ()> + Send) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a Tokio runtime").block_on(test);
}

/// Runs a part of a test outside the Tokio runtime it is called in.
pub fn on_a_plain_thread<T: Send>(part: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(part).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs a part of a test to its end on a current-thread runtime of its own, where whoever blocks holds up everybody.
pub fn on_one_thread<T: Send, F: Future<Output = T>>(part: impl FnOnce() -> F + Send) -> T {
    on_a_plain_thread(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a Tokio runtime").block_on(part())
    })
}

/// The other world's connection to the same database, where its client is built in.
pub trait Twin: AsyncTaskConnection {
    /// Diesel's own.
    type Blocking: BlockingConnection;
}

#[cfg(feature = "async-sqlite")]
impl Twin for diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection> {
    type Blocking = diesel::SqliteConnection;
}

#[cfg(all(feature = "async-postgres", feature = "postgres"))]
impl Twin for diesel_async::AsyncPgConnection {
    type Blocking = diesel::PgConnection;
}

#[cfg(all(feature = "async-mysql", feature = "mysql"))]
impl Twin for diesel_async::AsyncMysqlConnection {
    type Blocking = diesel::MysqlConnection;
}

impl Database {
    /// A connection of the test's own, of diesel-async.
    pub async fn async_connection<C: AsyncTaskConnection>(&self) -> C {
        let mut conn = C::establish(self.address()).await.expect("a connection");
        if self.backend() == Backend::Sqlite {
            let set_up = "PRAGMA busy_timeout = 20000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL";
            diesel_async::SimpleAsyncConnection::batch_execute(&mut conn, set_up).await.expect("a set up connection");
        }
        conn
    }
}

impl Stage<'_> {
    /// Commits `call` alone on an asynchronous connection of its own; returns its public handle.
    pub async fn commit_async<C: AsyncTaskConnection>(&self, call: Call) -> String {
        let mut conn = self.database.async_connection::<C>().await;
        let stored = self.outbox.transaction(&mut conn, async |tx| tx.enqueue(call).await).await;
        let stored: Result<_, Error> = stored;
        stored.expect("the commit").task_id().to_owned()
    }

    /// Commits `call` alone and waits until it succeeded.
    pub async fn run_async<C: AsyncTaskConnection>(&self, call: Call) -> String {
        let task_id = self.commit_async::<C>(call).await;
        self.recorder.wait_for_settled(&task_id, State::Succeeded);
        task_id
    }
}

/// A counter that futures wait for while others of their thread go on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AsyncLatch {
    count: Arc<watch::Sender<usize>>,
}

impl Default for AsyncLatch {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }
}

impl AsyncLatch {
    /// Raises the count by one.
    pub fn raise(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    /// The count.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until the count is at least `count`.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn wait_for(&self, count: usize) {
        let mut counts = self.count.subscribe();
        let reached = tokio::time::timeout(DEADLINE, counts.wait_for(|reached| *reached >= count)).await;
        reached.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {count}")).expect("a sender is held here");
    }
}

/// What `async` bodies and the test tell one another: taken as `#[inject] signals: &Signals`.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Raised by bodies that have begun.
    pub begun: AsyncLatch,
    /// Raised by the test to let bodies go on.
    pub go: AsyncLatch,
    /// Raised by [`Signals::tell_when_dropped`].
    pub dropped: AsyncLatch,
}

impl Signals {
    /// Says so when it is dropped, with the future that holds it.
    pub fn tell_when_dropped(&self) -> TellDropped {
        TellDropped(self.dropped.clone())
    }
}

/// Raises [`Signals::dropped`] when it is dropped.
#[derive(Debug)]
pub struct TellDropped(AsyncLatch);

impl Drop for TellDropped {
    fn drop(&mut self) {
        self.0.raise();
    }
}
