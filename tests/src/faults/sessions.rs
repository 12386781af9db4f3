//! Ends sessions on the server's side, as an administrator or a failing proxy does.

use std::time::{Duration, Instant};

use crate::any_connection::{AnyConnection, Number};
use crate::backend::Backend;

/// How long sessions may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The session a connection speaks in, as an SQL expression. SQLite has none.
pub fn own_session(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "0",
        Backend::Postgres => "pg_backend_pid()",
        Backend::Mysql => "CONNECTION_ID()",
    }
}

/// Ends every session on the database at `address` but those in `spared`, and waits until they are gone. What was open in them
/// is rolled back then. Does nothing on SQLite.
///
/// # Panics
/// When the server does not answer, or sessions outlive ten seconds.
pub fn sever(backend: Backend, address: &str, spared: &[i64]) {
    if backend == Backend::Sqlite {
        return;
    }
    let mut conn = AnyConnection::open(backend, address).expect("a connection to end the others on");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let others: Vec<i64> = sessions(&mut conn, backend).into_iter().filter(|id| !spared.contains(id)).collect();
        if others.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the sessions {others:?} do not end");
        for id in others {
            let end = match backend {
                Backend::Postgres => format!("SELECT pg_terminate_backend({id})"),
                _ => format!("KILL {id}"),
            };
            // One that is gone already is an error on MySQL.
            let _ = conn.execute(&end);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every other session on the connection's database.
fn sessions(conn: &mut AnyConnection, backend: Backend) -> Vec<i64> {
    let sql = match backend {
        Backend::Postgres => {
            "SELECT pid::bigint AS value FROM pg_stat_activity \
             WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        }
        _ => {
            "SELECT CAST(ID AS SIGNED) AS value FROM information_schema.PROCESSLIST \
             WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"
        }
    };
    let rows: Vec<Number> = conn.load(sql).expect("the list of sessions");
    rows.into_iter().map(|row| row.value).collect()
}
