//! The open transaction as the closure and the `#[tx]` parameter see it: an ordinary Diesel connection that can enqueue.

use std::ops::{Deref, DerefMut};

use consistency_core::call::Call;
use consistency_core::enqueue::{Accepted, EnqueueScope, Receipt};
use consistency_core::task::{TransactionParameter, TxParts};
use diesel::connection::{
    AnsiTransactionManager, CacheSize, Connection, ConnectionSealed, DefaultLoadingMode, Instrumentation,
    LoadConnection, SimpleConnection, TransactionManager, TransactionManagerStatus,
};
use diesel::expression::QueryMetadata;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::query_dsl::UpdateAndFetchResults;
use diesel::result::{ConnectionError, ConnectionResult, Error, QueryResult};

use crate::connection::TaskConnection;
use crate::error::refused;
use crate::insert::{Lessor, insert_keyed};
use crate::proof;

/// A connection inside an open transaction of the outbox.
///
/// It **is** a Diesel connection: `query.execute(tx)`, `tx.transaction(|tx| ..)`, and, by deref, every function that takes
/// `&mut PgConnection` (or the like). What is enqueued is stored with the transaction or not at all; a savepoint of Diesel's
/// that is rolled back drops exactly the calls enqueued inside it. Savepoints set with SQL of your own are not seen.
pub struct TaskTx<'c, C: TaskConnection> {
    pub(crate) conn: &'c mut C,
    pub(crate) scope: &'c mut EnqueueScope,
}

impl<C: TaskConnection> TaskTx<'_, C> {
    /// Stores `call` with this transaction.
    ///
    /// A plain immediate call is written with all others of its kind right before COMMIT; one with a key, a delay, a time
    /// or an order is written now. A key that exists changes nothing and answers [`Receipt::Duplicate`].
    ///
    /// # Errors
    /// A Diesel error. [`enqueue_error`](crate::error::enqueue_error) finds the reason when the call itself was refused
    /// (arguments too large or not serializable, a bad modifier): nothing is stored then and the transaction is usable.
    /// Otherwise it is the database's own, for example a deadlock, after which the transaction may be over.
    pub fn enqueue(&mut self, call: Call) -> QueryResult<Receipt> {
        match self.scope.accept(call).map_err(refused)? {
            Accepted::Buffered(receipt) => Ok(receipt),
            Accepted::StoreNow(row) => {
                let level = self.scope.level();
                proof::renew(&mut *self.conn, level)?;
                insert_keyed(&mut *self.conn, &row, Lessor::NOBODY)
            }
        }
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

impl<C: TaskConnection> Deref for TaskTx<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.conn
    }
}

impl<C: TaskConnection> DerefMut for TaskTx<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        self.conn
    }
}

impl<C: TaskConnection> std::fmt::Debug for TaskTx<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskTx").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<C: TaskConnection> SimpleConnection for TaskTx<'_, C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.conn.batch_execute(query)
    }
}

impl<C: TaskConnection> ConnectionSealed for TaskTx<'_, C> {}

impl<C: TaskConnection> Connection for TaskTx<'_, C> {
    type Backend = C::Backend;
    type TransactionManager = SavepointManager;

    fn establish(_: &str) -> ConnectionResult<Self> {
        Err(ConnectionError::BadConnection("a `TaskTx` exists only inside a transaction of the outbox".to_owned()))
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Self::Backend> + QueryId,
    {
        self.conn.execute_returning_count(source)
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.conn.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.conn.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.conn.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.conn.set_prepared_statement_cache_size(size);
    }
}

impl<C: TaskConnection> LoadConnection<DefaultLoadingMode> for TaskTx<'_, C> {
    type Cursor<'conn, 'query>
        = <C as LoadConnection<DefaultLoadingMode>>::Cursor<'conn, 'query>
    where
        Self: 'conn;
    type Row<'conn, 'query>
        = <C as LoadConnection<DefaultLoadingMode>>::Row<'conn, 'query>
    where
        Self: 'conn;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Self::Backend> + QueryId + 'query,
        Self::Backend: QueryMetadata<T::SqlType>,
    {
        LoadConnection::<DefaultLoadingMode>::load(&mut *self.conn, source)
    }
}

impl<C, Changes, Output> UpdateAndFetchResults<Changes, Output> for TaskTx<'_, C>
where
    C: TaskConnection + UpdateAndFetchResults<Changes, Output>,
{
    fn update_and_fetch(&mut self, changeset: Changes) -> QueryResult<Output> {
        self.conn.update_and_fetch(changeset)
    }
}

/// Diesel's savepoints inside a [`TaskTx`], with the calls enqueued in them. It cannot end the transaction itself.
#[derive(Debug)]
pub struct SavepointManager;

impl<'c, C: TaskConnection> TransactionManager<TaskTx<'c, C>> for SavepointManager {
    type TransactionStateData = AnsiTransactionManager;

    fn begin_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        AnsiTransactionManager::begin_transaction(&mut *tx.conn)?;
        tx.scope.savepoint_set();
        proof::set(&mut *tx.conn, tx.scope.level())
    }

    fn rollback_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        if tx.scope.depth() == 0 {
            return Err(Error::NotInTransaction);
        }
        // Whatever becomes of the statement, the calls are not wanted any more.
        tx.scope.savepoint_rolled_back();
        AnsiTransactionManager::rollback_transaction(&mut *tx.conn)
    }

    fn commit_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        if tx.scope.depth() == 0 {
            return Err(Error::NotInTransaction);
        }
        match AnsiTransactionManager::commit_transaction(&mut *tx.conn) {
            Ok(()) => {
                tx.scope.savepoint_released();
                Ok(())
            }
            Err(error) => {
                tx.scope.savepoint_rolled_back();
                Err(error)
            }
        }
    }

    fn transaction_manager_status_mut<'a>(tx: &'a mut TaskTx<'c, C>) -> &'a mut TransactionManagerStatus {
        AnsiTransactionManager::transaction_manager_status_mut(&mut *tx.conn)
    }
}
