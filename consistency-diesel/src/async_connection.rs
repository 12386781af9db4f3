//! The connections of diesel-async, and its pools' guards.

use std::future::Future;
use std::time::Duration;

use consistency_core::caught::{caught, caught_blocking};
use consistency_core::error::TaskError;
use consistency_core::task::{Asynchronous, Attempt, Body, TransactionIn};
use diesel::ConnectionResult;
use diesel::connection::TransactionManagerStatus;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AsyncConnection, TransactionManager};

use crate::connection::{TaskConnection, run_statement};
use crate::dialect::{Dialect, Kind};
use crate::task_tx::TaskTx;
use crate::write_gate::{Turn, WriteGate};

/// One of diesel-async's connections: `AsyncPgConnection`, `AsyncMysqlConnection` or
/// `SyncConnectionWrapper<SqliteConnection>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is one of Diesel's blocking connections; this helper takes those of diesel-async",
    note = "write `use consistency_diesel::prelude::*;` instead of `async_prelude::*`, and `outbox.transaction(&mut conn, |tx| {{ .. }})`"
)]
pub trait AsyncTaskConnection: TaskConnection<World = Asynchronous> + AsyncConnection + PoolableConnection {
    /// Connects, over TLS where the address asks for it and the feature is there.
    #[doc(hidden)]
    fn dial(url: &str) -> impl Future<Output = ConnectionResult<Self>> + Send;
}

/// The futures of this world are futures already.
fn as_it_is<F>(future: F) -> F {
    future
}

#[cfg(any(feature = "deadpool", feature = "bb8", feature = "mobc"))]
macro_rules! pool_guard {
    ($connection:ty, [$($lifetime:lifetime)?], $guard:ty) => {
        impl $(<$lifetime>)? crate::connection::AsTaskConnection for $guard {
            type Connection = $connection;

            fn as_task_connection(&mut self) -> &mut $connection {
                self
            }
        }
    };
}

macro_rules! async_connection {
    ($connection:ty, $dialect:expr, $ansi:ty, $dial:expr $(, abandon: $abandon:path)?) => {
        run_statement!(
            $connection,
            diesel_async::AsyncConnection,
            diesel_async::RunQueryDsl,
            diesel_async::SimpleAsyncConnection,
            diesel_async::TransactionManager,
            $ansi,
            <Self as AsyncConnection>::TransactionManager,
            as_it_is
        );

        #[diagnostic::do_not_recommend]
        impl TransactionIn<Asynchronous> for TaskTx<'_, $connection> {}

        #[diagnostic::do_not_recommend]
        impl AsyncTaskConnection for $connection {
            fn dial(url: &str) -> impl Future<Output = ConnectionResult<Self>> + Send {
                $dial(url)
            }
        }

        #[cfg(feature = "deadpool")]
        pool_guard!($connection, [], diesel_async::pooled_connection::deadpool::Object<$connection>);
        #[cfg(feature = "bb8")]
        pool_guard!($connection, ['p], diesel_async::pooled_connection::bb8::PooledConnection<'p, $connection>);
        #[cfg(feature = "mobc")]
        pool_guard!($connection, [], diesel_async::pooled_connection::mobc::PooledConnection<$connection>);

        impl TaskConnection for $connection {
            type World = Asynchronous;
            const DIALECT: Dialect = $dialect;
            // tokio-postgres reads and forgets it, and the wrapped connection waits for it before it is dropped.
            const MISTAKES_ANSWERS: bool = matches!($dialect.kind, Kind::Mysql);

            fn transaction_status(&mut self) -> &mut TransactionManagerStatus {
                <Self as AsyncConnection>::TransactionManager::transaction_manager_status_mut(self)
            }

            fn is_cut_off(&mut self) -> bool {
                // diesel-async tells it together with an open transaction, so that one is put aside for the question.
                let status = std::mem::take(self.transaction_status());
                let cut_off = <Self as AsyncConnection>::TransactionManager::is_broken_transaction_manager(self);
                *self.transaction_status() = status;
                cut_off
            }

            $(
                fn abandon(&mut self) {
                    *self.transaction_status() = TransactionManagerStatus::InError;
                    $abandon(self);
                }
            )?

            fn take_turn(gate: &WriteGate) -> impl Future<Output = Option<Turn<'_>>> + Send {
                gate.enter_async()
            }

            fn run_body(body: Body, attempt: Attempt) -> impl Future<Output = Result<(), TaskError>> + Send {
                run_async(body, attempt)
            }

            fn pause(time: Duration) -> impl Future<Output = ()> + Send {
                tokio::time::sleep(time)
            }

            async fn within<T: Send>(limit: Duration, work: impl Future<Output = T> + Send) -> Option<T> {
                tokio::time::timeout(limit, work).await.ok()
            }
        }
    };
}

#[cfg(feature = "async-sqlite")]
async_connection!(
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>,
    crate::dialect::SQLITE,
    wrapped_sqlite::Manager,
    <diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection> as AsyncConnection>::establish,
    abandon: wrapped_sqlite::roll_back
);
#[cfg(all(feature = "async-postgres", not(feature = "async-postgres-rustls")))]
async_connection!(
    diesel_async::AsyncPgConnection,
    crate::dialect::POSTGRES,
    diesel_async::AnsiTransactionManager,
    <diesel_async::AsyncPgConnection as AsyncConnection>::establish
);
#[cfg(feature = "async-postgres-rustls")]
async_connection!(
    diesel_async::AsyncPgConnection,
    crate::dialect::POSTGRES,
    diesel_async::AnsiTransactionManager,
    crate::tls::connect
);
#[cfg(feature = "async-mysql")]
async_connection!(
    diesel_async::AsyncMysqlConnection,
    crate::dialect::MYSQL,
    diesel_async::AnsiTransactionManager,
    <diesel_async::AsyncMysqlConnection as AsyncConnection>::establish
);

/// The wrapped connection's transaction manager is Diesel's own, reached on the blocking thread.
#[cfg(feature = "async-sqlite")]
mod wrapped_sqlite {
    use diesel::SqliteConnection;
    use diesel::connection::{AnsiTransactionManager, SimpleConnection};
    use diesel::result::QueryResult;
    use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    use tokio::runtime::{Handle, RuntimeFlavor};

    /// Rolls back what is open, for it locks the whole file. diesel-async waits for its blocking thread when a future of it is
    /// dropped, which it can only do on a Tokio runtime of several threads; elsewhere the lock goes with the connection.
    pub(super) fn roll_back(conn: &mut SyncConnectionWrapper<SqliteConnection>) {
        if Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread) {
            drop(conn.spawn_blocking(|conn| conn.batch_execute("ROLLBACK")));
        }
    }

    pub(super) struct Manager;

    impl Manager {
        pub(super) fn begin_transaction_sql(
            conn: &mut SyncConnectionWrapper<SqliteConnection>,
            sql: &str,
        ) -> impl Future<Output = QueryResult<()>> + Send + use<> {
            let sql = sql.to_owned();
            conn.spawn_blocking(move |conn| AnsiTransactionManager::begin_transaction_sql(conn, &sql))
        }
    }
}

/// Runs a body as part of this future, a blocking one on one of Tokio's threads for those.
async fn run_async(body: Body, attempt: Attempt) -> Result<(), TaskError> {
    match body {
        Body::Async(run) => caught(run(attempt)).await,
        Body::Blocking(run) => {
            let ended = tokio::task::spawn_blocking(move || caught_blocking(|| run(attempt))).await;
            ended.unwrap_or_else(|error| Err(TaskError::new(error)))
        }
        // Not asked for: these need their transaction.
        Body::Transactional { .. } | Body::AsyncTransactional { .. } => {
            Err(TaskError::message("a `#[tx]` task was run without its transaction"))
        }
    }
}
