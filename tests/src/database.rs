//! A fresh database per test, removed afterwards, and plain questions to it.

use std::time::Duration;

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::outbox::Outbox;
use diesel::result::QueryResult;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::any_connection::{AnyConnection, FromAnyDatabase, Number, TextValue, set_up_sqlite};
use crate::backend::Backend;
use crate::missing;
use crate::task_row::TaskRow;

/// A database of one test's own, empty at first, dropped with this value.
pub struct Database {
    backend: Backend,
    /// What Diesel connects to: a file for SQLite, else a URL.
    address: String,
    /// The connection questions are asked on; opened at the first one.
    asked_on: Mutex<Option<AnyConnection>>,
    place: Place,
}

enum Place {
    /// Deleted with the value.
    File {
        _folder: TempDir,
    },
    /// Somebody else's to remove.
    Elsewhere,
    Server {
        admin_url: String,
        name: String,
    },
}

impl Database {
    /// A fresh, empty database.
    ///
    /// # Errors
    /// The reason when the server does not answer.
    pub fn fresh(backend: Backend) -> Result<Database, String> {
        Self::fresh_at(backend, &backend.admin_url())
    }

    /// As [`fresh`](Self::fresh), on the server of `admin_url`, which leads to a database that exists.
    ///
    /// # Errors
    /// The reason when the server does not answer.
    pub fn fresh_at(backend: Backend, admin_url: &str) -> Result<Database, String> {
        let (address, place) = match backend {
            Backend::Sqlite => {
                let folder = TempDir::new().map_err(|error| error.to_string())?;
                let file = folder.path().join("test.db").to_str().ok_or("the folder's name is no text")?.to_owned();
                (file, Place::File { _folder: folder })
            }
            Backend::Postgres | Backend::Mysql => {
                let name = format!("consistency_test_{}_{:08x}", std::process::id(), rand::random::<u32>());
                apart(|| {
                    let mut admin = AnyConnection::open(backend, admin_url)
                        .map_err(|error| format!("no {backend} at {admin_url}: {error}"))?;
                    admin.execute(&format!("CREATE DATABASE {name}")).map_err(|error| error.to_string())
                })?;
                (with_database(admin_url, &name), Place::Server { admin_url: admin_url.to_owned(), name })
            }
        };
        Ok(Database { backend, address, asked_on: Mutex::new(None), place })
    }

    /// A SQLite file in a folder that somebody else keeps.
    ///
    /// # Panics
    /// When the folder's name is no text.
    pub fn file_in(folder: &std::path::Path) -> Database {
        let address = folder.join("test.db").to_str().expect("a name that is text").to_owned();
        Database { backend: Backend::Sqlite, address, asked_on: Mutex::new(None), place: Place::Elsewhere }
    }

    /// Which kind it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its address for `Outbox::builder`.
    pub fn url(&self) -> String {
        match self.backend {
            Backend::Sqlite => format!("sqlite://{}", self.address),
            Backend::Postgres | Backend::Mysql => self.address.clone(),
        }
    }

    /// Its address for `Connection::establish` and for an r2d2 `ConnectionManager`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A builder on it that migrates and looks often, so that tests are quick. Everything can be set anew.
    pub fn outbox(&self) -> OutboxBuilder {
        Outbox::builder(self.url()).migrate().poll_interval(Duration::from_millis(50))
    }

    /// Runs the migrations.
    pub fn migrate(&self) {
        drop(self.outbox().enqueue_only().start_blocking().expect("the migrations run"));
    }

    /// A connection of the test's own.
    pub fn connection<C: BlockingConnection>(&self) -> C {
        let mut conn = C::establish(&self.address).expect("a connection");
        if self.backend == Backend::Sqlite {
            set_up_sqlite(&mut conn).expect("a set up connection");
        }
        conn
    }

    /// Runs statements, as a person with a client would. More than one only where the driver allows it.
    pub fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{}: {sql}: {error}", self.backend));
    }

    /// Runs a statement that may fail.
    ///
    /// # Errors
    /// The database's.
    pub fn try_execute(&self, sql: &str) -> QueryResult<()> {
        self.ask(|conn| conn.execute(sql))
    }

    /// Asks the next question on a new connection: the server has been away.
    pub fn reconnect(&self) {
        apart(|| drop(self.asked_on.lock().take()));
    }

    /// The one number that `SELECT {expression}` answers; `expression` may go on with `FROM ..`.
    pub fn number(&self, expression: &str) -> i64 {
        let (head, tail) = expression
            .split_once(" FROM ")
            .map_or((expression, String::new()), |(head, tail)| (head, format!(" FROM {tail}")));
        let sql = format!("SELECT {} AS value{tail}", self.backend.as_bigint(head));
        let rows: Vec<Number> = self.ask(|conn| conn.load(&sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.first().unwrap_or_else(|| panic!("{sql}: no row")).value
    }

    /// How many rows of `table` meet `condition` (`true` for all).
    pub fn count(&self, table: &str, condition: &str) -> i64 {
        self.number(&format!("COUNT(*) FROM {table} WHERE {condition}"))
    }

    /// The texts of a statement whose only column is a text named `value`.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let rows: Vec<TextValue> = self.ask(|conn| conn.load(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.value).collect()
    }

    /// The numbers of a statement whose only column is a whole number of 64 bits named `value`.
    pub fn load_numbers(&self, sql: &str) -> Vec<i64> {
        self.load::<Number>(sql).into_iter().map(|row| row.value).collect()
    }

    /// The rows of a statement.
    pub(crate) fn load<Row: FromAnyDatabase + Send>(&self, sql: &str) -> Vec<Row> {
        self.ask(|conn| conn.load(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The rows of `consistency_task` that meet `condition` (`true` for all), by id.
    pub fn rows(&self, condition: &str) -> Vec<TaskRow> {
        let sql = format!("{} WHERE {condition} ORDER BY id", TaskRow::select(self.backend));
        self.ask(|conn| conn.load(&sql)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The row with this public handle, if there is one. The handle must not contain a quote.
    pub fn find(&self, task_id: &str) -> Option<TaskRow> {
        self.rows(&format!("task_id = '{task_id}'")).pop()
    }

    /// The row with this public handle.
    pub fn row(&self, task_id: &str) -> TaskRow {
        self.find(task_id).unwrap_or_else(|| panic!("there is no task `{task_id}`"))
    }

    fn ask<T: Send>(&self, question: impl FnOnce(&mut AnyConnection) -> QueryResult<T> + Send) -> QueryResult<T> {
        apart(|| {
            let mut asked_on = self.asked_on.lock();
            if asked_on.is_none() {
                *asked_on = Some(AnyConnection::open(self.backend, &self.address).expect("a connection"));
            }
            let answer = question(asked_on.as_mut().expect("just opened"));
            if answer.is_err() {
                // It may be gone, with its server.
                *asked_on = None;
            }
            answer
        })
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.address)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.asked_on.get_mut().take());
        let Place::Server { admin_url, name } = &self.place else { return };
        // PostgreSQL waits for nobody only with FORCE: connections of a test that failed may still be open.
        let force = if self.backend == Backend::Postgres { " WITH (FORCE)" } else { "" };
        let dropped = apart(|| {
            let mut admin = AnyConnection::open(self.backend, admin_url).map_err(|error| error.to_string())?;
            admin.execute(&format!("DROP DATABASE {name}{force}")).map_err(|error| error.to_string())
        });
        if let Err(error) = dropped {
            eprintln!("the database {name} is left behind: {error}");
        }
    }
}

/// Runs `body` on a fresh, empty database. Without a server it says so and does nothing, unless the server is required.
///
/// # Panics
/// When `CONSISTENCY_TEST_REQUIRE` names the database and it does not answer.
pub fn on_fresh(backend: Backend, test: &str, body: impl FnOnce(&Database)) {
    match Database::fresh(backend) {
        Ok(database) => body(&database),
        Err(reason) => missing::server(backend, test, &reason),
    }
}

/// Runs `work` on a thread outside of any Tokio runtime where the tests' own connections bring one: in a test that is itself
/// asynchronous they could not.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if cfg!(all(feature = "postgres", feature = "mysql")) || !cfg!(feature = "async") {
        return work();
    }
    match std::thread::scope(|scope| scope.spawn(work).join()) {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The URL with another database name.
fn with_database(admin_url: &str, name: &str) -> String {
    let (address, options) = admin_url
        .split_once('?')
        .map_or((admin_url, String::new()), |(address, options)| (address, format!("?{options}")));
    let host = address.split_once("://").map_or(0, |(scheme, _)| scheme.len() + 3);
    let end = address[host..].find('/').map_or(address.len(), |slash| host + slash);
    format!("{}/{name}{options}", &address[..end])
}
