//! What a transaction helper runs: an `async` closure whose future has a name, so that it can be asked to be `Send`.
//!
//! `AsyncFnOnce` alone cannot be asked for that (its future's type is not stable yet), and `FnOnce` alone does not tell the
//! compiler the types of the closure's parameters. diesel-async asks for both in the same way.

use std::future::Future;

/// An `async` closure from `A` to `R`. Implemented for all of them.
pub trait Work<A, R>: AsyncFnOnce(A) -> R + FnOnce(A) -> <Self as Work<A, R>>::Running {
    /// Its future.
    type Running: Future<Output = R>;
}

impl<F, A, R, Running> Work<A, R> for F
where
    F: AsyncFnOnce(A) -> R + FnOnce(A) -> Running,
    Running: Future<Output = R>,
{
    type Running = Running;
}
