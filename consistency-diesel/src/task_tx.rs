//! The open transaction as the closure and the `#[tx]` parameter see it: a connection of its world that can enqueue.

use consistency_core::call::Call;
use consistency_core::enqueue::{Accepted, EnqueueScope, Receipt};
use consistency_core::task::{TransactionParameter, TxParts};
use diesel::result::QueryResult;

use crate::connection::{Answer, TaskConnection, answer};
use crate::error::refused;
use crate::insert::{Lessor, insert_keyed};
use crate::proof;

/// A connection inside an open transaction of the outbox.
///
/// It **is** a connection of its world. On Diesel's own connections: `query.execute(tx)`, `tx.transaction(|tx| ..)`, and, by
/// deref, every function that takes `&mut PgConnection` (or the like). On those of diesel-async: `query.execute(tx).await`,
/// `tx.transaction(async |tx| ..).await`, and every function generic over `AsyncConnection` (one that opens savepoints by
/// itself must box its future, as with diesel-async alone); one that takes `&mut AsyncPgConnection` is given
/// [`tx.connection()`](TaskTx::connection).
///
/// What is enqueued is stored with the transaction or not at all; a savepoint that is rolled back drops exactly the calls
/// enqueued inside it. Savepoints set with SQL of your own, or on the connection inside, are not seen.
pub struct TaskTx<'c, C: TaskConnection> {
    pub(crate) conn: &'c mut C,
    pub(crate) scope: &'c mut EnqueueScope,
}

impl<C: TaskConnection> TaskTx<'_, C> {
    /// Stores `call` with this transaction. On an asynchronous connection `.await` the answer.
    ///
    /// A plain immediate call is written with all others of its kind right before COMMIT; one with a key, a delay, a time
    /// or an order is written now. A key that exists changes nothing and answers [`Receipt::Duplicate`].
    ///
    /// # Errors
    /// A Diesel error. [`enqueue_error`](crate::error::enqueue_error) finds the reason when the call itself was refused
    /// (arguments too large or not serializable, a bad modifier): nothing is stored then and the transaction is usable.
    /// Otherwise it is the database's own, for example a deadlock, after which the transaction may be over.
    pub fn enqueue(&mut self, call: Call) -> Answer<'_, C, QueryResult<Receipt>> {
        answer::<C, _>(async move {
            match self.scope.accept(call).map_err(refused)? {
                Accepted::Buffered(receipt) => Ok(receipt),
                Accepted::StoreNow(row) => {
                    let TaskTx { conn, scope } = self;
                    let stored = async {
                        proof::renew(&mut **conn, scope.level()).await?;
                        insert_keyed(&mut **conn, &row, Lessor::NOBODY).await
                    };
                    proof::answered::<C, _>(scope, stored).await
                }
            }
        })
    }

    /// The connection inside, for functions that take nothing else. Transactions opened on it are not seen: enqueue nothing
    /// in them, and end them. On MySQL do not give up a statement of it half-way, say at a time limit: the client
    /// takes its answer for that of the next one.
    pub fn connection(&mut self) -> &mut C {
        self.conn
    }
}

impl<C: TaskConnection> TransactionParameter for TaskTx<'_, C> {
    type Connection = C;
    type Bound<'a> = TaskTx<'a, C>;

    fn bind(parts: TxParts<'_>) -> Option<TaskTx<'_, C>> {
        let TxParts { connection, scope } = parts;
        connection.downcast_mut::<C>().map(|conn| TaskTx { conn, scope })
    }
}

impl<C: TaskConnection> std::fmt::Debug for TaskTx<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskTx").field("scope", &self.scope).finish_non_exhaustive()
    }
}
