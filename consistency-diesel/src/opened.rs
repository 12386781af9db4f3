//! An open transaction, from BEGIN to COMMIT or ROLLBACK: what each may find, and in what state it leaves the connection.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use consistency_core::enqueue::Answers;
use diesel::connection::TransactionManagerStatus;
use diesel::result::{Error, QueryResult};

use crate::busy::Busy;
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::{TransactionError, is_begun_inside_another, is_disconnected};
use crate::proof;
use crate::waiting::Waiting;
use crate::world::World;
use crate::write_gate::{Turn, WriteGate};

/// How a transaction is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The line of SQLite's writers.
    pub(crate) gate: Option<&'a WriteGate>,
    /// How long to wait for SQLite's write lock.
    pub(crate) busy_wait: Duration,
    /// Whether one that is open already is taken, through a savepoint: for tests that roll everything back at their end.
    pub(crate) inside_another: bool,
    /// Whether it is begun already, by [`send_begin`].
    pub(crate) begun: bool,
    /// How long BEGIN, and later all that follows the body, may take on an asynchronous connection of the runtime's own.
    pub(crate) limit: Option<Duration>,
}

/// Waits for `work` on a connection of the runtime's own only so long.
pub(crate) async fn within<C: TaskConnection, T: Send>(
    limit: Option<Duration>,
    what: &'static str,
    work: impl Future<Output = QueryResult<T>> + Send,
) -> QueryResult<T> {
    let Some(limit) = limit else { return work.await };
    let waiting = Waiting::begin(what, limit);
    C::within(limit, work).await.unwrap_or_else(|| Err(waiting.in_vain("")))
}

/// An open transaction. Dropped before its end, when a caller gives up its future, it marks the connection as broken: what is
/// open on it must not be taken for the next transaction's.
pub(crate) struct Open<'c, 'g, C: TaskConnection> {
    pub(crate) conn: &'c mut C,
    /// How many levels were open before.
    pub(crate) base: usize,
    /// The turn among SQLite's writers, kept until the end.
    _turn: Option<Turn<'g>>,
    /// Of the statements inside.
    pub(crate) answers: Answers,
    /// How long what follows the body may take.
    pub(crate) limit: Option<Duration>,
    ended: bool,
}

impl<C: TaskConnection> Open<'_, '_, C> {
    /// Whether a future of the closure's was dropped in the middle, so that nobody knows what is open, or which answer is
    /// whose. Nothing more may be said on the connection.
    pub(crate) fn is_out_of_step(&mut self) -> bool {
        self.conn.is_cut_off() || (C::MISTAKES_ANSWERS && self.answers.given_up())
    }

    /// # Errors
    /// The database's refusal, or [`TransactionError::CommitUnknown`]. Words do not tell them apart, for a pooler has its own: it
    /// was a refusal when the connection still answers.
    pub(crate) async fn commit(mut self) -> QueryResult<()> {
        let committed = within::<C, _>(self.limit, "COMMIT", self.conn.commit()).await;
        let Err(error) = committed else {
            // Given up in the middle it is cut off.
            self.ended = !self.conn.is_cut_off();
            return Ok(());
        };
        let lost = is_disconnected(&error) || self.conn.is_cut_off();
        if self.base > 0 && !lost {
            // A savepoint; the transaction around it goes on.
            self.ended = true;
            return Err(error);
        }
        if !lost {
            let asked = async { Ok(nothing_is_open(&mut *self.conn).await) };
            self.ended = within::<C, _>(self.limit, "ROLLBACK", asked).await.unwrap_or(false);
        }
        // A file that cannot be written tells so itself; its COMMIT has then not happened, whatever is left open.
        let refused_by_file = C::DIALECT.kind == Kind::Sqlite
            && !lost
            && matches!(error, Error::DatabaseError(..) | Error::RollbackErrorOnCommit { .. });
        if self.ended || refused_by_file {
            Err(error)
        } else {
            Err(TransactionError::CommitUnknown(error.to_string()).into())
        }
    }

    /// As [`roll_back`](Self::roll_back), within the limit. Given up in the middle, the connection is broken, and the database
    /// rolls back when it notices.
    pub(crate) async fn roll_back_in_time(self) {
        match self.limit {
            None => self.roll_back().await,
            Some(limit) => drop(C::within(limit, self.roll_back()).await),
        }
    }

    /// Ends every level without a trace. When even that fails the connection is gone, and the database does it.
    pub(crate) async fn roll_back(mut self) {
        while !self.is_out_of_step() && matches!(self.conn.open_depth(), Some(depth) if depth as usize > self.base) {
            let before = self.conn.open_depth();
            match self.conn.roll_back().await {
                Ok(()) => {}
                // SQLite had rolled back by itself: the connection is as good as new, and Diesel may know.
                Err(error) if was_over_already::<C>(&error) => {
                    *self.conn.transaction_status() = TransactionManagerStatus::default();
                }
                // A savepoint that went with its transaction: Diesel counts it as left, the levels around it are still to
                // do. At the outermost level Diesel marks the connection as broken instead, which ends this too.
                Err(_) => {}
            }
            if self.conn.open_depth() == before {
                // Nothing reaches the connection any more: the Tokio runtime its threads belong to has ended.
                *self.conn.transaction_status() = TransactionManagerStatus::InError;
            }
        }
        self.ended = !self.is_out_of_step();
    }
}

impl<C: TaskConnection> Drop for Open<'_, '_, C> {
    fn drop(&mut self) {
        // A wrapped connection panics while a statement is under way, in a Tokio runtime of one thread: a second panic while
        // one unwinds would end the process.
        if !self.ended && catch_unwind(AssertUnwindSafe(|| self.conn.abandon())).is_err() {
            tracing::error!(
                "a connection whose transaction was dropped could not be marked as broken; do not use it again"
            );
        }
    }
}

/// After a COMMIT that brought an error: rolls back, and says whether the connection answered and is as it was before BEGIN.
///
/// Diesel rolls back itself then. diesel-async does not, and counts the transaction as over all the same: the next one on the
/// connection would be part of it.
pub(crate) async fn nothing_is_open<C: TaskConnection>(conn: &mut C) -> bool {
    if conn.healthy_depth() != Some(0) {
        return false;
    }
    if C::World::ROLLS_BACK_AFTER_COMMIT {
        return conn.run_batch("SELECT 1").await.is_ok();
    }
    match conn.run_batch("ROLLBACK").await {
        Ok(()) => true,
        Err(error) => was_over_already::<C>(&error),
    }
}

/// Whether a ROLLBACK was refused because nothing is open.
fn was_over_already<C: TaskConnection>(error: &Error) -> bool {
    C::DIALECT.kind == Kind::Sqlite && error.to_string().contains("no transaction is active")
}

/// BEGIN, and the proof set. On SQLite with the write lock taken first, waited for up to `busy_wait`: a transaction that starts
/// by reading could not wait for it later.
pub(crate) async fn begin<'c, 'g, C: TaskConnection>(
    conn: &'c mut C,
    opening: Opening<'g>,
) -> QueryResult<Open<'c, 'g, C>> {
    // Looked at before the turn is waited for: who is ahead may wait for the lock of this very connection.
    let base = match conn.healthy_depth() {
        Some(0) if !opening.begun => 0,
        Some(1) if opening.begun => 0,
        Some(open) if opening.inside_another => open as usize,
        Some(_) => return Err(TransactionError::AlreadyOpen.into()),
        None => return Err(TransactionError::BrokenConnection.into()),
    };
    let turn = match opening.gate {
        Some(gate) if base == 0 && gate.is_held_around() => return Err(TransactionError::InsideAnother.into()),
        Some(gate) if base == 0 => C::take_turn(gate).await,
        _ => None,
    };
    let open = Open { conn, base, _turn: turn, answers: Answers::default(), limit: None, ended: false };
    let begun = match base {
        _ if opening.begun => Ok(()),
        0 => send_begin(&mut *open.conn, opening.busy_wait).await,
        _ => send_savepoint(&mut *open.conn).await,
    };
    // Nothing is open, unless it is known to be.
    if let Err(error) = begun {
        open.roll_back().await;
        return Err(error);
    }
    // Elsewhere it was set together with BEGIN.
    if (C::DIALECT.kind == Kind::Sqlite || base > 0)
        && let Err(error) = proof::set(&mut *open.conn, base).await
    {
        open.roll_back().await;
        return Err(error);
    }
    Ok(open)
}

/// BEGIN for PostgreSQL. Inside a transaction that somebody began with SQL, where a plain BEGIN only warns, this one is refused once
/// a query has run; otherwise it says what is the default.
const POSTGRES_BEGIN: &str = "BEGIN NOT DEFERRABLE; SET LOCAL consistency.proof = 'open'";

/// START TRANSACTION for MySQL. Inside a transaction that somebody began with SQL, which a plain one would commit, its first
/// statement is refused; otherwise it gives the next transaction what the session gives it anyway. What MariaDB and MySQL call
/// this stands in comments that only the one reads.
const MYSQL_BEGIN: &str = "SET /*M! @@tx_read_only = @@session.tx_read_only */ \
     /*!50720 @@transaction_read_only = @@session.transaction_read_only */; \
     START TRANSACTION; SAVEPOINT consistency_proof_0";

/// BEGIN, and on servers the proof set with it.
pub(crate) async fn send_begin<C: TaskConnection>(conn: &mut C, busy_wait: Duration) -> QueryResult<()> {
    let begun = match C::DIALECT.kind {
        Kind::Postgres => conn.open_with(POSTGRES_BEGIN).await,
        Kind::Mysql => conn.open_with(MYSQL_BEGIN).await,
        Kind::Sqlite => {
            let mut busy = Busy::new(busy_wait);
            let mut begun = conn.open_with("BEGIN IMMEDIATE").await;
            while let Some(pause) = busy.pause_after(&begun) {
                C::pause(pause).await;
                begun = conn.open_with("BEGIN IMMEDIATE").await;
            }
            begun
        }
    };
    begun.map_err(|error| if is_begun_inside_another(&error) { TransactionError::AlreadyOpen.into() } else { error })
}

async fn send_savepoint<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    conn.open().await?;
    if C::DIALECT.kind == Kind::Postgres {
        conn.run_batch("SET LOCAL consistency.proof = 'open'").await?;
    }
    Ok(())
}
