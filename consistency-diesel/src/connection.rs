//! The connections a task's row can travel on: one trait, implemented for each of Diesel's three and diesel-async's three.
//!
//! Its operations are futures, so that every statement and every step of a transaction is written once for both worlds. On a
//! blocking connection such a future is ready when it is first polled.

use std::future::Future;
use std::time::Duration;

use consistency_core::error::TaskError;
use consistency_core::task::{Attempt, Body};
use diesel::connection::TransactionManagerStatus;
use diesel::result::QueryResult;

use crate::dialect::Dialect;
use crate::rows::{ClaimRow, ExpiredRow, HeadRow, StatusRow, StoredText};
use crate::statement::{Known, Statement};
use crate::world::World;
use crate::write_gate::{Turn, WriteGate};

/// A connection that can store tasks: Diesel's `SqliteConnection`, `PgConnection` and `MysqlConnection`, and diesel-async's
/// `AsyncPgConnection`, `AsyncMysqlConnection` and `SyncConnectionWrapper<SqliteConnection>`.
///
/// Sealed: the statements are written and tested for these.
pub trait TaskConnection: RunStatement + Send + Sized + 'static {
    /// Whether calls on it block or give futures.
    type World: World;

    /// The database this connection speaks to.
    #[doc(hidden)]
    const DIALECT: Dialect;

    /// Whether an answer that nobody waited for is taken for that of the next statement.
    #[doc(hidden)]
    const MISTAKES_ANSWERS: bool = false;

    /// What Diesel knows of the open transaction.
    #[doc(hidden)]
    fn transaction_status(&mut self) -> &mut TransactionManagerStatus;

    /// Whether a future was dropped while BEGIN, COMMIT or the like was under way, so that nobody knows what is open.
    #[doc(hidden)]
    fn is_cut_off(&mut self) -> bool;

    /// Waits for the turn among this process's writers to a SQLite file.
    #[doc(hidden)]
    fn take_turn(gate: &WriteGate) -> impl Future<Output = Option<Turn<'_>>> + Send;

    /// Runs the body of a task without `#[tx]` to its end, for a test outbox: where it may block or be awaited.
    #[doc(hidden)]
    fn run_body(body: Body, attempt: Attempt) -> impl Future<Output = Result<(), TaskError>> + Send;

    /// Waits.
    #[doc(hidden)]
    fn pause(time: Duration) -> impl Future<Output = ()> + Send;

    /// Waits for `work` at most `limit`; on a blocking connection to its end.
    #[doc(hidden)]
    fn within<T: Send>(limit: Duration, work: impl Future<Output = T> + Send)
    -> impl Future<Output = Option<T>> + Send;

    /// Makes sure that no transaction begins on the connection again: one is open whose future was dropped.
    #[doc(hidden)]
    fn abandon(&mut self) {
        *self.transaction_status() = TransactionManagerStatus::InError;
    }

    /// How deep Diesel knows itself to be in transactions: 0 outside, `None` when the connection is broken or its
    /// transaction can only be rolled back.
    #[doc(hidden)]
    fn healthy_depth(&mut self) -> Option<u32> {
        if self.is_cut_off() {
            return None;
        }
        match self.transaction_status() {
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
        match self.transaction_status() {
            TransactionManagerStatus::InError => None,
            TransactionManagerStatus::Valid(status) => Some(status.transaction_depth().map_or(0, |depth| depth.get())),
        }
    }
}

/// Runs statements, reads their rows, and moves Diesel's transaction manager; written once and stamped out per connection,
/// because bounds generic over the backend are longer than what they say.
#[doc(hidden)]
#[allow(private_bounds, private_interfaces)]
pub trait RunStatement {
    fn run<K: Known>(&mut self, statement: Statement<(), K>) -> impl Future<Output = QueryResult<usize>> + Send;
    fn load_claimed(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<ClaimRow>>> + Send;
    fn load_heads(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<HeadRow>>> + Send;
    fn load_inserted<K: Known>(
        &mut self,
        statement: Statement<(), K>,
    ) -> impl Future<Output = QueryResult<Vec<(String, i64)>>> + Send;
    fn load_existing(
        &mut self,
        statement: Statement,
    ) -> impl Future<Output = QueryResult<Vec<(i64, String, i64)>>> + Send;
    fn load_renewed(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<(i64, i64)>>> + Send;
    fn load_expired(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<ExpiredRow>>> + Send;
    fn load_status(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<StatusRow>>> + Send;
    fn load_ids(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<i64>>> + Send;
    fn load_texts(&mut self, statement: Statement) -> impl Future<Output = QueryResult<Vec<StoredText>>> + Send;
    /// Runs plain SQL of any number of statements.
    fn run_batch(&mut self, sql: &str) -> impl Future<Output = QueryResult<()>> + Send;
    /// Opens a transaction with this SQL.
    fn open_with(&mut self, sql: &str) -> impl Future<Output = QueryResult<()>> + Send;
    /// Opens a transaction, or a savepoint inside one.
    fn open(&mut self) -> impl Future<Output = QueryResult<()>> + Send;
    /// Ends the innermost of them, keeping what was done.
    fn commit(&mut self) -> impl Future<Output = QueryResult<()>> + Send;
    /// Ends the innermost of them, undoing what was done.
    fn roll_back(&mut self) -> impl Future<Output = QueryResult<()>> + Send;
}

/// Stamps [`RunStatement`] for a connection. `$wrap` makes a future of what the `RunQueryDsl` and the transaction manager of
/// its world return, `$ansi` begins a transaction with SQL, and `$transactions` does without.
macro_rules! run_statement {
    ($connection:ty, $world:path, $dsl:path, $simple:path, $manager:path, $ansi:ty, $transactions:ty, $wrap:path) => {
        #[allow(private_bounds, private_interfaces)]
        impl $crate::connection::RunStatement for $connection {
            fn run<K: $crate::statement::Known>(
                &mut self,
                statement: $crate::statement::Statement<(), K>,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<usize>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::execute(statement, self))
            }
            fn load_claimed(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<$crate::rows::ClaimRow>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::ClaimColumns>(), self))
            }
            fn load_heads(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<$crate::rows::HeadRow>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::HeadColumns>(), self))
            }
            fn load_inserted<K: $crate::statement::Known>(
                &mut self,
                statement: $crate::statement::Statement<(), K>,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<(String, i64)>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::InsertedColumns>(), self))
            }
            fn load_existing(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<(i64, String, i64)>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::ExistingColumns>(), self))
            }
            fn load_renewed(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<(i64, i64)>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::RenewedColumns>(), self))
            }
            fn load_expired(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<$crate::rows::ExpiredRow>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::ExpiredColumns>(), self))
            }
            fn load_status(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<$crate::rows::StatusRow>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<$crate::rows::StatusColumns>(), self))
            }
            fn load_ids(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<i64>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<diesel::sql_types::BigInt>(), self))
            }
            fn load_texts(
                &mut self,
                statement: $crate::statement::Statement,
            ) -> impl ::core::future::Future<Output = diesel::QueryResult<Vec<$crate::rows::StoredText>>> + Send {
                use $dsl as Dsl;
                $wrap(Dsl::load(statement.returning::<diesel::sql_types::Text>(), self))
            }
            fn run_batch(&mut self, sql: &str) -> impl ::core::future::Future<Output = diesel::QueryResult<()>> + Send {
                use $simple as Simple;
                // SQL: looked at where this is called.
                $wrap(Simple::batch_execute(self, sql))
            }
            fn open_with(&mut self, sql: &str) -> impl ::core::future::Future<Output = diesel::QueryResult<()>> + Send {
                $wrap(<$ansi>::begin_transaction_sql(self, sql))
            }
            fn open(&mut self) -> impl ::core::future::Future<Output = diesel::QueryResult<()>> + Send {
                #[allow(unused_imports)]
                use $manager as _;
                $wrap(<$transactions>::begin_transaction(self))
            }
            fn commit(&mut self) -> impl ::core::future::Future<Output = diesel::QueryResult<()>> + Send {
                #[allow(unused_imports)]
                use $manager as _;
                $wrap(<$transactions>::commit_transaction(self))
            }
            fn roll_back(&mut self) -> impl ::core::future::Future<Output = diesel::QueryResult<()>> + Send {
                use $manager as Manager;
                $wrap(<<Self as $world>::TransactionManager as Manager<Self>>::rollback_transaction(self))
            }
        }
    };
}
pub(crate) use run_statement;

/// What a call on a connection of type `C` gives: `T` itself on Diesel's own connections, a future of it on diesel-async's.
pub type Answer<'a, C, T> = <<C as TaskConnection>::World as World>::Answer<'a, T>;

/// Makes the answer of `C`'s world.
pub(crate) fn answer<'a, C: TaskConnection, T: Send + 'a>(
    future: impl Future<Output = T> + Send + 'a,
) -> Answer<'a, C, T> {
    C::World::answer(future)
}

/// What the transaction helpers take: a connection, or a pooled one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection the outbox can use",
    note = "pass `&mut` of one of Diesel's or diesel-async's connections, or of a pooled one, and enable the feature of its database (and of its pool: `deadpool`, `bb8`, `mobc`); of any other wrapper pass `&mut *wrapper`"
)]
pub trait AsTaskConnection {
    /// The connection inside.
    type Connection: TaskConnection;

    /// The connection inside.
    fn as_task_connection(&mut self) -> &mut Self::Connection;
}

impl<C: TaskConnection> AsTaskConnection for C {
    type Connection = C;

    fn as_task_connection(&mut self) -> &mut C {
        self
    }
}
