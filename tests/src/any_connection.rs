//! A connection to whichever database a test runs on, for questions that are the same on each.

use diesel::connection::{Connection, SimpleConnection};
use diesel::result::{ConnectionError, QueryResult};
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl};

use crate::backend::Backend;
use crate::faults::load::{OrderRow, RunRow, StoredRow};
use crate::task_row::TaskRow;

/// How long the tests' own SQLite connections wait for the write lock.
const BUSY_WAIT_MS: u32 = 20_000;

/// What a SQLite connection of the tests is told first.
pub(crate) fn set_up_sqlite(conn: &mut impl SimpleConnection) -> QueryResult<()> {
    conn.batch_execute(&format!("PRAGMA busy_timeout = {BUSY_WAIT_MS}"))?;
    conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
}

#[cfg(feature = "postgres")]
use diesel::PgConnection;
/// Where Diesel's own client is not built in, as on a machine without it.
#[cfg(all(feature = "async-postgres", not(feature = "postgres")))]
type PgConnection = diesel_async::async_connection_wrapper::AsyncConnectionWrapper<diesel_async::AsyncPgConnection>;

#[cfg(feature = "mysql")]
use diesel::MysqlConnection;
/// Where Diesel's own client is not built in, as on a machine without it.
#[cfg(all(feature = "async-mysql", not(feature = "mysql")))]
type MysqlConnection =
    diesel_async::async_connection_wrapper::AsyncConnectionWrapper<diesel_async::AsyncMysqlConnection>;

/// A row of one number.
#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(crate) value: i64,
}

/// A row of one text.
#[derive(QueryableByName)]
pub(crate) struct TextValue {
    #[diesel(sql_type = Text)]
    pub(crate) value: String,
}

/// A line of SQLite's plan of a statement.
#[derive(QueryableByName)]
pub(crate) struct PlanLine {
    #[diesel(sql_type = Text)]
    pub(crate) detail: String,
}

/// A connection to whichever database the test runs on.
pub(crate) enum AnyConnection {
    #[cfg(feature = "sqlite")]
    Sqlite(diesel::SqliteConnection),
    #[cfg(any(feature = "postgres", feature = "async-postgres"))]
    Postgres(PgConnection),
    #[cfg(any(feature = "mysql", feature = "async-mysql"))]
    Mysql(MysqlConnection),
}

impl AnyConnection {
    pub(crate) fn open(backend: Backend, address: &str) -> Result<AnyConnection, ConnectionError> {
        match backend {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite => {
                let mut conn = diesel::SqliteConnection::establish(address)?;
                set_up_sqlite(&mut conn).map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(AnyConnection::Sqlite(conn))
            }
            #[cfg(any(feature = "postgres", feature = "async-postgres"))]
            Backend::Postgres => PgConnection::establish(address).map(AnyConnection::Postgres),
            #[cfg(any(feature = "mysql", feature = "async-mysql"))]
            Backend::Mysql => MysqlConnection::establish(address).map(AnyConnection::Mysql),
            #[allow(unreachable_patterns)]
            other => Err(ConnectionError::BadConnection(format!("the tests are built without {other} ({address})"))),
        }
    }

    pub(crate) fn execute(&mut self, sql: &str) -> QueryResult<()> {
        match self {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(conn) => conn.batch_execute(sql),
            #[cfg(any(feature = "postgres", feature = "async-postgres"))]
            AnyConnection::Postgres(conn) => conn.batch_execute(sql),
            #[cfg(any(feature = "mysql", feature = "async-mysql"))]
            AnyConnection::Mysql(conn) => conn.batch_execute(sql),
        }
    }

    pub(crate) fn load<Row: FromAnyDatabase>(&mut self, sql: &str) -> QueryResult<Vec<Row>> {
        match self {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(conn) => Row::from_sqlite(conn, sql),
            #[cfg(any(feature = "postgres", feature = "async-postgres"))]
            AnyConnection::Postgres(conn) => Row::from_postgres(conn, sql),
            #[cfg(any(feature = "mysql", feature = "async-mysql"))]
            AnyConnection::Mysql(conn) => Row::from_mysql(conn, sql),
        }
    }
}

/// A row every database can send.
pub(crate) trait FromAnyDatabase: Sized {
    #[cfg(feature = "sqlite")]
    fn from_sqlite(conn: &mut diesel::SqliteConnection, sql: &str) -> QueryResult<Vec<Self>>;
    #[cfg(any(feature = "postgres", feature = "async-postgres"))]
    fn from_postgres(conn: &mut PgConnection, sql: &str) -> QueryResult<Vec<Self>>;
    #[cfg(any(feature = "mysql", feature = "async-mysql"))]
    fn from_mysql(conn: &mut MysqlConnection, sql: &str) -> QueryResult<Vec<Self>>;
}

macro_rules! from_any_database {
    ($($row:ty),*) => {$(
        impl FromAnyDatabase for $row {
            #[cfg(feature = "sqlite")]
            fn from_sqlite(conn: &mut diesel::SqliteConnection, sql: &str) -> QueryResult<Vec<Self>> {
                diesel::sql_query(sql).load(conn)
            }
            #[cfg(any(feature = "postgres", feature = "async-postgres"))]
            fn from_postgres(conn: &mut PgConnection, sql: &str) -> QueryResult<Vec<Self>> {
                diesel::sql_query(sql).load(conn)
            }
            #[cfg(any(feature = "mysql", feature = "async-mysql"))]
            fn from_mysql(conn: &mut MysqlConnection, sql: &str) -> QueryResult<Vec<Self>> {
                diesel::sql_query(sql).load(conn)
            }
        }
    )*};
}

from_any_database!(Number, TextValue, PlanLine, TaskRow, OrderRow, StoredRow, RunRow);
