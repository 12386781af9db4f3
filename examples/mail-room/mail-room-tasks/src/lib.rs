//! Letters, and the task that delivers them: a library for the producer, which calls it, and the worker, which runs it.

mod letters;
mod postman;

use std::io;

use consistency_diesel::prelude::*;

pub use crate::letters::{Letter, Letters};
pub use crate::postman::Postman;

/// Delivers a letter.
///
/// The postman's round is no part of any transaction: if this process dies after he has delivered and before the table says so,
/// he goes again. The key is the same at every attempt, so the recipient can tell a repetition from a second letter.
#[consistency_task(name = "letter.deliver", retry_every = "1s")]
pub fn deliver(
    letter_id: &str,
    recipient: &str,
    #[inject] postman: &Postman,
    #[context] cx: &TaskContext,
) -> io::Result<()> {
    postman.deliver(letter_id, recipient, cx.idempotency_key())
}
