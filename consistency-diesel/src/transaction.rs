//! One transaction, from BEGIN to the hand-off: the only place where rows are flushed and committed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::dispatch::{CallerRun, HandOff};
use consistency_core::enqueue::EnqueueScope;
use consistency_core::error::TaskError;
use consistency_core::pause::Pause;
use consistency_core::store::{LeaseId, TransactionOutcome};
use consistency_core::task::TxParts;
use diesel::connection::{AnsiTransactionManager, TransactionManager, TransactionManagerStatus};
use diesel::result::{Error, QueryResult};
use parking_lot::MutexGuard;

use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::{TransactionError, is_disconnected, is_locked, is_transient, store_error};
use crate::insert::{Lessor, insert_buffered, insert_keyed};
use crate::operations::complete;
use crate::proof;
use crate::task_tx::TaskTx;
use crate::write_gate::WriteGate;

/// Runs `work` in a transaction on the caller's connection, stores what it enqueued, commits, and hands the rows over.
///
/// Returns the value and the rows that are to run on the caller's thread.
pub(crate) fn run<C, T, E>(
    conn: &mut C,
    hand_off: &dyn HandOff,
    opening: Opening<'_>,
    work: impl FnOnce(&mut TaskTx<'_, C>) -> Result<T, E>,
) -> Result<(T, Vec<CallerRun>), E>
where
    C: TaskConnection,
    E: From<Error>,
{
    let (base, _turn) = begin(conn, opening)?;
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), base);
    let worked = catch_unwind(AssertUnwindSafe(|| work(&mut TaskTx { conn: &mut *conn, scope: &mut scope })));
    match worked {
        Ok(Ok(value)) => {
            let for_caller = finish(conn, hand_off, scope, true, |_| Ok(true))?;
            Ok((value, for_caller.unwrap_or_default()))
        }
        Ok(Err(error)) => {
            roll_back(conn, base);
            Err(error)
        }
        Err(panic) => {
            roll_back(conn, base);
            resume_unwind(panic)
        }
    }
}

/// Runs the body of a `#[tx]` task in a transaction that also completes its row.
///
/// `body` does not unwind: the executor has caught its panics.
pub(crate) fn run_task<C: TaskConnection>(
    conn: &mut C,
    lease: LeaseId,
    charge: i64,
    hand_off: &dyn HandOff,
    opening: Opening<'_>,
    body: &mut dyn FnMut(TxParts<'_>) -> Result<(), TaskError>,
) -> TransactionOutcome {
    let (base, _turn) = match begin(conn, opening) {
        Ok(begun) => begun,
        Err(error) => return TransactionOutcome::NotStarted(store_error(error)),
    };
    let mut scope = EnqueueScope::new(Arc::clone(hand_off.rules()), base);
    if let Err(error) = body(TxParts { connection: &mut *conn, scope: &mut scope }) {
        roll_back(conn, base);
        return TransactionOutcome::Failed(error);
    }
    match finish(conn, hand_off, scope, false, |conn| complete(conn, lease, charge)) {
        Ok(Some(_)) => TransactionOutcome::Committed,
        Ok(None) => TransactionOutcome::LeaseLost,
        // Not the task's fault: it costs no attempt. An unknown outcome of COMMIT is no passing fault; its settlement finds
        // out whether the row is done.
        Err(error) if is_transient(&error) => TransactionOutcome::RolledBack(store_error(error)),
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
}

/// BEGIN, and the proof set; returns how many levels were open before, and the turn among SQLite's writers, to be kept until
/// the end. On SQLite with the write lock taken first, waited for up to `busy_wait`: a transaction that starts by reading
/// could not wait for it later.
fn begin<'a, C: TaskConnection>(
    conn: &mut C,
    opening: Opening<'a>,
) -> QueryResult<(usize, Option<MutexGuard<'a, ()>>)> {
    // Looked at before the turn is waited for: who is ahead may wait for the lock of this very connection.
    match conn.healthy_depth() {
        Some(0) => {}
        Some(open) if opening.inside_another => {
            AnsiTransactionManager::begin_transaction(conn)?;
            if C::DIALECT.kind == Kind::Postgres {
                conn.batch_execute("SET LOCAL consistency.proof = 'open'")?;
            }
            proof::set(conn, open as usize).inspect_err(|_| roll_back(conn, open as usize))?;
            return Ok((open as usize, None));
        }
        Some(_) => return Err(TransactionError::AlreadyOpen.into()),
        None => return Err(TransactionError::BrokenConnection.into()),
    }
    let turn = opening.gate.and_then(WriteGate::enter);
    match C::DIALECT.kind {
        Kind::Postgres => {
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN; SET LOCAL consistency.proof = 'open'")?
        }
        Kind::Mysql => {
            AnsiTransactionManager::begin_transaction_sql(conn, "START TRANSACTION; SAVEPOINT consistency_proof_0")?;
        }
        Kind::Sqlite => {
            let deadline = Instant::now() + opening.busy_wait;
            let mut pause = Pause::new(Duration::from_micros(200), Duration::from_millis(20));
            loop {
                match AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE") {
                    Err(error) if is_locked(&error) && Instant::now() < deadline => pause.sleep(),
                    Err(error) => return Err(error),
                    Ok(()) => break,
                }
            }
            proof::set(conn, 0).inspect_err(|_| roll_back(conn, 0))?;
        }
    }
    Ok((0, turn))
}

/// Proof, completion, flush, COMMIT, hand-off. `None` when `complete` found the lease lost; everything is rolled back then,
/// as on every error.
fn finish<C: TaskConnection>(
    conn: &mut C,
    hand_off: &dyn HandOff,
    mut scope: EnqueueScope,
    may_run_on_caller: bool,
    complete: impl FnOnce(&mut C) -> QueryResult<bool>,
) -> QueryResult<Option<Vec<CallerRun>>> {
    let stored_pending = scope.has_stored_pending();
    let (mut rows, base) = (scope.take_buffered(), scope.base());
    // Proven at the outermost level: a savepoint left open, say by a panic that was caught, would be all that COMMIT ends.
    let flushed = proof::redeem(conn, base).and_then(|()| {
        if !complete(conn)? {
            return Ok(None);
        }
        for row in scope.take_before_commit() {
            insert_keyed(conn, &row, Lessor::NOBODY)?;
        }
        let reservation = if may_run_on_caller {
            hand_off.reserve(&mut rows)
        } else {
            // Inside a task nobody is the caller: such rows go to the poller.
            let (mut for_workers, for_caller): (Vec<_>, Vec<_>) = rows.drain(..).partition(|row| !row.runs_on_caller());
            let reservation = hand_off.reserve(&mut for_workers);
            rows = for_workers;
            rows.extend(for_caller);
            reservation
        };
        let left_pending = rows.iter().any(|row| !row.leased);
        let lessor = Lessor { node: hand_off.node(), lease: hand_off.lease(), guarded: true };
        let leased = insert_buffered(conn, rows, lessor)?;
        Ok(Some((reservation, leased, left_pending)))
    });
    let (reservation, leased, left_pending) = match flushed {
        Ok(Some(flushed)) => flushed,
        Ok(None) => {
            roll_back(conn, base);
            return Ok(None);
        }
        Err(error) => {
            roll_back(conn, base);
            return Err(error);
        }
    };
    commit(conn)?;
    let for_caller = hand_off.hand_off(reservation, leased);
    if stored_pending || left_pending {
        hand_off.wake();
    }
    Ok(Some(for_caller))
}

fn commit<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    AnsiTransactionManager::commit_transaction(conn).map_err(|error| {
        // Any other error is the database's refusal, and Diesel has rolled back.
        if is_disconnected(&error) { TransactionError::CommitUnknown(error.to_string()).into() } else { error }
    })
}

/// Ends every level above `base` without a trace. When even that fails the connection is gone, and the database does it.
fn roll_back<C: TaskConnection>(conn: &mut C, base: usize) {
    while matches!(conn.open_depth(), Some(depth) if depth as usize > base) {
        match AnsiTransactionManager::rollback_transaction(conn) {
            Ok(()) => {}
            // SQLite had rolled back by itself: the connection is as good as new, and Diesel may know.
            Err(error) if C::DIALECT.kind == Kind::Sqlite && error.to_string().contains("no transaction is active") => {
                *AnsiTransactionManager::transaction_manager_status_mut(conn) = TransactionManagerStatus::default();
            }
            // A savepoint that went with its transaction: Diesel counts it as left, the levels around it are still to do.
            // At the outermost level Diesel marks the connection as broken instead, which ends this too.
            Err(_) => {}
        }
    }
}
