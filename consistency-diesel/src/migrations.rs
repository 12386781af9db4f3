//! The table's migrations: embedded for `diesel_migrations`, exported as plain SQL, and the check that they have run.

use consistency_core::error::Problem;
use diesel::connection::Connection;
use diesel::result::{Error, QueryResult};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::connection::TaskConnection;
use crate::statement::Statement;

/// The version of the newest migration, as `__diesel_schema_migrations` knows it.
pub const NEWEST: &str = "20261121000000";

/// Embedded migrations for SQLite, to be run with `diesel_migrations` by those who do not call `.migrate()`.
#[cfg(feature = "sqlite")]
pub const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// Embedded migrations for PostgreSQL.
#[cfg(any(feature = "postgres", feature = "async-postgres"))]
pub const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// Embedded migrations for MySQL and MariaDB.
#[cfg(any(feature = "mysql", feature = "async-mysql"))]
pub const MYSQL: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// The same as plain SQL, for people who run their own: version, what creates it, what removes it; oldest first.
#[derive(Debug, Clone, Copy)]
pub struct PlainSql {
    /// The version, as in the folder's name.
    pub version: &'static str,
    /// What creates it.
    pub up: &'static str,
    /// What removes it, with all tasks in it.
    pub down: &'static str,
}

macro_rules! plain_sql {
    ($name:ident, $folder:literal, $database:literal) => {
        #[doc = concat!("The migrations for ", $database, " as plain SQL.")]
        pub const $name: &[PlainSql] = &[PlainSql {
            version: "2026-11-21-000000_consistency_task",
            up: include_str!(concat!("../migrations/", $folder, "/2026-11-21-000000_consistency_task/up.sql")),
            down: include_str!(concat!("../migrations/", $folder, "/2026-11-21-000000_consistency_task/down.sql")),
        }];
    };
}

plain_sql!(SQLITE_SQL, "sqlite", "SQLite");
plain_sql!(POSTGRES_SQL, "postgres", "PostgreSQL");
plain_sql!(MYSQL_SQL, "mysql", "MySQL and MariaDB");

/// The name of the lock two processes that start at once meet at.
#[cfg(any(feature = "postgres", feature = "async-postgres", feature = "mysql", feature = "async-mysql"))]
const LOCK_NAME: &str = "consistency_migrations";
/// How long one of them waits for the other, in seconds.
#[cfg(any(feature = "mysql", feature = "async-mysql"))]
const LOCK_WAIT_SECS: i64 = 120;

/// Runs the pending migrations; of several processes that start at once one does, the others wait for it: on SQLite for the
/// write lock, on PostgreSQL and MySQL for a lock of this name.
#[cfg(feature = "sqlite")]
pub(crate) fn run_on_sqlite(conn: &mut diesel::SqliteConnection) -> QueryResult<()> {
    conn.immediate_transaction(|conn| run_pending(conn, SQLITE))
}

/// As [`run_on_sqlite`].
#[cfg(any(feature = "postgres", feature = "async-postgres"))]
pub(crate) fn run_on_postgres<C>(conn: &mut C) -> QueryResult<()>
where
    C: Connection<Backend = diesel::pg::Pg> + MigrationHarness<diesel::pg::Pg>,
{
    conn.transaction(|conn| {
        // SQL: the name is a constant.
        conn.batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtextextended('{LOCK_NAME}', 0))"))?;
        run_pending(conn, POSTGRES)
    })
}

/// As [`run_on_sqlite`]. MySQL commits at every DDL statement, so the lock belongs to the session and not to a transaction.
#[cfg(any(feature = "mysql", feature = "async-mysql"))]
pub(crate) fn run_on_mysql<C>(conn: &mut C) -> QueryResult<()>
where
    C: diesel::connection::LoadConnection<Backend = diesel::mysql::Mysql> + MigrationHarness<diesel::mysql::Mysql>,
{
    use diesel::RunQueryDsl;
    use diesel::sql_types::BigInt;

    let values = [("name", LOCK_NAME.into()), ("wait", LOCK_WAIT_SECS.into())];
    let get = Statement::new("SELECT COALESCE(GET_LOCK({name}, {wait}), 0)", values.clone());
    let got: i64 = get.returning::<BigInt>().get_result(conn)?;
    if got != 1 {
        let reason = format!("another process has held the lock `{LOCK_NAME}` for {LOCK_WAIT_SECS} s");
        return Err(Error::QueryBuilderError(reason.into()));
    }
    let done = run_pending(conn, MYSQL);
    let release = Statement::new("SELECT COALESCE(RELEASE_LOCK({name}), 0)", values);
    let released: QueryResult<i64> = release.returning::<BigInt>().get_result(conn);
    done.and(released.map(drop))
}

fn run_pending<C: Connection + MigrationHarness<C::Backend>>(
    conn: &mut C,
    migrations: EmbeddedMigrations,
) -> QueryResult<()> {
    conn.run_pending_migrations(migrations).map(drop).map_err(Error::QueryBuilderError)
}

/// Whether the table is there, with every column this version needs.
pub(crate) async fn check<C: TaskConnection>(conn: &mut C) -> Result<(), Problem> {
    let looked: QueryResult<usize> = conn.run(Statement::new(C::DIALECT.sql.check, [])).await;
    let Err(error) = looked else { return Ok(()) };
    let message = error.to_string();
    let lower = message.to_lowercase();
    let missing_table = ["no such table", "does not exist", "doesn't exist"].iter().any(|part| lower.contains(part))
        && !lower.contains("column");
    let missing_column = lower.contains("column");
    let mend =
        format!("run migration {NEWEST} (`.migrate()` on the builder, or the SQL in `consistency_diesel::migrations`)");
    Err(if missing_table {
        Problem::Table(format!("`consistency_task` is missing; {mend}"))
    } else if missing_column {
        Problem::Table(format!("`consistency_task` is older than this version of the library ({message}); {mend}"))
    } else {
        Problem::Database(message)
    })
}
