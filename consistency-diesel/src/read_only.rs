//! A connection of the runtime's own that turned out to be read-only is not kept: it may lead to a server that was the primary
//! once, or was made while the database was closed to writers, and would stay as it is when others can write again.

use consistency_core::store::TransactionOutcome;
use diesel::connection::TransactionManagerStatus;
use diesel::result::QueryResult;

use crate::connection::TaskConnection;

/// How the databases say it, SQLite in one word.
const WORDS: [&str; 3] = ["read-only", "read only", "readonly"];

/// Has the pool of `conn` throw it away if the error says so. A needless new connection is the price of a mistake.
pub(crate) fn let_go_after<C: TaskConnection, T>(conn: &mut C, done: &QueryResult<T>) {
    if let Err(error) = done {
        let_go(conn, &error.to_string());
    }
}

/// As [`let_go_after`], when a `#[tx]` task has run on it; its body may be what met the error.
pub(crate) fn let_go_after_task<C: TaskConnection>(conn: &mut C, outcome: &TransactionOutcome) {
    match outcome {
        TransactionOutcome::Failed(error) => let_go(conn, error.text()),
        TransactionOutcome::NotStarted(error) | TransactionOutcome::RolledBack(error) => {
            let_go(conn, &error.to_string())
        }
        TransactionOutcome::Committed | TransactionOutcome::LeaseLost => {}
    }
}

fn let_go<C: TaskConnection>(conn: &mut C, error: &str) {
    let error = error.to_lowercase();
    if WORDS.iter().any(|words| error.contains(words)) {
        *conn.transaction_status() = TransactionManagerStatus::InError;
    }
}
