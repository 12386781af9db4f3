//! The connections a task's row can travel on: one trait, implemented for each of Diesel's three, and for pooled ones.

use diesel::connection::{AnsiTransactionManager, LoadConnection, TransactionManager, TransactionManagerStatus};
use diesel::migration::MigrationConnection;
use diesel::r2d2::{ConnectionManager, PooledConnection, R2D2Connection};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Text};

use crate::dialect::Dialect;
use crate::rows::{
    ClaimColumns, ClaimRow, ExistingColumns, ExpiredColumns, ExpiredRow, HeadColumns, InsertedColumns, RenewedColumns,
    StatusColumns, StatusRow,
};
use crate::statement::Statement;

/// One of Diesel's own connections: `SqliteConnection`, `PgConnection` or `MysqlConnection`.
///
/// Sealed: the statements are written and tested for these.
pub trait TaskConnection:
    LoadConnection<TransactionManager = AnsiTransactionManager>
    + R2D2Connection
    + MigrationConnection
    + RunStatement
    + 'static
{
    /// The database this connection speaks to.
    #[doc(hidden)]
    const DIALECT: Dialect;

    /// How deep Diesel knows itself to be in transactions: 0 outside, `None` when the connection is broken or its
    /// transaction can only be rolled back.
    #[doc(hidden)]
    fn healthy_depth(&mut self) -> Option<u32> {
        match AnsiTransactionManager::transaction_manager_status_mut(self) {
            TransactionManagerStatus::InError => None,
            TransactionManagerStatus::Valid(status) => match &status.in_transaction {
                None => Some(0),
                Some(open) if open.requires_rollback_maybe_up_to_top_level => None,
                Some(open) => Some(open.transaction_depth.get()),
            },
        }
    }

    /// How deep Diesel knows itself to be in transactions, healthy or not; `None` when the connection is broken.
    #[doc(hidden)]
    fn open_depth(&mut self) -> Option<u32> {
        match AnsiTransactionManager::transaction_manager_status_mut(self) {
            TransactionManagerStatus::InError => None,
            TransactionManagerStatus::Valid(status) => Some(status.transaction_depth().map_or(0, |depth| depth.get())),
        }
    }
}

/// Runs statements and reads their rows; written once and stamped out per connection, because bounds generic over the
/// backend are longer than what they say.
#[doc(hidden)]
#[allow(private_interfaces)]
pub trait RunStatement {
    fn run(&mut self, statement: Statement) -> QueryResult<usize>;
    fn load_claimed(&mut self, statement: Statement) -> QueryResult<Vec<ClaimRow>>;
    fn load_heads(&mut self, statement: Statement) -> QueryResult<Vec<(String, i64, i64)>>;
    fn load_inserted(&mut self, statement: Statement) -> QueryResult<Vec<(i64, String)>>;
    fn load_existing(&mut self, statement: Statement) -> QueryResult<Vec<(i64, String, i64)>>;
    fn load_renewed(&mut self, statement: Statement) -> QueryResult<Vec<(i64, i64)>>;
    fn load_expired(&mut self, statement: Statement) -> QueryResult<Vec<ExpiredRow>>;
    fn load_status(&mut self, statement: Statement) -> QueryResult<Vec<StatusRow>>;
    fn load_ids(&mut self, statement: Statement) -> QueryResult<Vec<i64>>;
    fn load_texts(&mut self, statement: Statement) -> QueryResult<Vec<String>>;
}

macro_rules! task_connection {
    ($connection:ty, $dialect:expr) => {
        impl TaskConnection for $connection {
            const DIALECT: Dialect = $dialect;
        }

        #[allow(private_interfaces)]
        impl RunStatement for $connection {
            fn run(&mut self, statement: Statement) -> QueryResult<usize> {
                diesel::RunQueryDsl::execute(statement, self)
            }
            fn load_claimed(&mut self, statement: Statement) -> QueryResult<Vec<ClaimRow>> {
                diesel::RunQueryDsl::load(statement.returning::<ClaimColumns>(), self)
            }
            fn load_heads(&mut self, statement: Statement) -> QueryResult<Vec<(String, i64, i64)>> {
                diesel::RunQueryDsl::load(statement.returning::<HeadColumns>(), self)
            }
            fn load_inserted(&mut self, statement: Statement) -> QueryResult<Vec<(i64, String)>> {
                diesel::RunQueryDsl::load(statement.returning::<InsertedColumns>(), self)
            }
            fn load_existing(&mut self, statement: Statement) -> QueryResult<Vec<(i64, String, i64)>> {
                diesel::RunQueryDsl::load(statement.returning::<ExistingColumns>(), self)
            }
            fn load_renewed(&mut self, statement: Statement) -> QueryResult<Vec<(i64, i64)>> {
                diesel::RunQueryDsl::load(statement.returning::<RenewedColumns>(), self)
            }
            fn load_expired(&mut self, statement: Statement) -> QueryResult<Vec<ExpiredRow>> {
                diesel::RunQueryDsl::load(statement.returning::<ExpiredColumns>(), self)
            }
            fn load_status(&mut self, statement: Statement) -> QueryResult<Vec<StatusRow>> {
                diesel::RunQueryDsl::load(statement.returning::<StatusColumns>(), self)
            }
            fn load_ids(&mut self, statement: Statement) -> QueryResult<Vec<i64>> {
                diesel::RunQueryDsl::load(statement.returning::<BigInt>(), self)
            }
            fn load_texts(&mut self, statement: Statement) -> QueryResult<Vec<String>> {
                diesel::RunQueryDsl::load(statement.returning::<Text>(), self)
            }
        }

        impl AsTaskConnection for $connection {
            type Connection = $connection;

            fn as_task_connection(&mut self) -> &mut $connection {
                self
            }
        }
    };
}

#[cfg(feature = "sqlite")]
task_connection!(diesel::SqliteConnection, crate::dialect::SQLITE);
#[cfg(feature = "postgres")]
task_connection!(diesel::PgConnection, crate::dialect::POSTGRES);
#[cfg(feature = "mysql")]
task_connection!(diesel::MysqlConnection, crate::dialect::MYSQL);

/// What `outbox.transaction(..)` takes: a connection, or a pooled one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection the outbox can use",
    note = "pass `&mut` of a `SqliteConnection`, `PgConnection`, `MysqlConnection` or an r2d2 `PooledConnection` of one, and enable the feature `sqlite`, `postgres` or `mysql`"
)]
pub trait AsTaskConnection {
    /// The connection inside.
    type Connection: TaskConnection;

    /// The connection inside.
    fn as_task_connection(&mut self) -> &mut Self::Connection;
}

impl<C: TaskConnection> AsTaskConnection for PooledConnection<ConnectionManager<C>> {
    type Connection = C;

    fn as_task_connection(&mut self) -> &mut C {
        self
    }
}
