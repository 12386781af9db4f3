//! One transaction, from BEGIN to the hand-off: the only place where rows are flushed and committed.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use consistency_core::dispatch::{CallerRun, HandOff, Reservation};
use consistency_core::enqueue::EnqueueScope;
use consistency_core::error::{StoreError, TaskError};
use consistency_core::fault::{self, Point};
use consistency_core::store::{ClaimedTask, LeaseId, TransactionOutcome};
use consistency_core::task::{TxBody, TxParts};
use diesel::result::{Error, QueryResult};
use futures_util::FutureExt;

use crate::connection::TaskConnection;
use crate::error::{TransactionError, is_transient, is_unknown, store_error};
use crate::insert::{Lessor, insert_buffered, insert_keyed};
use crate::opened::{Open, begin, within};
pub(crate) use crate::opened::{Opening, send_begin};
use crate::proof;
use crate::settle::complete;
use crate::task_tx::TaskTx;
use crate::waiting::Waiting;
use crate::work::Work;
use crate::world::World;
use crate::write_gate::held_around;

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
    let base = open.base;
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), base);
    open.answers = scope.answers().clone();
    let worked = {
        let mut tx = TaskTx { conn: &mut *open.conn, scope: &mut scope };
        // Inside the guard the closure is also called, not only its future polled.
        let work = AssertUnwindSafe(async { work(&mut tx).await }).catch_unwind();
        held_around(opening.gate.filter(|_| base == 0), work).await
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
    let Opening { limit, gate, .. } = opening;
    let mut open = match within::<C, _>(limit, "the begin of a task's transaction", begin(conn, opening)).await {
        Ok(open) => open,
        Err(error) => return TransactionOutcome::NotStarted(store_error(error)),
    };
    open.limit = limit;
    let base = open.base;
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), base);
    open.answers = scope.answers().clone();
    // A blocking body runs to its end when it is called.
    let work = async { body(TxParts { connection: &mut *open.conn, scope: &mut scope }).await };
    if let Err(error) = held_around(gate.filter(|_| base == 0), work).await {
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

/// A row to complete with its transaction.
struct Completion {
    lease: LeaseId,
    charge: i64,
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
            let undecided = Undecided { hand_off, flushed: Some(flushed) };
            let unknown = |error: Error| TransactionError::CommitUnknown(error.to_string()).into();
            match open.commit().await.and_then(|()| reach(points.after_commit).map_err(unknown)) {
                Ok(()) => Ok(Some(undecided.committed())),
                Err(error) if is_unknown(&error) => Err(error),
                Err(error) => {
                    undecided.refused();
                    Err(error)
                }
            }
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
    /// Whether rows are pending.
    left_pending: bool,
}

/// What the flush wrote, until it is known what became of COMMIT. Where nobody gets to know, because the answer is lost or the
/// caller gives up its future, the runtime finds out whether the rows are there.
struct Undecided<'h> {
    hand_off: &'h dyn HandOff,
    flushed: Option<Flushed>,
}

impl Undecided<'_> {
    /// Hands the rows over; returns those that are to run on the caller's thread.
    fn committed(mut self) -> Vec<CallerRun> {
        let Some(flushed) = self.flushed.take() else { return Vec::new() };
        let for_caller = self.hand_off.hand_off(flushed.reservation, flushed.leased);
        if flushed.left_pending {
            self.hand_off.wake();
        }
        for_caller
    }

    /// Nothing is stored.
    fn refused(mut self) {
        self.flushed = None;
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if let Some(flushed) = self.flushed.take() {
            self.hand_off.perhaps_committed(flushed.reservation, flushed.leased);
            if flushed.left_pending {
                self.hand_off.wake();
            }
        }
    }
}

async fn flush<C: TaskConnection>(
    conn: &mut C,
    hand_off: &dyn HandOff,
    scope: &mut EnqueueScope,
    completion: Option<Completion>,
) -> QueryResult<Option<Flushed>> {
    let points = if completion.is_some() { COMPLETING } else { ENQUEUING };
    reach(points.before)?;
    // Inside a task nobody is the caller: such rows go to the poller.
    let may_run_on_caller = completion.is_none();
    let before_commit = scope.take_before_commit();
    let (mut rows, for_caller): (Vec<_>, Vec<_>) =
        scope.take_buffered().into_iter().partition(|row| may_run_on_caller || !row.runs_on_caller());
    let none_buffered = rows.is_empty() && for_caller.is_empty();
    // Proven at the outermost level: a savepoint left open, say by a panic that was caught, would be all that COMMIT ends.
    let inserts_next = completion.is_none() && before_commit.is_empty() && !none_buffered;
    let guarded = proof::redeem_or_guard(conn, scope.base(), inserts_next).await?;
    if let Some(Completion { lease, charge }) = completion
        && !complete(conn, lease, charge).await?
    {
        // On PostgreSQL a row is not completed either when the transaction is not ours any more.
        proof::ask(conn).await?;
        return Ok(None);
    }
    for row in before_commit {
        insert_keyed(conn, &row, Lessor::NOBODY).await?;
    }
    // Nothing of ours is written that would ask for the proof. A driver that watches sees a transaction that ended, and not that
    // another one was begun after it, without what was stored in the first.
    let asks = !C::World::WATCHES_TRANSACTIONS || scope.has_stored_pending();
    if asks && may_run_on_caller && none_buffered {
        proof::ask(conn).await?;
    }
    let reservation = hand_off.reserve(&mut rows);
    rows.extend(for_caller);
    let left_pending = scope.has_stored_pending() || rows.iter().any(|row| !row.leased);
    let lessor = Lessor { node: hand_off.node(), lease: hand_off.lease(), guarded };
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
