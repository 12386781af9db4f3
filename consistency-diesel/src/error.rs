//! Database errors, sorted: worth another try or not, and whether the outcome of a COMMIT is known.

use consistency_core::error::{EnqueueError, StoreError};
use diesel::result::{DatabaseErrorKind, Error};

/// Why the transaction helper refused or failed. It reaches the caller's error type through `From<diesel::result::Error>`;
/// [`TransactionError::of`] finds it there again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// A transaction is open on the connection already, through Diesel or begun with SQL.
    #[error(
        "a transaction is already open on this connection: call `outbox.transaction` outside of it, or store calls in it with \
         `outbox.join(conn)`, which leaves their start to the poller. If none should be open, an earlier one on this connection was \
         abandoned; its work is not durable: drop the connection"
    )]
    AlreadyOpen,
    /// On SQLite, a transaction inside another one of the same outbox, on another connection.
    #[error(
        "this transaction would wait for itself: SQLite has one writer, and a transaction of the same outbox around it is open; store the \
         call on that one's `tx`, or open this one after it has ended"
    )]
    InsideAnother,
    /// `join` needs an open transaction.
    #[error(
        "no transaction is open on this connection: `join` stores calls in the transaction you have open; use `outbox.transaction`"
    )]
    NotOpen,
    /// The connection was left in a state Diesel cannot use.
    #[error(
        "the connection is broken: an earlier transaction on it neither committed nor rolled back; drop the connection"
    )]
    BrokenConnection,
    /// The transaction ended underneath: the database rolled it back, or somebody ended it with SQL.
    #[error(
        "the transaction ended before its commit (a deadlock, an error that was ignored, or a COMMIT or ROLLBACK of your own); \
         nothing was enqueued and nothing is committed by the outbox; do not ignore database errors inside the closure"
    )]
    Lost,
    /// The connection was lost during COMMIT: the transaction is either committed as a whole or not at all.
    #[error(
        "the connection was lost during COMMIT ({0}): whether the transaction is committed is unknown; if it is, its tasks will run, \
         so look before you do it again"
    )]
    CommitUnknown(String),
    /// The connection belongs to another kind of database than the outbox.
    #[error("this connection speaks to {found}, the outbox runs on {wanted}")]
    WrongDatabase {
        /// The outbox's database.
        wanted: &'static str,
        /// The connection's database.
        found: &'static str,
    },
}

impl TransactionError {
    /// The [`TransactionError`] inside a Diesel error, if it is one.
    pub fn of(error: &Error) -> Option<&TransactionError> {
        match error {
            Error::QueryBuilderError(inner) => inner.downcast_ref(),
            _ => None,
        }
    }
}

/// The [`EnqueueError`] inside a Diesel error, if `enqueue` refused the call.
pub fn enqueue_error(error: &Error) -> Option<&EnqueueError> {
    match error {
        Error::SerializationError(inner) => inner.downcast_ref(),
        _ => None,
    }
}

impl From<TransactionError> for Error {
    fn from(error: TransactionError) -> Self {
        Error::QueryBuilderError(Box::new(error))
    }
}

/// A refused call as a Diesel error, so that `?` works with any error type that takes those.
pub(crate) fn refused(error: EnqueueError) -> Error {
    Error::SerializationError(Box::new(error))
}

/// Sorts a database error for the runtime.
pub(crate) fn store_error(error: Error) -> StoreError {
    if !is_transient(&error) {
        return StoreError::Fatal(Box::new(error));
    }
    let message = error.to_string().to_lowercase();
    let locked = LOCKED.iter().any(|part| message.contains(part));
    if locked { StoreError::Locked(Box::new(error)) } else { StoreError::Transient(Box::new(error)) }
}

/// Parts of messages that mean that somebody else's lock was waited for in vain.
const LOCKED: [&str; 2] = ["lock wait timeout", "lock timeout"];

/// Parts of messages that mean a passing fault. Diesel tells most of these apart by message only.
const TRANSIENT: [&str; 29] = [
    "database is locked",
    "database table is locked",
    "deadlock",
    "lock wait timeout",
    "lock timeout",
    "could not serialize",
    "record has changed since last read",
    "too many connections",
    "too many clients",
    "remaining connection slots",
    "the database system is",
    "statement timeout",
    "canceling statement due to user request",
    // PostgreSQL's, also "out of memory for query result", and those of MySQL and SQLite.
    "out of memory",
    "out of shared memory",
    "locking protocol",
    // MySQL 1412 and 1615.
    "table definition has changed, please retry",
    "prepared statement needs to be re-prepared",
    "read-only",
    "read only",
    "readonly",
    "is full",
    "no space left",
    "disk i/o error",
    "unable to open database",
    "try restarting transaction",
    "server shutdown in progress",
    "query execution was interrupted",
    // Galera: "WSREP has not yet prepared node for application use".
    "wsrep",
];

/// Parts of messages that mean that the connection is gone.
const DISCONNECTED: [&str; 27] = [
    "server closed the connection",
    "terminating connection",
    "connection to server",
    "could not connect",
    "can't connect",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection not open",
    "connection closed",
    "connection was killed",
    "no connection to the server",
    "lost connection",
    "gone away",
    "broken pipe",
    "ssl connection has been closed",
    "eof detected",
    "connection to the server is closed",
    "disconnected by the server",
    "communication packets",
    "packet out of order",
    // PgBouncer's own words, after which it closes the connection.
    "server conn crashed",
    "query timeout",
    "query_wait_timeout",
    "idle transaction timeout",
    "admin forced disconnect",
    // All that mysql_async says of a socket.
    "input/output error: ",
];

/// What a client says of a statement it does not send.
const TOO_LARGE: &str = "packet too large";

/// Whether the same work may succeed when tried again.
pub(crate) fn is_transient(error: &Error) -> bool {
    match error {
        Error::DatabaseError(
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::ReadOnlyTransaction
            | DatabaseErrorKind::UnableToSendCommand,
            _,
        )
        | Error::BrokenTransactionManager => true,
        Error::DatabaseError(_, information) => {
            let message = information.message().to_lowercase();
            // Told by the client itself, in the words of a broken socket; the same packet never gets through.
            !message.contains(TOO_LARGE) && TRANSIENT.iter().chain(&DISCONNECTED).any(|part| message.contains(part))
        }
        Error::RollbackErrorOnCommit { commit_error, .. } => is_transient(commit_error),
        _ => false,
    }
}

/// Whether an error of PostgreSQL is the doing of a pooler that shares sessions: a statement that another session has prepared,
/// or one that this session has prepared for somebody else.
pub(crate) fn is_prepared_elsewhere(error: &str) -> bool {
    error.contains("prepared statement")
}

/// Whether the connection is gone, so that the outcome of what was sent last is unknown.
pub(crate) fn is_disconnected(error: &Error) -> bool {
    match error {
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand, _) => true,
        Error::DatabaseError(_, information) => {
            let message = information.message().to_lowercase();
            !message.contains(TOO_LARGE) && DISCONNECTED.iter().any(|part| message.contains(part))
        }
        Error::RollbackErrorOnCommit { commit_error, .. } => is_disconnected(commit_error),
        _ => false,
    }
}

/// Whether the runtime was told that the connection is gone.
pub(crate) fn has_disconnected(error: &StoreError) -> bool {
    matches!(error, StoreError::Transient(error) if error.downcast_ref().is_some_and(is_disconnected))
}

/// Parts of messages that refuse to begin a transaction inside one that was begun with SQL, of which Diesel knows nothing.
const INSIDE_ANOTHER: [&str; 5] = [
    "deferrable must be called before any query",
    "deferrable cannot be called within a subtransaction",
    "current transaction is aborted",
    "transaction characteristics can't be changed while a transaction is in progress",
    "cannot start a transaction within a transaction",
];

/// Whether a BEGIN was refused because a transaction was open already.
pub(crate) fn is_begun_inside_another(error: &Error) -> bool {
    let Error::DatabaseError(_, information) = error else { return false };
    let message = information.message().to_lowercase();
    INSIDE_ANOTHER.iter().any(|part| message.contains(part))
}

/// Whether nobody knows what became of COMMIT.
pub(crate) fn is_unknown(error: &Error) -> bool {
    matches!(TransactionError::of(error), Some(TransactionError::CommitUnknown(_)))
}

/// Whether another connection holds SQLite's write lock.
pub(crate) fn is_locked(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(_, information) if information.message().contains("is locked"))
}
