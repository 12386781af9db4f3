//! Bodies run inside a guard: a panic becomes an ordinary error of the attempt, whatever its payload.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;

use crate::enqueue::EnqueueScope;
use crate::error::TaskError;
use crate::fault::{self, Point};
use crate::task::{Attempt, BoxFuture, TxFuture, TxParts};

/// Runs an `async` body to its end; a panic is an error.
pub async fn caught(body: BoxFuture) -> Result<(), TaskError> {
    AssertUnwindSafe(between_points(body)).catch_unwind().await.unwrap_or_else(|payload| Err(panicked(payload)))
}

/// Runs a blocking body to its end; a panic is an error.
pub fn caught_blocking(body: impl FnOnce() -> Result<(), TaskError>) -> Result<(), TaskError> {
    let body = || {
        reach(Point::BeforeRun)?;
        let outcome = body();
        reach(Point::AfterRun)?;
        outcome
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(payload)))
}

/// Runs a `#[tx]` body to its end; what it enqueued through its context is stored with the transaction.
pub fn caught_transactional(
    run: fn(Attempt, TxParts<'_>) -> Result<(), TaskError>,
    attempt: Attempt,
    parts: TxParts<'_>,
) -> Result<(), TaskError> {
    let TxParts { connection, scope } = parts;
    caught_blocking(|| run(attempt.clone(), TxParts { connection, scope: &mut *scope }))?;
    store_follow_ups(&attempt, scope);
    Ok(())
}

/// Runs an `async` `#[tx]` body to its end; what it enqueued through its context is stored with the transaction.
pub async fn caught_async_transactional(
    run: for<'a> fn(Attempt, TxParts<'a>) -> TxFuture<'a>,
    attempt: Attempt,
    parts: TxParts<'_>,
) -> Result<(), TaskError> {
    let TxParts { connection, scope } = parts;
    // The function itself only boxes a future, but it is the user's crate that does it.
    let body = async { run(attempt.clone(), TxParts { connection, scope: &mut *scope }).await };
    AssertUnwindSafe(between_points(body)).catch_unwind().await.unwrap_or_else(|payload| Err(panicked(payload)))?;
    store_follow_ups(&attempt, scope);
    Ok(())
}

fn store_follow_ups(attempt: &Attempt, scope: &mut EnqueueScope) {
    scope.store_before_commit(attempt.context.take_follow_ups());
}

async fn between_points(body: impl Future<Output = Result<(), TaskError>>) -> Result<(), TaskError> {
    reach(Point::BeforeRun)?;
    let outcome = body.await;
    reach(Point::AfterRun)?;
    outcome
}

fn reach(point: Point) -> Result<(), TaskError> {
    fault::reached(point).map_err(TaskError::new)
}

/// A panic as an error.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> TaskError {
    let text =
        payload.downcast_ref::<&str>().map(ToString::to_string).or_else(|| payload.downcast_ref::<String>().cloned());
    match text {
        Some(text) => TaskError::message(format!("panicked: {text}")),
        None => {
            // Dropping a payload of an unknown type could panic again, outside of any guard.
            std::mem::forget(payload);
            TaskError::message("panicked with a payload that is no text")
        }
    }
}
