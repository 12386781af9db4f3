//! The transaction helper on Diesel's own connections.

use diesel::result::Error;

use crate::blocking_connection::BlockingConnection;
use crate::callers_connection::{CallersConnection, held};
use crate::connection::AsTaskConnection;
#[cfg(doc)]
use crate::error::TransactionError;
use crate::outbox::Outbox;
use crate::task_tx::TaskTx;
use crate::transaction;
use crate::world::now;

/// Gives [`Outbox`] its method `transaction` for Diesel's own connections; part of the [`prelude`](crate::prelude).
///
/// Its twin for diesel-async has the same name and is part of `async_prelude`, in the manner of the two `RunQueryDsl`.
pub trait Transact {
    /// Runs `work` in a transaction on `conn`, a connection to the outbox's own database, with the calls it enqueues: both are
    /// committed, or neither.
    ///
    /// After the commit immediate tasks start at once, on a worker or, with `run_on = caller`, on this thread before this
    /// function returns. A task that fails is stored as failed and retried; it never makes an error of a committed
    /// transaction. An error or a panic of `work` rolls back.
    ///
    /// # Errors
    /// The error of `work`; a Diesel error that BEGIN, the flush or COMMIT met; or a [`TransactionError`] inside one: a
    /// transaction is open already, it ended underneath, or the outcome of COMMIT is unknown. In all but the last case
    /// nothing is stored. One that you began on `conn` with SQL of your own is refused too, and not ended; on PostgreSQL only once
    /// a statement has run in it, and it is failed then.
    ///
    /// # Panics
    /// Only if `work` does; the transaction is rolled back first.
    fn transaction<A, T, E>(
        &self,
        conn: &mut A,
        work: impl FnOnce(&mut TaskTx<'_, A::Connection>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        A: AsTaskConnection<Connection: BlockingConnection>,
        E: From<Error>;
}

impl Transact for Outbox {
    fn transaction<A, T, E>(
        &self,
        conn: &mut A,
        work: impl FnOnce(&mut TaskTx<'_, A::Connection>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        A: AsTaskConnection<Connection: BlockingConnection>,
        E: From<Error>,
    {
        let conn = conn.as_task_connection();
        self.check_connection::<A::Connection>()?;
        let work = async |tx: &mut TaskTx<'_, A::Connection>| work(tx);
        let (value, for_caller) = now(transaction::run(conn, self.hand_off(), self.opening(), work))?;
        if let Some(runtime) = self.runtime() {
            for run in for_caller {
                if CallersConnection::<A::Connection>::suits(runtime, &run) {
                    let mut own = CallersConnection { conn: &mut *conn, hand_off: &**runtime, opening: self.opening() };
                    runtime.executor().run_transaction_on_caller(held(run), &mut own);
                } else {
                    runtime.run_on_caller(run);
                }
            }
        }
        if let Some(test) = self.test_run() {
            now(test.after_commit(conn))?;
        }
        Ok(value)
    }
}
