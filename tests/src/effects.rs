//! The ledger of effects: every run of a body writes its begin and its end, by the database's clock, on connections of its
//! own. What a checker compares with the table afterwards.

use std::time::{Duration, Instant};

use consistency_core::context::TaskContext;
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use parking_lot::Mutex;

use crate::any_connection::AnyConnection;
use crate::backend::Backend;
use crate::database::{Database, apart};
use crate::scene::{micros, now};

/// How long a statement is said again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes to the table `effects`; injected into the tasks of worker processes.
pub struct Effects {
    backend: Backend,
    address: String,
    /// On SQLite, whether the table stands in a file of its own, so that it can be written while a transaction is open.
    beside: bool,
    idle: Mutex<Vec<AnyConnection>>,
}

impl Effects {
    /// The table.
    pub const TABLE: &'static str = "effects";

    /// Writes to the database at `url`, the outbox's own, where [`create_table`](Self::create_table) has made the table.
    pub fn new(url: &str) -> Self {
        let backend = Backend::of_url(url);
        let address = url.strip_prefix("sqlite://").unwrap_or(url).to_owned();
        Self { backend, address, beside: false, idle: Mutex::new(Vec::new()) }
    }

    /// As [`new`](Self::new), for a table made by [`create_table_beside`](Self::create_table_beside).
    pub fn beside(url: &str) -> Self {
        Self { beside: true, ..Self::new(url) }
    }

    /// Creates the empty table.
    pub fn create_table(database: &Database) {
        database.execute(&create(""));
    }

    /// Creates the empty table where it can be written while a transaction is open on the database: on SQLite, which has one
    /// writer, in a file beside the database's. `database` answers questions about it as about its own tables.
    pub fn create_table_beside(database: &Database) {
        if database.backend() != Backend::Sqlite {
            return Self::create_table(database);
        }
        database.execute(&attach(database.address()));
        database.execute(&create("ledger."));
    }

    /// Appends one row of a run without a length, committed by itself. `task` is whatever the test counts by.
    ///
    /// # Errors
    /// The database's.
    pub fn append(&self, task: i64, attempt: u32, node: &str) -> QueryResult<()> {
        let now = micros(self.backend, now(self.backend));
        self.execute(&format!(
            "INSERT INTO {} (run, task, attempt, node, started, ended, failed) \
             VALUES ({}, {task}, {attempt}, '{node}', {now}, {now}, 0)",
            Self::TABLE,
            rand::random::<i64>()
        ))
    }

    /// Writes that the body of `cx` begins, with the version and the lease its row has now. The run counts as failed when what
    /// is returned is dropped, in a panic or with a future, and stays open when the process dies first.
    ///
    /// # Errors
    /// The database's.
    pub fn begin(&self, cx: &TaskContext) -> QueryResult<OpenRun<'_>> {
        let run = rand::random();
        let held =
            format!("FROM consistency_task WHERE id = {} AND state = 1 AND lease_owner = '{}'", cx.id(), cx.node());
        self.execute(&format!(
            "INSERT INTO {} (run, task, attempt, node, version, leased_until, started, failed) \
             VALUES ({run}, {}, {}, '{}', (SELECT version {held}), (SELECT {} {held}), {}, 0)",
            Self::TABLE,
            cx.id(),
            cx.attempt(),
            cx.node(),
            micros(self.backend, "lease_until"),
            micros(self.backend, now(self.backend)),
        ))?;
        Ok(OpenRun { effects: self, run, open: true })
    }

    /// Notes the lease as it is renewed by now, and `also`.
    fn note(&self, run: i64, also: &str) -> QueryResult<()> {
        let table = Self::TABLE;
        let lease = format!(
            "(SELECT {} FROM consistency_task t WHERE t.id = {table}.task AND t.version = {table}.version AND t.state = 1)",
            micros(self.backend, "t.lease_until")
        );
        // What was promised once counts, also where a sabotaged store takes it back.
        self.execute(&format!(
            "UPDATE {table} SET {also} leased_until = CASE WHEN {lease} > leased_until THEN {lease} ELSE leased_until END \
             WHERE run = {run}"
        ))
    }

    /// Says a statement on a connection of its own. A connection that was cut meanwhile is replaced, and the statement said
    /// again: none of them does more when it is said twice.
    fn execute(&self, sql: &str) -> QueryResult<()> {
        apart(|| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let idle = self.idle.lock().pop();
                match idle.map_or_else(|| self.connect(), Ok).and_then(|mut conn| conn.execute(sql).map(|()| conn)) {
                    Ok(conn) => {
                        self.idle.lock().push(conn);
                        return Ok(());
                    }
                    // Its answer was lost.
                    Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => return Ok(()),
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        })
    }

    fn connect(&self) -> QueryResult<AnyConnection> {
        let opened = AnyConnection::open(self.backend, &self.address);
        let mut conn = opened.map_err(|error| Error::QueryBuilderError(error.into()))?;
        let set_up = match self.backend {
            // A killed process loses nothing by this, only a fallen machine would.
            Backend::Sqlite if self.beside => format!("{}; PRAGMA ledger.synchronous = OFF", attach(&self.address)),
            Backend::Sqlite => "PRAGMA synchronous = OFF".to_owned(),
            // Elsewhere it would lock the rows of the outbox that it looks at.
            Backend::Mysql => "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
            Backend::Postgres => return Ok(conn),
        };
        conn.execute(&set_up)?;
        Ok(conn)
    }
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Effects({})", self.address)
    }
}

fn create(schema: &str) -> String {
    format!(
        "CREATE TABLE {schema}{} (run BIGINT NOT NULL PRIMARY KEY, task BIGINT NOT NULL, attempt INTEGER NOT NULL, \
         version BIGINT, node VARCHAR(120) NOT NULL, started BIGINT NOT NULL, leased_until BIGINT, ended BIGINT, \
         failed INTEGER NOT NULL)",
        Effects::TABLE
    )
}

fn attach(address: &str) -> String {
    format!("ATTACH DATABASE '{address}-effects' AS ledger; PRAGMA ledger.journal_mode = WAL")
}

/// A run of a body, between its begin and its end.
#[derive(Debug)]
pub struct OpenRun<'e> {
    effects: &'e Effects,
    run: i64,
    open: bool,
}

impl OpenRun<'_> {
    /// Notes how far its lease is renewed by now: what takes long shall do so now and then.
    ///
    /// # Errors
    /// The database's.
    pub fn still_runs(&self) -> QueryResult<()> {
        self.effects.note(self.run, "")
    }

    /// Writes that it ended well.
    ///
    /// # Errors
    /// The database's.
    pub fn succeeded(mut self) -> QueryResult<()> {
        self.open = false;
        self.end(0)
    }

    fn end(&self, failed: u8) -> QueryResult<()> {
        let now = micros(self.effects.backend, now(self.effects.backend));
        self.effects.note(self.run, &format!("ended = {now}, failed = {failed},"))
    }
}

impl Drop for OpenRun<'_> {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = self.end(1)
        {
            eprintln!("the end of a run could not be written: {error}");
        }
    }
}
