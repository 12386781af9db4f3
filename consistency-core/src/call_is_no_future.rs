//! Gives `.await` on a call a message that says what to do instead of "`Call` is not a future".

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::call::Call;

/// Stands for the thing somebody awaits in `ship(1).await`; the message below is why it exists.
#[derive(Debug)]
pub struct AwaitedCall<'a>(PhantomData<&'a ()>);

/// Implemented for nothing.
#[diagnostic::on_unimplemented(
    message = "a call runs nothing and cannot be awaited",
    label = "this is only a value: hand it to `tx.enqueue(..)`",
    note = "`tx.enqueue(call)?` stores it inside `outbox.transaction(..)`; to run the function itself, call its body: `the_function::body(..)`"
)]
pub trait Awaitable {}

// The bound is never true. `for<'a>` keeps the compiler from noticing that here, so that it says so at the `.await`.
// `Future` and not `IntoFuture`, whose blanket implementation would compete with this one and hide the message.
#[doc(hidden)]
impl Future for Call
where
    for<'a> AwaitedCall<'a>: Awaitable,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
