//! A [`TaskTx`] on one of Diesel's own connections is a Diesel connection itself, whose savepoints carry their calls.

use std::ops::{Deref, DerefMut};

use diesel::connection::{
    AnsiTransactionManager, CacheSize, Connection, ConnectionSealed, DefaultLoadingMode, Instrumentation,
    LoadConnection, SimpleConnection, TransactionManager, TransactionManagerStatus,
};
use diesel::expression::QueryMetadata;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::query_dsl::UpdateAndFetchResults;
use diesel::result::{ConnectionError, ConnectionResult, QueryResult};

use crate::blocking_connection::BlockingConnection;
use crate::savepoint;
use crate::task_tx::TaskTx;
use crate::world::now;

impl<C: BlockingConnection> Deref for TaskTx<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.conn
    }
}

impl<C: BlockingConnection> DerefMut for TaskTx<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        self.conn
    }
}

impl<C: BlockingConnection> SimpleConnection for TaskTx<'_, C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        // SQL: the caller's own text.
        self.conn.batch_execute(query)
    }
}

impl<C: BlockingConnection> ConnectionSealed for TaskTx<'_, C> {}

impl<C: BlockingConnection> Connection for TaskTx<'_, C> {
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

impl<C: BlockingConnection> LoadConnection<DefaultLoadingMode> for TaskTx<'_, C> {
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
    C: BlockingConnection + UpdateAndFetchResults<Changes, Output>,
{
    fn update_and_fetch(&mut self, changeset: Changes) -> QueryResult<Output> {
        self.conn.update_and_fetch(changeset)
    }
}

/// Diesel's savepoints inside a [`TaskTx`], with the calls enqueued in them. It cannot end the transaction itself.
#[derive(Debug)]
pub struct SavepointManager;

impl<'c, C: BlockingConnection> TransactionManager<TaskTx<'c, C>> for SavepointManager {
    type TransactionStateData = AnsiTransactionManager;

    fn begin_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        now(savepoint::set(tx))
    }

    fn rollback_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        now(savepoint::roll_back(tx))
    }

    fn commit_transaction(tx: &mut TaskTx<'c, C>) -> QueryResult<()> {
        now(savepoint::release(tx))
    }

    fn transaction_manager_status_mut<'a>(tx: &'a mut TaskTx<'c, C>) -> &'a mut TransactionManagerStatus {
        AnsiTransactionManager::transaction_manager_status_mut(&mut *tx.conn)
    }
}
