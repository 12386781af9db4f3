//! One transaction, from BEGIN to the hand-off: the only place where rows are flushed and committed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::{CallerRun, HandOff, Reservation};
use consistency_core::enqueue::{Answers, EnqueueScope};
use consistency_core::error::{StoreError, TaskError};
use consistency_core::fault::{self, Point};
use consistency_core::store::{ClaimedTask, LeaseId, TransactionOutcome};
use consistency_core::task::{TxBody, TxParts};
use diesel::connection::TransactionManagerStatus;
use diesel::result::{Error, QueryResult};
use futures_util::FutureExt;

use crate::busy::Busy;
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::{TransactionError, is_disconnected, is_transient, is_unknown, store_error};
use crate::insert::{Lessor, insert_buffered, insert_keyed};
use crate::operations::complete;
use crate::proof;
use crate::task_tx::TaskTx;
use crate::waiting::Waiting;
use crate::work::Work;
use crate::world::World;
use crate::write_gate::{Turn, WriteGate};

/// Runs `work` in a transaction on the caller's connection, stores what it enqueued, commits, and hands the rows over.
///
/// Returns the value and the rows that are to run on the caller's thread.
pub(crate) async fn run<C, T, E, W>(
    conn: &mut C,
    hand_off: &dyn HandOff,
    opening: Opening<'_>,
    work: W,
) -> Result<(T, Vec<CallerRun>), E>
where
    C: TaskConnection,
    E: From<Error>,
    W: for<'r, 't> Work<&'r mut TaskTx<'t, C>, Result<T, E>>,
{
    let mut open = begin(conn, opening).await?;
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), open.base);
    open.answers = scope.answers().clone();
    let worked = {
        let mut tx = TaskTx { conn: &mut *open.conn, scope: &mut scope };
        // Inside the guard the closure is also called, not only its future polled.
        AssertUnwindSafe(async { work(&mut tx).await }).catch_unwind().await
    };
    match worked {
        Ok(Ok(value)) => {
            let for_caller = finish(open, hand_off, scope, None).await?;
            Ok((value, for_caller.unwrap_or_default()))
        }
        Ok(Err(error)) => {
            open.roll_back().await;
            Err(error)
        }
        Err(panic) => {
            open.roll_back().await;
            resume_unwind(panic)
        }
    }
}

/// Runs the body of a `#[tx]` task in a transaction that also completes the row.
///
/// `body` does not unwind: the executor has caught its panics.
pub(crate) async fn run_task<C: TaskConnection>(
    conn: &mut C,
    lease: LeaseId,
    charge: i64,
    hand_off: &dyn HandOff,
    opening: Opening<'_>,
    body: &mut TxBody<'_>,
) -> TransactionOutcome {
    let limit = opening.limit;
    let mut open = match within::<C, _>(limit, "the begin of a task's transaction", begin(conn, opening)).await {
        Ok(open) => open,
        Err(error) => return TransactionOutcome::NotStarted(store_error(error)),
    };
    open.limit = limit;
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), open.base);
    open.answers = scope.answers().clone();
    if let Err(error) = body(TxParts { connection: &mut *open.conn, scope: &mut scope }).await {
        open.roll_back_in_time().await;
        return TransactionOutcome::Failed(error);
    }
    match finish(open, hand_off, scope, Some(Completion { lease, charge })).await {
        Ok(Some(_)) => TransactionOutcome::Committed,
        Ok(None) => TransactionOutcome::LeaseLost,
        // Not the task's fault: it costs no attempt. Where the answer to COMMIT was lost, the settlement finds out whether the
        // row is done: it waits for the row's lock, and changes nothing then.
        Err(error) if is_transient(&error) || is_unknown(&error) => {
            TransactionOutcome::RolledBack(StoreError::Transient(Box::new(error)))
        }
        Err(error) => TransactionOutcome::Failed(TaskError::new(error)),
    }
}

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
async fn within<C: TaskConnection, T: Send>(
    limit: Option<Duration>,
    what: &'static str,
    work: impl Future<Output = QueryResult<T>> + Send,
) -> QueryResult<T> {
    let Some(limit) = limit else { return work.await };
    let waiting = Waiting::begin(what, limit);
    C::within(limit, work).await.unwrap_or_else(|| Err(waiting.in_vain("")))
}

/// A row to complete with its transaction.
struct Completion {
    lease: LeaseId,
    charge: i64,
}

/// An open transaction. Dropped before its end, when a caller gives up its future, it marks the connection as broken: what is
/// open on it must not be taken for the next transaction's.
struct Open<'c, 'g, C: TaskConnection> {
    conn: &'c mut C,
    /// How many levels were open before.
    base: usize,
    /// The turn among SQLite's writers, kept until the end.
    _turn: Option<Turn<'g>>,
    /// Of the statements inside.
    answers: Answers,
    /// How long what follows the body may take.
    limit: Option<Duration>,
    ended: bool,
}

impl<C: TaskConnection> Open<'_, '_, C> {
    /// Whether a future of the closure's was dropped in the middle, so that nobody knows what is open, or which answer is
    /// whose. Nothing more may be said on the connection.
    fn is_out_of_step(&mut self) -> bool {
        self.conn.is_cut_off() || (C::MISTAKES_ANSWERS && self.answers.given_up())
    }

    async fn commit(mut self) -> QueryResult<()> {
        let committed = within::<C, _>(self.limit, "COMMIT", self.conn.commit()).await;
        // Given up in the middle it is cut off.
        self.ended = !self.conn.is_cut_off();
        committed.map_err(|error| {
            // Any other error is the database's refusal, and Diesel has rolled back.
            if is_disconnected(&error) { TransactionError::CommitUnknown(error.to_string()).into() } else { error }
        })
    }

    /// As [`roll_back`](Self::roll_back), within the limit. Given up in the middle, the connection is broken, and the database
    /// rolls back when it notices.
    async fn roll_back_in_time(self) {
        match self.limit {
            None => self.roll_back().await,
            Some(limit) => drop(C::within(limit, self.roll_back()).await),
        }
    }

    /// Ends every level without a trace. When even that fails the connection is gone, and the database does it.
    async fn roll_back(mut self) {
        while !self.is_out_of_step() && matches!(self.conn.open_depth(), Some(depth) if depth as usize > self.base) {
            let before = self.conn.open_depth();
            match self.conn.roll_back().await {
                Ok(()) => {}
                // SQLite had rolled back by itself: the connection is as good as new, and Diesel may know.
                Err(error)
                    if C::DIALECT.kind == Kind::Sqlite && error.to_string().contains("no transaction is active") =>
                {
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

/// BEGIN, and the proof set. On SQLite with the write lock taken first, waited for up to `busy_wait`: a transaction that starts
/// by reading could not wait for it later.
async fn begin<'c, 'g, C: TaskConnection>(conn: &'c mut C, opening: Opening<'g>) -> QueryResult<Open<'c, 'g, C>> {
    // Looked at before the turn is waited for: who is ahead may wait for the lock of this very connection.
    let base = match conn.healthy_depth() {
        Some(0) if !opening.begun => 0,
        Some(1) if opening.begun => 0,
        Some(open) if opening.inside_another => open as usize,
        Some(_) => return Err(TransactionError::AlreadyOpen.into()),
        None => return Err(TransactionError::BrokenConnection.into()),
    };
    let turn = match opening.gate {
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

/// BEGIN, and on servers the proof set with it.
pub(crate) async fn send_begin<C: TaskConnection>(conn: &mut C, busy_wait: Duration) -> QueryResult<()> {
    match C::DIALECT.kind {
        Kind::Postgres => conn.open_with("BEGIN; SET LOCAL consistency.proof = 'open'").await,
        Kind::Mysql => conn.open_with("START TRANSACTION; SAVEPOINT consistency_proof_0").await,
        Kind::Sqlite => {
            let mut busy = Busy::new(busy_wait);
            let mut begun = conn.open_with("BEGIN IMMEDIATE").await;
            while let Some(pause) = busy.pause_after(&begun) {
                C::pause(pause).await;
                begun = conn.open_with("BEGIN IMMEDIATE").await;
            }
            begun
        }
    }
}

async fn send_savepoint<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    conn.open().await?;
    if C::DIALECT.kind == Kind::Postgres {
        conn.run_batch("SET LOCAL consistency.proof = 'open'").await?;
    }
    Ok(())
}

/// Proof, completion, flush, COMMIT, hand-off. `None` when the row to complete is no longer ours; everything is rolled back
/// then, as on every error.
async fn finish<C: TaskConnection>(
    mut open: Open<'_, '_, C>,
    hand_off: &dyn HandOff,
    mut scope: EnqueueScope,
    completion: Option<Completion>,
) -> QueryResult<Option<Vec<CallerRun>>> {
    if open.is_out_of_step() {
        return Err(TransactionError::Lost.into());
    }
    if scope.depth() > 0 {
        // Left open, or ended behind our back: nobody knows which calls are wanted.
        open.roll_back().await;
        return Err(TransactionError::Lost.into());
    }
    let stored_pending = scope.has_stored_pending();
    let points = if completion.is_some() { COMPLETING } else { ENQUEUING };
    let limit = open.limit;
    let flushed = flush(&mut *open.conn, hand_off, &mut scope, completion);
    let flushed = match limit {
        None => flushed.await,
        Some(limit) => match C::within(limit, flushed).await {
            Some(flushed) => flushed,
            // Nothing more may be said on the connection: an answer is outstanding.
            None => return Err(Waiting::begin("the completion of a task", limit).in_vain("")),
        },
    };
    match flushed {
        Ok(Some(flushed)) => {
            open.commit().await?;
            reach(points.after_commit).map_err(|error| TransactionError::CommitUnknown(error.to_string()))?;
            let for_caller = hand_off.hand_off(flushed.reservation, flushed.leased);
            if stored_pending || flushed.left_pending {
                hand_off.wake();
            }
            Ok(Some(for_caller))
        }
        Ok(None) => {
            open.roll_back_in_time().await;
            Ok(None)
        }
        Err(error) => {
            open.roll_back_in_time().await;
            Err(error)
        }
    }
}

/// What the flush wrote.
struct Flushed {
    reservation: Reservation,
    leased: Vec<ClaimedTask>,
    left_pending: bool,
}

async fn flush<C: TaskConnection>(
    conn: &mut C,
    hand_off: &dyn HandOff,
    scope: &mut EnqueueScope,
    completion: Option<Completion>,
) -> QueryResult<Option<Flushed>> {
    let points = if completion.is_some() { COMPLETING } else { ENQUEUING };
    reach(points.before)?;
    // Proven at the outermost level: a savepoint left open, say by a panic that was caught, would be all that COMMIT ends.
    proof::redeem(conn, scope.base()).await?;
    // Inside a task nobody is the caller: such rows go to the poller.
    let may_run_on_caller = completion.is_none();
    if let Some(Completion { lease, charge }) = completion
        && !complete(conn, lease, charge).await?
    {
        // On PostgreSQL a row is not completed either when the transaction is not ours any more.
        proof::ask(conn).await?;
        return Ok(None);
    }
    for row in scope.take_before_commit() {
        insert_keyed(conn, &row, Lessor::NOBODY).await?;
    }
    let (mut rows, for_caller): (Vec<_>, Vec<_>) =
        scope.take_buffered().into_iter().partition(|row| may_run_on_caller || !row.runs_on_caller());
    // Nothing of ours is written that would ask for the proof.
    if !C::World::WATCHES_TRANSACTIONS && may_run_on_caller && rows.is_empty() && for_caller.is_empty() {
        proof::ask(conn).await?;
    }
    let reservation = hand_off.reserve(&mut rows);
    rows.extend(for_caller);
    let left_pending = rows.iter().any(|row| !row.leased);
    let lessor = Lessor { node: hand_off.node(), lease: hand_off.lease(), guarded: true };
    let leased = insert_buffered(conn, rows, lessor).await?;
    reach(points.after)?;
    Ok(Some(Flushed { reservation, leased, left_pending }))
}

/// Where a test may let the end of a transaction go wrong.
struct Points {
    before: Point,
    after: Point,
    after_commit: Point,
}

const ENQUEUING: Points =
    Points { before: Point::BeforeInsert, after: Point::AfterInsert, after_commit: Point::AfterCommit };
const COMPLETING: Points =
    Points { before: Point::BeforeComplete, after: Point::AfterComplete, after_commit: Point::AfterCompleteCommit };

fn reach(point: Point) -> QueryResult<()> {
    fault::reached(point).map_err(|error| Error::QueryBuilderError(Box::new(error)))
}
