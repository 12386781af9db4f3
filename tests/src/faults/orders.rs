//! The business of the fault kit's processes: orders, each committed together with its tasks, and bookings made by `#[tx]`
//! tasks in their own transactions.

use consistency_core::call::Call;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::error::TransactionError;
use consistency_diesel::outbox::Outbox;
use diesel::result::{Error, QueryResult};

use crate::any_connection::set_up_sqlite;
use crate::backend::Backend;
use crate::database::Database;
use crate::effects::Effects;
use crate::faults::history::Told;

/// The kind of business object the tasks of an order name.
pub const ORDER: &str = "order";

/// Migrates the database and creates the tables of orders and bookings, and the ledger of effects beside it.
pub fn prepare(database: &Database) {
    database.migrate();
    database.execute("CREATE TABLE orders (number BIGINT NOT NULL PRIMARY KEY, calls BIGINT NOT NULL)");
    // Nothing is unique here: what is booked twice shall be seen twice.
    database.execute("CREATE TABLE bookings (task BIGINT NOT NULL)");
    Effects::create_table_beside(database);
}

/// The statement that writes an order with `calls` tasks.
pub fn insert_order(number: i64, calls: usize) -> String {
    format!("INSERT INTO orders (number, calls) VALUES ({number}, {calls})")
}

/// The statement that writes the booking of the task with this primary key.
pub fn insert_booking(task: i64) -> String {
    format!("INSERT INTO bookings (task) VALUES ({task})")
}

/// Commits an order with its calls on a connection of its own, and returns what its producer is told.
pub fn commit<C: BlockingConnection>(
    backend: Backend,
    address: &str,
    outbox: &Outbox,
    number: i64,
    calls: Vec<Call>,
) -> Told {
    use consistency_diesel::transact::Transact;
    use diesel::connection::SimpleConnection;

    let stored = connect::<C>(backend, address).and_then(|mut conn| {
        outbox.transaction(&mut conn, |tx| {
            tx.batch_execute(&insert_order(number, calls.len()))?;
            calls.into_iter().try_for_each(|call| tx.enqueue(call.biz(ORDER, number)).map(drop))
        })
    });
    told(stored)
}

fn connect<C: BlockingConnection>(backend: Backend, address: &str) -> QueryResult<C> {
    let mut conn = C::establish(address).map_err(|error| Error::QueryBuilderError(error.into()))?;
    if backend == Backend::Sqlite {
        set_up_sqlite(&mut conn)?;
    }
    Ok(conn)
}

/// A connection of diesel-async on which a producer can commit orders.
#[cfg(feature = "async")]
pub trait OrdersAsync: consistency_diesel::async_connection::AsyncTaskConnection {
    /// As [`commit`], on a connection of diesel-async.
    fn commit_order(
        backend: Backend,
        address: &str,
        outbox: &Outbox,
        number: i64,
        calls: Vec<Call>,
    ) -> impl Future<Output = Told>;
}

/// One implementation for each connection, as the open transaction has them.
#[cfg(feature = "async")]
macro_rules! orders_async {
    ($feature:literal, $connection:ty) => {
        #[cfg(feature = $feature)]
        impl OrdersAsync for $connection {
            async fn commit_order(
                backend: Backend,
                address: &str,
                outbox: &Outbox,
                number: i64,
                calls: Vec<Call>,
            ) -> Told {
                use consistency_diesel::async_transact::AsyncTransact;
                use diesel_async::{AsyncConnection, SimpleAsyncConnection};

                let mut conn = match <$connection>::establish(address).await {
                    Ok(conn) => conn,
                    Err(error) => return told(Err(Error::QueryBuilderError(error.into()))),
                };
                if backend == Backend::Sqlite {
                    let set_up = "PRAGMA busy_timeout = 20000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL";
                    conn.batch_execute(set_up).await.expect("a set up connection");
                }
                let stored = outbox.transaction(&mut conn, async |tx| {
                    tx.batch_execute(&insert_order(number, calls.len())).await?;
                    for call in calls {
                        tx.enqueue(call.biz(ORDER, number)).await?;
                    }
                    QueryResult::Ok(())
                });
                told(stored.await)
            }
        }
    };
}

#[cfg(feature = "async")]
orders_async!("async-sqlite", diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>);
#[cfg(feature = "async")]
orders_async!("async-postgres", diesel_async::AsyncPgConnection);
#[cfg(feature = "async")]
orders_async!("async-mysql", diesel_async::AsyncMysqlConnection);

fn told(stored: QueryResult<()>) -> Told {
    match stored {
        Ok(()) => Told::Committed,
        Err(error) => {
            println!("trouble: commit: {error}");
            match TransactionError::of(&error) {
                Some(TransactionError::CommitUnknown(_)) => Told::Unknown,
                _ => Told::Failed,
            }
        }
    }
}
