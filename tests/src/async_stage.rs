//! What scenarios in the async form need beside [`Stage`](crate::stage::Stage): a Tokio runtime, connections of diesel-async,
//! and commits on them.

use consistency_core::call::Call;
use consistency_core::state::State;
use consistency_diesel::async_connection::AsyncTaskConnection;
use consistency_diesel::async_transact::AsyncTransact;
use diesel::result::Error;

use crate::backend::Backend;
use crate::database::Database;
use crate::stage::Stage;

/// Runs a test's future to its end, on a runtime of its own.
pub fn drive(test: impl Future<Output = ()> + Send) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a Tokio runtime").block_on(test);
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
