//! The two worlds of connections: what a call that asks the database gives in each.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use consistency_core::task::{Asynchronous, Blocking};

/// One of the two worlds. Sealed.
pub trait World: sealed::Sealed + Sized + 'static {
    /// What a call gives: its result where it blocks, a future of it to `.await` where it does not.
    type Answer<'a, T: Send + 'a>;

    /// Whether the driver itself knows after every answer that a transaction of PostgreSQL has failed or ended, and refuses its
    /// COMMIT; diesel-async's does not look.
    #[doc(hidden)]
    const WATCHES_TRANSACTIONS: bool;

    /// Whether Diesel rolls back what a failed COMMIT has left open; diesel-async does not.
    #[doc(hidden)]
    const ROLLS_BACK_AFTER_COMMIT: bool;

    /// The answer that `future` computes.
    #[doc(hidden)]
    fn answer<'a, T: Send + 'a>(future: impl Future<Output = T> + Send + 'a) -> Self::Answer<'a, T>;
}

impl World for Blocking {
    type Answer<'a, T: Send + 'a> = T;
    const WATCHES_TRANSACTIONS: bool = true;
    const ROLLS_BACK_AFTER_COMMIT: bool = true;

    fn answer<'a, T: Send + 'a>(future: impl Future<Output = T> + Send + 'a) -> T {
        now(future)
    }
}

impl World for Asynchronous {
    type Answer<'a, T: Send + 'a> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
    const WATCHES_TRANSACTIONS: bool = false;
    const ROLLS_BACK_AFTER_COMMIT: bool = false;

    fn answer<'a, T: Send + 'a>(future: impl Future<Output = T> + Send + 'a) -> Self::Answer<'a, T> {
        Box::pin(future)
    }
}

/// The value of a future that never waits, as all futures of blocking connections are.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        // Proof: our futures wait only for what `TaskConnection` gives, and on a blocking connection that is always ready.
        Poll::Pending => unreachable!("a blocking connection had to wait"),
    }
}

mod sealed {
    /// Only the two worlds here.
    pub trait Sealed {}
    impl Sealed for super::Blocking {}
    impl Sealed for super::Asynchronous {}
}
