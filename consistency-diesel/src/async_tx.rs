//! A [`TaskTx`] on one of diesel-async's connections is such a connection itself, whose savepoints carry their calls.
//!
//! It does not dereference to the connection inside, as its blocking twin does: diesel-async makes a connection of everything
//! that does, and its savepoints would then not be seen here. Hence also one implementation for each connection.

use std::future::Future;
use std::pin::Pin;

use consistency_core::enqueue::EnqueueScope;
use diesel::connection::{CacheSize, Instrumentation, TransactionManagerStatus};
use diesel::query_builder::{AsQuery, QueryFragment, QueryId};
use diesel::result::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::{
    AsyncConnection, AsyncConnectionCore, SimpleAsyncConnection, TransactionManager, UpdateAndFetchResults,
};

use crate::connection::TaskConnection;
#[cfg(feature = "async-mysql")]
use crate::proof::answered;
use crate::savepoint;
use crate::task_tx::TaskTx;

/// A statement on a connection that knows which answer belongs to it.
#[cfg(any(feature = "async-sqlite", feature = "async-postgres"))]
fn unwatched<F>(_: &EnqueueScope, statement: F) -> F {
    statement
}

/// A statement on a connection that does not.
#[cfg(feature = "async-mysql")]
fn watched<'a, T: 'a>(
    scope: &'a EnqueueScope,
    statement: impl Future<Output = QueryResult<T>> + Send + 'a,
) -> Pin<Box<dyn Future<Output = QueryResult<T>> + Send + 'a>> {
    Box::pin(answered::<diesel_async::AsyncMysqlConnection, T>(scope, statement))
}

macro_rules! async_tx {
    ($connection:ty, $statement:path) => {
        impl SimpleAsyncConnection for TaskTx<'_, $connection> {
            async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
                // SQL: the caller's own text.
                $statement(self.scope, self.conn.batch_execute(query)).await
            }
        }

        impl AsyncConnectionCore for TaskTx<'_, $connection> {
            type ExecuteFuture<'conn, 'query> = <$connection as AsyncConnectionCore>::ExecuteFuture<'conn, 'query>;
            type LoadFuture<'conn, 'query> = <$connection as AsyncConnectionCore>::LoadFuture<'conn, 'query>;
            type Stream<'conn, 'query> = <$connection as AsyncConnectionCore>::Stream<'conn, 'query>;
            type Row<'conn, 'query> = <$connection as AsyncConnectionCore>::Row<'conn, 'query>;
            type Backend = <$connection as AsyncConnectionCore>::Backend;

            fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
            where
                T: AsQuery + 'query,
                T::Query: QueryFragment<Self::Backend> + QueryId + 'query,
            {
                $statement(self.scope, AsyncConnectionCore::load(&mut *self.conn, source))
            }

            fn execute_returning_count<'conn, 'query, T>(
                &'conn mut self,
                source: T,
            ) -> Self::ExecuteFuture<'conn, 'query>
            where
                T: QueryFragment<Self::Backend> + QueryId + 'query,
            {
                $statement(self.scope, AsyncConnectionCore::execute_returning_count(&mut *self.conn, source))
            }
        }

        impl AsyncConnection for TaskTx<'_, $connection> {
            type TransactionManager = AsyncSavepointManager;

            async fn establish(_: &str) -> ConnectionResult<Self> {
                let reason = "a `TaskTx` exists only inside a transaction of the outbox";
                Err(ConnectionError::BadConnection(reason.to_owned()))
            }

            fn transaction_state(
                &mut self,
            ) -> &mut <Self::TransactionManager as TransactionManager<Self>>::TransactionStateData {
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

        impl<'c> TransactionManager<TaskTx<'c, $connection>> for AsyncSavepointManager {
            type TransactionStateData = <<$connection as AsyncConnection>::TransactionManager as TransactionManager<
                $connection,
            >>::TransactionStateData;

            fn begin_transaction(tx: &mut TaskTx<'c, $connection>) -> impl Future<Output = QueryResult<()>> + Send {
                savepoint::set(tx)
            }

            fn rollback_transaction(tx: &mut TaskTx<'c, $connection>) -> impl Future<Output = QueryResult<()>> + Send {
                savepoint::roll_back(tx)
            }

            fn commit_transaction(tx: &mut TaskTx<'c, $connection>) -> impl Future<Output = QueryResult<()>> + Send {
                savepoint::release(tx)
            }

            fn transaction_manager_status_mut<'a>(
                tx: &'a mut TaskTx<'c, $connection>,
            ) -> &'a mut TransactionManagerStatus {
                tx.conn.transaction_status()
            }
        }

        impl<Changes, Output> UpdateAndFetchResults<Changes, Output> for TaskTx<'_, $connection>
        where
            Changes: diesel::Identifiable + diesel::associations::HasTable + Send,
            Output: 'static,
            $connection: UpdateAndFetchResults<Changes, Output>,
        {
            fn update_and_fetch<'conn, 'changes>(
                &'conn mut self,
                changeset: Changes,
            ) -> Pin<Box<dyn Future<Output = QueryResult<Output>> + Send + 'changes>>
            where
                Changes: 'changes,
                'conn: 'changes,
                Self: 'changes,
            {
                $statement(self.scope, self.conn.update_and_fetch(changeset))
            }
        }
    };
}

#[cfg(feature = "async-sqlite")]
async_tx!(diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>, unwatched);
#[cfg(feature = "async-postgres")]
async_tx!(diesel_async::AsyncPgConnection, unwatched);
#[cfg(feature = "async-mysql")]
async_tx!(diesel_async::AsyncMysqlConnection, watched);

/// diesel-async's savepoints inside a [`TaskTx`], with the calls enqueued in them. It cannot end the transaction itself.
#[derive(Debug)]
pub struct AsyncSavepointManager;
