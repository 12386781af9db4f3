//! The transaction helper on diesel-async's connections.

use std::future::Future;

use diesel::result::Error;

use crate::async_connection::AsyncTaskConnection;
use crate::callers_connection::{CallersConnection, Waiting, held};
use crate::connection::AsTaskConnection;
#[cfg(doc)]
use crate::error::TransactionError;
use crate::outbox::Outbox;
use crate::task_tx::TaskTx;
use crate::transaction;
use crate::work::Work;

/// Gives [`Outbox`] its method `transaction` for diesel-async's connections; part of the
/// [`async_prelude`](crate::async_prelude).
///
/// Its twin for Diesel's own connections has the same name and is part of `prelude`, in the manner of the two `RunQueryDsl`.
pub trait AsyncTransact {
    /// Runs `work`, an `async |tx| { .. }`, in a transaction on `conn`, a connection to the outbox's own database, with the
    /// calls it enqueues: both are committed, or neither.
    ///
    /// After the commit immediate tasks start at once, on a worker or, with `run_on = caller`, as part of this future before it
    /// is ready. A task that fails is stored as failed and retried; it never makes an error of a committed transaction. An
    /// error or a panic of `work` rolls back.
    ///
    /// Needs a Tokio runtime with time (`enable_all`). The future is `Send`: it can be spawned.
    ///
    /// # Cancellation
    /// When the future is dropped before it is ready, nothing of the transaction becomes durable, unless COMMIT was under way:
    /// then all of it or nothing, and what is committed runs as soon as the outbox knows of it. The transaction may still be open on the
    /// connection, so the connection is marked as broken: this function and diesel-async's own `transaction` refuse it, and
    /// bb8 and deadpool throw it away.
    ///
    /// # Errors
    /// The error of `work`; a Diesel error that BEGIN, the flush or COMMIT met; or a [`TransactionError`] inside one: a
    /// transaction is open already, it ended underneath, or the outcome of COMMIT is unknown. In all but the last case
    /// nothing is stored. One that you began on `conn` with SQL of your own is refused too, and not ended; on PostgreSQL only once
    /// a statement has run in it, and it is failed then.
    ///
    /// # Panics
    /// Only if `work` does; the transaction is rolled back first.
    fn transaction<'w, 'c, A, T, E, W>(
        &'c self,
        conn: &'c mut A,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + 'c
    where
        A: AsTaskConnection<Connection: AsyncTaskConnection> + Send,
        for<'r, 't> W: AsyncFnOnce(&'r mut TaskTx<'t, A::Connection>) -> Result<T, E>
            + Work<&'r mut TaskTx<'t, A::Connection>, Result<T, E>, Running: Send>
            + Send
            + 'w,
        T: Send + 'w,
        E: From<Error> + Send + 'w,
        'w: 'c;
}

impl AsyncTransact for Outbox {
    fn transaction<'w, 'c, A, T, E, W>(
        &'c self,
        conn: &'c mut A,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + Send + 'c
    where
        A: AsTaskConnection<Connection: AsyncTaskConnection> + Send,
        for<'r, 't> W: AsyncFnOnce(&'r mut TaskTx<'t, A::Connection>) -> Result<T, E>
            + Work<&'r mut TaskTx<'t, A::Connection>, Result<T, E>, Running: Send>
            + Send
            + 'w,
        T: Send + 'w,
        E: From<Error> + Send + 'w,
        'w: 'c,
    {
        transact(self, conn, work)
    }
}

async fn transact<A, T, E, W>(outbox: &Outbox, conn: &mut A, work: W) -> Result<T, E>
where
    A: AsTaskConnection<Connection: AsyncTaskConnection>,
    E: From<Error>,
    for<'r, 't> W: AsyncFnOnce(&'r mut TaskTx<'t, A::Connection>) -> Result<T, E>
        + Work<&'r mut TaskTx<'t, A::Connection>, Result<T, E>>,
{
    let conn = conn.as_task_connection();
    outbox.check_connection::<A::Connection>()?;
    let (value, for_caller) = transaction::run(conn, outbox.hand_off(), outbox.opening(), work).await?;
    if let Some(runtime) = outbox.runtime() {
        for run in (Waiting { runtime, runs: for_caller.into_iter() }) {
            if CallersConnection::<A::Connection>::suits(runtime, &run) {
                let mut own = CallersConnection { conn: &mut *conn, hand_off: &**runtime, opening: outbox.opening() };
                runtime.executor().run_transaction_on_async_caller(held(run), &mut own).await;
                own.end_what_is_open().await;
            } else {
                runtime.run_on_async_caller(run).await;
            }
        }
    }
    if let Some(test) = outbox.test_run() {
        test.after_commit(conn).await?;
    }
    Ok(value)
}
