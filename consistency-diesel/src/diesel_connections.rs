//! Diesel's own three connections, as connections a task's row can travel on.

use std::future::{Future, ready};
use std::time::Duration;

use consistency_core::caught::{caught, caught_blocking};
use consistency_core::error::TaskError;
use consistency_core::task::{Attempt, Blocking, Body, TransactionIn};
use diesel::connection::{AnsiTransactionManager, TransactionManager, TransactionManagerStatus};

use crate::blocking_connection::BlockingConnection;
use crate::connection::{TaskConnection, run_statement};
use crate::dialect::Dialect;
use crate::task_tx::TaskTx;
use crate::write_gate::{Turn, WriteGate};

macro_rules! blocking_connection {
    ($connection:ty, $dialect:expr, $transactions:ty) => {
        run_statement!(
            $connection,
            diesel::Connection,
            diesel::RunQueryDsl,
            diesel::connection::SimpleConnection,
            diesel::connection::TransactionManager,
            $transactions,
            $transactions,
            ready
        );

        #[diagnostic::do_not_recommend]
        impl TransactionIn<Blocking> for TaskTx<'_, $connection> {}

        #[diagnostic::do_not_recommend]
        impl BlockingConnection for $connection {}

        impl TaskConnection for $connection {
            type World = Blocking;
            const DIALECT: Dialect = $dialect;

            fn transaction_status(&mut self) -> &mut TransactionManagerStatus {
                AnsiTransactionManager::transaction_manager_status_mut(self)
            }

            fn is_cut_off(&mut self) -> bool {
                false
            }

            fn take_turn(gate: &WriteGate) -> impl Future<Output = Option<Turn<'_>>> + Send {
                ready(gate.enter())
            }

            fn run_body(body: Body, attempt: Attempt) -> impl Future<Output = Result<(), TaskError>> + Send {
                ready(run_blocking(body, attempt))
            }

            fn pause(time: Duration) -> impl Future<Output = ()> + Send {
                ready(std::thread::sleep(time))
            }

            async fn within<T: Send>(_limit: Duration, work: impl Future<Output = T> + Send) -> Option<T> {
                Some(work.await)
            }
        }
    };
}

#[cfg(feature = "sqlite")]
blocking_connection!(diesel::SqliteConnection, crate::dialect::SQLITE, AnsiTransactionManager);
#[cfg(feature = "postgres")]
blocking_connection!(diesel::PgConnection, crate::dialect::POSTGRES, AnsiTransactionManager);
#[cfg(feature = "mysql")]
blocking_connection!(diesel::MysqlConnection, crate::dialect::MYSQL, crate::prepared_transactions::Prepared);

/// Runs a body on this thread, an `async` one on a thread of its own: this one may already drive a Tokio runtime.
fn run_blocking(body: Body, attempt: Attempt) -> Result<(), TaskError> {
    let run = match body {
        Body::Blocking(run) => return caught_blocking(|| run(attempt)),
        Body::Async(run) => run,
        // Not asked for: these need their transaction.
        Body::Transactional { .. } | Body::AsyncTransactional { .. } => {
            return Err(TaskError::message("a `#[tx]` task was run without its transaction"));
        }
    };
    let on_own_thread = || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(caught(run(attempt))),
        Err(error) => Err(TaskError::new(error)),
    };
    std::thread::scope(|scope| scope.spawn(on_own_thread).join())
        .unwrap_or_else(|_| Err(TaskError::message("the thread of the body ended early")))
}
