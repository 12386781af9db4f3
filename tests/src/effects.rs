//! The effects of tasks, written on connections of their own: what a checker compares with the table afterwards.

use consistency_diesel::source::Source;
use diesel::connection::SimpleConnection;
use diesel::result::QueryResult;
use parking_lot::Mutex;

use crate::database::Database;

/// A connection of any of the databases.
type AnyConnection = Box<dyn SimpleConnection + Send>;

/// Appends to the table `effects`; injected into the tasks of worker processes.
pub struct Effects {
    url: String,
    idle: Mutex<Vec<AnyConnection>>,
}

impl Effects {
    /// Writes to the database at `url`, the outbox's own. The table must exist.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    /// Creates the empty table.
    pub fn create_table(database: &Database) {
        database.execute(
            "CREATE TABLE effects (task BIGINT NOT NULL, attempt INTEGER NOT NULL, node VARCHAR(120) NOT NULL)",
        );
    }

    /// Appends one row, committed by itself.
    ///
    /// # Errors
    /// The database's.
    pub fn append(&self, task: i64, attempt: u32, node: &str) -> QueryResult<()> {
        let idle = self.idle.lock().pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => connect(&self.url),
        };
        conn.batch_execute(&format!("INSERT INTO effects (task, attempt, node) VALUES ({task}, {attempt}, '{node}')"))?;
        self.idle.lock().push(conn);
        Ok(())
    }
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Effects({})", self.url)
    }
}

fn connect(url: &str) -> AnyConnection {
    #[allow(unused_imports)]
    use diesel::Connection;
    match url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", file)) => {
            let mut conn = diesel::SqliteConnection::establish(file).expect("a connection");
            // A killed process loses nothing by this, only a fallen machine would.
            conn.batch_execute("PRAGMA busy_timeout = 30000; PRAGMA synchronous = OFF").expect("a set up connection");
            Box::new(conn)
        }
        #[cfg(feature = "postgres")]
        Some(("postgres", _)) => Box::new(diesel::PgConnection::establish(url).expect("a connection")),
        #[cfg(feature = "mysql")]
        Some(("mysql", _)) => Box::new(diesel::MysqlConnection::establish(url).expect("a connection")),
        _ => panic!("no driver for {url} ({:?})", Source::from(url)),
    }
}
