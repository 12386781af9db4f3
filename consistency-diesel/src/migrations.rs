//! The table's migrations: embedded for `diesel_migrations`, exported as plain SQL, and the check that they have run.

use consistency_core::error::Problem;
use diesel::result::{Error, QueryResult};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::operations::begin;
use crate::statement::Statement;

/// The version of the newest migration, as `__diesel_schema_migrations` knows it.
pub const NEWEST: &str = "20261121000000";

/// Embedded migrations for SQLite, to be run with `diesel_migrations` by those who do not call `.migrate()`.
#[cfg(feature = "sqlite")]
pub const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// Embedded migrations for PostgreSQL.
#[cfg(feature = "postgres")]
pub const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// Embedded migrations for MySQL and MariaDB.
#[cfg(feature = "mysql")]
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

/// The name of the lock two processes that start at once meet at, and how long one waits for the other, in seconds.
const LOCK_NAME: &str = "consistency_migrations";
const LOCK_WAIT_SECS: i64 = 120;

/// Runs the pending migrations; of several processes that start at once one does, the others wait for it.
///
/// # Errors
/// The database's, as text that says which migration failed.
pub(crate) fn run<C: TaskConnection + MigrationHarness<C::Backend>>(
    conn: &mut C,
    migrations: EmbeddedMigrations,
) -> Result<(), String> {
    let work = |conn: &mut C| conn.run_pending_migrations(migrations).map(drop).map_err(Error::QueryBuilderError);
    let done = match C::DIALECT.kind {
        // One writer at a time: the others wait for the write lock.
        Kind::Sqlite => begin(conn, work),
        Kind::Postgres => conn.transaction(|conn| {
            conn.batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtextextended('{LOCK_NAME}', 0))"))?;
            work(conn)
        }),
        Kind::Mysql => locked_on_mysql(conn, work),
    };
    done.map_err(|error| format!("the migrations of `consistency_task` failed: {error}"))
}

/// MySQL commits at every DDL statement, so the lock belongs to the session and not to a transaction.
fn locked_on_mysql<C: TaskConnection>(conn: &mut C, work: impl FnOnce(&mut C) -> QueryResult<()>) -> QueryResult<()> {
    let values = [("name", LOCK_NAME.into()), ("wait", LOCK_WAIT_SECS.into())];
    let got = conn.load_ids(Statement::new("SELECT COALESCE(GET_LOCK({name}, {wait}), 0)", &values))?;
    if got.first() != Some(&1) {
        let reason = format!("another process has held the lock `{LOCK_NAME}` for {LOCK_WAIT_SECS} s");
        return Err(Error::QueryBuilderError(reason.into()));
    }
    let done = work(conn);
    let released = conn.load_ids(Statement::new("SELECT COALESCE(RELEASE_LOCK({name}), 0)", &values));
    done.and(released.map(drop))
}

/// Whether the table is there, with every column this version needs.
pub(crate) fn check<C: TaskConnection>(conn: &mut C) -> Result<(), Problem> {
    let looked: QueryResult<usize> = conn.run(Statement::new(C::DIALECT.sql.check, &[]));
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
