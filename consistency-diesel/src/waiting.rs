//! What is waited for, and how long: the client's time limit on everything the runtime asks of its database.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error};

/// Least time for a question that only asks whether a connection lives.
const PING_AT_LEAST: Duration = Duration::from_millis(500);

/// One wait for the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    what: &'static str,
    limit: Duration,
    deadline: Instant,
}

impl Waiting {
    /// For `what`, at most `limit` from now on.
    pub(crate) fn begin(what: &'static str, limit: Duration) -> Self {
        Self { what, limit, deadline: Instant::now() + limit }
    }

    /// The same, begun anew: what came before was no wait for the database.
    pub(crate) fn anew(self) -> Self {
        Self::begin(self.what, self.limit)
    }

    /// For the answer to a ping: several of them must fit into one wait for a connection.
    pub(crate) fn for_ping(limit: Duration) -> Self {
        Self::begin("a ping", (limit / 8).max(PING_AT_LEAST).min(limit))
    }

    /// What is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// What is left for the work itself: a fair share, however long the wait for a connection was. This is the margin by which
    /// an operation may exceed its limit.
    pub(crate) fn left_for_work(&self) -> Duration {
        self.left().max(self.limit / 4)
    }

    /// As long as an operation with its wait for a connection may take at most.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn longest(&self) -> Duration {
        self.left() + self.limit / 4
    }

    /// The error when it was in vain: the connection counts as closed, so that the work is worth another try, and the outcome
    /// of a COMMIT is unknown.
    pub(crate) fn in_vain(&self, more: &str) -> Error {
        let message = format!("no answer to {} within {:?}; the connection is given up{more}", self.what, self.limit);
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(message))
    }

    /// The error when there was no connection.
    pub(crate) fn no_connection(&self, reason: &dyn std::fmt::Display) -> String {
        format!("no connection for {} within {:?}: {reason}", self.what, self.limit)
    }
}
